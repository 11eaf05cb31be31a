//! Reading the nodes of a directory one after the other. A value that cannot be used costs its own
//! field or entry, never the directory; memory is limited by a budget.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Node;
use super::loose::{Loose, otherwise};
use super::node_lists::{Ids, IdsSeed, List, RawXattr, XattrsSeed};
use super::node_rules::{Fault, Loss};
use super::node_values::Entry;
use crate::id::BlobId;
use crate::limits::Budget;

/// Overhead of an allocation, in bytes.
const ALLOCATION: usize = 16;

/// The nodes that were read.
pub(super) struct Reading {
    pub(super) nodes: Vec<Node>,
    pub(super) faults: Vec<Fault>,
    budget: Budget,
    names: Names,
    entries: u64,
}

/// User and group names repeat from node to node; they are shared.
#[derive(Default)]
pub(super) struct Names {
    pub(super) user: Option<Arc<str>>,
    pub(super) group: Option<Arc<str>>,
}

impl Reading {
    /// Of a directory of which `stored` bytes are in the repository.
    pub(super) fn new(stored: usize) -> Self {
        Self {
            nodes: Vec::new(),
            faults: Vec::new(),
            budget: Budget::of_stored(stored),
            names: Names::default(),
            entries: 0,
        }
    }

    fn add<E: serde::de::Error>(&mut self, mut raw: RawNode<'_>) -> Result<(), E> {
        self.entries += 1;
        match Entry::of(&mut raw, &mut self.names) {
            Ok(Entry { node, wrong: None }) => self.keep(node),
            Ok(Entry { node, wrong: Some(message) }) => {
                self.note(raw, message, Loss::Metadata)?;
                self.keep(node)
            }
            Err(unfit) => self.note(raw, unfit.message, unfit.loss),
        }
    }

    fn keep<E: serde::de::Error>(&mut self, node: Node) -> Result<(), E> {
        let xattrs: usize = node.metadata.xattrs.iter().map(|xattr| xattr.value.len() + 64).sum();
        let bytes = size_of::<Node>() + node.name.len() + ALLOCATION + xattrs;
        self.budget.take(bytes).map_err(E::custom)?;
        self.nodes.push(node);
        Ok(())
    }

    fn note<E>(&mut self, raw: RawNode<'_>, message: String, loss: Loss) -> Result<(), E>
    where
        E: serde::de::Error,
    {
        let entry = raw.name.shown().unwrap_or_else(|| format!("entry {}", self.entries));
        let subtree = raw.subtree.as_id();
        let fault = Fault { entry, message, loss, content: raw.content.ids, subtree };
        let content = fault.content.len() * size_of::<BlobId>();
        let text = fault.entry.len() + fault.message.len() + 2 * ALLOCATION;
        self.budget.take(size_of::<Fault>() + content + text).map_err(E::custom)?;
        self.faults.push(fault);
        Ok(())
    }
}

/// A list of nodes, or null.
pub(super) struct NodesSeed<'a>(pub(super) &'a mut Reading);

impl<'de> DeserializeSeed<'de> for NodesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    otherwise!('de, (); nulls);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(raw) = list.next_element_seed(NodeSeed(&mut self.0.budget))? {
            self.0.add(raw)?;
        }
        Ok(())
    }
}

/// A node as it is stored.
#[derive(Debug, Default)]
pub(super) struct RawNode<'a> {
    pub(super) is_object: bool,
    pub(super) name: Loose<'a>,
    pub(super) kind: Loose<'a>,
    pub(super) mode: Loose<'a>,
    pub(super) mtime: Loose<'a>,
    pub(super) atime: Loose<'a>,
    pub(super) ctime: Loose<'a>,
    pub(super) uid: Loose<'a>,
    pub(super) gid: Loose<'a>,
    pub(super) user: Loose<'a>,
    pub(super) group: Loose<'a>,
    pub(super) inode: Loose<'a>,
    pub(super) device_id: Loose<'a>,
    pub(super) size: Loose<'a>,
    pub(super) links: Loose<'a>,
    pub(super) linktarget: Loose<'a>,
    pub(super) linktarget_raw: Loose<'a>,
    pub(super) xattrs: List<RawXattr<'a>>,
    pub(super) device: Loose<'a>,
    pub(super) content: Ids,
    pub(super) subtree: Loose<'a>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Name,
    Type,
    Mode,
    Mtime,
    Atime,
    Ctime,
    Uid,
    Gid,
    User,
    Group,
    Inode,
    DeviceId,
    Size,
    Links,
    Linktarget,
    LinktargetRaw,
    ExtendedAttributes,
    Device,
    Content,
    Subtree,
    #[serde(other)]
    Other,
}

struct NodeSeed<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = RawNode<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawNode<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = RawNode<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }

    otherwise!('de, RawNode::default(); nulls scalars numbers texts lists);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawNode<'de>, A::Error> {
        let mut raw = RawNode { is_object: true, ..RawNode::default() };
        while let Some(field) = map.next_key::<Field>()? {
            let value = match field {
                Field::Name => &mut raw.name,
                Field::Type => &mut raw.kind,
                Field::Mode => &mut raw.mode,
                Field::Mtime => &mut raw.mtime,
                Field::Atime => &mut raw.atime,
                Field::Ctime => &mut raw.ctime,
                Field::Uid => &mut raw.uid,
                Field::Gid => &mut raw.gid,
                Field::User => &mut raw.user,
                Field::Group => &mut raw.group,
                Field::Inode => &mut raw.inode,
                Field::DeviceId => &mut raw.device_id,
                Field::Size => &mut raw.size,
                Field::Links => &mut raw.links,
                Field::Linktarget => &mut raw.linktarget,
                Field::LinktargetRaw => &mut raw.linktarget_raw,
                Field::Device => &mut raw.device,
                Field::Subtree => &mut raw.subtree,
                Field::Content => {
                    raw.content = map.next_value_seed(IdsSeed(&mut *self.0))?;
                    continue;
                }
                Field::ExtendedAttributes => {
                    raw.xattrs = map.next_value_seed(XattrsSeed(&mut *self.0))?;
                    continue;
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *value = map.next_value()?;
        }
        Ok(raw)
    }
}

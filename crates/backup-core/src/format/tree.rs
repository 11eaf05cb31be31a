//! Trees: one JSON object per directory.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::quote::unquote;
use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::source::{Metadata, NodeKind, Xattr};

/// Type and special bits of Go's `fs.FileMode`.
pub(crate) mod go_mode {
    pub(crate) const DIR: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHAR_DEVICE: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name; any bytes but `/` and NUL.
    pub name: Box<[u8]>,
    /// What is known about it.
    pub metadata: Metadata,
    /// The blobs that make up a file, in order.
    pub content: Vec<BlobId>,
    /// The tree of a directory.
    pub subtree: Option<BlobId>,
}

impl Node {
    /// Whether this is a regular file or stream.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.metadata.kind == NodeKind::File
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.metadata.kind == NodeKind::Dir
    }

    /// The reason why it cannot be restored, if its blobs have `content_len` bytes together: its
    /// kind and a lower-case fragment. Checks, verifications, restores and exports agree on it.
    #[must_use]
    pub fn misfit(&self, content_len: u64) -> Option<(&'static str, String)> {
        if !self.has_safe_name() {
            return Some(("entry", "has a name that is invalid in a directory".to_owned()));
        }
        if self.is_dir() && self.subtree.is_none() {
            return Some(("directory", "has no subtree".to_owned()));
        }
        if self.is_file() && content_len != self.metadata.size {
            let message = format!(
                "has a recorded size of {} bytes, but its blobs have {content_len}",
                self.metadata.size
            );
            return Some(("file", message));
        }
        None
    }

    /// Whether a name can be that of a directory entry; names in a repository are not to be
    /// trusted.
    #[must_use]
    pub fn has_safe_name(&self) -> bool {
        !matches!(&*self.name, b"" | b"." | b"..")
            && !self.name.iter().any(|b| matches!(b, b'/' | 0))
    }
}

/// A directory: nodes in ascending order of their names' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// Reads a tree blob.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it cannot be understood.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::decode(&mut serde_json::Deserializer::from_slice(json))
    }

    /// Reads a tree to its end from a reader.
    ///
    /// # Errors
    /// Those of [`Self::from_json`].
    pub(crate) fn from_reader(reader: impl std::io::Read) -> Result<Self> {
        Self::decode(&mut serde_json::Deserializer::from_reader(reader))
    }

    fn decode<'de, R: serde_json::de::Read<'de>>(
        deserializer: &mut serde_json::Deserializer<R>,
    ) -> Result<Self> {
        let mut nodes = Vec::new();
        let failed = |error| Error::damaged("cannot parse the directory").with_source(error);
        TreeSeed(&mut nodes).deserialize(&mut *deserializer).map_err(failed)?;
        deserializer.end().map_err(failed)?;
        if !nodes.is_sorted_by(|a: &Node, b: &Node| a.name < b.name) {
            nodes.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(Self { nodes })
    }

    /// The node called `name`.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.binary_search_by(|node| (*node.name).cmp(name)).ok().map(|at| &self.nodes[at])
    }
}

struct TreeSeed<'a>(&'a mut Vec<Node>);

impl<'de> DeserializeSeed<'de> for TreeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TreeSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "nodes" {
                found = true;
                map.next_value_seed(NodesSeed(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nodes")) }
    }
}

struct NodesSeed<'a>(&'a mut Vec<Node>);

impl<'de> DeserializeSeed<'de> for NodesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for NodesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(raw) = seq.next_element::<RawNode<'de>>()? {
            self.0.push(raw.into_node(&mut names).map_err(serde::de::Error::custom)?);
        }
        Ok(())
    }
}

/// User and group names repeat from node to node; they are shared.
#[derive(Default)]
struct Names {
    user: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

fn shared(last: &mut Option<Arc<str>>, text: Option<Cow<'_, str>>) -> Option<Arc<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    if last.as_deref() != Some(&*text) {
        *last = Some(Arc::from(&*text));
    }
    last.clone()
}

#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    mtime: Option<Timestamp>,
    atime: Option<Timestamp>,
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    group: Option<Cow<'a, str>>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(borrow)]
    linktarget: Option<Cow<'a, str>>,
    #[serde(borrow)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    extended_attributes: Vec<RawXattr<'a>>,
    #[serde(default)]
    device: u64,
    content: Option<Vec<BlobId>>,
    subtree: Option<BlobId>,
}

#[derive(Deserialize)]
struct RawXattr<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

impl RawNode<'_> {
    fn into_node(self, names: &mut Names) -> Result<Node, String> {
        let name =
            unquote(&self.name).ok_or_else(|| format!("{:?} is not a quoted name", self.name))?;
        let kind = self.kind()?;
        let xattrs = self
            .extended_attributes
            .iter()
            .map(|x| {
                let value = BASE64
                    .decode(x.value.as_deref().unwrap_or_default())
                    .map_err(|e| e.to_string())?;
                Ok(Xattr { name: Box::from(&*x.name), value: value.into() })
            })
            .collect::<Result<_, String>>()?;
        let mtime = self.mtime.unwrap_or_default();
        Ok(Node {
            name: name.into(),
            metadata: Metadata {
                kind,
                mode: unix_mode(self.mode),
                mtime,
                atime: self.atime.unwrap_or(mtime),
                ctime: self.ctime.unwrap_or(mtime),
                uid: self.uid,
                gid: self.gid,
                user: shared(&mut names.user, self.user),
                group: shared(&mut names.group, self.group),
                inode: self.inode,
                device_id: self.device_id,
                links: self.links,
                size: self.size,
                xattrs,
            },
            content: self.content.unwrap_or_default(),
            subtree: self.subtree,
        })
    }

    fn kind(&self) -> Result<NodeKind, String> {
        Ok(match &*self.kind {
            "file" => NodeKind::File,
            "dir" => NodeKind::Dir,
            "symlink" => {
                let target = match &self.linktarget_raw {
                    Some(raw) => BASE64.decode(&**raw).map_err(|error| error.to_string())?,
                    None => self.linktarget.as_deref().unwrap_or_default().as_bytes().to_vec(),
                };
                NodeKind::Symlink { target: target.into() }
            }
            "dev" => NodeKind::BlockDevice { device: self.device },
            "chardev" => NodeKind::CharDevice { device: self.device },
            "fifo" => NodeKind::Fifo,
            "socket" => NodeKind::Socket,
            other => return Err(format!("unknown node type {other:?}")),
        })
    }
}

fn unix_mode(go: u32) -> u32 {
    let bit = |from: u32, to: u32| if go & from != 0 { to } else { 0 };
    (go & 0o777)
        | bit(go_mode::SETUID, 0o4000)
        | bit(go_mode::SETGID, 0o2000)
        | bit(go_mode::STICKY, 0o1000)
}

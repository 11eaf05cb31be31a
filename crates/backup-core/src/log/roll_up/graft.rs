//! A tree with some files added or replaced; everything else is taken over by reference.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::Result;
use crate::format::{BlobKind, Node, write_tree};
use crate::id::BlobId;
use crate::repository::{BlobReader, BlobWriter};
use crate::source::{EntryPath, Metadata};

/// What becomes of the entries of a directory, by name.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<Box<[u8]>, Change>);

#[derive(Debug)]
enum Change {
    /// Takes the place of what is there, if anything.
    Put(Box<Node>),
    /// In a directory, which is made if it is not there.
    Below(Changes),
    /// A directory of which nothing stays.
    Anew(Changes),
}

impl Changes {
    /// A file takes this place.
    pub(super) fn put(
        &mut self,
        path: &EntryPath,
        size: u64,
        content: Vec<BlobId>,
        time: Timestamp,
    ) {
        let mut names: Vec<&[u8]> = path.segments().collect();
        let Some(name) = names.pop() else { return };
        let mut at = self;
        for name in names {
            let below = at.0.entry(name.into()).or_insert_with(|| Change::Below(Self::default()));
            if let Change::Put(_) = below {
                *below = Change::Below(Self::default());
            }
            let (Change::Below(next) | Change::Anew(next)) = below else { return };
            at = next;
        }
        let metadata = Metadata { size, ..Metadata::stream(time) };
        at.0.insert(
            name.into(),
            Change::Put(Box::new(Node { name: name.into(), metadata, content, subtree: None })),
        );
    }

    /// Nothing stays of the directory `name` at the root but what is put there.
    pub(super) fn clear(&mut self, name: &str) {
        let changes = match self.0.remove(name.as_bytes()) {
            Some(Change::Below(changes) | Change::Anew(changes)) => changes,
            _ => Self::default(),
        };
        self.0.insert(name.as_bytes().into(), Change::Anew(changes));
    }
}

/// Stores trees.
pub(super) struct Grafter<'a> {
    pub(super) reader: &'a BlobReader,
    pub(super) writer: &'a BlobWriter,
    pub(super) time: Timestamp,
}

impl Grafter<'_> {
    /// The directory `tree` with these changes.
    pub(super) fn graft(
        &self,
        tree: Option<BlobId>,
        changes: Changes,
    ) -> BoxFuture<'_, Result<BlobId>> {
        async move {
            let mut nodes = match tree {
                Some(tree) => self.reader.tree(&tree).await?.sound()?.nodes,
                None => Vec::new(),
            };
            for (name, change) in changes.0 {
                let old =
                    nodes.iter().position(|node| node.name == name).map(|at| nodes.swap_remove(at));
                let node = match change {
                    Change::Put(node) => *node,
                    Change::Below(changes) => {
                        let old = old.filter(Node::is_dir);
                        let subtree =
                            self.graft(old.as_ref().and_then(|old| old.subtree), changes).await?;
                        let metadata =
                            old.map_or_else(|| Metadata::directory(self.time), |old| old.metadata);
                        Node { name, metadata, content: Vec::new(), subtree: Some(subtree) }
                    }
                    Change::Anew(changes) => {
                        let subtree = self.graft(None, changes).await?;
                        let metadata = Metadata::directory(self.time);
                        Node { name, metadata, content: Vec::new(), subtree: Some(subtree) }
                    }
                };
                nodes.push(node);
            }
            let writer = self.writer.clone();
            let store = move || {
                Ok(writer.store(BlobKind::Tree, &write_tree(&mut nodes, &TimeZone::UTC)?)?.id)
            };
            self.reader.repository().repository().cpu().run(store).await
        }
        .boxed()
    }
}

//! All nodes of a snapshot in order, with memory for one path of directories.

use super::blob::BlobReader;
use crate::error::{Error, Result};
use crate::format::{Fault, Node};
use crate::id::BlobId;
use crate::limits;
use crate::source::EntryPath;

/// Walks a tree: directories before their content, names in order of their bytes.
#[derive(Debug)]
pub struct TreeWalk {
    reader: BlobReader,
    stack: Vec<(EntryPath, std::vec::IntoIter<Node>)>,
    enter: Option<(EntryPath, BlobId)>,
    entries: limits::Entries,
    /// Faults that were not taken yet; `None` if the first one is an error.
    faults: Option<Vec<(EntryPath, Fault)>>,
}

impl TreeWalk {
    pub(crate) fn new(reader: BlobReader, tree: BlobId, path: EntryPath) -> Self {
        Self {
            reader,
            stack: Vec::new(),
            enter: Some((path, tree)),
            entries: limits::Entries::default(),
            faults: None,
        }
    }

    /// The same walk for a caller that reports faults itself: they are no errors but returned by
    /// [`Self::take_faults`].
    #[must_use]
    pub fn with_faults(self) -> Self {
        Self { faults: Some(Vec::new()), ..self }
    }

    /// The faults of entries that were met since the last call, each with the entry's path. An
    /// entry that cannot be restored is never returned as a node.
    pub fn take_faults(&mut self) -> Vec<(EntryPath, Fault)> {
        self.faults.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The next node with its path, or `None` at the end. After a directory its content follows,
    /// unless [`Self::skip_content`] is called.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) for a directory that cannot be read
    /// lies too deep, or repeats too many; the next call continues behind the directory. Errors of the sink.
    pub async fn next(&mut self) -> Result<Option<(EntryPath, Node)>> {
        if let Some((path, tree)) = self.enter.take() {
            self.enter(path, tree).await?;
        }
        while let Some((path, nodes)) = self.stack.last_mut() {
            if let Some(node) = nodes.next() {
                let path = path.join(&node.name);
                if let Some(subtree) = node.subtree {
                    self.enter = Some((path.clone(), subtree));
                }
                return Ok(Some((path, node)));
            }
            self.stack.pop();
        }
        Ok(None)
    }

    async fn enter(&mut self, path: EntryPath, tree: BlobId) -> Result<()> {
        if let Some(message) = limits::depth_fault(&path) {
            return Err(Error::damaged(format!("the directory {message}")).context(&path));
        }
        let tree = self.reader.tree(&tree).await.map_err(|error| error.context(&path))?;
        self.entries
            .enter(tree.entries(), || self.reader.repository().directory_bytes())
            .map_err(|message| Error::damaged(format!("the snapshot {message}")).context(&path))?;
        self.reader.settle(&tree).await.map_err(|error| error.context(&path))?;
        let tree = match &mut self.faults {
            None => tree.sound().map_err(|error| error.context(&path))?,
            Some(faults) => {
                let located = |fault: &Fault| (path.join(fault.entry.as_bytes()), fault.clone());
                faults.extend(tree.faults.iter().map(located));
                tree
            }
        };
        self.stack.push((path, tree.nodes.into_iter()));
        Ok(())
    }

    /// Passes over the content of the directory that was returned last.
    pub fn skip_content(&mut self) {
        self.enter = None;
    }
}

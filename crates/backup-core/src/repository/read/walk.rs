//! All nodes of a snapshot in order, with memory for one path of directories.

use super::blob::BlobReader;
use crate::error::Result;
use crate::format::Node;
use crate::id::BlobId;
use crate::source::EntryPath;

/// Walks a tree: directories before their content, names in order of their bytes.
#[derive(Debug)]
pub struct TreeWalk {
    reader: BlobReader,
    stack: Vec<(EntryPath, std::vec::IntoIter<Node>)>,
    enter: Option<(EntryPath, BlobId)>,
}

impl TreeWalk {
    pub(crate) fn new(reader: BlobReader, tree: BlobId, path: EntryPath) -> Self {
        Self { reader, stack: Vec::new(), enter: Some((path, tree)) }
    }

    /// The next node with its path, or `None` at the end. After a directory its content follows,
    /// unless [`Self::skip_content`] is called.
    ///
    /// # Errors
    /// Those of reading a directory; walking goes on behind it if called again.
    pub async fn next(&mut self) -> Result<Option<(EntryPath, Node)>> {
        if let Some((path, tree)) = self.enter.take() {
            let tree = self.reader.tree(&tree).await.map_err(|error| error.context(&path))?;
            self.stack.push((path, tree.nodes.into_iter()));
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

    /// Passes over the content of the directory that was returned last.
    pub fn skip_content(&mut self) {
        self.enter = None;
    }
}

//! Directories that are still growing. A directory becomes a tree blob when it is closed and all
//! its content is stored.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::format::{Node, Tree};
use crate::id::BlobId;
use crate::source::{EntryPath, Metadata};

/// Number of an open directory.
pub(super) type DirId = usize;

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) path: EntryPath,
    parent: Option<DirId>,
    pub(super) metadata: Option<Metadata>,
    pub(super) nodes: Vec<Node>,
    /// Files that are being read and directories that are open in it.
    pending: usize,
    closed: bool,
    /// The same directory in the parent snapshot.
    pub(super) earlier: Option<Tree>,
    pub(super) earlier_id: Option<BlobId>,
}

/// All open directories.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    dirs: Vec<Option<Dir>>,
    free: Vec<DirId>,
    by_path: HashMap<EntryPath, DirId>,
}

impl Assembler {
    pub(super) fn find(&self, path: &EntryPath) -> Option<DirId> {
        self.by_path.get(path).copied()
    }

    pub(super) fn dir(&mut self, id: DirId) -> Result<&mut Dir> {
        self.dirs
            .get_mut(id)
            .and_then(Option::as_mut)
            .ok_or_else(|| Error::internal("a directory was stored too early"))
    }

    /// The node called `name` in the same directory of the parent snapshot.
    pub(super) fn earlier(&self, id: DirId, name: &[u8]) -> Option<&Node> {
        self.dirs.get(id)?.as_ref()?.earlier.as_ref()?.get(name)
    }

    /// Opens a directory below an open one.
    pub(super) fn open(
        &mut self,
        path: EntryPath,
        parent: Option<DirId>,
        earlier: Option<(BlobId, Tree)>,
    ) -> Result<DirId> {
        if let Some(parent) = parent {
            self.dir(parent)?.pending += 1;
        }
        let (earlier_id, earlier) = earlier.unzip();
        let dir = Dir {
            path: path.clone(),
            parent,
            metadata: None,
            nodes: Vec::new(),
            pending: 0,
            closed: false,
            earlier,
            earlier_id,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.dirs[id] = Some(dir);
                id
            }
            None => {
                self.dirs.push(Some(dir));
                self.dirs.len() - 1
            }
        };
        self.by_path.insert(path, id);
        Ok(id)
    }

    /// One more file of this directory is being read.
    pub(super) fn expect(&mut self, id: DirId) -> Result<()> {
        self.dir(id)?.pending += 1;
        Ok(())
    }

    /// A file has been read, or a directory stored; `None` if it is left out.
    pub(super) fn arrived(&mut self, id: DirId, node: Option<Node>) -> Result<()> {
        let dir = self.dir(id)?;
        dir.pending -= 1;
        dir.nodes.extend(node);
        Ok(())
    }

    /// Nothing more comes at or below `path`.
    pub(super) fn close(&mut self, path: &EntryPath) -> Result<()> {
        // Children that nobody closed are rare; they are looked for only if there can be some.
        let Some(id) = self.find(path) else {
            return Ok(());
        };
        let dir = self.dir(id)?;
        dir.closed = true;
        if dir.pending > 0 {
            for dir in self.dirs.iter_mut().flatten().filter(|dir| dir.path.starts_with(path)) {
                dir.closed = true;
            }
        }
        Ok(())
    }

    /// The directories at or below `path` that can be stored now, deepest first.
    pub(super) fn ready_below(&self, path: &EntryPath) -> Vec<DirId> {
        let mut ready: Vec<_> = self
            .dirs
            .iter()
            .enumerate()
            .filter_map(|(id, dir)| dir.as_ref().map(|dir| (id, dir)))
            .filter(|(_, dir)| dir.is_ready() && dir.path.starts_with(path))
            .collect();
        ready.sort_by_key(|(_, dir)| std::cmp::Reverse(dir.path.as_bytes().len()));
        ready.into_iter().map(|(id, _)| id).collect()
    }

    /// Whether this directory can be stored now.
    pub(super) fn is_ready(&self, id: DirId) -> bool {
        self.dirs.get(id).and_then(Option::as_ref).is_some_and(Dir::is_ready)
    }

    /// Whether all but the root are stored, and the root waits for nothing.
    pub(super) fn only_root_is_left(&self) -> bool {
        let mut open = self.dirs.iter().flatten();
        open.next().is_some_and(|root| root.parent.is_none() && root.pending == 0)
            && open.next().is_none()
    }

    /// Takes a directory out to store it, with the directory that contains it.
    pub(super) fn take(&mut self, id: DirId) -> Result<(Dir, Option<DirId>)> {
        let dir = self.dirs.get_mut(id).and_then(Option::take);
        let dir = dir.ok_or_else(|| Error::internal("a directory was stored twice"))?;
        self.by_path.remove(&dir.path);
        self.free.push(id);
        let parent = dir.parent;
        Ok((dir, parent))
    }
}

impl Dir {
    fn is_ready(&self) -> bool {
        // The root waits for `.backup`.
        self.closed && self.pending == 0 && self.parent.is_some()
    }
}

//! The way through the snapshot's directories, depth first: what is created, kept, replaced and
//! removed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::vec::IntoIter;

use backup_core::error::Error;
use backup_core::event::WarningKind;
use backup_core::format::{Fault, Loss, Node, Tree};
use backup_core::id::BlobId;
use backup_core::limits;
use backup_core::source::{EntryPath, IfExists, Metadata, NodeKind, SourceError, SourceResult};
use rustix::fs::{FileType, Mode as Permissions, OFlags, Stat, openat};
use rustix::io::Errno;

use super::absent::Doubt;
use super::file::FileTask;
use super::site::{Existing, Mode, Site, State};
use super::special::{self, HardLink};
use super::target::Mount;
use super::window::{FinishedDir, Window};
use super::{Job, remove, target};
use crate::files::filter::{Cover, Filter};
use crate::files::roots;

/// A directory of the snapshot that the walk is in.
#[derive(Debug)]
struct Frame {
    path: EntryPath,
    /// `None` for the root.
    metadata: Option<Metadata>,
    cover: Cover,
    state: State,
    nodes: IntoIter<Node>,
    /// Names in the snapshot, if others are to be removed.
    names: Vec<Box<[u8]>>,
    /// True if the snapshot has an entry here that cannot be restored: nothing is removed then.
    is_incomplete: bool,
}

/// A file with several names that was met before.
#[derive(Debug)]
struct Primary {
    path: EntryPath,
    content: u64,
    /// How many other names it has that were not met yet.
    left: u64,
}

/// Goes through a snapshot.
#[derive(Debug)]
pub(super) struct Driver<'a> {
    site: Site<'a>,
    filter: Filter,
    /// Whether the snapshot's own description is wanted.
    with_description: bool,
    stack: Vec<Frame>,
    /// How many frames from the bottom are known to be needed.
    made: usize,
    links: HashMap<(u64, u64), Primary>,
    entries: limits::Entries,
    window: Window,
}

impl<'a> Driver<'a> {
    pub(super) fn new(job: &'a Arc<Job>, mode: Mode, fresh: bool) -> Self {
        let selection = &job.request.selection;
        let named = |pattern: &String| pattern.trim_start_matches('/').starts_with(".backup");
        let filter = Filter::new(selection.clone());
        let root = Frame {
            path: EntryPath::root(),
            metadata: None,
            cover: filter.root(&EntryPath::root()),
            state: if fresh { State::Fresh } else { State::Existing },
            nodes: Vec::new().into_iter(),
            names: Vec::new(),
            is_incomplete: false,
        };
        Self {
            site: Site { job, mode },
            with_description: selection.include().iter().any(named),
            filter,
            stack: vec![root],
            made: 1,
            links: HashMap::new(),
            entries: limits::Entries::default(),
            window: Window::default(),
        }
    }

    /// Goes through the whole snapshot.
    pub(super) fn run(mut self) -> SourceResult<()> {
        self.load(&self.site.job.snapshot.root_id())?;
        while let Some(frame) = self.stack.last_mut() {
            match frame.nodes.next() {
                Some(node) => self.node(node)?,
                None => self.leave()?,
            }
        }
        self.flush()
    }

    /// Reads the tree of the innermost directory.
    fn load(&mut self, id: &BlobId) -> Result<(), Error> {
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        if let Some(message) = limits::depth_fault(&frame.path) {
            return Err(Error::damaged(format!("the directory {message}")));
        }
        let tree = self.site.job.tree(id)?;
        let stored = || self.site.job.snapshot.indexed().directory_bytes();
        self.entries
            .enter(tree.entries(), stored)
            .map_err(|message| Error::damaged(format!("the snapshot {message}")))?;
        let Tree { nodes, faults } = tree;
        frame.is_incomplete = faults.iter().any(Fault::is_left_out);
        for fault in faults.iter().filter(|_| self.site.mode != Mode::Check) {
            let path = frame.path.join(fault.entry.as_bytes());
            if self.filter.child(frame.cover, &path) != Cover::Yes {
                continue;
            }
            let Job { damage, tally, .. } = &**self.site.job;
            match fault.loss {
                Loss::Entry => damage.report(tally, &frame.path, &fault.describe(), None),
                Loss::Metadata => {
                    tally.warn(WarningKind::Metadata, path.to_string(), fault.message.clone());
                }
                Loss::Unsupported => {
                    tally.warn(WarningKind::Other, path.to_string(), fault.message.clone());
                }
            }
        }
        if self.site.job.request.if_exists == IfExists::Replace {
            frame.names = nodes.iter().map(|node| node.name.clone()).collect();
        }
        frame.nodes = nodes.into_iter();
        Ok(())
    }

    fn node(&mut self, node: Node) -> SourceResult<()> {
        let Some(frame) = self.stack.last() else {
            return Ok(());
        };
        let path = frame.path.join(&node.name);
        let cover = self.filter.child(frame.cover, &path);
        let description = frame.path.is_root() && roots::is_reserved(&path);
        if cover == Cover::No || (description && !self.with_description) {
            return Ok(());
        }
        self.site.job.check_cancelled()?;
        self.site.job.calls.next_at(&path);
        if node.is_dir() {
            self.enter(path, node, cover)
        } else if cover == Cover::Yes {
            if !self.make()? {
                return Ok(());
            }
            self.leaf(&path, node).or_else(|error| self.survive(&path, error))
        } else {
            Ok(())
        }
    }

    fn enter(&mut self, path: EntryPath, node: Node, cover: Cover) -> SourceResult<()> {
        self.stack.push(Frame {
            path,
            metadata: Some(node.metadata),
            cover,
            state: State::Unknown,
            nodes: Vec::new().into_iter(),
            names: Vec::new(),
            is_incomplete: false,
        });
        if cover == Cover::Yes && self.site.mode == Mode::Check {
            self.make()?;
            if self.stack.last().is_some_and(|frame| frame.state == State::Fresh) {
                // Nothing can stand in the way in a directory that does not exist.
                return self.leave();
            }
        }
        let subtree = node.subtree.ok_or_else(|| Error::damaged("the directory has no tree"));
        // Read before it is made: one that cannot be read leaves no trace.
        match subtree.and_then(|subtree| self.load(&subtree)) {
            Ok(()) if cover == Cover::Yes => self.make().map(drop),
            Ok(()) => Ok(()),
            Err(error) if error.is_damage() => {
                self.give_up(&error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves the innermost directory, which cannot be read: nothing in it is restored or removed.
    fn give_up(&mut self, error: &Error) {
        let Some(frame) = self.stack.pop() else {
            return;
        };
        self.made = self.made.min(self.stack.len());
        if self.site.mode != Mode::Check {
            let Job { damage, tally, .. } = &**self.site.job;
            damage.report(tally, &frame.path, &error.chain(), None);
        }
    }

    /// Notes a failure that concerns only the entry at `path`. Before anything is written, every
    /// failure ends the restore.
    fn survive(&self, path: &EntryPath, error: SourceError) -> SourceResult<()> {
        if self.site.mode == Mode::Check { Err(error) } else { self.site.job.fail(path, error) }
    }

    /// Makes sure that the directories on the way to the current one exist. One that cannot be made
    /// is left with everything in it, and the result is `false`.
    fn make(&mut self) -> SourceResult<bool> {
        while self.made < self.stack.len() {
            let parent = self.stack[self.made - 1].state;
            let (path, keeps) = (self.stack[self.made].path.clone(), !self.is_finished(self.made));
            match self.site.make_dir(&path, parent, keeps) {
                Ok(state) => self.stack[self.made].state = state,
                Err(error) => {
                    self.survive(&path, error)?;
                    self.stack.truncate(self.made);
                    return Ok(false);
                }
            }
            self.made += 1;
        }
        Ok(true)
    }

    fn leaf(&mut self, path: &EntryPath, node: Node) -> SourceResult<()> {
        let fresh = self.stack.last().is_some_and(|frame| frame.state == State::Fresh);
        let found = if fresh { None } else { self.site.look(path)? };
        let found = self.site.admit(path, found)?;
        if self.site.mode == Mode::Check {
            return Ok(());
        }
        if node.metadata.kind == NodeKind::File {
            self.file(path.clone(), node, found)
        } else {
            special::restore(self.site.job, self.site.mode, path, &node.metadata, found.as_ref())
        }
    }

    fn file(&mut self, path: EntryPath, node: Node, mut found: Option<Stat>) -> SourceResult<()> {
        let is_other = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile;
        if let Some(stat) = found.filter(is_other) {
            self.site.unlink(&path, &stat)?;
            found = None;
        }
        let Node { metadata, content, .. } = node;
        if metadata.links > 1
            && metadata.inode != 0
            && let Some(primary) = self.other_name(&path, &metadata, &content)
        {
            self.window.links.push(HardLink { primary, path, metadata });
        } else {
            let found = found.as_ref().map(Existing::of);
            self.window.push(FileTask::new(path, metadata, content, found));
        }
        if self.window.is_full() { self.flush() } else { Ok(()) }
    }

    /// The first name of a file with several names, unless this is it.
    fn other_name(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        content: &[BlobId],
    ) -> Option<EntryPath> {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        match self.links.entry((metadata.device_id, metadata.inode)) {
            Entry::Vacant(entry) => {
                entry.insert(Primary {
                    path: path.clone(),
                    content: hasher.finish(),
                    left: metadata.links - 1,
                });
                None
            }
            // A file that changed between the reading of two of its names has two contents.
            Entry::Occupied(entry) if entry.get().content != hasher.finish() => None,
            Entry::Occupied(mut entry) if entry.get().left > 1 => {
                entry.get_mut().left -= 1;
                Some(entry.get().path.clone())
            }
            Entry::Occupied(entry) => Some(entry.remove().path),
        }
    }

    /// Leaves the innermost directory.
    fn leave(&mut self) -> SourceResult<()> {
        let needed = self.made == self.stack.len();
        if needed {
            self.purge()?;
        }
        let finished = needed && self.is_finished(self.stack.len() - 1);
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        self.made = self.made.min(self.stack.len());
        let counts = needed && (frame.cover == Cover::Yes || frame.state == State::Fresh);
        if let Some(metadata) = frame.metadata.filter(|_| counts && self.site.mode != Mode::Check) {
            let quiet = self.site.job.is_above(&frame.path);
            self.window.dirs.push(FinishedDir {
                path: frame.path,
                metadata,
                apply: finished,
                quiet,
            });
        }
        if self.window.is_full() { self.flush() } else { Ok(()) }
    }

    /// Whether the directory gets its metadata from the snapshot: if it is new, or was asked for
    /// and may be changed.
    fn is_finished(&self, index: usize) -> bool {
        let frame = &self.stack[index];
        let asked_for = frame.cover == Cover::Yes && !self.site.job.is_above(&frame.path);
        frame.state == State::Fresh
            || (asked_for && self.site.job.request.if_exists != IfExists::Fail)
    }

    /// Removes entries that the snapshot lacks from the innermost directory, as far as that is
    /// requested, and counts those that stay.
    fn purge(&self) -> SourceResult<()> {
        let Some(frame) = self.stack.last() else {
            return Ok(());
        };
        self.purge_dir(frame).or_else(|error| self.survive(&frame.path, error))
    }

    fn purge_dir(&self, frame: &Frame) -> SourceResult<()> {
        let absence = &self.site.job.absence;
        let inside = self.site.job.roots.iter().any(|root| frame.path.starts_with(root));
        let replacing =
            self.site.job.request.if_exists == IfExists::Replace && self.site.mode != Mode::Check;
        if !replacing || !inside || frame.is_incomplete || frame.state != State::Existing {
            return Ok(());
        }
        self.site.job.calls.next_at(&frame.path);
        let failed = |errno| self.site.job.target.error(errno, "list", &frame.path);
        let dir = self.site.job.target.dir(&frame.path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat(&dir, ".", flags, Permissions::empty()).map_err(failed)?;
        let mut names = target::names(&readable).map_err(failed)?;
        let doubt = absence.doubt_of_content(&frame.path, &names);
        names.retain(|name| frame.names.binary_search_by(|other| (**other).cmp(name)).is_err());
        names.sort_unstable();
        names.retain(|name| self.filter.child(frame.cover, &frame.path.join(name)) == Cover::Yes);
        if !names.is_empty() && self.is_mounted(frame, &dir).map_err(failed)? {
            let (tally, path) = (&self.site.job.tally, frame.path.to_string());
            tally.warn(WarningKind::Other, path, remove::MOUNTED);
            return Ok(());
        }
        for name in names {
            let path = frame.path.join(&name);
            if absence.deletes() {
                self.site.remove(&path, doubt)?;
            } else {
                self.site.job.tally.keep(Doubt::default());
            }
        }
        Ok(())
    }

    /// Returns `true` in another file system than that of the given path: it may have been mounted
    /// after the backup, over the directory that the snapshot holds.
    fn is_mounted(&self, frame: &Frame, dir: &OwnedFd) -> Result<bool, Errno> {
        let roots = self.site.job.roots.iter().filter(|root| frame.path.starts_with(root));
        let Some(root) = roots.max_by_key(|root| root.as_bytes().len()) else { return Ok(false) };
        let root = self.site.job.target.dir(root)?;
        Ok(Mount::of(&root, b"")? != Mount::of(dir, b"")?)
    }

    fn flush(&mut self) -> SourceResult<()> {
        let (window, job) = (std::mem::take(&mut self.window), self.site.job);
        job.calls.wait(|| window.flush(job, self.site.mode))
    }
}

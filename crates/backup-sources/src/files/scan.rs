//! Listing directories: names first, then, batch by batch, what each name stands for.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use backup_core::event::{Warning, WarningKind};
use backup_core::source::{
    Chunking, Content, Entry, EntryPath, Item, NodeKind, SourceError, SourceErrorKind, SourceResult,
};
use rustix::fs::{AtFlags, CWD, OFlags, RawDir, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::ahead::{Slot, Work};
use super::content::FileContent;
use super::filter::{Cover, Filter};
use super::metadata::{XattrReader, from_stat};
use super::options::FilesOptions;
use super::users::Names;
use super::watch::{Calls, Watch};
use super::{roots, sys};

/// Entries looked at in one go. Bounds what a huge directory holds in memory to its names and one
/// batch.
const BATCH: usize = 512;

/// What all scans of one walk share.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) filter: Filter,
    pub(super) options: FilesOptions,
    pub(super) names: Arc<Names>,
    /// Whether only numbers and sizes are of interest, not attributes.
    pub(super) count_only: bool,
    pub(super) watch: Arc<Watch>,
}

/// A directory to be listed.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) path: EntryPath,
    pub(super) cover: Cover,
    /// Device and inode, so that nothing else is listed that has taken its place.
    pub(super) id: (u64, u64),
    /// Device of the given path that the walk came from.
    pub(super) root_device: u64,
}

/// One step of the walk.
#[derive(Debug)]
pub(super) enum Step {
    /// Anything but a directory.
    Item(Item),
    /// A directory, and how to list it unless it stays empty by the user's choice.
    Dir { entry: Entry, cover: Cover, list: Option<Arc<Slot>> },
}

/// A part of a directory.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) steps: Vec<Step>,
    /// How to get the next part.
    pub(super) rest: Option<Arc<Slot>>,
}

/// The sorted names of a directory, of which those before `next` have been looked at.
#[derive(Debug)]
pub(super) struct Listing {
    dir: Dir,
    /// All names, each with a terminating NUL.
    arena: Vec<u8>,
    /// Where each name begins and how long it is, in the order of the names.
    spans: Vec<(usize, u16)>,
    next: usize,
}

impl Listing {
    fn name(&self, index: usize) -> &CStr {
        let (start, length) = self.spans[index];
        CStr::from_bytes_with_nul(&self.arena[start..=start + usize::from(length)])
            .unwrap_or_default()
    }

    fn holds(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| part(&self.arena, *span).cmp(name)).is_ok()
    }
}

fn part(arena: &[u8], (start, length): (usize, u16)) -> &[u8] {
    &arena[start..start + usize::from(length)]
}

/// Lists `dir` and looks at the first names. What cannot be read becomes a warning; an error ends
/// the walk.
pub(super) fn begin(dir: Dir, rules: &Rules) -> SourceResult<Scan> {
    let calls = rules.watch.begin(&dir.path);
    let fd = match open(&dir) {
        Ok(fd) => fd,
        Err(warning) => {
            return Ok(Scan { steps: vec![warn(warning)], rest: None });
        }
    };
    let (listing, failure) = list(dir, &fd, &calls);
    let marked =
        rules.options.exclude_if_present.iter().any(|marker| listing.holds(marker.as_bytes()));
    if marked {
        return Ok(Scan::default());
    }
    let failure =
        failure.map(|errno| sys::read_warning(errno, "list the directory", &listing.dir.path));
    let mut scan = look(listing, &fd, rules, &calls)?;
    scan.steps.extend(failure.map(warn));
    Ok(scan)
}

/// Looks at the next names of a directory that was listed before.
pub(super) fn resume(listing: Listing, rules: &Rules) -> SourceResult<Scan> {
    let calls = rules.watch.begin(&listing.dir.path);
    match open(&listing.dir) {
        Ok(fd) => look(listing, &fd, rules, &calls),
        Err(warning) => Ok(Scan { steps: vec![warn(warning)], rest: None }),
    }
}

fn warn(warning: Warning) -> Step {
    Step::Item(Item::Warning(warning))
}

fn open(dir: &Dir) -> Result<OwnedFd, Warning> {
    let failed = |errno| sys::read_warning(errno, "list the directory", &dir.path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let fd = match sys::open(&dir.path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => sys::open(&dir.path, flags),
        other => other,
    }
    .map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    if (stat.st_dev, stat.st_ino) == dir.id {
        Ok(fd)
    } else {
        Err(sys::vanished(&dir.path, "was replaced while the backup ran"))
    }
}

/// Reads and sorts the names of a directory; also says what ended it early.
fn list(dir: Dir, fd: &OwnedFd, calls: &Calls) -> (Listing, Option<Errno>) {
    let mut listing = Listing { dir, arena: Vec::new(), spans: Vec::new(), next: 0 };
    let mut buffer = Vec::<u8>::with_capacity(32 << 10);
    let buffer: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
    let mut raw = RawDir::new(fd, buffer);
    let mut failure = None;
    while let Some(entry) = raw.next() {
        calls.next();
        match entry {
            Ok(entry) => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    let length = name.count_bytes().try_into().unwrap_or(u16::MAX);
                    listing.spans.push((listing.arena.len(), length));
                    listing.arena.extend_from_slice(name.to_bytes_with_nul());
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => {
                failure = Some(errno);
                break;
            }
        }
    }
    let Listing { arena, spans, .. } = &mut listing;
    spans.sort_unstable_by(|a, b| part(arena, *a).cmp(part(arena, *b)));
    (listing, failure)
}

thread_local! {
    /// Keeps its buffers over all scans of a thread.
    static XATTRS: RefCell<XattrReader> = RefCell::default();
}

fn look(mut listing: Listing, fd: &OwnedFd, rules: &Rules, calls: &Calls) -> SourceResult<Scan> {
    let until = listing.spans.len().min(listing.next + BATCH);
    let mut steps = Vec::with_capacity(until - listing.next);
    XATTRS.with_borrow_mut(|xattrs| {
        let mut look = Look { dir: &listing.dir, fd, rules, calls, xattrs, steps: &mut steps };
        (listing.next..until).try_for_each(|index| look.at(listing.name(index)))
    })?;
    listing.next = until;
    let rest = (until < listing.spans.len()).then(|| Arc::new(Slot::new(Work::Resume(listing))));
    Ok(Scan { steps, rest })
}

/// The steps for the given path `path`, which is not the root. Unlike everything below, it must
/// exist.
pub(super) fn given(path: &EntryPath, rules: &Rules) -> SourceResult<Vec<Step>> {
    let calls = rules.watch.begin(path);
    let failed = |errno| given_error(errno, path);
    let fd = sys::open_parent(path).map_err(failed)?;
    let name = CString::new(path.name()).unwrap_or_default();
    let stat = statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let cover = rules.filter.root(path);
    let parent = path.parent().unwrap_or_else(EntryPath::root);
    let dir = Dir { path: parent, cover, id: (0, 0), root_device: stat.st_dev };
    let mut steps = Vec::new();
    XATTRS.with_borrow_mut(|xattrs| {
        let mut look = Look { dir: &dir, fd: &fd, rules, calls: &calls, xattrs, steps: &mut steps };
        if !look.left_out(&stat, cover) {
            look.entry(&name, path.clone(), &stat, cover);
        }
    });
    Ok(steps)
}

/// The entry of a directory above a given path. A link in its place is followed, and attributes
/// that may not be read are ignored, both as restic does: the directory itself was not asked for.
pub(super) fn above(path: &EntryPath, rules: &Rules) -> SourceResult<Entry> {
    let _calls = rules.watch.begin(path);
    let failed = |errno| given_error(errno, path);
    let fd = sys::open_parent(path).map_err(failed)?;
    let name = CString::new(path.name()).unwrap_or_default();
    let stat = statat(&fd, &name, AtFlags::empty()).map_err(failed)?;
    let known = from_stat(&stat, &rules.names).filter(|metadata| metadata.kind == NodeKind::Dir);
    let mut metadata = known.ok_or_else(|| failed(Errno::NOTDIR))?;
    metadata.xattrs = XATTRS.with_borrow_mut(|xattrs| xattrs.at(path, &fd, &name).0);
    Ok(Entry {
        path: path.clone(),
        metadata,
        content: Content::Empty,
        chunking: Chunking::ContentDefined,
    })
}

/// The steps for the root of the file system as a given path. It has no entry of its own in a
/// snapshot.
pub(super) fn root(rules: &Rules) -> SourceResult<Scan> {
    let path = EntryPath::root();
    let stat = statat(CWD, "/", AtFlags::empty()).map_err(|errno| given_error(errno, &path))?;
    let cover = rules.filter.root(&path);
    begin(Dir { path, cover, id: (stat.st_dev, stat.st_ino), root_device: stat.st_dev }, rules)
}

/// The error of a given path, or a directory above one, that cannot be looked at.
pub(super) fn given_error(errno: Errno, path: &EntryPath) -> SourceError {
    let error = sys::read_error(errno, "back up", path);
    match error.kind() {
        SourceErrorKind::NotFound => {
            error.with_hint("correct the path, or remove it from the source's paths")
        }
        SourceErrorKind::PermissionDenied => {
            error.with_hint("run as a user who may read this path")
        }
        _ => error,
    }
}

/// Looking at the names of one directory.
struct Look<'a> {
    dir: &'a Dir,
    fd: &'a OwnedFd,
    rules: &'a Rules,
    calls: &'a Calls,
    xattrs: &'a mut XattrReader,
    steps: &'a mut Vec<Step>,
}

impl Look<'_> {
    fn at(&mut self, name: &CStr) -> SourceResult<()> {
        let path = self.dir.path.join(name.to_bytes());
        let cover = self.rules.filter.child(self.dir.cover, &path);
        if cover == Cover::No {
            return Ok(());
        }
        if self.dir.path.is_root() && roots::is_reserved(&path) {
            return Err(roots::reserved_error(&path));
        }
        self.calls.next_at(&path);
        let stat = match statat(self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => {
                self.steps.push(warn(sys::read_warning(errno, "stat the entry", &path)));
                return Ok(());
            }
        };
        if !self.left_out(&stat, cover) {
            self.entry(name, path, &stat, cover);
        }
        Ok(())
    }

    /// Whether the user's choice leaves out what `stat` describes.
    fn left_out(&self, stat: &Stat, cover: Cover) -> bool {
        let size = stat.st_size.max(0) as u64;
        match stat.st_mode & 0o170_000 {
            0o040_000 => false,
            0o100_000 if self.rules.options.max_file_size.is_some_and(|max| size > max) => true,
            _ => cover == Cover::Below,
        }
    }

    fn entry(&mut self, name: &CStr, path: EntryPath, stat: &Stat, cover: Cover) {
        // Names of users may come from a server.
        let metadata = self.calls.wait(|| from_stat(stat, &self.rules.names));
        let Some(mut metadata) = metadata else {
            let message = "is of a type that cannot be backed up".to_owned();
            self.steps.push(warn(sys::warning(WarningKind::Unreadable, &path, message)));
            return;
        };
        if let NodeKind::Symlink { target } = &mut metadata.kind {
            match readlinkat(self.fd, name, Vec::new()) {
                Ok(text) => *target = text.into_bytes().into(),
                Err(errno) => {
                    self.steps.push(warn(sys::read_warning(
                        errno,
                        "read the symbolic link",
                        &path,
                    )));
                    return;
                }
            }
        }
        let mut trouble = None;
        if !self.rules.count_only {
            (metadata.xattrs, trouble) = self.xattrs.at(&path, self.fd, name);
        }
        let content = match metadata.kind {
            NodeKind::File => {
                let Rules { names, watch, .. } = self.rules;
                let (names, watch) = (Arc::clone(names), Arc::clone(watch));
                Content::Blocking(Box::new(FileContent::new(path.clone(), stat, names, watch)))
            }
            _ => Content::Empty,
        };
        let is_dir = metadata.kind == NodeKind::Dir;
        let entry = Entry { path, metadata, content, chunking: Chunking::ContentDefined };
        if is_dir {
            let list = self.list_of(&entry.path, stat, cover);
            self.steps.push(Step::Dir { entry, cover, list });
        } else {
            self.steps.push(Step::Item(Item::Entry(entry)));
        }
        self.steps.extend(trouble.map(warn));
    }

    fn list_of(&self, path: &EntryPath, stat: &Stat, cover: Cover) -> Option<Arc<Slot>> {
        let root_device = self.dir.root_device;
        if self.rules.options.one_file_system && stat.st_dev != root_device {
            return None;
        }
        let dir = Dir { path: path.clone(), cover, id: (stat.st_dev, stat.st_ino), root_device };
        Some(Arc::new(Slot::new(Work::Begin(dir))))
    }
}

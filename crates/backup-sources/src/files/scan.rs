//! The entries of directories, batch by batch: their metadata, and the choice among them.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use backup_core::event::{Warning, WarningKind};
use backup_core::source::{
    Chunking, Content, Entry, EntryPath, Item, Metadata, NodeKind, SkipCause, SkipRules, Skipped,
    SourceError, SourceErrorKind, SourceResult,
};
use rustix::fs::{AtFlags, CWD, FileType, Stat, readlinkat, statat};
use rustix::io::Errno;

use super::ahead::{Slot, Work};
use super::content::FileContent;
use super::filter::{Cover, Filter};
use super::listing::{Dir, Listing, list, open, open_again};
use super::metadata::{XattrReader, from_stat, is_clamped};
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
    /// True if a given path that cannot be read is an error; otherwise it is a warning, and the others
    /// are walked.
    pub(super) require_roots: bool,
    pub(super) watch: Arc<Watch>,
}

impl Rules {
    /// The rules as snapshots record them.
    pub(super) fn record(&self) -> SkipRules {
        let options = &self.options;
        let mut rules = SkipRules {
            exclude_if_present: options.exclude_if_present.clone(),
            max_file_size: options.max_file_size,
            one_file_system: options.one_file_system,
            ..SkipRules::default()
        };
        self.filter.record(&mut rules);
        rules
    }
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
    /// The metadata of the listed directory, if it took the place of the expected one.
    pub(super) replaced: Option<Metadata>,
}

impl Scan {
    /// The steps for a directory, or the rest of one, that cannot be listed.
    fn failed(warning: Warning, path: &EntryPath) -> Self {
        Self { steps: missing(warning, path).into(), ..Self::default() }
    }
}

/// Lists `dir` and looks at the first names. What cannot be read becomes a warning; an error ends
/// the walk.
pub(super) fn begin(dir: Dir, rules: &Rules) -> SourceResult<Scan> {
    let calls = rules.watch.begin(&dir.path);
    let mut dir = dir;
    let (fd, replaced) = match open_again(&mut dir, rules) {
        Ok(opened) => opened,
        Err(warning) => return Ok(Scan::failed(warning, &dir.path)),
    };
    let path = dir.path.clone();
    if rules.options.one_file_system && dir.id.0 != dir.root_device {
        let steps = vec![skip(path, SkipCause::OtherFileSystem)];
        return Ok(Scan { steps, replaced, rest: None });
    }
    let (listing, failure) = list(dir, &fd, &calls);
    if rules.options.exclude_if_present.iter().any(|marker| listing.is_marked(&fd, marker)) {
        return Ok(Scan { steps: vec![skip(path, SkipCause::Marked)], replaced, rest: None });
    }
    let mut scan = look(listing, &fd, rules, &calls)?;
    if let Some(errno) = failure {
        scan.steps.extend(missing(sys::read_warning(errno, "list the directory", &path), &path));
    }
    scan.replaced = replaced;
    Ok(scan)
}

/// Looks at the next names of a directory that was listed before.
pub(super) fn resume(listing: Listing, rules: &Rules) -> SourceResult<Scan> {
    let calls = rules.watch.begin(&listing.dir.path);
    match open(&listing.dir) {
        Ok(fd) => look(listing, &fd, rules, &calls),
        Err(warning) => Ok(Scan::failed(warning, &listing.dir.path)),
    }
}

/// The steps for the given path `root`, which cannot be read.
pub(super) fn missing_root(error: &SourceError, root: &EntryPath) -> Scan {
    let kind = match error.kind() {
        SourceErrorKind::NotFound => WarningKind::Vanished,
        _ => WarningKind::Unreadable,
    };
    Scan::failed(sys::warning(kind, root, error.chain()), root)
}

fn warn(warning: Warning) -> Step {
    Step::Item(Item::Warning(warning))
}

/// Records that `path`, or a part of that directory, is left out.
fn skip(path: EntryPath, cause: SkipCause) -> Step {
    Step::Item(Item::Skipped(Skipped { path, cause }))
}

/// The same with a warning, for an entry that cannot be read.
fn missing(warning: Warning, path: &EntryPath) -> [Step; 2] {
    let cause = match warning.kind {
        WarningKind::Vanished => SkipCause::Vanished,
        _ => SkipCause::Unreadable,
    };
    [warn(warning), skip(path.clone(), cause)]
}

thread_local! {
    /// Keeps its buffers over all scans of a thread.
    static XATTRS: RefCell<XattrReader> = RefCell::default();
}

fn look(mut listing: Listing, fd: &OwnedFd, rules: &Rules, calls: &Calls) -> SourceResult<Scan> {
    let until = listing.len().min(listing.next + BATCH);
    let mut steps = Vec::with_capacity(until - listing.next);
    XATTRS.with_borrow_mut(|xattrs| {
        let mut look = Look { dir: &listing.dir, fd, rules, calls, xattrs, steps: &mut steps };
        (listing.next..until).try_for_each(|index| look.at(listing.name(index)))
    })?;
    listing.next = until;
    let rest = (until < listing.len()).then(|| Arc::new(Slot::new(Work::Resume(listing))));
    Ok(Scan { steps, rest, replaced: None })
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
        look.chosen(&name, path.clone(), &stat, cover);
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
            if !self.rules.count_only {
                self.steps.push(skip(path, SkipCause::Excluded));
            }
            return Ok(());
        }
        if self.dir.path.is_root() && roots::is_reserved(&path) {
            return Err(roots::reserved_error(&path));
        }
        self.calls.next_at(&path);
        match statat(self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.chosen(name, path, &stat, cover),
            Err(errno) => {
                let warning = sys::read_warning(errno, "stat the entry", &path);
                self.steps.extend(missing(warning, &path));
            }
        }
        Ok(())
    }

    /// The steps for the entry that `stat` describes, unless the user's choice leaves it out.
    fn chosen(&mut self, name: &CStr, path: EntryPath, stat: &Stat, cover: Cover) {
        match self.left_out(stat, cover) {
            Some(cause) => self.steps.push(skip(path, cause)),
            None => self.entry(name, path, stat, cover),
        }
    }

    /// The user's choice that leaves out the entry that `stat` describes.
    fn left_out(&self, stat: &Stat, cover: Cover) -> Option<SkipCause> {
        let size = stat.st_size.max(0) as u64;
        match stat.st_mode & 0o170_000 {
            0o040_000 => None,
            _ if cover == Cover::Below => Some(SkipCause::NotIncluded),
            0o100_000 if self.rules.options.max_file_size.is_some_and(|max| size > max) => {
                Some(SkipCause::TooLarge)
            }
            _ => None,
        }
    }

    fn entry(&mut self, name: &CStr, path: EntryPath, stat: &Stat, cover: Cover) {
        // Names of users may come from a server.
        let metadata = self.calls.wait(|| from_stat(stat, &self.rules.names));
        let Some(mut metadata) = metadata else {
            let message = "is of a type that cannot be backed up".to_owned();
            let warning = sys::warning(WarningKind::Unreadable, &path, message);
            self.steps.extend([warn(warning), skip(path, SkipCause::Unsupported)]);
            return;
        };
        if let NodeKind::Symlink { target } = &mut metadata.kind {
            match readlinkat(self.fd, name, Vec::new()) {
                Ok(text) => *target = text.into_bytes().into(),
                Err(errno) => {
                    // Something else may have taken the place of the link.
                    let now = statat(self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
                    let other = now.ok().filter(|stat| !is_link(stat) && errno == Errno::INVAL);
                    if let Some(stat) = other {
                        return self.chosen(name, path, &stat, cover);
                    }
                    let warning = sys::read_warning(errno, "read the symbolic link", &path);
                    self.steps.extend(missing(warning, &path));
                    return;
                }
            }
        }
        let mut trouble = Vec::new();
        if !self.rules.count_only {
            let (xattrs, warning) = self.xattrs.at(&path, self.fd, name);
            metadata.xattrs = xattrs;
            trouble.extend(warning);
            trouble.extend(is_clamped(&metadata).then(|| clamped_time(&path)));
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
            let foreign = list.is_none().then(|| entry.path.clone());
            self.steps.push(Step::Dir { entry, cover, list });
            self.steps.extend(foreign.map(|path| skip(path, SkipCause::OtherFileSystem)));
        } else {
            self.steps.push(Step::Item(Item::Entry(entry)));
        }
        self.steps.extend(trouble.into_iter().map(warn));
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

/// The warning about a modification time that a snapshot cannot hold.
fn clamped_time(path: &EntryPath) -> Warning {
    let message = "has a modification time outside of the years 0 to 9999; the nearest time is \
                   stored";
    sys::warning(WarningKind::Metadata, path, message.to_owned())
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

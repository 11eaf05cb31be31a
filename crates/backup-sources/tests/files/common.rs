//! What the tests of the files source share.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::event::{Event, Reporter, Warning};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{InitOptions, Repository, SnapshotReader};
use backup_core::source::{
    BackupRequest, Checkpoint, Content, ContentEnd, Delete, Entry, EntryPath, IfExists, Item,
    ObjectDigest, RestoreRequest, Selection, Source, SourceResult,
};
use backup_core::testing::MemorySink;
use backup_sources::files::{FilesOptions, FilesSource, digest_of_dir};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// A selection of include and exclude patterns.
pub(crate) fn selection(include: &[&str], exclude: &[&str]) -> Selection {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Selection::new(owned(include), owned(exclude)).unwrap()
}

/// A source of `paths` with default options.
pub(crate) fn source(paths: &[&Path]) -> FilesSource {
    source_with(paths, FilesOptions::default())
}

/// A source of `paths`.
pub(crate) fn source_with(paths: &[&Path], options: FilesOptions) -> FilesSource {
    FilesSource::new(paths.iter().map(|path| path.to_path_buf()).collect(), options).unwrap()
}

/// The snapshot path of a local path.
pub(crate) fn entry_path(path: &Path) -> EntryPath {
    EntryPath::new(path.as_os_str().as_bytes()).unwrap()
}

/// Everything a backup yields.
pub(crate) async fn items(
    source: &FilesSource,
    selection: Selection,
) -> SourceResult<(Vec<Item>, Checkpoint)> {
    let request = BackupRequest::full(selection);
    let mut reader = source.open_backup(&Context::silent(), &request).await?;
    let mut items = Vec::new();
    while let Some(item) = reader.next().await? {
        items.push(item);
    }
    Ok((items, reader.finish().await?))
}

/// Entries and warnings a backup yields.
pub(crate) async fn walk(source: &FilesSource, selection: Selection) -> (Vec<Entry>, Vec<Warning>) {
    let (mut entries, mut warnings) = (Vec::new(), Vec::new());
    for item in items(source, selection).await.unwrap().0 {
        match item {
            Item::Entry(entry) => entries.push(entry),
            Item::Warning(warning) => warnings.push(warning),
            Item::Close(_) | Item::Keep(_) | Item::Skipped(_) => {}
        }
    }
    (entries, warnings)
}

/// Paths of the entries below `base`, relative to it.
pub(crate) fn below(entries: &[Entry], base: &Path) -> Vec<String> {
    let base = entry_path(base);
    let relative = |entry: &Entry| {
        let rest =
            entry.path.as_bytes().strip_prefix(base.as_bytes())?.strip_prefix(b"/")?.to_vec();
        Some(String::from_utf8_lossy(&rest).into_owned())
    };
    entries.iter().filter_map(relative).collect()
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: impl Into<PathBuf>, content: impl AsRef<[u8]>) -> PathBuf {
    let path = path.into();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// Bytes that look random and do not repeat.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Says that a test, or a part of it, cannot be run here.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn ignored(why: &str) {
    eprintln!("ignored: {why}");
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Reads an entry's content to its end.
pub(crate) fn read(entry: Entry) -> (Vec<u8>, ContentEnd) {
    let Content::Blocking(content) = entry.content else { panic!("{} has no content", entry.path) };
    let mut reader = content.open().unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    (bytes, reader.finish().unwrap())
}

/// A snapshot of `source`, in a repository in memory.
pub(crate) async fn snapshot(source: &dyn Source) -> SnapshotReader {
    let cx = Context::silent();
    let sink = Arc::new(MemorySink::new());
    let passphrase = Passphrase::generate();
    let repository =
        Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await.unwrap();
    backup(&repository, source, &BackupOptions::default(), &cx).await.unwrap();
    let snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    repository.load_index(&cx).await.unwrap().snapshot(snapshots.last().unwrap())
}

/// A restore request for `target` that otherwise asks for nothing special.
pub(crate) fn request(target: impl AsRef<Path>, if_exists: IfExists) -> RestoreRequest {
    let target = target.as_ref().to_str().unwrap().to_owned();
    RestoreRequest { target: Some(target), if_exists, verify: true, ..RestoreRequest::default() }
}

/// A restore request for the place the data came from.
pub(crate) fn in_place(if_exists: IfExists) -> RestoreRequest {
    RestoreRequest { if_exists, verify: true, ..RestoreRequest::default() }
}

/// A restore request that replaces, and removes entries that the backup saw to be absent.
pub(crate) fn deleting(request: RestoreRequest) -> RestoreRequest {
    RestoreRequest { if_exists: IfExists::Replace, delete: Delete::ABSENT, ..request }
}

/// Where `path` is restored to below `target`.
pub(crate) fn restored(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

/// Digest of the tree at `path`.
pub(crate) async fn digest(path: &Path) -> ObjectDigest {
    digest_of_dir(&Context::silent(), path).await.unwrap()
}

/// Sets the modification time.
pub(crate) fn touch(path: impl AsRef<Path>, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A small file system that is mounted while this lives.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one of 1 MiB; `None` where that is not allowed.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).output();
        status.is_ok_and(|output| output.status.success()).then(|| Self(path.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _status = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Remembers what was reported.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Event>>);

impl Reporter for Recorder {
    fn report(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

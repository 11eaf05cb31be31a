//! The files source: directories and files of the local machine.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`FilesSource`]: the source itself, probing, digests of other directories |
//! | `options.rs` | [`FilesOptions`]: what it can be told |
//! | `roots.rs` | the given paths: absolute, clean, merged |
//! | `filter.rs` | which entries are meant: selection and exclude files |
//! | `reader.rs` | the backup reader, fed by the walk |
//! | `walk.rs` | the walk: depth first, in order |
//! | `ahead.rs` | listing directories before their turn comes |
//! | `listing.rs` | the names of one directory |
//! | `scan.rs` | its entries: which are chosen, and their metadata |
//! | `metadata.rs` | from `stat` and attributes to metadata |
//! | `users.rs` | names of users and groups |
//! | `content.rs` | reading files and noticing changes |
//! | `digest.rs` | digests of trees, to compare copies |
//! | `sys.rs` | system calls on long paths, errors |
//! | `watch.rs` | noticing file systems that do not answer |
//! | `restore/` | writing a snapshot to a directory |

mod ahead;
mod content;
mod digest;
mod filter;
mod listing;
mod metadata;
mod options;
mod reader;
mod restore;
mod roots;
mod scan;
mod sys;
mod users;
mod walk;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, EntryPath, Item, LogReader, NodeKind, ObjectDigest, Probe,
    ProbeProblem, RestoreReport, RestoreRequest, SelectedPart, Selection, Source,
    SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity, SourceResult,
};

pub use options::FilesOptions;

use filter::Filter;
use reader::FilesReader;
use scan::Rules;
use users::Names;
use watch::Watch;

/// Longest time that probing counts files.
const COUNTING: Duration = Duration::from_secs(10);

/// Directories and files of the local machine.
///
/// Snapshots hold them at their absolute paths, with every directory above a given path, as restic
/// lays them out, so that stock `restic` can continue from them.
#[derive(Debug, Clone)]
pub struct FilesSource {
    roots: Vec<EntryPath>,
    options: FilesOptions,
    names: Arc<Names>,
}

impl FilesSource {
    /// A source of `paths`. They are made absolute and cleaned without resolving links; paths below
    /// others are merged into those.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if there is no path, or one lies where every snapshot keeps its
    /// own description (`/.backup`).
    #[expect(clippy::needless_pass_by_value, reason = "callers build the list for this call")]
    pub fn new(paths: Vec<PathBuf>, options: FilesOptions) -> SourceResult<Self> {
        Ok(Self { roots: roots::clean(&paths)?, options, names: Arc::default() })
    }

    /// The given paths, clean and merged.
    #[must_use]
    pub fn paths(&self) -> &[EntryPath] {
        &self.roots
    }

    fn watch(&self, cx: &Context) -> Arc<Watch> {
        Watch::new(self.options.timeout, cx.events.clone())
    }

    fn rules(
        &self,
        selection: &Selection,
        count_only: bool,
        watch: &Arc<Watch>,
    ) -> SourceResult<Arc<Rules>> {
        Ok(Arc::new(Rules {
            filter: Filter::with_files(selection.clone(), &self.options.exclude_files)?,
            options: self.options.clone(),
            names: Arc::clone(&self.names),
            count_only,
            require_roots: true,
            watch: Arc::clone(watch),
        }))
    }

    /// Everything that stands in the way of a backup, and, if nothing does, the rules for counting
    /// what there is.
    fn examine(&self, watch: &Arc<Watch>) -> Result<Arc<Rules>, Vec<ProbeProblem>> {
        let look = |root: &EntryPath| {
            let _calls = watch.begin(root);
            problem(root)
        };
        let mut problems: Vec<_> = self.roots.iter().filter_map(look).collect();
        match self.rules(&Selection::all(), true, watch) {
            Ok(rules) if problems.is_empty() => return Ok(rules),
            Ok(_) => {}
            Err(error) => problems.push(ProbeProblem::of_error(&error, "correct the patterns")),
        }
        Err(problems)
    }

    /// Counts the entries at and below `roots`, unless that takes too long.
    async fn count(
        &self,
        cx: &Context,
        rules: Arc<Rules>,
        roots: Vec<EntryPath>,
    ) -> SourceResult<Option<Counts>> {
        let began = Instant::now();
        let watch = Arc::clone(&rules.watch);
        let mut reader = FilesReader::start(cx, rules, roots);
        let mut counts = Counts::default();
        while began.elapsed() < COUNTING {
            let items = watch.limit(reader.receive()).await?;
            if items.is_empty() {
                return Ok(Some(counts));
            }
            for item in items {
                if let Item::Entry(entry) = item {
                    counts.entries += 1;
                    counts.files += u64::from(entry.metadata.kind != NodeKind::Dir);
                    counts.bytes += entry.metadata.size;
                }
            }
        }
        Ok(None)
    }
}

/// Numbers of entries.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// All of them.
    entries: u64,
    /// All but directories.
    files: u64,
    bytes: u64,
}

/// What stands in the way of reading `path`.
fn problem(path: &EntryPath) -> Option<ProbeProblem> {
    let readable = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    match sys::open(path, readable) {
        // A link, a socket or a device without a driver cannot be opened, and need not be.
        Ok(_)
        | Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => None,
        Err(errno) => {
            let remedy = "correct the path, or let this user read it";
            Some(ProbeProblem::of_error(&scan::given_error(errno, path), remedy))
        }
    }
}

/// Digest of the directory tree (or file) at `path`, everything in it included.
///
/// Equal to the digest of the [`FilesSource`] whose given path was restored there, if nothing was
/// excluded. Computing it reads every byte; the order-independent sum covers relative paths,
/// metadata and contents.
///
/// # Errors
/// Those of reading: a digest that leaves something out would be worth nothing.
pub async fn digest_of_dir(cx: &Context, path: &Path) -> SourceResult<ObjectDigest> {
    let options = FilesOptions { exclude_if_present: Vec::new(), ..FilesOptions::default() };
    let source = FilesSource::new(vec![path.to_path_buf()], options)?;
    let digest = source.digest(cx, &Selection::all()).await?;
    let object = digest.objects.into_values().next();
    object.ok_or_else(|| {
        SourceError::new(SourceErrorKind::NotFound, format!("{} does not exist", path.display()))
    })
}

impl fmt::Display for FilesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, root) in self.roots.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{root}")?;
        }
        Ok(())
    }
}

#[async_trait]
impl Source for FilesSource {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn identity(&self) -> SourceIdentity {
        let host = self.options.host.clone();
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: host.clone(),
            host,
            paths: self.roots.iter().map(ToString::to_string).collect(),
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: true, log_capture: false }
    }

    /// The numbers are estimated by looking at everything once, and left out where that takes more
    /// than a few seconds.
    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        let (source, watch) = (self.clone(), self.watch(cx));
        let rules = match watched(watch, move |watch| Ok(source.examine(watch))).await? {
            Ok(rules) => rules,
            Err(problems) => return Ok(Probe { problems, ..Probe::default() }),
        };
        let counts = self.count(cx, rules, self.roots.clone()).await?;
        Ok(Probe {
            estimated_objects: counts.map(|counts| counts.entries),
            estimated_bytes: counts.map(|counts| counts.bytes),
            ..Probe::default()
        })
    }

    /// Counts files, and not directories; none where that takes more than a few seconds.
    async fn selected(
        &self,
        cx: &Context,
        selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        let (source, selection) = (self.clone(), selection.clone());
        let rules =
            watched(self.watch(cx), move |watch| source.rules(&selection, true, watch)).await?;
        let mut parts = Vec::new();
        for root in &self.roots {
            let counts = self.count(cx, Arc::clone(&rules), vec![root.clone()]).await?;
            let objects = counts.map(|counts| counts.files);
            parts.push(SelectedPart { name: root.to_string(), objects, unit: "files" });
        }
        Ok(parts)
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let (source, selection) = (self.clone(), request.selection.clone());
        let rules = watched(self.watch(cx), move |watch| {
            let look = |root: &EntryPath| {
                let _calls = watch.begin(root);
                sys::exists(root).map_err(|errno| scan::given_error(errno, root))
            };
            let mut looked: Vec<_> = source.roots.iter().map(look).collect();
            // The others are backed up.
            if looked.iter().all(Result::is_err) {
                looked.swap_remove(0)?;
            }
            let mut rules = source.rules(&selection, false, watch)?;
            if let Some(rules) = Arc::get_mut(&mut rules) {
                rules.require_roots = source.roots.len() == 1;
            }
            Ok(rules)
        })
        .await?;
        Ok(Box::new(FilesReader::start(cx, rules, self.roots.clone())))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(SourceError::new(
            SourceErrorKind::Unsupported,
            "the source `files` has no log to follow",
        )
        .with_hint("run backups on a schedule instead"))
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        restore::restore(cx, self.options.timeout, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        let (source, selection) = (self.clone(), selection.clone());
        let rules =
            watched(self.watch(cx), move |watch| source.rules(&selection, false, watch)).await?;
        let watch = Arc::clone(&rules.watch);
        watch.limit(digest::digest(cx, rules, &self.roots)).await
    }
}

/// Runs `work` on a thread that may block, and leaves it behind if its calls do not return.
async fn watched<T: Send + 'static>(
    watch: Arc<Watch>,
    work: impl FnOnce(&Arc<Watch>) -> SourceResult<T> + Send + 'static,
) -> SourceResult<T> {
    let shared = Arc::clone(&watch);
    watch.limit(blocking(move || work(&shared))).await
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> SourceResult<T> + Send + 'static,
) -> SourceResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(SourceError::new(SourceErrorKind::Io, "a worker thread ended unexpectedly")
                .with_source(error))
        }
    }
}

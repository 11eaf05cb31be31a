//! Restoring a snapshot to a directory.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`], [`Job`]: what all parts share |
//! | `driver.rs` | the way through the snapshot's directories |
//! | `site.rs` | what is at the target already: kept, replaced, refused |
//! | `window.rs` | files a few thousand at a time: compare, fetch, write, verify, link, finish directories |
//! | `file.rs` | one file: comparing, writing and finishing it |
//! | `file/read_back.rs` | reading it back |
//! | `file/settle.rs` | one that cannot be restored |
//! | `blocks.rs` | the blocks of a file: reading, comparing, writing with holes |
//! | `special.rs` | links, devices, pipes, sockets; hard links |
//! | `metadata.rs` | owner, attributes, mode, times |
//! | `absent.rs` | which entries that the snapshot lacks may be removed |
//! | `remove.rs` | removing them |
//! | `target.rs` | reaching paths of the target without ever leaving it |
//! | `tally.rs` | counts, progress, warnings |
//! | `damage.rs` | what the repository cannot give any more |
//!
//! # What a killed restore leaves
//! New files are created under their final names, readable by their owner only, and get owner, mode
//! and times when their last byte is written; directories get theirs after everything in them. So
//! an unfinished file never looks like the finished one to whoever compares times, and running the
//! restore again with `merge` or `replace` completes it: what exists is compared block by block, by
//! content and never by time, and only what differs is written.
//!
//! # What a failure at the target leaves
//! An entry that cannot be written, or a directory with everything in it, is named and counted, and
//! the restore continues. A full file system ends it: nothing else could be written either.
//!
//! # What damage in the repository leaves
//! Everything that can be read is restored. A file that needs a damaged or lost blob is not there
//! afterwards; if it was there before and was changed in place, it stays, without the snapshot's
//! times. Of a directory that cannot be read nothing is made, and what is there is left alone. Each
//! gets a warning, and the restore fails at its end.

mod absent;
mod blocks;
mod damage;
mod driver;
mod file;
mod metadata;
mod remove;
mod site;
mod special;
mod tally;
mod target;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::Error;
use backup_core::event::Progress;
use backup_core::format::Tree;
use backup_core::id::BlobId;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    EntryPath, IfExists, RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};
use tokio::runtime::Handle;

use absent::Absence;
use damage::Damage;
use driver::Driver;
use site::Mode;
use tally::Tally;
use target::Target;

use super::watch::{Calls, Watch};

/// What all parts of a restore share.
#[derive(Debug)]
struct Job {
    cx: Context,
    request: RestoreRequest,
    snapshot: SnapshotReader,
    runtime: Handle,
    target: Target,
    tally: Tally,
    damage: Damage,
    absence: Absence,
    /// The paths that the snapshot was made of.
    roots: Vec<EntryPath>,
    watch: Arc<Watch>,
    /// Of the thread that goes through the directories.
    calls: Calls,
}

impl Job {
    fn check_cancelled(&self) -> SourceResult<()> {
        Ok(self.cx.check_cancelled()?)
    }

    /// Notes that the entry at `path` could not be restored, so that the restore continues.
    ///
    /// # Errors
    /// The error itself if it concerns more than this entry.
    fn fail(&self, path: &EntryPath, error: SourceError) -> SourceResult<()> {
        let concerns_entry = match error.kind() {
            SourceErrorKind::Target => !is_full(&error),
            SourceErrorKind::TargetExists => self.request.if_exists == IfExists::Replace,
            SourceErrorKind::Mismatch => true,
            _ => false,
        };
        if !concerns_entry {
            return Err(error);
        }
        self.tally.fail(path, self.target.show(path), &error);
        Ok(())
    }

    /// Returns `true` if `path` lies above a path that the snapshot was made of.
    fn is_above(&self, path: &EntryPath) -> bool {
        self.roots.iter().any(|root| root != path && root.starts_with(path))
    }

    fn tree(&self, id: &BlobId) -> Result<Tree, Error> {
        self.calls.wait(|| self.runtime.block_on(self.snapshot.tree_with_faults(id)))
    }
}

/// Writes what `request` selects of `snapshot`.
///
/// Paths are recreated in full below the target, or in place. Owners are restored by number: names
/// may mean other users on another machine. [`IfExists::Replace`] replaces entries that the
/// snapshot holds. Others are removed only with [`RestoreRequest::delete`], and only inside the paths
/// that the snapshot was made of: a snapshot of `/data` says nothing about entries beside `/data`.
/// For the same reason directories above those paths keep their mode and owner if they exist. Links
/// above them are followed in place, as the backup followed them. The snapshot's own description in `/.backup` is left out unless an include
/// pattern names it.
pub(super) async fn restore(
    cx: &Context,
    timeout: Duration,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    let mut cx = cx.clone();
    cx.cancel = cx.cancel.child_token();
    // The work goes on in its own thread: dropping this future must end it too.
    let _ends_work = cx.cancel.clone().drop_guard();
    let (request, snapshot, runtime) = (request.clone(), snapshot.clone(), Handle::current());
    let below = request.target.as_deref().map(std::path::absolute).and_then(Result::ok);
    let below = below.unwrap_or_else(|| PathBuf::from("/"));
    let watch = Watch::of_target(below, timeout, cx.events.clone());
    super::watched(watch, move |watch| run(cx, request, snapshot, runtime, watch)).await
}

fn run(
    cx: Context,
    request: RestoreRequest,
    snapshot: SnapshotReader,
    runtime: Handle,
    watch: &Arc<Watch>,
) -> SourceResult<RestoreReport> {
    let calls = watch.begin(&EntryPath::root());
    let elsewhere = request.target.is_some();
    let (mut target, empty) = Target::open(request.target.as_deref(), request.dry_run)?;
    let roots: Vec<_> = snapshot.paths().iter().filter_map(EntryPath::new).collect();
    if !elsewhere {
        target.follow_links_above(&roots);
    }
    if elsewhere && !empty && request.if_exists == IfExists::Fail {
        let shown = request.target.unwrap_or_default();
        return Err(exists(format!("the target {shown} is not empty")));
    }
    let fresh = elsewhere && empty;
    let tally = Tally::new(cx.events.clone(), expected(&request, &snapshot));
    let absence = calls.wait(|| Absence::load(&request, &snapshot, &runtime, &tally))?;
    let (damage, watch) = (Damage::default(), Arc::clone(watch));
    let job = Arc::new(Job {
        cx,
        request,
        snapshot,
        runtime,
        target,
        tally,
        damage,
        absence,
        roots,
        watch,
        calls,
    });
    // Refuse before anything is written. Replacing refuses single entries.
    if !fresh && !job.request.dry_run && job.request.if_exists != IfExists::Replace {
        Driver::new(&job, Mode::Check, fresh).run()?;
    }
    let mode = if job.request.dry_run { Mode::DryRun } else { Mode::Write };
    Driver::new(&job, mode, fresh).run()?;
    if job.request.verify && mode == Mode::Write {
        // It may take long without being stuck.
        job.calls.wait(|| job.target.sync())?;
    }
    let report = job.tally.finish();
    job.damage.check(job.request.dry_run)?;
    match job.tally.mismatches() {
        0 => Ok(report),
        count => Err(mismatch(count)),
    }
}

/// The error of files that differ from the snapshot after they were written. They are named before.
fn mismatch(count: u64) -> SourceError {
    let (files, differ) = if count == 1 { ("file", "differs") } else { ("files", "differ") };
    let message = format!("{count} {files} {differ} from the snapshot after the restore");
    SourceError::new(SourceErrorKind::Mismatch, message).with_hint(
        "check for other writers at the target and for a faulty disk, then restore again",
    )
}

/// Returns `true` if the file system of the target is full.
fn is_full(error: &SourceError) -> bool {
    let cause = std::error::Error::source(error);
    let code = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Expected numbers, if everything is restored and the snapshot knows them.
fn expected(request: &RestoreRequest, snapshot: &SnapshotReader) -> Progress {
    match &snapshot.snapshot().summary {
        Some(summary) if request.selection.is_all() => {
            Progress { total_bytes: summary.total_bytes_processed, ..Progress::default() }
        }
        _ => Progress::default(),
    }
}

/// The refusal to touch what exists.
fn exists(message: String) -> SourceError {
    SourceError::new(SourceErrorKind::TargetExists, message).with_hint(
        "use --if-exists merge or replace to replace entries that the snapshot holds, and show the \
         plan with --dry-run first",
    )
}

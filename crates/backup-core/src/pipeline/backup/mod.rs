//! Making a snapshot.
//!
//! ```text
//!   BackupReader ──items──▶ run.rs ──unchanged──▶ assembler.rs ──trees──▶ BlobWriter
//!     (items.rs)              │                        ▲
//!                             └──contents──▶ content.rs┘  (worker threads: read, chunk, store)
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`backup`]: the order of things from opening to publishing |
//! | `options.rs` | [`BackupOptions`], [`BackupReport`] |
//! | `parent.rs` | which earlier snapshot to compare with, and what counts as unchanged |
//! | `items.rs` | the source, polled item by item |
//! | `run.rs` | the loop that takes items and results |
//! | `run/dirs.rs` | opening directories, and storing complete ones |
//! | `run/keep.rs` | what is taken over from the parent as it is |
//! | `assembler.rs` | directories that are still growing |
//! | `skipped.rs` | the list of skipped entries |
//! | `content.rs` | reading, chunking and storing contents |
//! | `buffers.rs` | memory of chunks on their way to another thread |
//! | `publish.rs` | the `.backup` directory and the snapshot object |

mod assembler;
mod buffers;
mod content;
mod items;
mod options;
mod parent;
mod publish;
mod run;
mod skipped;

pub use options::{BackupOptions, BackupReport, EntryCounts};

use futures::FutureExt;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Events, Stage, WarningKind};
use crate::id::SnapshotId;
use crate::pipeline::Meter;
use crate::repository::reliance::Reliance;
use crate::repository::session::Session;
use crate::repository::{BlobWriter, ClockDoubt, IndexedRepository, Repository, SnapshotInfo};
use crate::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, NeedsFull, Source, SourceIdentity,
};
use crate::words;
use items::Items;
use parent::Parent;
use publish::Publication;
use run::Run;
use skipped::SkippedList;

/// Backs up `source` into `repository` as one new snapshot.
///
/// # Errors
/// Any failure of source or repository; then no snapshot is published, and what was stored already
/// is reused by the next run. Entries that could not be read are no error but warnings; see
/// [`BackupReport::warnings`]. An error [`NeedsFull`] begins the backup again once, as a full one, with a
/// warning.
pub async fn backup(
    repository: &Repository,
    source: &dyn Source,
    options: &BackupOptions,
    cx: &Context,
) -> Result<BackupReport> {
    if options.dry_run {
        return Box::pin(begun_again(repository, source, options, None, cx)).await;
    }
    repository.prepare_writing(cx).await?;
    let session =
        Session::begin(repository, format!("backup of {}", source.identity().id), cx).await?;
    let running = Box::pin(begun_again(repository, source, options, Some(&session), cx));
    let result = session.explain(running.await);
    session.end().await;
    result
}

/// Runs the backup, and once more if only a full one helps.
async fn begun_again(
    repository: &Repository,
    source: &dyn Source,
    options: &BackupOptions,
    session: Option<&Session>,
    cx: &Context,
) -> Result<BackupReport> {
    match Box::pin(run_backup(repository, source, options, session, cx)).await {
        Err(error) if NeedsFull::caused(&error) => {
            let message = format!("the backup begins again, as a full one: {error}");
            cx.events.warn(WarningKind::Other, "", message);
            let options = BackupOptions { kind: Some(BackupKind::Full), ..options.clone() };
            let again = Box::pin(run_backup(repository, source, &options, session, cx)).await;
            // Of the run: the snapshot lacks nothing, and can be built on.
            again.map(|report| BackupReport { warnings: report.warnings + 1, ..report })
        }
        result => result,
    }
}

async fn run_backup(
    repository: &Repository,
    source: &dyn Source,
    options: &BackupOptions,
    session: Option<&Session>,
    cx: &Context,
) -> Result<BackupReport> {
    let identity = identity(source, options);
    let Before { kind, parent, earlier, previous, doubt } =
        Box::pin(before(repository, &identity, options, cx)).await?;
    let (indexed, lost_packs) = load_index(repository, cx).await?;
    cx.check_cancelled()?;

    let started = cx.clock.now();
    // Source and workers are cancelled with the caller, and also when anything else of the run
    // fails.
    let source_cx = Context { cancel: cx.cancel.child_token(), ..cx.clone() };
    let selection = options.selection.fresh();
    let earlier = earlier.map(|info| indexed.snapshot(&info));
    let request = BackupRequest { kind, selection: selection.clone(), parent: earlier };
    let reader = source.open_backup(&source_cx, &request).await?;
    let writer = BlobWriter::new(&indexed, &options.write, options.dry_run);
    let meter = Meter::start(Stage::Backup, &cx.events);
    let ticking = meter.ticking();
    let mut stalled = reader.stalled().fuse();
    let mut run = Run::new(&source_cx, &indexed, writer.clone(), parent, options, meter.clone());
    run.skipped = SkippedList::new(reader.skip_rules().as_ref())?;
    let mut items = Items::new(reader);
    let collected = tokio::select! {
        collected = run.collect(&mut items) => collected,
        stalled = &mut stalled => Err(stalled.into()),
        never = estimate(source, &source_cx, options, &meter) => never,
    };
    let collected = collected.and_then(|()| run.require_matches(&selection));
    if collected.is_err() {
        source_cx.cancel.cancel();
        run.stop(&mut stalled).await;
    }
    let reader =
        items.into_reader().await.ok_or_else(|| Error::internal("the source reader was lost"))?;
    drop(ticking);
    let facts = reader.facts();
    let finished = finish(reader, collected, &meter).await;
    let reliance = session.map(|session| Reliance::new(&indexed, session));
    let kind = facts.kind.unwrap_or(kind);
    let publication = Publication {
        cx,
        repository,
        source: &identity,
        options,
        kind,
        facts,
        started,
        previous,
        lost_packs,
        doubt,
    };
    let result = match finished {
        Ok(checkpoint) => publication.publish(run, &writer, reliance, checkpoint).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(report) => Ok(report),
        Err(error) => Err(writer.give_up(error).await),
    }
}

/// The source as the snapshot records it.
fn identity(source: &dyn Source, options: &BackupOptions) -> SourceIdentity {
    let mut identity = source.identity();
    if let Some(host) = &options.host {
        identity.host.clone_from(host);
    }
    identity
}

/// The state of the repository before a backup.
struct Before {
    /// The type of the backup.
    kind: BackupKind,
    parent: Option<Parent>,
    /// The snapshot of the parent.
    earlier: Option<SnapshotInfo>,
    /// The newest snapshot of the same source.
    previous: Option<SnapshotId>,
    doubt: Option<ClockDoubt>,
}

/// Looks at the snapshots. Completes their receipts.
async fn before(
    repository: &Repository,
    source: &SourceIdentity,
    options: &BackupOptions,
    cx: &Context,
) -> Result<Before> {
    let recent = repository.recent_snapshots(options.reuse_listing, cx).await?;
    let snapshots = &recent.snapshots;
    let (kind, parent) = Parent::choose(snapshots, source, options, cx);
    let is_parent = |info: &&SnapshotInfo| Some(info.id) == parent.map(|parent| parent.id);
    let earlier = snapshots.iter().rev().find(is_parent).cloned();
    // A dump of the past is not behind the newest snapshot.
    let previous = parent::previous(snapshots, source, options)
        .filter(|_| !options.is_import)
        .map(|info| info.id);
    let doubt = if options.dry_run {
        None
    } else {
        repository.complete_recent_receipts(&recent, cx).await?;
        Box::pin(repository.record_present(cx)).await?
    };
    Ok(Before { kind, parent, earlier, previous, doubt })
}

/// Ends the reading of the source, whose items were `collected`.
async fn finish(
    reader: Box<dyn BackupReader>,
    collected: Result<()>,
    meter: &Meter,
) -> Result<Checkpoint> {
    match collected {
        Ok(()) => {
            meter.finish();
            reader.finish().await.map_err(Error::from)
        }
        Err(error) => {
            reader.abort().await;
            Err(error)
        }
    }
}

/// Loads the index and hides lost packs, so that their blobs are stored again. Returns their number
/// too.
async fn load_index(repository: &Repository, cx: &Context) -> Result<(IndexedRepository, u64)> {
    let indexed = repository.load_index(cx).await?;
    let lost = indexed.trust_lasting_packs().await?.lost() as u64;
    if lost > 0 {
        let packs = words::count(lost, "pack is", "packs are");
        cx.events
            .note(format!("{packs} missing or truncated: this backup stores needed data again."));
    }
    Ok((indexed, lost))
}

/// Asks the source how much there is, for the progress bar, while the backup runs already. Never
/// ends.
async fn estimate(
    source: &dyn Source,
    cx: &Context,
    options: &BackupOptions,
    meter: &Meter,
) -> Result<()> {
    // The backup reports waits itself.
    let cx = Context { events: Events::silent(), ..cx.clone() };
    if options.estimate
        && let Ok(probe) = source.probe(&cx).await
    {
        meter.expect(probe.estimated_objects.unwrap_or(0), probe.estimated_bytes.unwrap_or(0));
    }
    std::future::pending().await
}

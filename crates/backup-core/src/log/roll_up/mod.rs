//! From slices to ordinary snapshots of type `log`.
//!
//! ```text
//!  slices ─▶ files that grow ─▶ tree = the base's tree + the log ─▶ snapshot; the one before is superseded; old slices go
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`roll_up`]: the order of things |
//! | `plans.rs` | which slices belong to which base |
//! | `extents.rs` | what a snapshot says of the pieces that it holds |
//! | `files.rs` | log files, cut anew |
//! | `graft.rs` | trees with some files added |
//!
//! A log snapshot holds everything that its base holds, and the log since: it restores by itself.
//! The next one of the same base holds all of that and more, and takes its place. So there is one
//! log snapshot for every base, whatever time passes.

mod extents;
mod files;
mod graft;
mod plans;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Stream;
use super::detail::{DETAIL_DIR, Detail};
use super::gather::LogView;
use super::lane::{Lane, StoredSlice};
use super::slice::SliceHeader;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Event, LogEvent};
use crate::format::{
    BlobKind, MANIFEST_SCHEMA, METADATA_DIR, Manifest, RESTORE_NOTE, Snapshot, SnapshotLog,
};
use crate::id::{BlobId, SnapshotId};
use crate::repository::reliance::Reliance;
use crate::repository::session::Session;
use crate::repository::store_clock::StoreClock;
use crate::repository::{
    BlobReader, BlobWriter, IndexedRepository, Lease, LeaseOptions, Repository, WriteSettings,
};
use crate::source::{BackupKind, Checkpoint, EntryPath};
use extents::Extents;
use files::Files;
use graft::{Changes, Grafter};
use plans::{Plan, holds, is_superseded, plans};

/// How to roll up.
#[derive(Debug, Clone)]
pub struct RollUpOptions {
    /// How blobs are stored.
    pub write: WriteSettings,
    /// Program and version, as snapshots name it.
    pub program: String,
    /// Who does it, for people.
    pub holder: String,
    /// Slices stay so long after they were rolled up.
    pub grace: Duration,
}

impl Default for RollUpOptions {
    /// A grace of one hour.
    fn default() -> Self {
        Self {
            write: WriteSettings::default(),
            program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            holder: String::new(),
            grace: Duration::from_secs(3600),
        }
    }
}

/// What was rolled up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RollUpReport {
    /// The new snapshots.
    pub snapshots: Vec<SnapshotId>,
    /// Those whose place they take.
    pub superseded: Vec<SnapshotId>,
    /// Slices that they hold besides what those held.
    pub slices: u64,
    /// Bytes of the log in them.
    pub bytes: u64,
    /// Slices that were removed.
    pub removed: u64,
}

/// Makes snapshots of what the lane holds, and removes slices that were rolled up some time ago.
/// Beside a capturer that goes on; what it stores meanwhile is left for the next time.
///
/// # Errors
/// [`ErrorKind::Busy`](crate::error::ErrorKind::Busy) if somebody else rolls the same stream up;
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if a slice cannot be read, after all
/// others were rolled up; those of the sink; cancellation. It can be repeated at any point.
pub async fn roll_up(
    repository: &Repository,
    stream: &Stream,
    options: &RollUpOptions,
    cx: &Context,
) -> Result<RollUpReport> {
    repository.prepare_writing(cx).await?;
    let lease = LeaseOptions { holder: options.holder.clone(), ..LeaseOptions::default() };
    let lease = Lease::acquire(repository, &stream.roll_up_lease(), &lease, cx).await?.keep();
    let result = match Session::begin(repository, "roll-up of a log", cx).await {
        Ok(session) => {
            let result = lease.guard(run(repository, stream, options, &session, cx)).await;
            session.end().await;
            result
        }
        Err(error) => Err(error),
    };
    lease.release_after(result).await
}

async fn run(
    repository: &Repository,
    stream: &Stream,
    options: &RollUpOptions,
    session: &Session,
    cx: &Context,
) -> Result<RollUpReport> {
    let lane = Lane::new(repository, stream);
    let view = LogView::load(repository, stream, cx).await?;
    let indexed = repository.load_index(cx).await?;
    indexed.trust_lasting_packs().await?;
    let mut run = Run {
        reader: indexed.reader(),
        reliance: Reliance::new(&indexed, session),
        indexed,
        lane,
        options,
        cx,
        report: RollUpReport::default(),
    };
    for plan in plans(&view) {
        run.apply(&plan).await?;
    }
    run.remove_old(&view).await?;
    match view.damaged().first() {
        Some((name, error)) => Err(Error::damaged(format!(
            "slice {name} is damaged: {}",
            error.chain()
        ))
        .with_hint(
            "run a full backup, which makes the log after the slice usable again; the slice itself \
             stays missing",
        )),
        None => Ok(run.report),
    }
}

struct Run<'a> {
    indexed: IndexedRepository,
    reader: BlobReader,
    reliance: Reliance<'a>,
    lane: Lane,
    options: &'a RollUpOptions,
    cx: &'a Context,
    report: RollUpReport,
}

impl Run<'_> {
    async fn apply(&mut self, plan: &Plan<'_>) -> Result<()> {
        let writer = BlobWriter::new(&self.indexed, &self.options.write, false);
        let built = self.build(plan, &writer).await;
        let (built, _) = writer.close(built).await?;
        let Some(snapshot) = built else { return Ok(()) };
        self.cx.check_cancelled()?;
        let id = self.reliance.publish(&snapshot, self.cx).await?;
        let repository = self.indexed.repository().clone();
        self.report.snapshots.push(id);
        self.cx.events.emit(&Event::Log(LogEvent::RolledUp { id }));
        let earlier: Vec<SnapshotId> = plan.earlier.iter().map(|(info, _)| info.id).collect();
        self.report.superseded.extend(repository.supersede(&earlier, self.cx).await?);
        Ok(())
    }

    /// Stores everything but the snapshot itself; none if all slices are gone.
    async fn build(&mut self, plan: &Plan<'_>, writer: &BlobWriter) -> Result<Option<Snapshot>> {
        let mut files = Files::new(self.indexed.snapshot(plan.on), &self.reader, writer);
        let mut growing = Extents::default();
        for (slice, header) in &plan.slices {
            self.cx.check_cancelled()?;
            let Some(slice) = self.lane.read(slice).await? else { continue };
            let places = files.append(&slice).await?;
            growing.add(header, places);
            self.report.slices += 1;
            self.report.bytes += slice.data.len() as u64;
        }
        let Some(time) = growing.time() else { return Ok(None) };
        let mut changes = Changes::default();
        for (path, size, content) in files.finish().await? {
            changes.put(&path, size, content, time);
        }
        let mut log = plan.log.clone();
        let kept = self.kept_details(plan, &log).await?;
        changes.clear(METADATA_DIR);
        for (path, size, content) in kept {
            changes.put(&path, size, content, time);
        }
        for (mut extent, detail) in growing.pieces {
            let json = encode(&detail)?;
            extent.detail = Detail::file_name(extent.from, &json);
            self.put(&mut changes, writer, &detail_path(&extent.detail)?, json, time).await?;
            log.extents.push(extent);
        }
        let manifest = encode(&self.manifest(plan, &log, time).await?)?;
        for (name, content) in [("manifest.json", manifest), ("RESTORE.md", RESTORE_NOTE.into())] {
            let path = EntryPath::root().join(METADATA_DIR.as_bytes()).join(name.as_bytes());
            self.put(&mut changes, writer, &path, content, time).await?;
        }
        let grafter = Grafter { reader: &self.reader, writer, time };
        let tree = grafter.graft(Some(plan.on.snapshot.tree), changes).await?;
        Ok(Some(snapshot(plan, log, tree, time, self.options)))
    }

    /// What the snapshot before says of its pieces stays as it is.
    async fn kept_details(
        &self,
        plan: &Plan<'_>,
        log: &SnapshotLog,
    ) -> Result<Vec<(EntryPath, u64, Vec<BlobId>)>> {
        let before = self.indexed.snapshot(plan.on);
        let mut kept = Vec::new();
        for extent in &log.extents {
            let path = detail_path(&extent.detail)?;
            let node = before.find(&path).await?;
            let node = node.ok_or_else(|| {
                Error::damaged(format!("{path} is not in snapshot {}", plan.on.id.short()))
            })?;
            kept.push((path, node.metadata.size, node.content));
        }
        Ok(kept)
    }

    async fn put(
        &self,
        changes: &mut Changes,
        writer: &BlobWriter,
        path: &EntryPath,
        content: Vec<u8>,
        time: Timestamp,
    ) -> Result<()> {
        let (writer, size) = (writer.clone(), content.len() as u64);
        let store = move || Ok(writer.store(BlobKind::Data, &content)?.id);
        let id = self.indexed.repository().cpu().run(store).await?;
        changes.put(path, size, vec![id], time);
        Ok(())
    }

    async fn manifest(
        &self,
        plan: &Plan<'_>,
        log: &SnapshotLog,
        time: Timestamp,
    ) -> Result<Manifest> {
        let base = self.indexed.snapshot(plan.on).manifest().await?;
        let base = base.ok_or_else(|| {
            Error::damaged(format!("snapshot {} has no manifest", plan.on.id.short()))
        })?;
        Ok(Manifest {
            schema: MANIFEST_SCHEMA,
            program: self.options.program.clone(),
            created: self.cx.clock.now(),
            kind: BackupKind::Log,
            tier: "log".to_owned(),
            base: Some(plan.on.id),
            // Those are of the base.
            objects: std::collections::BTreeMap::new(),
            counted: false,
            checkpoint: Checkpoint {
                finished: time,
                position: log.extents.last().map(|extent| extent.to.to_string()),
                ..base.checkpoint
            },
            ..base
        })
    }

    /// Removes slices that are in a snapshot and old enough. The last one stays: a capture goes on
    /// from there. By a clock in doubt, none is removed.
    async fn remove_old(&mut self, view: &LogView) -> Result<()> {
        let clock = StoreClock::read(self.indexed.repository(), self.cx).await?;
        let grace = SignedDuration::try_from(self.options.grace).unwrap_or(SignedDuration::MAX);
        let now = LogView::of_snapshots(&self.lane, self.cx).await?;
        let last = view.slices.iter().rev().find(|(_, header)| header.takes_over.is_none());
        let last = last.or(view.slices.last()).map(|(slice, _)| *slice);
        // Where a branch comes from has to be kept even if nothing has happened on it yet.
        let says_nothing =
            |header: &SliceHeader| header.to == header.from && header.parent.is_none();
        let is_rolled_up = |header: &SliceHeader| match header.watermark() {
            Some(mark) => {
                let is_later = |other: &SliceHeader| {
                    let later = other.watermark();
                    later.is_some_and(|later| later.at == mark.at && later.time > mark.time)
                };
                header.gap.is_none() && view.slices().any(is_later)
                    || now.snapshots.iter().any(|(_, log)| is_superseded(log, &mark))
            }
            None => says_nothing(header) || now.snapshots.iter().any(|(_, log)| holds(log, header)),
        };
        // Of the epoch that goes on, the note at its beginning stays as well.
        let newest = view.slices.last().map(|(slice, _)| slice.epoch);
        let old: Vec<StoredSlice> = view
            .slices
            .iter()
            .filter(|(slice, header)| {
                Some(*slice) != last
                    && !(header.takes_over.is_some() && Some(slice.epoch) == newest)
                    && is_rolled_up(header)
                    && clock.age(slice.written, header.captured) >= grace
            })
            .map(|(slice, _)| *slice)
            .collect();
        let repository = self.indexed.repository();
        if !old.is_empty()
            && let Some(doubt) = Box::pin(repository.record_present(self.cx)).await?
        {
            // Ages are not known, and restores may read slices that were just rolled up.
            let text = format!("captured log slices stay: {}", doubt.describe());
            self.cx.events.note(text);
            return Ok(());
        }
        self.lane.remove(&old).await?;
        self.report.removed = old.len() as u64;
        Ok(())
    }
}

fn detail_path(name: &str) -> Result<EntryPath> {
    EntryPath::new(format!("/{METADATA_DIR}/{DETAIL_DIR}/{name}"))
        .ok_or_else(|| Error::damaged(format!("{name:?} is not a valid file name")))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::internal("cannot encode the log description").with_source(error))
}

fn snapshot(
    plan: &Plan<'_>,
    log: SnapshotLog,
    tree: BlobId,
    time: Timestamp,
    options: &RollUpOptions,
) -> Snapshot {
    let on = &plan.on.snapshot;
    let own = |tag: &&String| !tag.starts_with("type=") && !tag.starts_with("tier=");
    let mut tags: Vec<String> = on.tags.iter().filter(own).cloned().collect();
    tags.extend(["type=log".to_owned(), "tier=log".to_owned()]);
    Snapshot {
        time: time.max(on.time),
        parent: Some(plan.on.id),
        tree,
        tags,
        original: None,
        program_version: options.program.clone(),
        x_log: Some(log),
        x_previous: None,
        x_clock_seen: None,
        ..Snapshot::clone(on)
    }
}

//! Copying snapshots into another repository, with the least work: what is there is not read, what
//! has the same master key is not sealed anew, and nothing is ever compressed anew. Every blob is
//! checked against its name on the way.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`copy`]: the order of things; [`CopyOptions`], [`CopyReport`] |
//! | `known.rs` | which snapshots are there already |
//! | `survey.rs` | following a snapshot's trees to the blobs that are missing |
//! | `transfer.rs` | moving those blobs |
//! | `unfit.rs` | entries that are copied as they are, and that no restore restores |
//! | `complete.rs` | [`require_complete`]: to be asked before another copy is given up |
//!
//! A copy can be interrupted at any point: what was stored is found by the next one. Snapshots
//! appear after everything they need is durable and verified.

mod complete;
mod known;
mod survey;
mod transfer;
mod unfit;

use std::collections::{HashMap, HashSet};

pub use complete::require_complete;
use serde::Serialize;

use crate::check::Problem;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Stage};
use crate::format::{Snapshot, seal_json};
use crate::id::{BlobId, SnapshotId};
use crate::pipeline::Meter;
use crate::repository::reliance::Reliance;
use crate::repository::session::Session;
use crate::repository::{
    BlobWriter, IndexedRepository, Repository, SnapshotInfo, SnapshotList, WriteSettings,
    WriteStats, layout,
};
use crate::words;
use known::Known;
use survey::Survey;

/// After so many new bytes the snapshots that are complete are published, so that little is done
/// twice after an interruption.
const PUBLISH_EVERY: u64 = 8 << 30;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// How blobs are stored. The compression stays as it is in the source.
    pub write: WriteSettings,
    /// Only find out what would be copied.
    pub dry_run: bool,
}

/// A snapshot that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CopiedSnapshot {
    /// Its name in the source.
    pub from: SnapshotId,
    /// Its name in the target: the same if both repositories have the same master key. None in a
    /// dry run.
    pub to: Option<SnapshotId>,
}

/// What a copy did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopyReport {
    /// Snapshots that were copied, or would be in a dry run.
    pub copied: Vec<CopiedSnapshot>,
    /// Snapshots that were there already.
    pub present: Vec<CopiedSnapshot>,
    /// Data blobs that were missing in the target.
    pub blobs: u64,
    /// Their bytes as stored in the source.
    pub bytes: u64,
    /// What was stored in the target.
    pub stored: WriteStats,
    /// Snapshots that were not copied because something of them is damaged or lost in the source.
    pub problems: Vec<Problem>,
    /// Entries of copied snapshots that no restore restores: they are copied as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<Problem>,
}

/// Copies snapshots that the target does not have.
///
/// # Errors
/// [`ErrorKind::Invalid`] if both are the same repository; those of both sinks; cancellation.
/// Snapshots that were published before stay. Damage in the source is no error but a [`Problem`] of
/// the report, and the snapshots it affects are left out.
pub async fn copy(
    from: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    to: &Repository,
    options: &CopyOptions,
    cx: &Context,
) -> Result<CopyReport> {
    if from.repository().config().id == to.config().id {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the source and the target are the same repository",
        ));
    }
    if options.dry_run {
        return run_copy(from, snapshots, to, options, None, cx).await;
    }
    to.prepare_writing(cx).await?;
    let reading = Session::begin_reading(from.repository(), "copy from this repository", cx).await;
    let result = match Session::begin(to, "copy to this repository", cx).await {
        Ok(session) => {
            let result =
                session.explain(run_copy(from, snapshots, to, options, Some(&session), cx).await);
            session.end().await;
            result
        }
        Err(error) => Err(error),
    };
    if let Some(reading) = reading {
        reading.end().await;
    }
    result
}

async fn run_copy(
    from: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    to: &Repository,
    options: &CopyOptions,
    session: Option<&Session>,
    cx: &Context,
) -> Result<CopyReport> {
    let there = to.snapshots(cx).await?;
    if !options.dry_run {
        to.complete_receipts(&there.snapshots, cx).await?;
        // Before a copy by a wrong clock becomes the newest snapshot there.
        if let Some(doubt) = Box::pin(to.record_present(cx)).await? {
            cx.events.note(format!("The dates of objects may be wrong: {}.", doubt.describe()));
        }
    }
    let indexed = to.load_index(cx).await?;
    let trusting = is_whole(&indexed, cx).await?;
    let mut run = Run {
        from,
        reliance: session.map(|session| Reliance::new(&indexed, session)),
        to: indexed,
        same_key: from.repository().key().derive("copy") == to.key().derive("copy"),
        known: Known::new(&there.snapshots),
        trusting,
        options,
        cx,
        report: CopyReport::default(),
    };
    let mut todo: Vec<&SnapshotInfo> = snapshots.iter().collect();
    // A stable order: parents of the same time stay before the snapshots built on them.
    todo.sort_by_key(|info| info.time());
    let mut named = HashSet::new();
    todo.retain(|info| named.insert(info.id));
    let meter = Meter::start(Stage::Copy, &cx.events);
    let ticking = meter.ticking();
    run.copy_all(&todo, &meter).await?;
    if !options.dry_run {
        run.vouch_for_present(&todo, &there).await?;
    }
    drop(ticking);
    meter.finish();
    Ok(run.report)
}

/// Whether the target has lost nothing, as far as its own lists tell: only then what it says to
/// have need not be looked through. Packs that no index lists may be the remains of a run that was
/// killed, but also all that is left of an index object that was lost.
async fn is_whole(target: &IndexedRepository, cx: &Context) -> Result<bool> {
    let found = target.trust_lasting_packs().await?;
    if found.lost() > 0 {
        let lost = found.lost();
        cx.events.note(format!(
            "{} missing or truncated; the data is copied again.",
            words::count(lost as u64, "pack of the target is", "packs of the target are")
        ));
    }
    for (id, error) in target.damaged_indexes() {
        cx.events.note(format!(
            "Index {} of the target is damaged ({}).",
            id.short(),
            error.chain()
        ));
    }
    Ok(found.lost() == 0 && target.damaged_indexes().is_empty() && found.unlisted.is_empty())
}

struct Run<'a> {
    from: &'a IndexedRepository,
    to: IndexedRepository,
    /// Nothing is relied upon in a dry run.
    reliance: Option<Reliance<'a>>,
    same_key: bool,
    known: Known,
    /// A target that may have lost something is looked through from the root.
    trusting: bool,
    options: &'a CopyOptions,
    cx: &'a Context,
    report: CopyReport,
}

impl Run<'_> {
    async fn copy_all(&mut self, snapshots: &[&SnapshotInfo], meter: &Meter) -> Result<()> {
        let mut todo = Vec::new();
        let mut present = Vec::new();
        for info in snapshots {
            match self.known.find(info) {
                Some(there) => {
                    self.report.present.push(CopiedSnapshot { from: info.id, to: Some(there) });
                    present.push(*info);
                    // What the target has lost of it is copied again; the snapshot itself is there.
                    if !self.trusting {
                        todo.push((*info, false));
                    }
                }
                None => todo.push((*info, true)),
            }
        }
        let mut survey =
            Survey::new(self.from, self.same_key, self.options.dry_run, meter.clone(), self.cx);
        let mut todo = todo.into_iter().peekable();
        while todo.peek().is_some() {
            let writer = BlobWriter::new(&self.to, &self.options.write, self.options.dry_run);
            let result = self.copy_group(&mut todo, &present, &mut survey, &writer).await;
            if let Err(error) = result {
                return Err(writer.give_up(error).await);
            }
        }
        (self.report.blobs, self.report.bytes) = survey.totals();
        Ok(())
    }

    /// Copies snapshots until enough was stored to be worth publishing, and publishes them.
    async fn copy_group<'s>(
        &mut self,
        todo: &mut impl Iterator<Item = (&'s SnapshotInfo, bool)>,
        present: &[&SnapshotInfo],
        survey: &mut Survey<'_>,
        writer: &BlobWriter,
    ) -> Result<()> {
        let mut complete = Vec::new();
        let before = survey.totals().1;
        for (info, publish) in todo.by_ref() {
            let like = |other: &&&SnapshotInfo| {
                other.snapshot.paths == info.snapshot.paths
                    && other.snapshot.hostname == info.snapshot.hostname
            };
            let counterpart = present.iter().rev().find(like).map(|other| other.snapshot.tree);
            let counterpart = counterpart.filter(|_| self.trusting);
            match survey.copy(info, counterpart, writer).await? {
                None if publish => {
                    self.report.unfit.append(&mut survey.unfit(info).await?);
                    complete.push(info);
                }
                None => {}
                Some(problem) => self.report.problems.push(problem),
            }
            if survey.totals().1 - before >= PUBLISH_EVERY {
                break;
            }
        }
        let stored = writer.clone().finish().await?;
        self.report.stored += stored;
        self.cx.check_cancelled()?;
        if !self.options.dry_run {
            self.learn_of_others().await?;
        }
        let roots: Vec<BlobId> = complete.iter().map(|info| info.snapshot.tree).collect();
        self.secure(&roots).await?;
        let mut published = Vec::new();
        for info in complete {
            // Another copy may have published it meanwhile.
            let there = self.known.find(info);
            let to = match there {
                None if self.options.dry_run => None,
                None => {
                    let id = self.publish(info).await?;
                    published.push(id);
                    Some(id)
                }
                there => there,
            };
            self.report.copied.push(CopiedSnapshot { from: info.id, to });
        }
        match self.secure(&roots).await {
            // What they stand on is gone: nobody shall take them for copies.
            Err(error) if error.kind() == ErrorKind::Busy => {
                for id in &published {
                    self.to.repository().withdraw_snapshot(id).await?;
                }
                Err(error)
            }
            secured => secured,
        }
    }

    /// Vouches for copies of earlier runs that were interrupted, or had no right to adopt.
    async fn vouch_for_present(
        &self,
        snapshots: &[&SnapshotInfo],
        there: &SnapshotList,
    ) -> Result<()> {
        let to = self.to.repository();
        let infos: HashMap<SnapshotId, &SnapshotInfo> =
            snapshots.iter().map(|info| (info.id, *info)).collect();
        let copies: HashMap<SnapshotId, &SnapshotInfo> =
            there.snapshots.iter().map(|info| (info.id, info)).collect();
        for present in &self.report.present {
            let copy = present.to.and_then(|id| copies.get(&id));
            let (Some(info), Some(copy)) = (infos.get(&present.from), copy) else { continue };
            if copy.effective.is_disputed() && info.effective.is_own() {
                to.vouch_for(&copy.id, &copy.snapshot, self.cx).await?;
            }
        }
        Ok(())
    }

    async fn secure(&mut self, roots: &[BlobId]) -> Result<()> {
        match &mut self.reliance {
            Some(reliance) => reliance.secure(roots, self.cx).await,
            None => Ok(()),
        }
    }

    /// Snapshots that somebody else has published in the target since this began.
    async fn learn_of_others(&mut self) -> Result<()> {
        let to = self.to.repository();
        for meta in to.list(&layout::snapshots()).await? {
            let Ok(id) = meta.key.file_name().parse() else {
                continue;
            };
            if self.known.translate(&id).is_none()
                && let Ok(snapshot) = to.load_snapshot(id).await
            {
                self.known.add(id, id, &snapshot);
            }
        }
        Ok(())
    }

    async fn publish(&mut self, info: &SnapshotInfo) -> Result<SnapshotId> {
        let (from, to) = (self.from.repository(), self.to.repository());
        let received = from.received(&info.id).await?.unwrap_or_else(|| self.cx.clock.now());
        let id = if self.same_key {
            let sealed = from.sealed_snapshot(&info.id).await?;
            to.save_sealed_snapshot(sealed, received, self.cx).await?
        } else {
            let copy = Snapshot {
                original: Some(info.snapshot.original.unwrap_or(info.id)),
                parent: info.snapshot.parent.and_then(|parent| self.known.translate(&parent)),
                x_previous: info.snapshot.x_previous.and_then(|id| self.known.translate(&id)),
                ..Snapshot::clone(&info.snapshot)
            };
            to.save_sealed_snapshot(seal_json(to.key(), &copy)?, received, self.cx).await?
        };
        // A copy never makes a time trusted that the source does not trust.
        if info.effective.is_own() {
            to.vouch_for(&id, &info.snapshot, self.cx).await?;
        }
        self.known.add(info.id, id, &info.snapshot);
        self.cx.events.emit(&Event::SnapshotSaved { id });
        Ok(id)
    }
}

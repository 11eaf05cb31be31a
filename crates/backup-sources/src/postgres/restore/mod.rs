//! Restoring a data directory.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: what is done in which order |
//! | `target.rs` | the directory, its tablespaces, owners |
//! | `occupied.rs` | the content of a directory that is in the way |
//! | `dry_run.rs` | the place where the replay would stop |
//! | `files.rs` | blobs on their way to the files that they belong to |
//! | `room.rs` | free space at the target |
//! | `layers.rs` | which file comes from which backup, of a snapshot that builds on others; writing them, reading them back |
//! | `manifest.rs` | comparing with the server's manifest |
//! | `maps.rs` | visibility maps, brought in line with what was put together |
//! | `log.rs` | the captured log, put where the server looks for it |
//! | `moment.rs` | from the moment that is asked for to the record to stop behind |
//! | `collations.rs` | the order of texts on this machine |
//! | `configuration.rs` | the configuration of the original, put in force |
//! | `places.rs` | settings that name places of another machine |
//! | `promote.rs` | ending a pause |
//! | `recovery.rs` | the configuration of the restored server |
//! | `start.rs` | starting it, until it takes writes |
//!
//! # What is promised
//! The restored server always gets an explicit place to stop at, and before that is written every
//! record up to there was read with its checksum. So it never ends silently where something is
//! missing, which a server without a target does.
//!
//! # What a killed restore leaves
//! `global/pg_control` gets its name last, when settings, `recovery.signal` and everything else are
//! on the disk: no server starts on a directory without it. The original's `tablespace_map` never
//! has its real name there, so that nothing is written to where the original's tablespaces are.
//! Restore into another empty directory then.

mod collations;
mod configuration;
mod dry_run;
mod files;
mod layers;
mod log;
mod manifest;
mod maps;
mod moment;
mod occupied;
mod places;
mod promote;
mod recovery;
mod room;
mod start;
mod target;

use std::path::Path;

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    IfExists, RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};

use super::backup::Description;
use super::error::malformed;
use super::layout::{Layout, Segments};
use super::options::PostgresOptions;
pub(super) use layers::{Chain, TOGETHER, chain, combined, is_of_relations, require_names};
pub(super) use maps::Maps;
use moment::Way;
pub use promote::promote;
pub(super) use start::find as find_programs;
use target::Target;
pub(super) use target::label_of_full;

/// What a restored data directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To take the place of the original, or to go on beside it.
    Successor,
    /// To be read for a while by nobody else: nothing of the original's configuration counts, and
    /// everything belongs to this user and group, if they are given.
    Scratch { owner: Option<(u32, u32)> },
}

/// A data directory that is complete.
#[derive(Debug)]
pub(super) struct Restored {
    target: Target,
    /// Bytes of log that the server will replay.
    log: u64,
    /// Its state after that, as a note names it.
    state: String,
}

impl Restored {
    /// Starts the server with the programs in a directory, and waits until it has replayed its log.
    pub(super) async fn start(
        &self,
        cx: &Context,
        options: &PostgresOptions,
        programs: &Path,
    ) -> SourceResult<()> {
        let limit = start::limit(options, self.log);
        if options.pause {
            return start::start_paused(cx, programs, &self.target, limit).await;
        }
        start::start(cx, programs, &self.target, limit).await
    }
}

/// What all parts share.
#[derive(Clone)]
struct Job<'a> {
    cx: &'a Context,
    options: &'a PostgresOptions,
    request: &'a RestoreRequest,
    snapshot: &'a SnapshotReader,
    layout: Layout,
    description: Description,
    segments: Segments,
    purpose: Purpose,
}

/// Writes a snapshot to an empty directory, and what the server needs to get to the moment that is
/// asked for; starts the server, if `options` say so.
pub(super) async fn restore(
    cx: &Context,
    options: &PostgresOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    let programs = match &options.start {
        Some(dirs) => {
            let (_, description) = Description::read(snapshot).await?;
            Some(start::programs(description.version, dirs).await?)
        }
        None => None,
    };
    let (report, restored) =
        restore_for(cx, options, request, snapshot, Purpose::Successor).await?;
    if let (Some(restored), Some(programs)) = (restored, programs) {
        restored.start(cx, options, &programs).await?;
        let running = start::running(&restored.target);
        let state = restored.state;
        cx.events.note(if options.pause {
            format!("the restored server runs in {running} and accepts queries only, {state}")
        } else {
            format!("the restored server runs in {running}, {state}")
        });
    }
    Ok(report)
}

/// Writes a snapshot to an empty directory, and what the server needs to get to the moment that is
/// asked for.
pub(super) async fn restore_for(
    cx: &Context,
    options: &PostgresOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
    purpose: Purpose,
) -> SourceResult<(RestoreReport, Option<Restored>)> {
    if !request.selection.is_all() {
        let error = SourceError::new(
            SourceErrorKind::Unsupported,
            "a data directory is restored as a whole",
        );
        return Err(error.with_hint("name a server as the target (postgres://…) to restore a part"));
    }
    if request.if_exists != IfExists::Fail {
        let error = SourceError::new(
            SourceErrorKind::Unsupported,
            "a data directory is never written over another one",
        );
        return Err(
            error.with_hint("choose a new or an empty directory, and leave --if-exists out")
        );
    }
    let (layout, description) = Description::read(snapshot).await?;
    let segments =
        Segments::of_size(description.wal_segment_size).ok_or_else(|| malformed("cluster.json"))?;
    let job = Job { cx, options, request, snapshot, layout, description, segments, purpose };
    let mut report = RestoreReport::default();
    job.warn_of_damage(&mut report).await?;
    if purpose == Purpose::Successor {
        collations::compare(cx, &job.description, &mut report).await;
    }
    let target = Target::open(&job)?;
    // Scratch servers have a place of their own.
    let checks_room = purpose == Purpose::Successor;
    if checks_room && !request.dry_run {
        room::require(&job, &target, &mut report).await?;
    }
    let maps = layers::write(&job, &target, &mut report).await?;
    if request.dry_run {
        if checks_room {
            room::warn(&job, &target, &mut report)?;
        }
        if let Some(log) = &request.log {
            dry_run::announce(&job, log).await?;
        }
        return Ok((report, None));
    }
    if request.verify {
        layers::verify(&job, &target, &mut report).await?;
    }
    if job.description.increments > 0 {
        maps.mend()?;
        target.no_longer_incremental()?;
    }
    target.link_tablespaces(&job)?;
    let way = Way::of(&job)?;
    if let Some(log) = &request.log {
        report.written_bytes += log::place(&job, &target, log, &way).await?;
    }
    let found = moment::find(&job, &target, &way).await?;
    recovery::configure(&job, &target, &way, &found).await?;
    target.finish(&job)?;
    let state = way.state(found.stop);
    Ok((report, Some(Restored { target, log: way.length(), state })))
}

impl Job<'_> {
    /// Pages that were damaged already when they were read are restored as they were.
    async fn warn_of_damage(&self, report: &mut RestoreReport) -> SourceResult<()> {
        for layer in self.layout.layers(self.description.increments) {
            if self.snapshot.find(&layer.damage()).await?.is_some() {
                report.warnings += 1;
                let text =
                    "pages were damaged when the server was backed up: they are restored unchanged";
                self.cx.events.warn(WarningKind::Other, layer.damage().display(), text);
            }
        }
        Ok(())
    }
}

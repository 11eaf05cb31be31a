//! The end of a backup: the `.backup` directory, everything durable, then the snapshot.

use jiff::Timestamp;

use super::options::{BackupOptions, BackupReport};
use super::run::Run;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::format::{
    BlobKind, MANIFEST_SCHEMA, METADATA_DIR, Manifest, Node, RESTORE_NOTE, SKIPPED_NAME, Snapshot,
    SnapshotLog, SnapshotPart, SnapshotSummary,
};
use crate::id::SnapshotId;
use crate::log::Stream;
use crate::pipeline::{Meter, PROGRESS_INTERVAL};
use crate::repository::reliance::Reliance;
use crate::repository::{BlobWriter, ClockDoubt, Repository, WriteStats};
use crate::source::{BackupKind, Checkpoint, Facts, Metadata, SelectedPatterns, SourceIdentity};

/// What a snapshot is made of, besides its content.
pub(super) struct Publication<'a> {
    pub(super) cx: &'a Context,
    pub(super) repository: &'a Repository,
    pub(super) source: &'a SourceIdentity,
    pub(super) options: &'a BackupOptions,
    pub(super) kind: BackupKind,
    pub(super) facts: Facts,
    pub(super) started: Timestamp,
    /// The newest snapshot of the same source.
    pub(super) previous: Option<SnapshotId>,
    /// Packs that were found missing or truncated.
    pub(super) lost_packs: u64,
    pub(super) doubt: Option<ClockDoubt>,
}

impl Publication<'_> {
    pub(super) async fn publish(
        &self,
        mut run: Run,
        writer: &BlobWriter,
        reliance: Option<Reliance<'_>>,
        checkpoint: Checkpoint,
    ) -> Result<BackupReport> {
        let moment = checkpoint.finished;
        let log =
            checkpoint.log.clone().filter(|_| !self.options.is_part).map(|start| SnapshotLog {
                stream: Stream::of(self.source).name(),
                start,
                time: moment,
                extents: Vec::new(),
            });
        let metadata_dir = self.metadata_dir(&mut run, writer, checkpoint).await?;
        let tree = run.store_root(metadata_dir).await?;
        let stored = self.commit(writer).await?;
        self.cx.check_cancelled()?;
        let finished = self.cx.clock.now();
        let snapshot = match reliance {
            None => None,
            Some(mut reliance) => {
                let snapshot =
                    Snapshot { x_log: log, ..self.snapshot(&run, tree, moment, finished, &stored) };
                let id = reliance.publish(&snapshot, self.cx).await?;
                if self.options.is_import {
                    self.repository.vouch_for_import(&id, &snapshot, self.cx).await?;
                } else {
                    self.repository.add_recent(id, snapshot);
                }
                Some(id)
            }
        };
        let clock_offset_seconds = match snapshot {
            Some(id) => Box::pin(self.repository.clock_offset(&id, finished, self.cx)).await,
            None => None,
        };
        Ok(BackupReport {
            snapshot,
            parent: self.base(&run),
            kind: self.kind,
            files: run.files,
            dirs: run.dirs,
            totals: run.totals,
            stored,
            warnings: run.totals.warnings,
            lost_packs: self.lost_packs,
            clock_doubt: self.doubt,
            clock_offset_seconds,
            server_clock_offset_seconds: self.facts.clock_ahead_seconds,
            started: self.started,
            finished,
        })
    }

    /// Makes everything durable. Reports the bytes of packs that still had to be uploaded.
    async fn commit(&self, writer: &BlobWriter) -> Result<WriteStats> {
        let meter = Meter::start(Stage::Commit, &self.cx.events);
        let before = writer.uploaded().stored();
        let count = || {
            let bytes = writer.uploaded();
            let since = |count: u64| count.saturating_sub(before);
            meter.set_bytes(since(bytes.stored()), since(bytes.submitted()));
        };
        let counting = async {
            let _ticking = meter.ticking();
            loop {
                count();
                tokio::time::sleep(PROGRESS_INTERVAL).await;
            }
        };
        let stored = tokio::select! {
            stored = writer.clone().finish() => stored?,
            never = counting => never,
        };
        count();
        meter.finish();
        Ok(stored)
    }

    /// The snapshot that this one builds on: none if it came to be a full one.
    fn base(&self, run: &Run) -> Option<SnapshotId> {
        run.parent_id().filter(|_| self.kind != BackupKind::Full)
    }

    async fn metadata_dir(
        &self,
        run: &mut Run,
        writer: &BlobWriter,
        checkpoint: Checkpoint,
    ) -> Result<Node> {
        let time = checkpoint.finished;
        let manifest = self.manifest(run, checkpoint);
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::internal("cannot encode the manifest").with_source(error))?;
        let mut nodes = Vec::new();
        for (name, content) in [("manifest.json", json), ("RESTORE.md", RESTORE_NOTE.into())] {
            let (writer, size) = (writer.clone(), content.len() as u64);
            let work = move || writer.store(BlobKind::Data, &content);
            let id = self.repository.cpu().run(work).await?.id;
            let metadata = Metadata { size, ..Metadata::stream(time) };
            nodes.push(Node {
                name: name.as_bytes().into(),
                metadata,
                content: vec![id],
                subtree: None,
            });
        }
        if let Some((content, size)) = run.finish_skipped().await? {
            let metadata = Metadata { size, ..Metadata::stream(time) };
            nodes.push(Node {
                name: SKIPPED_NAME.as_bytes().into(),
                metadata,
                content,
                subtree: None,
            });
        }
        let tree = run.store_tree(nodes, None).await?;
        let metadata = Metadata::directory(time);
        Ok(Node {
            name: METADATA_DIR.as_bytes().into(),
            metadata,
            content: Vec::new(),
            subtree: Some(tree),
        })
    }

    /// The patterns of the selection that the source has applied.
    fn selected(&self) -> SelectedPatterns {
        let asked = &self.options.selection;
        self.facts.selection.clone().unwrap_or_else(|| SelectedPatterns {
            include: asked.include().to_vec(),
            exclude: asked.exclude().to_vec(),
        })
    }

    fn manifest(&self, run: &Run, checkpoint: Checkpoint) -> Manifest {
        let (options, selected) = (self.options, self.selected());
        Manifest {
            schema: MANIFEST_SCHEMA,
            program: options.program.clone(),
            created: self.started,
            job: options.job.clone(),
            source: self.source.clone(),
            server_version: self.facts.server_version.clone(),
            kind: self.kind,
            tier: options.tier.clone(),
            base: self.base(run),
            checkpoint,
            totals: run.totals,
            incomplete: run.incomplete.clone(),
            objects: self.facts.objects.clone(),
            counted: self.facts.counted,
            remarks: self.facts.remarks.clone(),
            include: selected.include,
            exclude: selected.exclude,
            configuration: options.configuration.clone(),
        }
    }

    fn snapshot(
        &self,
        run: &Run,
        tree: crate::id::BlobId,
        moment: Timestamp,
        finished: Timestamp,
        stored: &WriteStats,
    ) -> Snapshot {
        let options = self.options;
        let mut tags = vec![
            format!("job={}", options.job),
            format!("source={}", self.source.kind),
            format!("type={}", self.kind.as_str()),
            format!("tier={}", options.tier),
        ];
        tags.extend(self.facts.tags.iter().chain(&options.tags).cloned());
        Snapshot {
            time: moment,
            parent: self.base(run),
            tree,
            paths: self.source.paths.clone(),
            hostname: self.source.host.clone(),
            username: options.username.clone(),
            uid: None,
            gid: None,
            excludes: self.selected().exclude,
            tags,
            original: None,
            program_version: options.program.clone(),
            summary: Some(SnapshotSummary {
                backup_start: self.started,
                backup_end: finished,
                files_new: run.files.new,
                files_changed: run.files.changed,
                files_unmodified: run.files.unmodified,
                dirs_new: run.dirs.new,
                dirs_changed: run.dirs.changed,
                dirs_unmodified: run.dirs.unmodified,
                data_blobs: stored.data_blobs,
                tree_blobs: stored.tree_blobs,
                data_added: stored.added_bytes,
                data_added_packed: stored.packed_bytes,
                total_files_processed: run.totals.files,
                total_bytes_processed: run.totals.bytes,
            }),
            x_log: None,
            x_part: options.is_part.then(|| SnapshotPart {
                include: options.selection.include().to_vec(),
                exclude: options.selection.exclude().to_vec(),
            }),
            x_previous: self.previous.filter(|previous| Some(*previous) != self.base(run)),
            x_clock_seen: self.doubt.map(|doubt| doubt.seen),
            others: serde_json::Map::new(),
            x_warnings: (run.totals.warnings > 0).then_some(run.totals.warnings),
        }
    }
}

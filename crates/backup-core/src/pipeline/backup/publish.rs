//! The end of a backup: the `.backup` directory, everything durable, then the snapshot.

use jiff::Timestamp;

use super::options::{BackupOptions, BackupReport};
use super::run::Run;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Stage};
use crate::format::{BlobKind, MANIFEST_SCHEMA, METADATA_DIR, Manifest, Node, RESTORE_NOTE, Snapshot, SnapshotSummary};
use crate::id::SnapshotId;
use crate::pipeline::Meter;
use crate::repository::reliance::Reliance;
use crate::repository::{BlobWriter, Repository, WriteStats};
use crate::source::{BackupKind, Checkpoint, Metadata, SourceIdentity};

/// What a snapshot is made of, besides its content.
pub(super) struct Publication<'a> {
    pub(super) cx: &'a Context,
    pub(super) repository: &'a Repository,
    pub(super) source: &'a SourceIdentity,
    pub(super) options: &'a BackupOptions,
    pub(super) kind: BackupKind,
    pub(super) started: Timestamp,
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
        let metadata_dir = self.metadata_dir(&mut run, writer, checkpoint).await?;
        let tree = run.store_root(metadata_dir).await?;
        let meter = Meter::start(Stage::Commit, &self.cx.events);
        let stored = writer.clone().finish().await?;
        meter.finish();
        self.cx.check_cancelled()?;
        let finished = self.cx.clock.now();
        let snapshot = match reliance {
            None => None,
            Some(mut reliance) => {
                let snapshot = self.snapshot(&run, tree, moment, finished, &stored);
                Some(self.save(&snapshot, &mut reliance).await?)
            }
        };
        Ok(BackupReport {
            snapshot,
            parent: run.parent_id(),
            kind: self.kind,
            files: run.files,
            dirs: run.dirs,
            totals: run.totals,
            stored,
            warnings: run.totals.warnings,
            started: self.started,
            finished,
        })
    }

    async fn save(&self, snapshot: &Snapshot, reliance: &mut Reliance<'_>) -> Result<SnapshotId> {
        reliance.secure(&[snapshot.tree], self.cx).await?;
        let id = self.repository.save_snapshot(snapshot, self.cx).await?;
        self.cx.events.emit(&Event::SnapshotSaved { id });
        let unsure = |error: Error| error.context(format!("snapshot {} is stored, but not confirmed", id.short()));
        match reliance.secure(&[snapshot.tree], self.cx).await {
            // What it stands on is gone: nobody shall take it for a backup, and no prune shall stop at it.
            Err(error) if error.kind() == ErrorKind::Busy => {
                self.repository.withdraw_snapshot(&id).await.map_err(unsure)?;
                Err(error)
            }
            secured => secured.map_err(unsure).map(|()| id),
        }
    }

    async fn metadata_dir(&self, run: &mut Run, writer: &BlobWriter, checkpoint: Checkpoint) -> Result<Node> {
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
            nodes.push(Node { name: name.as_bytes().into(), metadata, content: vec![id], subtree: None });
        }
        let tree = run.store_tree(nodes).await?;
        let metadata = Metadata::directory(time);
        Ok(Node { name: METADATA_DIR.as_bytes().into(), metadata, content: Vec::new(), subtree: Some(tree) })
    }

    fn manifest(&self, run: &Run, checkpoint: Checkpoint) -> Manifest {
        let options = self.options;
        Manifest {
            schema: MANIFEST_SCHEMA,
            program: options.program.clone(),
            created: self.started,
            job: options.job.clone(),
            source: self.source.clone(),
            server_version: None,
            kind: self.kind,
            tier: options.tier.clone(),
            base: run.parent_id(),
            checkpoint,
            totals: run.totals,
            objects: std::collections::BTreeMap::new(),
            include: options.selection.include().to_vec(),
            exclude: options.selection.exclude().to_vec(),
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
        tags.extend(options.tags.iter().cloned());
        Snapshot {
            time: moment,
            parent: run.parent_id(),
            tree,
            paths: self.source.paths.clone(),
            hostname: self.source.host.clone(),
            username: options.username.clone(),
            uid: None,
            gid: None,
            excludes: options.selection.exclude().to_vec(),
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
            others: serde_json::Map::new(),
            x_warnings: (run.totals.warnings > 0).then_some(run.totals.warnings),
        }
    }
}

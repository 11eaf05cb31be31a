//! An opened repository with its snapshots, and finding them by name.

use std::sync::Arc;

use backup_control::snapshots::{Choice, Search};
use backup_core::log::LogReplay;
use backup_core::repository::{
    IndexedRepository, Repository, SnapshotInfo, SnapshotList, SnapshotReader,
};

use crate::command_error::CommandResult;
use crate::session::Session;

/// The snapshots of an opened repository, and its index.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) snapshots: SnapshotList,
    pub(crate) indexed: IndexedRepository,
}

impl Opened {
    /// Reads a snapshot. One that was chosen with a log may be newer than this index: then the index of
    /// the log is used.
    pub(crate) fn snapshot(
        &self,
        info: &SnapshotInfo,
        log: Option<&Arc<LogReplay>>,
    ) -> SnapshotReader {
        log.map_or(&self.indexed, |log| log.indexed()).snapshot(info)
    }

    /// Finds a snapshot by its name; see [`Session::find`].
    pub(crate) async fn find(
        &self,
        session: &Session,
        name: &str,
        choice: &Choice,
    ) -> CommandResult<&SnapshotInfo> {
        session.require_job(&self.snapshots, choice.filter.job.as_deref())?;
        session.find(self.indexed.repository(), &self.snapshots, name, choice).await
    }

    /// Finds snapshots by their names, each once.
    pub(crate) async fn find_all(
        &self,
        session: &Session,
        names: &[String],
        choice: &Choice,
    ) -> CommandResult<Vec<&SnapshotInfo>> {
        if !names.is_empty() {
            session.require_job(&self.snapshots, choice.filter.job.as_deref())?;
        }
        session.find_all(self.indexed.repository(), &self.snapshots, names, choice).await
    }
}

impl Session {
    /// Finds the snapshot called `name` (`latest`, the beginning of its identifier, or a moment) in
    /// `list`, a listing of `repository`. Warns of newer ones that are passed over.
    pub(crate) async fn find<'a>(
        &self,
        repository: &Repository,
        list: &'a SnapshotList,
        name: &str,
        choice: &Choice,
    ) -> CommandResult<&'a SnapshotInfo> {
        let now = self.now();
        let found = Search { repository, list, now: &now, cx: &self.cx }.find(name, choice).await?;
        for skipped in &found.unavailable {
            let (short, reason) = (skipped.id.short(), &skipped.reason);
            self.ui.warning(format_args!("skipped snapshot {short}, which may be newer: {reason}"));
        }
        if let Some(part) = found.part {
            self.ui.warning(format_args!(
                "skipped snapshot {}, which is newer but holds only a part of its job",
                part.id.short()
            ));
        }
        Ok(found.info)
    }

    /// Finds the snapshots called `names`, each once.
    pub(crate) async fn find_all<'a>(
        &self,
        repository: &Repository,
        list: &'a SnapshotList,
        names: &[String],
        choice: &Choice,
    ) -> CommandResult<Vec<&'a SnapshotInfo>> {
        let mut found: Vec<&SnapshotInfo> = Vec::new();
        for name in names {
            let info = self.find(repository, list, name, choice).await?;
            if !found.iter().any(|known| known.id == info.id) {
                found.push(info);
            }
        }
        Ok(found)
    }
}

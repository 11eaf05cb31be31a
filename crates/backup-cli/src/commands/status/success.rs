//! The newest backup of a job.

use backup_control::runs::Run;
use backup_core::maintenance::DamageMark;
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;
use serde::Serialize;

use crate::commands::view;
use crate::human;
use crate::session::Session;

/// The newest backup.
#[derive(Debug, Serialize)]
pub(super) struct Success {
    pub(super) snapshot: String,
    pub(super) time: Timestamp,
    /// The time that the snapshot states, if it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) own_time: Option<Timestamp>,
    /// The stated time is wrong by more than 48 hours.
    #[serde(skip)]
    pub(super) is_misdated: bool,
    pub(super) bytes: Option<u64>,
    /// The host whose files they are; none of a database.
    pub(super) host: Option<String>,
    /// Entries that are missing or incomplete.
    pub(super) warnings: u64,
    /// Whether it stands for one moment; unknown while the repository cannot be read.
    pub(super) point_in_time: Option<bool>,
    /// True if the newest evidence is a verification without problems; unknown while the repository
    /// cannot be read.
    pub(super) verified: Option<bool>,
    /// The newest evidence, if it is a finding of damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) damage: Option<DamageMark>,
}

impl From<&SnapshotInfo> for Success {
    fn from(info: &SnapshotInfo) -> Self {
        let snapshot = &info.snapshot;
        let is_files = matches!(snapshot.tag("source"), None | Some("files"));
        Self {
            snapshot: info.id.to_hex(),
            time: info.time(),
            own_time: view::own_time(info),
            is_misdated: info.effective.is_replaced(),
            bytes: snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed),
            host: is_files.then(|| snapshot.hostname.clone()),
            warnings: snapshot.x_warnings.unwrap_or(0),
            point_in_time: Some(!view::is_of_no_moment(info)),
            verified: None,
            damage: None,
        }
    }
}

impl Success {
    /// As a run of this machine's catalog describes it.
    pub(super) fn remembered(run: &Run) -> Option<Self> {
        let snapshot = run.evidence.snapshot.clone()?;
        let (host, warnings) = (Some(run.host.clone()), run.evidence.warnings);
        Some(Self {
            snapshot,
            time: run.finished?,
            own_time: None,
            is_misdated: false,
            bytes: Some(run.evidence.bytes),
            host,
            warnings,
            point_in_time: None,
            verified: None,
            damage: None,
        })
    }

    /// Its host, if that is not this one.
    pub(super) fn other_host(&self, session: &Session) -> Option<String> {
        let host = self.host.as_ref().filter(|host| **host != session.machine.host)?;
        Some(human::text(host.as_bytes()))
    }
}

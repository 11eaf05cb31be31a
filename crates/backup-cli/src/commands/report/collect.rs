//! The input of a report, read from repositories and the audit log.

use std::collections::BTreeMap;

use backup_control::audit::{Against, Audit, Class, Filter, Record};
use backup_control::config::{Config, RepositoryConfig};
use backup_control::disk::Medium;
use backup_control::report::{AuditGiven, KeyGiven, RepositoryGiven, SnapshotGiven};
use backup_core::log::LogView;
use backup_core::maintenance::{self, Anchor};
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;

use crate::command_error::{CommandError, CommandResult, Kind};
use crate::opened::Opened;
use crate::records::{self, Records};
use crate::session::Session;

/// The records of a period, and the state of the audit log.
pub(super) async fn audit(
    session: &Session,
    records: &Records,
    anchors: Vec<Anchor>,
    from: Timestamp,
    all_read: bool,
) -> CommandResult<(Vec<Record>, AuditGiven)> {
    let (audit, host) = (Audit::in_state(&records.dir), session.machine.host.clone());
    let keep = super::super::audit::kept(session)?;
    let reading = move || {
        let found = audit.read(&Filter::default())?;
        let against = Against { anchors: &anchors, host: &host, keep: keep.as_ref() };
        let verdict = audit.verify(against)?;
        Ok((found, verdict, keep))
    };
    let (found, verdict, keep) = tokio::task::spawn_blocking(reading)
        .await
        .map_err(|error| CommandError::new(Kind::Io, error.to_string()))?
        .map_err(|error: backup_control::audit::Error| {
            CommandError::from_error(Kind::Io, &error)
        })?;
    // Records of accesses that expired are gone up to this moment.
    let expired = keep.and_then(|keep| keep.get(&Class::Access).copied());
    let expired = expired.filter(|_| found.expired > 0);
    let first = found.records.first().map(|record| record.timestamp);
    let given = AuditGiven {
        is_whole: if verdict.is_sound() { all_read.then_some(true) } else { Some(false) },
        since: first.max(expired),
        confirmed: verdict.anchored,
    };
    let of_period = found.records.into_iter().filter(|record| record.timestamp >= from);
    Ok((of_period.collect(), given))
}

/// The state of a repository that cannot be read, from the configuration.
pub(super) fn unread(
    session: &Session,
    config: &Config,
    name: &str,
) -> CommandResult<RepositoryGiven> {
    let spec = session.resolve(name)?;
    Ok(RepositoryGiven {
        medium: spec.medium(),
        key: config.repositories.get(name).map(key_of).unwrap_or_default(),
        place: records::place(&spec),
        ..RepositoryGiven::default()
    })
}

fn key_of(section: &RepositoryConfig) -> KeyGiven {
    let RepositoryConfig { passphrase_file, passphrase_env, passphrase_command, .. } = section;
    match (passphrase_file, passphrase_env, passphrase_command) {
        (Some(file), ..) => KeyGiven::File(file.clone(), Medium::of(file)),
        (None, Some(variable), _) => KeyGiven::Variable(variable.clone()),
        (None, None, Some(_)) => KeyGiven::Command,
        (None, None, None) => KeyGiven::Unnamed,
    }
}

pub(super) async fn of_repository(
    session: &Session,
    config: &Config,
    name: &str,
) -> CommandResult<RepositoryGiven> {
    let spec = session.resolve(name)?;
    let opened = session.open_indexed_at(&spec).await?;
    let repository = opened.indexed.repository();
    let report = maintenance::storage(repository, &session.cx).await?;
    let quota = config.repositories.get(name).and_then(|section| section.quota);
    let of_quota = quota.map(|quota| quota.0.saturating_sub(report.total.bytes));
    Ok(RepositoryGiven {
        id: Some(repository.config().id.clone()),
        snapshots: Some(opened.snapshots.snapshots.iter().filter_map(snapshot).collect()),
        used: Some(report.total.bytes),
        left: [of_quota, report.free_bytes].into_iter().flatten().min(),
        anchors: repository.anchors().await?.0,
        restorable: restorable(session, config, name, &opened).await?,
        ..unread(session, config, name)?
    })
}

/// None of a snapshot that holds a captured log, or a part of its job: it is no backup of the job,
/// and no copy of one.
fn snapshot(info: &SnapshotInfo) -> Option<SnapshotGiven> {
    let SnapshotInfo { id, snapshot, .. } = info;
    let is_backup = snapshot.tag("type") != Some("log") && !snapshot.is_part();
    is_backup.then(|| SnapshotGiven {
        id: id.to_hex(),
        origin: snapshot.original.unwrap_or(*id).to_hex(),
        job: snapshot.tag("job").unwrap_or_default().to_owned(),
        time: info.time(),
    })
}

/// The spans of time that can be restored, by job with a captured log.
async fn restorable(
    session: &Session,
    config: &Config,
    name: &str,
    opened: &Opened,
) -> CommandResult<BTreeMap<String, Vec<(Timestamp, Timestamp)>>> {
    let repository = opened.indexed.repository();
    let newest = backup_control::logs::newest_by_job(&opened.snapshots.snapshots);
    let mut found = BTreeMap::new();
    for (job, _) in
        config.jobs.iter().filter(|(_, job)| job.repository == name && job.logs.is_some())
    {
        let Some(newest) = newest.get(job.as_str()) else { continue };
        let stream = backup_control::logs::stream_of(&opened.indexed, newest).await?;
        let view = LogView::load(repository, &stream, &session.cx).await?.of_job(job);
        let ranges = view.timeline().ranges();
        let spans = ranges.iter().filter_map(|range| Some((range.from_time?, range.to_time?)));
        found.insert(job.clone(), spans.collect());
    }
    Ok(found)
}

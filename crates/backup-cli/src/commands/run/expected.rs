//! `expect`: the minimum contents of a new snapshot.

use std::collections::HashMap;

use backup_control::config::ExpectConfig;
use backup_control::jobs::Job;
use backup_control::{damage, expect};
use backup_core::event::WarningKind;
use backup_core::format::Manifest;
use backup_core::id::SnapshotId;
use backup_core::pipeline::BackupReport;
use backup_core::repository::{Repository, SnapshotInfo};
use backup_core::source::BackupKind;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::records;
use crate::session::Session;

/// Fails if the new snapshot has less than is expected. Physical backups of PostgreSQL have no
/// counts of rows: for these, the estimates of the server count. Warns if neither exists.
pub(super) async fn require(
    session: &Session,
    repository: &Repository,
    job: &Job,
    report: &BackupReport,
) -> CommandResult {
    let expected = &job.execution.expect;
    let Some(id) = report.snapshot.filter(|_| !expected.is_empty()) else {
        return Ok(Outcome::Success);
    };
    if job.options.is_part {
        session
            .cx
            .events
            .note("`expect` is not checked: the snapshot holds a part of the job.".to_owned());
        return Ok(Outcome::Success);
    }
    let manifest = manifest_of(session, repository, &id).await?;
    let mut unmet = expect::unmet(expected, &manifest);
    let untold = |one: &&ExpectConfig| !expect::can_tell(one, &manifest);
    let mut untold: Vec<&ExpectConfig> = expected.iter().filter(untold).collect();
    let counted = unmet.len();
    if !untold.is_empty()
        && let Some(estimates) = estimates(session, job, &untold).await
    {
        unmet.extend(untold.iter().filter_map(|one| expect::below(one, &estimates)));
        untold.retain(|one| !expect::is_estimated(one, &estimates));
    }
    if !unmet.is_empty() {
        if counted > 0 {
            let held = damage::hold_last_complete(repository, &id, expected, &session.cx).await;
            report_hold(session, "the last one that meets `expect`", held);
        } else {
            let held = damage::hold_last_before(repository, &id, &session.cx).await;
            report_hold(session, "the last one before", held);
        }
        let text = format!("snapshot {} does not meet `expect`: {}", id.short(), unmet.join("; "));
        return Err(CommandError::new(Kind::Mismatch, text).with_hint(
            "check the source before older snapshots are forgotten; the new snapshot is kept",
        ));
    }
    Ok(if untold.is_empty() { Outcome::Success } else { unchecked(session, report, &id, &untold) })
}

async fn manifest_of(
    session: &Session,
    repository: &Repository,
    id: &SnapshotId,
) -> CommandResult<Manifest> {
    let list = repository.snapshots(&session.cx).await?;
    let indexed = repository.load_index(&session.cx).await?;
    let manifest = match list.snapshots.iter().find(|info| info.id == *id) {
        Some(info) => indexed.snapshot(info).manifest().await?,
        None => None,
    };
    manifest.ok_or_else(|| {
        let text = format!("snapshot {} has no manifest to compare with `expect`", id.short());
        CommandError::new(Kind::Mismatch, text)
    })
}

/// Estimated numbers of rows at the server; `None` of sources without estimates. A server that
/// cannot be read is a note: the expectation is unchecked then.
async fn estimates(
    session: &Session,
    job: &Job,
    untold: &[&ExpectConfig],
) -> Option<HashMap<String, u64>> {
    let names: Vec<String> = untold.iter().filter_map(|one| one.object.clone()).collect();
    let reading = job.source.estimated_rows(&session.env, &session.cx, &names);
    session.unless_cancelled(reading).await.unwrap_or_else(|error: CommandError| {
        let text = format!("cannot read estimates of rows for `expect`: {}", error.chain());
        session.cx.events.note(text);
        None
    })
}

fn report_hold(
    session: &Session,
    which: &str,
    held: backup_control::error::Result<Option<SnapshotInfo>>,
) {
    match held {
        Ok(Some(last)) => session.ui.warning(session.of_job(format_args!(
            "snapshot {0}, {which}, is now held; `backup release {0}` ends the hold",
            last.id.short()
        ))),
        Ok(None) => {}
        Err(error) => {
            records::warn(session, &format!("cannot hold the snapshot, {which}"), &error.into());
        }
    }
}

/// Reports expectations that neither the snapshot nor the server has numbers for.
fn unchecked(
    session: &Session,
    report: &BackupReport,
    id: &SnapshotId,
    untold: &[&ExpectConfig],
) -> Outcome {
    let names: Vec<&str> = untold.iter().filter_map(|one| one.object.as_deref()).collect();
    let text = format!(
        "snapshot {} has no counts of {}, so `expect` cannot be checked in full",
        id.short(),
        names.join(", ")
    );
    if report.kind == BackupKind::Full {
        session.cx.events.warn(WarningKind::Other, "", text);
        return Outcome::Warnings;
    }
    session.cx.events.note(text);
    Outcome::Success
}

//! Snapshots that something is wrong with: damaged data of a server, or less than is expected.
//! Policies must not leave only such ones.

use backup_core::context::Context;
use backup_core::format::Snapshot;
use backup_core::id::SnapshotId;
use backup_core::repository::{Repository, SnapshotInfo};
use backup_core::retention::Hold;

use crate::config::ExpectConfig;
use crate::error::Result;
use crate::expect;

/// Holds the newest snapshot of the same job and source that nothing was wrong with, when `damaged`
/// has something wrong with it. Returns it, unless it is held already or there is none.
///
/// # Errors
/// Those of the sink.
pub async fn hold_last_clean(
    repository: &Repository,
    damaged: &SnapshotId,
    cx: &Context,
) -> Result<Option<SnapshotInfo>> {
    let before = before(repository, damaged, cx).await?;
    let Some(clean) = before.iter().find(|info| info.snapshot.x_warnings.unwrap_or(0) == 0) else {
        return Ok(None);
    };
    let reason = format!(
        "the last snapshot without warnings before {}, which has damaged pages",
        damaged.short()
    );
    hold(repository, clean, reason, cx).await
}

/// Holds the newest snapshot of the same job and source that has what is `expected`, when `lacking`
/// does not. Returns it, unless it is held already or there is none.
///
/// # Errors
/// Those of the sink; what cannot be read is no reason to hold nothing, and is passed over.
pub async fn hold_last_complete(
    repository: &Repository,
    lacking: &SnapshotId,
    expected: &[ExpectConfig],
    cx: &Context,
) -> Result<Option<SnapshotInfo>> {
    let before = before(repository, lacking, cx).await?;
    let indexed = repository.load_index(cx).await?;
    for info in &before {
        let Ok(Some(manifest)) = indexed.snapshot(info).manifest().await else { continue };
        let can_tell = expected.iter().all(|expected| expect::can_tell(expected, &manifest));
        if can_tell && expect::unmet(expected, &manifest).is_empty() {
            let reason = format!(
                "the last complete snapshot before {}, which lacks expected contents",
                lacking.short()
            );
            return hold(repository, info, reason, cx).await;
        }
    }
    Ok(None)
}

/// Holds the newest snapshot of the same job and source before `lacking`, although its contents are
/// unknown. Returns it, unless an earlier failure holds one already or there is none.
///
/// # Errors
/// Errors of the sink.
pub async fn hold_last_before(
    repository: &Repository,
    lacking: &SnapshotId,
    cx: &Context,
) -> Result<Option<SnapshotInfo>> {
    const REASON: &str = "the last snapshot before one that lacks expected contents: ";
    let before = before(repository, lacking, cx).await?;
    let Some(last) = before.first() else { return Ok(None) };
    let (holds, now) = (repository.holds().await?, cx.clock.now());
    let reason = |id: &SnapshotId| format!("{REASON}{}", id.short());
    // The last one may lack the contents itself: then its own predecessor is held.
    let of_last = before.iter().find_map(|info| {
        let hold = holds.get(&info.id)?;
        (hold.is_in_force(now) && hold.reason == reason(&last.id)).then_some((info, hold))
    });
    match of_last {
        Some((info, known)) => {
            let hold = Hold { reason: reason(lacking), ..known.clone() };
            repository.hold(&info.id, &hold).await?;
            Ok(None)
        }
        None => hold(repository, last, reason(lacking), cx).await,
    }
}

/// The snapshots of the same job and source before one, newest first. Logs alone are none.
async fn before(
    repository: &Repository,
    id: &SnapshotId,
    cx: &Context,
) -> Result<Vec<SnapshotInfo>> {
    let list = repository.snapshots(cx).await?.snapshots;
    let Some(own) = list.iter().find(|info| info.id == *id).cloned() else { return Ok(Vec::new()) };
    let same = |other: &Snapshot| {
        other.tag("job") == own.snapshot.tag("job") && other.paths == own.snapshot.paths
    };
    let earlier = |info: &SnapshotInfo| {
        let snapshot = &info.snapshot;
        let is_whole = snapshot.tag("type") != Some("log") && !snapshot.is_part();
        is_whole && same(snapshot) && info.time() < own.time()
    };
    Ok(list.iter().rev().filter(|info| earlier(info)).cloned().collect())
}

/// Holds a snapshot for good; none if it is held already.
async fn hold(
    repository: &Repository,
    info: &SnapshotInfo,
    reason: String,
    cx: &Context,
) -> Result<Option<SnapshotInfo>> {
    let now = cx.clock.now();
    if repository
        .holds()
        .await?
        .get(&info.id)
        .is_some_and(|hold| hold.is_in_force(now) && hold.until.is_none())
    {
        return Ok(None);
    }
    repository.hold(&info.id, &Hold { until: None, reason, since: now }).await?;
    Ok(Some(info.clone()))
}

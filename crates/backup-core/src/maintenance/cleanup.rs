//! Retention applied to a repository: a plan, which is applied by forgetting what it drops.

use futures::{StreamExt, TryStreamExt};
use jiff::tz::TimeZone;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::repository::{Repository, SnapshotFilter, SnapshotInfo, SnapshotList};
use crate::retention::{Candidate, Decision, Policy, Reason, decide};

use super::holds::Promises;

/// A snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSnapshot {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// What becomes of it, and why.
    pub decision: Decision,
}

/// What a policy means for the snapshots of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CleanupPlan {
    /// Those that were asked for, oldest first.
    pub snapshots: Vec<PlannedSnapshot>,
}

impl CleanupPlan {
    /// The snapshots to be forgotten: what [`Repository::forget`] is to be called with.
    #[must_use]
    pub fn dropped(&self) -> Vec<SnapshotId> {
        let dropped = self.snapshots.iter().filter(|planned| !planned.decision.keep());
        dropped.map(|planned| planned.info.id).collect()
    }
}

/// Decides about the snapshots that `filter` fits; no other is touched, or counts. Changes nothing.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a policy that keeps nothing; [`ErrorKind::Damaged`] if a snapshot or
/// a hold cannot be read, because then nobody knows what it stands for; those of the sink.
pub async fn plan_cleanup(
    repository: &Repository,
    filter: &SnapshotFilter,
    policy: &Policy,
    zone: &TimeZone,
    cx: &Context,
) -> Result<CleanupPlan> {
    policy.check().map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    let list = repository.snapshots(cx).await?;
    require_available(repository, &list, cx).await?;
    let snapshots: Vec<SnapshotInfo> =
        list.snapshots.into_iter().filter(|info| filter.matches(&info.snapshot)).collect();
    let mut candidates = candidates(repository, &snapshots, cx).await?;
    let mut holds = repository.holds().await?;
    let verified = repository.verified().await?;
    for candidate in &mut candidates {
        candidate.hold = holds.remove(&candidate.id);
        candidate.verified = verified.contains(&candidate.id);
    }
    let mut decisions = decide(&candidates, policy, cx.clock.now(), zone);
    let promises = Promises::of(repository, &snapshots).await?;
    for ((candidate, info), decision) in candidates.iter().zip(&snapshots).zip(&mut decisions) {
        if !decision.keep() && promises.protect(info, candidate.received, cx.clock.now()) {
            decision.reasons.push(Reason::Compliance);
        }
    }
    let planned = snapshots
        .into_iter()
        .zip(decisions)
        .map(|(info, decision)| PlannedSnapshot { info, decision });
    Ok(CleanupPlan { snapshots: planned.collect() })
}

/// Fails if a snapshot of `list`, a listing of the repository, is damaged or missing: what older
/// ones it stands for is not known, so none of them may be removed.
///
/// # Errors
/// [`ErrorKind::Damaged`] names the first such snapshot; those of the sink.
pub async fn require_available(
    repository: &Repository,
    list: &SnapshotList,
    cx: &Context,
) -> Result<()> {
    let unavailable = repository.unavailable_snapshots(list, cx).await?;
    let Some(first) = unavailable.first() else { return Ok(()) };
    let short = first.id.short();
    Err(Error::damaged(format!("cannot read snapshot {short}: {}", first.reason)).with_hint(
        format!(
            "recover it with `backup repair --from COPY`, or give it up with `backup repair \
         --accept-loss {short}`; until then nothing is forgotten"
        ),
    ))
}

/// In the order of `snapshots`.
async fn candidates(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    cx: &Context,
) -> Result<Vec<Candidate>> {
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let read = |info: SnapshotInfo| async move {
        cx.check_cancelled()?;
        let received = repository.received(&info.id).await?;
        Ok::<_, Error>(Candidate { received, ..Candidate::of(&info) })
    };
    futures::stream::iter(snapshots.to_vec()).map(read).buffered(concurrency).try_collect().await
}

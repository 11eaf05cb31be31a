//! Retention applied to a repository: a plan, which is applied by forgetting what it drops.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::repository::{
    ClockDoubt, Present, Repository, SnapshotFilter, SnapshotInfo, SnapshotList, TimeBasis,
};
use crate::retention::{Anomaly, Candidate, Decision, Policy, Reason, anomalies, decide};

use super::holds::Promises;

/// A snapshot and its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSnapshot {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Its fate, with the reasons.
    pub decision: Decision,
}

/// Effect of a policy on the snapshots of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CleanupPlan {
    /// Those that were asked for, oldest first.
    pub snapshots: Vec<PlannedSnapshot>,
    /// Snapshots whose times are adopted before anything is forgotten, oldest first: also of other
    /// jobs, if [`Self::is_first`].
    pub adopted: Vec<SnapshotInfo>,
    /// True if no maintainer has adopted the snapshots of the time before adoptions existed: this
    /// cleanup adopts every snapshot of the repository.
    pub is_first: bool,
    /// The contradiction between the clock and the latest time that is known. A cleanup without a
    /// person must not follow the plan if there is one.
    pub doubt: Option<ClockDoubt>,
    /// Unusual snapshots that the plan does not adopt. A cleanup without a person must not follow
    /// the plan if there are any.
    pub anomalies: Vec<Anomaly>,
}

impl CleanupPlan {
    /// The snapshots to be forgotten.
    #[must_use]
    pub fn dropped(&self) -> Vec<SnapshotId> {
        self.dropped_infos().map(|info| info.id).collect()
    }

    fn dropped_infos(&self) -> impl Iterator<Item = &SnapshotInfo> {
        let dropped = self.snapshots.iter().filter(|planned| !planned.decision.keep());
        dropped.map(|planned| &planned.info)
    }

    /// The snapshots that replace no other one because their time is disputed.
    #[must_use]
    pub fn disputed(&self) -> Vec<SnapshotId> {
        let disputed = self.snapshots.iter().filter(|planned| planned.info.effective.is_disputed());
        disputed.map(|planned| planned.info.id).collect()
    }

    /// Executes the plan: adopts, then forgets.
    ///
    /// # Errors
    /// Those of [`Repository::adopt`] and [`Repository::forget_listed`].
    pub async fn execute(&self, repository: &Repository, cx: &Context) -> Result<()> {
        repository.record_present(cx).await?;
        if self.is_first || !self.adopted.is_empty() {
            repository.adopt(&self.adopted, cx).await?;
        }
        let dropped: Vec<SnapshotInfo> = self.dropped_infos().cloned().collect();
        if dropped.is_empty() { Ok(()) } else { repository.forget_listed(&dropped, cx).await }
    }
}

/// Decides about the snapshots that `filter` matches; no other is touched, or counts. Changes
/// nothing. With `adopt`, the plan adopts those of them whose times are disputed, and those of
/// anomalies. Snapshots expire by `present`.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a policy that keeps nothing; [`ErrorKind::Damaged`] if a snapshot or
/// a hold cannot be read, because then its fate is unknown; those of the sink.
pub async fn plan_cleanup(
    repository: &Repository,
    filter: &SnapshotFilter,
    policy: &Policy,
    zone: &TimeZone,
    adopt: bool,
    present: &Present,
    cx: &Context,
) -> Result<CleanupPlan> {
    policy.check().map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    let mut list = repository.snapshots(cx).await?;
    require_available(repository, &list, cx).await?;
    let (is_first, now) = (!list.evidence.has_begun(), present.time());
    let matches = |info: &&SnapshotInfo| filter.matches(&info.snapshot);
    // A date in the future stays disputed: it belongs to a wrong clock. A date that contradicts the
    // order of snapshots is no date of the time before adoptions existed.
    let is_to_adopt = |info: &&SnapshotInfo| {
        let time = &info.effective;
        let is_meant = is_first && time.basis() != TimeBasis::Order || adopt && matches(info);
        is_meant && time.is_disputed() && time.own() <= now
    };
    let mut adopted: Vec<SnapshotInfo> =
        list.snapshots.iter().filter(is_to_adopt).cloned().collect();
    let adopt_in = |list: &mut SnapshotList, ids: &BTreeSet<SnapshotId>| {
        list.evidence.adopt(ids.iter().copied());
        list.settle(now);
    };
    let find = |list: &SnapshotList| {
        let meant = list.snapshots.iter().filter(matches);
        anomalies(&meant.map(Candidate::of).collect::<Vec<_>>(), now, zone)
    };
    adopt_in(&mut list, &adopted.iter().map(|info| info.id).collect());
    let mut unusual = find(&list);
    if adopt && !unusual.is_empty() {
        let ids: BTreeSet<SnapshotId> =
            unusual.iter().flat_map(|anomaly| anomaly.snapshots.iter().copied()).collect();
        adopted.extend(list.snapshots.iter().filter(|info| ids.contains(&info.id)).cloned());
        adopt_in(&mut list, &ids);
        unusual = find(&list);
    }
    let snapshots: Vec<SnapshotInfo> =
        list.snapshots.into_iter().filter(|info| matches(&info)).collect();
    let candidates = candidates(repository, &snapshots, cx).await?;
    let mut decisions = decide(&candidates, policy, now, zone);
    protect(repository, &snapshots, &candidates, &mut decisions, now).await?;
    let before: BTreeSet<SnapshotId> = unusual.iter().filter_map(|one| one.before).collect();
    for decision in decisions.iter_mut().filter(|decision| before.contains(&decision.id)) {
        decision.reasons.push(Reason::BeforeAnomaly);
    }
    let planned = snapshots.into_iter().zip(decisions);
    let planned = planned.map(|(info, decision)| PlannedSnapshot { info, decision });
    let doubt = present.doubt();
    Ok(CleanupPlan { snapshots: planned.collect(), adopted, is_first, doubt, anomalies: unusual })
}

/// Adds the promises of the repository to the reasons.
async fn protect(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    candidates: &[Candidate],
    decisions: &mut [Decision],
    now: Timestamp,
) -> Result<()> {
    let promises = Promises::of(repository, snapshots).await?;
    for ((candidate, info), decision) in candidates.iter().zip(snapshots).zip(decisions) {
        if !decision.keep() && promises.protect(info, candidate.received, now) {
            decision.reasons.push(Reason::Compliance);
        }
    }
    Ok(())
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
    let mut holds = repository.holds().await?;
    let verified = repository.verified().await?;
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let read = |info: SnapshotInfo| async move {
        cx.check_cancelled()?;
        let received = repository.received(&info.id).await?;
        Ok::<_, Error>(Candidate { received, ..Candidate::of(&info) })
    };
    let mut candidates: Vec<Candidate> = futures::stream::iter(snapshots.to_vec())
        .map(read)
        .buffered(concurrency)
        .try_collect()
        .await?;
    for candidate in &mut candidates {
        candidate.hold = holds.remove(&candidate.id);
        candidate.verified = verified.contains(&candidate.id);
    }
    Ok(candidates)
}

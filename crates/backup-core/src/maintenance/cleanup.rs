//! Retention applied to a repository: a plan, which is applied by forgetting what it drops.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::repository::{
    ClockDoubt, Present, Repository, SnapshotFilter, SnapshotInfo, SnapshotList, TimeBasis,
};
use crate::retention::{Anomaly, Candidate, Decision, Hold, Policy, Reason, anomalies, decide};

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
    /// plan adopts every snapshot of the repository.
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
        let dropped: Vec<SnapshotInfo> = self.dropped_infos().cloned().collect();
        if dropped.is_empty() && self.adopted.is_empty() && !self.is_first {
            return Ok(());
        }
        repository.record_present(cx).await?;
        if self.is_first || !self.adopted.is_empty() {
            repository.adopt(&self.adopted, cx).await?;
        }
        if dropped.is_empty() { Ok(()) } else { repository.forget_listed(&dropped, cx).await }
    }
}

/// The evidence about the snapshots of a repository, read once for the plans of all its jobs.
#[derive(Debug)]
pub struct CleanupEvidence {
    repository: Repository,
    present: Present,
    list: SnapshotList,
    /// Positions in `list` of the snapshots of each job.
    of_jobs: BTreeMap<String, Vec<usize>>,
    holds: BTreeMap<SnapshotId, Hold>,
    verified: BTreeSet<SnapshotId>,
    /// Snapshots that the first cleanup of the repository adopts, until a plan has them.
    first: Option<Vec<SnapshotInfo>>,
}

/// Decides about the snapshots that `filter` matches: [`CleanupEvidence`] for a single plan.
///
/// # Errors
/// As [`CleanupEvidence::read`] and [`CleanupEvidence::plan`].
pub async fn plan_cleanup(
    repository: &Repository,
    filter: &SnapshotFilter,
    policy: &Policy,
    zone: &TimeZone,
    adopt: bool,
    present: &Present,
    cx: &Context,
) -> Result<CleanupPlan> {
    check(policy)?;
    let mut evidence = Box::pin(CleanupEvidence::read(repository, present, cx)).await?;
    evidence.plan(filter, policy, zone, adopt, cx).await
}

fn check(policy: &Policy) -> Result<()> {
    policy.check().map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))
}

impl CleanupEvidence {
    /// Reads the snapshots, holds and verifications of a repository. Snapshots expire by `present`.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a snapshot or a hold cannot be read, because then its fate is
    /// unknown; those of the sink.
    pub async fn read(repository: &Repository, present: &Present, cx: &Context) -> Result<Self> {
        let mut list = repository.snapshots(cx).await?;
        require_available(repository, &list, cx).await?;
        let now = present.time();
        let first = (!list.evidence.has_begun()).then(|| {
            // A date that contradicts the order of snapshots is no date of the time before adoptions
            // existed.
            let is_of_then = |info: &&SnapshotInfo| {
                info.effective.basis() != TimeBasis::Order && is_adoptable(info, now)
            };
            list.snapshots.iter().filter(is_of_then).cloned().collect::<Vec<_>>()
        });
        if let Some(first) = first.as_ref().filter(|first| !first.is_empty()) {
            list.evidence.adopt(first.iter().map(|info| info.id));
            list.settle(now);
        }
        let mut of_jobs: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, info) in list.snapshots.iter().enumerate() {
            let Some(job) = info.snapshot.tag("job") else { continue };
            match of_jobs.get_mut(job) {
                Some(places) => places.push(at),
                None => _ = of_jobs.insert(job.to_owned(), vec![at]),
            }
        }
        let holds = repository.holds().await?;
        let verified = repository.verified().await?;
        let (repository, present) = (repository.clone(), *present);
        Ok(Self { repository, present, list, of_jobs, holds, verified, first })
    }

    /// Decides about the snapshots that `filter` matches; no other is touched, or counts. Changes
    /// nothing. With `adopt`, the plan adopts those of them whose times are disputed, and those of
    /// anomalies. The first plan has the adoptions of the first cleanup.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a policy that keeps nothing; [`ErrorKind::Damaged`] if a promise
    /// cannot be read; those of the sink.
    pub async fn plan(
        &mut self,
        filter: &SnapshotFilter,
        policy: &Policy,
        zone: &TimeZone,
        adopt: bool,
        cx: &Context,
    ) -> Result<CleanupPlan> {
        check(policy)?;
        let (now, repository) = (self.present.time(), &self.repository);
        let (snapshots, own_adopted, unusual) = self.matching(filter, zone, adopt);
        let candidates = candidates(repository, &snapshots, cx).await?;
        let candidates: Vec<Candidate> =
            candidates.into_iter().map(|candidate| self.complete(candidate)).collect();
        let mut decisions = decide(&candidates, policy, now, zone);
        protect(repository, &snapshots, &candidates, &mut decisions, now).await?;
        let before: BTreeSet<SnapshotId> = unusual.iter().filter_map(|one| one.before).collect();
        for decision in decisions.iter_mut().filter(|decision| before.contains(&decision.id)) {
            decision.reasons.push(Reason::BeforeAnomaly);
        }
        let planned = snapshots.into_iter().zip(decisions);
        let planned = planned.map(|(info, decision)| PlannedSnapshot { info, decision }).collect();
        let (doubt, first) = (self.present.doubt(), self.first.take());
        let is_first = first.is_some();
        let adopted = first.into_iter().flatten().chain(own_adopted).collect();
        Ok(CleanupPlan { snapshots: planned, adopted, is_first, doubt, anomalies: unusual })
    }

    /// The snapshots that `filter` matches, oldest first; those that `adopt` adopts, and the
    /// anomalies that remain.
    fn matching(
        &self,
        filter: &SnapshotFilter,
        zone: &TimeZone,
        adopt: bool,
    ) -> (Vec<SnapshotInfo>, Vec<SnapshotInfo>, Vec<Anomaly>) {
        let now = self.present.time();
        let find = |snapshots: &[SnapshotInfo]| {
            let listed = snapshots.iter().enumerate();
            let candidates: Vec<Candidate> =
                listed.map(|(index, info)| Candidate::of(index, info)).collect();
            anomalies(&candidates, now, zone)
        };
        let mut snapshots = self.matched(filter);
        let mut adopted: Vec<SnapshotInfo> = Vec::new();
        if adopt {
            adopted.extend(snapshots.iter().filter(|info| is_adoptable(info, now)).cloned());
            snapshots = self.adopting(&adopted, filter, snapshots);
            let unusual = find(&snapshots);
            let ids: BTreeSet<SnapshotId> =
                unusual.iter().flat_map(|anomaly| anomaly.snapshots.iter().copied()).collect();
            adopted.extend(snapshots.iter().filter(|info| ids.contains(&info.id)).cloned());
            if !ids.is_empty() {
                snapshots = self.adopting(&adopted, filter, snapshots);
            }
        }
        let unusual = find(&snapshots);
        (snapshots, adopted, unusual)
    }

    /// The snapshots that `filter` matches, oldest first.
    fn matched(&self, filter: &SnapshotFilter) -> Vec<SnapshotInfo> {
        let all = &self.list.snapshots;
        let matches = |info: &&SnapshotInfo| filter.matches(&info.snapshot);
        match &filter.job {
            Some(job) => {
                let places = self.of_jobs.get(job).into_iter().flatten();
                places.map(|at| &all[*at]).filter(matches).cloned().collect()
            }
            None => all.iter().filter(matches).cloned().collect(),
        }
    }

    /// The matched snapshots again, if these are adopted.
    fn adopting(
        &self,
        adopted: &[SnapshotInfo],
        filter: &SnapshotFilter,
        matched: Vec<SnapshotInfo>,
    ) -> Vec<SnapshotInfo> {
        if adopted.is_empty() {
            return matched;
        }
        let (snapshots, evidence) = (self.list.snapshots.clone(), self.list.evidence.clone());
        let mut list = SnapshotList { snapshots, evidence, ..SnapshotList::default() };
        list.evidence.adopt(adopted.iter().map(|info| info.id));
        list.settle(self.present.time());
        list.snapshots.retain(|info| filter.matches(&info.snapshot));
        list.snapshots
    }

    fn complete(&self, candidate: Candidate) -> Candidate {
        Candidate {
            hold: self.holds.get(&candidate.id).cloned(),
            verified: self.verified.contains(&candidate.id),
            ..candidate
        }
    }
}

/// True if a maintainer may vouch for the own time. A date in the future stays disputed: it belongs
/// to a wrong clock.
fn is_adoptable(info: &SnapshotInfo, now: Timestamp) -> bool {
    info.effective.is_disputed() && info.effective.own() <= now
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

/// In the order of `snapshots`, with the times of their receipts.
async fn candidates(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    cx: &Context,
) -> Result<Vec<Candidate>> {
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let read = |(index, info): (usize, SnapshotInfo)| async move {
        cx.check_cancelled()?;
        let received = repository.received(&info.id).await?;
        Ok::<_, Error>(Candidate { received, ..Candidate::of(index, &info) })
    };
    let listed: Vec<(usize, SnapshotInfo)> = snapshots.iter().cloned().enumerate().collect();
    futures::stream::iter(listed).map(read).buffered(concurrency).try_collect().await
}

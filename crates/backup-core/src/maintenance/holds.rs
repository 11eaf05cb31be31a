//! What nobody may forget: snapshots that somebody holds, and those of jobs that promise a minimum
//! age.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::copy::CopiedSnapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{open_json, seal_json};
use crate::id::SnapshotId;
use crate::repository::{Repository, SnapshotInfo, layout};
use crate::retention::{Hold, before};
use crate::sink::{Key, SinkErrorKind, SinkOps};

/// How old a job's snapshots must be before they may be forgotten. All promises count: a later one
/// takes nothing away from an earlier one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Promise {
    minimum_ages: Vec<Span>,
}

/// Promises of several jobs.
#[derive(Debug, Default)]
pub(super) struct Promises(BTreeMap<String, Promise>);

impl Promises {
    /// Those of the jobs that made these snapshots.
    pub(super) async fn of(repository: &Repository, snapshots: &[SnapshotInfo]) -> Result<Self> {
        let mut promises = Self::default();
        for job in snapshots.iter().filter_map(|info| info.snapshot.tag("job")) {
            if !promises.0.contains_key(job) {
                let promise = repository.read_note(&layout::minimum_age(job)).await?;
                promises.0.insert(job.to_owned(), promise.unwrap_or_default());
            }
        }
        Ok(promises)
    }

    /// Whether a snapshot is too young to be forgotten.
    pub(super) fn protect(
        &self,
        info: &SnapshotInfo,
        received: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let promise = info.snapshot.tag("job").and_then(|job| self.0.get(job));
        // The latest of all times: an earlier date does not make it older.
        let own = info.effective.own().min(now);
        let born = received.unwrap_or(own).max(own).max(info.time());
        let too_young = |age: &Span| born > before(now, *age, &TimeZone::UTC);
        promise.is_some_and(|promise| promise.minimum_ages.iter().any(too_young))
    }
}

impl Repository {
    /// Keeps a snapshot, whatever a policy says, until the hold ends. Replaces an earlier hold.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such snapshot; those of the sink.
    pub async fn hold(&self, id: &SnapshotId, hold: &Hold) -> Result<()> {
        self.require_writable()?;
        if !self.sink().exists(&layout::snapshot(id)).await? {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no snapshot {}", id.short()),
            )
            .with_hint(
                "list the snapshots with `backup list`, or bring back a forgotten one with `backup \
                 undo-forget`",
            ));
        }
        self.sink().put_bytes(&layout::hold(id), seal_json(self.key(), hold)?).await?;
        Ok(())
    }

    /// Ends a hold; says whether there was one.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn release(&self, id: &SnapshotId) -> Result<bool> {
        self.require_writable()?;
        let there = self.sink().exists(&layout::hold(id)).await?;
        self.sink().delete_one(&layout::hold(id)).await?;
        Ok(there)
    }

    /// All holds, also those that have ended.
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Damaged`] for a hold that cannot be read, because then
    /// nobody knows what it says.
    pub async fn holds(&self) -> Result<BTreeMap<SnapshotId, Hold>> {
        let named = self.sink().list_all(&layout::holds()).await?;
        let ids: Vec<SnapshotId> =
            named.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect();
        let read = |id: SnapshotId| async move {
            let hold: Option<Hold> = self.read_note(&layout::hold(&id)).await?;
            Ok::<_, Error>(hold.map(|hold| (id, hold)))
        };
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let holds: Vec<_> = futures::stream::iter(ids)
            .map(read)
            .buffer_unordered(concurrency)
            .try_collect()
            .await?;
        Ok(holds.into_iter().flatten().collect())
    }

    /// Promises that no snapshot of a job is forgotten before it is so old. What was promised once
    /// is never taken back.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn protect_job(&self, job: &str, minimum_age: Span, cx: &Context) -> Result<()> {
        let key = layout::minimum_age(job);
        let mut promise: Promise = self.read_note(&key).await?.unwrap_or_default();
        let now = cx.clock.now();
        let born = |age: &Span| before(now, *age, &TimeZone::UTC);
        if promise.minimum_ages.iter().any(|promised| born(promised) <= born(&minimum_age)) {
            return Ok(());
        }
        self.require_writable()?;
        promise.minimum_ages.push(minimum_age);
        self.sink().put_bytes(&key, seal_json(self.key(), &promise)?).await?;
        Ok(())
    }

    /// Those of the snapshots that must not be forgotten yet, each with the reason as
    /// [`Self::forget`] would give it. Holds and minimum ages end by [`Self::present`].
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Damaged`] for a hold or a promise that cannot be read.
    pub async fn protected(
        &self,
        snapshots: &[SnapshotInfo],
        cx: &Context,
    ) -> Result<Vec<(SnapshotId, Error)>> {
        let mut protected = Vec::new();
        let now = Box::pin(self.present(cx)).await?.time();
        let holds = self.holds().await?;
        let promises = Promises::of(self, snapshots).await?;
        for info in snapshots {
            let id = info.id.short();
            if let Some(hold) = holds.get(&info.id).filter(|hold| hold.is_in_force(now)) {
                let error = Error::new(
                    ErrorKind::Invalid,
                    format!("snapshot {id} is held: {}", hold.reason),
                )
                .with_hint(format!("run `backup release {id}` to end the hold"));
                protected.push((info.id, error));
            } else if promises.protect(info, self.received(&info.id).await?, now) {
                let job = info.snapshot.tag("job").unwrap_or_default();
                let message = format!(
                    "snapshot {id} is younger than the minimum age that job {job} guarantees"
                );
                let error = Error::new(ErrorKind::Invalid, message).with_hint(
                    "forget the snapshot when it has reached that age; every command enforces the \
                     guarantee",
                );
                protected.push((info.id, error));
            }
        }
        Ok(protected)
    }

    /// Fails if one of these snapshots must not be forgotten yet.
    pub(super) async fn require_free(
        &self,
        snapshots: &[SnapshotInfo],
        cx: &Context,
    ) -> Result<()> {
        self.protected(snapshots, cx)
            .await?
            .into_iter()
            .next()
            .map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Makes the holds and promises of another repository those of this one, which takes its place.
    /// `copies` are the snapshots that were copied from there. What is promised here already stays.
    ///
    /// # Errors
    /// Those of the sinks; [`ErrorKind::Damaged`] for a hold or a promise that cannot be read.
    pub async fn take_over_protection(&self, from: &Self, copies: &[CopiedSnapshot]) -> Result<()> {
        self.require_writable()?;
        let holds = from.holds().await?;
        for copy in copies {
            if let (Some(hold), Some(id)) = (holds.get(&copy.from), copy.to) {
                self.hold(&id, hold).await?;
            }
        }
        for meta in from.sink().list_all(&layout::minimum_ages()).await? {
            let theirs: Promise = from.read_note(&meta.key).await?.unwrap_or_default();
            let mut promise: Promise = self.read_note(&meta.key).await?.unwrap_or_default();
            let new = theirs.minimum_ages.into_iter().filter(|age| {
                !promise.minimum_ages.iter().any(|own| own.fieldwise() == age.fieldwise())
            });
            let new: Vec<Span> = new.collect();
            if !new.is_empty() {
                promise.minimum_ages.extend(new);
                self.sink().put_bytes(&meta.key, seal_json(self.key(), &promise)?).await?;
            }
        }
        Ok(())
    }

    /// A small sealed object, if it is there.
    pub(in crate::maintenance) async fn read_note<T: DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<T>> {
        match self.sink().get_bytes(key).await {
            Ok(sealed) => {
                open_json(self.key(), &sealed).map(Some).map_err(|error| error.context(key))
            }
            Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

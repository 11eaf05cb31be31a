//! Renewing the locks that keep objects from being deleted.

use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{IndexedRepository, layout};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::sink::{Custody, Key};

/// What a renewal of locks found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LockReport {
    /// Objects that are to be locked.
    pub objects: u64,
    /// Those whose lock was renewed.
    pub renewed: u64,
    /// Those among them that were not locked at all.
    pub unlocked: u64,
    /// Objects whose lock could not be renewed.
    pub failed: u64,
    /// Why not, of the first few.
    pub failures: Vec<String>,
}

/// Failures that are named.
const MAX_NAMED: usize = 20;

impl IndexedRepository {
    /// Renews the locks of everything that snapshots can need, where less than half of the period
    /// is left; `None` if objects are not locked here. Packs that no index lists are left to
    /// expire, unless part of the index is damaged.
    ///
    /// # Errors
    /// Those of listing, and cancellation. What fails for a single object is in the report, and
    /// keeps no other from being renewed.
    pub async fn renew_locks(&self, cx: &Context) -> Result<Option<LockReport>> {
        let repository = self.repository();
        let Some(custody) = repository.sink().custody() else {
            return Ok(None);
        };
        let Some(period) = custody.lock_period() else {
            return Ok(None);
        };
        // The few that everything depends on come first.
        let mut keys = vec![layout::config()];
        for prefix in [layout::keys(), layout::snapshots(), layout::indexes()] {
            keys.extend(repository.list(&prefix).await?.into_iter().map(|meta| meta.key));
        }
        if self.damaged_indexes().is_empty() {
            self.index().for_each_pack(&mut |pack| {
                keys.extend((!pack.is_given_up()).then(|| layout::pack(&pack.id)));
            });
        } else {
            keys.extend(repository.list(&layout::packs()).await?.into_iter().map(|meta| meta.key));
        }
        let concurrency = repository.sink().capabilities().concurrency.max(1);
        let now = cx.clock.now();
        let mut report = LockReport { objects: keys.len() as u64, ..LockReport::default() };
        let mut renewals = futures::stream::iter(keys)
            .map(|key| {
                let custody = &*custody;
                async move {
                    cx.check_cancelled()?;
                    Ok::<_, Error>((renew(custody, &key, now, period).await, key))
                }
            })
            .buffer_unordered(concurrency);
        while let Some(renewal) = renewals.next().await {
            let (renewal, key) = renewal?;
            match renewal {
                Ok(renewal) => {
                    report.renewed += u64::from(renewal != Renewal::NotDue);
                    report.unlocked += u64::from(renewal == Renewal::WasUnlocked);
                }
                Err(error) => {
                    report.failed += 1;
                    if report.failures.len() < MAX_NAMED {
                        report.failures.push(format!("{key}: {}", error.chain()));
                    }
                }
            }
        }
        Ok(Some(report))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    NotDue,
    Renewed,
    WasUnlocked,
}

async fn renew(
    custody: &dyn Custody,
    key: &Key,
    now: Timestamp,
    period: Duration,
) -> Result<Renewal> {
    let until = |duration: Duration| {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        now.checked_add(duration).unwrap_or(Timestamp::MAX)
    };
    let locked = custody.locked_until(key).await?;
    if locked.is_some_and(|locked| locked > until(period / 2)) {
        return Ok(Renewal::NotDue);
    }
    custody.lock_until(key, until(period)).await?;
    Ok(if locked.is_some() { Renewal::Renewed } else { Renewal::WasUnlocked })
}

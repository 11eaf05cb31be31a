//! Uploads in parts that killed sessions left in a store: a prune removes them once they are old.
#![expect(clippy::unwrap_used, reason = "tests: what must not happen fails them")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::{
    Availability, Custody, Key, Operation, SinkError, SinkErrorKind, SinkResult, ThawSpeed,
};
use backup_core::testing::{FakeClock, MemorySink};
use jiff::{SignedDuration, Timestamp};

/// The beginnings of unfinished uploads, and the answer to their removal.
#[derive(Debug, Default)]
struct Uploads {
    begun: Mutex<Vec<Timestamp>>,
    refuses: bool,
}

#[async_trait]
impl Custody for Uploads {
    fn lock_period(&self) -> Option<Duration> {
        None
    }

    async fn locked_until(&self, _key: &Key) -> SinkResult<Option<Timestamp>> {
        Ok(None)
    }

    async fn lock_until(&self, key: &Key, _until: Timestamp) -> SinkResult<()> {
        Err(SinkError::new(SinkErrorKind::Unsupported, Operation::Put, key))
    }

    async fn availability(&self, _key: &Key) -> SinkResult<Availability> {
        Ok(Availability::Ready)
    }

    async fn thaw(&self, _key: &Key, _days: u32, _speed: ThawSpeed) -> SinkResult<()> {
        Ok(())
    }

    async fn clear_unfinished(&self, before: Timestamp) -> SinkResult<u64> {
        if self.refuses {
            return Err(SinkError::on(SinkErrorKind::PermissionDenied, Operation::List, ""));
        }
        let mut begun = self.begun.lock().unwrap();
        let count = begun.len();
        begun.retain(|begun| *begun >= before);
        Ok((count - begun.len()) as u64)
    }
}

/// Prunes at noon a store whose uploads began these hours ago; returns the hours that are left and
/// the reported number.
async fn pruned(grace: u64, hours: &[i64], refuses: bool, dry_run: bool) -> (Vec<i64>, u64) {
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let begun = hours.iter().map(|hours| noon - SignedDuration::from_hours(*hours)).collect();
    let uploads = Arc::new(Uploads { begun: Mutex::new(begun), refuses });
    let clock = Arc::new(FakeClock::at(noon));
    let cx = Context { clock: clock.clone(), ..Context::silent() };
    let sink = Arc::new(MemorySink::with_custody(clock, uploads.clone()));
    let passphrase = Passphrase::new("correct horse");
    let repository =
        Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await.unwrap();
    let grace = Duration::from_secs(grace * 3600);
    let options = PruneOptions { grace, dry_run, ..PruneOptions::default() };
    let report = prune(&repository, &options, &cx).await.unwrap();
    let left = uploads.begun.lock().unwrap();
    let left = left.iter().map(|begun| begun.duration_until(noon).as_hours()).collect();
    (left, report.cleared_uploads)
}

#[tokio::test]
async fn prune_removes_uploads_that_were_abandoned_for_a_day_and_the_grace_period() {
    let begun = [1, 23, 25, 47, 49, 500];
    assert_eq!(pruned(0, &begun, false, false).await, (vec![1, 23], 4));
    assert_eq!(pruned(48, &begun, false, false).await, (vec![1, 23, 25, 47], 2));
    assert_eq!(pruned(0, &begun, false, true).await, (begun.to_vec(), 0));
}

#[tokio::test]
async fn prune_succeeds_where_uploads_may_not_be_listed() {
    assert_eq!(pruned(0, &[500], true, false).await, (vec![500], 0));
}

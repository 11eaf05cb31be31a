//! Sizes of backups, compared over many of them. Each size is the bytes of one daily backup.

use super::*;

const RULE: &str = "size_anomaly > 50%";

/// A job whose daily backups have these sizes; the last one was made on the day of the last size.
struct Job {
    dir: tempfile::TempDir,
    first: Timestamp,
    runs: Vec<Run>,
}

impl Job {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), first: now(), runs: Vec::new() }
    }

    fn back_up(&mut self, kind: &str, bytes: u64) -> Option<bool> {
        let started = self.first + SignedDuration::from_hours(24 * self.runs.len() as i64);
        let mut run = run(0, 1, State::Verified);
        (run.started, run.finished) = (started, Some(started + SignedDuration::from_mins(1)));
        (run.evidence.bytes, run.evidence.subject) = (bytes, "mongodb://db1/".into());
        run.evidence.kind = Some(kind.into());
        self.runs.insert(0, run);
        self.evaluate()
    }

    /// Evaluates the rule after the last backup; the catalog holds the newest 25.
    fn evaluate(&self) -> Option<bool> {
        let mut known = facts(self.runs.iter().take(25).cloned().collect());
        let now = self.runs[0].started + SignedDuration::from_mins(2);
        let rules = [("r".to_owned(), of(RULE))].into();
        let mut ledger = open(self.dir.path(), "c");
        ledger.remember(&mut known, &rules, now);
        let observed = observe("r", &rules["r"], &known, now).unwrap();
        ledger.observe("r", &rules["r"], &observed, "host", |_| true, now);
        ledger.save().unwrap();
        observed.first().map(|observed| observed.holds)
    }

    fn back_up_all(&mut self, sizes: &[u64]) -> Vec<Option<bool>> {
        sizes.iter().map(|bytes| self.back_up("full", *bytes)).collect()
    }

    fn fires(&self) -> bool {
        open(self.dir.path(), "c").alerts().len() == 1
    }
}

#[test]
fn size_is_compared_with_the_median_both_ways() {
    for (bytes, expected) in [(400, true), (500, false), (1500, false), (1501, true)] {
        let mut job = Job::new();
        job.back_up_all(&[1000, 1000, 1000]);
        assert_eq!(job.back_up("full", bytes), Some(expected), "{bytes}");
    }
    assert_eq!(Job::new().back_up("full", 1000), None, "the first one");
    // One outlier is no reference: the mean of the others would be 2800.
    let mut job = Job::new();
    assert_eq!(
        job.back_up_all(&[1000, 1000, 10_000, 1000, 1100])[2..],
        [Some(true), Some(false), Some(false)]
    );
}

/// The backups after it are as empty: the database is empty still.
#[test]
fn size_of_an_emptied_database_stays_unusual() {
    let mut job = Job::new();
    job.back_up_all(&[1000; 5]);
    for day in 0..28 {
        assert_eq!(job.back_up("full", 10), Some(true), "day {day}");
        assert!(job.fires());
    }
    assert_eq!(job.back_up("full", 1000), Some(false), "restored");
    assert!(!job.fires());
    assert_eq!(job.back_up("full", 1000), Some(false), "the anomaly is no reference");
    assert_eq!(job.back_up("full", 10), Some(true));
}

#[test]
fn size_after_thirty_days_of_an_anomaly_is_usual() {
    let mut job = Job::new();
    job.back_up_all(&[1000; 5]);
    let grown = job.back_up_all(&[4000; 40]);
    let accepted = grown.iter().position(|holds| *holds == Some(false)).unwrap();
    assert_eq!(accepted, 30, "two minutes after the backup that follows 30 days later");
    assert!(grown[accepted..].iter().all(|holds| *holds == Some(false)) && !job.fires());
}

#[test]
fn size_grows_slowly_without_an_alert() {
    let mut job = Job::new();
    let sizes: Vec<u64> = (0..40).map(|day| (1000.0 * 1.05_f64.powi(day)) as u64).collect();
    let found = job.back_up_all(&sizes);
    assert!(found[1..].iter().all(|holds| *holds == Some(false)), "{found:?}");
}

/// An incremental backup of a database holds its changes only.
#[test]
fn size_of_incremental_backups_counts_for_files_only() {
    let mut job = Job::new();
    job.back_up_all(&[1000; 3]);
    assert_eq!(job.back_up("incremental", 5), Some(false), "the last full one is usual");
    assert_eq!(job.back_up("full", 10), Some(true));
    assert_eq!(job.back_up("incremental", 5), Some(true), "the last full one is not");
    let mut known = facts(vec![run(1, 1, State::Verified)]);
    let shop = known.jobs.get_mut("shop").unwrap();
    shop.runs[0].evidence.kind = Some("incremental".into());
    assert!(shop.complete().is_empty());
    shop.always_whole = true;
    assert_eq!(shop.complete().len(), 1);
}

#[test]
fn size_of_another_source_is_not_compared() {
    let mut job = Job::new();
    job.back_up_all(&[1000; 3]);
    job.back_up("full", 10);
    job.runs[0].evidence.subject = "mongodb://db2/".into();
    let other = Job { dir: tempfile::tempdir().unwrap(), first: job.first, runs: job.runs };
    assert_eq!(other.evaluate(), None);
}

#[test]
fn size_after_empty_backups_is_unknown() {
    let mut job = Job::new();
    let found = job.back_up_all(&[0, 0, 1000, 1000, 1000, 1000, 1000, 1000]);
    assert!(found.iter().all(|holds| *holds != Some(true)), "{found:?}");
    assert_eq!(job.back_up("full", 0), Some(true));
}

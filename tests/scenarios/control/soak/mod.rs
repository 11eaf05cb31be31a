//! A soak of `examples/aquarium.toml` under the daemon, with one busy and one idle server of each
//! kind: first no alert arrives, then one for the begin and one for the end of each planted fault.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | the phases of the soak, and the notifications that count |
//! | `faults.rs` | the eight faults: how they are planted and mended |
//!
//! Schedules and limits are written in minutes of the daemon's clock. In CI such a minute lasts three
//! seconds: the soak takes six minutes. With `BACKUP_TEST_LONG` it is a minute: two hours. The
//! processes that the daemon starts use the clock of the system. Limits that the clock of the daemon
//! does not scale (durations of backups, ages of logs) are the same in both cases.

mod faults;

use std::time::{Duration, Instant};

use self::faults::{Fault, Faults};
use super::Place;
use super::aquarium::{self, JOBS, Servers};
use super::daemon::Daemon;
use crate::support::long::long;
use crate::support::receiver::{Received, Receiver};

/// Minutes of the phase without a fault.
const QUIET: u64 = 45;
/// Minutes that a phase may take at most: a limit for tests that fail.
const LIMIT: u64 = 180;

/// Speed of the daemon's clock.
#[derive(Debug, Clone, Copy)]
struct Pace {
    factor: i32,
}

impl Pace {
    fn chosen() -> Self {
        // Faster, a busy machine makes backups late by the limits of the test: true alerts.
        Self { factor: if long() { 1 } else { 20 } }
    }

    /// The real length of minutes of the daemon's clock.
    fn minutes(self, minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60 / u64::from(self.factor.unsigned_abs()))
    }

    /// The same for a configuration.
    fn written(self, minutes: u64) -> String {
        format!("{}s", self.minutes(minutes).as_secs())
    }
}

/// A notification: rule, job or repository, kind.
type Notification = (String, String, String);

fn notification(rule: &str, subject: &str, kind: &str) -> Notification {
    (rule.to_owned(), subject.to_owned(), kind.to_owned())
}

/// Requests to one channel.
fn received(receiver: &Receiver, channel: &str) -> Vec<Received> {
    let mut all = receiver.received();
    all.retain(|request| request.head.target() == channel);
    all
}

/// The notifications of the channel that all rules name, in order of arrival.
fn notified(receiver: &Receiver) -> Vec<Notification> {
    let parsed = received(receiver, "/watch").into_iter().map(|request| {
        let body = request.json();
        // host/rule/subject
        let incident = body["incident"].as_str().unwrap();
        let mut parts = incident.rsplit('/');
        let (subject, rule) = (parts.next().unwrap(), parts.next().unwrap());
        let subject = body["job"].as_str().unwrap_or(subject);
        notification(rule, subject, body["kind"].as_str().unwrap())
    });
    parsed.collect()
}

/// Notifications with their texts, for failures.
fn shown(receiver: &Receiver) -> String {
    let bodies = received(receiver, "/watch").into_iter().map(|request| request.body);
    bodies.collect::<Vec<_>>().join("\n")
}

/// Waits until every job was backed up, verified and copied often enough for all rules to have a
/// value. No notification may arrive.
async fn quiet(daemon: &Daemon, receiver: &Receiver, pace: Pace) {
    let began = Instant::now();
    let ended = |journal: &str, task: &str| {
        let line = format!("{task}: ended successfully");
        journal.lines().filter(|found| found.contains(&line)).count()
    };
    loop {
        let journal = daemon.said();
        assert_eq!(receiver.received().len(), 0, "{}\n{journal}", shown(receiver));
        let backups = JOBS.iter().all(|job| {
            // The usual duration is the average of five backups, the one by hand included.
            ended(&journal, &format!("{}/backup", job.name)) >= job.backups
                && ended(&journal, &format!("{}/verify", job.name)) >= 2
        });
        let copies = ["copy/aws", "copy/google"].iter().all(|task| ended(&journal, task) >= 1);
        let is_over = began.elapsed() >= pace.minutes(QUIET);
        if is_over && backups && copies && ended(&journal, "alerts") >= 8 {
            assert!(!journal.contains("ended with exit code"), "{journal}");
            return;
        }
        assert!(began.elapsed() < pace.minutes(LIMIT), "tasks are missing:\n{journal}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Plants all faults, mends each once it was notified, and waits until all are resolved.
async fn faulty(mut faults: Faults<'_>, daemon: &Daemon, receiver: &Receiver, pace: Pace) {
    for fault in Fault::ALL {
        faults.plant(fault).await;
    }
    let (began, mut standing) = (Instant::now(), Fault::ALL.to_vec());
    loop {
        let got = notified(receiver);
        for fault in Fault::ALL {
            if standing.contains(&fault) && got.contains(&fault.begin()) {
                faults.mend(fault).await;
                standing.retain(|other| *other != fault);
            }
        }
        let left: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| !got.contains(&fault.end())).collect();
        if left.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < pace.minutes(LIMIT),
            "not notified: {standing:?}, not resolved: {left:?}\n{}\n{}",
            shown(receiver),
            daemon.said()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

mod needs_aquarium {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn alerts_arrive_once_for_each_fault_and_never_without_one() {
        let pace = Pace::chosen();
        let receiver = aquarium::receiver();
        let servers = Servers::start().await;
        let place: Place = servers.place(&receiver.url(), &pace.written(40));
        // Tasks that verify snapshots find one of each job.
        place.done(&["run", "aquarium", "analytics", "subscriptions", "history", "reference"]);
        let writing = servers.write().await;
        let mut daemon = Daemon::start(&place, "daemon.log", pace.factor, super::super::now());
        quiet(&daemon, &receiver, pace).await;
        faulty(Faults::new(&place, &servers), &daemon, &receiver, pace).await;
        // Two evaluations later there is nothing new.
        tokio::time::sleep(pace.minutes(11)).await;
        let mut expected: Vec<Notification> =
            Fault::ALL.iter().flat_map(|fault| [fault.begin(), fault.end()]).collect();
        let mut got = notified(&receiver);
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "{}\n{}", shown(&receiver), daemon.said());
        // The rules of the example: failures go to three channels, storage to the first one,
        // durations to the second one; each alert begins and ends.
        for (channel, count) in [("/ops", 4), ("/slack", 4), ("/v2/enqueue", 2)] {
            assert_eq!(received(&receiver, channel).len(), count, "{channel}");
        }
        writing.stop().await;
        daemon.stop();
    }
}

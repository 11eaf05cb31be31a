//! The daemon with databases that are written all the time: short schedules, logs without a break,
//! killed in the middle with all that it has begun. At the end every snapshot is sound, and every
//! moment can be restored, those around its death too.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

use super::groups::{CONFIG, Servers, require_order, restored};
use super::{Place, now};
use crate::support::cli::built;
use crate::support::receiver::{Receiver, Reply};

/// Limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// The group every ten minutes, which are seconds, and alerts every five.
fn config() -> String {
    let config = CONFIG.replace("parallel = 3", "parallel = 3\n    schedule = \"*/10 * * * *\"");
    format!(
        "[schedule]\n per_source_host = 8\n time_zone = \"UTC\"\n\
         [alerts.failed]\n condition = \"failure\"\n severity = \"high\"\n{config}"
    )
}

pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with a clock that begins at `from` and goes `factor` times as fast as time does.
    pub(super) fn start(place: &Place, log: &str, factor: i32, from: Timestamp) -> Self {
        let log = place.path(log);
        // As the program has it.
        let like = place.command(&[]);
        let mut command = Command::new(built("backup-daemon", "backupd"));
        command.args(["run", "--accelerate", &factor.to_string()]);
        command.args(["--accelerate-from", &from.to_string()]);
        command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("BACKUP_PROGRAM", like.get_program()).stdin(Stdio::null());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    /// Starts it with a clock that shows `time` now.
    fn showing(place: &Place, time: Timestamp, factor: i32) -> Self {
        // Where this clock and that of the system show the same.
        let from = now() + now().duration_since(time) / (factor - 1);
        Self::start(place, "daemon.log", factor, from)
    }

    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until `count` lines of the journal contain `words`.
    fn wait_for(&mut self, count: usize, words: &str) {
        let began = Instant::now();
        while self.said().lines().filter(|line| line.contains(words)).count() < count {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "{words}: {ended:?}\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills it with all that it has begun, as the manager of services does.
    fn kill(&mut self) {
        let pid = self.child.id();
        let own = Path::new("/proc").join(pid.to_string()).join("task");
        let threads =
            std::fs::read_dir(own).unwrap().map(|thread| thread.unwrap().path().join("children"));
        let children: Vec<i32> = threads
            .flat_map(|file| {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                text.split_whitespace().map(|child| child.parse().unwrap()).collect::<Vec<_>>()
            })
            .collect();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(children.len() >= 3, "three logs are followed: {children:?}");
        for child in children {
            // It may have ended.
            _ = kill_process(Pid::from_raw(child).unwrap(), Signal::KILL);
        }
    }

    pub(super) fn stop(&mut self) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until a moment can be restored.
fn wait_for_moment(place: &Place, servers: &Servers, moment: Timestamp) {
    let never = place.path("never");
    let to = |job: &str| format!("--target={job}={}", never.join(job).display());
    let (crm, cache, moment) = (to("crm"), to("cache"), moment.to_string());
    let [_, (_, events), _] = servers.environment();
    let events = format!("--target=events={events}");
    let began = Instant::now();
    loop {
        let restore = ["restore", "platform", "--at", &moment, "--dry-run", "--if-exists=merge"];
        let done = place.run(&[&restore[..], &[&crm, &cache, &events]].concat());
        if done.code == 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the logs do not get there: {done}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The report of the week arrives on Monday morning.
#[test]
fn weekly_report_of_the_daemon_arrives_once() {
    let receiver = Receiver::start(|_| Reply::status(200));
    let config = format!(
        r#"
        [repositories.main]
        url = "ROOM/main"
        [sources.home]
        kind = "files"
        paths = ["ROOM/uploads"]
        [jobs.home]
        source = "home"
        repository = "main"
        [schedule]
        time_zone = "UTC"
        report = "0 8 * * 1"
        report_to = ["ops"]
        [notify.ops]
        kind = "webhook"
        url = "{}/ops"
        allow_http = true
        severity = "info"
        "#,
        receiver.url()
    );
    let place = Place::new(&config, &[]);
    std::fs::create_dir(place.path("uploads")).unwrap();
    std::fs::write(place.path("uploads/picture"), "a picture").unwrap();
    place.done(&["init"]);
    place.done(&["run", "home"]);
    // A Monday.
    let mut daemon = Daemon::showing(&place, "2026-11-23T07:20:00Z".parse().unwrap(), 300);
    daemon.wait_for(1, "report: ended successfully");
    std::thread::sleep(Duration::from_secs(3));
    daemon.stop();
    let message = receiver.only().json();
    let report = message["details"]["report"].as_str().unwrap();
    assert!(report.starts_with("# Backup report"), "{message}");
    assert!(report.contains("| home | 1 | 0 | 100.0% |"), "{report}");
}

/// A cache whose schedule comes from the environment.
const NIGHTLY: &str = r#"
    [schedule]
    time_zone = "Europe/Berlin"
    [repositories.main]
    url = "ROOM/main"
    [sources.cache]
    kind = "redis"
    url = "${CACHE}"
    [jobs.cache]
    source = "cache"
    repository = "main"
    schedule = "${CACHE_SCHEDULE:-0 12 * * *}"
"#;

mod needs_redis_8_0 {
    use super::*;
    use crate::support::redis::{Redis, Version};

    /// Half past two does not exist in the night in which clocks go forward, and exists twice in the
    /// night in which they go back. Five minutes are a second; times are UTC.
    #[test]
    fn nightly_backup_starts_once_when_clocks_change() {
        for (from, seconds, range) in [
            ("2026-03-29T00:20:00Z", 18, "2026-03-29T01:00:00Z".."2026-03-29T01:29:00Z"),
            ("2026-10-24T23:50:00Z", 24, "2026-10-25T00:30:00Z".."2026-10-25T00:59:00Z"),
        ] {
            let server = Redis::start(Version::Redis8);
            server.run(&["SET", "session:1", "a user"]);
            let environment =
                [("CACHE", server.address()), ("CACHE_SCHEDULE", "30 2 * * *".to_owned())];
            let place = Place::new(NIGHTLY, &environment);
            place.done(&["init"]);
            let mut daemon = Daemon::showing(&place, from.parse().unwrap(), 300);
            std::thread::sleep(Duration::from_secs(seconds));
            daemon.wait_for(1, "cache/backup: ended successfully");
            daemon.stop();
            let said = daemon.said();
            let started: Vec<&str> =
                said.lines().filter(|line| line.contains("cache/backup: started")).collect();
            assert_eq!(started.len(), 1, "{said}");
            let time = started[0].split(' ').next().unwrap();
            assert!(range.contains(&time), "{time} is not within {range:?}\n{said}");
            let files = place.path("restored");
            place.done(&["restore", "latest", "--target", files.to_str().unwrap()]);
            let copy = Redis::on(Version::Redis8, Some(&files), &["--appendonly", "no"]);
            assert_eq!(copy.run(&["GET", "session:1"]).text(), "a user");
        }
    }
}

mod needs_platform {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_the_daemon_is_killed_and_every_moment_can_be_restored() {
        let servers = Servers::start().await;
        let place = Place::new(&config(), &servers.environment());
        std::fs::create_dir(place.path("uploads")).unwrap();
        std::fs::write(place.path("uploads/picture"), "a picture").unwrap();
        for repository in ["first", "second"] {
            place.done(&["init", "-r", repository]);
        }
        let end = Arc::new(AtomicBool::new(false));
        let writing = servers.write(Arc::clone(&end)).await;
        let from = now() - SignedDuration::from_mins(1);
        let mut first = Daemon::start(&place, "first.log", 60, from);
        first.wait_for(2, "platform/backup: ended successfully");
        let backed_up = now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        first.wait_for(3, "platform/backup: started");
        let killed = now();
        first.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut second = Daemon::start(&place, "second.log", 60, from);
        second.wait_for(2, "platform/backup: ended");
        second.wait_for(1, "alerts: ended successfully");
        let last = now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        end.store(true, Ordering::Relaxed);
        let written = writing.await.unwrap();
        wait_for_moment(&place, &servers, last);
        second.stop();

        for repository in ["first", "second"] {
            place.done(&["verify", "--all", "-r", repository]);
        }
        let alive = backed_up + (killed.duration_since(backed_up) / 2);
        for (number, moment) in
            [alive, killed, killed + SignedDuration::from_secs(2), last].into_iter().enumerate()
        {
            let found = restored(&place, &moment.to_string(), number).await;
            require_order(moment, found, &written);
        }
    }
}

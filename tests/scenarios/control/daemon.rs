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

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The group every ten minutes, which are seconds, and alerts every five.
fn config() -> String {
    let config = CONFIG.replace("parallel = 3", "parallel = 3\n    schedule = \"*/10 * * * *\"");
    format!(
        "[schedule]\n per_source_host = 8\n time_zone = \"UTC\"\n\
         [alerts.failed]\n condition = \"failure\"\n severity = \"high\"\n{config}"
    )
}

struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(place: &Place, log: &str, from: Timestamp) -> Self {
        let log = place.path(log);
        // As the program has it.
        let like = place.command(&[]);
        let mut command = Command::new(built("backup-daemon", "backupd"));
        command.args(["run", "--accelerate", "60", "--accelerate-from", &from.to_string()]);
        command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("BACKUP_PROGRAM", like.get_program()).stdin(Stdio::null());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until something was said so often.
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

    fn stop(&mut self) {
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
        let mut first = Daemon::start(&place, "first.log", from);
        first.wait_for(2, "platform/backup: ended successfully");
        let backed_up = now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        first.wait_for(3, "platform/backup: started");
        let killed = now();
        first.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut second = Daemon::start(&place, "second.log", from);
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

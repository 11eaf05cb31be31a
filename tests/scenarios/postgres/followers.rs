//! Several captures of one log: one at a time. The next begins once the death of the first is known.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::logs::newest;
use super::place::{Place, with_role};
use super::program::text_of;
use crate::support::cli::built;
use crate::support::postgres::Version;
use crate::support::process::run;
use crate::support::running::Running;

const FOLLOW: [&str; 3] = ["logs", "follow", "crm"];

/// The lease of a process whose death is not known expires after this time.
const EXPIRY: Duration = Duration::from_secs(60);

/// The process that captures, or captured last, as the lease has it.
fn holder(place: &Place) -> Option<u32> {
    let status = place.run(&["logs", "status", "crm", "--json"]).text();
    let (_, after) = status.split_once("job crm, process ")?;
    after.split_once(" since ")?.0.parse().ok()
}

/// Waits until `process` captures the log.
fn captured_by(place: &Place, process: u32, within: Duration) {
    let began = Instant::now();
    while holder(place) != Some(process) {
        assert!(began.elapsed() < within, "{process} does not capture, {:?} does", holder(place));
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A capture with a state directory of its own, as on another machine.
fn elsewhere(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("BACKUP_STATE_DIR", place.path("elsewhere"));
    command
}

pub(super) async fn second_follower_is_refused_with_the_holder(version: Version) {
    let server = with_role(version, &[], &[]).await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let first = place.spawn(&FOLLOW);
    captured_by(&place, first.id(), EXPIRY * 2);
    let host = run(Command::new("uname").arg("-n")).succeeded().text();
    let named = format!("@{}, job crm, process {} since 20", host.trim(), first.id());
    for mut command in [place.command(&FOLLOW), elsewhere(&place, &FOLLOW)] {
        let began = Instant::now();
        let refused = run(&mut command);
        assert!(began.elapsed() < EXPIRY / 2, "{refused}");
        assert_eq!(refused.code, 11, "{refused}");
        for part in ["the log is already captured by ", &named, "Hint: ", "logs follow --wait"] {
            assert!(refused.stderr.contains(part), "{part}: {refused}");
        }
    }
    // One that waits on this machine takes over at once, and so does one that starts then.
    let waiting = place.spawn(&["logs", "follow", "crm", "--wait"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(holder(&place), Some(first.id()));
    first.kill();
    captured_by(&place, waiting.id(), EXPIRY * 3 / 4);
    waiting.kill();
    let next = place.spawn(&FOLLOW);
    captured_by(&place, next.id(), EXPIRY * 3 / 4);
    server.run("CREATE TABLE captured (id int)").await;
    place.reached(&text_of(&newest(&server).await));
    // On another machine the death is not known.
    next.kill();
    let refused = run(&mut elsewhere(&place, &FOLLOW));
    assert!(refused.code == 11 && refused.stderr.contains("expires in"), "{refused}");
    let mut command = elsewhere(&place, &["logs", "follow", "crm", "--wait"]);
    let other = Running::start(command.stdout(Stdio::null()));
    captured_by(&place, other.id(), EXPIRY * 3);
    // A returned lease does not block the next process.
    other.stop();
    let last = place.spawn(&FOLLOW);
    captured_by(&place, last.id(), EXPIRY * 3 / 4);
    last.stop();
    place.done(&["check"]);
}

/// The daemon starts its capture again when that is killed, and the new one continues at once.
pub(super) async fn daemon_captures_on_after_a_killed_follower(version: Version) {
    let server = with_role(version, &[], &[]).await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let like = place.command(&[]);
    let log = place.path("daemon.log");
    let mut daemon = Command::new(built("backup-daemon", "backupd"));
    daemon.args(["run", "--config", &place.path("backup.toml")]).env_clear();
    daemon.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    daemon.env("BACKUP_PROGRAM", like.get_program()).stdin(Stdio::null());
    let daemon = Running::start(daemon.stderr(File::create(&log).unwrap()));
    let journal = || std::fs::read_to_string(&log).unwrap();
    let began = Instant::now();
    let first = loop {
        if let Some(first) = holder(&place) {
            break first;
        }
        assert!(began.elapsed() < EXPIRY * 2, "nothing is captured: {}", journal());
        std::thread::sleep(Duration::from_millis(300));
    };
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let killed = Instant::now();
    while holder(&place) == Some(first) {
        assert!(killed.elapsed() < EXPIRY * 3 / 4, "the capture does not go on: {}", journal());
        std::thread::sleep(Duration::from_millis(300));
    }
    server.run("CREATE TABLE captured (id int)").await;
    place.reached(&text_of(&newest(&server).await));
    // A second follower is refused with the name of the daemon's.
    let refused = place.fails(11, &FOLLOW);
    let named = format!("process {} since", holder(&place).unwrap());
    assert!(refused.contains(&named), "{refused}");
    daemon.stop();
}

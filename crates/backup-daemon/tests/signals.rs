//! Stopping, reloading, the manager of services, one at a time.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{CONFIG, Place};

/// A job whose backup waits for a file that a test makes.
fn slow() -> String {
    CONFIG.replace(
        "[[jobs.docs.schedule]]",
        "hooks = { before = \"while [ ! -e go ]; do sleep 0.1; done\" }\n[[jobs.docs.schedule]]",
    )
}

const FASTER: [&str; 4] = ["--accelerate", "60", "--accelerate-from", "2026-01-01T00:00:00Z"];

#[test]
fn what_goes_on_comes_to_a_safe_point() {
    let place = Place::new(&slow());
    let mut daemon = place.daemon("log", &FASTER);
    daemon.wait_for(1, "started");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0), "{:#?}", daemon.lines());
    let lines = daemon.lines();
    assert!(
        lines
            .iter()
            .any(|line| line["message"].as_str().unwrap().contains("because the daemon stops")),
        "{lines:#?}"
    );
    // What was cut off is made up for.
    place.write("go", "");
    let mut daemon = place.daemon("log", &FASTER);
    daemon.wait_for(1, "catching up");
    daemon.wait_for(2, "ended successfully");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn one_at_a_time() {
    let place = Place::new(CONFIG);
    let mut daemon = place.daemon("log", &[]);
    daemon.wait_for(1, "is ready");
    let output = place.prepare(env!("CARGO_BIN_EXE_backupd").as_ref()).arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("another scheduler uses") && text.contains("Hint: stop the other scheduler"),
        "{text}"
    );
}

#[test]
fn mistakes() {
    let place = Place::new(CONFIG);
    let run = |args: &[&str], program: &str| {
        let mut command = place.prepare(env!("CARGO_BIN_EXE_backupd").as_ref());
        let output = command.args(args).env("BACKUP_PROGRAM", program).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["run"], "/nowhere/backup");
    assert!(code == Some(1) && text.contains("there is no program /nowhere/backup"), "{text}");
    let (code, text) = run(&["run", "--config", "none.toml"], "/bin/true");
    assert!(code == Some(1) && text.contains("does not exist"), "{text}");
    assert_eq!(run(&["walk"], "/bin/true").0, Some(2));
}

#[test]
fn the_manager_of_services_is_told() {
    let place = Place::new(CONFIG);
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let wait_for = |word: &str| {
        let mut buffer = [0; 4096];
        loop {
            let read = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}"));
            if String::from_utf8_lossy(&buffer[..read]).contains(word) {
                return;
            }
        }
    };
    let path = place.path("notify");
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let mut daemon = place.daemon_with("log", &[], &env);
    wait_for("READY=1");
    wait_for("WATCHDOG=1");

    // A mistake: the old configuration stays, and that is said.
    place.write("backup.toml", &CONFIG.replace("* * * * *", "* * * *"));
    daemon.signal(Signal::HUP);
    wait_for("RELOADING=1");
    wait_for("READY=1");
    daemon.wait_for(1, "the last valid one stays in force");
    let errors = daemon.lines().into_iter().filter(|line| line["level"] == "error").count();
    assert_eq!(errors, 1, "{:#?}", daemon.lines());
    // Mended, with a task less.
    place.write("backup.toml", &CONFIG.replace("cleanup", "check"));
    daemon.signal(Signal::HUP);
    daemon.wait_for(1, "configuration reloaded: 3 tasks");
    wait_for("READY=1");
    daemon.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}

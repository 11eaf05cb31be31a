//! Time zones, on a machine without a database of them.

use crate::common::Place;

/// A job that is backed up once a day.
const CONFIG: &str = r#"
[repositories.main]
url = "repo"
passphrase_file = "key"
[sources.docs]
kind = "files"
paths = ["docs"]
[jobs.docs]
source = "docs"
repository = "main"
schedule = "30 2 * * *"
"#;

#[test]
fn daily_backup_starts_by_the_clock_of_tz() {
    let place = Place::new(CONFIG);
    place.write("empty/none", "");
    std::fs::remove_file(place.path("empty/none")).unwrap();
    let empty = place.path("empty");
    let env = [("TZ", "Europe/Rome"), ("TZDIR", empty.to_str().unwrap())];
    // Rome is two hours ahead of UTC in July: 02:30 there is ten minutes away.
    let faster = ["--accelerate", "300", "--accelerate-from", "2026-07-01T00:20:00Z"];
    let mut daemon = place.daemon_with("log", &faster, &env);
    daemon.wait_for(1, "schedules are in Europe/Rome (from TZ)");
    daemon.wait_for(1, "started");
    let lines = daemon.lines();
    let started = lines.iter().find(|line| line["message"].as_str().unwrap().contains("started"));
    let time = started.unwrap()["time"].as_str().unwrap();
    // The clock runs five minutes in a second.
    assert!(("2026-07-01T00:30".."2026-07-01T02:00").contains(&time), "{time}");
}

#[test]
fn daemon_refuses_a_tz_that_is_not_understood() {
    let place = Place::new(CONFIG);
    for verb in ["run", "check-config"] {
        let mut command = place.prepare(env!("CARGO_BIN_EXE_backupd").as_ref());
        let output = command.arg(verb).env("TZ", "Mars/Phobos").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}: {text}");
        assert!(text.contains("Error: TZ is \"Mars/Phobos\", which is not a time zone"), "{text}");
        assert!(text.contains("Hint: write it like Europe/Berlin"), "{text}");
    }
    let mut command = place.prepare(env!("CARGO_BIN_EXE_backupd").as_ref());
    let output = command.arg("check-config").env("TZ", "Europe/Rome").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Times are in Europe/Rome (from TZ)."), "{text}");
}

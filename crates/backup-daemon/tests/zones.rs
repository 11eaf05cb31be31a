//! Time zones, on a machine without a database of them.

use backup_core::clock::{Clock as _, SystemClock};
use jiff::Timestamp;

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
    // Tokyo is nine hours ahead of UTC all year. There the backup is due ten minutes from now.
    let now = SystemClock.now();
    let due = now.as_second() + 9 * 3600 + 600;
    let at = format!("{} {} * * *", due / 60 % 60, due / 3600 % 24);
    let place = Place::new(&CONFIG.replace("30 2 * * *", &at));
    place.write("empty/none", "");
    std::fs::remove_file(place.path("empty/none")).unwrap();
    let empty = place.path("empty");
    let env = [("TZ", "Asia/Tokyo"), ("TZDIR", empty.to_str().unwrap())];
    // The clock runs five minutes in a second.
    let faster = ["--accelerate", "300", "--accelerate-from", &now.to_string()];
    let mut daemon = place.daemon_with("log", &faster, &env);
    daemon.wait_for(1, "schedules are in Asia/Tokyo (from TZ)");
    daemon.wait_for(1, "started");
    let lines = daemon.lines();
    let started = lines.iter().find(|line| line["message"].as_str().unwrap().contains("started"));
    let time: Timestamp = started.unwrap()["time"].as_str().unwrap().parse().unwrap();
    // In UTC it would be due nine hours later.
    let minutes = now.duration_until(time).as_mins();
    assert!((9..240).contains(&minutes), "{time}");
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

//! One MongoDB database, backed up by hand: compression that stock restic reads, limits and their
//! override, the plan of a cleanup, health checks, modes of files, the audit log.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use backup_core::testing::tool;
use bson::{Document, doc};
use serde_json::Value;

use super::{Place, now};
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::process::run;

/// The window is closed: it opens in two hours.
fn config() -> String {
    let at = |hours: i64| {
        let time = now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::Span::new().hours(hours);
        time.strftime("%H:%M").to_string()
    };
    format!(
        r#"
        [defaults]
        time_zone = "Europe/Berlin"
        [repositories.main]
        url = "ROOM/main"
        [sources.loans]
        kind = "mongodb"
        url = "${{LOANS}}"
        [jobs.loans]
        source = "loans"
        repository = "main"
        tier = "daily"
        exclude = ["*.sessions"]
        keep = {{ last = 1 }}
        schedule = "30 2 * * *"
        [jobs.limited]
        source = "loans"
        repository = "main"
        window = "{}-{}"
        max_size = "100KiB"
        "#,
        at(2),
        at(4)
    )
}

/// The bytes in a directory, all files included.
fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// No other user can read a repository, not even the names in it.
fn assert_private(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let metadata = entry.metadata().unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { metadata.mode() & 0o600 };
        assert_eq!(metadata.mode() & 0o777, expected, "{}", entry.path().display());
        if metadata.is_dir() {
            assert_private(&entry.path());
        }
    }
}

async fn add(server: &Mongod, from: i64) {
    let documents = (from..from + 2000)
        .map(|number| doc! { "_id": number, "text": format!("loan {number} ").repeat(20) });
    let loans = server.client.database("lendpeak").collection::<Document>("loans");
    loans.insert_many(documents).await.unwrap();
    let sessions = server.client.database("lendpeak").collection::<Document>("sessions");
    sessions.insert_one(doc! { "_id": from }).await.unwrap();
}

/// The first JSON value that a command prints.
fn json(place: &Place, arguments: &[&str]) -> Value {
    let text = place.run(&[arguments, &["--json"]].concat()).succeeded().text();
    let first = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    first.unwrap_or_else(|| panic!("no output: {arguments:?}")).unwrap()
}

fn snapshots(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let listed = json(place, &[&["list"], arguments].concat());
    listed["snapshots"].as_array().unwrap().clone()
}

/// Backups outside the window or above the size of a job need `--force`.
fn limits(place: &Place) {
    let closed = place.fails(5, &["run", "limited"]);
    assert!(closed.contains("may start only within"), "{closed}");
    assert!(snapshots(place, &["--job", "limited"]).is_empty());
    // Only a part of the database is within the limit of the size.
    let part = ["run", "limited", "--force", "--only", "lendpeak.sessions"];
    place.done(&part);
    let limited = snapshots(place, &["--job", "limited"]);
    assert_eq!(limited.len(), 1);
    let id = limited[0]["id"].as_str().unwrap();
    let listed = place.done(&["ls", id, "-R"]);
    assert!(listed.contains("sessions.bson") && !listed.contains("loans.bson"), "{listed}");
    let before = snapshots(place, &[]).len();
    let large = place.run(&["run", "loans", "--max-size", "100KiB"]);
    assert!(
        large.code == 1 && large.stderr.contains("exceeds the allowed 102400 bytes"),
        "{large}"
    );
    assert_eq!(snapshots(place, &[]).len(), before, "a backup that is too large is listed");
    place.done(&["run", "limited", "--force"]);
}

/// The plan of a cleanup has a reason for each snapshot that stays, and equals the result.
fn cleanup(place: &Place) {
    let before = snapshots(place, &["--job", "loans"]);
    let plan = json(place, &["cleanup", "loans", "--dry-run"]);
    let planned = plan["snapshots"].as_array().unwrap();
    assert_eq!(planned.len(), before.len());
    let kept: Vec<&Value> = planned.iter().filter(|one| one["keep"] == true).collect();
    assert!(kept.iter().all(|one| !one["reasons"].as_array().unwrap().is_empty()), "{plan}");
    assert_eq!(snapshots(place, &["--job", "loans"]).len(), before.len(), "a dry run removes");
    place.fails(5, &["cleanup", "loans"]);
    place.done(&["cleanup", "loans", "--yes"]);
    let after = snapshots(place, &["--job", "loans"]);
    let ids = |all: &mut dyn Iterator<Item = &Value>| -> Vec<String> {
        all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&mut after.iter()), ids(&mut kept.into_iter()));
    // The newest one.
    assert_eq!(after, [before.last().unwrap().clone()]);
}

/// Every operation has a record with who, where and how it ended.
fn audit(place: &Place) {
    let found = json(place, &["audit"]);
    let records = found["records"].as_array().unwrap();
    let user = run(Command::new("id").arg("-un")).succeeded().text();
    for record in records {
        assert_eq!(record["user"], user.trim(), "{record}");
        assert!(record["host"].is_string() && record["status"].is_string(), "{record}");
    }
    let repository = place.path("main").display().to_string();
    let with_status = |operation: &str, status: &str| {
        let is_it = |record: &&Value| {
            record["operation"] == operation
                && record["status"] == status
                && record["details"]["repository"] == *repository
        };
        records.iter().filter(is_it).count()
    };
    assert_eq!(with_status("backup", "success"), 5);
    assert_eq!(with_status("backup", "failure"), 1);
    assert_eq!(with_status("cleanup", "success"), 1);
    assert!(place.done(&["audit", "verify"]).contains("records"));
}

/// Stock restic on the repository; its output.
fn restic(place: &Place, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(tool("restic-new"));
    command
        .args(["--no-lock", "--no-cache", "-r"])
        .arg(place.path("main"))
        .args(arguments)
        .env("RESTIC_PASSWORD", "key");
    run(&mut command).succeeded().stdout
}

mod needs_mongod_6_0_and_restic {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_is_operated_by_hand() {
        let server = Mongod::start(Version::V6_0).await;
        let place = Place::new(&config(), &[("LOANS", server.uri().to_owned())]);
        place.done(&["init"]);
        let (data, mut growth) = (place.path("main"), Vec::new());
        for (round, compression) in (0..).zip(["off", "auto", "max"]) {
            let before = bytes(&data);
            add(&server, round * 2000).await;
            let run = place.cli.summary(&["run", "loans", "--compression", compression]);
            assert_eq!(run["verb"], "run", "{run}");
            growth.push(bytes(&data) - before);
        }
        // The text of each round is new, and repeats itself.
        assert!(growth[0] > 3 * growth[1] && growth[0] > 3 * growth[2], "{growth:?}");
        restic(&place, &["check", "--read-data"]);
        for (round, snapshot) in snapshots(&place, &["--tier", "daily"]).iter().enumerate() {
            let id = snapshot["id"].as_str().unwrap();
            let listed = String::from_utf8(restic(&place, &["ls", id])).unwrap();
            assert!(!listed.contains("sessions"), "{listed}");
            let file = listed.lines().find(|line| line.ends_with("/lendpeak/loans.bson")).unwrap();
            let dumped = restic(&place, &["dump", id, file]);
            let (mut rest, mut count) = (&dumped[..], 0);
            while !rest.is_empty() {
                let loan = Document::from_reader(&mut rest).unwrap();
                assert!(loan.get_str("text").unwrap().starts_with("loan "));
                count += 1;
            }
            assert_eq!(count, 2000 * (round + 1), "{id}");
        }
        assert_eq!(snapshots(&place, &["--tier", "weekly"]).len(), 0);
        limits(&place);
        cleanup(&place);
        assert_private(&place.path("main"));
        let wrong = Cli::new(&place.path("main"), "another key");
        assert_eq!(wrong.run(&["list"]).code, 12);
        audit(&place);
        // The next run by the clock of Berlin, and the health of everything.
        let schedule = place.done(&["schedule"]);
        assert!(schedule.contains("loans/") && schedule.contains("02:30"), "{schedule}");
        assert!(place.done(&["doctor"]).contains("loans"));
        drop(server);
        let doctor = place.run(&["doctor"]);
        assert!(doctor.code == 3 && doctor.text().contains("✗ job loans"), "{doctor}");
    }
}

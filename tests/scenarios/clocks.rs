//! The program by clocks that are wrong, end to end. libfaketime changes the time of one command;
//! on a disk the objects that it stored get that time, too, as the kernel would have dated them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::gcs_double::GcsDouble;
use crate::support::process::{Outcome, run};
use crate::support::store::{BUCKET, Store, now};
use backup_core::testing::tool;

const PASSWORD: &str = "password";
const DAY: i64 = 86_400;
/// Exit codes: completed with warnings, refused.
const WARNINGS: i32 = 3;
const REFUSED: i32 = 5;

/// Seconds by which a clock is wrong, and whether a disk must doubt it.
const CASES: [(i64, bool); 4] =
    [(7_200, false), (183 * DAY, true), (30 * 365 * DAY, true), (-400 * DAY, true)];

/// A job on a machine whose clock can be set.
struct Machine {
    cli: Cli,
    room: TempDir,
    /// The repository, if it is a directory.
    disk: Option<PathBuf>,
}

impl Machine {
    /// The job `docs` into a directory.
    fn with_disk() -> Self {
        let room = tempfile::tempdir().unwrap();
        let disk = room.path().join("repository");
        let address = disk.to_str().unwrap().to_owned();
        Self::new(room, &address, BTreeMap::new(), Some(disk))
    }

    fn with_store(store: Store) -> Self {
        Self::new(tempfile::tempdir().unwrap(), &store.address, store.environment, None)
    }

    fn new(
        room: TempDir,
        address: &str,
        environment: BTreeMap<String, String>,
        disk: Option<PathBuf>,
    ) -> Self {
        let source = room.path().join("docs");
        fs::create_dir(&source).unwrap();
        let config = format!(
            r#"
            [repositories.main]
            url = "{address}"
            [sources.docs]
            kind = "files"
            paths = ["{}"]
            [jobs.docs]
            source = "docs"
            repository = "main"
            keep = {{ within = "14d" }}
            [alerts.clock]
            condition = "clock"
            severity = "high"
            "#,
            source.display()
        );
        fs::write(room.path().join("backup.toml"), config).unwrap();
        let cli = Cli::remote(address, PASSWORD, environment);
        let machine = Self { cli, room, disk };
        machine.at(if machine.disk.is_some() { -21 * DAY } else { 0 }, &["init"]).succeeded();
        machine
    }

    /// Runs a command by a clock that is wrong by this many seconds.
    fn at(&self, wrong: i64, arguments: &[&str]) -> Outcome {
        let started = SystemTime::from(now());
        let config = self.room.path().join("backup.toml");
        let arguments = [&["--config", config.to_str().unwrap()], arguments].concat();
        let mut command = self.cli.command(&[], &arguments);
        if wrong != 0 {
            command
                .env("LD_PRELOAD", tool("faketime"))
                .env("FAKETIME", format!("{wrong:+}"))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1");
        }
        let outcome = run(&mut command);
        if let Some(disk) = &self.disk {
            date_back(disk, started, wrong);
        }
        outcome
    }

    /// Backs up one file with this content.
    fn back_up(&self, wrong: i64, content: &str) -> Outcome {
        fs::write(self.room.path().join("docs/file"), content).unwrap();
        self.at(wrong, &["run", "docs"])
    }

    /// The content of the file in a restored snapshot.
    fn restored(&self, name: &str) -> String {
        let target = tempfile::tempdir_in(self.room.path()).unwrap();
        let to = target.path().join("restored");
        self.at(0, &["restore", name, "--target", to.to_str().unwrap()]).succeeded();
        let docs = self.room.path().join("docs/file");
        fs::read_to_string(to.join(docs.strip_prefix("/").unwrap())).unwrap()
    }

    fn list(&self) -> Vec<Value> {
        let listed = self.at(0, &["list", "--json"]).succeeded();
        let listed: Value = serde_json::from_str(listed.text().lines().last().unwrap()).unwrap();
        listed["snapshots"].as_array().unwrap().clone()
    }

    /// Seconds since the last success, as `status` has it.
    fn age(&self) -> i64 {
        let status = self.at(0, &["status", "--json"]).succeeded();
        let status: Value = serde_json::from_str(status.text().lines().last().unwrap()).unwrap();
        status["jobs"][0]["age_seconds"].as_i64().unwrap()
    }
}

/// Gives the files that were written since `started` the time of a wrong clock.
fn date_back(dir: &Path, started: SystemTime, wrong: i64) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let metadata = fs::symlink_metadata(&entry).unwrap();
        if metadata.is_dir() {
            date_back(&entry, started, wrong);
            continue;
        }
        let modified = metadata.modified().unwrap();
        let shift = Duration::from_secs(wrong.unsigned_abs());
        if modified >= started {
            let shown = if wrong < 0 { modified - shift } else { modified + shift };
            fs::File::open(&entry).unwrap().set_modified(shown).unwrap();
        }
    }
}

/// Gives all files the present time.
fn touch(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => touch(&entry),
            false => fs::File::open(&entry).unwrap().set_modified(now().into()).unwrap(),
        }
    }
}

fn time(snapshot: &Value, field: &str) -> Timestamp {
    snapshot[field].as_str().unwrap_or_else(|| panic!("no {field}: {snapshot}")).parse().unwrap()
}

/// One backup by a wrong clock, then right ones: restores, lists and the latest snapshot.
fn one_wrong_backup(machine: &Machine, wrong: i64, is_doubted: bool) {
    machine.back_up(0, "before").succeeded();
    let done = machine.back_up(wrong, "wrong clock");
    let expected = if is_doubted { WARNINGS } else { 0 };
    assert_eq!(done.code, expected, "{wrong}: {done}");
    assert_eq!(done.stderr.contains("the clock of this machine"), is_doubted, "{wrong}: {done}");
    assert_eq!(machine.restored("latest"), "wrong clock");
    let list = machine.list();
    let last = list.last().unwrap();
    let now = now();
    let hours = |time: Timestamp| time.duration_until(now).as_hours();
    assert!(hours(time(last, "time")).abs() <= 2, "{wrong}: {last}");
    if wrong.abs() > 2 * DAY {
        let own = time(last, "own_time").as_second() - now.as_second();
        assert!((own - wrong).abs() < 600, "{wrong}: {last}");
    }
    machine.back_up(0, "after").succeeded();
    assert_eq!(machine.restored("latest"), "after");
    let next = machine.list().pop().unwrap();
    assert_eq!(next["parent"], last["id"], "{wrong}");
    let age = machine.age();
    assert!((0..600).contains(&age), "{wrong}: {age}");
}

/// A store that confirms no date by a clock of the machine, and removes nothing by it.
fn store_decides(store: impl Fn(&str) -> Store) {
    for (case, (wrong, _)) in CASES.into_iter().enumerate() {
        let machine = Machine::with_store(store(&case.to_string()));
        one_wrong_backup(&machine, wrong, false);
        let count = machine.list().len();
        machine.at(wrong, &["cleanup", "--all", "--yes"]).succeeded();
        assert_eq!(machine.list().len(), count, "{wrong}");
        let alerts = machine.at(wrong, &["alerts", "check"]);
        assert!(alerts.text().contains("does not fit repository main"), "{alerts}");
    }
}

mod needs_faketime {
    use super::*;

    /// The commands that remove are refused until the clock is right or a person vouches for it.
    #[test]
    fn disk_keeps_snapshots_while_the_clock_is_in_doubt() {
        for (wrong, is_doubted) in CASES {
            let machine = Machine::with_disk();
            for (days, content) in [(-20, "old"), (-6, "young")] {
                machine.back_up(days * DAY, content).succeeded();
            }
            one_wrong_backup(&machine, wrong, is_doubted);
            let count = machine.list().len();
            if is_doubted {
                for verb in [
                    &["cleanup", "--all", "--yes"][..],
                    &["prune"],
                    &["archive", "--older-than", "1d", "--to", "archive", "--remove", "--yes"],
                ] {
                    let refused = machine.at(wrong, verb);
                    assert_eq!(refused.code, REFUSED, "{wrong}: {refused}");
                    assert!(refused.stderr.contains("the clock of this machine"), "{refused}");
                }
                assert_eq!(machine.list().len(), count, "{wrong}");
                let alerts = machine.at(wrong, &["alerts", "check"]);
                assert!(alerts.text().contains("does not fit repository main"), "{alerts}");
            }
            // By the right clock the policy removes the snapshot that is older than 14 days.
            machine.at(0, &["cleanup", "--all", "--yes", "--no-prune"]).succeeded();
            let mut left = machine.list();
            left.retain(|snapshot| snapshot["own_time"].is_null());
            let oldest = time(&left[0], "time").duration_until(now());
            assert!((5..=6).contains(&(oldest.as_hours() / 24)), "{wrong}: {left:?}");
            assert_eq!(machine.list().len(), count - 1, "{wrong}");
        }
    }

    /// As after `cp -r`: the disk has the time of the copy.
    #[test]
    fn moved_repository_loses_old_snapshots_after_adoption() {
        let machine = Machine::with_disk();
        for days in [-20, -17, -6, -1] {
            machine.back_up(days * DAY, &days.to_string()).succeeded();
        }
        touch(machine.disk.as_ref().unwrap());
        let ages = |machine: &Machine| -> Vec<i64> {
            let age = |one: &Value| time(one, "time").duration_until(now()).as_hours() / 24;
            machine.list().iter().map(age).collect()
        };
        assert_eq!(ages(&machine), [20, 17, 6, 1]);
        assert_eq!(machine.restored("latest"), "-1");
        assert_eq!(machine.restored("8 days ago"), "-17");
        let cleanup = ["cleanup", "docs", "--yes", "--no-prune"];
        let disputed = machine.at(0, &cleanup).succeeded();
        assert!(disputed.stderr.contains("3 snapshots have a date that the store"), "{disputed}");
        assert_eq!(machine.list().len(), 4);
        let adopt = [&cleanup[..], &["--adopt"]].concat();
        let plan = machine.at(0, &[&adopt[..], &["--dry-run"]].concat()).succeeded();
        assert!(plan.stderr.contains("adopts 3 snapshots"), "{plan}");
        assert!(plan.text().contains("forget 2 of 4"), "{plan}");
        assert_eq!(machine.list().len(), 4, "a dry run changes nothing");
        machine.at(0, &adopt).succeeded();
        assert_eq!(ages(&machine), [6, 1]);
        let again = machine.at(0, &cleanup).succeeded();
        assert!(!again.stderr.contains("date that the store"), "{again}");
    }

    #[test]
    fn google_store_has_the_right_clock() {
        let (double, room) = (GcsDouble::start(), tempfile::tempdir().unwrap());
        double.create_bucket(BUCKET);
        let store = |case: &str| Store::gcs(&double, &double.endpoint(), case, room.path());
        store_decides(store);
    }
}

mod needs_faketime_moto {
    use super::*;
    use crate::support::servers::moto::Moto;

    #[test]
    fn s3_store_has_the_right_clock() {
        let moto = Moto::start();
        moto.s3.create_bucket(BUCKET, false);
        store_decides(|case: &str| Store::s3(&moto.s3, case));
    }
}

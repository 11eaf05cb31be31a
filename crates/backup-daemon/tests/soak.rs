//! A day by a clock that goes faster, with many short tasks, while everything is asked all along:
//! neither memory nor open files grow.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::answering::ask;
use crate::common::{Daemon, Place};

/// Half an hour is a second, or with --long a minute and a half is one.
const FACTOR: i32 = 2880;
const FACTOR_LONG: i32 = 144;
const DAY: i32 = 24 * 3600;
/// What memory may grow by after the first third: a twentieth, and what an allocator keeps.
const GROWTH_KIB: u64 = 3 << 10;
/// Descriptors that come and go with connections and processes that begin just now.
const PASSING: usize = 12;

/// What stands for `backup`: it says something and ends, now and then badly.
const PROGRAM: &str = r#"#!/bin/sh
echo '{"schema_version":1,"event":"progress","stage":"backup","done_items":1,"total_items":2,"done_bytes":10,"total_bytes":20}'
echo '{"schema_version":1,"event":"warning","kind":"other","path":"","message":"some words that are said each time"}'
echo '{"schema_version":1,"event":"summary","verb":"run","files":3,"snapshots":[],"jobs":[]}'
case "$*" in *failing*) echo '{"event":"error","message":"no","causes":["why"],"hint":"try"}'; exit 1 ;; esac
"#;

fn config() -> String {
    let mut text = "[defaults]\ntime_zone = \"UTC\"\n[repositories.main]\nurl = \
                    \"repo\"\npassphrase_file = \"key\"\n[sources.docs]\nkind = \"files\"\npaths = \
                    [\"docs\"]\n[schedule]\nmax_parallel = 8\nper_source_host = 8\ncleanup = \
                    \"*/30 * * * *\"\ncheck = \"0 * * * *\"\nverify = \"15 * * * *\"\nprune = \"45 \
                    * * * *\"\n[alerts.stale]\ncondition = \"stale > 24h\"\nseverity = \
                    \"high\"\n[api]\nrate = 1000\n"
        .to_owned();
    for job in ["a", "b", "c", "d", "e", "failing"] {
        text.push_str(&format!(
            "[jobs.{job}]\nsource = \"docs\"\nrepository = \"main\"\nschedule = \"*/30 * * * *\"\n"
        ));
    }
    text
}

/// What it has: memory in KiB, and open descriptors.
fn measured(daemon: &Daemon) -> (u64, usize) {
    let proc = std::path::Path::new("/proc").join(daemon.id().to_string());
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (memory, std::fs::read_dir(proc.join("fd")).unwrap().count())
}

/// The least of some looks: what is passing is not there at all of them.
fn least(daemon: &Daemon) -> (u64, usize) {
    let looks = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        measured(daemon)
    });
    looks.reduce(|(memory, files), (other, more)| (memory.min(other), files.min(more))).unwrap()
}

#[test]
fn heavy_a_day_of_short_tasks_leaves_nothing_behind() {
    let factor = if std::env::var_os("BACKUP_TEST_LONG").is_some() { FACTOR_LONG } else { FACTOR };
    let place = Place::new(&config());
    place.write("program", PROGRAM);
    std::fs::set_permissions(place.path("program"), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let program = place.path("program").display().to_string();
    let accelerated =
        ["--accelerate", &factor.to_string(), "--accelerate-from", "2026-01-01T00:00:00Z"];
    let mut daemon = place.daemon_with("log", &accelerated, &[("BACKUP_PROGRAM", &program)]);
    daemon.wait_for(1, "is ready");
    let day = Duration::from_secs(u64::try_from(DAY / factor).unwrap());
    let (began, mut warm, mut asked) = (Instant::now(), None, 0);
    while began.elapsed() < day {
        for path in [
            "/metrics",
            "/api/v1/tasks",
            "/api/v1/running",
            "/api/v1/ended",
            "/api/v1/status",
            "/api/v1/runs",
            "/api/v1/health",
        ] {
            let (status, body) = ask(&place, "GET", path, "");
            assert_eq!(status, 200, "{path}: {body}");
            asked += 1;
        }
        if warm.is_none() && began.elapsed() > day / 3 {
            warm = Some(least(&daemon));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (warm, end) = (warm.unwrap(), least(&daemon));
    let metrics = ask(&place, "GET", "/metrics", "").1;
    let ended: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("backupd_tasks_ended_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    // 48 half hours with seven tasks each, 24 hours with eight; what is due while it still goes on
    // is left out.
    assert!(ended > 200.0 && asked > 300, "{ended} tasks, {asked} requests");
    assert!(
        metrics.contains("backupd_tasks_ended_total{result=\"failure\",work=\"backup\"}"),
        "{metrics}"
    );
    let allowed = warm.0 + warm.0 / 20 + GROWTH_KIB;
    assert!(
        end.0 <= allowed,
        "memory grew from {} to {} KiB, {ended} tasks and {asked} requests later",
        warm.0,
        end.0
    );
    assert!(
        end.1 <= warm.1 + PASSING,
        "open files: {} after a third, {} at the end",
        warm.1,
        end.1
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
}

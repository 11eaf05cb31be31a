//! A real process that reports its final error and does not exit.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup_control::config;

use crate::engine::{Engine as _, Refusal, Work};
use crate::journal::{Journal, Level, Line};
use crate::scheduler::Scheduler;

/// `job=frozen` reports an error, ignores signals and stops itself; everything else succeeds.
const PROGRAM: &str = r#"#!/bin/sh
case "$*" in *frozen*)
    echo '{"event":"error","message":"the disk is frozen","exit_code":12,"final":true}'
    trap '' TERM INT HUP USR2
    kill -STOP $$
esac
echo '{"event":"summary","files":1}'
"#;

const CONFIG: &str = "\
[schedule]
max_parallel = 1
[repositories.main]
url = \"repo\"
passphrase_file = \"key\"
[sources.docs]
kind = \"files\"
paths = [\"/x\"]
[jobs.frozen]
source = \"docs\"
repository = \"main\"
[jobs.other]
source = \"docs\"
repository = \"main\"
[groups.all]
jobs = [\"frozen\", \"other\"]
";

#[derive(Debug, Default)]
struct Lines(Mutex<Vec<(Level, String)>>);

impl Journal for Lines {
    fn line(&self, line: &Line) {
        self.0.lock().unwrap().push((line.level, line.message.clone()));
    }
}

fn backup(job: &str) -> Work {
    Work::Backup { job: job.to_owned(), kind: None, tier: None }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lingering_process_blocks_one_job_only() {
    let dir = tempfile::tempdir().unwrap();
    let (file, program) = (dir.path().join("backup.toml"), dir.path().join("backup"));
    std::fs::write(&file, CONFIG).unwrap();
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let loaded = config::load(&file, &Default::default()).unwrap();
    let lines = Arc::new(Lines::default());
    let scheduler = Scheduler::builder(loaded, &program)
        .environment([("PATH", "/usr/bin:/bin")].into_iter().collect())
        .state_dir(dir.path().join("state"))
        .journal(Arc::clone(&lines) as _)
        .exit_limits(Duration::from_millis(300), Duration::from_secs(5))
        .start()
        .unwrap();

    let frozen = scheduler.start(backup("frozen"), "anna").unwrap();
    until(|| scheduler.ended().iter().any(|ended| ended.id == frozen)).await;
    let ended = scheduler.ended().into_iter().find(|ended| ended.id == frozen).unwrap();
    assert_eq!((ended.exit_code, ended.error.as_str()), (Some(12), "the disk is frozen"));
    assert!(scheduler.running().is_empty());

    // The journal and the state of the daemon name the process, which exists.
    let logged = lines.0.lock().unwrap().clone();
    let pid = logged
        .iter()
        .find_map(|(level, line)| {
            let rest = line.strip_prefix("process ").filter(|_| *level == Level::Error)?;
            rest.split_once(" reported an error and does not exit").map(|(pid, _)| pid.to_owned())
        })
        .unwrap_or_else(|| panic!("{logged:?}"));
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists());
    assert!(scheduler.health().troubles.contains_key(&format!("process {pid}")));

    // Another job runs although only one task may run at a time.
    let other = scheduler.start(backup("other"), "anna").unwrap();
    until(|| scheduler.ended().iter().any(|ended| ended.id == other)).await;
    let ended = scheduler.ended().into_iter().find(|ended| ended.id == other).unwrap();
    assert_eq!(ended.exit_code, Some(0), "{}", ended.error);

    // Neither the job nor a group with it starts.
    for work in [backup("frozen"), backup("all")] {
        match scheduler.start(work, "anna") {
            Err(Refusal::Refused(text)) => assert!(text.contains(&pid), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(Path::new(&process).exists(), "the process existed until here");

    // The process is killed at last, and the job starts again.
    until(|| !Path::new(&process).exists()).await;
    until(|| scheduler.health().troubles.is_empty()).await;
    assert!(scheduler.start(backup("frozen"), "anna").is_ok());
}

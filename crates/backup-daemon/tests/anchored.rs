//! Copies of the audit log outside this machine: anchors in repositories, the system log, channels.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::answering::ask;
use crate::common::{CONFIG, Place};

/// Nothing runs by itself; a rule, and a channel that writes to `FILE`.
fn config(file: &Path) -> String {
    let quiet = CONFIG.replace("* * * * *", "0 0 1 1 *").replace("*/2 * * * *", "0 0 1 1 *");
    format!(
        "{quiet}\n[audit]\nnotify = [\"told\"]\n[alerts.failed]\ncondition = \"failure\"\nseverity = \
         \"high\"\n[notify.told]\nkind = \"command\"\nseverity = \"critical\"\ncommand = \"cat >> {}\"\n",
        file.display()
    )
}

/// The number of the newest record of an operation.
fn sequence(place: &Place, operation: &str) -> u64 {
    let log = std::fs::read_to_string(place.path("state/audit.jsonl")).unwrap();
    let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let newest = lines.rfind(|line| line["operation"] == operation);
    newest.unwrap_or_else(|| panic!("{operation}: {log}"))["sequence"].as_u64().unwrap()
}

/// The number of the newest anchor, by the names of the objects in the repository.
fn anchored(place: &Place) -> u64 {
    let mut newest = 0;
    let Ok(chains) = std::fs::read_dir(place.path("repo/x-audit")) else { return 0 };
    for chain in chains {
        for anchor in std::fs::read_dir(chain.unwrap().path()).unwrap() {
            let name = anchor.unwrap().file_name().into_string().unwrap();
            newest = newest.max(name.split('-').next().unwrap().parse().unwrap());
        }
    }
    newest
}

/// Waits until `done`, for the minute within which records are anchored.
fn within_a_minute(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn sensitive_operations_leave_this_machine_within_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let place = Place::new(&config(&told));
    let socket = place.path("syslog");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let env = [("BACKUP_AUDIT_SYSLOG", socket.to_str().unwrap())];
    // The next line of the system log with this operation.
    let logged = |operation: &str| {
        let mut line = [0; 16 << 10];
        loop {
            let length = syslog.recv(&mut line).unwrap();
            let line = std::str::from_utf8(&line[..length]).unwrap();
            if line.contains(&format!("\"operation\":\"{operation}\"")) {
                return line.to_owned();
            }
        }
    };
    let is_told = |operation: &str| {
        std::fs::read_to_string(&told).is_ok_and(|text| text.contains(&format!("`{operation}`")))
    };
    // Without a daemon, the command itself stores the anchor.
    let run = |program: &Path, args: &[&str]| {
        let output = place.prepare(program).args(args).envs(env).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !text.contains("arning"), "{args:?}: {text}");
    };
    let backupd = Path::new(env!("CARGO_BIN_EXE_backupd"));
    run(backupd, &["token", "create", "ci", "--role", "operator"]);
    assert!(anchored(&place) >= sequence(&place, "token create"), "{}", anchored(&place));
    assert!(is_told("token create"));
    let line = logged("token create");
    assert!(line.starts_with("<85>") && line.contains("\"token\":\"ci\""), "{line}");
    let silence = ["alerts", "silence", "failed", "--for", "1h", "--reason", "test"];
    run(crate::common::program(), &silence);
    assert!(anchored(&place) >= sequence(&place, "silence"));
    assert!(is_told("silence"));
    logged("silence");

    // The daemon also tightens the directory.
    let state = place.path("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon = place.daemon_with("log", &[], &env);
    daemon.wait_for(1, "is ready");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let before = anchored(&place);
    assert_eq!(ask(&place, "POST", "/api/v1/tasks/pause", "{}").0, 200);
    // A refused operation is recorded too.
    assert_eq!(ask(&place, "POST", "/api/v1/running/none/cancel", "").0, 404);
    logged("api pause");
    logged("api cancel");
    within_a_minute("the anchor", || anchored(&place) >= sequence(&place, "api cancel"));
    assert!(anchored(&place) > before);
    within_a_minute("the announcements", || is_told("api pause") && is_told("api cancel"));
    let verdict = place.json(&["audit", "verify"]);
    assert_eq!(verdict["sound"], true, "{verdict}");
    assert!(verdict["newest_anchor_age_seconds"].as_u64().unwrap() < 120, "{verdict}");
}

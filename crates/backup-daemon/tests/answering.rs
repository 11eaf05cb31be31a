//! The API of the daemon that runs, and its sign of life.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{CONFIG, Place};

/// Asks the daemon of a place through its socket: the status, and what it answers.
pub(crate) fn ask(place: &Place, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(place.path("state/backupd.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
         application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn object(answer: &(u16, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn what_is_asked_for_is_done_by_whom_it_is_recorded() {
    // Nothing by itself.
    let place =
        Place::new(&CONFIG.replace("* * * * *", "0 0 1 1 *").replace("*/2 * * * *", "0 0 1 1 *"));
    let mut daemon = place.daemon("log", &[]);
    daemon.wait_for(1, "is ready");
    let socket = place.path("state/backupd.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&place, "GET", "/healthz", "").0, 200);
    let alive = place.path("state/backupd.alive");
    // Written by a task of its own, soon after the daemon is ready.
    let began = Instant::now();
    while !alive.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let sign: Value = serde_json::from_str(&std::fs::read_to_string(&alive).unwrap()).unwrap();
    assert!(sign["pid"].as_u64().is_some_and(|pid| pid > 1), "{sign}");

    let begun = ask(
        &place,
        "POST",
        "/api/v1/running",
        &json!({ "kind": "backup", "job": "docs" }).to_string(),
    );
    assert_eq!(begun.0, 202, "{begun:?}");
    let id = object(&begun)["id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let ended = loop {
        let ended = object(&ask(&place, "GET", "/api/v1/ended", ""));
        if let Some(found) =
            ended["ended"].as_array().unwrap().iter().find(|ended| ended["id"] == id.as_str())
        {
            break found.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{ended}: {:#?}", daemon.lines());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(ended["exit_code"], 0, "{ended}");
    let unknown = ask(
        &place,
        "POST",
        "/api/v1/running",
        &json!({ "kind": "backup", "job": "nosuch" }).to_string(),
    );
    assert_eq!(unknown.0, 404, "{unknown:?}");
    let snapshots = place.json(&["list"]);
    assert_eq!(snapshots["snapshots"].as_array().map(Vec::len), Some(1), "{snapshots}");
    let metrics = ask(&place, "GET", "/metrics", "").1;
    assert!(
        metrics.contains("backup_status{backup_job=\"docs\",state=\"verified\"} 1"),
        "{metrics}"
    );

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(!alive.exists() && !socket.exists(), "nobody misses it");
}

//! Killed in the middle, and begun again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustix::process::Signal;

use crate::common::{CONFIG, Place};

/// When a run began and ended.
type Time = (Timestamp, Timestamp);

#[test]
fn nothing_is_lost_and_nothing_runs_twice_at_once() {
    let place = Place::new(CONFIG);
    // The clock of both daemons: the same, a minute every second.
    let from = place.json(&["schedule"])["tasks"][0]["next"]
        .as_str()
        .unwrap()
        .parse::<Timestamp>()
        .unwrap();
    let from = (from - jiff::SignedDuration::from_mins(10)).to_string();
    let faster = ["--accelerate", "60", "--accelerate-from", &from];
    let mut daemon = place.daemon("first.log", &faster);
    for round in 1..=4 {
        place.write("docs/a", &format!("{round}"));
        daemon.wait_for(2 * round, "ended successfully");
    }
    // In the middle of something: there is no moment without.
    daemon.wait_for(10, "started");
    daemon.kill();
    let mut daemon = place.daemon("second.log", &faster);
    place.write("more/b", "later");
    daemon.wait_for(12, "ended successfully");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0), "{:#?}", daemon.lines());

    // What was begun by the one that was killed goes on to its end: it is waited for.
    let runs = loop {
        let runs = place.json(&["status", "--runs=1000"])["runs"].as_array().unwrap().clone();
        if runs.iter().all(|run| run["state"] != "running" && !run["finished"].is_null()) {
            break runs;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    let mut times: BTreeMap<String, Vec<Time>> = BTreeMap::new();
    for run in &runs {
        let time = |key: &str| run[key].as_str().unwrap().parse().unwrap();
        times
            .entry(run["job"].as_str().unwrap().to_owned())
            .or_default()
            .push((time("started"), time("finished")));
    }
    assert_eq!(times.len(), 2);
    for (job, times) in &mut times {
        times.sort_unstable();
        assert!(times.len() >= 3, "{job}: {times:?}");
        for pair in times.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{job}: two at once: {pair:?}");
        }
    }
    // Everything that is listed is there.
    place.backup(&["check", "--read-data"]);
    let list = place.json(&["list"]);
    let snapshots = list["snapshots"].as_array().unwrap();
    assert!(snapshots.len() >= 6, "{}", snapshots.len());
    for snapshot in snapshots {
        let id = snapshot["id"].as_str().unwrap();
        let target = place.path(&format!("restored/{id}"));
        place.backup(&["restore", id, "--target", target.to_str().unwrap(), "--verify"]);
    }
    let newest =
        snapshots.iter().rev().find(|snapshot| snapshot.to_string().contains("job=more")).unwrap();
    let file = place.path(&format!(
        "restored/{}{}",
        newest["id"].as_str().unwrap(),
        place.path("more/b").display()
    ));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "later");
}

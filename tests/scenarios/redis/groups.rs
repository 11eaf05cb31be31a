//! Groups of a busy and an idle server.

use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use jiff::SignedDuration;

use super::program::Place;
use crate::support::redis::{Redis, Version};

/// Masters send a sign of life every second.
const OFTEN: [&str; 2] = ["--repl-ping-replica-period", "1"];

/// The latest moment of the group has every key of the busy server and the last write of the idle
/// one.
pub(super) async fn latest_moment_has_the_last_write_of_an_idle_server(version: Version) {
    let (busy, idle) = (Redis::with(version, &OFTEN), Redis::with(version, &OFTEN));
    let place = Place::configured(&[], |repository| {
        let job = |name: &str, server: &Redis| {
            format!(
                "[sources.{name}]\nkind = \"redis\"\nurl = \"{}\"\n[jobs.{name}]\nsource = \
                 \"{name}\"\nrepository = \"main\"\nlogs.flush_after = \"200ms\"\n",
                server.address()
            )
        };
        format!(
            "[repositories.main]\nurl = {repository:?}\npassphrase_env = \
             \"BACKUP_PASSWORD\"\n{}{}[groups.pair]\njobs = [\"busy\", \"idle\"]\n",
            job("busy", &busy),
            job("idle", &idle)
        )
    });
    place.done(&["run", "pair"]);
    let capturing =
        [place.spawn(&["logs", "follow", "busy"]), place.spawn(&["logs", "follow", "idle"])];
    tokio::time::sleep(Duration::from_secs(2)).await;
    idle.run(&["SET", "own", "last"]);
    let mut client = busy.client();
    for number in 0..26 {
        client.ok(&["SET", &format!("key{number}"), "value"]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let directory = |job: &str| place.path(&format!("restored-{job}"));
    let targets = ["busy", "idle"].map(|job| format!("--target={job}={}", directory(job)));
    let restore = |at: &str, more: &[&str]| {
        let named = ["restore", "pair", "--at", at, &targets[0], &targets[1]];
        place.run(&[&named[..], more].concat())
    };
    let (moment, started) =
        ((SystemClock.now() + SignedDuration::from_secs(1)).to_string(), Instant::now());
    loop {
        let planned = restore(&moment, &["--dry-run"]);
        if planned.code == 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(90), "{planned}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    restore("latest", &[]).succeeded();
    capturing.into_iter().for_each(crate::support::running::Running::stop);
    let started = |job: &str| {
        let directory = directory(job);
        Redis::on(version, Some(Path::new(&directory)), &["--appendonly", "yes"])
    };
    let restored = started("busy");
    assert_eq!(restored.run(&["DBSIZE"]).number(), 26);
    assert_eq!(restored.debug_digest(), busy.debug_digest());
    assert_eq!(started("idle").run(&["GET", "own"]).text(), "last");
}

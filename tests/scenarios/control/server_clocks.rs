//! Offsets of the clocks of database servers: in the record of a run, in `status` and in `doctor`.
//! libfaketime moves the clock of the command; the servers have the right one.

use backup_core::testing::tool;
use serde_json::Value;

use super::Place;
use crate::support::process::{Outcome, run};

const CONFIG: &str = r#"
    [repositories.main]
    url = "ROOM/main"
    [sources.data]
    kind = "files"
    paths = ["ROOM/data"]
    [sources.physical]
    kind = "postgres"
    url = "${POSTGRES}"
    fast_checkpoint = true
    [sources.logical]
    kind = "postgres"
    method = "logical"
    url = "${POSTGRES}"
    programs = "${PROGRAMS}"
    [sources.events]
    kind = "mongodb"
    url = "${MONGODB}"
    [sources.cache]
    kind = "redis"
    url = "${REDIS}"
    [jobs.data]
    source = "data"
    repository = "main"
    [jobs.physical]
    source = "physical"
    repository = "main"
    [jobs.logical]
    source = "logical"
    repository = "main"
    [jobs.events]
    source = "events"
    repository = "main"
    [jobs.cache]
    source = "cache"
    repository = "main"
"#;
/// Jobs with a server.
const SERVERS: [&str; 4] = ["physical", "logical", "events", "cache"];
/// Seconds that a backup may take.
const TOLERANCE: i64 = 60;

/// Runs a command by a clock that is ahead by this many seconds.
fn at(place: &Place, ahead: i64, arguments: &[&str]) -> Outcome {
    let mut command = place.command(arguments);
    command
        .env("LD_PRELOAD", tool("faketime"))
        .env("FAKETIME", format!("{ahead:+}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    run(&mut command)
}

/// The last run of a job, by `status` with the same clock.
fn last_run(place: &Place, ahead: i64, job: &str) -> Value {
    let status = at(place, ahead, &["status", job, "--json"]).succeeded();
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    status["jobs"][0]["last_run"].clone()
}

mod needs_faketime_databases {
    use super::*;
    use crate::support::mongod::{Mongod, Version as MongoVersion};
    use crate::support::postgres::{Postgres, Version as PostgresVersion};
    use crate::support::redis::{Redis, Version as RedisVersion};

    #[tokio::test(flavor = "multi_thread")]
    async fn backup_records_the_offset_of_the_server() {
        let postgres = Postgres::start(PostgresVersion::V17).await;
        let mongod = Mongod::start(MongoVersion::V6_0).await;
        let redis = Redis::start(RedisVersion::Redis8);
        let programs = tool("pg_dump-18").canonicalize().unwrap();
        let environment = [
            ("POSTGRES", postgres.uri()),
            ("PROGRAMS", programs.parent().unwrap().to_str().unwrap().to_owned()),
            ("MONGODB", mongod.uri().to_owned()),
            ("REDIS", redis.address()),
        ];
        for ahead in [0, 7200, -1800] {
            let place = Place::new(CONFIG, &environment);
            std::fs::create_dir(place.path("data")).unwrap();
            at(&place, ahead, &["init"]).succeeded();
            for job in SERVERS {
                at(&place, ahead, &["run", job]).succeeded();
                let offset = last_run(&place, ahead, job)["server_clock_offset_seconds"].as_i64();
                let difference = (offset.unwrap() + ahead).abs();
                assert!(difference < TOLERANCE, "{job} {ahead}: {offset:?}");
            }
            let status = at(&place, ahead, &[&["status"], &SERVERS[..]].concat()).succeeded();
            let text = status.text();
            let pointed_out = text.matches("the clock of the database server was").count();
            assert_eq!(pointed_out, if ahead == 0 { 0 } else { SERVERS.len() }, "{text}");
            let direction = if ahead < 0 { " s ahead at " } else { " s behind at " };
            assert_eq!(text.matches(direction).count(), pointed_out, "{text}");
            at(&place, ahead, &["run", "data"]).succeeded();
            assert!(last_run(&place, ahead, "data")["server_clock_offset_seconds"].is_null());
        }
    }
}

//! The lines for crontab of `examples/aquarium.toml`, run in their order, and everything that they
//! make possible: restores of each type, of one table and from both clouds; questions by day and by
//! source; a failed job that is run again; the report.

use std::path::Path;

use bson::{Document, doc};
use serde_json::Value;

use super::Place;
use super::aquarium::{Servers, lines, receiver};
use crate::support::mongod::{Mongod, Version};
use crate::support::postgres::{self, Postgres, hand_over_all};
use crate::support::redis::{self, Redis};

const POSTGRES: postgres::Version = postgres::Version::V17;

fn json(place: &Place, arguments: &[&str]) -> Value {
    let text = place.run(&[arguments, &["--json"]].concat()).succeeded().text();
    let first = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    first.unwrap_or_else(|| panic!("no output: {arguments:?}")).unwrap()
}

/// Runs the lines; before each backup of `services`, a user is added.
async fn executed(place: &Place, servers: &Servers) {
    let users = servers.services.client.database("user-service").collection::<Document>("users");
    let mut number = 1000_i64;
    for line in lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.contains(&"services") {
            users.insert_one(doc! { "_id": number }).await.unwrap();
            number += 1;
        }
        place.done(&words);
    }
    assert_eq!(number, 1002, "the example backs services up with two lines");
}

/// Each type of snapshot is restored by one command.
async fn types(place: &Place) {
    let listed = json(place, &["list", "-r", "local", "--job", "services"]);
    let snapshots = listed["snapshots"].as_array().unwrap();
    let target = Mongod::start(Version::V6_0).await;
    let users = target.client.database("user-service").collection::<Document>("users");
    for (kind, expected) in [("full", 500), ("incremental", 501), ("differential", 502)] {
        let newest = snapshots.iter().rev().find(|snapshot| snapshot["type"] == kind);
        let newest = newest.unwrap_or_else(|| panic!("no {kind} snapshot in {listed}"));
        let id = newest["id"].as_str().unwrap();
        target.clear().await;
        place.done(&["restore", id, "-r", "local", "--target", target.uri(), "--no-users"]);
        assert_eq!(users.count_documents(doc! {}).await.unwrap(), expected, "{kind}");
        let tanks = target.client.database("aquarium-service").collection::<Document>("tanks");
        assert_eq!(tanks.count_documents(doc! {}).await.unwrap(), 500, "{kind}");
    }
}

/// From both clouds: a cluster, a database in part, a cache, files.
async fn clouds(place: &Place) {
    let (cluster, cache, files) = (place.path("cluster"), place.path("copy"), place.path("files"));
    let latest = |repository: &'static str, job: &'static str, target: &Path| {
        let target = target.to_str().unwrap().to_owned();
        place.done(&["restore", "latest", "-r", repository, "--job", job, "--target", &target]);
    };
    latest("aws", "databases", &cluster);
    hand_over_all(&cluster);
    let copy = Postgres::recovered(POSTGRES, &cluster, &[]).await;
    let count = async |server: &Postgres, database: &str, table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        server.client_of(database).await.query_one(&sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(count(&copy, "analytics", "visits").await, 2000);
    assert_eq!(count(&copy, "subscriptions", "invoices").await, 2000);
    // One table, into a cluster that lacks its database.
    let empty = Postgres::start(POSTGRES).await;
    let target = empty.uri();
    let table = ["restore", "latest", "-r", "google", "--job", "analytics", "--target", &target];
    let check =
        place.done(&[&table[..], &["--only", "analytics.public.visits", "--check"]].concat());
    assert!(!check.is_empty());
    let exists = "SELECT count(*)::text FROM pg_database WHERE datname = 'analytics'";
    assert_eq!(empty.value(exists).await, "0", "a check of the prerequisites writes nothing");
    place.done(&[&table[..], &["--only", "analytics.public.visits"]].concat());
    assert_eq!(count(&empty, "analytics", "visits").await, 2000);
    latest("google", "sessions", &cache);
    // An incremental snapshot has the commands since the full one in append-only files.
    let appends = if cache.join("appendonlydir").exists() { "yes" } else { "no" };
    let copy = Redis::on(redis::Version::Redis8, Some(&cache), &["--appendonly", appends]);
    assert_eq!(copy.run(&["DBSIZE"]).number(), 1000);
    latest("files", "settings", &files);
    let settings = place.path("aquarium/settings/aquarium.conf");
    let restored = files.join(settings.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(restored).unwrap(), std::fs::read(settings).unwrap());
}

/// Questions by day, by source and by state.
fn questions(place: &Place) {
    let status = place.done(&["status", "--date", "today"]);
    for job in ["services", "databases", "analytics", "sessions", "media"] {
        assert!(status.contains(job), "{job}: {status}");
    }
    let listed = json(place, &["list", "-r", "local", "--source", "mongodb", "--days", "7"]);
    let jobs: Vec<&Value> =
        listed["snapshots"].as_array().unwrap().iter().map(|one| &one["job"]).collect();
    assert!(jobs.len() >= 3 && jobs.iter().all(|job| *job == "services"), "{listed}");
    let find = ["find", "-r", "local", "--job", "services", "--before", "now"];
    let good = json(place, &[&find[..], &["--status", "completed", "--limit", "1"]].concat());
    let newest = json(place, &["show", "latest", "-r", "local", "--job", "services"]);
    assert!(good.to_string().contains(newest["snapshot"]["id"].as_str().unwrap()), "{good}");
    place.done(&["verify", "--date", "today", "-r", "files"]);
    let storage = json(place, &["storage", "-r", "local"]);
    assert_eq!(storage["quota_bytes"], 4_u64 << 30);
    for job in ["services", "databases", "sessions"] {
        assert!(storage["by_job"][job]["added_bytes"].as_u64() > Some(0), "{job}: {storage}");
    }
}

/// A job that failed is run again once its cause is corrected.
async fn retried(place: &Place, servers: &Servers) {
    let connections = async |allow: bool| {
        let sql = format!("ALTER DATABASE analytics ALLOW_CONNECTIONS {allow}");
        servers.postgres.run(&sql).await;
    };
    connections(false).await;
    let failed = place.run(&["run", "analytics"]);
    assert!(failed.code == 1 && failed.stderr.contains("analytics"), "{failed}");
    let run = json(place, &["status", "--runs"])["runs"][0]["run"].as_str().unwrap().to_owned();
    connections(true).await;
    place.done(&["retry", &run]);
    let runs = json(place, &["status", "--runs"]);
    assert_eq!(
        (&runs["runs"][0]["job"], &runs["runs"][0]["state"]),
        (&"analytics".into(), &"verified".into())
    );
    assert!(place.done(&["analyze", "latest"]).contains("analytics"));
    place.done(&["advise", "analytics"]);
}

mod needs_aquarium {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_lines_of_the_example_make_all_restores_possible() {
        let (receiver, servers) = (receiver(), Servers::start().await);
        let place = servers.place(&receiver.url(), "1d");
        executed(&place, &servers).await;
        types(&place).await;
        clouds(&place).await;
        questions(&place);
        retried(&place, &servers).await;
        let report = json(&place, &["report", "--since", "1d", "--format", "json"]);
        let checklist = report["checklist"].as_array().unwrap();
        let backed_up =
            checklist.iter().find(|check| check["demand"] == "Every job is backed up").unwrap();
        let of = |job: &str| {
            let subjects = backed_up["subjects"].as_array().unwrap();
            subjects.iter().find(|one| one["subject"] == job).unwrap()["met"].clone()
        };
        assert_eq!((of("services"), of("databases")), ("yes".into(), "yes".into()));
        // The lines do not back up the additions to the example.
        assert_eq!(of("history"), "no");
    }
}

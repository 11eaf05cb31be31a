//! `backup find` in databases: collections, tables, keys.

use bson::doc;
use serde_json::Value;

use super::Place;
use crate::support::mongod::{self, Mongod};
use crate::support::postgres::{self, Postgres};
use crate::support::redis::{self, Redis};
use backup_core::testing::tool;

const CONFIG: &str = r#"
    [repositories.main]
    url = "ROOM/main"
    [sources.crm]
    kind = "postgres"
    method = "logical"
    url = "${CRM}"
    programs = "${PROGRAMS}"
    [sources.events]
    kind = "mongodb"
    url = "${EVENTS}"
    [sources.cache]
    kind = "redis"
    url = "${CACHE}"
    [jobs.crm]
    source = "crm"
    repository = "main"
    [jobs.events]
    source = "events"
    repository = "main"
    [jobs.cache]
    source = "cache"
    repository = "main"
"#;

/// What is found, as paths or names; the last line is the summary.
fn found(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let outcome = place.run(&[&["find", "--json"], arguments].concat()).succeeded();
    let mut lines: Vec<Value> =
        outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    lines.retain(|line| line["event"] == "found");
    assert_eq!(summary["found"], lines.len(), "{summary}");
    lines
}

fn names<'a>(found: &'a [Value], of: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = found.iter().map(|one| one[of].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

mod needs_platform {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn collections_tables_and_keys_are_found() {
        let (crm, events) = (
            Postgres::start(postgres::Version::V17).await,
            Mongod::start(mongod::Version::V6_0).await,
        );
        let cache = Redis::start(redis::Version::Redis8);
        // The system may have an older pg_dump.
        let programs = std::fs::canonicalize(tool("pg_dump-18"))
            .unwrap()
            .parent()
            .unwrap()
            .display()
            .to_string();
        let variables = [
            ("CRM", crm.uri()),
            ("EVENTS", events.uri().to_owned()),
            ("CACHE", cache.address()),
            ("PROGRAMS", programs),
        ];
        let place = Place::new(CONFIG, &variables);
        place.done(&["init"]);
        crm.run("CREATE TABLE orders (id bigint); INSERT INTO orders VALUES (1), (2)").await;
        let orders = events.client.database("shop").collection("orders");
        orders.insert_one(doc! { "_id": 1 }).await.unwrap();
        cache.run(&["RPUSH", "list:1", "a"]);
        for number in 0..1_500 {
            cache.run(&["SET", &format!("session:{number}"), "x", "EX", "100000"]);
        }
        for job in ["crm", "events", "cache"] {
            place.done(&["run", job]);
        }
        cache.run(&["SET", "other", "y"]);
        place.done(&["run", "cache"]);

        let objects = found(&place, &["*.orders", "*.public.orders"]);
        assert_eq!(names(&objects, "object"), ["postgres.public.orders", "shop.orders"]);
        assert!(objects.iter().any(|one| one["job"] == "crm" && one["count"] == 2), "{objects:?}");
        // Keys only for whoever says so: that is slow.
        let outcome = place.run(&["find", "/0/other"]);
        assert_eq!(outcome.code, 1, "{outcome}");
        assert!(
            outcome.stderr.contains("add --keys to search the keys of 2 snapshots of Redis"),
            "{outcome}"
        );
        assert_eq!(names(&found(&place, &["/0/other", "--keys"]), "path"), ["/0/other"]);
        let lists = found(&place, &["list:*", "--keys", "--job", "cache", "--limit", "1"]);
        assert_eq!((names(&lists, "path"), &lists[0]["type"]), (vec!["/0/list:1"], &"list".into()));
        let oldest = place.run(&["list", "--job", "cache", "--json"]).succeeded();
        let oldest: Value = serde_json::from_str(&oldest.text()).unwrap();
        let oldest = oldest["snapshots"][0]["short_id"].as_str().unwrap();
        let sessions = found(&place, &["/0/session:*", "--keys", "--snapshot", oldest]);
        assert_eq!(sessions.len(), 1_500);
        assert!(sessions.iter().all(|one| one["snapshot"].as_str().unwrap().starts_with(oldest)
            && one["expires"].is_string()));
        // People are shown as many as they read.
        let told = place.done(&["find", "/0/session:*", "--keys", "--snapshot", oldest]);
        assert!(
            told.contains("1500 matches in 1 snapshot")
                && told.contains("500 matches are not listed"),
            "{told}"
        );
        // What came behind the dump is not searched, which is said.
        cache.run(&["SET", "late", "z"]);
        place.done(&["run", "cache", "--type", "incremental"]);
        let outcome = place.run(&["find", "/0/late", "--keys", "--snapshot", "latest"]);
        assert_eq!(outcome.code, 1, "{outcome}");
        assert!(outcome.stderr.contains("has commands after its dump"), "{outcome}");
    }
}

//! A group with a member by the logical method: that one is restored to its snapshot, the others to
//! the moment.

use std::time::{Duration, Instant};

use backup_core::testing::tool;
use jiff::Timestamp;
use serde_json::Value;

use super::{Place, now};
use crate::support::postgres::{Postgres, Version, hand_over_all};

const CONFIG: &str = r#"
    [repositories.main]
    url = "ROOM/main"

    [sources.crm]
    kind = "postgres"
    url = "${CRM}"
    fast_checkpoint = true
    [sources.shop]
    kind = "postgres"
    url = "${SHOP}"
    method = "logical"
    programs = "${PROGRAMS}"

    [jobs.crm]
    source = "crm"
    repository = "main"
    logs.flush_after = "200ms"
    [jobs.shop]
    source = "shop"
    repository = "main"
    include = ["shop"]
    [jobs.wiki]
    source = "shop"
    repository = "main"
    include = ["wiki"]

    [groups.platform]
    jobs = ["crm", "shop"]
    [groups.databases]
    jobs = ["shop", "wiki"]
"#;

struct Servers {
    crm: Postgres,
    shop: Postgres,
    copy: Postgres,
    place: Place,
}

impl Servers {
    async fn start() -> Self {
        let crm = Postgres::with(Version::V18, &[], &["wal_level=replica"]).await;
        crm.run("CREATE TABLE rows (id int); INSERT INTO rows VALUES (1)").await;
        let (shop, copy) =
            (Postgres::start(Version::V13).await, Postgres::start(Version::V18).await);
        for name in ["shop", "wiki"] {
            shop.run(&format!("CREATE DATABASE {name}")).await;
            let client = shop.client_of(name).await;
            client
                .batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
                .await
                .unwrap();
        }
        let programs = tool("pg_dump-18").canonicalize().unwrap();
        let environment = [
            ("CRM", crm.uri()),
            ("SHOP", shop.uri()),
            ("PROGRAMS", programs.parent().unwrap().to_str().unwrap().to_owned()),
        ];
        let place = Place::new(CONFIG, &environment);
        place.done(&["init"]);
        Self { crm, shop, copy, place }
    }

    /// One more row in both databases.
    async fn write(&self, number: u32) {
        self.crm.run(&format!("INSERT INTO rows VALUES ({number})")).await;
        let client = self.shop.client_of("shop").await;
        client.execute(&format!("INSERT INTO t VALUES ({number})"), &[]).await.unwrap();
    }

    fn targets(&self, directory: &str) -> [String; 2] {
        let crm = self.place.path(directory);
        [format!("--target=crm={}", crm.display()), format!("--target=shop={}", self.copy.uri())]
    }

    /// Waits until the log of `crm` reaches a moment.
    async fn reached(&self, moment: Timestamp) {
        let (started, moment) = (Instant::now(), moment.to_string());
        let never = self.place.path("never");
        let never = ["--target", never.to_str().unwrap(), "--dry-run"];
        let dry = [&["restore", "--job", "crm", "--at", &moment], &never[..]].concat();
        while self.place.run(&dry).code != 0 {
            assert!(started.elapsed() < Duration::from_secs(90), "not at {moment}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Restores the group; returns the numbers of rows of both members.
    async fn restored(&self, at: &str, directory: &str) -> [String; 2] {
        self.copy.run("DROP DATABASE IF EXISTS shop WITH (FORCE)").await;
        let targets = self.targets(directory);
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let said = self.place.done(&[&["restore", "platform", "--at", at], &targets[..]].concat());
        assert!(said.contains("no log: restored the snapshot of"), "{said}");
        let crm = self.place.path(directory);
        hand_over_all(&crm);
        let crm = Postgres::recovered(Version::V18, &crm, &[]).await;
        let shop = self.copy.client_of("shop").await;
        let shop = shop.query_one("SELECT count(*)::text FROM t", &[]).await.unwrap().get(0);
        [crm.value("SELECT count(*)::text FROM rows").await, shop]
    }
}

/// The last event of a plan in JSON.
fn planned(place: &Place, arguments: &[&str]) -> Value {
    let outcome = place.run(&[arguments, &["--dry-run", "--json"]].concat()).succeeded();
    let text = outcome.text();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

mod needs_pg_dump_13 {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn group_restores_logical_members_to_their_snapshots() {
        let servers = Servers::start().await;
        let place = &servers.place;
        let early = now();
        let said = place.done(&["run", "platform"]);
        assert!(said.contains("2 of 2 jobs backed up") && said.contains("Moments from"), "{said}");
        let follower = place.spawn(&["logs", "follow", "crm"]);
        servers.write(2).await;
        let middle = now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        place.done(&["run", "shop"]);
        servers.write(3).await;
        let late = now();
        servers.reached(late).await;

        // The first snapshot of the logical member: its second row was written after it.
        let at = middle.to_string();
        let targets = servers.targets("dry");
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let restore = [&["restore", "platform", "--at", &at], &targets[..]].concat();
        let plan = place.done(&[&restore[..], &["--dry-run", "--no-owner"]].concat());
        let line = "no log: restores the snapshot of";
        assert!(plan.contains(line) && plan.contains("before the moment of the group"), "{plan}");
        let list: Value =
            serde_json::from_str(&place.run(&["list", "--json"]).succeeded().text()).unwrap();
        let snapshots = list["snapshots"].as_array().or(list.as_array()).unwrap();
        let of_shop = snapshots.iter().filter(|one| one["job"] == "shop");
        let first = of_shop.min_by_key(|one| one["time"].as_str().unwrap().to_owned()).unwrap();
        let members = planned(place, &restore)["members"].clone();
        assert_eq!(members[1]["snapshot"], first["id"], "{members} {list}");
        let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
        assert_eq!(time(&members[1]["snapshot_time"]), time(&first["time"]), "{members}");
        assert!(members[0].get("snapshot_time").is_none(), "{members}");
        assert_eq!(servers.restored(&at, "first").await, ["2", "1"]);
        assert_eq!(servers.restored(&late.to_string(), "second").await, ["3", "2"]);
        let refused = place.fails(
            1,
            &[&["restore", "platform", "--at", &early.to_string()], &targets[..]].concat(),
        );
        assert!(refused.contains("its first snapshot is of"), "{refused}");

        // A snapshot that the latest moment leaves out is named.
        follower.stop();
        tokio::time::sleep(Duration::from_secs(2)).await;
        place.done(&["run", "shop"]);
        servers.copy.run("DROP DATABASE shop WITH (FORCE)").await;
        let plan = place.done(&[&["restore", "platform"], &targets[..], &["--dry-run"]].concat());
        assert!(plan.contains("Job crm limits this moment"), "{plan}");
        assert!(plan.contains("shop (newer by"), "{plan}");
        members_of_one_server(&servers).await;
    }

    /// Members with different databases may have one target, members with the same ones may not.
    async fn members_of_one_server(servers: &Servers) {
        let (place, uri) = (&servers.place, servers.copy.uri());
        place.done(&["run", "databases"]);
        let targets = [format!("--target=shop={uri}"), format!("--target=wiki={uri}")];
        let restore = ["restore", "databases", &targets[0], &targets[1]];
        let said = place.done(&restore);
        assert!(said.contains("Group databases restored"), "{said}");
        for (name, rows) in [("shop", 3_i64), ("wiki", 1)] {
            let client = servers.copy.client_of(name).await;
            let count = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
            assert_eq!(count.get::<_, i64>(0), rows, "{name}");
        }
        let config = std::fs::read_to_string(place.path("backup.toml")).unwrap();
        let same = config.replace("include = [\"wiki\"]", "include = [\"shop\"]");
        std::fs::write(place.path("backup.toml"), same).unwrap();
        place.done(&["run", "databases"]);
        let replace = [&restore[..], &["--if-exists", "replace", "--yes"]].concat();
        let refused = place.fails(2, &replace);
        assert!(refused.contains("have the same restore target"), "{refused}");
    }
}

//! Snapshots beside servers: which tables differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::place::Place;
use super::{Version, backed_up_shop, run_in};
use crate::support::postgres::Postgres;

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, t text); INSERT INTO orders SELECT \
                      n, 'order ' || n FROM generate_series(1, 500) n; CREATE TABLE same AS TABLE \
                      orders; CREATE TABLE gone (id int); CREATE SCHEMA parts; CREATE TABLE sales \
                      (id int, year int) PARTITION BY RANGE (year); CREATE TABLE parts.y2024 \
                      PARTITION OF sales FOR VALUES FROM (2024) TO (2025); CREATE TABLE \
                      parts.y2025 PARTITION OF sales FOR VALUES FROM (2025) TO (2026); INSERT INTO \
                      sales SELECT n, 2024 + n % 2 FROM generate_series(1, 100) n";

/// The objects that differ, and the number of equal ones.
fn differences(place: &Place, code: i32, arguments: &[&str]) -> (BTreeSet<String>, u64) {
    let outcome = place.run(&[&["compare", "latest", "--json"], arguments].concat());
    assert_eq!(outcome.code, code, "{outcome}");
    let text = outcome.text();
    let mut objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let found = objects.next().unwrap().unwrap();
    let names = found["differences"].as_array().unwrap().iter();
    let names = names.map(|one| one["object"].as_str().unwrap().to_owned());
    (names.collect(), found["same"].as_u64().unwrap())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) async fn compare_names_tables_that_differ(version: Version) {
    let (server, place) = backed_up_shop(version, TABLES).await;
    let said = place.done(&["compare", "latest"]);
    assert!(said.contains("the server are equal: 5 objects"), "{said}");
    let copy = Postgres::start(version).await;
    let target = copy.uri();
    place.done(&["restore", "latest", "--target", &target]);
    let with = ["--with", &*target];
    assert_eq!(differences(&place, 0, &with), (set(&[]), 5));

    // Equal numbers of rows and bytes, another number of rows in one partition, a table that is
    // gone, one that is new, and a database that is.
    for change in [
        "UPDATE orders SET t = 'ordre 7' WHERE id = 7",
        "DELETE FROM sales WHERE id = 2",
        "DROP TABLE gone",
        "CREATE TABLE extra AS SELECT 1 AS a",
    ] {
        run_in(&copy, "shop", change).await;
    }
    copy.run("CREATE DATABASE other").await;
    run_in(&copy, "other", "CREATE TABLE t AS SELECT 1 AS a").await;
    let changed = [
        "other.public.t",
        "shop.parts.y2024",
        "shop.public.extra",
        "shop.public.gone",
        "shop.public.orders",
    ];
    assert_eq!(differences(&place, 1, &with), (set(&changed), 2));
    let said = place.fails(1, &[&["compare", "latest"], &with[..]].concat());
    for reason in ["different content of rows", "different number of rows", "not on the server"] {
        assert!(said.contains(reason), "{said}");
    }
    // Only what is selected is read: a table that is locked does not disturb.
    let client = copy.client_of("shop").await;
    client.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let only = |pattern| [&with[..], &["--only", pattern]].concat();
    assert_eq!(differences(&place, 0, &only("shop.public.same")), (set(&[]), 1));
    let sales = differences(&place, 1, &only("shop.public.sales"));
    assert_eq!(sales, (set(&["shop.parts.y2024"]), 1), "its partitions");
    client.batch_execute("ROLLBACK").await.unwrap();
    let outcome =
        place.run(&[&["compare", "latest"], &only("shop.public.same,shop.nosuch")[..]].concat());
    let named = outcome.stderr.contains("the pattern \"shop.nosuch\" matches nothing");
    assert_eq!((outcome.code, named), (3, true), "{outcome}");
    let refused = place.fails(1, &[&["compare", "latest"], &only("nosuch")[..]].concat());
    assert!(refused.contains("nothing was compared"), "{refused}");
    refusals(&server, &place, &copy).await;
}

/// Requests that make no sense, and data that cannot be compared.
async fn refusals(server: &Postgres, place: &Place, copy: &Postgres) {
    let target = copy.uri();
    let scratch = ["compare", "latest", "--with", &target, "--scratch", "/tmp"];
    assert!(place.fails(2, &scratch).contains("physical backups"), "no scratch server is needed");
    let other = place.fails(2, &["compare", "latest", "--with", "mongodb://127.0.0.1:1/"]);
    assert!(other.contains("the snapshot is of PostgreSQL"), "{other}");
    // The same rows in another encoding.
    copy.run("DROP DATABASE other WITH (FORCE)").await;
    copy.run("DROP DATABASE shop WITH (FORCE)").await;
    copy.run(
        "CREATE DATABASE shop ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    .await;
    let outcome = place.run(&["compare", "latest", "--with", &target]);
    assert_eq!(outcome.code, 3, "{outcome}");
    assert!(outcome.stderr.contains("their rows cannot be compared"), "{outcome}");
    // Without digests there is nothing to compare with.
    let config = std::fs::read_to_string(place.path("backup.toml")).unwrap();
    let without = config.replace("method =", "digests = false\nmethod =");
    std::fs::write(place.path("backup.toml"), without).unwrap();
    run_in(server, "shop", "INSERT INTO gone VALUES (1)").await;
    place.done(&["run", "crm"]);
    let refused = place.fails(2, &["compare", "latest"]);
    assert!(refused.contains("digests = true"), "{refused}");
}

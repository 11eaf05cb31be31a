//! `expect` for physical backups, by the estimates of the server.

use super::place::{Place, with_role};
use crate::support::postgres::Version;

const EXPECT: &str = "\n[[jobs.crm.expect]]\nobject = \"postgres.public.orders\"\nmin = 100\n\
                      [[jobs.crm.expect]]\nobject = \"postgres.public.parted\"\nmin = 100\n";

/// Ids of the held snapshots.
fn held(place: &Place) -> Vec<String> {
    let list = place.done(&["list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let snapshots = list["snapshots"].as_array().unwrap().iter();
    let held = snapshots.filter(|snapshot| !snapshot["hold"].is_null());
    held.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// An emptied table fails the run, and the snapshot before is held, once.
pub(super) async fn estimates_of_the_server_are_compared(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server
        .run(
            "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id; CREATE TABLE parted (id \
             int) PARTITION BY RANGE (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES \
             FROM (0) TO (60); CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (60) TO \
             (120); INSERT INTO parted SELECT generate_series(1, 110)",
        )
        .await;
    let place = Place::new(&server, "fast_checkpoint = true");
    let config = place.path("backup.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + EXPECT).unwrap();
    place.done(&["config", "check"]);
    let unknown = place.run(&["run", "crm"]);
    assert_eq!(unknown.code, 3, "never analyzed: {unknown}");
    assert!(unknown.stderr.contains("no counts of postgres.public.orders"), "{unknown}");
    server.run("ANALYZE orders, parted").await;
    place.done(&["run", "crm"]);
    assert_eq!(held(&place), Vec::<String>::new());
    server.run("DELETE FROM orders WHERE id > 20; DELETE FROM parted WHERE id > 50").await;
    server.run("ANALYZE orders, parted").await;
    let failed = place.fails(1, &["run", "crm"]);
    for lacking in ["orders: about 20 rows, at least 100", "parted: about 50 rows, at least 100"] {
        assert!(failed.contains(lacking), "{failed}");
    }
    let first = held(&place);
    assert_eq!(first.len(), 1);
    place.fails(1, &["run", "crm"]);
    assert_eq!(held(&place), first, "the snapshot that lacks rows is not held");
    place.fails(1, &["run", "crm"]);
    assert_eq!(held(&place), first, "nor is the next one");
    // Emptied or dropped, without an estimate.
    for statement in ["TRUNCATE orders", "DROP TABLE orders"] {
        server.run(statement).await;
        assert!(place.fails(1, &["run", "crm"]).contains("orders: about 0 rows"), "{statement}");
    }
    assert_eq!(held(&place), first);
}

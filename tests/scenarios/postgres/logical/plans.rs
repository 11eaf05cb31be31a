//! Plans of restores: rows of the snapshot and of the tables at the target.

use serde_json::{Value, json};

use super::super::place::Place;
use super::{Version, backed_up_shop, run_in, value_of};
use crate::support::postgres::Postgres;

const SHOP: &str = "CREATE TABLE notes (id serial PRIMARY KEY, t text); INSERT INTO notes (t) \
                    SELECT 'n' FROM generate_series(1, 1234); CREATE TABLE empty (id int PRIMARY \
                    KEY); CREATE TABLE parts (id int, v int) PARTITION BY RANGE (id); CREATE TABLE \
                    parts_a PARTITION OF parts FOR VALUES FROM (0) TO (100); CREATE TABLE parts_b \
                    PARTITION OF parts FOR VALUES FROM (100) TO (1000); INSERT INTO parts SELECT \
                    n, n FROM generate_series(50, 300) n; CREATE VIEW few AS SELECT * FROM notes \
                    WHERE id < 10";

/// After a restore, which analyses all tables: one has more rows and was analysed, others never
/// were, and one is not in the snapshot.
const CHANGES: &str = "INSERT INTO notes (t) SELECT 'm' FROM generate_series(1, 17); ANALYZE \
                       notes; DROP TABLE empty; CREATE TABLE empty (id int PRIMARY KEY); INSERT \
                       INTO empty VALUES (1); CREATE TABLE fresh AS SELECT 1 AS id; CREATE TABLE \
                       extra AS SELECT n FROM generate_series(1, 77) n; ANALYZE extra";

const TABLES: [&str; 5] = ["notes", "empty", "parts", "parts_a", "parts_b"];

async fn count(server: &Postgres, table: &str) -> u64 {
    let count = value_of(server, "shop", &format!("SELECT count(*)::text FROM {table}")).await;
    count.parse().unwrap()
}

/// The plan as JSON.
fn plan(place: &Place, arguments: &[&str]) -> Value {
    let outcome = place.run(&[arguments, &["--dry-run", "--json"]].concat()).succeeded();
    serde_json::from_str(outcome.text().lines().last().unwrap()).unwrap()
}

/// The planned object of a table.
fn object<'a>(plan: &'a Value, table: &str) -> &'a Value {
    let name = json!(format!("shop.public.{table}"));
    let objects = plan["objects"].as_array().unwrap();
    objects.iter().find(|object| object["name"] == name).unwrap()
}

pub(crate) async fn plans_count_rows_of_snapshot_and_target(version: Version) {
    let (server, place) = backed_up_shop(version, SHOP).await;
    let copy = Postgres::with(version, &[], &["autovacuum=off"]).await;
    let target = copy.uri();
    let restore = ["restore", "latest", "--target", &target, "--only", "shop"];
    let fresh = plan(&place, &restore);
    for table in TABLES {
        let planned = object(&fresh, table);
        assert_eq!(planned["count"], json!(count(&server, table).await), "{table}: {planned}");
        assert_eq!(planned["existing"], Value::Null, "{planned}");
    }
    let shown = place.done(&[&restore[..], &["--dry-run"]].concat());
    for line in [
        "    table shop.public.notes, 1234 rows\n",
        "    table shop.public.empty, 0 rows\n",
        "    table shop.public.parts, 251 rows\n",
        "    view shop.public.few\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
    place.done(&restore);
    run_in(&copy, "shop", CHANGES).await;
    let replace = [&restore[..], &["--if-exists", "replace", "--delete"]].concat();
    let replacing = plan(&place, &replace);
    for table in ["notes", "parts", "parts_a", "parts_b"] {
        let planned = object(&replacing, table);
        // Tables of less than 30 000 rows are analysed as a whole.
        let existing = json!({"count": null, "estimate": count(&copy, table).await});
        assert_eq!(planned["existing"], existing, "{planned}");
        assert_eq!(planned["count"], json!(count(&server, table).await), "{planned}");
    }
    assert_eq!(object(&replacing, "empty")["existing"], json!({"count": null}), "never analysed");
    let till = copy.client_of("shop").await;
    till.batch_execute("SET application_name = 'the till'").await.unwrap();
    let planned = place.run(&[&replace[..], &["--dry-run"]].concat());
    let (shown, notes) = (planned.text(), planned.stderr);
    let ended = "replacing shop ends 1 session in it: postgres the till from 127.0.0.1";
    assert!((shown.clone() + &notes).contains(ended), "{shown}{notes}");
    drop(till);
    // Without a terminal there is no prompt, but the same list and a refusal.
    let refused = place.fails(5, &replace);
    for line in [
        "    table shop.public.notes, 1234 rows; replaces about 1251 rows\n",
        "    table shop.public.empty, 0 rows; replaces the existing table, rows not known\n",
        "    table shop.public.parts, 251 rows; replaces about 251 rows\n",
        "    view shop.public.few; replaces the existing view\n",
        "    table shop.public.extra, about 77 rows\n",
        "    table shop.public.fresh, rows not known\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
        assert!(refused.contains(line), "{line}{refused}");
    }
    let merge = [&restore[..], &["--only", "shop.public.notes", "--if-exists", "merge"]].concat();
    let shown = place.done(&[&merge[..], &["--dry-run"]].concat());
    let line = "    table shop.public.notes, 1234 rows; merges into about 1251 rows\n";
    assert!(shown.contains(line), "{shown}");
    place.done(&[&replace[..], &["--yes"]].concat());
    for table in TABLES {
        assert_eq!(object(&replacing, table)["count"], json!(count(&copy, table).await), "{table}");
    }
}

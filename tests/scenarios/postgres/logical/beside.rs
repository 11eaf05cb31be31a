//! Copies of partitioned tables beside the originals: no option changes the originals.

use std::collections::BTreeMap;

use backup_core::source::{IfExists, RestoreRequest, Selection};

use super::parts::{replacing, request};
use super::{
    Version, backed_up, definitions, digests, logical, renaming, repo, restored, run_in, source,
    try_restore, value_of,
};
use crate::support::postgres::Postgres;

/// A table with partitions of several levels and in two schemas, and definitions with their names.
const SALES: &str = "CREATE SCHEMA cold; CREATE TABLE sales (id serial, day int NOT NULL, region \
                     text, total int CONSTRAINT sales_total CHECK (total > 0), PRIMARY KEY (id, \
                     day)) PARTITION BY RANGE (day); CREATE TABLE sales_1 PARTITION OF sales FOR \
                     VALUES FROM (0) TO (100); CREATE TABLE sales_2 PARTITION OF sales FOR VALUES \
                     FROM (100) TO (200) PARTITION BY HASH (id); CREATE TABLE sales_2_0 PARTITION \
                     OF sales_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE sales_2_1 \
                     PARTITION OF sales_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1); CREATE TABLE \
                     cold.y2 PARTITION OF sales FOR VALUES FROM (200) TO (300); CREATE INDEX \
                     by_region ON sales (region); ALTER TABLE sales_1 CLUSTER ON \
                     sales_1_region_idx; ALTER TABLE cold.y2 REPLICA IDENTITY USING INDEX \
                     y2_pkey; INSERT INTO sales (day, region, total) SELECT n, 'r' || n % 7, n + 1 \
                     FROM generate_series(0, 299) n";

/// The rows of a table in a text.
async fn rows(server: &Postgres, table: &str) -> String {
    let sql = format!(
        "SELECT count(*) || md5(string_agg(s.*::text, ',' ORDER BY id, day)) FROM {table} s"
    );
    value_of(server, "shop", &sql).await
}

/// Digests of everything that is no copy.
async fn originals(server: &Postgres) -> BTreeMap<String, String> {
    let all = digests(server).await.into_iter();
    let all = all.map(|(name, digest)| (name, format!("{digest:?}")));
    let copies = ["sales_then", ".old.", "old_sales"];
    all.filter(|(name, _)| copies.iter().all(|copy| !name.contains(copy))).collect()
}

pub(crate) async fn copies_leave_the_originals_alone(version: Version) {
    let server = Postgres::start(version).await;
    for (database, sql) in [
        ("shop", SALES),
        ("plain", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)"),
    ] {
        server.run(&format!("CREATE DATABASE {database}")).await;
        run_in(&server, database, sql).await;
    }
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let then = rows(&server, "sales").await;
    run_in(&server, "shop", "INSERT INTO sales (day, region, total) VALUES (1, 'late', 1)").await;
    run_in(&server, "plain", "INSERT INTO t VALUES (3)").await;
    let (defined, was) = (definitions(&server, "shop"), originals(&server).await);
    let now = rows(&server, "sales").await;

    let rule = || renaming(&server, &["shop.public.sales=shop.public.sales_then"]);
    for if_exists in [IfExists::Fail, IfExists::Replace, IfExists::Merge] {
        restored(&snapshot, rule(), request(&["shop.public.sales"], if_exists)).await;
        assert_eq!(rows(&server, "sales_then").await, then, "{if_exists:?}");
        assert_eq!(rows(&server, "sales").await, now, "{if_exists:?}");
        assert_eq!(originals(&server).await, was, "{if_exists:?}");
    }
    let parts = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) \
                 FROM pg_inherits WHERE inhparent IN ('sales_then'::regclass, \
                 'sales_then_2'::regclass)";
    assert_eq!(
        value_of(&server, "shop", parts).await,
        "cold.sales_then_y2 sales_then_1 sales_then_2 sales_then_2_0 sales_then_2_1"
    );
    let clustered = "SELECT indexrelid::regclass::text FROM pg_index WHERE indisclustered AND \
                     indrelid = 'sales_then_1'::regclass";
    assert_eq!(value_of(&server, "shop", clustered).await, "sales_then_1_region_idx");
    run_in(&server, "shop", "DROP TABLE sales_then").await;
    assert_eq!(definitions(&server, "shop"), defined);

    // A part of a table that stays, by its own name or by that of its schema.
    for include in ["shop.public.sales_1", "shop.cold"] {
        let asked = request(&[include], IfExists::Replace);
        let error = try_restore(&snapshot, logical(&server), asked).await.unwrap_err();
        assert!(error.chain().contains("would change tables that stay"), "{}", error.chain());
        let error =
            try_restore(&snapshot, logical(&server), request(&[include], IfExists::Fail)).await;
        let hint = error.unwrap_err().hint().unwrap().to_owned();
        assert!(!hint.contains("replace"), "{hint}");
    }
    // Under another name of the schema, a part in another schema would be removed from its table.
    let to_old =
        |database: &str| renaming(&server, &[&*format!("{database}.public={database}.old")]);
    let asked = request(&["shop"], IfExists::Replace);
    let error = try_restore(&snapshot, to_old("shop"), asked).await.unwrap_err();
    assert!(error.chain().contains("is a part of"), "{}", error.chain());
    assert_eq!(
        (definitions(&server, "shop"), originals(&server).await),
        (defined.clone(), was.clone())
    );
    // It gets a name of its own, so that nothing is merged into the part of the original.
    restored(&snapshot, to_old("shop"), request(&["shop"], IfExists::Merge)).await;
    assert_eq!(
        (rows(&server, "old.sales").await, originals(&server).await),
        (then.clone(), was.clone())
    );
    assert_eq!(
        value_of(&server, "shop", "SELECT count(*)::text FROM cold.old_sales_y2").await,
        "100"
    );
    run_in(&server, "shop", "DROP SCHEMA old CASCADE").await;
    assert_eq!(definitions(&server, "shop"), defined);
    // A whole database under other names of its schemas is not exchanged.
    restored(&snapshot, to_old("plain"), request(&["plain"], IfExists::Replace)).await;
    let both = "SELECT (SELECT count(*) FROM t) || ' ' || (SELECT count(*) FROM old.t)";
    assert_eq!(value_of(&server, "plain", both).await, "3 2");
    assert_eq!(originals(&server).await, was);

    // With `--delete`, parts that the snapshot lacks go with their table, and the plan names them.
    run_in(
        &server,
        "shop",
        "CREATE TABLE sales_3 PARTITION OF sales FOR VALUES FROM (300) TO (400)",
    )
    .await;
    let asked = replacing(&["shop.public.sales"]);
    let plan = RestoreRequest { dry_run: true, ..asked.clone() };
    let plan = try_restore(&snapshot, logical(&server), plan).await.unwrap();
    let removed: Vec<&str> = plan.removals.iter().map(|one| &*one.name).collect();
    assert_eq!(removed, ["shop.public.sales_3"]);
    restored(&snapshot, logical(&server), asked).await;
    assert_eq!(rows(&server, "sales").await, then);
}

/// Rules that give two relations one name are refused.
pub(crate) async fn equal_new_names_are_refused(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", "CREATE TABLE a (id int); CREATE TABLE b (id int)").await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let to = renaming(&server, &["shop.public.*=shop.public.c"]);
    let error = try_restore(&snapshot, to, request(&["shop"], IfExists::Fail)).await.unwrap_err();
    assert!(error.chain().contains("one name, public.c"), "{}", error.chain());
}

/// Tables with everything that ties them to others.
const TIED: &str = "CREATE TABLE towns (id int PRIMARY KEY); INSERT INTO towns VALUES (1); CREATE \
                    TABLE people (id int, a int, b int); CREATE TABLE staff (pay int, town int \
                    REFERENCES towns) INHERITS (people); INSERT INTO people VALUES (1, 1, 1); \
                    INSERT INTO staff VALUES (2, 2, 2, 2, 1); CREATE STATISTICS pairs ON a, b FROM \
                    staff; COMMENT ON STATISTICS pairs IS 'both'; ALTER STATISTICS pairs SET \
                    STATISTICS 50; CREATE PUBLICATION news FOR TABLE staff; SELECT \
                    lo_from_bytea(70001, 'then')";

/// Ties of the tables, and the large object.
async fn tied(server: &Postgres) -> String {
    let sql = "SELECT concat_ws('|', (SELECT count(*) FROM people), (SELECT \
               string_agg(schemaname || '.' || tablename, ' ') FROM pg_publication_tables), \
               (SELECT string_agg(obj_description(oid, 'pg_statistic_ext') || stxstattarget, ' ') \
               FROM (SELECT oid, stxname, coalesce((to_jsonb(s) ->> 'stxstattarget')::int, -1) AS \
               stxstattarget FROM pg_statistic_ext s WHERE stxnamespace = 'public'::regnamespace) s WHERE stxname = 'pairs'), \
               convert_from(lo_get(70001), 'UTF8'))";
    value_of(server, "shop", sql).await
}

pub(crate) async fn copies_are_not_tied_to_originals(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", TIED).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    run_in(&server, "shop", "SELECT lo_put(70001, 0, 'now!')").await;
    let (defined, was) = (definitions(&server, "shop"), tied(&server).await);
    assert_eq!(was, "2|public.staff|both50|now!");
    let rule = || renaming(&server, &["shop.public.staff=shop.public.copy"]);
    for if_exists in [IfExists::Fail, IfExists::Replace] {
        let asked = request(&["shop.public.staff"], if_exists);
        let plan = RestoreRequest { dry_run: true, ..asked.clone() };
        let plan = try_restore(&snapshot, rule(), plan).await.unwrap();
        let report = restored(&snapshot, rule(), asked).await;
        // Its parent and its publication.
        assert_eq!((plan.warnings, report.warnings), (2, 2), "{if_exists:?}");
        assert_eq!(tied(&server).await, was);
        let copy = "SELECT concat_ws(' ', t.id, t.a, t.pay, obj_description((SELECT oid FROM \
                    pg_statistic_ext WHERE stxname = 'copy_pairs'), 'pg_statistic_ext')) FROM copy t";
        assert_eq!(value_of(&server, "shop", copy).await, "2 2 2 both");
    }
    run_in(&server, "shop", "DROP TABLE copy").await;
    assert_eq!(definitions(&server, "shop"), defined);
    // Under its own name everything is tied again.
    let report =
        restored(&snapshot, logical(&server), request(&["shop.public.staff"], IfExists::Replace));
    assert_eq!(report.await.warnings, 0);
    assert_eq!((tied(&server).await, definitions(&server, "shop")), (was.clone(), defined.clone()));
    // Large objects have no other names.
    let to_old = renaming(&server, &["shop.public=shop.old"]);
    let report = restored(&snapshot, to_old, request(&["shop"], IfExists::Replace)).await;
    assert!(report.warnings > 0);
    assert_eq!(tied(&server).await, was);
    // A key and a publication that are not at the target: the plan warns of both.
    let (other, to) =
        (Postgres::start(version).await, request(&["shop.public.staff"], IfExists::Fail));
    other.run("CREATE DATABASE shop").await;
    run_in(&other, "shop", "CREATE TABLE people (id int, a int, b int)").await;
    let plan = RestoreRequest { dry_run: true, ..to.clone() };
    let plan = try_restore(&snapshot, logical(&other), plan).await.unwrap();
    let report = restored(&snapshot, logical(&other), to).await;
    assert_eq!((plan.warnings, report.warnings), (2, 2));
    assert_eq!(value_of(&other, "shop", "SELECT count(*)::text FROM people").await, "1");
}

//! Copies of `public`, which a dump describes only as far as it differs from that of a new database.

use backup_core::repository::SnapshotReader;
use backup_core::source::{IfExists, Selection};
use backup_sources::postgres::{LogicalOptions, PostgresOptions, Renames};

use super::parts::request;
use super::{Version, backed_up, logical, of, renaming, repo, restored, run_in, source, value_of};
use crate::support::postgres::Postgres;
use crate::support::repo::Repo;

/// Databases with the statements that change their `public`. A foreign key is checked by the rights
/// of the owner of its table.
const DATABASES: [(&str, &str); 6] = [
    (
        "plain",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a); INSERT INTO a \
         VALUES (1); INSERT INTO b VALUES (1); ALTER TABLE a OWNER TO alice; ALTER TABLE b OWNER TO \
         alice",
    ),
    ("closed", "CREATE TABLE a (id int); REVOKE ALL ON SCHEMA public FROM PUBLIC"),
    ("shared", "CREATE TABLE a (id int); GRANT CREATE ON SCHEMA public TO bob"),
    (
        "owned",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER SCHEMA public OWNER \
         TO alice",
    ),
    ("half", "CREATE TABLE a (id int); REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    ("theirs", "CREATE TABLE a (id int); ALTER DATABASE theirs OWNER TO alice"),
];

/// The privileges of two roles in a schema.
async fn rights(server: &Postgres, database: &str, schema: &str) -> String {
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', who, what, has_schema_privilege(who, '{schema}', what)), \
         ', ' ORDER BY who, what) FROM unnest(ARRAY['alice', 'bob']) who, \
         unnest(ARRAY['CREATE', 'USAGE']) what"
    );
    value_of(server, database, &sql).await
}

pub(crate) async fn copies_of_public_are_as_open(version: Version) {
    let (server, other) = (Postgres::start(version).await, Postgres::start(version).await);
    for one in [&server, &other] {
        one.run("CREATE ROLE alice").await;
        one.run("CREATE ROLE bob").await;
    }
    for (database, sql) in DATABASES {
        server.run(&format!("CREATE DATABASE {database}")).await;
        run_in(&server, database, sql).await;
    }
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let names = DATABASES.map(|(database, _)| database);
    let again = restored(&snapshot, logical(&other), request(&names, IfExists::Fail)).await;
    assert_eq!(again.warnings, 0);
    for database in names {
        let there = rights(&server, database, "public").await;
        assert_eq!(rights(&other, database, "public").await, there, "{database}");
        other.run(&format!("DROP DATABASE {database}")).await;
    }
    let rules = names.map(|database| format!("{database}.public={database}.old"));
    let rules = rules.each_ref().map(String::as_str);
    let pattern = names.map(|database| format!("{database}.public"));
    let pattern = pattern.each_ref().map(String::as_str);
    let beside = request(&pattern, IfExists::Fail);
    assert_eq!(restored(&snapshot, renaming(&server, &rules), beside).await.warnings, 0);
    let whole = request(&names, IfExists::Fail);
    assert_eq!(restored(&snapshot, renaming(&other, &rules), whole).await.warnings, 0);
    for database in names {
        let there = rights(&server, database, "public").await;
        for one in [&server, &other] {
            assert_eq!(rights(one, database, "old").await, there, "{database}");
        }
    }
    let closed = "alice CREATE f, alice USAGE f, bob CREATE f, bob USAGE f";
    assert_eq!(rights(&other, "closed", "old").await, closed);
    assert_eq!(value_of(&other, "owned", "SELECT old.one()::text").await, "1");
    assert_eq!(value_of(&server, "plain", "SELECT a::text FROM old.b").await, "1");
}

/// A database of `alice`, with a table of hers and one of `carol`; `public` has the owner that it has
/// in a new database.
async fn shop(version: Version) -> (Postgres, Repo, SnapshotReader) {
    let server = Postgres::start(version).await;
    server.run("CREATE ROLE alice LOGIN CREATEDB; CREATE ROLE bob; CREATE ROLE carol").await;
    server.run("CREATE DATABASE shop OWNER alice").await;
    let tables = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a); ALTER \
                  TABLE a OWNER TO alice; ALTER TABLE b OWNER TO alice; CREATE TABLE c (id int); \
                  ALTER TABLE c OWNER TO carol; REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    run_in(&server, "shop", tables).await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    (server, repo, snapshot)
}

pub(crate) async fn new_schemas_are_open_to_owners_of_their_tables(version: Version) {
    let (server, _repo, snapshot) = shop(version).await;
    let names = ["a", "b", "c"];
    let rules = names.map(|name| format!("shop.public.{name}=shop.single.{name}"));
    let rules = rules.each_ref().map(String::as_str);
    let tables = names.map(|name| format!("shop.public.{name}"));
    let tables = request(&tables.each_ref().map(String::as_str), IfExists::Fail);
    assert_eq!(restored(&snapshot, renaming(&server, &rules), tables).await.warnings, 0);
    // The key of `b` is checked as its owner.
    run_in(&server, "shop", "INSERT INTO single.a VALUES (1); INSERT INTO single.b VALUES (1)")
        .await;
    run_in(&server, "shop", "SET ROLE carol; SELECT FROM single.c; CREATE INDEX ON single.c (id)")
        .await;
    let closed = "SELECT has_schema_privilege('bob', 'single', 'USAGE')::text";
    assert_eq!(value_of(&server, "shop", closed).await, "false");
}

/// Owners of a database are no superusers: in old versions they do not own `public`.
pub(crate) async fn owners_copy_their_public(version: Version) {
    let (server, _repo, snapshot) = shop(version).await;
    let only = request(&["shop.public.a", "shop.public.b"], IfExists::Fail);
    let beside = request(&["shop.public"], IfExists::Fail);
    let of_alice = PostgresOptions::parse(&server.uri_of("alice")).unwrap();
    let by_alice = |rules: &[&str]| LogicalOptions {
        renames: Renames::new(rules).unwrap(),
        ..of(of_alice.clone())
    };
    run_in(&server, "shop", "DROP TABLE c").await;
    let snapshot_of_hers = {
        let repo = repo().await;
        backed_up(&repo, &source(logical(&server)).await, Selection::all()).await
    };
    let copied = restored(&snapshot_of_hers, by_alice(&["shop.public=shop.old"]), beside).await;
    assert_eq!((copied.warnings, copied.failed.len()), (0, 0));
    run_in(&server, "shop", "SET ROLE alice; INSERT INTO old.a VALUES (1); CREATE TABLE old.d ()")
        .await;
    let renamed = by_alice(&["shop.public.a=shop.one.a", "shop.public.b=shop.one.b"]);
    assert_eq!(restored(&snapshot, renamed, only).await.warnings, 0);
    // In a new database of an old version she cannot close `public`.
    let whole = request(&["shop"], IfExists::Fail);
    let warnings = u64::from(version < Version::V15);
    let again = restored(&snapshot_of_hers, by_alice(&["shop=again"]), whole).await;
    assert_eq!((again.warnings, again.failed.len()), (warnings, 0));
}

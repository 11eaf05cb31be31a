//! Copies of `public`, which a dump describes only as far as it differs from that of a new database.

use backup_core::source::{IfExists, Selection};

use super::parts::request;
use super::{Version, backed_up, logical, renaming, repo, restored, run_in, source, value_of};
use crate::support::postgres::Postgres;

/// Databases with the statements that change their `public`. A foreign key is checked by the rights
/// of the owner of its table.
const DATABASES: [(&str, &str); 4] = [
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

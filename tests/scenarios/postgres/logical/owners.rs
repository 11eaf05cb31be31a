//! Restores by roles that are no superusers: the administrators of managed services, and owners of
//! one database.

use std::collections::BTreeMap;

use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::postgres::{LogicalOptions, PostgresOptions, Renames};

use super::parts::{replacing, request};
use super::{
    Version, backed_up, definitions, digests, logical, of, repo, restored, run_in, source, value_of,
};
use crate::support::postgres::Postgres;

/// Made by `alice`. Rows come before everything that would refuse them, or change them.
const OWNED: &str = "SET ROLE alice; CREATE SCHEMA own; CREATE TYPE own.mood AS ENUM ('sad', 'ok'); \
                     CREATE DOMAIN own.positive AS int CHECK (VALUE > 0); CREATE TABLE own.hen (id int \
                     GENERATED ALWAYS AS IDENTITY PRIMARY KEY, egg int, m own.mood, p own.positive); \
                     CREATE TABLE own.egg (id serial PRIMARY KEY, hen int REFERENCES own.hen); \
                     INSERT INTO own.hen (egg, m, p) SELECT n, 'ok', n FROM generate_series(1, 20) \
                     n; INSERT INTO own.egg (hen) SELECT id FROM own.hen; ALTER TABLE own.hen ADD \
                     FOREIGN KEY (egg) REFERENCES own.egg; CREATE TABLE own.parts (id int, m \
                     own.mood) PARTITION BY HASH (m); CREATE TABLE own.parts_0 PARTITION OF \
                     own.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE own.parts_1 \
                     PARTITION OF own.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO \
                     own.parts SELECT n, (enum_range(NULL::own.mood))[n % 2 + 1] FROM \
                     generate_series(1, 50) n; CREATE FUNCTION own.refuse() RETURNS trigger \
                     LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'; CREATE TRIGGER \
                     refusing BEFORE INSERT OR UPDATE ON own.egg FOR EACH ROW EXECUTE FUNCTION \
                     own.refuse(); CREATE TABLE own.secret (who text, t text); INSERT INTO \
                     own.secret VALUES ('alice', 'hers'), ('bob', 'his'); ALTER TABLE own.secret \
                     ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON own.secret USING (who = \
                     current_user); CREATE VIEW own.seen AS SELECT id FROM own.hen; CREATE \
                     MATERIALIZED VIEW own.counted AS SELECT count(*) AS n FROM own.hen; CREATE \
                     INDEX ON own.egg (hen); COMMENT ON TABLE own.hen IS 'hens'; GRANT SELECT ON \
                     own.hen TO bob; CREATE PUBLICATION news FOR TABLE own.hen; ALTER DEFAULT \
                     PRIVILEGES IN SCHEMA own GRANT SELECT ON TABLES TO bob; SELECT \
                     lo_from_bytea(70001, 'large')";

/// As `alice`.
fn by_alice(server: &Postgres, rules: &[&str]) -> LogicalOptions {
    let options = of(PostgresOptions::parse(&server.uri_of("alice")).unwrap());
    LogicalOptions { renames: Renames::new(rules).unwrap(), ..options }
}

/// Digests, but for partitions by hashes of values whose numbers each server chooses.
async fn rows(server: &Postgres) -> BTreeMap<String, String> {
    let mut digests = digests(server).await;
    digests.retain(|name, _| !name.contains("parts_"));
    digests
}

pub(crate) async fn owners_restore_their_own(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    for (one, rights) in [(&server, ""), (&copy, "CREATEDB")] {
        one.run(&format!("CREATE ROLE alice LOGIN {rights}; CREATE ROLE bob")).await;
    }
    server.run("CREATE DATABASE shop OWNER alice").await;
    run_in(&server, "shop", OWNED).await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let (defined, was) = (definitions(&server, "shop"), rows(&server).await);
    let is_same = async |one: &Postgres| {
        assert_eq!((definitions(one, "shop"), rows(one).await), (defined.clone(), was.clone()));
        let rest = "SELECT convert_from(lo_get(70001), 'UTF8') || (SELECT n FROM own.counted) || \
                    (SELECT md5(string_agg(p::text, ' ' ORDER BY id)) FROM own.parts p)";
        let values = (value_of(&server, "shop", rest).await, value_of(one, "shop", rest).await);
        assert_eq!(values.0, values.1);
    };
    let shop = |if_exists| request(&["shop"], if_exists);
    // May create databases: a new one, and an exchange.
    for if_exists in [IfExists::Fail, IfExists::Replace] {
        assert_eq!(restored(&snapshot, by_alice(&copy, &[]), shop(if_exists)).await.warnings, 0);
        is_same(&copy).await;
    }
    // May not: into the database that is there, empty or not.
    copy.run("DROP DATABASE shop; ").await;
    copy.run("ALTER ROLE alice NOCREATEDB").await;
    copy.run("CREATE DATABASE shop OWNER alice").await;
    assert_eq!(restored(&snapshot, by_alice(&copy, &[]), shop(IfExists::Fail)).await.warnings, 0);
    is_same(&copy).await;
    run_in(
        &copy,
        "shop",
        "DELETE FROM own.secret; CREATE TABLE own.later (); ALTER TABLE own.later \
                           OWNER TO alice",
    )
    .await;
    let plan = RestoreRequest { dry_run: true, ..replacing(&["shop"]) };
    let plan = restored(&snapshot, by_alice(&copy, &[]), plan).await;
    let removed: Vec<&str> = plan.removals.iter().map(|one| &*one.name).collect();
    assert_eq!(removed, ["shop.own.later"]);
    restored(&snapshot, by_alice(&copy, &[]), replacing(&["shop"])).await;
    is_same(&copy).await;
    // One table under another name beside it.
    let rules = ["shop.own.parts=shop.own.then"];
    restored(&snapshot, by_alice(&copy, &rules), request(&["shop.own.parts"], IfExists::Fail))
        .await;
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM own.then").await, "50");
}

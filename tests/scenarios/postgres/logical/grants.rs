//! Privileges that others than the owner of an object granted; databases that are not complete.

use backup_core::source::{IfExists, Selection};
use backup_sources::postgres::{LogicalOptions, Renames};

use super::parts::request;
use super::{Version, backed_up, logical, renaming, repo, restored, run_in, source, value_of};
use crate::support::postgres::Postgres;

/// `bob` passes his privileges on to `carol`.
const GRANTS: &str = "CREATE TABLE salaries (id int PRIMARY KEY); CREATE TABLE harmless (id int \
                      PRIMARY KEY); CREATE SCHEMA x; CREATE TABLE x.t (id int); CREATE FUNCTION \
                      x.f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT USAGE ON SCHEMA x \
                      TO bob WITH GRANT OPTION; GRANT SELECT ON salaries, x.t TO bob WITH GRANT \
                      OPTION; GRANT EXECUTE ON FUNCTION x.f TO bob WITH GRANT OPTION; GRANT \
                      CREATE ON DATABASE pay TO bob WITH GRANT OPTION; SET ROLE bob; GRANT USAGE \
                      ON SCHEMA x TO carol; GRANT SELECT ON salaries, x.t TO carol; GRANT \
                      EXECUTE ON FUNCTION x.f TO carol; GRANT CREATE ON DATABASE pay TO carol";
/// Takes them back.
const REVOKES: &str = "REVOKE ALL ON SCHEMA x FROM bob CASCADE; REVOKE ALL ON salaries, x.t FROM \
                       bob CASCADE; REVOKE ALL ON FUNCTION x.f FROM bob CASCADE; REVOKE ALL ON \
                       DATABASE pay FROM bob CASCADE";

/// Privileges on a schema with its table and function, `salaries` and the database.
async fn rights(server: &Postgres, database: &str, schema: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' / ', (SELECT nspacl FROM pg_namespace WHERE nspname = '{schema}'), \
         (SELECT relacl FROM pg_class WHERE oid = '{schema}.t'::regclass), (SELECT proacl FROM \
         pg_proc WHERE pronamespace = '{schema}'::regnamespace), (SELECT relacl FROM pg_class WHERE \
         oid = 'salaries'::regclass), (SELECT datacl FROM pg_database WHERE datname = '{database}'))"
    );
    value_of(server, database, &sql).await
}

pub(crate) async fn grants_follow_their_objects(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE ROLE bob; CREATE ROLE carol").await;
    server.run("CREATE DATABASE pay").await;
    run_in(&server, "pay", GRANTS).await;
    let then = rights(&server, "pay", "x").await;
    assert!(then.matches("carol=").count() == 5 && then.contains("/bob"), "{then}");
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    run_in(&server, "pay", REVOKES).await;
    let now = rights(&server, "pay", "x").await;
    assert!(!now.contains("carol"), "{now}");
    // Objects that are not restored, and originals of copies.
    let one = request(&["pay.public.harmless"], IfExists::Fail);
    let rename = ["pay.public.harmless=pay.public.then"];
    assert_eq!(restored(&snapshot, renaming(&server, &rename), one).await.warnings, 0);
    assert_eq!(rights(&server, "pay", "x").await, now);
    let schema = request(&["pay.x"], IfExists::Fail);
    assert_eq!(restored(&snapshot, renaming(&server, &["pay.x=pay.y"]), schema).await.warnings, 0);
    assert_eq!(rights(&server, "pay", "x").await, now);
    let copied = rights(&server, "pay", "y").await;
    let of = |rights: &str| rights.split(" / ").take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of(&copied), of(&then));
    // All of it under another name, with and without privileges.
    let whole = || request(&["pay"], IfExists::Fail);
    restored(&snapshot, renaming(&server, &["pay=again"]), whole()).await;
    assert_eq!(rights(&server, "again", "x").await, then);
    let without = LogicalOptions {
        privileges: false,
        renames: Renames::new(["pay=without"]).unwrap(),
        ..logical(&server)
    };
    restored(&snapshot, without, whole()).await;
    assert_eq!(rights(&server, "without", "x").await, "");
    assert_eq!(rights(&server, "pay", "x").await, now);
}

pub(crate) async fn incomplete_databases_are_not_backed_up(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE \"pay (restoring)\"").await;
    let mark = "COMMENT ON DATABASE \"pay (restoring)\" IS 'A restore of a backup goes on in here, or \
                was broken off.'";
    server.run(mark).await;
    server.run("CREATE DATABASE pay").await;
    for database in ["pay", "pay (restoring)"] {
        run_in(&server, database, "CREATE TABLE t (id int)").await;
    }
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let copy = Postgres::start(version).await;
    restored(&snapshot, logical(&copy), request(&["pay*"], IfExists::Fail)).await;
    let made = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE \
                'pay%'";
    assert_eq!(copy.value(made).await, "pay");
}

//! Restores into databases in use: existing objects keep their owners, privileges and comments.

use backup_core::source::{Delete, IfExists, RestoreRequest, Selection};

use super::parts::request;
use super::{Version, backed_up, logical, repo, restored, run_in, source, value_of};
use crate::support::postgres::Postgres;

/// As backed up.
const BACKED_UP: &str = "CREATE SCHEMA own AUTHORIZATION alice; GRANT USAGE ON SCHEMA own TO bob; \
                         COMMENT ON SCHEMA own IS 'then'; ALTER DEFAULT PRIVILEGES IN SCHEMA own \
                         GRANT SELECT ON TABLES TO bob; ALTER DEFAULT PRIVILEGES GRANT SELECT ON \
                         SEQUENCES TO bob; CREATE TABLE own.t (id int PRIMARY KEY); CREATE DOMAIN \
                         own.d AS int; COMMENT ON DOMAIN own.d IS 'then'; CREATE FUNCTION own.f() \
                         RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION own.f() IS \
                         'then'; GRANT EXECUTE ON FUNCTION own.f() TO bob; REVOKE EXECUTE ON \
                         FUNCTION own.f() FROM PUBLIC; GRANT CREATE ON SCHEMA public TO bob; \
                         CREATE TABLE public.t (id int PRIMARY \
                         KEY)";
/// Changes since the backup.
const LATER: &str = "DROP TABLE own.t, public.t; CREATE TABLE own.other (); CREATE TABLE \
                     public.other (); ALTER SCHEMA own OWNER TO carol; REVOKE ALL ON SCHEMA own \
                     FROM bob; COMMENT ON SCHEMA own IS 'now'; ALTER DEFAULT PRIVILEGES IN SCHEMA \
                     own REVOKE SELECT ON TABLES FROM bob; ALTER DEFAULT PRIVILEGES REVOKE SELECT \
                     ON SEQUENCES FROM bob; COMMENT ON DOMAIN own.d IS 'now'; REVOKE EXECUTE ON \
                     FUNCTION own.f() FROM bob; COMMENT ON FUNCTION own.f() IS 'now'; REVOKE ALL ON \
                     SCHEMA public FROM bob";
/// Owners, privileges and comments of everything in both.
const ATTRIBUTES: &str = "SELECT concat_ws(' / ', (SELECT string_agg(concat_ws(' ', nspname, \
                          pg_get_userbyid(nspowner), nspacl, obj_description(oid, 'pg_namespace')), \
                          ', ' ORDER BY nspname) FROM pg_namespace WHERE nspname IN ('own', \
                          'public')), (SELECT count(*) FROM pg_default_acl), (SELECT concat_ws(' ', \
                          proacl, obj_description(oid, 'pg_proc')) FROM pg_proc WHERE proname = 'f' \
                          AND pronamespace = 'own'::regnamespace), (SELECT obj_description(oid, \
                          'pg_type') FROM pg_type WHERE typname = 'd' AND typnamespace = \
                          'own'::regnamespace))";

pub(crate) async fn schemas_in_use_keep_their_privileges(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE carol").await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", BACKED_UP).await;
    let then = value_of(&server, "shop", ATTRIBUTES).await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    run_in(&server, "shop", LATER).await;
    let now = value_of(&server, "shop", ATTRIBUTES).await;
    assert_ne!(now, then);
    // Without permission to change anything, with objects that are there: they are failures.
    let report = restored(&snapshot, logical(&server), request(&["shop"], IfExists::Fail)).await;
    let failed: Vec<&str> = report.failed.iter().map(|one| &*one.object).collect();
    assert_eq!(failed, ["shop.own.d (domain)", "shop.own.f() (function)"]);
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, now);
    let merged = restored(&snapshot, logical(&server), request(&["shop"], IfExists::Merge)).await;
    assert_eq!(merged.failed, []);
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, now);
    // Replaced as a whole, they are as in the snapshot.
    let delete = Delete::Planned(["shop.own.other", "shop.public.other"].map(Into::into).into());
    let replace = request(&["shop.own", "shop.public"], IfExists::Replace);
    let replace = RestoreRequest { delete, ..replace };
    restored(&snapshot, logical(&server), replace).await;
    // Default privileges of the whole database are in no schema.
    let default = "ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO bob";
    run_in(&server, "shop", default).await;
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, then);
    // So they are where nothing was.
    run_in(&server, "shop", "DROP TABLE own.t, public.t; DROP FUNCTION own.f(); DROP DOMAIN own.d")
        .await;
    let changed = "ALTER SCHEMA own OWNER TO carol; REVOKE ALL ON SCHEMA public FROM bob";
    run_in(&server, "shop", changed).await;
    restored(&snapshot, logical(&server), request(&["shop"], IfExists::Fail)).await;
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, then);
}

//! Objects that are restored by a second attempt, and statements that name missing roles.

use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::postgres::LogicalOptions;

use super::parts::{replacing, request};
use super::{
    Version, backed_up, definitions, digests, logical, renaming, repo, restored, run_in, source,
    try_restore, value_of,
};
use crate::support::postgres::Postgres;

/// Refuses to make `aa` before `zz` exists. `pg_dump` sorts by name.
const LATE: &str = "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $f$ \
                    BEGIN IF current_query() LIKE '%CREATE TABLE %aa%' AND \
                    to_regclass('public.zz') IS NULL THEN RAISE EXCEPTION 'not yet'; END IF; END \
                    $f$; CREATE EVENT TRIGGER late ON ddl_command_start EXECUTE FUNCTION refuse()";

/// Tables with their tablespaces and owners.
const PLACES: &str = "SELECT string_agg(concat_ws(' ', c.relname, s.spcname, r.rolname), ', ' ORDER \
                      BY c.relname) FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = \
                      c.reltablespace JOIN pg_roles r ON r.oid = c.relowner WHERE c.relname IN \
                      ('aa', 'zz')";

/// The second attempt gives a table the tablespace and the owner of the first.
pub(crate) async fn second_attempts_keep_place_and_owner(version: Version) {
    let in_place = ["allow_in_place_tablespaces=on"];
    let (server, copy) = (
        Postgres::with(version, &[], &in_place).await,
        Postgres::with(version, &[], &in_place).await,
    );
    for one in [&server, &copy] {
        one.run("CREATE TABLESPACE fast LOCATION ''").await;
        one.run("CREATE ROLE keeper").await;
        one.run("CREATE DATABASE shop").await;
    }
    let tables = "CREATE TABLE aa (id int) TABLESPACE fast; ALTER TABLE aa OWNER TO keeper; INSERT \
                  INTO aa SELECT generate_series(1, 20); CREATE TABLE zz (id int)";
    run_in(&server, "shop", tables).await;
    run_in(&copy, "shop", LATE).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let exiting = LogicalOptions { exit_on_error: true, ..logical(&copy) };
    let into = || request(&["shop"], IfExists::Fail);
    let error = try_restore(&snapshot, exiting, into()).await.unwrap_err();
    assert!(error.chain().contains("not yet"), "{}", error.chain());

    let report = restored(&snapshot, logical(&copy), into()).await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(value_of(&copy, "shop", PLACES).await, "aa fast keeper, zz postgres");
    assert_eq!(digests(&copy).await, digests(&server).await);
}

/// The function of a generated column finds another one by the search path of the database. In a
/// copy under another name it finds that of the copy.
pub(crate) async fn search_paths_follow_new_names(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    for one in [&server, &copy] {
        one.run("CREATE DATABASE shop").await;
    }
    let sql = "ALTER DATABASE shop SET search_path = app, public; SET search_path = app, public; \
               CREATE SCHEMA app; CREATE FUNCTION app.doubled(int) RETURNS int LANGUAGE sql \
               IMMUTABLE AS 'SELECT $1 * 2'; CREATE FUNCTION app.twice(int) RETURNS int LANGUAGE \
               sql IMMUTABLE AS 'SELECT doubled($1)'; CREATE TABLE app.twice (id int, d int \
               GENERATED ALWAYS AS (app.twice(id)) STORED); INSERT INTO app.twice SELECT \
               generate_series(1, 10)";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let to = renaming(&copy, &["shop.app=shop.then"]);
    let report = restored(&snapshot, to, request(&["shop.app"], IfExists::Fail)).await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(value_of(&copy, "shop", "SELECT sum(d)::text FROM \"then\".twice").await, "110");
}

/// A grant to a role that is missing is reported; the other grants of the object are made.
pub(crate) async fn missing_roles_take_no_other_grants(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    for role in ["absent", "present"] {
        server.run(&format!("CREATE ROLE {role}")).await;
    }
    copy.run("CREATE ROLE present").await;
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE t (id int); INSERT INTO t VALUES (1); GRANT SELECT ON t TO absent; \
               GRANT SELECT, INSERT ON t TO present";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let to = LogicalOptions { roles: false, ..logical(&copy) };
    let report = try_restore(&snapshot, to, RestoreRequest::default()).await.unwrap();
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(report.failed[0].reason.contains("absent"), "{report:?}");
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM t").await, "1");
    let grants = "SELECT string_agg(concat(a.grantee::regrole, ' ', a.privilege_type), ', ' ORDER BY \
                  a.privilege_type) FROM pg_class c, aclexplode(c.relacl) a WHERE c.relname = 't' \
                  AND a.grantee <> c.relowner";
    let grants = value_of(&copy, "shop", grants).await;
    assert_eq!(grants, "present INSERT, present SELECT");
}

/// All statements about a database are tried before the one in its place is dropped.
pub(crate) async fn databases_stay_if_their_successor_is_refused(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE ROLE absent").await;
    for one in [&server, &copy] {
        one.run("CREATE DATABASE shop").await;
    }
    run_in(&server, "shop", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    server.run("GRANT CONNECT ON DATABASE shop TO absent").await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    run_in(&copy, "shop", "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)").await;
    let was = definitions(&copy, "shop");
    let to = || LogicalOptions { roles: false, ..logical(&copy) };
    let replacing = || replacing(&["shop"]);
    let error = try_restore(&snapshot, to(), replacing()).await.unwrap_err();
    assert!(error.chain().contains("absent"), "{}", error.chain());
    assert_eq!(definitions(&copy, "shop"), was);
    assert_eq!(value_of(&copy, "shop", "SELECT id::text FROM kept").await, "7");
    // With the role it is replaced.
    copy.run("CREATE ROLE absent").await;
    restored(&snapshot, to(), replacing()).await;
    assert_eq!(digests(&copy).await, digests(&server).await);
}

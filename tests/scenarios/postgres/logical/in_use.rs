//! Restores into databases in use: existing objects keep their owners, privileges and comments.

use backup_core::source::{Delete, IfExists, RestoreRequest, Selection};

use super::parts::{replacing, request};
use super::{Version, backed_up, logical, repo, restored, run_in, source, value_of};
use crate::support::postgres::Postgres;

/// As backed up.
const BACKED_UP: &str = "CREATE SCHEMA own AUTHORIZATION alice; GRANT USAGE ON SCHEMA own TO \
                         bob; COMMENT ON SCHEMA own IS 'then'; ALTER DEFAULT PRIVILEGES IN \
                         SCHEMA own GRANT SELECT ON TABLES TO bob; ALTER DEFAULT PRIVILEGES \
                         GRANT SELECT ON SEQUENCES TO bob; CREATE TABLE own.t (id int PRIMARY \
                         KEY); CREATE DOMAIN own.d AS int CONSTRAINT c CHECK (VALUE > 0); \
                         COMMENT ON DOMAIN own.d IS 'then'; COMMENT ON CONSTRAINT c ON DOMAIN \
                         own.d IS 'then'; CREATE FUNCTION own.f() RETURNS int LANGUAGE sql AS \
                         'SELECT 1'; COMMENT ON FUNCTION own.f() IS 'then'; GRANT EXECUTE ON \
                         FUNCTION own.f() TO bob; REVOKE EXECUTE ON FUNCTION own.f() FROM \
                         PUBLIC; CREATE FUNCTION own.\"G g\"(i int DEFAULT 1, OUT j int) \
                         LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION own.\"G g\" TO \
                         bob; COMMENT ON FUNCTION own.\"G g\" IS 'then'; CREATE TYPE own.\"My \
                         Type\" AS ENUM (); GRANT USAGE ON TYPE own.\"My Type\" TO bob; GRANT \
                         USAGE ON LANGUAGE plpgsql TO bob; GRANT CREATE ON SCHEMA public TO bob; \
                         CREATE TABLE public.t (id int PRIMARY KEY)";
/// Changes since the backup.
const LATER: &str = "DROP TABLE own.t, public.t; CREATE TABLE own.other (); CREATE TABLE \
                     public.other (); ALTER SCHEMA own OWNER TO carol; REVOKE ALL ON SCHEMA own \
                     FROM bob; COMMENT ON SCHEMA own IS 'now'; ALTER DEFAULT PRIVILEGES IN \
                     SCHEMA own REVOKE SELECT ON TABLES FROM bob; ALTER DEFAULT PRIVILEGES \
                     REVOKE SELECT ON SEQUENCES FROM bob; COMMENT ON DOMAIN own.d IS 'now'; \
                     COMMENT ON CONSTRAINT c ON DOMAIN own.d IS 'now'; REVOKE EXECUTE ON \
                     FUNCTION own.f() FROM bob; COMMENT ON FUNCTION own.f() IS 'now'; REVOKE ALL \
                     ON FUNCTION own.\"G g\" FROM bob; COMMENT ON FUNCTION own.\"G g\" IS 'now'; \
                     REVOKE ALL ON TYPE own.\"My Type\" FROM bob; REVOKE USAGE ON LANGUAGE \
                     plpgsql FROM bob; REVOKE ALL ON SCHEMA public FROM bob; GRANT CREATE ON \
                     SCHEMA own, public TO carol; GRANT CREATE ON SCHEMA own TO PUBLIC; COMMENT \
                     ON SCHEMA public IS 'now'; ALTER DEFAULT PRIVILEGES FOR ROLE alice IN \
                     SCHEMA own GRANT ALL ON TABLES TO carol";
/// Owners, privileges and comments of everything in both.
const ATTRIBUTES: &str = "SELECT concat_ws(' / ', (SELECT string_agg(concat_ws(' ', nspname, \
                          pg_get_userbyid(nspowner), ARRAY(SELECT a::text FROM unnest(nspacl) a \
                          ORDER BY 1), obj_description(oid, 'pg_namespace')), ', ' ORDER BY \
                          nspname) FROM pg_namespace WHERE nspname IN ('own', 'public')), \
                          (SELECT string_agg(concat_ws(' ', defaclobjtype, defaclacl), ', ' \
                          ORDER BY defaclobjtype) FROM pg_default_acl WHERE defaclacl::text <> \
                          '{}'), (SELECT string_agg(concat_ws(' ', proname, proacl, \
                          obj_description(oid, 'pg_proc')), ', ' ORDER BY proname) FROM pg_proc \
                          WHERE pronamespace = 'own'::regnamespace), (SELECT \
                          string_agg(concat_ws(' ', typname, typacl, obj_description(oid, \
                          'pg_type')), ', ' ORDER BY typname) FROM pg_type WHERE typname IN \
                          ('d', 'My Type') AND typnamespace = 'own'::regnamespace), (SELECT \
                          obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname \
                          = 'c'), (SELECT lanacl FROM pg_language WHERE lanname = 'plpgsql'))";

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
    let there = ["G g(integer) (function)", "My Type (type)", "d (domain)", "f() (function)"];
    assert_eq!(failed.len(), there.len(), "{failed:?}");
    for object in there {
        assert!(failed.contains(&&*format!("shop.own.{object}")), "{object}: {failed:?}");
    }
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, now);
    let merged = restored(&snapshot, logical(&server), request(&["shop"], IfExists::Merge)).await;
    assert_eq!(merged.failed, []);
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, now);
    // Replaced as a whole, they are as in the snapshot.
    let delete = Delete::Planned(["shop.own.other", "shop.public.other"].map(Into::into).into());
    let replace = request(&["shop.own", "shop.public"], IfExists::Replace);
    let replace = RestoreRequest { delete, ..replace };
    restored(&snapshot, logical(&server), replace).await;
    // Default privileges of the whole database, and languages of the server, are in no schema.
    let others = "ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO bob; GRANT USAGE ON LANGUAGE \
                  plpgsql TO bob";
    run_in(&server, "shop", others).await;
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, then);
    // So they are where nothing was.
    let empty = "DROP TABLE own.t, public.t; DROP FUNCTION own.f(), own.\"G g\"; DROP DOMAIN own.d; \
                 DROP TYPE own.\"My Type\"";
    run_in(&server, "shop", empty).await;
    let changed = "ALTER SCHEMA own OWNER TO carol; REVOKE ALL ON SCHEMA public FROM bob; GRANT \
                   CREATE ON SCHEMA public TO PUBLIC, carol; COMMENT ON SCHEMA own IS 'later'";
    run_in(&server, "shop", changed).await;
    restored(&snapshot, logical(&server), request(&["shop"], IfExists::Fail)).await;
    assert_eq!(value_of(&server, "shop", ATTRIBUTES).await, then);
}

/// Objects of all kinds, with `{n}` in their names.
const KINDS: &str = "CREATE FUNCTION own.f{n}(a int, VARIADIC b text[], OUT c char) LANGUAGE sql AS \
                     'SELECT ''x''::char'; CREATE PROCEDURE own.p{n}(a own.pair) LANGUAGE sql AS ''; \
                     CREATE FUNCTION own.eq{n}(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT \
                     $1 = $2'; CREATE OPERATOR own.{o} (LEFTARG = int, RIGHTARG = int, FUNCTION = \
                     own.eq{n}); CREATE AGGREGATE own.a{n}(*) (SFUNC = int8inc, STYPE = int8, \
                     INITCOND = '0'); CREATE AGGREGATE own.a{n}(char) (SFUNC = own.join, STYPE = \
                     text); CREATE TYPE own.r{n} AS RANGE (SUBTYPE = int); CREATE DOMAIN own.d{n} \
                     AS int; CREATE COLLATION own.c{n} FROM \"C\"; CREATE CONVERSION own.conv{n} \
                     FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; CREATE TEXT SEARCH DICTIONARY \
                     own.dict{n} (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION own.conf{n} \
                     (COPY = simple); CREATE OPERATOR CLASS own.ops{n} FOR TYPE int USING btree AS \
                     OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int); CREATE TYPE own.pair{n} AS (a \
                     int); CREATE FUNCTION own.t{n}(own.pair{n}) RETURNS text LANGUAGE sql AS \
                     'SELECT NULL::text'; CREATE CAST (own.pair{n} AS text) WITH FUNCTION \
                     own.t{n}; CREATE FOREIGN DATA WRAPPER w{n}; CREATE SERVER far{n} FOREIGN DATA \
                     WRAPPER w{n}; CREATE ACCESS METHOD am{n} TYPE INDEX HANDLER bthandler; CREATE \
                     LANGUAGE pl{n} HANDLER plpgsql_call_handler; CREATE PUBLICATION pub{n}; \
                     CREATE FUNCTION own.e{n}() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN \
                     END'; CREATE EVENT TRIGGER et{n} ON sql_drop EXECUTE FUNCTION own.e{n}()";
/// The removals after all objects with `2` in their names were made.
const GOING: [&str; 27] = [
    "access method shop.am2",
    "cast shop.CAST (own.pair2 AS text)",
    "collation shop.own.c2",
    "conversion shop.own.conv2",
    "domain shop.own.d2",
    "event trigger shop.et2",
    "foreign data wrapper shop.w2",
    "operator class shop.own.ops2",
    "operator family shop.own.ops2",
    "operator shop.own.===",
    "operator shop.own.=~~",
    "procedural language shop.pl2",
    "publication shop.pub2",
    "routine shop.own.a2()",
    "routine shop.own.a2(character)",
    "routine shop.own.e2()",
    "routine shop.own.eq2(integer,integer)",
    "routine shop.own.f2(integer,text[])",
    "routine shop.own.over(bigint)",
    "routine shop.own.p2(own.pair)",
    "routine shop.own.t2(own.pair2)",
    "server shop.far2",
    "text search configuration shop.own.conf2",
    "text search dictionary shop.own.dict2",
    "type shop.own.pair2",
    "type shop.own.r2",
    "view shop.own.v2",
];

pub(crate) async fn plans_name_every_object_that_goes(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    let make = async |n: &str, operator: &str| {
        let made = KINDS.replace("{n}", n).replace("{o}", operator);
        run_in(&server, "shop", &made).await;
    };
    let first = "CREATE SCHEMA own; CREATE TYPE own.pair AS (a int); CREATE FUNCTION own.over(int) \
                 RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION own.join(text, char) \
                 RETURNS text LANGUAGE sql AS 'SELECT $1 || $2'";
    run_in(&server, "shop", first).await;
    make("1", "===").await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let removals = async || {
        let plan = RestoreRequest { dry_run: true, ..replacing(&["shop"]) };
        let plan = restored(&snapshot, logical(&server), plan).await;
        let names = plan.removals.iter().map(|one| format!("{} {}", one.kind, one.name));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(removals().await, [""; 0]);
    make("2", "=~~").await;
    let later = "DROP FUNCTION own.over(int); CREATE FUNCTION own.over(bigint) RETURNS int LANGUAGE \
                 sql AS 'SELECT 1'; CREATE OPERATOR own.=== (LEFTARG = bigint, RIGHTARG = bigint, \
                 FUNCTION = int8eq); CREATE VIEW own.v2 AS SELECT 1";
    run_in(&server, "shop", later).await;
    assert_eq!(removals().await, GOING);
}

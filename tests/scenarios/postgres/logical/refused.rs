//! Objects that the target refuses: they are tried again, reported, and do not take the rest.

use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Selection};
use backup_sources::postgres::LogicalOptions;

use super::parts::request;
use super::{
    Version, backed_up, backed_up_shop, digests, logical, repo, run_in, source, try_restore,
    value_of,
};
use crate::support::postgres::Postgres;

/// `late` reads a smaller table in its constraint, and the larger table is loaded first. The
/// generated column of `twice` calls a function that finds another one by the search path of the
/// database. No row of `never` fulfils its constraint any more.
const ODD: &str = "ALTER DATABASE shop SET search_path = app, public; SET search_path = app, public; \
                   CREATE SCHEMA app; CREATE TABLE public.allowed (id int); INSERT INTO \
                   public.allowed SELECT generate_series(1, 5); CREATE FUNCTION app.is_allowed(int) \
                   RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.allowed \
                   WHERE id = $1)'; CREATE TABLE public.late (id int CHECK (app.is_allowed(id)), t \
                   text); INSERT INTO public.late SELECT 1 + n % 5, repeat('x', 100) FROM \
                   generate_series(1, 200) n; CREATE FUNCTION app.doubled(int) RETURNS int LANGUAGE \
                   sql IMMUTABLE AS 'SELECT $1 * 2'; CREATE FUNCTION app.twice(int) RETURNS int \
                   LANGUAGE sql IMMUTABLE AS 'SELECT doubled($1)'; CREATE TABLE public.twice (id int, \
                   d int GENERATED ALWAYS AS (app.twice(id)) STORED); INSERT INTO public.twice SELECT \
                   generate_series(1, 10); CREATE FUNCTION app.is_good(int) RETURNS bool LANGUAGE sql \
                   AS 'SELECT true'; CREATE TABLE public.never (id int CHECK (app.is_good(id))); \
                   INSERT INTO public.never SELECT generate_series(1, 7); CREATE OR REPLACE FUNCTION \
                   app.is_good(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 100'; CREATE TABLE \
                   public.plain (id int PRIMARY KEY, secret text); INSERT INTO public.plain SELECT n, \
                   'told to nobody' FROM generate_series(1, 30) n";

/// A database of which nothing can be restored.
const HOPELESS: &str = "CREATE FUNCTION is_good(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
                        CREATE TABLE never (id int CHECK (is_good(id))); INSERT INTO never VALUES \
                        (1); CREATE OR REPLACE FUNCTION is_good(int) RETURNS bool LANGUAGE sql AS \
                        'SELECT false'";

fn failed(report: &RestoreReport) -> Vec<&str> {
    report.failed.iter().map(|one| &*one.object).collect()
}

pub(crate) async fn refused_objects_leave_the_rest(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    server.run("CREATE DATABASE lost").await;
    run_in(&server, "shop", ODD).await;
    run_in(&server, "lost", HOPELESS).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let mut whole = digests(&server).await;
    whole.retain(|name, _| !name.contains("never"));

    // Into new databases: the one in which everything fails is as if it had not been selected.
    let report = try_restore(&snapshot, logical(&copy), RestoreRequest::default()).await.unwrap();
    assert_eq!(failed(&report), ["shop.public.never", "lost"], "{report:?}");
    assert_eq!(report.warnings, 2);
    assert!(report.failed[0].reason.contains("7 rows are missing"), "{report:?}");
    let mut found = digests(&copy).await;
    // The next restore drops it.
    found.remove("lost (restoring).public.never");
    let empty = found.remove("shop.public.never").expect("the table is there");
    assert_ne!(Some(&empty), digests(&server).await.get("shop.public.never"));
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM public.never").await, "0");
    assert_eq!(found, whole);

    // In place of a database: it stays as it is, because a table of it would be lost.
    run_in(&copy, "shop", "INSERT INTO public.never VALUES (101)").await;
    let replacing = request(&["shop"], IfExists::Replace);
    let error = try_restore(&snapshot, logical(&copy), replacing).await.unwrap_err();
    assert!(error.chain().contains("shop is unchanged"), "{}", error.chain());
    assert_eq!(value_of(&copy, "shop", "SELECT id::text FROM public.never").await, "101");

    // Into a database that is there.
    copy.run("DROP DATABASE shop").await;
    copy.run("DROP DATABASE \"shop (restoring)\"").await;
    copy.run("CREATE DATABASE shop").await;
    let into = request(&["shop"], IfExists::Fail);
    let report = try_restore(&snapshot, logical(&copy), into.clone()).await.unwrap();
    assert_eq!(failed(&report), ["shop.public.never"], "{report:?}");
    let mut found = digests(&copy).await;
    found.retain(|name, _| !name.contains("never"));
    assert_eq!(found, whole);
    // Merged: a refused table stays as it was.
    let merging = request(&["shop.public.plain", "shop.public.never"], IfExists::Merge);
    run_in(&copy, "shop", "DELETE FROM public.plain WHERE id > 10").await;
    let report = try_restore(&snapshot, logical(&copy), merging).await.unwrap();
    assert_eq!(failed(&report), ["shop.public.never"], "{report:?}");
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM public.plain").await, "30");

    // At the first error, by its flag.
    copy.run("DROP DATABASE shop").await;
    let exiting = LogicalOptions { exit_on_error: true, ..logical(&copy) };
    let error = try_restore(&snapshot, exiting.clone(), into.clone()).await.unwrap_err();
    assert!(error.chain().contains("cannot restore shop"), "{}", error.chain());
    copy.run("CREATE DATABASE shop").await;
    try_restore(&snapshot, exiting, into).await.unwrap_err();
    let tables = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(value_of(&copy, "shop", tables).await, "0");
}

/// Rows come before indexes, and an index that the target cannot build is only a warning.
pub(crate) async fn missing_operator_classes_are_warnings(version: Version) {
    let words = "CREATE EXTENSION pg_trgm; CREATE TABLE words (w text, n int); CREATE INDEX fast ON \
                 words USING gin (w gin_trgm_ops); CREATE INDEX plain ON words (n); INSERT INTO words \
                 SELECT 'told to nobody', n FROM generate_series(1, 50) n";
    let (server, place) = backed_up_shop(version, words).await;
    let was = digests(&server).await.remove("shop.public.words");
    run_in(&server, "shop", "DROP EXTENSION pg_trgm CASCADE").await;
    for if_exists in ["replace", "fail"] {
        let target = server.uri();
        let args = ["--target", &target, "--only", "shop.public.words", "--if-exists", if_exists];
        let said = place.run(&[&["--yes", "--json", "restore", "latest"], &args[..]].concat());
        let text = said.text() + &said.stderr;
        assert_eq!(said.code, 3, "{text}");
        assert!(text.contains(r#""object":"shop.public.fast (index)""#), "{text}");
        assert!(!text.contains("told to nobody"), "{text}");
        assert_eq!(digests(&server).await.remove("shop.public.words"), was);
        let indexes = "SELECT string_agg(indexname, ' ') FROM pg_indexes WHERE tablename = 'words'";
        assert_eq!(value_of(&server, "shop", indexes).await, "plain");
        run_in(&server, "shop", "DROP TABLE words").await;
    }
}

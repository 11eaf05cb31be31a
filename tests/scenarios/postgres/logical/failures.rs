//! Rights, locks, and whoever dies on the way.

use std::time::Duration;

use backup_core::context::Context;
use backup_core::pipeline::restore;
use backup_core::source::{
    BackupRequest, Content, Entry, IfExists, Item, RestoreRequest, Selection, Source as _,
};
use backup_core::testing::{SourceDifferences, SourceTarget, source_conformance};
use backup_sources::postgres::{LogicalOptions, PostgresOptions};
use futures::TryStreamExt as _;
use std::sync::Arc;

use super::{
    Version, backed_up, digests, logical, of, repo, restored, run_in, selection, source, talking,
    try_back_up, try_restore, value_of,
};
use crate::support::postgres::{Postgres, hand_over_all};
use backup_core::testing::tool;

/// Rows that policies hide from who backs up are an error, never missing in silence.
pub(crate) async fn hidden_rows_are_refused(version: Version) {
    let server = Postgres::start(version).await;
    let sql = "CREATE ROLE few LOGIN; CREATE TABLE secret (who name); INSERT INTO secret VALUES \
               ('few'), ('other'); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY own \
               ON secret USING (who = current_user); GRANT SELECT ON secret TO few";
    server.run(sql).await;
    let origin = source(of(PostgresOptions::parse(&server.uri_of("few")).unwrap())).await;
    let probe = origin.probe(&talking()).await.unwrap();
    assert!(probe.problems.iter().any(|problem| problem.remedy.contains("BYPASSRLS")), "{probe:?}");
    let repo = repo().await;
    let error = try_back_up(&repo, &origin, Selection::all()).await.unwrap_err();
    let said = format!("{} {}", error.chain(), error.hint().unwrap_or_default());
    assert!(said.contains("row-level security") && said.contains("BYPASSRLS"), "{said}");
    assert!(repo.snapshots().await.is_empty());
    server.run("ALTER ROLE few BYPASSRLS").await;
    assert!(origin.probe(&talking()).await.unwrap().problems.is_empty());
    backed_up(&repo, &origin, Selection::all()).await;
}

/// A lock is waited for as long as it is said, and then there is no backup.
pub(crate) async fn locks_are_not_waited_for_forever(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE locked (id int); CREATE TABLE free (id int)").await;
    let other = server.client().await;
    other.batch_execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let options = LogicalOptions { lock_timeout: Duration::from_millis(300), ..logical(&server) };
    let (repo, origin) = (repo().await, source(options).await);
    let error = try_back_up(&repo, &origin, Selection::all()).await.unwrap_err();
    assert!(
        error.hint().unwrap_or_default().contains("holds a lock"),
        "{} {:?}",
        error.chain(),
        error.hint()
    );
    assert!(repo.snapshots().await.is_empty());
    // What is left out is not waited for.
    backed_up(&repo, &origin, selection(&[], &["*.locked"])).await;
    other.batch_execute("COMMIT").await.unwrap();
    backed_up(&repo, &origin, Selection::all()).await;
}

/// What is too old or missing is told with what to install, before anything is read.
pub(crate) async fn pg_dump_must_be_there(version: Version) {
    let server = Postgres::start(version).await;
    let nowhere = LogicalOptions { programs: Some("/nowhere".into()), ..logical(&server) };
    let origin = source(nowhere).await;
    let error = try_back_up(&repo().await, &origin, Selection::all()).await.unwrap_err();
    assert!(error.chain().contains("/nowhere") && error.hint().is_some(), "{}", error.chain());
    assert!(!origin.probe(&talking()).await.unwrap().problems.is_empty());
}

const LARGE: &str = "CREATE TABLE one (id int PRIMARY KEY, t text); CREATE TABLE two (id int \
                     PRIMARY KEY, t text); INSERT INTO one SELECT n, repeat(md5(n::text), 20) FROM \
                     generate_series(1, 40000) n; INSERT INTO two SELECT * FROM one";

/// Sessions, snapshots and locks end with a backup that was hardly begun.
pub(crate) async fn a_backup_that_is_given_up_leaves_nothing(version: Version) {
    let server = Postgres::start(version).await;
    server.run(LARGE).await;
    let origin = source(logical(&server)).await;
    let mut reader = origin
        .open_backup(&Context::silent(), &BackupRequest::full(Selection::all()))
        .await
        .unwrap();
    reader.next().await.unwrap();
    let asking = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'backup'";
    assert_ne!(server.value(asking).await, "0");
    reader.abort().await;
    for _ in 0..100 {
        if server.value(asking).await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("sessions are left: {}", server.value(asking).await);
}

/// The server dies in the middle of a restore, at many places: nothing is there under the
/// database's name, and doing it again completes it.
pub(crate) async fn a_restore_that_is_broken_off_is_done_again(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", LARGE).await;
    let repo = repo().await;
    let snapshot =
        backed_up(&repo, &source(logical(&server)).await, selection(&["shop"], &[])).await;
    let copy = Postgres::start(version).await;
    let kill = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                WHERE application_name = 'backup' AND datname LIKE 'shop%'";
    let mut broken = 0;
    for round in 0..6 {
        let target = source(logical(&copy)).await;
        let (request, cx) = (RestoreRequest::default(), talking());
        let restoring = restore(&snapshot, &target, &request, &cx);
        let disturb = async {
            tokio::time::sleep(Duration::from_millis(120 + round * 60)).await;
            match round % 2 {
                0 => _ = copy.value(kill).await,
                _ => cx.cancel.cancel(),
            }
        };
        let (done, ()) = tokio::join!(restoring, disturb);
        let exists =
            copy.value("SELECT count(*)::text FROM pg_database WHERE datname = 'shop'").await;
        assert_eq!(exists, if done.is_ok() { "1" } else { "0" }, "{done:?}");
        if done.is_ok() {
            copy.run("DROP DATABASE shop WITH (FORCE)").await;
            continue;
        }
        broken += 1;
    }
    assert!(broken > 0, "nothing was ever broken off");
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    assert_eq!(digests(&server).await, digests(&copy).await);
    assert_eq!(
        copy.value("SELECT count(*)::text FROM pg_database WHERE datname LIKE 'shop%'").await,
        "1"
    );
    // Into one that is there, all or nothing as well.
    run_in(&copy, "shop", "DROP TABLE two; INSERT INTO one VALUES (0, 'mine')").await;
    let before = digests(&copy).await;
    let request = RestoreRequest {
        selection: selection(&["shop.public.two"], &[]),
        ..RestoreRequest::default()
    };
    let target = source(logical(&copy)).await;
    let cx = talking();
    let disturb = async {
        while value_of(&copy, "postgres", "SELECT count(*)::text FROM pg_stat_progress_copy").await
            == "0"
        {}
        _ = copy.value(kill).await;
    };
    if version >= Version::V14 {
        let (done, ()) = tokio::join!(restore(&snapshot, &target, &request, &cx), disturb);
        let error = done.unwrap_err();
        assert!(error.chain().contains("nothing was changed in shop"), "{}", error.chain());
        assert_eq!(digests(&copy).await, before);
    }
    restored(&snapshot, logical(&copy), request).await;
    assert_eq!(digests(&copy).await["shop.public.two"], digests(&server).await["shop.public.two"]);
}

/// Who owns what must be there, or be left out.
pub(crate) async fn owners_are_asked_for_first(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE ROLE alice").await;
    server.run("CREATE DATABASE shop").await;
    run_in(
        &server,
        "shop",
        "CREATE TABLE t (id int); ALTER TABLE t OWNER TO alice; GRANT SELECT ON t TO alice",
    )
    .await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let to = LogicalOptions { roles: false, ..logical(&copy) };
    let error = try_restore(&snapshot, to.clone(), RestoreRequest::default()).await.unwrap_err();
    assert!(
        error.chain().contains("no role alice") && error.hint().unwrap().contains("--no-owner"),
        "{}",
        error.chain()
    );
    assert_eq!(
        copy.value("SELECT count(*)::text FROM pg_database WHERE datname LIKE 'shop%'").await,
        "0"
    );
    restored(
        &snapshot,
        LogicalOptions { owners: false, privileges: false, ..to },
        RestoreRequest::default(),
    )
    .await;
    assert_eq!(
        value_of(&copy, "shop", "SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'")
            .await,
        "postgres"
    );
}

pub(crate) async fn the_contract_is_kept(version: Version) {
    let server = Postgres::start(version).await;
    server
        .run(
            "CREATE TABLE one (id int PRIMARY KEY, t text); INSERT INTO one VALUES (1, 'a'), \
             (2, 'b')",
        )
        .await;
    server.run("CREATE TABLE two (id serial PRIMARY KEY); INSERT INTO two DEFAULT VALUES").await;
    let origin = Arc::new(source(logical(&server)).await);
    let fresh = async || {
        let copy = Postgres::start(version).await;
        let restored = Arc::new(source(logical(&copy)).await);
        SourceTarget::with_source(copy.uri(), restored).keeping(copy)
    };
    let mut differences = SourceDifferences::default();
    differences.selects_by_path = false;
    source_conformance(origin, fresh, differences).await;
}

/// Without the locks a table may have been emptied, whatever the snapshot: no backup then.
pub(crate) async fn locks_that_are_gone_are_noticed(version: Version) {
    let server = Postgres::start(version).await;
    server.run(LARGE).await;
    let origin = source(logical(&server)).await;
    let mut reader =
        origin.open_backup(&talking(), &BackupRequest::full(Selection::all())).await.unwrap();
    let oldest = "SELECT count(pg_terminate_backend(pid))::text FROM (SELECT pid FROM \
                  pg_stat_activity WHERE application_name = 'backup' ORDER BY backend_start LIMIT \
                  1) AS holder";
    let (mut read, mut failed) = (0, None);
    while let Some(item) = reader.next().await.unwrap() {
        let Item::Entry(Entry { path, content: Content::Stream(content), .. }) = item else {
            continue;
        };
        failed = content.try_for_each(async |_| Ok(())).await.err();
        if failed.is_some() {
            break;
        }
        if path.display().contains("/data/") {
            read += 1;
            if read == 1 {
                assert_eq!(server.value(oldest).await, "1");
            }
        }
    }
    let error = failed.expect("nothing was noticed");
    assert!(read >= 2 && error.chain().contains("locked has ended"), "{read}: {}", error.chain());
}

/// All databases together take no more readers than there are to be, beside one session each.
pub(crate) async fn many_databases_need_few_connections(version: Version) {
    let server = Postgres::with(version, &[], &["max_connections=16"]).await;
    for number in 0..7 {
        server.run(&format!("CREATE DATABASE d{number}")).await;
        run_in(&server, &format!("d{number}"), "CREATE TABLE a (id int); CREATE TABLE b (id int)")
            .await;
    }
    let (repo, origin) =
        (repo().await, source(LogicalOptions { jobs: 4, ..logical(&server) }).await);
    backed_up(&repo, &origin, Selection::all()).await;
}

/// A program of the server's own version knows fewer options than the newest one.
pub(crate) async fn pg_dump_may_be_as_old_as_the_server(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE t (id serial PRIMARY KEY, cash money DEFAULT 1234.56); INSERT INTO t \
               DEFAULT VALUES; SELECT lo_from_bytea(4711, '\\x00ff')";
    run_in(&server, "shop", sql).await;
    let programs = tool("pg_verifybackup").canonicalize().unwrap().parent().unwrap().to_owned();
    let old =
        |server: &Postgres| LogicalOptions { programs: Some(programs.clone()), ..logical(server) };
    let snapshot = backed_up(&repo().await, &source(old(&server)).await, Selection::all()).await;
    restored(&snapshot, old(&copy), RestoreRequest::default()).await;
    assert_eq!(digests(&server).await, digests(&copy).await);
    assert_eq!(value_of(&copy, "shop", "SELECT encode(lo_get(4711), 'hex')").await, "00ff");
}

/// What a standby does not have is told, and the rest is there.
pub(crate) async fn a_standby_has_nothing_of_unlogged_tables(version: Version) {
    let server = Postgres::start(version).await;
    server
        .run(
            "CREATE UNLOGGED TABLE fleeting (id serial PRIMARY KEY); INSERT INTO fleeting \
             DEFAULT VALUES",
        )
        .await;
    let kept = "CREATE TABLE kept (id serial PRIMARY KEY); INSERT INTO kept SELECT FROM \
                generate_series(1, 3); ALTER SEQUENCE kept_id_seq SET UNLOGGED; CREATE UNLOGGED \
                SEQUENCE of_nobody; CREATE TABLE uses (id bigint PRIMARY KEY DEFAULT \
                nextval('of_nobody')); CREATE TABLE down (id serial PRIMARY KEY); ALTER SEQUENCE \
                down_id_seq INCREMENT -1 MINVALUE -9 MAXVALUE -1 START -1 RESTART; INSERT INTO \
                down SELECT FROM generate_series(1, 2); ALTER SEQUENCE down_id_seq SET UNLOGGED";
    server.run(kept).await;
    let (physical, room) = (repo().await, super::super::room());
    super::super::back_up(&physical, &super::super::source(&server).await).await;
    let (data, of_it) =
        (room.path().join("standby"), super::super::base::last_snapshot(&physical).await);
    let whole = RestoreRequest::default();
    super::super::restored(&of_it, &super::super::source(&server).await, &data, whole).await;
    hand_over_all(&data);
    std::fs::rename(data.join("recovery.signal"), data.join("standby.signal")).unwrap();
    let settings = ["recovery_target_lsn=", "recovery_target_timeline=latest", "hot_standby=on"];
    let standby = Postgres::on(version, &data, &settings).await;
    let repo = repo().await;
    let report =
        try_back_up(&repo, &source(logical(&standby)).await, Selection::all()).await.unwrap();
    assert_eq!(report.warnings, 1);
    let (snapshot, copy) =
        (super::super::base::last_snapshot(&repo).await, Postgres::start(version).await);
    // Of what has no rows, and of what belongs to no column, nobody knows where to go on.
    assert_eq!(
        restored(&snapshot, logical(&copy), request_of("postgres", IfExists::Merge)).await.warnings,
        2
    );
    let found = digests(&copy).await;
    assert_eq!(found["postgres.public.kept"], digests(&server).await["postgres.public.kept"]);
    assert_eq!(value_of(&copy, "postgres", "SELECT count(*)::text FROM fleeting").await, "0");
    run_in(&copy, "postgres", "INSERT INTO kept DEFAULT VALUES; INSERT INTO down DEFAULT VALUES")
        .await;
    let next = "SELECT (SELECT max(id) FROM kept) || ' ' || (SELECT min(id) FROM down)";
    assert_eq!(value_of(&copy, "postgres", next).await, "4 -3");
}

fn request_of(database: &str, if_exists: IfExists) -> RestoreRequest {
    RestoreRequest {
        selection: selection(&[database], &[]),
        if_exists,
        ..RestoreRequest::default()
    }
}

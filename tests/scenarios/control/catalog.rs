//! The catalog in PostgreSQL: what every catalog does, servers that go away, and what machines that
//! share one agree on.

use std::time::{Duration, Instant};

use backup_control::catalog::conformance::{self, run_on};
use backup_control::catalog::{self, Error, Home, RunFilter, SharedCatalog};
use backup_control::config::Config;
use backup_control::environment::Environment;
use backup_control::runs::{RunId, State, close_dead};
use tokio_postgres::Client;

use super::{Place, now};
use crate::support::postgres::{Postgres, Version};

/// Each scenario for the oldest and a new server.
macro_rules! scenarios {
    ($($module:ident $version:expr => $scenarios:tt)+) => { $(scenarios!(@ $module $version => $scenarios);)+ };
    (@ $module:ident $version:expr => { $($name:ident),+ $(,)? }) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    Box::pin(super::$name($version)).await;
                }
            )+
        }
    };
}

scenarios! {
    needs_postgres_13 Version::V13 => { what_every_catalog_does, what_is_silent_is_closed }
    needs_postgres_17 Version::V17 => {
        what_every_catalog_does,
        what_is_silent_is_closed,
        a_server_may_go_and_come_back,
        what_stands_in_the_way_is_told,
        failed_change_of_tables_leaves_nothing,
        alone_a_hundred_thousand_are_no_burden,
    }
}

/// A database of its own on a server.
pub(super) async fn database(server: &Postgres, name: &str) -> String {
    server.run(&format!("CREATE DATABASE {name}")).await;
    url(server, "postgres", name)
}

fn url(server: &Postgres, user: &str, database: &str) -> String {
    format!("postgres://{user}:hush@127.0.0.1:{}/{database}?sslmode=disable", server.port())
}

/// As another process opens it.
async fn opened(url: &str) -> SharedCatalog {
    let env: Environment = [("BACKUP_CATALOG", url)].into_iter().collect();
    let home = Home::of(Some(&Config::default()), &env, std::path::Path::new("/nowhere")).unwrap();
    catalog::open(&home, now()).await.unwrap().catalog
}

async fn what_every_catalog_does(version: Version) {
    let server = Postgres::start(version).await;
    let first = database(&server, "first").await;
    conformance::remembers(&*opened(&first).await).await;
    let again = opened(&first).await.runs(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(again.len(), 3, "it lasts");
    let presumed = database(&server, "presumed").await;
    conformance::replaces_a_presumed_end(&*opened(&presumed).await).await;
    let moved = database(&server, "moved").await;
    conformance::rebuilds_once_wherever_the_repository_lies(&*opened(&moved).await).await;
    let third = database(&server, "third").await;
    conformance::selects_the_history_of_jobs(&*opened(&third).await).await;
    // All of them make the tables at once.
    let second = database(&server, "second").await;
    conformance::several_write_at_once(async || opened(&second).await).await;
    conformance::agrees(&*opened(&first).await, &*opened(&first).await).await;
    conformance::one_of_many_takes_a_flight(async || opened(&first).await).await;

    // Rows that hold what no run has.
    let sql = server.client_of("first").await;
    let changed = sql
        .execute("UPDATE backup_runs SET evidence = 'x' WHERE job = 'other'", &[])
        .await
        .unwrap();
    let found = opened(&first).await.runs(&RunFilter::default()).await.unwrap();
    assert_eq!((changed, found.runs.len(), found.unreadable), (1, 2, 1));
    let of = |job: &str| (job.to_owned(), "/repo".to_owned());
    let of = catalog::History { jobs: vec![of("docs"), of("other")], ..Default::default() };
    let found = opened(&first).await.history(&of).await.unwrap();
    assert_eq!((found.runs.len(), found.unreadable), (1, 1), "no type, and no failed query");
    // Another machine might have written what leads elsewhere when a file is named by it.
    sql.execute("UPDATE backup_runs SET id = '../../x' WHERE job = 'other'", &[]).await.unwrap();
    let found = opened(&first).await.runs(&RunFilter::default()).await.unwrap();
    assert_eq!((found.runs.len(), found.unreadable), (2, 1));
}

/// As if so long ago.
async fn aged(sql: &Client, table: &str, minutes: i32) {
    let text = format!("UPDATE {table} SET seen = seen - interval '{minutes} minutes'");
    assert!(sql.execute(&text, &[]).await.unwrap() > 0);
}

async fn what_is_silent_is_closed(version: Version) {
    let server = Postgres::start(version).await;
    let url = database(&server, "shared").await;
    let (here, there) = (opened(&url).await, opened(&url).await);
    let state = tempfile::tempdir().unwrap();
    let (gone, lives) = (run_on("gone", "docs", 0), run_on("lives", "docs", 1));
    here.add(&gone).await.unwrap();
    here.add(&lives).await.unwrap();
    let close = async || -> Vec<RunId> {
        let closed = close_dead(state.path(), &there, "third", now()).await.unwrap();
        closed.runs.into_iter().map(|closed| closed.run.id).collect()
    };
    assert_eq!(close().await, [], "other machines are not this one");
    let sql = server.client_of("shared").await;
    aged(&sql, "backup_runs", 31).await;
    here.shared().unwrap().beat(&lives.id).await.unwrap();
    assert_eq!(close().await, std::slice::from_ref(&gone.id));
    let known = there.named(gone.id.as_str()).await.unwrap().remove(0);
    let why = known.evidence.failure.unwrap().message;
    assert!(
        known.state == State::Failed && why.contains("on gone did not report for 30 minutes"),
        "{why}"
    );
    assert_eq!(close().await, []);
    // It was only away: what came of it counts, and is not changed again.
    let (mut ended, mut again) = (gone.clone(), gone.clone());
    (ended.state, ended.finished) = (State::Verified, Some(now()));
    here.update(&ended).await.unwrap();
    (again.state, again.finished) = (State::Failed, Some(now()));
    here.update(&again).await.unwrap();
    assert_eq!(there.named(gone.id.as_str()).await.unwrap().remove(0).state, State::Verified);

    // Who executes a job, and has gone without a word.
    let flights = (here.shared().unwrap(), there.shared().unwrap());
    assert_eq!(flights.0.take_flight("k", &gone, &[]).await.unwrap(), None);
    assert!(flights.1.take_flight("k", &lives, &[]).await.unwrap().is_some());
    aged(&sql, "backup_flights", 2).await;
    assert_eq!(flights.1.take_flight("k", &lives, &[]).await.unwrap(), None);
    assert!(!flights.0.keep_flight("k", &gone.id).await.unwrap());
}

async fn a_server_may_go_and_come_back(version: Version) {
    let mut server = Postgres::start(version).await;
    let url = database(&server, "shared").await;
    let catalog = opened(&url).await;
    catalog.add(&run_on("host", "docs", 0)).await.unwrap();
    let count = async || catalog.runs(&RunFilter::default()).await.map(|found| found.runs.len());
    // Somebody ends all sessions.
    let end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE datname = \
               'shared'";
    assert_eq!(server.value(end).await, "1");
    assert_eq!(count().await.unwrap(), 1);
    // It goes down, and comes back while it is waited for.
    server.kill();
    let adding = {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.add(&run_on("host", "docs", 1)).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.start_again(version).await;
    adding.await.unwrap().unwrap();
    assert_eq!(count().await.unwrap(), 2, "once");
    // It stays away: that is told in time, and nobody waits long when he asks again.
    server.kill();
    let began = Instant::now();
    let error = count().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = format!("{error:?} {} {}", backup_control::words::chain(&error), error.hint());
    assert!(
        !text.contains("hush") && text.contains("127.0.0.1") && text.contains("continue without"),
        "{text}"
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let began = Instant::now();
    assert!(count().await.is_err() && began.elapsed() < Duration::from_secs(1));
    server.start_again(version).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(count().await.unwrap(), 2);
}

/// As many as are remembered, one every minute.
const MANY: &str = "INSERT INTO backup_runs SELECT '20200101-000000-' || lpad(to_hex(i), 6, '0'), \
                    what, job, repository, state, started - i * 60000, finished - i * 60000, host, \
                    \"user\", pid, evidence, i, seen FROM backup_runs, generate_series(1::bigint, \
                    100000) AS i";

const SMALL: &str = r#"
    [repositories.main]
    url = "ROOM/repo"
    [sources.docs]
    kind = "files"
    paths = ["ROOM/docs"]
    [jobs.docs]
    source = "docs"
    repository = "main"
    [alerts.failed]
    condition = "failure"
    severity = "high"
"#;

async fn alone_a_hundred_thousand_are_no_burden(version: Version) {
    let server = Postgres::start(version).await;
    let url = database(&server, "many").await;
    let place = Place::new(SMALL, &[("BACKUP_CATALOG", url)]);
    std::fs::create_dir(place.path("docs")).unwrap();
    std::fs::write(place.path("docs/a"), "a").unwrap();
    place.done(&["init"]);
    place.done(&["run", "-q", "docs"]);
    // The shortest of five: what else the machine does is not meant.
    let shortest = |arguments: &[&str]| {
        let time = || {
            let began = Instant::now();
            place.done(arguments);
            began.elapsed()
        };
        (0..5).map(|_| time()).min().unwrap()
    };
    // What it takes to start, to connect and to open a repository is not meant either: the runs add
    // nothing to it that could be felt.
    let questions = [
        &["status", "--runs=50"][..],
        &["status", "--runs=50", "docs"],
        &["logs", "run", "latest"],
        &["analyze", "latest"],
        &["alerts", "check"],
        &["status"],
        &["advise"],
        &["report", "--since", "1d"],
    ];
    let alone = questions.map(&shortest);
    let sql = server.client_of("many").await;
    assert_eq!(sql.execute(MANY, &[]).await.unwrap(), 100_000);
    // As the server does by itself after a while.
    sql.batch_execute("ANALYZE backup_runs").await.unwrap();
    for (arguments, alone) in questions.iter().zip(alone) {
        let time = shortest(arguments);
        assert!(
            time < alone + Duration::from_millis(150),
            "{arguments:?}: {time:?}, without runs {alone:?}"
        );
    }
    // Of more than those, the oldest go, which is looked for once an hour.
    place.done(&["run", "-q", "docs"]);
    let left: i64 = sql.query_one("SELECT count(*) FROM backup_runs", &[]).await.unwrap().get(0);
    assert_eq!(left, 100_002);
    let hour = "UPDATE backup_catalog SET thinned = thinned - interval '1 hour'";
    assert_eq!(sql.execute(hour, &[]).await.unwrap(), 1);
    place.done(&["run", "-q", "docs"]);
    let left: i64 = sql.query_one("SELECT count(*) FROM backup_runs", &[]).await.unwrap().get(0);
    assert_eq!(left, 90_001);
}

/// A step that fails in the middle: the tables of the steps before it are not there either.
async fn failed_change_of_tables_leaves_nothing(version: Version) {
    let server = Postgres::start(version).await;
    let url = database(&server, "shared").await;
    let sql = server.client_of("shared").await;
    // It has the name of the last table.
    sql.batch_execute("CREATE TABLE backup_flights (mine int)").await.unwrap();
    opened(&url).await.add(&run_on("host", "docs", 0)).await.unwrap_err();
    let tables = "SELECT relname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                  WHERE nspname = 'public'";
    let rows = sql.query(tables, &[]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["backup_flights"]);
    sql.batch_execute("DROP TABLE backup_flights").await.unwrap();
    opened(&url).await.add(&run_on("host", "docs", 0)).await.unwrap();
}

async fn what_stands_in_the_way_is_told(version: Version) {
    let server = Postgres::start(version).await;
    let shared = database(&server, "shared").await;
    let trouble = async |url: &str| {
        let error = opened(url).await.runs(&RunFilter::default()).await.unwrap_err();
        let text = format!("{} {}", backup_control::words::chain(&error), error.hint());
        assert!(!format!("{text} {error:?}").contains("hush"), "{text}");
        (error, text)
    };
    let (error, text) = trouble(&url(&server, "postgres", "nowhere")).await;
    assert!(
        matches!(error, Error::Unreachable { .. }) && text.contains("\"nowhere\" does not exist"),
        "{text}"
    );
    server.run("CREATE ROLE guest LOGIN").await;
    let (error, text) = trouble(&url(&server, "guest", "shared")).await;
    assert!(
        matches!(error, Error::Server { .. }) && text.contains("GRANT USAGE, CREATE"),
        "{text}"
    );
    // Somebody makes the tables for ever.
    let sql = server.client_of("shared").await;
    sql.batch_execute("SELECT pg_advisory_lock(x'6261636b75706361'::bigint)").await.unwrap();
    let (_, text) = trouble(&shared).await;
    assert!(
        text.contains("lock timeout") && text.contains("another session locks the catalog"),
        "{text}"
    );
    sql.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    opened(&shared).await.add(&run_on("host", "docs", 0)).await.unwrap();
    sql.batch_execute("UPDATE backup_catalog SET version = 99").await.unwrap();
    let (error, text) = trouble(&shared).await;
    let both = "written by format 99, this program reads up to 1";
    assert!(matches!(error, Error::Newer { .. }) && text.contains(both), "{text}");
    sql.batch_execute("UPDATE backup_catalog SET version = 1; DROP TABLE backup_runs")
        .await
        .unwrap();
    let (_, text) = trouble(&shared).await;
    assert!(text.contains("catalog rebuild"), "{text}");
}

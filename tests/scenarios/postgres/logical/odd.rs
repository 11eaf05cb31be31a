//! Names, texts and numbers that are easily overlooked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::postgres::{LogicalOptions, PostgresOptions};

use super::super::say;
use super::parts::replacing;
use super::{
    Version, backed_up, definitions, digests, logical, of, renaming, repo, restored, run_in,
    selection, source, try_back_up, try_restore, value_of,
};
use crate::support::postgres::Postgres;
use backup_core::testing::tool;

fn request(include: &[&str], if_exists: IfExists) -> RestoreRequest {
    RestoreRequest { selection: selection(include, &[]), if_exists, ..RestoreRequest::default() }
}

async fn count(server: &Postgres, database: &str, table: &str) -> String {
    value_of(server, database, &format!("SELECT count(*)::text FROM {table}")).await
}

/// What was written on Windows stays as it is, and what looks like a command of psql does, too.
pub(crate) async fn texts_keep_their_line_ends(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS E'BEGIN /*\\r\\n\\\\connect \
               x\\r\\n*/ RETURN ''a\\r\\nb'';\\r\\nEND';\nCREATE FUNCTION g() RETURNS text \
               LANGUAGE sql AS $$\nSELECT '\n\\connect nowhere\n\\restrict e\n'\n$$;\nCREATE TABLE \
               t (id int PRIMARY KEY, v text DEFAULT E'x\\r\\ny', CHECK (v <> E'\\r\\n\\\\connect \
               z\\r\\n'));\nCOMMENT ON TABLE t IS E'one\\r\\n\\\\connect two\\rthree\\n';\nCREATE \
               VIEW w AS SELECT E'p\\r\\nq' AS c; INSERT INTO t VALUES (1, E'\\r\\n'), (2, E'\\r')";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let looks = "SELECT (SELECT string_agg(md5(prosrc), ' ' ORDER BY proname) FROM pg_proc WHERE \
                 proname IN ('f', 'g')) || md5(obj_description('t'::regclass)) || (SELECT \
                 md5(pg_get_expr(adbin, adrelid)) FROM pg_attrdef) || (SELECT \
                 md5(pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = 't'::regclass \
                 AND contype = 'c') || md5(pg_get_viewdef('w'::regclass)) || (SELECT md5(c) FROM \
                 w) || md5(f()) || md5(g())";
    assert_eq!(value_of(&server, "shop", looks).await, value_of(&copy, "shop", looks).await);
    assert!(
        value_of(&copy, "shop", "SELECT prosrc FROM pg_proc WHERE proname = 'f'")
            .await
            .contains("\r\n\\connect x\r\n")
    );
    assert_eq!(definitions(&server, "shop"), definitions(&copy, "shop"));
    assert_eq!(digests(&server).await, digests(&copy).await);
}

/// A misspelt pattern is told, in a backup and in a restore; a role that cannot be made keeps no
/// other from being made.
pub(crate) async fn what_is_not_there_is_told(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE ROLE boss SUPERUSER; CREATE ROLE zed").await;
    server.run("CREATE DATABASE pattern IS_TEMPLATE true").await;
    run_in(&server, "pattern", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let (repo, origin) = (repo().await, source(logical(&server)).await);
    let misspelt = selection(&["pattern", "pattern.public.orderz"], &[]);
    assert_eq!(try_back_up(&repo, &origin, misspelt).await.unwrap().warnings, 1);
    let before = repo.snapshots().await.len();
    let error = try_back_up(&repo, &origin, selection(&["patern"], &[])).await.unwrap_err();
    assert!(
        error.kind() == backup_core::error::ErrorKind::NotFound
            && error.chain().contains("\"patern\""),
        "{}",
        error.chain()
    );
    let after = repo.snapshots().await.len();
    assert_eq!(before, after, "nothing becomes the latest snapshot");
    let snapshot = backed_up(&repo, &origin, Selection::all()).await;
    let some = request(&["pattern", "shop"], IfExists::Fail);
    copy.run("CREATE ROLE few LOGIN CREATEDB CREATEROLE").await;
    let few = of(PostgresOptions::parse(&copy.uri_of("few")).unwrap());
    let few = LogicalOptions { owners: false, privileges: false, ..few };
    // The pattern, the superusers, and what is said of templates by whoever may not make them.
    let report = try_restore(&snapshot, few, some.clone()).await;
    assert_eq!(
        copy.value("SELECT count(*)::text FROM pg_roles WHERE rolname = 'zed'").await,
        "1",
        "{report:?}"
    );
    assert_eq!(
        restored(&snapshot, logical(&copy), request(&["pattern"], IfExists::Replace))
            .await
            .warnings,
        0
    );
    assert_eq!(
        restored(&snapshot, logical(&copy), request(&["pattern", "shop"], IfExists::Replace))
            .await
            .warnings,
        1
    );
    assert_eq!(count(&copy, "pattern", "t").await, "1");
    let is_template = "SELECT datistemplate::text FROM pg_database WHERE datname = 'pattern'";
    assert_eq!(copy.value(is_template).await, "true");
}

/// Rows are merged when those are there to which they refer, whatever tables are called.
pub(crate) async fn merging_follows_foreign_keys(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE m_people (id int PRIMARY KEY); CREATE TABLE z_towns (id int PRIMARY \
               KEY); ALTER TABLE m_people ADD town int REFERENCES z_towns; CREATE TABLE a_orders \
               (id int PRIMARY KEY, who int REFERENCES m_people) PARTITION BY RANGE (id); CREATE \
               TABLE a_orders_1 PARTITION OF a_orders DEFAULT; INSERT INTO z_towns VALUES (1), \
               (2); INSERT INTO m_people VALUES (1, 1), (2, 2); INSERT INTO a_orders VALUES (1, \
               1), (2, 2)";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let was = digests(&server).await;
    run_in(
        &server,
        "shop",
        "DELETE FROM a_orders; DELETE FROM m_people WHERE id = 2; DELETE FROM z_towns WHERE id = 2",
    )
    .await;
    let alone = request(&["shop.public.a_orders"], IfExists::Merge);
    let error = try_restore(&snapshot, logical(&server), alone).await.unwrap_err();
    assert!(
        error.hint().unwrap_or_default().contains("restore the referenced tables too"),
        "{} {:?}",
        error.chain(),
        error.hint()
    );
    restored(&snapshot, logical(&server), request(&["shop"], IfExists::Merge)).await;
    assert_eq!(digests(&server).await, was);
}

/// A table may be called like a schema; functions that go on naming the old one are told.
pub(crate) async fn other_names_reach_what_they_can(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE SCHEMA sales; CREATE TABLE sales.sales (id int PRIMARY KEY, v int); INSERT \
               INTO sales.sales VALUES (1, 2); CREATE VIEW sales.seen AS SELECT sales.id, sales.v \
               FROM sales.sales WHERE sales.v > 0; CREATE TABLE sales.log (id int); CREATE \
               FUNCTION sales.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO \
               sales.log VALUES (new.id); RETURN new; END'; CREATE TRIGGER noting AFTER INSERT ON \
               sales.sales FOR EACH ROW EXECUTE FUNCTION sales.noted()";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let to = renaming(&server, &["shop.sales=shop.old"]);
    assert_eq!(restored(&snapshot, to, request(&["shop.sales"], IfExists::Fail)).await.warnings, 1);
    assert_eq!(value_of(&server, "shop", "SELECT sum(v)::text FROM old.seen").await, "2");
    run_in(&server, "shop", "ALTER TABLE sales.sales RENAME TO elsewhere").await;
    assert_eq!(value_of(&server, "shop", "SELECT sum(v)::text FROM old.seen").await, "2");
    let to = renaming(&server, &["shop=shop_2"]);
    assert_eq!(restored(&snapshot, to, request(&["shop"], IfExists::Fail)).await.warnings, 0);
}

/// In another encoding the same letters are other bytes: that is no mistake, and no comparison
/// either.
pub(crate) async fn other_encodings_are_not_compared(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0").await;
    server.run("CREATE DATABASE wide").await;
    run_in(&server, "narrow", "CREATE TABLE t (v text); INSERT INTO t VALUES ('größer'), ('ÿ')")
        .await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    let to = || renaming(&server, &["narrow=wide"]);
    let report = restored(&snapshot, to(), request(&["narrow.public"], IfExists::Fail)).await;
    assert_eq!((report.warnings, report.verified_bytes), (1, 0));
    assert_eq!(
        value_of(&server, "wide", "SELECT string_agg(v, ' ' ORDER BY v) FROM t").await,
        "größer ÿ"
    );
}

/// A server with room for few locks: a backup takes one of each table for itself, and leaves room
/// for others.
pub(crate) async fn many_partitions_need_few_locks(version: Version) {
    let few = ["max_locks_per_transaction=10", "max_connections=20", "max_wal_senders=3"];
    let server = Postgres::with(version, &[], &few).await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", "CREATE TABLE log (id int, v int) PARTITION BY RANGE (id)").await;
    // Each transaction makes a few: it holds their locks to its end.
    let client = server.client_of("shop").await;
    for number in 0..250 {
        let sql = format!(
            "CREATE TABLE log_{number} PARTITION OF log FOR VALUES FROM ({number}) TO ({})",
            number + 1
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let (stop, origin) = (AtomicBool::new(false), source(logical(&server)).await);
    let write = async {
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            let sql = format!("INSERT INTO log VALUES ({}, 1)", written % 250);
            client
                .batch_execute(&sql)
                .await
                .unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
            written += 1;
        }
        written
    };
    let back_up = async {
        let repo = repo().await;
        let snapshot = backed_up(&repo, &origin, Selection::all()).await;
        stop.store(true, Ordering::Relaxed);
        (repo, snapshot)
    };
    let (written, _) = tokio::join!(write, back_up);
    assert!(written > 10, "{written}");
}

/// More tables than a server with default settings can lock twice. One of them is emptied and filled
/// again meanwhile, which an older snapshot shows as empty.
pub(crate) async fn very_many_tables_fit_the_locks_of_a_server(version: Version) {
    const TABLES: usize = 12_000;
    let server = Postgres::with(version, &[], &["fsync=off"]).await;
    server.run("CREATE DATABASE shop").await;
    let client = server.client_of("shop").await;
    for from in (0..TABLES).step_by(1000) {
        let sql = format!(
            "DO $$ BEGIN FOR n IN {from}..{} LOOP EXECUTE format('CREATE TABLE t%s (id int)', n); \
             EXECUTE format('INSERT INTO t%s VALUES (%s)', n, n); END LOOP; END $$",
            from + 999
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let stop = AtomicBool::new(false);
    let refill = async {
        while !stop.load(Ordering::Relaxed) {
            let sql = "BEGIN; TRUNCATE t7; INSERT INTO t7 SELECT generate_series(1, 10); COMMIT";
            client.batch_execute(sql).await.unwrap();
            for _ in 0..200 {
                if !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    let back_up = async {
        let repo = repo().await;
        let origin = source(logical(&server)).await;
        let snapshot = backed_up(&repo, &origin, Selection::all()).await;
        stop.store(true, Ordering::Relaxed);
        (repo, snapshot)
    };
    let ((), (_repo, snapshot)) = tokio::join!(refill, back_up);
    let copy = Postgres::with(version, &[], &["fsync=off"]).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let count = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(value_of(&copy, "shop", count).await, TABLES.to_string());
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM t7").await, "10");
    assert_eq!(value_of(&copy, "shop", "SELECT id::text FROM t11999").await, "11999");
}

/// More is left out than arguments have room for.
pub(crate) async fn one_of_many_tables_is_enough(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1); CREATE TABLE \
               \"Odd\nna\\\\me.*\" (id int); DO $$ BEGIN FOR n IN 1..700 LOOP EXECUTE \
               format('CREATE TABLE a_name_that_is_rather_long_so_that_many_need_room_%s ()', n); \
               END LOOP; END $$";
    run_in(&server, "shop", sql).await;
    let some = selection(&["shop.public.kept"], &[]);
    let snapshot = backed_up(&repo().await, &source(logical(&server)).await, some).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    assert_eq!(
        value_of(
            &copy,
            "shop",
            "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND oid > 16384"
        )
        .await,
        "kept"
    );
}

/// Somebody in the database that is to take another one's place: nothing is dropped.
pub(crate) async fn nothing_is_dropped_too_early(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    // So many that somebody has the time to enter.
    run_in(
        &server,
        "shop",
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100000)",
    )
    .await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, selection(&["shop"], &[])).await;
    run_in(&server, "shop", "INSERT INTO t VALUES (0)").await;
    let was = digests(&server).await;
    let replace = request(&["shop"], IfExists::Replace);
    let enter = async {
        let is_there = "SELECT count(*)::text FROM pg_database WHERE datname = 'shop (restoring)'";
        while server.value(is_there).await == "0" {}
        server.client_of("shop (restoring)").await
    };
    let (done, intruder) =
        tokio::join!(try_restore(&snapshot, logical(&server), replace.clone()), enter);
    let error = done.unwrap_err();
    assert!(
        error.chain().contains("shop is unchanged") && error.chain().contains("another session"),
        "{}",
        error.chain()
    );
    assert_eq!(digests(&server).await["shop.public.t"], was["shop.public.t"]);
    drop(intruder);
    restored(&snapshot, logical(&server), replace).await;
    assert_eq!(count(&server, "shop", "t").await, "100000");
}

/// As many bytes in a second as were asked for, and no more; whoever gives up does not wait for
/// them.
pub(crate) async fn a_backup_takes_its_time(version: Version) {
    let server = Postgres::start(version).await;
    server
        .run(
            "CREATE TABLE t (id int, v text); INSERT INTO t SELECT n, repeat(md5(n::text), 32) \
             FROM generate_series(1, 4000) n",
        )
        .await;
    let mut options = logical(&server);
    options.connection.max_bytes_per_second = Some(2 << 20);
    let (repo, origin, started) = (repo().await, source(options).await, Instant::now());
    // 4 MB: what comes last need not wait for itself.
    backed_up(&repo, &origin, Selection::all()).await;
    assert!(started.elapsed() > Duration::from_millis(1500), "{:?}", started.elapsed());
    let cancelled = Context::silent();
    let settings = BackupOptions::default();
    let running = backup_core::pipeline::backup(&repo.repository, &origin, &settings, &cancelled);
    let give_up = async {
        // It reads, and cannot have ended.
        while server
            .value("SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'COPY%'")
            .await
            == "0"
        {}
        cancelled.cancel.cancel();
        Instant::now()
    };
    let (done, given_up) = tokio::join!(running, give_up);
    assert!(done.unwrap_err().is_cancelled() && given_up.elapsed() < Duration::from_secs(1));
    left_alone(&server).await;
}

/// Sessions, snapshots and locks end.
async fn left_alone(server: &Postgres) {
    let asking = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'backup'";
    let started = Instant::now();
    while server.value(asking).await != "0" {
        assert!(started.elapsed() < Duration::from_secs(5), "sessions are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whatever `pg_dump` meets while others define without a pause: a backup is right, or there is
/// none.
pub(crate) async fn definitions_race_with_the_dump(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept SELECT n, n FROM \
               generate_series(1, 2000) n";
    run_in(&server, "shop", sql).await;
    let until = Instant::now() + Duration::from_secs(2);
    let define = async |seed: u32| {
        let client = server.client_of("shop").await;
        let mut rounds = 0;
        while Instant::now() < until {
            let name = format!("n{seed}_{}", rounds % 5);
            let sql = format!(
                "CREATE SCHEMA s_{name}; CREATE TYPE s_{name}.mood AS ENUM ('a', 'b'); CREATE \
                 FUNCTION s_{name}.f(s_{name}.mood) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE \
                 VIEW s_{name}.w AS SELECT id, s_{name}.f('a') AS f FROM kept; COMMENT ON VIEW \
                 s_{name}.w IS 'x'; ALTER VIEW s_{name}.w RENAME TO w_2; ALTER TYPE s_{name}.mood \
                 RENAME TO mood_2; DROP SCHEMA s_{name} CASCADE"
            );
            for statement in sql.split("; ") {
                client
                    .batch_execute(statement)
                    .await
                    .unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
            }
            rounds += 1;
        }
        rounds
    };
    let back_up = async {
        let (repo, origin) = (repo().await, source(logical(&server)).await);
        let (mut snapshots, mut others) = (Vec::new(), Vec::new());
        while snapshots.is_empty() || Instant::now() < until {
            match try_back_up(&repo, &origin, selection(&["shop"], &[])).await {
                Ok(report) if report.warnings == 0 => {
                    snapshots.push(super::super::base::last_snapshot(&repo).await);
                }
                Ok(_) => others.push("definitions changed repeatedly".to_owned()),
                Err(error) => others.push(error.chain()),
            }
            assert!(others.len() < 8, "{others:?}");
        }
        say(&format!("{} right, and not {others:?}", snapshots.len()));
        (repo, snapshots)
    };
    let (one, two, (_repo, snapshots)) = tokio::join!(define(1), define(2), back_up);
    assert!(one + two > 4, "{one} {two}");
    for snapshot in snapshots {
        restored(&snapshot, logical(&copy), replacing(&["shop"])).await;
        assert_eq!(count(&copy, "shop", "kept").await, "2000");
    }
}

/// Triggers and indexes change beside the locks of a backup, and `pg_dump` reads some of it as it
/// is now.
pub(crate) async fn what_locks_do_not_keep_out_is_seen(version: Version) {
    let server = Postgres::start(version).await;
    let sql = "CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY); \
               CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; \
               CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'";
    server.run(sql).await;
    let (repo, origin) = (repo().await, source(logical(&server)).await);
    let trigger = |name| {
        format!(
            "CREATE OR REPLACE TRIGGER t BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION \
             {name}()"
        )
    };
    let indexes = ["ALTER TABLE kept CLUSTER ON kept_pkey", "ALTER TABLE kept SET WITHOUT CLUSTER"]
        .map(str::to_owned);
    for changes in [[trigger("f"), trigger("g")], indexes] {
        let stop = AtomicBool::new(false);
        let change = async {
            let client = server.client().await;
            while !stop.load(Ordering::Relaxed) {
                for statement in &changes {
                    client
                        .batch_execute(statement)
                        .await
                        .unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
                }
            }
        };
        let back_up = async {
            let report = try_back_up(&repo, &origin, Selection::all()).await;
            stop.store(true, Ordering::Relaxed);
            report.unwrap().warnings
        };
        assert_eq!(tokio::join!(change, back_up).1, 1, "{changes:?}");
    }
    backed_up(&repo, &origin, Selection::all()).await;
}

/// Where a comma parts cents and a point thousands: amounts in definitions come back as they were,
/// whoever reads them.
pub(crate) async fn money_is_the_same_in_every_country(version: Version) {
    let locales = tool("locale-es_AR");
    let (server, copy) = (
        Postgres::with_locales(version, &locales).await,
        Postgres::with_locales(version, &locales).await,
    );
    server.run("CREATE DATABASE shop").await;
    server.run("ALTER DATABASE shop SET lc_monetary = 'es_AR.UTF-8'").await;
    let sql = "CREATE TABLE priced (id int PRIMARY KEY, v money DEFAULT '$ 1,50'::money, CHECK (v \
               < '$ 20,75'::money)); CREATE TABLE parted (v money) PARTITION BY RANGE (v); CREATE \
               TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('$ 1,25') TO ('$ 2,25'); INSERT \
               INTO priced VALUES (1); INSERT INTO parted VALUES ('$ 2,00')";
    run_in(&server, "shop", sql).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    run_in(&copy, "shop", "INSERT INTO priced VALUES (2)").await;
    let amounts = "SELECT string_agg(v::numeric::text, ' ' ORDER BY id) FROM priced";
    assert_eq!(value_of(&copy, "shop", amounts).await, "1.50 1.50");
    assert_eq!(definitions(&server, "shop"), definitions(&copy, "shop"));
    assert!(definitions(&copy, "shop").contains("20,75"), "the locale is not in force");
}

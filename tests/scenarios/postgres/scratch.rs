//! Parts of a data directory, at a moment, by a scratch server.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::logical::programs;
use super::logs::newest;
use super::moments::{Load, pgbench};
use super::place::{Place, with_role};
use super::program::text_of;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;

/// What belongs together in every state that there ever was: the bank of TPC-B, and how many rows
/// its history has.
const BALANCE: &str = "SELECT concat_ws(' ', (SELECT sum(abalance) FROM pgbench_accounts), (SELECT \
                       sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM \
                       pgbench_branches), (SELECT sum(delta) FROM pgbench_history), (SELECT \
                       count(*) FROM pgbench_accounts))";

/// Of the numbers, how many there are and what they hold.
fn numbers(table: &str) -> String {
    format!("SELECT count(*) || ' ' || md5(string_agg(id || t, ',' ORDER BY id)) FROM {table}")
}

/// A place with what a scratch server needs.
struct Workshop {
    place: Place,
    scratch: PathBuf,
    programs: String,
}

impl Workshop {
    fn new(server: &Postgres, version: Version) -> Self {
        let place = Place::new(server, "");
        let scratch = PathBuf::from(place.path("scratch"));
        let together = PathBuf::from(place.path("programs"));
        [&scratch, &together].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        for name in ["postgres", "pg_ctl"] {
            symlink(version.programs().join(name), together.join(name)).unwrap();
        }
        symlink(programs().join("pg_dump"), together.join("pg_dump")).unwrap();
        symlink(programs().join("pg_dumpall"), together.join("pg_dumpall")).unwrap();
        Self { place, scratch, programs: together.to_str().unwrap().to_owned() }
    }

    /// A restore of parts.
    fn arguments<'a>(&'a self, at: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["restore", "--job", "crm", "--at", at][..], &self.flags(), more].concat()
    }

    /// The flags of the scratch server; root names another user.
    fn flags(&self) -> Vec<&str> {
        let scratch =
            ["--scratch", self.scratch.to_str().unwrap(), "--scratch-programs", &self.programs];
        let user: &[&str] =
            if rustix::process::geteuid().is_root() { &["--scratch-user", "nobody"] } else { &[] };
        [&scratch[..], user].concat()
    }

    #[track_caller]
    fn done(&self, at: &str, more: &[&str]) -> String {
        let said = self.place.done(&self.arguments(at, more));
        assert_eq!(names(&self.scratch), BTreeSet::new(), "nothing is left: {said}");
        said
    }

    /// Waits until a scratch server runs; its directory.
    fn runs(&self) -> PathBuf {
        let started = Instant::now();
        loop {
            let found =
                fs::read_dir(&self.scratch).unwrap().map(|entry| entry.unwrap().path()).next();
            // The file is there before anything is in it.
            let is_told = |room: &PathBuf| {
                fs::read_to_string(room.join("data/postmaster.pid"))
                    .is_ok_and(|text| text.contains('\n'))
            };
            match found.filter(is_told) {
                Some(room) => return room,
                None => {
                    assert!(started.elapsed() < Duration::from_secs(120), "no scratch server runs");
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whatever lies in a directory, and below.
fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

/// A number after the other, while others write elsewhere.
async fn count(server: &Postgres, from: u32, to: u32) {
    let client = server.client().await;
    for number in from..to {
        let sql = format!("INSERT INTO numbers VALUES ({number}, md5('{number}'))");
        client.batch_execute(&sql).await.unwrap();
    }
}

/// Whether a process still works in a directory.
fn works_in(process: &str, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|found| found == dir)
}

/// One table, and several that belong together, at moments between two commits, while the server
/// runs under load.
pub(super) async fn a_table_comes_out_of_a_data_directory(version: Version) {
    let server = with_role(version, &[], &["autovacuum=off"]).await;
    run(&mut pgbench(&server, &["-i", "-q", "-s", "1"])).succeeded();
    server
        .run(
            "CREATE TABLE numbers (id int PRIMARY KEY, t text); CREATE UNLOGGED TABLE fleeting AS \
             SELECT 1 AS id",
        )
        .await;
    let mut load =
        pgbench(&server, &["-n", "-c", "2", "-R", "200", "-T", "600", "--max-tries=100"]);
    let load = Load(load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let shop = Workshop::new(&server, version);
    let place = &shop.place;
    place.done(&["run", "crm"]);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    count(&server, 0, 300).await;
    let (fence, at_fence) =
        (text_of(&newest(&server).await), server.value(&numbers("numbers")).await);
    count(&server, 300, 350).await;
    // Nobody of the name that everybody tries first may log in for a while.
    let known = server.client().await;
    let locked = "CREATE ROLE chief LOGIN SUPERUSER; ALTER ROLE postgres NOLOGIN; UPDATE numbers \
                  SET t = 'late'";
    known.batch_execute(locked).await.unwrap();
    let late = text_of(&newest_of(&known).await);
    known.batch_execute("ALTER ROLE postgres LOGIN; DROP TABLE numbers").await.unwrap();
    let last = text_of(&newest(&server).await);
    place.reached(&last);
    let copy = Postgres::start(version).await;
    let target = copy.uri();
    // The load and the capture go on.
    let only = ["--only", "postgres.public.numbers", "--target", &target, "--verify"];
    let said = shop.done(&fence, &only);
    assert!(said.contains("1 table") && said.contains("scratch server"), "{said}");
    assert_eq!(copy.value(&numbers("numbers")).await, at_fence);
    let said = place.fails(5, &shop.arguments(&fence, &only));
    assert!(said.contains("public.numbers"), "{said}");
    let renamed = ["--rename", "postgres.public.numbers=postgres.public.then", "--no-owner"];
    shop.done(&late, &[&only[..], &renamed].concat());
    assert_eq!(
        copy.value("SELECT concat(count(*), min(t), max(t)) FROM \"then\"").await,
        "350latelate"
    );
    drop(load);
    capturing.stop();
    untouched(&server, &copy, &shop, &last).await;
    interrupted(&shop, &last, &target).await;
    refused(&shop, &last, &target);
    // Rights at the target are known before the cluster is written.
    copy.run("CREATE ROLE few LOGIN").await;
    let few = copy.uri_of("few");
    let elsewhere = ["--rename", "postgres=elsewhere", "--target", &few];
    let only = ["--only", "postgres.public.pgbench_tellers"];
    let said = shop.place.fails(1, &shop.arguments(&last, &[&only[..], &elsewhere].concat()));
    assert!(said.contains("few may not create it"), "{said}");
    assert!(!said.contains("Creating a scratch server"), "{said}");
}

/// Where the log is, asked in a session that is open.
async fn newest_of(client: &tokio_postgres::Client) -> backup_core::log::Position {
    let asking =
        "SELECT timeline_id::text, pg_current_wal_lsn()::text FROM pg_control_checkpoint()";
    let row = client.query_one(asking, &[]).await.unwrap();
    let lsn: backup_sources::postgres::Lsn = row.get::<_, String>(1).parse().unwrap();
    backup_core::log::Position::new(row.get::<_, String>(0), lsn.0)
}

/// Of a server that does nothing, nothing has changed; what belongs together in four tables does.
async fn untouched(server: &Postgres, copy: &Postgres, shop: &Workshop, last: &str) {
    server.run("CHECKPOINT").await;
    let look = async || {
        let about = "SELECT concat_ws(' ', pg_postmaster_start_time(), current_setting('port'), \
                     current_setting('archive_mode'), (SELECT count(*) FROM pg_replication_slots), \
                     (SELECT count(*) FROM pg_tablespace))";
        let control = fs::read(server.data().join("global/pg_control")).unwrap();
        (server.value(about).await, control, names(server.data()))
    };
    let before = look().await;
    let uri = copy.uri();
    let only = ["--only", "postgres.public.pgbench_*", "--target", &uri];
    let dry = shop.done(last, &[&only[..], &["--dry-run"]].concat());
    assert!(dry.contains("Plan") && dry.contains("4 tables"), "{dry}");
    assert_eq!(
        copy.value("SELECT count(*)::text FROM pg_tables WHERE tablename LIKE 'pgbench%'").await,
        "0"
    );
    shop.done(last, &only);
    let found = copy.value(BALANCE).await;
    let parts: Vec<&str> = found.split(' ').collect();
    assert!(
        parts.len() == 5 && parts[4] == "100000" && parts[..4].iter().all(|part| *part == parts[0]),
        "{found}"
    );
    // Replaced as a whole, which is shown first, of one scratch server.
    copy.run("UPDATE pgbench_tellers SET tbalance = 0").await;
    let said = shop.done(last, &[&only[..], &["--if-exists", "replace", "--yes"]].concat());
    assert_eq!(said.matches("scratch server").count(), 1, "{said}");
    assert_eq!(copy.value(BALANCE).await, found);
    // A warning names tables that are not in the log.
    let outcome = shop.place.run(
        &shop.arguments(last, &["--only", "postgres.public.fleeting", "--target", &copy.uri()]),
    );
    assert!(outcome.code == 3 && outcome.stderr.contains("unlogged"), "{outcome}");
    let after = look().await;
    assert_eq!((before.0, before.2), (after.0, after.2));
    assert!(before.1 == after.1, "pg_control was written");
}

/// Ended by Ctrl-C nothing is left; what is left of somebody who was killed is removed by the next
/// one.
async fn interrupted(shop: &Workshop, last: &str, target: &str) {
    let only = [
        "--only",
        "postgres.public.pgbench_tellers",
        "--rename",
        "postgres.public.pgbench_tellers=postgres.public.x",
    ];
    let arguments = shop.arguments(last, &[&only[..], &["--target", target]].concat());
    let mut running = shop.place.spawn(&arguments);
    shop.runs();
    running.signal(Signal::INT);
    let since = Instant::now();
    while !running.has_ended() {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(names(&shop.scratch), BTreeSet::new());
    let running = shop.place.spawn(&arguments);
    let data = shop.runs().join("data");
    let status = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    running.kill();
    let process = status.lines().next().unwrap().trim();
    assert!(data.exists() && works_in(process, &data), "its server goes on");
    // Somebody else's directory of such a name stays.
    let foreign = shop.scratch.join("backup-scratch-of-others/something");
    fs::create_dir_all(&foreign).unwrap();
    shop.place.done(&shop.arguments(last, &[&only[..], &["--target", target]].concat()));
    assert!(!data.exists() && !works_in(process, &data) && foreign.exists());
    fs::remove_dir_all(foreign.parent().unwrap()).unwrap();
}

/// What cannot be is refused before anything is restored.
fn refused(shop: &Workshop, last: &str, target: &str) {
    let only = ["--only", "postgres.public.pgbench_tellers", "--target", target];
    shop.place.fails(2, &shop.arguments(last, &["--target", target]));
    shop.place.fails(2, &shop.arguments(last, &[&only[..], &["--set", "port=1"]].concat()));
    shop.place.fails(
        2,
        &shop.arguments(
            last,
            &["--only", "postgres.public.pgbench_tellers", "--target", &shop.place.path("dir")],
        ),
    );
    shop.place.fails(
        1,
        &shop.arguments(last, &["--only", "postgres.public.nothing", "--target", target]),
    );
    let plain =
        ["restore", "--job", "crm", "--at", last, "--scratch", shop.scratch.to_str().unwrap()];
    let said = shop.place.fails(
        2,
        &[&plain[..], &only, &["--scratch-programs", "/nowhere", "--scratch-user", "nobody"]]
            .concat(),
    );
    assert!(said.contains("--scratch-programs"), "{said}");
    if rustix::process::geteuid().is_root() {
        let said = shop
            .place
            .fails(2, &[&plain[..], &only, &["--scratch-programs", &shop.programs]].concat());
        assert!(said.contains("--scratch-user"), "{said}");
    }
    assert_eq!(names(&shop.scratch), BTreeSet::new());
}

/// A physical backup beside its server, and beside a moment of the log.
pub(super) async fn compare_reads_physical_backups_by_a_scratch_server(version: Version) {
    let server = with_role(version, &[], &[]).await;
    // Only from 14 on is there a role that may read everything.
    server.run("ALTER ROLE backup SUPERUSER").await;
    server
        .run(
            "CREATE TABLE numbers (id int PRIMARY KEY, t text); CREATE TABLE same AS SELECT 1 AS a; \
             CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS id",
        )
        .await;
    let shop = Workshop::new(&server, version);
    shop.place.done(&["run", "crm"]);
    let capturing = shop.place.spawn(&["logs", "follow", "crm"]);
    count(&server, 0, 100).await;
    let (early, late) =
        (text_of(&newest(&server).await), "UPDATE numbers SET t = 'x' WHERE id = 7");
    server.run(late).await;
    let last = text_of(&newest(&server).await);
    shop.place.reached(&last);
    capturing.stop();
    let compare = |at| [&["compare", "--job", "crm", "--at", at][..], &shop.flags()].concat();
    let said = shop.place.done(&compare(&last));
    assert!(said.contains("are equal: 2 objects") && said.contains("scratch server"), "{said}");
    let said = shop.place.fails(1, &compare(&early));
    assert!(said.contains("postgres.public.numbers"), "{said}");
    assert!(!said.contains("fleeting") && !said.contains("public.same"), "{said}");
    let only = [&compare(&early)[..], &["--only", "postgres.public.same"]].concat();
    assert!(shop.place.done(&only).contains("are equal: 1 object"), "{said}");
    assert_eq!(names(&shop.scratch), BTreeSet::new(), "nothing is left");
}

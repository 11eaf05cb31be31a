//! Moments that lie close together, while others write, and what stock tools say of the copies.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use backup_core::log::Target;
use backup_sources::postgres::RecoveryTarget;
use jiff::Timestamp;

use super::logical::programs;
use super::logs::{Logged, newest, write};
use super::{back_up, digest, say, source};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;

/// Somebody who writes until this is dropped.
pub(super) struct Load(pub(super) Child);

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

pub(super) fn pgbench(server: &Postgres, args: &[&str]) -> Command {
    let mut command = Command::new(programs().join("pgbench"));
    command
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &server.port().to_string()])
        .args(args)
        .arg("postgres");
    command
}

/// A number and when it was committed, in microseconds.
type Commit = (i32, i64);

/// Two commits that follow each other and are about so many microseconds apart.
fn apart(commits: &[Commit], wanted: i64) -> (Commit, Commit) {
    let pairs =
        commits.windows(2).map(|two| (two[0], two[1])).filter(|(one, other)| other.1 - one.1 >= 2);
    pairs.min_by_key(|(one, other)| (other.1 - one.1 - wanted).abs()).unwrap()
}

/// Settings that a server with readers needs while it replays may grow between a backup and the
/// moment.
pub(super) async fn settings_may_have_grown(version: Version) {
    let mut server = Postgres::start(version).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    back_up(&logged.repo, &logged.source).await;
    write(&server, 0, 5).await;
    for setting in
        ["max_connections = 300", "max_worker_processes = 50", "max_locks_per_transaction = 200"]
    {
        server.run(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    server.start_again(version).await;
    write(&server, 5, 10).await;
    let (last, expected) = (newest(&server).await, digest(&logged.source).await);
    logged.reached(&last).await;
    capturing.stop().await;
    let found =
        logged.state_at(version, &Target::Position(last), RecoveryTarget::Planned, &[]).await;
    assert_eq!(found, expected);
}

/// Between two commits that are a millisecond apart: the first is there, and the second is not;
/// nothing is damaged.
pub(super) async fn a_millisecond_is_enough(version: Version) {
    let server = Postgres::with(version, &[], &["track_commit_timestamp=on"]).await;
    run(&mut pgbench(&server, &["-i", "-q", "-s", "1"])).succeeded();
    server.run("CREATE TABLE numbers (id int PRIMARY KEY)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    let mut load = pgbench(&server, &["-n", "-c", "2", "-T", "300", "--max-tries=100"]);
    let load = Load(load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    back_up(&logged.repo, &logged.source).await;
    let client = server.client().await;
    for number in 1..=600 {
        client.batch_execute(&format!("INSERT INTO numbers VALUES ({number})")).await.unwrap();
    }
    drop(load);
    let asking = "SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * \
                  1000000)::bigint FROM numbers ORDER BY id";
    let rows = client.query(asking, &[]).await.unwrap();
    let commits: Vec<Commit> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    logged.reached(&newest(&server).await).await;
    capturing.stop().await;
    drop((client, server));
    for (number, wanted) in [1000, 0].into_iter().enumerate() {
        let (before, behind) = apart(&commits, wanted);
        say(&format!("{before:?} and {behind:?} are {} us apart", behind.1 - before.1));
        assert!(behind.1 - before.1 < 5000, "nothing is close together");
        let moment =
            Target::Time(Timestamp::from_microsecond(i64::midpoint(before.1, behind.1)).unwrap());
        let (room, copy) = logged.server_at(version, &moment, RecoveryTarget::Planned, &[]).await;
        let found = copy.value("SELECT count(*) || ' ' || max(id) FROM numbers").await;
        assert_eq!(found, format!("{0} {0}", before.0));
        // Each transaction changes the same amount in all of them.
        let sums = "SELECT count(DISTINCT sum)::text FROM (SELECT sum(abalance) FROM \
                    pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers UNION ALL \
                    SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT sum(delta) FROM \
                    pgbench_history) sums";
        assert_eq!(copy.value(sums).await, "1");
        if number == 0 {
            nothing_is_damaged(version, copy, &room.path().join("data")).await;
        }
    }
}

/// By what stock tools say; `pg_amcheck` knows servers from 14 on, `pg_checksums` those of its own
/// version.
pub(super) async fn nothing_is_damaged(version: Version, copy: Postgres, data: &Path) {
    if version >= Version::V14 {
        let mut check = Command::new(programs().join("pg_amcheck"));
        check.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &copy.port().to_string()]);
        run(check.args(["--all", "--install-missing", "--heapallindexed", "--on-error-stop"]))
            .succeeded();
    }
    if version == Version::V18 {
        copy.run("CHECKPOINT").await;
        copy.stop();
        run(Command::new(programs().join("pg_checksums")).arg("--check").arg(data)).succeeded();
    }
}

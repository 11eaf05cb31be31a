//! Restored servers that accept queries only, until they are promoted; and dry runs, which name the
//! place where the replay would stop.

use std::path::Path;
use std::time::{Duration, Instant};

use backup_sources::postgres::Lsn;
use tokio_postgres::{Client, NoTls};

use super::logs::{newest, write};
use super::place::{Place, with_role};
use super::program::{Started, text_of};
use crate::support::postgres::{Postgres, Version};

/// All rows, as the server itself digests them.
const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(id || ':' || t, ',' ORDER BY id, t)) \
                    FROM log";

/// A session of the administrator at the server of a port.
async fn client(port: u16) -> Client {
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn place_of(server: &Postgres) -> Lsn {
    server.value("SELECT pg_current_wal_insert_lsn()::text").await.parse().unwrap()
}

/// Waits until the replay pauses: a server of 13 only notes that it is to.
async fn paused(client: &Client) {
    let started = Instant::now();
    while text(client, "SELECT pg_is_wal_replay_paused()::text").await != "true" {
        assert!(started.elapsed() < Duration::from_secs(30), "the replay does not pause");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A log with a transaction and a restore point of which the state before and behind is known.
struct Story {
    server: Postgres,
    place: Place,
    transaction: String,
    /// Places of the log before and behind the transaction.
    around: (Lsn, Lsn),
    before_transaction: String,
    behind_transaction: String,
    before_point: String,
}

impl Story {
    async fn new(version: Version) -> Self {
        let mut server = with_role(version, &[], &[]).await;
        server.run("CREATE TABLE log (id int, t text)").await;
        let place = Place::new(&server, "slot = \"crm\"\nfast_checkpoint = true");
        place.done(&["run", "crm"]);
        let capturing = place.spawn(&["logs", "follow", "crm"]);
        write(&server, 0, 3).await;
        place.reached(&text_of(&newest(&server).await));
        // Queries during replay need as many connections as the log was written with.
        server.run("ALTER SYSTEM SET max_connections = 150").await;
        server.start_again(version).await;
        write(&server, 3, 5).await;
        let (before, before_transaction) = (place_of(&server).await, server.value(ROWS).await);
        let inserted = "INSERT INTO log VALUES (-1, 'x') RETURNING xmin::text";
        let transaction = server.value(inserted).await;
        let behind_transaction = server.value(ROWS).await;
        let around = (before, place_of(&server).await);
        write(&server, 5, 6).await;
        let before_point = server.value(ROWS).await;
        server.run("SELECT pg_create_restore_point('end')").await;
        write(&server, 6, 7).await;
        place.reached(&text_of(&newest(&server).await));
        capturing.stop();
        Self {
            server,
            place,
            transaction,
            around,
            before_transaction,
            behind_transaction,
            before_point,
        }
    }

    /// Restores to a moment, with a port of its own.
    fn restore(&self, version: Version, at: &str, port: u16, more: &[&str]) -> String {
        let target = self.place.path(&format!("paused-{port}"));
        let port = format!("port={port}");
        let start = format!("--start={}", version.programs().display());
        let mut words = vec!["restore", "--job", "crm", "--at", at, "--target", &target, "--pause"];
        words.extend(["--set", &port, "--set", "unix_socket_directories="]);
        words.extend(["--set", "listen_addresses=127.0.0.1"]);
        words
            .extend(more.iter().copied().map(|word| if word == "--start" { &start } else { word }));
        self.place.done(&words)
    }

    fn promote(&self, version: Version, target: &str) -> String {
        let programs = version.programs().display().to_string();
        self.place.done(&["restore", "promote", target, "--programs", &programs])
    }
}

/// The moment can be looked at before the server accepts writes; then it does, with the same rows.
pub(super) async fn paused_servers_wait_for_their_promotion(version: Version) {
    let story = Story::new(version).await;
    let port = story.server.port() + 1;
    let target = story.place.path(&format!("paused-{port}"));
    let _started = Started(Path::new(&target));
    let at = format!("before:xid:{}", story.transaction);
    let shown = story.restore(version, &at, port, &["--start"]);
    assert!(shown.contains("accepts queries only"), "{shown}");
    let looking = client(port).await;
    paused(&looking).await;
    assert_eq!(text(&looking, ROWS).await, story.before_transaction);
    let refused = looking.batch_execute("INSERT INTO log VALUES (1, 'y')").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "{refused}");
    let shown = story.promote(version, &target);
    assert!(shown.contains("accepts writes"), "{shown}");
    let writing = client(port).await;
    assert_eq!(text(&writing, ROWS).await, story.before_transaction);
    writing.batch_execute("INSERT INTO log VALUES (1, 'y')").await.unwrap();
    assert_eq!(text(&writing, "SELECT pg_is_in_recovery()::text").await, "false");
    let auto = std::fs::read_to_string(Path::new(&target).join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("recovery_target_action"), "{auto}");
    // There is nothing to promote any more, and never was.
    let programs = version.programs().display().to_string();
    for other in [&*target, &story.place.path("repository")] {
        story.place.fails(2, &["restore", "promote", other, "--programs", &programs]);
    }
}

/// A server that was never started replays its log when it is promoted, up to the moment only.
pub(super) async fn promotion_starts_a_server_that_does_not_run(version: Version) {
    let story = Story::new(version).await;
    let port = story.server.port() + 1;
    let target = story.place.path(&format!("paused-{port}"));
    let _started = Started(Path::new(&target));
    story.restore(version, "before:name:end", port, &[]);
    story.promote(version, &target);
    assert_eq!(text(&client(port).await, ROWS).await, story.before_point);
}

/// A dry run names the place of the log that a restore would stop at, and writes nothing.
pub(super) async fn dry_runs_resolve_transactions_and_points(version: Version) {
    let story = Story::new(version).await;
    let never = story.place.path("never");
    let dry = |at: &str| {
        let words = ["restore", "--job", "crm", "--at", at, "--target", &*never, "--dry-run"];
        story.place.run(&words)
    };
    let id = &story.transaction;
    let mut places = Vec::new();
    for at in [format!("before:xid:{id}"), format!("xid:{id}")] {
        let shown = dry(&at).succeeded().stderr;
        let place =
            shown.split("last WAL record is at ").nth(1).unwrap_or_else(|| panic!("{shown}"));
        let place: Lsn = place.split_whitespace().next().unwrap().parse().unwrap();
        places.push(place);
    }
    assert!(places[0] < places[1] && places[1] < story.around.1, "{places:?}");
    assert!(story.around.0 < places[1], "{places:?}, {:?}", story.around);
    let shown = dry("name:end").succeeded().stderr;
    assert!(shown.contains("restore point \"end\" ("), "{shown}");
    for missing in ["xid:4000000000", "before:name:never made"] {
        let refused = dry(missing);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains("is not in the WAL"), "{refused}");
    }
    assert!(!Path::new(&never).exists());
    // The same place is that of the restore.
    let port = story.server.port() + 1;
    let target = story.place.path(&format!("paused-{port}"));
    let _started = Started(Path::new(&target));
    let shown = story.restore(version, &format!("xid:{id}"), port, &["--start"]);
    assert!(shown.contains(&format!("WAL record at {}", places[1])), "{shown}: {places:?}");
    assert_eq!(text(&client(port).await, ROWS).await, story.behind_transaction);
}

/// The original was stopped cleanly: its log ends with a record that changes nothing. The capture
/// waits for the server to return, and the moment can be looked at and promoted.
pub(super) async fn shutdowns_of_the_original_are_no_obstacle(version: Version) {
    let mut server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::new(&server, "slot = \"crm\"\nfast_checkpoint = true");
    place.done(&["run", "crm"]);
    let mut capturing = place.spawn(&["logs", "follow", "crm"]);
    write(&server, 0, 3).await;
    let rows = server.value(ROWS).await;
    place.reached(&text_of(&newest(&server).await));
    server.stop();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!capturing.has_ended(), "the capture waits");
    let port = server.port() + 1;
    let target = place.path("stopped");
    let _started = Started(Path::new(&target));
    let start = format!("--start={}", version.programs().display());
    let sets = format!("port={port}");
    let words = ["restore", "--job", "crm", "--at", "latest", "--target", &target, "--pause"];
    let set = ["--set", &sets, "--set", "unix_socket_directories=", &start];
    place.done(&[&words[..], &set, &["--set", "listen_addresses=127.0.0.1"]].concat());
    let looking = client(port).await;
    paused(&looking).await;
    assert_eq!(text(&looking, ROWS).await, rows);
    let programs = version.programs().display().to_string();
    place.done(&["restore", "promote", &target, "--programs", &programs]);
    assert_eq!(text(&client(port).await, ROWS).await, rows);
    server.start_again(version).await;
    write(&server, 3, 4).await;
    place.reached(&text_of(&newest(&server).await));
    assert!(!capturing.has_ended());
    capturing.stop();
}

//! What the program works with dies at any moment: the server, the store of the repository, the
//! program itself. Whatever the server was told to be stored comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_sources::postgres::Lsn;
use rand::RngExt as _;
use tokio_postgres::NoTls;

use super::kills::{restored, times};
use super::logs::write;
use super::place::{Place, with_role};
use super::{digest, say, source};
use crate::support::dying::{DyingStore, ended};
use crate::support::killing::is_hit;
use crate::support::long::long;
use crate::support::postgres::{Postgres, Version};
use crate::support::running::Running;

/// Numbers that were committed, each with the place in the log up to which it surely is.
type Committed = Arc<Mutex<Vec<(u32, Lsn)>>>;

/// Commits numbers, one after the other, whatever becomes of the server.
struct Committing {
    committed: Committed,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Committing {
    async fn begin(server: &Postgres) -> Self {
        server.run("CREATE TABLE numbers (id int PRIMARY KEY)").await;
        let (committed, stop) = (Committed::default(), Arc::new(AtomicBool::new(false)));
        let (known, ends) = (Arc::clone(&committed), Arc::clone(&stop));
        let config = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", server.port());
        let task = tokio::spawn(async move {
            let mut number = 1;
            while !ends.load(Ordering::Relaxed) {
                if let Ok((client, connection)) = tokio_postgres::connect(&config, NoTls).await {
                    tokio::spawn(connection);
                    while !ends.load(Ordering::Relaxed) {
                        // Whether the last one was committed when the server died is not known.
                        let insert =
                            format!("INSERT INTO numbers VALUES ({number}) ON CONFLICT DO NOTHING");
                        let done = client.batch_execute(&insert).await;
                        let Ok(row) =
                            client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await
                        else {
                            break;
                        };
                        if done.is_err() {
                            break;
                        }
                        let at = row.get::<_, String>(0).parse().unwrap();
                        known.lock().unwrap_or_else(PoisonError::into_inner).push((number, at));
                        number += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { committed, stop, task }
    }

    fn last(&self) -> u32 {
        self.up_to(Lsn(u64::MAX))
    }

    /// The last number that was committed before a place in the log.
    fn up_to(&self, at: Lsn) -> u32 {
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.iter().rev().find(|(_, lsn)| *lsn <= at).map_or(0, |(number, _)| *number)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// Up to where the server has been told that everything is stored.
async fn acknowledged(server: &Postgres) -> Lsn {
    let asking = "SELECT coalesce(max(restart_lsn), '0/0')::text FROM pg_replication_slots WHERE \
                  slot_name = 'backup'";
    server.value(asking).await.parse().unwrap()
}

/// Waits until the capture has got to a number, by what the server was told.
async fn caught_up(
    server: &Postgres,
    committing: &Committing,
    number: u32,
    capturing: &mut Running,
) {
    let started = Instant::now();
    while committing.up_to(acknowledged(server).await) < number {
        assert!(!capturing.has_ended(), "the capturer has given up");
        assert!(started.elapsed() < Duration::from_secs(150), "the capture does not go on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Store,
    Server,
    Us,
}

/// One capturer after the other lives through everything, and misses nothing.
pub(super) async fn a_capture_among_the_dying(version: Version) {
    let mut server = with_role(version, &[], &[]).await;
    let mut store = DyingStore::start();
    let place = Place::in_store(&server, &store);
    let committing = Committing::begin(&server).await;
    place.done(&["run", "crm"]);
    let mut random = rand::rng();
    let mut capturing = place.spawn(&["logs", "follow", "crm"]);
    // Whoever comes after us has to wait for a lease: unless there is time, we die last.
    let mut victims = vec![Victim::Store, Victim::Server, Victim::Us];
    if long() {
        victims = (0..times())
            .map(|_| [Victim::Store, Victim::Server, Victim::Us][random.random_range(0..3)])
            .chain([Victim::Us])
            .collect();
    }
    for (round, victim) in victims.iter().enumerate() {
        caught_up(&server, &committing, committing.last(), &mut capturing).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let (stored, dead) =
            (acknowledged(&server).await, Duration::from_millis(random.random_range(0..2500)));
        match victim {
            Victim::Store => {
                store.kill();
                tokio::time::sleep(dead).await;
                store.start_again();
            }
            Victim::Server => {
                server.kill();
                tokio::time::sleep(dead).await;
                server.start_again(version).await;
            }
            Victim::Us => {
                capturing.kill();
                capturing = place.spawn(&["logs", "follow", "crm"]);
            }
        }
        let (found, least) =
            (restored(&place, version, &format!("round-{round}")).await, committing.up_to(stored));
        say(&format!(
            "{victim:?}: {found} are restored of {}, {least} were said to be stored",
            committing.last()
        ));
        assert!(
            found >= least && least > 0,
            "{victim:?}: {found} are restored, and {least} were said to be stored"
        );
        assert!(!capturing.has_ended(), "{victim:?}: the capturer has given up");
    }
    capturing.kill();
    committing.end().await;
    place.done(&["check", "--read-data"]);
}

/// A backup succeeds and is whole, or fails and leaves nothing.
pub(super) async fn a_backup_among_the_dying(version: Version) {
    let mut server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    write(&server, 0, 40).await;
    let mut store = DyingStore::start();
    let place = Place::in_store(&server, &store);
    let fulls =
        |place: &Place| place.done(&["list", "--json"]).matches("\"type\":\"full\"").count();
    // The first one also has to start what later ones find: of two, the faster shows how long they
    // take.
    let timed = || {
        let started = Instant::now();
        place.done(&["run", "crm"]);
        started.elapsed()
    };
    let (mut whole, mut random) = (timed().min(timed()), rand::rng());
    let (mut before, mut hit) = (fulls(&place), 0);
    for round in 0..times() {
        // Something new, so that there is something to be stored.
        write(&server, 0, 40).await;
        let mut child =
            place.command(&["run", "crm"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(whole.mul_f64(random.random_range(0.0..0.7))).await;
        hit += u64::from(is_hit(&mut child, &mut whole));
        let dead = Duration::from_millis(random.random_range(0..6000));
        let ending = ended(child);
        let reviving = async {
            if round % 2 == 0 {
                store.kill();
                tokio::time::sleep(dead).await;
                store.start_again();
            } else {
                server.kill();
                tokio::time::sleep(dead).await;
                server.start_again(version).await;
            }
        };
        let (succeeded, ()) = tokio::join!(ending, reviving);
        let after = fulls(&place);
        say(&format!("succeeded: {succeeded}, {after} backups"));
        assert_eq!(after, before + usize::from(succeeded));
        before = after;
    }
    assert!(hit * 2 >= times(), "{hit} were hit: that shows nothing");
    place.done(&["run", "crm"]);
    place.done(&["check", "--read-data"]);
    let target = place.path("copy");
    place.done(&["restore", "latest", "--target", &target, "--verify"]);
    let copy = Postgres::recovered(version, std::path::Path::new(&target), &[]).await;
    assert_eq!(digest(&source(&server).await).await, digest(&source(&copy).await).await);
}

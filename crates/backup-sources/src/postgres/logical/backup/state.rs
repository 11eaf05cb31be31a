//! What the contents of one backup share: sessions, and what came of reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::context::Context;
use backup_core::source::{ObjectDigest, Selection, SourceError, SourceErrorKind, SourceResult};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

use super::super::super::digest::Sums;
use super::super::super::wire::Sql;
use super::super::error::reading;
use super::super::manifest::File;
use super::super::options::LogicalOptions;
use super::super::session;
use super::database::Database;
use crate::pace::Pace;

/// Shared by all contents.
#[derive(Debug)]
pub(super) struct State {
    pub(super) cx: Context,
    pub(super) options: LogicalOptions,
    pub(super) selection: Selection,
    pub(super) databases: Vec<Database>,
    /// How fast all of them together.
    pace: Pace,
    /// How many read at a time.
    permits: Arc<Semaphore>,
    /// Sessions that have nothing to do, with the place of their database. With those on loan they
    /// are never more than read at a time, of all databases together.
    idle: Mutex<Vec<(usize, Sql)>>,
    outcome: Mutex<Outcome>,
    /// Contents that are not read to their end yet.
    left: watch::Sender<usize>,
}

/// What came of reading, by the place of the database.
#[derive(Debug, Default)]
struct Outcome {
    files: HashMap<(usize, String), File>,
    digests: HashMap<(usize, u32), Sums>,
    large_objects: HashMap<usize, u64>,
}

/// A session on loan.
#[derive(Debug)]
pub(super) struct Session {
    lent: Lent,
    database: usize,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Lent {
    Reader(Box<Sql>),
    Holder(OwnedMutexGuard<Sql>),
}

impl Session {
    pub(super) fn sql(&self) -> &Sql {
        match &self.lent {
            Lent::Reader(sql) => sql,
            Lent::Holder(sql) => sql,
        }
    }

    /// Whether it has all locks itself.
    pub(super) fn is_holder(&self) -> bool {
        matches!(self.lent, Lent::Holder(_))
    }
}

impl State {
    pub(super) fn new(
        cx: &Context,
        options: &LogicalOptions,
        selection: &Selection,
        databases: Vec<Database>,
    ) -> Self {
        Self {
            cx: cx.clone(),
            options: options.clone(),
            selection: selection.clone(),
            databases,
            pace: Pace::of(options.connection.max_bytes_per_second),
            permits: Arc::new(Semaphore::new(options.jobs.max(1))),
            idle: Mutex::default(),
            outcome: Mutex::default(),
            left: watch::Sender::new(0),
        }
    }

    /// Runs `work` until the caller cancels.
    pub(super) async fn until_cancelled<T>(
        &self,
        work: impl Future<Output = SourceResult<T>>,
    ) -> SourceResult<T> {
        super::super::super::unless_cancelled(&self.cx, work).await
    }

    /// Waits until so many bytes more may be handed on.
    pub(super) async fn pass(&self, bytes: usize) -> SourceResult<()> {
        let passing = async {
            self.pace.pass(bytes).await;
            Ok(())
        };
        self.until_cancelled(passing).await
    }

    /// A session under the snapshot of a database. Work that `is_short` takes the one that holds the
    /// database, if that has nothing to do: another one costs the server as much as many small
    /// tables.
    pub(super) async fn session(&self, database: usize, is_short: bool) -> SourceResult<Session> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| SourceError::cancelled())?;
        let holder = Arc::clone(&self.databases[database].holder);
        if is_short && let Ok(holder) = holder.try_lock_owned() {
            return Ok(Session { lent: Lent::Holder(holder), database, permit });
        }
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            match idle.iter().position(|(of, _)| *of == database) {
                Some(at) => Some(idle.swap_remove(at).1),
                None => {
                    // One of another database makes room.
                    drop(idle.pop());
                    None
                }
            }
        };
        let of = &self.databases[database];
        let sql = match idle {
            Some(sql) => sql,
            None => session::join(&self.options, &of.host, &of.name, &of.snapshot).await?,
        };
        Ok(Session { lent: Lent::Reader(Box::new(sql)), database, permit })
    }

    /// The session with all locks, in place of one that somebody else is before.
    pub(super) async fn holder(&self, session: Session) -> SourceResult<Session> {
        let Session { lent, database, permit } = session;
        self.give_back(lent, database).await?;
        let holder = Arc::clone(&self.databases[database].holder).lock_owned().await;
        Ok(Session { lent: Lent::Holder(holder), database, permit })
    }

    /// Gives a session back that has done its work.
    pub(super) async fn done(&self, session: Session) -> SourceResult<()> {
        self.give_back(session.lent, session.database).await
    }

    /// Sessions keep no locks that they do not need: all tables, or all indexes, times all sessions
    /// would be more than servers have room for.
    async fn give_back(&self, lent: Lent, database: usize) -> SourceResult<()> {
        let sql: &Sql = match &lent {
            Lent::Reader(sql) => sql,
            Lent::Holder(sql) => sql,
        };
        let forgetting = sql.client.batch_execute(session::FORGET).await;
        forgetting.map_err(|error| {
            reading(&error, format!("cannot read {}", self.databases[database].name))
        })?;
        if let Lent::Reader(sql) = lent {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((database, *sql));
        }
        Ok(())
    }

    /// Fails if the locks of a database are gone: tables that were emptied or rewritten since look
    /// empty to readers, whatever their snapshot.
    pub(super) async fn require_locks(&self, database: usize) -> SourceResult<()> {
        let of = &self.databases[database];
        let asking = async { Ok(of.holder.lock().await.client.batch_execute("SELECT 1").await) };
        self.until_cancelled(asking).await?.map_err(|error| {
            let text = format!(
                "the session that kept the tables of {} locked has ended: {error}",
                of.name
            );
            SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
                "check whether pg_terminate_backend or a firewall ends sessions that are idle in a \
                 transaction, then try again",
            )
        })
    }

    /// Announces a content that the manifests wait for.
    pub(super) fn announce(&self) {
        self.left.send_modify(|left| *left += 1);
    }

    /// That content has been read to its end.
    pub(super) fn read(&self) {
        self.left.send_modify(|left| *left -= 1);
    }

    /// Waits until everything announced has been read.
    pub(super) async fn all_read(&self) -> SourceResult<()> {
        let mut left = self.left.subscribe();
        self.until_cancelled(async {
            left.wait_for(|left| *left == 0).await.map(|_| ()).map_err(|_| SourceError::cancelled())
        })
        .await
    }

    pub(super) fn note_file(&self, database: usize, file: File) {
        self.outcome().files.insert((database, file.path.clone()), file);
    }

    pub(super) fn note_digest(&self, database: usize, oid: u32, digest: Sums) {
        self.outcome().digests.insert((database, oid), digest);
    }

    pub(super) fn note_large_objects(&self, database: usize, count: u64) {
        self.outcome().large_objects.insert(database, count);
    }

    pub(super) fn file(&self, database: usize, path: &str) -> Option<File> {
        self.outcome().files.get(&(database, path.to_owned())).cloned()
    }

    pub(super) fn digest(&self, database: usize, oid: u32) -> Option<Sums> {
        self.outcome().digests.get(&(database, oid)).copied()
    }

    pub(super) fn large_objects(&self, database: usize) -> Option<u64> {
        self.outcome().large_objects.get(&database).copied()
    }

    /// All digests, by `database.schema.table`.
    pub(super) fn digests(&self) -> BTreeMap<String, ObjectDigest> {
        let outcome = self.outcome();
        let named = outcome.digests.iter().filter_map(|((at, oid), digest)| {
            let database = self.databases.get(*at)?;
            let table = database.catalog.by_oid(*oid)?;
            Some((format!("{}.{}.{}", database.name, table.schema, table.name), digest.digest()))
        });
        named.collect()
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A server of our own, for a while, on a restored copy of a data directory: what only a server can
//! tell of a physical backup is asked of it. It is reached by a socket that nobody else may use,
//! and by nothing else; it archives, replicates and loads nothing, and its tablespaces lie in the
//! same room as its data directory. The original's directories are never touched.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Scratch`]: restoring, starting, stopping |
//! | `room.rs` | the directory that all of it lies in: made, found again if somebody was killed, removed |
//! | `server.rs` | its settings, ending it, who may ask it everything |

mod room;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreRequest, SourceError, SourceErrorKind, SourceResult};

use super::backup::Description;
use super::error::invalid;
use super::logical::require_dump;
use super::options::PostgresOptions;
use super::restore::{self, Purpose};
use super::restore_options::RecoveryTarget;
use super::unless_cancelled;
use room::Room;
use server::Server;

/// Beside what is restored, a server writes so much: its own log, temporary files, what it replays.
const BESIDE: u64 = 256 << 20;

/// How a scratch server is made.
#[derive(Debug, Clone)]
pub struct ScratchOptions {
    /// Where room for it is made. It must have space for the whole cluster.
    pub directory: PathBuf,
    /// Directories in which programs (`postgres`, `pg_ctl`) of the snapshot's major version may be.
    pub programs: Vec<PathBuf>,
    /// Number of the user and the group that it runs as, and that everything belongs to; only root
    /// can give it to another, and has to: no server runs as root.
    pub user: Option<(u32, u32)>,
    /// Where it stops to replay the log.
    pub recovery: RecoveryTarget,
    /// How long it may take to replay it; `None`: as long as the log gives reason for.
    pub start_timeout: Option<Duration>,
}

/// A server on a restored copy. When this is dropped, it is ended and everything removed;
/// [`Self::close`] also tells whether that could be done.
#[derive(Debug)]
pub struct Scratch {
    // Ended before its room is removed: in this order.
    server: Option<Server>,
    room: Room,
    connection: PostgresOptions,
    programs: PathBuf,
    warnings: u64,
}

impl Scratch {
    /// Restores `snapshot`, with `log` applied if there is one, and starts a server on it. `verify`
    /// says whether what was written is read back first. What others who were killed have left in
    /// the same directory is removed.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if there are no programs of its version, no user to run it as,
    /// or not enough space; [`SourceErrorKind::Target`] if it does not start; those of restoring a
    /// data directory.
    pub async fn start(
        cx: &Context,
        options: &ScratchOptions,
        snapshot: &SnapshotReader,
        log: Option<Arc<LogReplay>>,
        verify: bool,
    ) -> SourceResult<Self> {
        let owner = server::owner(options.user)?;
        let (_, description) = Description::read(snapshot).await?;
        let major = description.version / 10_000;
        let programs =
            restore::find_programs(major, &options.programs).await.ok_or_else(|| missing(major))?;
        room::remove_left(&options.directory).await;
        let room = Room::make(&options.directory, owner)?;
        server::require_reachable(&programs, room.path(), owner).await?;
        let socket = room.path().join("socket");
        room.directory(&socket, owner)?;
        let data = room.path().join("data");
        let settings = PostgresOptions {
            recovery: options.recovery.clone(),
            settings: server::settings(&socket, major)?,
            start_timeout: options.start_timeout,
            ..PostgresOptions::default()
        };
        let target =
            data.to_str().ok_or_else(|| invalid(format!("{} is not UTF-8", data.display())))?;
        let request = RestoreRequest {
            target: Some(target.to_owned()),
            verify,
            log,
            ..RestoreRequest::default()
        };
        let purpose = Purpose::Scratch { owner };
        require_space(cx, &settings, &request, (snapshot, purpose), &options.directory).await?;
        cx.events.note(format!(
            "Creating a scratch server from snapshot {} in {}.",
            snapshot.id().short(),
            room.path().display()
        ));
        let (report, restored) =
            restore::restore_for(cx, &settings, &request, snapshot, purpose).await?;
        let restored = restored.ok_or_else(|| invalid("nothing was restored"))?;
        // From now on it may run, whatever becomes of starting it.
        let server = Server::new(&programs, &data, owner);
        restored.start(cx, &settings, &programs).await.map_err(not_started)?;
        let connection = unless_cancelled(cx, server.connection(&socket)).await?;
        Ok(Self { server: Some(server), room, connection, programs, warnings: report.warnings })
    }

    /// Checks that the programs for a scratch server of this snapshot are there, and those that read
    /// its databases; returns its version, for instance 150018 of 15.18.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if programs are missing.
    pub async fn require_programs(
        options: &ScratchOptions,
        snapshot: &SnapshotReader,
    ) -> SourceResult<u32> {
        let (_, description) = Description::read(snapshot).await?;
        let major = description.version / 10_000;
        let programs =
            restore::find_programs(major, &options.programs).await.ok_or_else(|| missing(major))?;
        require_dump(Self::with_dump(&programs), description.version).await?;
        Ok(description.version)
    }

    /// A directory of programs, if the ones that read databases are there as well.
    fn with_dump(programs: &Path) -> Option<PathBuf> {
        Some(programs.to_owned()).filter(|dir| dir.join("pg_dump").exists())
    }

    /// The directory of the programs that read its databases; `None`: found as for other servers.
    #[must_use]
    pub fn dump_programs(&self) -> Option<PathBuf> {
        Self::with_dump(&self.programs)
    }

    /// How to ask it, as somebody who may ask everything.
    #[must_use]
    pub fn connection(&self) -> &PostgresOptions {
        &self.connection
    }

    /// How many warnings there were about what it is made of, such as damaged pages.
    #[must_use]
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// A directory that is removed with it, for what else has to lie there.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.room.path()
    }

    /// Ends the server and removes its data; [`Self::directory`] stays.
    ///
    /// # Errors
    /// [`SourceErrorKind::Target`] if that cannot be removed.
    pub async fn end_server(&mut self) -> SourceResult<()> {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        for name in ["data", "data.tablespaces", "socket"] {
            self.room.remove(name).await?;
        }
        Ok(())
    }

    /// Ends and removes everything.
    ///
    /// # Errors
    /// [`SourceErrorKind::Target`] if something cannot be removed.
    pub async fn close(mut self) -> SourceResult<()> {
        self.end_server().await?;
        self.room.close().await
    }
}

fn missing(major: u32) -> SourceError {
    let text = format!(
        "the programs of PostgreSQL {major}, which a scratch server needs, were not found on this \
         machine"
    );
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(format!(
        "install the server of PostgreSQL {major} here (no cluster is needed), or name the \
         directory of its postgres, pg_ctl and pg_dump with --scratch-programs"
    ))
}

/// What is restored must have its place, and the log, and what the server writes beside.
async fn require_space(
    cx: &Context,
    options: &PostgresOptions,
    request: &RestoreRequest,
    (snapshot, purpose): (&SnapshotReader, Purpose),
    directory: &Path,
) -> SourceResult<()> {
    // What is said of the snapshot is said when it is restored.
    let silent = Context { events: Events::silent(), ..cx.clone() };
    let rehearsal = RestoreRequest { dry_run: true, ..request.clone() };
    let (report, _) = restore::restore_for(&silent, options, &rehearsal, snapshot, purpose).await?;
    let log = request.log.as_ref().map_or(0, |log| log.plan().bytes);
    let needed = report.total_bytes.saturating_add(log).saturating_add(BESIDE);
    let free = room::free(directory)?;
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let text = format!(
        "there are {} MiB free in {}, but a scratch server of the whole cluster needs {} MiB",
        mib(free),
        directory.display(),
        mib(needed)
    );
    Err(SourceError::new(SourceErrorKind::Invalid, text)
        .with_hint("name a directory with more space with --scratch"))
}

/// Nobody can mend what is removed in a moment.
fn not_started(error: SourceError) -> SourceError {
    if error.kind() == SourceErrorKind::Cancelled {
        return error;
    }
    error.context("the scratch server did not become ready").with_hint(
        "restore the data directory (--target DIR --start) to investigate: the scratch copy was \
         removed. A scratch server does not load extensions that replay their own WAL records",
    )
}

//! Starting the restored server, until it has replayed its log and takes writes.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio::process::Command;
use tokio::time::Instant;

use super::super::options::PostgresOptions;
use super::super::surroundings::surroundings;
use super::super::unless_cancelled;
use super::recovery;
use super::target::{Target, failed};
use crate::helpers::ask;

/// So often it is looked whether the server is ready.
const PAUSE: Duration = Duration::from_millis(200);
/// A program that only says something may take so long,
const SAYING: Duration = Duration::from_secs(30);
/// and one that starts the server so long: it gives up by itself after a minute.
const STARTING: Duration = Duration::from_secs(120);
/// A server gets so long to replay its log, and one second more for each so many bytes of it.
const REPLAYING: Duration = Duration::from_secs(15 * 60);
const REPLAYED: u64 = 1 << 20;
/// So often it is said that it is not.
const REMINDER: Duration = Duration::from_secs(60);
/// What is shown of its log if it fails.
const SHOWN: u64 = 2000;
/// Where the server says how it is, counted from 0, and what is there when it takes connections.
const STATUS_LINE: usize = 7;
/// Lines of the port and of the directory of its Unix socket.
const PORT_LINE: usize = 3;
const SOCKET_LINE: usize = 4;
const READY: &str = "ready";
/// Exit code of `pg_ctl status` without a server.
const NOT_RUNNING: i32 = 3;

/// The first directory that holds programs of a major version.
pub(in super::super) async fn find(major: u32, dirs: &[PathBuf]) -> Option<PathBuf> {
    for dir in dirs.iter().filter(|dir| dir.join("pg_ctl").exists()) {
        if major_of(&dir.join("postgres")).await == Some(major) {
            return Some(dir.clone());
        }
    }
    None
}

/// Those of the version that a snapshot is of.
pub(super) async fn programs(version: u32, dirs: &[PathBuf]) -> SourceResult<PathBuf> {
    let major = version / 10_000;
    if let Some(found) = find(major, dirs).await {
        return Ok(found);
    }
    let text = format!(
        "the programs of PostgreSQL {major}, which the restored server needs, were not found"
    );
    let hint = "name the directory of its pg_ctl and postgres (--start=DIR), or leave --start out";
    Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint))
}

/// Of `postgres (PostgreSQL) 15.18 (Debian …)`.
async fn major_of(postgres: &Path) -> Option<u32> {
    let text = ask(Command::new(postgres).arg("--version")).await.ok()?;
    let version = text.split_once("(PostgreSQL) ")?.1;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

/// How long a server may take that has so many bytes of log to replay.
pub(super) fn limit(options: &PostgresOptions, log: u64) -> Duration {
    options.start_timeout.unwrap_or(REPLAYING + Duration::from_secs(log / REPLAYED))
}

/// Starts it as the owner of its directory: no server runs as root. It may take `limit`.
pub(super) async fn start(
    cx: &Context,
    programs: &Path,
    target: &Target,
    limit: Duration,
) -> SourceResult<()> {
    let mut start = Start::new(cx, programs, target, limit);
    start.begin().await?;
    start.until(is_ready).await?;
    recovery::forget(target)?;
    start.pg_ctl(&["reload"], SAYING).await
}

/// Starts it, until it accepts queries and has replayed its log; it accepts no writes.
pub(super) async fn start_paused(
    cx: &Context,
    programs: &Path,
    target: &Target,
    limit: Duration,
) -> SourceResult<()> {
    let mut start = Start::new(cx, programs, target, limit);
    // A server without queries during replay stops where it would pause. With queries, it accepts
    // them as soon as the data is consistent, which need not be the end of the replay. `pg_ctl`
    // takes this for a failure; a real one shows at the second start.
    _ = start.run_with(&["-o", "-c hot_standby=off"]).await;
    while is_running(cx, programs, target).await? {
        wait(cx).await?;
        start.pace()?;
    }
    cx.check_cancelled()?;
    start.begin().await?;
    // Also the state of a server that accepts queries only.
    start.until(|target| status(target) == READY).await?;
    if target.root.join(recovery::SIGNAL).exists() { Ok(()) } else { Err(did_not_pause()) }
}

/// A start with its time-out.
struct Start<'a> {
    cx: &'a Context,
    programs: &'a Path,
    target: &'a Target,
    limit: Duration,
    started: Instant,
    /// Time of the last report that the server still replays its log.
    reported: Instant,
}

impl<'a> Start<'a> {
    fn new(cx: &'a Context, programs: &'a Path, target: &'a Target, limit: Duration) -> Self {
        let started = Instant::now();
        Self { cx, programs, target, limit, started, reported: started }
    }

    async fn pg_ctl(&self, arguments: &[&str], limit: Duration) -> SourceResult<()> {
        unless_cancelled(self.cx, run(self.programs, self.target, arguments, limit)).await
    }

    /// Starts the server with more options of `pg_ctl`.
    async fn run_with(&self, options: &[&str]) -> SourceResult<()> {
        let log = self.target.root.join("restore.log");
        let log = log.to_string_lossy();
        let arguments = [&["-w", "-l", &*log], options, &["start"]].concat();
        self.pg_ctl(&arguments, STARTING.min(self.limit)).await
    }

    /// Starts the server. Before the data is consistent it takes no connections, and `pg_ctl` soon
    /// waits no longer: that is a failure only if the server does not run.
    async fn begin(&self) -> SourceResult<()> {
        let Err(error) = self.run_with(&[]).await else { return Ok(()) };
        if error.kind() == SourceErrorKind::Cancelled {
            return Err(error);
        }
        match is_running(self.cx, self.programs, self.target).await {
            Ok(true) => Ok(()),
            _ => Err(error),
        }
    }

    /// Waits until the server `is_done`. Fails if the server ends.
    async fn until(&mut self, is_done: impl Fn(&Target) -> bool) -> SourceResult<()> {
        while !is_done(self.target) {
            wait(self.cx).await?;
            self.pg_ctl(&["status"], SAYING).await?;
            self.pace()?;
        }
        Ok(())
    }

    /// Fails after the time-out, and reports from time to time that the server replays its log.
    fn pace(&mut self) -> SourceResult<()> {
        if self.started.elapsed() >= self.limit {
            return Err(too_long(self.target, self.limit));
        }
        if self.reported.elapsed() >= REMINDER {
            self.reported = Instant::now();
            let minutes = self.started.elapsed().as_secs() / 60;
            let text = format!("the restored server is still replaying WAL after {minutes} min");
            self.cx.events.note(text);
        }
        Ok(())
    }
}

/// Servers pause only where they can accept queries.
fn did_not_pause() -> SourceError {
    let text = "the restored server could not pause and accepts writes: a transaction with many \
                subtransactions was running";
    SourceError::new(SourceErrorKind::Target, text)
        .with_hint("restore to another directory, to a moment shortly before or after")
}

/// Stops it, if it runs. It may take `limit`.
pub(super) async fn stop(
    cx: &Context,
    programs: &Path,
    target: &Target,
    limit: Duration,
) -> SourceResult<()> {
    if !is_running(cx, programs, target).await? {
        return Ok(());
    }
    let seconds = limit.as_secs().max(1).to_string();
    let stopping = ["-w", "-t", &*seconds, "-m", "fast", "stop"];
    let stopped = run(programs, target, &stopping, limit + SAYING);
    unless_cancelled(cx, stopped).await.map_err(|error| {
        let text = format!("cannot stop the server of {}", target.root.display());
        SourceError::new(error.kind(), text).with_hint("stop it with pg_ctl stop, and try again")
    })
}

/// Returns `true` if a server runs on the directory.
async fn is_running(cx: &Context, programs: &Path, target: &Target) -> SourceResult<bool> {
    let asked = exit_status(programs, target, &["status"], SAYING);
    let status = unless_cancelled(cx, asked).await?;
    match status.code() {
        Some(0) => Ok(true),
        Some(NOT_RUNNING) => Ok(false),
        _ => {
            let text = format!("cannot find out if a server runs in {}", target.root.display());
            Err(SourceError::new(SourceErrorKind::Target, text)
                .with_hint("run as the owner of the directory, or as root"))
        }
    }
}

/// Lets a server that runs read its settings again.
pub(super) async fn reload(cx: &Context, programs: &Path, target: &Target) -> SourceResult<()> {
    if is_running(cx, programs, target).await? {
        unless_cancelled(cx, run(programs, target, &["reload"], SAYING)).await?;
    }
    Ok(())
}

/// Waits until the next look at the server.
async fn wait(cx: &Context) -> SourceResult<()> {
    tokio::select! {
        () = cx.cancel.cancelled() => Err(SourceError::cancelled()),
        () = tokio::time::sleep(PAUSE) => Ok(()),
    }
}

/// It may only be slow: it is left alone.
fn too_long(target: &Target, limit: Duration) -> SourceError {
    let text = format!(
        "the restored server has not replayed its WAL after {} s: {}",
        limit.as_secs(),
        said(target)
    );
    SourceError::new(SourceErrorKind::Target, text).with_hint(
        "check the progress of the running server (restore.log, ps): stop it with pg_ctl stop if \
         it makes none, or wait longer (--start-timeout)",
    )
}

/// The end of what it has written.
fn said(target: &Target) -> String {
    let mut tail = Vec::new();
    // It may not have written anything.
    let read = fs::File::open(target.root.join("restore.log")).and_then(|mut log| {
        let len = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(len.saturating_sub(SHOWN)))?;
        log.take(SHOWN).read_to_end(&mut tail)
    });
    let shown = read.map(|_| without_statements(&String::from_utf8_lossy(&tail)));
    shown.unwrap_or_default()
}

/// Lines of a server's log without statements of users, which may hold anything: they follow what
/// is said of them, and lines that go on begin with a tab.
fn without_statements(log: &str) -> String {
    let mut is_statement = false;
    let kept = log.lines().filter(|line| {
        if !line.starts_with('\t') {
            is_statement = line.contains("STATEMENT:  ") || line.contains("QUERY:  ");
        }
        !is_statement
    });
    kept.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Where a server runs: its directory, port and process.
pub(super) fn running(target: &Target) -> String {
    let status = fs::read_to_string(target.root.join("postmaster.pid")).unwrap_or_default();
    let line = |at: usize| status.lines().nth(at).unwrap_or_default().trim();
    let (directory, process, port) = (target.root.display(), line(0), line(PORT_LINE));
    match line(SOCKET_LINE) {
        "" => format!("{directory} on port {port} (process {process})"),
        socket => format!("{directory} on port {port}, socket in {socket} (process {process})"),
    }
}

/// It removes the file when it has got where it was told to.
fn is_ready(target: &Target) -> bool {
    status(target) == READY && !target.root.join(recovery::SIGNAL).exists()
}

/// The state that the server itself notes; empty if it does not run.
fn status(target: &Target) -> String {
    let status = fs::read_to_string(target.root.join("postmaster.pid")).unwrap_or_default();
    status.lines().nth(STATUS_LINE).unwrap_or_default().trim().to_owned()
}

async fn exit_status(
    programs: &Path,
    target: &Target,
    arguments: &[&str],
    limit: Duration,
) -> SourceResult<ExitStatus> {
    let root = fs::metadata(&target.root).map_err(|error| failed(&target.root, error))?;
    let mut command = Command::new(programs.join("pg_ctl"));
    command.arg("-D").arg(&target.root).args(arguments).current_dir(&target.root);
    command.env_clear().envs(surroundings());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(root.uid()).gid(root.gid());
    }
    let program = programs.join("pg_ctl");
    let Ok(status) = tokio::time::timeout(limit, command.kill_on_drop(true).status()).await else {
        let text = format!(
            "{} has not ended after {} s: {}",
            program.display(),
            limit.as_secs(),
            said(target)
        );
        return Err(SourceError::new(SourceErrorKind::Target, text));
    };
    status.map_err(|error| {
        SourceError::new(SourceErrorKind::Target, format!("cannot run {}", program.display()))
            .with_source(error)
    })
}

async fn run(
    programs: &Path,
    target: &Target,
    arguments: &[&str],
    limit: Duration,
) -> SourceResult<()> {
    if exit_status(programs, target, arguments, limit).await?.success() {
        return Ok(());
    }
    let text = format!("the restored server does not run: {}", said(target));
    let hint =
        "fix the error in the server's log and start the server by hand: all data is restored";
    Err(SourceError::new(SourceErrorKind::Target, text).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_not_shown() {
        let log = "FATAL:  no room\n2026-01-01 [7] ERROR:  odd\n\tmore of it\n[7] STATEMENT:  \
                   SELECT\n\t'secret'\nLOG:  end\n\tof it\n";
        assert_eq!(
            without_statements(log),
            "FATAL:  no room\n2026-01-01 [7] ERROR:  odd\n\tmore of it\nLOG:  end\n\tof it"
        );
    }
}

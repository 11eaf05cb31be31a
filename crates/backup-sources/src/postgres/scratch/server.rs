//! The scratch server: its settings, ending it, who may ask it everything.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::super::error::{invalid, malformed};
use super::super::options::{Host, PostgresOptions, TlsMode};
use super::super::surroundings::surroundings;
use super::super::wire::Sql;
use crate::helpers::ask;

/// Time that a program may take that starts or ends a server.
const STOPPING: Duration = Duration::from_secs(120);
/// How long a server may take to end at once.
const HALTING: Duration = Duration::from_secs(10);
/// The longest path of a socket that every system takes, with a margin.
const SOCKET: usize = 100;
/// Part of the name of the socket: no port is opened.
const PORT: u16 = 5432;
/// Who may ask everything, by default.
const ADMINISTRATOR: &str = "postgres";
/// Databases that everybody has.
const DATABASES: [&str; 2] = ["postgres", "template1"];
/// What `postgres --single` writes before a value.
const VALUE: &str = "rolname = \"";

/// Whom the server runs as and everything belongs to; `None`: us.
pub(super) fn owner(user: Option<(u32, u32)>) -> SourceResult<Option<(u32, u32)>> {
    let is_root = rustix::process::geteuid().is_root();
    match user {
        Some((0, _)) => Err(invalid("PostgreSQL does not run as root")
            .with_hint("name another user with --scratch-user")),
        None if is_root => Err(invalid(
            "PostgreSQL does not run as root, and neither does a scratch server",
        )
        .with_hint(
            "name its user with --scratch-user, for instance `postgres` or `nobody`, or run this \
             program as another user",
        )),
        Some((user, _)) if !is_root && user != rustix::process::geteuid().as_raw() => {
            Err(invalid("only root can run a scratch server as another user")
                .with_hint("leave --scratch-user out"))
        }
        Some(_) if !is_root => Ok(None),
        user => Ok(user),
    }
}

/// Alone, and in no hurry to make anything durable. What the server it was made of loads is not
/// loaded.
pub(super) fn settings(socket: &Path, major: u32) -> SourceResult<Vec<(String, String)>> {
    let directory =
        socket.to_str().ok_or_else(|| invalid(format!("{} is not UTF-8", socket.display())))?;
    if directory.len() > SOCKET || directory.contains(',') {
        let text = format!("{directory} cannot hold a socket: its path is too long or has a comma");
        return Err(invalid(text).with_hint("name another directory with --scratch"));
    }
    let port = PORT.to_string();
    let mut settings = vec![
        ("listen_addresses", ""),
        ("unix_socket_directories", directory),
        ("unix_socket_permissions", "0700"),
        ("port", &port),
        ("shared_preload_libraries", ""),
        ("autovacuum", "off"),
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("huge_pages", "off"),
        ("restart_after_crash", "off"),
        ("lc_messages", "C"),
    ];
    if major >= 17 {
        // Such as those that are run when somebody connects.
        settings.push(("event_triggers", "off"));
    }
    Ok(settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Whether the server's user gets at its programs and its directory.
pub(super) async fn require_reachable(
    programs: &Path,
    room: &Path,
    owner: Option<(u32, u32)>,
) -> SourceResult<()> {
    let mut command = command(&programs.join("postgres"), owner);
    let Err(cause) = ask(command.arg("--version").current_dir(room)).await else {
        return Ok(());
    };
    let text = format!(
        "the scratch server's user cannot run the programs in {} from the directory {}",
        programs.display(),
        room.display()
    );
    let error = SourceError::new(SourceErrorKind::Invalid, text).with_hint(
        "name a directory that this user can access with --scratch, or another user with \
         --scratch-user",
    );
    Err(error.with_source(cause))
}

/// A program that runs as the server does.
fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = std::process::Command::new(program);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.env_clear().envs(surroundings());
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// A server that may run; ended when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    programs: PathBuf,
    data: PathBuf,
    owner: Option<(u32, u32)>,
    is_stopped: bool,
}

impl Server {
    pub(super) fn new(programs: &Path, data: &Path, owner: Option<(u32, u32)>) -> Self {
        Self { programs: programs.to_owned(), data: data.to_owned(), owner, is_stopped: false }
    }

    /// How to ask it everything.
    pub(super) async fn connection(&self, socket: &Path) -> SourceResult<PostgresOptions> {
        if let Some(found) = of_administrator(socket, ADMINISTRATOR).await? {
            return Ok(found);
        }
        // Whoever made the cluster has given another name to its first user: who that is, everybody
        // who is known could ask.
        self.control(&["-m", "fast", "stop"]).await?;
        let name = self.administrator().await?;
        let log = self.data.join("restore.log");
        self.control(&["-l", &log.to_string_lossy(), "start"]).await?;
        let found = of_administrator(socket, &name).await?;
        found.ok_or_else(|| {
            invalid(format!("the scratch server refuses the login of its superuser {name}"))
        })
    }

    /// A user who may do everything, asked of a server that is nobody's but the one's who starts
    /// it.
    async fn administrator(&self) -> SourceResult<String> {
        const ASKING: &[u8] =
            b"SELECT rolname FROM pg_authid WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1\n";
        let doing = |error| {
            SourceError::new(SourceErrorKind::Target, "cannot find the superuser of the cluster")
                .with_source(error)
        };
        let mut command = command(&self.programs.join("postgres"), self.owner);
        command
            .arg("--single")
            .arg("-D")
            .arg(&self.data)
            .arg("template1")
            .current_dir(&self.data)
            .stdin(Stdio::piped());
        let mut child = command.spawn().map_err(doing)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(ASKING).await.map_err(doing)?;
        }
        let output = tokio::time::timeout(STOPPING, child.wait_with_output()).await;
        let output =
            output.map_err(std::io::Error::other).and_then(|output| output).map_err(doing)?;
        name_in(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            invalid("no superuser of the cluster may log in").with_hint(
                "restore the data directory (--target DIR), and permit a login of a superuser with \
                 `postgres --single`",
            )
        })
    }

    async fn control(&self, arguments: &[&str]) -> SourceResult<()> {
        let mut command = command(&self.programs.join("pg_ctl"), self.owner);
        // A server keeps what it is given: nobody would see the end of a pipe.
        command
            .arg("-D")
            .arg(&self.data)
            .arg("-w")
            .args(arguments)
            .current_dir(&self.data)
            .stdout(Stdio::null());
        let status = tokio::time::timeout(STOPPING, command.status()).await;
        match status.map_err(std::io::Error::other).and_then(|status| status) {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(SourceError::new(
                SourceErrorKind::Target,
                "pg_ctl cannot start or stop the scratch server",
            )),
            Err(error) => {
                Err(SourceError::new(SourceErrorKind::Target, "cannot run pg_ctl")
                    .with_source(error))
            }
        }
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        // It may not run: then there is nothing to be ended. If it did not end by that, it is ended
        // without asking.
        _ = self.control(&["-m", "immediate", "stop"]).await;
        let data = self.data.clone();
        self.is_stopped = tokio::task::spawn_blocking(move || halt(&data)).await.is_ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_stopped {
            halt(&self.data);
        }
    }
}

/// A connection of this user, if there is one who may ask everything.
async fn of_administrator(socket: &Path, user: &str) -> SourceResult<Option<PostgresOptions>> {
    let host = Host { name: socket.display().to_string(), address: None, port: PORT };
    let mut options = PostgresOptions {
        hosts: vec![host],
        user: user.to_owned(),
        tls: TlsMode::Disable,
        ..PostgresOptions::default()
    };
    for database in DATABASES {
        database.clone_into(&mut options.database);
        match Sql::open(&options, database).await {
            Ok(sql) => {
                let row = sql
                    .client
                    .query_one("SELECT current_setting('is_superuser') = 'on'", &[])
                    .await;
                let may = row
                    .and_then(|row| row.try_get(0))
                    .map_err(|error| malformed(format!("reply of the scratch server: {error}")))?;
                return Ok(if may { Some(options) } else { None });
            }
            Err(error) if error.kind() == SourceErrorKind::Unavailable => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Of ` 1: rolname = "name" (typeid = 19, …)`.
fn name_in(said: &str) -> Option<String> {
    let line = said.lines().find_map(|line| line.split_once(VALUE))?.1;
    Some(line.rsplit_once("\"\t").or_else(|| line.rsplit_once("\" ("))?.0.to_owned())
}

/// Ends the server on a data directory at once, if one runs there. Its process is known by the
/// directory that it works in: the number alone may be somebody else's by now. Where the system
/// does not tell that, it ends by itself when its directory is gone.
pub(super) fn halt(data: &Path) {
    let Ok(data) = fs::canonicalize(data) else { return };
    let Some(server) = process_of(&data) else { return };
    for (signal, limit) in [(Signal::QUIT, HALTING), (Signal::KILL, HALTING)] {
        // It may have ended.
        _ = kill_process(server, signal);
        let started = Instant::now();
        while started.elapsed() < limit {
            if !works_in(server, &data) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn process_of(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number = text.lines().next()?.trim().parse().ok().filter(|number| *number > 1)?;
    Pid::from_raw(number).filter(|process| works_in(*process, data))
}

fn works_in(process: Pid, directory: &Path) -> bool {
    fs::read_link(format!("/proc/{}/cwd", process.as_raw_nonzero()))
        .is_ok_and(|found| found == directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_alone() {
        let said = "\nPostgreSQL stand-alone backend 17.2\nbackend> \t 1: rolname\t(typeid = 19, \
                    len = 64, typmod = -1, byval = f)\n\t----\n\t 1: rolname = \"odd \
                    \"name\"\t(typeid = 19, len = 64, typmod = -1, byval = f)\n\t----\nbackend> ";
        assert_eq!(name_in(said).as_deref(), Some("odd \"name"));
        assert_eq!(name_in("backend> \n"), None);
    }

    #[test]
    fn only_what_works_there_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        std::fs::write(dir.path().join("postmaster.pid"), format!("{own}\n")).unwrap();
        assert_eq!(process_of(dir.path()), None, "this process works elsewhere");
        halt(dir.path());
    }

    #[test]
    fn sockets_have_short_paths() {
        assert!(
            settings(Path::new(&format!("/{}", "x".repeat(120))), 17).unwrap_err().hint().is_some()
        );
        let said = settings(Path::new("/tmp/s"), 17).unwrap();
        assert!(said.contains(&("listen_addresses".to_owned(), String::new())));
        assert!(said.iter().any(|(name, _)| name == "event_triggers"));
        assert!(
            !settings(Path::new("/tmp/s"), 16)
                .unwrap()
                .iter()
                .any(|(name, _)| name == "event_triggers")
        );
    }
}

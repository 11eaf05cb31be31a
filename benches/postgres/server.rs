//! A server and its data.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_benches::tools::tool;
use tempfile::TempDir;

use crate::Result;

/// `nobody`: servers refuse to run as root.
const UNPRIVILEGED: u32 = 65534;

/// A server, which ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    room: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // At once, but not killed: the system would keep its shared memory. It may have ended
        // already.
        id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::QUIT).ok());
        self.child.wait().ok();
    }
}

/// Directory of `pg_dump` and `psql`.
pub(crate) fn programs() -> Result<PathBuf> {
    Ok(tool("pg_dump-18")?.parent().map(Path::to_owned).unwrap_or_default())
}

/// A directory that whoever servers run as may write to.
pub(crate) fn hand_over(dir: &Path) -> Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    if rustix::process::geteuid().is_root() {
        chown(dir, Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
    }
    Ok(())
}

/// Runs `program` as whom servers may run.
pub(crate) fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = UNPRIVILEGED.to_string();
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", "--"])
        .arg(program);
    command
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let server = tool("postgres-18")?;
        let room = tempfile::Builder::new().prefix("backup-bench-postgres-").tempdir()?;
        hand_over(room.path())?;
        let data = room.path().join("data");
        std::fs::create_dir(&data)?;
        hand_over(&data)?;
        let mut make = unprivileged(&server.with_file_name("initdb"));
        make.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]);
        if !make.stdout(Stdio::null()).status()?.success() {
            return Err("initdb failed".into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = unprivileged(&server);
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        let sockets = format!("unix_socket_directories={}", room.path().display());
        for setting in [
            "listen_addresses=127.0.0.1",
            &sockets,
            "fsync=off",
            "shared_buffers=256MB",
            "summarize_wal=on",
        ] {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { child, port, room };
        let started = Instant::now();
        while server.sql("SELECT 1").is_err() {
            if started.elapsed() > Duration::from_secs(60) {
                return Err("the server does not start".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// Process of the server that is the parent of all others.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory,
    pub(crate) fn data(&self) -> PathBuf {
        self.room.path().join("data")
    }

    /// and where its Unix sockets are.
    pub(crate) fn sockets(&self) -> &Path {
        self.room.path()
    }

    pub(crate) fn sql(&self, text: &str) -> Result<()> {
        let mut psql = Command::new(programs()?.join("psql"));
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-q",
            "-c",
            text,
        ]);
        let is_done = psql.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
        if is_done { Ok(()) } else { Err(format!("psql: {text}").into()) }
    }

    /// Without rows again.
    pub(crate) fn clear(&self) -> Result<()> {
        self.sql("DROP TABLE orders, lines_1, lines_2")
    }

    /// Rows as the tables of a shop have them: numbers, times, words; half of it in one table.
    pub(crate) fn fill(&self, megabytes: u32) -> Result<()> {
        let rows = u64::from(megabytes) * 1_000_000 / 130;
        self.sql(
            "CREATE TABLE orders (id bigint, customer int, total numeric(12,2), at timestamptz, \
             state text, note text)",
        )?;
        for table in ["lines_1", "lines_2"] {
            self.sql(&format!("CREATE TABLE {table} (LIKE orders)"))?;
        }
        for (table, rows) in [("orders", rows / 2), ("lines_1", rows / 4), ("lines_2", rows / 4)] {
            self.sql(&format!(
                "INSERT INTO {table} SELECT n, hashint8(n) % 100000, abs(hashint8(n * 7) % \
                 1000000) / 100.0, '2026-01-01'::timestamptz + n * interval '7.3 s', \
                 (ARRAY['open', 'paid', 'sent', 'closed'])[n % 4 + 1], 'customer ' || hashint8(n * \
                 3) % 5000 || ' ordered item ' || hashint8(n * 5) % 9000 || ' to street ' || n % \
                 700 FROM generate_series(1, {rows}) n"
            ))?;
        }
        self.sql("VACUUM ANALYZE")?;
        self.sql("CHECKPOINT")
    }
}

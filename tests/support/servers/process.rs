//! Processes that serve, and ports that no two tests get.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Below what systems give to clients (32768 and up), so that no connection takes a port before its
/// server does.
const FIRST_PORT: u16 = 12_000;
/// How many one server may use.
pub(crate) const BLOCK: u16 = 12;
const BLOCKS: u16 = 1_500;

/// A block of ports; other test processes keep away from it while this lives.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    /// Locked. The system unlocks it when this process dies, however.
    _lock: File,
}

impl Ports {
    fn take() -> Self {
        let dir = std::env::temp_dir()
            .join(format!("backup-test-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&dir).unwrap();
        // Not all from the same one: those at the start are likely to be taken.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap();
        for at in 0..BLOCKS {
            let block = (start + at) % BLOCKS;
            let lock = File::create(dir.join(block.to_string())).unwrap();
            let first = FIRST_PORT + block * BLOCK;
            let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                && (first..first + BLOCK).all(is_free)
            {
                return Self { first, _lock: lock };
            }
        }
        panic!("no {BLOCK} free ports from {FIRST_PORT} on");
    }

    pub(crate) fn port(&self, at: u16) -> u16 {
        assert!(at < BLOCK);
        self.first + at
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) child: Child,
    pub(crate) ports: Ports,
    pub(super) room: TempDir,
    /// How long it took to get ready.
    pub(crate) took: Duration,
}

impl Server {
    /// Starts what `command` makes of free ports and an empty directory, and waits until `ready`. A
    /// server that ends instead, because somebody took a port, gets two more tries.
    pub(crate) fn start(
        name: &str,
        command: impl Fn(&Ports, &Path) -> Command,
        ready: impl Fn(&Ports) -> bool,
    ) -> Self {
        let mut log = String::new();
        for _ in 0..3 {
            let (ports, room, started) =
                (Ports::take(), tempfile::tempdir().unwrap(), Instant::now());
            let data = room.path().join("data");
            fs::create_dir(&data).unwrap();
            let child = spawn(quiet(&command(&ports, &data), room.path()));
            let mut server = Self { child, ports, room, took: Duration::ZERO };
            if server.comes_up(name, &ready) {
                server.took = started.elapsed();
                return server;
            }
            log = server.log();
        }
        panic!("{name} does not start:\n{log}");
    }

    /// Waits until it is ready; false if it ends instead.
    pub(super) fn comes_up(&mut self, name: &str, ready: &impl Fn(&Ports) -> bool) -> bool {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.ports.port(0))).is_ok() && ready(&self.ports) {
                return true;
            }
            assert!(
                started.elapsed() < Duration::from_secs(90),
                "{name} is not ready:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(30));
        }
        false
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.room.path().join("data")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.port(0))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote, or the end of that.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.room.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(10_000)..]).into_owned()
    }

    /// How much memory it holds, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Nothing of the user's, nothing on the terminal.
pub(super) fn quiet(inner: &Command, room: &Path) -> Command {
    let log = File::create(room.join("log")).unwrap();
    let mut command = dying_with_us();
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", room)
        .env("TMPDIR", room);
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.current_dir(room).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

/// What runs a program that the kernel kills when we die, even if we are killed. `env` where there
/// is no setpriv, as outside of Linux: there only dropping ends a server.
fn dying_with_us() -> Command {
    let has_setpriv = Command::new("setpriv")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let mut command = Command::new(if has_setpriv { "setpriv" } else { "env" });
    if has_setpriv {
        command.args(["--pdeathsig", "KILL", "--"]);
    }
    command
}

/// Spawns on a thread that never ends: to the kernel a parent is a thread, and one of a test or a
/// runtime may end early.
pub(super) fn spawn(command: Command) -> Child {
    type Order = (Command, SyncSender<Child>);
    static SPAWNER: Mutex<Option<SyncSender<Order>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let spawner = spawner.get_or_insert_with(|| {
        let (commands, received) = sync_channel::<Order>(1);
        thread::spawn(move || {
            for (mut command, reply) in received {
                let child = command
                    .spawn()
                    .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
                reply.send(child).unwrap();
            }
        });
        commands
    });
    let (reply, child) = sync_channel(1);
    spawner.send((command, reply)).unwrap();
    child.recv().unwrap()
}

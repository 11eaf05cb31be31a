//! Servers, their data, and what stock commands take.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_benches::{cpu_of, cpu_of_children, tools};
use tempfile::TempDir;

use crate::Result;

/// Commands that are sent at once.
const AT_ONCE: u32 = 1000;

/// What a step has taken.
#[derive(Debug)]
pub(crate) struct Cost {
    /// CPU seconds of the client,
    pub(crate) client: f64,
    /// and of the server's main thread.
    pub(crate) server: f64,
    pub(crate) wall: f64,
    /// Largest resident set of the client, megabytes; 0 if it was not looked at.
    pub(crate) peak: f64,
}

impl Cost {
    pub(crate) fn row(&self, title: &str, keys: u32) -> String {
        let Self { client, server, wall, peak } = self;
        format!(
            "{title:<22}{client:>12.2}{server:>16.2}{wall:>10.2}{:>12.0}{peak:>10.0}",
            f64::from(keys) / wall
        )
    }
}

/// A server, which ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _room: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The server or another program of Redis 8.0, as `scripts/tools` has fetched it.
fn program(name: &str) -> Result<PathBuf> {
    Ok(tools::tool("redis-8.0")?.with_file_name(name))
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let room = tempfile::Builder::new().prefix("backup-bench-redis-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program("server")?);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(room.path());
        command.args(["--repl-diskless-sync-delay", "0"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { child, port, _room: room };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                return Err("the server does not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// CPU seconds of its main thread so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu_of(format_args!("{0}/task/{0}", self.child.id()))
    }

    /// Strings of some 60 bytes, each another.
    pub(crate) fn fill(&self, keys: u32) -> Result<()> {
        self.all(
            keys,
            |n| {
                let value = format!(
                    "{{\"id\":{n},\"name\":\"user {}\",\"score\":{}}}",
                    n / 7,
                    u64::from(n) * 7919 % 10_007
                );
                vec![b"SET".to_vec(), format!("user:{n}").into_bytes(), value.into_bytes()]
            },
            |_, _| Ok(()),
        )
    }

    /// What restores these keys: one RESTORE for each.
    pub(crate) fn write_restores(&self, keys: u32, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let name = |n: u32| format!("user:{n}").into_bytes();
        self.all(
            keys,
            |n| vec![b"DUMP".to_vec(), name(n)],
            |n, payload| {
                push(
                    &mut file,
                    &[b"RESTORE".to_vec(), name(n), b"0".to_vec(), payload, b"ABSTTL".to_vec()],
                )
            },
        )?;
        Ok(file.flush()?)
    }

    pub(crate) fn clear(&self) -> Result<()> {
        self.all(1, |_| vec![b"FLUSHALL".to_vec()], |_, _| Ok(()))
    }

    /// A command for each number, and its answer.
    fn all(
        &self,
        count: u32,
        command: impl Fn(u32) -> Vec<Vec<u8>>,
        mut answered: impl FnMut(u32, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port))?);
        for first in (0..count).step_by(AT_ONCE as usize) {
            let numbers = first..count.min(first + AT_ONCE);
            let mut out = Vec::new();
            numbers.clone().try_for_each(|n| push(&mut out, &command(n)))?;
            stream.get_mut().write_all(&out)?;
            for number in numbers {
                answered(number, answer(&mut stream)?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn rdb(&self, path: &Path) -> Result<Cost> {
        self.cost(
            Command::new(program("cli")?).args(["-p", &self.port.to_string(), "--rdb"]).arg(path),
        )
    }

    pub(crate) fn pipe(&self, commands: &Path) -> Result<Cost> {
        self.clear()?;
        let input = File::open(commands)?;
        self.cost(
            Command::new(program("cli")?)
                .args(["-p", &self.port.to_string(), "--pipe"])
                .stdin(input),
        )
    }

    fn cost(&self, command: &mut Command) -> Result<Cost> {
        let (client, server, clock) = (cpu_of_children("self")?, self.cpu()?, Instant::now());
        let output =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
        let wall = clock.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || said.contains("errors: ") && !said.contains("errors: 0,") {
            return Err(
                format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into()
            );
        }
        Ok(Cost {
            client: cpu_of_children("self")? - client,
            server: self.cpu()? - server,
            wall,
            peak: 0.0,
        })
    }
}

fn push(out: &mut impl std::io::Write, words: &[Vec<u8>]) -> Result<()> {
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.write_all(word)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

/// A line or a string.
fn answer(stream: &mut impl std::io::BufRead) -> Result<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some(len) = line.strip_prefix('$') else {
        return if line.starts_with('+') { Ok(line.into_bytes()) } else { Err(line.into()) };
    };
    let mut bytes = vec![0; len.trim_end().parse::<usize>()? + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(bytes.len() - 2);
    Ok(bytes)
}

//! Real servers of Redis and Valkey, and a client for them that knows nothing of ours.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::servers::process::{Ports, Server};
use backup_core::testing::tool;

/// A version that `scripts/tools` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Redis6,
    Redis7,
    Redis8,
    Valkey8,
    Valkey9,
}

impl Version {
    pub(crate) const ALL: [Self; 5] =
        [Self::Redis6, Self::Redis7, Self::Redis8, Self::Valkey8, Self::Valkey9];

    /// A program of it: `server`, `cli`, `check-rdb`, `check-aof`.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        let server = match self {
            Self::Redis6 => "redis-6.0",
            Self::Redis7 => "redis-7.0",
            Self::Redis8 => "redis-8.0",
            Self::Valkey8 => "valkey-8",
            Self::Valkey9 => "valkey-9",
        };
        tool(server).canonicalize().unwrap().parent().unwrap().join(name)
    }

    pub(crate) fn is_valkey(self) -> bool {
        matches!(self, Self::Valkey8 | Self::Valkey9)
    }

    /// Whether fields of hashes can expire.
    pub(crate) fn has_field_ttl(self) -> bool {
        matches!(self, Self::Redis8 | Self::Valkey9)
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Redis {
    server: Server,
    pub(crate) version: Version,
}

impl Redis {
    /// An empty one that writes nothing to its disk.
    pub(crate) fn start(version: Version) -> Self {
        Self::with(version, &[])
    }

    pub(crate) fn with(version: Version, settings: &[&str]) -> Self {
        Self::on(version, None, settings)
    }

    /// On what lies in `data`, if that is given.
    pub(crate) fn on(version: Version, data: Option<&Path>, settings: &[&str]) -> Self {
        let command = |ports: &Ports, own: &Path| {
            let mut command = Command::new(version.program("server"));
            command.args([
                "--port",
                &ports.port(0).to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ]);
            command.arg("--dir").arg(data.unwrap_or(own)).args(["--repl-diskless-sync-delay", "0"]);
            // Redis 6 always has DEBUG, and no such setting.
            if version != Version::Redis6 {
                command.args(["--enable-debug-command", "yes"]);
            }
            if settings.contains(&"--cluster-enabled") {
                command.args(["--cluster-port", &ports.port(2).to_string()]);
            }
            command.args(settings);
            command
        };
        let server = Server::start("redis", command, |_| true);
        let server = Self { server, version };
        server.wait();
        server
    }

    fn wait(&self) {
        let started = Instant::now();
        while self.client().run(&["PING"]).is_err_and(|error| error.starts_with("LOADING")) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not end to load:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.ports.port(0)
    }

    /// Another one that nobody else uses.
    pub(crate) fn second_port(&self) -> u16 {
        self.server.ports.port(1)
    }

    /// Where nodes of a cluster reach it.
    pub(crate) fn bus_port(&self) -> u16 {
        self.server.ports.port(2)
    }

    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Stops it as it is, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) {
        let pid = rustix::process::Pid::from_raw(self.server.id().cast_signed()).unwrap();
        let signal =
            if pause { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port())
    }

    /// Runs one command that must succeed; its answer as text.
    #[track_caller]
    pub(crate) fn run<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Answer {
        self.client().ok(arguments)
    }

    /// All databases, as the server itself compares them.
    pub(crate) fn debug_digest(&self) -> String {
        self.run(&["DEBUG", "DIGEST"]).text()
    }

    /// A line of INFO.
    pub(crate) fn info(&self, name: &str) -> String {
        let info = self.run(&["INFO", "everything"]).text();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {info}"))
    }
}

/// A running sentinel.
#[derive(Debug)]
pub(crate) struct Sentinel {
    server: Server,
}

impl Sentinel {
    /// Watches the master at `port` as the group `cache`; `quorum` sentinels decide about it.
    pub(crate) fn watch(version: Version, port: u16, quorum: u32, settings: &[String]) -> Self {
        let command = |ports: &Ports, own: &Path| {
            let file = own.join("sentinel.conf");
            let mut lines = vec![
                format!("port {}", ports.port(0)),
                "bind 127.0.0.1".to_owned(),
                format!("dir {}", own.display()),
                format!("sentinel monitor cache 127.0.0.1 {port} {quorum}"),
                "sentinel down-after-milliseconds cache 3000".to_owned(),
                "sentinel failover-timeout cache 5000".to_owned(),
            ];
            if settings.iter().any(|line| line.starts_with("tls-")) {
                lines.push(format!("tls-port {}", ports.port(1)));
            }
            lines.extend_from_slice(settings);
            std::fs::write(&file, lines.join("\n") + "\n").unwrap();
            let mut command = Command::new(version.program("server"));
            command.arg(file).arg("--sentinel");
            command
        };
        Self { server: Server::start("sentinel", command, |_| true) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.ports.port(0)
    }

    /// The port for TLS.
    pub(crate) fn second_port(&self) -> u16 {
        self.server.ports.port(1)
    }

    /// Waits until it has found this many other sentinels and one connected replica.
    pub(crate) fn wait(&self, password: Option<&str>, sentinels: usize) {
        let (started, mut client) = (Instant::now(), Client::connect(self.port()));
        if let Some(password) = password {
            client.ok(&["AUTH", password]);
        }
        let link = [&b"master-link-status"[..], b"ok"].map(|text| Answer::Bytes(text.to_vec()));
        loop {
            let others = client.ok(&["SENTINEL", "SENTINELS", "cache"]).list().len();
            let replicas = client.ok(&["SENTINEL", "REPLICAS", "cache"]);
            let is_linked = |replica: &Answer| replica.list().windows(2).any(|pair| pair == link);
            if others == sentinels && replicas.list().iter().any(is_linked) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.server.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Nil,
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Answer>),
    /// Within a list.
    Error(String),
}

impl Answer {
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil => "nil".to_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Self { stream: BufReader::with_capacity(1 << 16, stream) }
    }

    /// Sends a command without waiting for its answer.
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) {
        let mut out = Vec::new();
        for command in commands {
            write!(out, "*{}\r\n", command.len()).unwrap();
            for argument in command {
                write!(out, "${}\r\n", argument.as_ref().len()).unwrap();
                out.extend_from_slice(argument.as_ref());
                out.extend_from_slice(b"\r\n");
            }
        }
        self.stream.get_mut().write_all(&out).unwrap();
    }

    pub(crate) fn run<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Answer, String> {
        self.send(&[arguments.iter().map(AsRef::as_ref).collect()]);
        self.answer()
    }

    #[track_caller]
    pub(crate) fn ok<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Answer {
        let answer = self.run(arguments);
        answer.unwrap_or_else(|error| {
            let shown: Vec<_> =
                arguments.iter().map(|one| String::from_utf8_lossy(one.as_ref())).collect();
            panic!("{shown:?}: {error}")
        })
    }

    /// Runs commands at once; all must succeed.
    #[track_caller]
    pub(crate) fn all<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Answer> {
        self.send(commands);
        commands.iter().map(|_| self.answer().unwrap()).collect()
    }

    pub(crate) fn answer(&mut self) -> Result<Answer, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("closed".to_owned());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        Ok(match kind {
            "+" => Answer::Bytes(rest.as_bytes().to_vec()),
            "-" => return Err(rest.to_owned()),
            ":" => Answer::Number(rest.parse().unwrap()),
            "$" if rest == "-1" => Answer::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).map_err(|error| error.to_string())?;
                bytes.truncate(bytes.len() - 2);
                Answer::Bytes(bytes)
            }
            "*" if rest == "-1" => Answer::Nil,
            "*" => {
                let parts = (0..rest.parse::<usize>().unwrap()).map(|_| self.answer());
                Answer::List(parts.map(|part| part.unwrap_or_else(Answer::Error)).collect())
            }
            _ => panic!("{line:?}"),
        })
    }
}

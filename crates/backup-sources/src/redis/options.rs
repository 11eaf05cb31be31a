//! What the source can be told, and addresses: `redis://user:password@host:port`, with `rediss://`
//! for TLS.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::error::invalid;
use super::sentinel::Sentinels;
use crate::waits::Waits;

/// End of the scheme of an address of sentinels.
const SENTINEL: &str = "+sentinel";

/// How keys that expire are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// At the time they would have expired: those whose time has come are left out, and counted.
    #[default]
    Absolute,
    /// They live as long from now as they had to live at the moment of the snapshot.
    Shifted,
    /// They do not expire any more.
    Never,
}

/// How a snapshot is written to a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engine {
    /// Key by key, with RESTORE. What is not selected and what other databases hold stays; but a
    /// snapshot that replaces everything, each database in its own place, empties the whole server
    /// before, libraries of functions included.
    #[default]
    Keys,
    /// The target becomes a replica of this process for as long as it takes: everything that it
    /// holds is replaced. Exact, and the way to any moment of a captured log.
    Replica(Way),
}

/// How a target that becomes a replica reaches this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    /// Address and port to listen on, for instance `192.0.2.7:7000`; the target must be able to
    /// reach it. `None` for a free port of the address by which the target is reached.
    pub listen: Option<String>,
    /// The host name or address that the target is told; `None` for the one that is listened on.
    pub announce: Option<String>,
    /// Addresses that the target may come from, beside those by which it is reached: whoever
    /// connects from them gets all data.
    pub from: Vec<IpAddr>,
}

/// How restoring is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// How a server gets it.
    pub engine: Engine,
    /// Database in the snapshot, and the one it goes to; those that are not named keep their
    /// number.
    pub databases: Vec<(u32, u32)>,
    /// Keys that begin with the first get the second in its place.
    pub rename_prefix: Option<(String, String)>,
    /// How keys that expire are restored.
    pub ttl: Ttl,
    /// Leave libraries of functions out.
    pub without_functions: bool,
    /// Restore although the target surely has too little memory.
    pub memory_is_forced: bool,
    /// Restore hashes without the times of their fields, where the target has no such times.
    pub drops_field_times: bool,
}

/// How snapshots are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotReading {
    /// As a replica does: everything as it was at one moment.
    Replica,
    /// Key by key, with SCAN and DUMP: each as it is when it is read.
    Scan,
}

/// A login of its own for sentinels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SentinelLogin {
    /// The user; `None` is the user `default`.
    pub user: Option<String>,
    /// A file whose first line is the password; read whenever a connection is made.
    pub password_file: Option<PathBuf>,
}

/// Settings of a [`RedisSource`](super::RedisSource).
#[derive(Clone)]
pub struct RedisOptions {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its socket on this machine, in place of host and port.
    pub socket: Option<PathBuf>,
    /// Sentinels that name the server, in place of host and port.
    pub sentinels: Option<Sentinels>,
    /// Login for the sentinels, if they do not accept that of the servers.
    pub sentinel_login: Option<SentinelLogin>,
    /// Who connects; `None` is the user `default`.
    pub user: Option<String>,
    /// Password. It is never shown.
    pub password: Option<String>,
    /// A file whose first line is the password; read whenever a connection is made.
    pub password_file: Option<PathBuf>,
    /// Whether to use TLS; the server's certificate must then be valid for the host.
    pub tls: bool,
    /// Certificates (PEM) of trusted authorities; without, those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the server,
    pub tls_certificate_file: Option<PathBuf>,
    /// and its key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// A name for the instance that stays when its address changes; `None` for `host:port`.
    pub name: Option<String>,
    /// Time-out without progress, and where long waits are reported. Masters send something every
    /// 10 seconds (`repl-ping-replica-period`), and give up replicas that are silent for 60
    /// (`repl-timeout`).
    pub waits: Waits,
    /// What the command PSYNC is called, where a service has renamed it.
    pub psync: String,
    /// Longest time that a dump takes from its request to its end.
    pub dump_timeout: Duration,
    /// How snapshots are read; `None` for as a replica, and key by key where the server refuses
    /// that.
    pub reader: Option<SnapshotReading>,
    /// Most of the server's time that reading key by key takes, in percent, from 1 to 100.
    pub scan_percent: u8,
    /// How restoring is done.
    pub restore: RestoreOptions,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 6379,
            socket: None,
            sentinels: None,
            sentinel_login: None,
            user: None,
            password: None,
            password_file: None,
            tls: false,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            name: None,
            waits: Waits::new(Self::DEFAULT_TIMEOUT, Events::silent()),
            psync: "PSYNC".to_owned(),
            dump_timeout: Self::DEFAULT_DUMP_TIMEOUT,
            reader: None,
            scan_percent: 25,
            restore: RestoreOptions::default(),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("socket", &self.socket)
            .field("sentinels", &self.sentinels)
            .field("tls", &self.tls)
            .field("name", &self.name)
            .field("restore", &self.restore)
            .finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// Time-out unless the configuration sets one: twice the time after which a server gives up a
    /// replica that stalls, and the others may wait for that (`repl-timeout`).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

    /// Time limit of a whole dump, unless the configuration sets one.
    pub const DEFAULT_DUMP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Name of the server in reports and errors.
    pub(super) fn label(&self) -> String {
        match (&self.socket, &self.sentinels) {
            (Some(socket), _) => format!("Redis at {}", socket.display()),
            // Not located yet.
            (None, Some(sentinels)) if self.host.is_empty() => {
                format!("Redis group {}", sentinels.group)
            }
            (None, _) => format!("Redis at {}:{}", self.host, self.port),
        }
    }

    /// The same settings; long waits are reported to `events`.
    pub(super) fn reporting_to(&self, events: &Events) -> Self {
        Self { waits: self.waits.reporting_to(events), ..self.clone() }
    }

    /// Reads `redis://`, `rediss://` (TLS), `valkey://` or `valkeys://` (TLS), then
    /// `user:password@host:port`; or `unix://`, then `user:password@/path/of/the/socket`.
    ///
    /// With `+sentinel` behind the scheme: `user:password@sentinel:port,sentinel:port/group`, and
    /// `?role=replica` to read a replica.
    ///
    /// The `redis` crate reads fewer addresses: TLS only with its own TLS, no login before the path
    /// of a socket, no address without a host, and no `/`, `?` or `#` in a password. Others mean
    /// the same to both.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`]; the address is not repeated.
    pub fn parse(address: &str) -> SourceResult<Self> {
        let (scheme, rest) = address.split_once("://").ok_or_else(no_address)?;
        let scheme = scheme.to_ascii_lowercase();
        let (scheme, has_sentinels) = match scheme.strip_suffix(SENTINEL) {
            Some(scheme) => (scheme, true),
            None => (&*scheme, false),
        };
        let (tls, is_socket) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "unix" if !has_sentinels => (false, true),
            _ => return Err(no_address()),
        };
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
        let options =
            Self { user: given(user)?, password: given(password)?, tls, ..Self::default() };
        if is_socket {
            let path = PathBuf::from(decoded(place)?);
            return if path.is_absolute() {
                Ok(Self { socket: Some(path), ..options })
            } else {
                Err(no_address())
            };
        }
        if has_sentinels {
            let sentinels = Some(Sentinels::parse(place)?);
            return Ok(Self { host: String::new(), sentinels, ..options });
        }
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if !path.is_empty() {
            return Err(invalid("the address has a database or a path after the host").with_hint(
                "leave it out: a server is backed up as a whole; select databases when restoring, \
                 for instance --only '/0/*'",
            ));
        }
        let (host, port) = split_port(host, 6379)?;
        Ok(Self { host, port, ..options })
    }

    /// Whether an address names a server.
    pub(super) fn is_address(text: &str) -> bool {
        let Some((scheme, _)) = text.split_once("://") else { return false };
        let scheme = scheme.to_ascii_lowercase();
        let scheme = scheme.strip_suffix(SENTINEL).unwrap_or(&scheme);
        ["redis", "rediss", "valkey", "valkeys", "unix"].contains(&scheme)
    }

    /// The password, from wherever it is.
    pub(super) async fn password(&self) -> SourceResult<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(self.password.clone()) };
        let text = crate::helpers::read_password(file).await.map_err(|error| {
            SourceError::new(
                SourceErrorKind::Invalid,
                format!("cannot read the password file {}", file.display()),
            )
            .with_source(error)
        })?;
        match text.lines().next() {
            Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
            _ => Err(invalid(format!("the password file {} holds no password", file.display()))),
        }
    }

    /// Host and port, the socket or the group of servers, as they are shown.
    pub(super) fn address(&self) -> String {
        if let Some(sentinels) = &self.sentinels {
            return sentinels.group.clone();
        }
        if let Some(socket) = &self.socket {
            return socket.display().to_string();
        }
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn no_address() -> SourceError {
    invalid("the address cannot be parsed")
        .with_hint("write redis://USER:PASSWORD@HOST:PORT, or rediss:// for TLS, or unix:///PATH")
}

/// Of `name`, `name:port`, `[v6]` and `[v6]:port`.
pub(super) fn split_port(host: &str, default: u16) -> SourceResult<(String, u16)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or_else(no_address)?;
            (name, port.strip_prefix(':').unwrap_or_default())
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let port = if port.is_empty() { default } else { port.parse().map_err(|_| no_address())? };
    Ok((if name.is_empty() { "127.0.0.1".to_owned() } else { decoded(name)? }, port))
}

/// Without its %-escapes.
pub(super) fn decoded(text: &str) -> SourceResult<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits =
                [bytes.next().ok_or_else(no_address)?, bytes.next().ok_or_else(no_address)?];
            out.extend(hex::decode(digits).map_err(|_| no_address())?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).map_err(|_| no_address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_secrets_not_shown() {
        let options = RedisOptions::parse("rediss://me:p%40ss@db.example:7000").unwrap();
        assert_eq!((&*options.host, options.port, options.tls), ("db.example", 7000, true));
        assert_eq!(
            (options.user.as_deref(), options.password.as_deref()),
            (Some("me"), Some("p@ss"))
        );
        assert!(!format!("{options:?}").contains("ss\""), "{options:?}");
        let options = RedisOptions::parse("valkey://:secret@[::1]").unwrap();
        assert_eq!(
            (options.address(), options.user, options.tls),
            ("[::1]:6379".to_owned(), None, false)
        );
        let options = RedisOptions::parse("UNIX://me:p%40ss@/run/redis/a%20b.sock").unwrap();
        assert_eq!(
            (&*options.address(), options.password.as_deref()),
            ("/run/redis/a b.sock", Some("p@ss"))
        );
        assert!(RedisOptions::is_address("Redis://h") && RedisOptions::is_address("unix:///x"));
        assert!(!RedisOptions::is_address("./redis") && !RedisOptions::is_address("mongodb://h"));
        let options = RedisOptions::parse("redis://:a/b?c#d@e@db").unwrap();
        assert_eq!((&*options.host, options.password.as_deref()), ("db", Some("a/b?c#d@e")));
        for bad in [
            "unix://relative",
            "unix://",
            "db.example:1",
            "http://x",
            "redis://x:port",
            "redis://x/3",
            "redis://%zz",
        ] {
            let error = RedisOptions::parse(bad).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn addresses_mean_the_same_to_the_redis_crate() {
        for address in [
            "redis://db",
            "redis://db:7000",
            "valkey://me@db",
            "redis://me:p%40s%2Fs@db:7000",
            "redis://:secret@127.0.0.1",
            "redis://me:secret@[::1]:7000",
            "Redis://:a@b@db",
            "unix:///run/redis/a%20b.sock",
        ] {
            let info: redis::ConnectionInfo = address.parse().unwrap();
            let options = RedisOptions::parse(address).unwrap();
            let expected = match info.addr() {
                redis::ConnectionAddr::Unix(path) => path.display().to_string(),
                redis::ConnectionAddr::Tcp(host, port) if host.contains(':') => {
                    format!("[{host}]:{port}")
                }
                other => other.to_string(),
            };
            assert_eq!(options.address(), expected);
            assert_eq!(options.user.as_deref(), info.redis_settings().username(), "{address}");
            assert_eq!(options.password.as_deref(), info.redis_settings().password(), "{address}");
        }
    }
}

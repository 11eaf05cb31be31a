//! What the source can be told, and connection strings: `postgres://…` and `key=value …` as libpq
//! knows them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words;

use super::error::invalid;
use super::restore_options::{RecoveryTarget, RestoredConfiguration};
use crate::waits::Waits;

/// How much of TLS is asked for, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server can; anybody may stand between.
    #[default]
    Prefer,
    /// Always, but anybody may stand between unless there is a CA file.
    Require,
    /// The server's certificate is signed by a trusted authority.
    VerifyCa,
    /// It is, and it is for this host.
    VerifyFull,
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address; a directory of Unix sockets if it begins with `/`.
    pub name: String,
    /// Port; with a directory, the end of the socket's name.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            return write!(f, "[{}]:{}", self.name, self.port);
        }
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Settings of a [`PostgresSource`](super::PostgresSource).
#[derive(Clone)]
pub struct PostgresOptions {
    /// Servers of one cluster, tried in order.
    pub hosts: Vec<Host>,
    /// Who connects.
    pub user: String,
    /// Database for SQL; replication needs none.
    pub database: String,
    /// Password. It is never shown.
    pub password: Option<String>,
    /// A file whose first line is the password; read whenever a connection is made.
    pub password_file: Option<PathBuf>,
    /// TLS mode.
    pub tls: TlsMode,
    /// Certificates (PEM) of trusted authorities; without, those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the server,
    pub tls_certificate_file: Option<PathBuf>,
    /// and its key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Take nobody for the server who does not prove to know the password over this very TLS
    /// connection, as libpq's `channel_binding=require`.
    pub channel_binding: bool,
    /// Send a cleartext password, or its MD5, over connections that others may read, and without
    /// a warning over loopback.
    pub weak_passwords: bool,
    /// Name of the replication slot that capturing the log keeps; it is created if it does not
    /// exist. `None`: without one, the server may remove log that was not captured yet.
    pub slot: Option<String>,
    /// Most bytes per second that are read in a backup.
    pub max_bytes_per_second: Option<u64>,
    /// Begin the backup with a checkpoint at once, not spread over `checkpoint_completion_target`.
    pub fast_checkpoint: bool,
    /// Other places for tablespaces when restoring, by their OID or where they were: without one,
    /// they get a directory beside the restored one.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// Where a restored data directory stops to replay its log.
    pub recovery: RecoveryTarget,
    /// Configuration of a restored data directory,
    pub configuration: RestoredConfiguration,
    /// and more settings for it, such as its port.
    pub settings: Vec<(String, String)>,
    /// Start the restored server and wait until it has replayed its log and takes writes, with the
    /// programs (`postgres`, `pg_ctl`) of the first of these directories that has them in the major
    /// version of the snapshot.
    pub start: Option<Vec<PathBuf>>,
    /// How long that may take; `None`: as long as the log that it replays gives reason for.
    pub start_timeout: Option<Duration>,
    /// The identifier that the cluster must have: another one under the same address is refused.
    pub system_id: Option<u64>,
    /// Time-out without progress, and where long waits are reported.
    pub waits: Waits,
}

impl PostgresOptions {
    /// The same settings; long waits are reported to `events`.
    pub(super) fn reporting_to(&self, events: &Events) -> Self {
        Self { waits: self.waits.reporting_to(events), ..self.clone() }
    }

    /// Reads `postgres://user@host:port,host2/database?sslmode=…` or `host=… user=…`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`]; the address is not repeated.
    pub fn parse(address: &str) -> SourceResult<Self> {
        let pairs = match address
            .strip_prefix("postgres://")
            .or_else(|| address.strip_prefix("postgresql://"))
        {
            Some(rest) => url_pairs(rest)?,
            None => keyword_pairs(address)?,
        };
        let mut options = Self::default();
        let (mut hosts, mut ports) = (String::new(), String::new());
        let (mut mode, mut roots) = (None, None);
        for (key, value) in pairs {
            match &*key {
                "host" | "hostaddr" => hosts = value,
                "port" => ports = value,
                "sslmode" => mode = Some(tls_mode(&value)?),
                "sslrootcert" => roots = Some(value),
                _ => options.set(&key, value)?,
            }
        }
        options.hosts = zip_hosts(&hosts, &ports)?;
        options.set_tls(mode, roots)?;
        if options.database.is_empty() {
            "postgres".clone_into(&mut options.database);
        }
        if options.user.is_empty() {
            return Err(
                invalid("the address names no user").with_hint("write postgres://USER@HOST/")
            );
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: String) -> SourceResult<()> {
        match key {
            "user" => self.user = value,
            "dbname" => self.database = value,
            "password" => self.password = Some(value),
            "sslcert" => self.tls_certificate_file = Some(value.into()),
            "sslkey" => self.tls_key_file = Some(value.into()),
            "channel_binding" => self.channel_binding = channel_binding(&value)?,
            // They change nothing of what is read.
            "application_name" | "connect_timeout" | "target_session_attrs" | "gssencmode" => {}
            _ => {
                let known =
                    "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey";
                return Err(invalid(format!("the address has the unknown parameter {key:?}"))
                    .with_hint(format!("use only {known}")));
            }
        }
        Ok(())
    }

    /// When all is known: which of the two stands first must not matter.
    fn set_tls(&mut self, mode: Option<TlsMode>, roots: Option<String>) -> SourceResult<()> {
        match (roots, mode) {
            // Of the system: our roots without a file. Anybody gets a certificate of these, so that
            // the name must be checked.
            (Some(roots), None | Some(TlsMode::VerifyFull)) if roots == "system" => {
                self.tls = TlsMode::VerifyFull;
            }
            (Some(roots), Some(_)) if roots == "system" => {
                return Err(invalid("sslrootcert=system needs sslmode=verify-full")
                    .with_hint("leave sslmode out"));
            }
            (roots, mode) => {
                self.tls = mode.unwrap_or_default();
                self.tls_ca_file = roots.map(PathBuf::from);
            }
        }
        Ok(())
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
        Ok(text.lines().next().map(str::to_owned))
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            user: String::new(),
            database: String::new(),
            password: None,
            password_file: None,
            tls: TlsMode::default(),
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            channel_binding: false,
            weak_passwords: false,
            slot: Some("backup".to_owned()),
            max_bytes_per_second: None,
            fast_checkpoint: true,
            tablespaces: Vec::new(),
            recovery: RecoveryTarget::default(),
            configuration: RestoredConfiguration::default(),
            settings: Vec::new(),
            start: None,
            start_timeout: None,
            system_id: None,
            waits: Waits::default(),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("slot", &self.slot)
            .field("max_bytes_per_second", &self.max_bytes_per_second)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

fn tls_mode(text: &str) -> SourceResult<TlsMode> {
    Ok(match text {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => {
            return Err(invalid(format!("sslmode {text:?} is unknown"))
                .with_hint("use disable, prefer, require, verify-ca or verify-full"));
        }
    })
}

/// Whether it must be.
fn channel_binding(text: &str) -> SourceResult<bool> {
    match text {
        "require" => Ok(true),
        "prefer" | "disable" => Ok(false),
        _ => Err(invalid(format!("channel_binding {text:?} is unknown"))
            .with_hint("use disable, prefer or require")),
    }
}

/// As many ports as hosts, or one for all.
fn zip_hosts(hosts: &str, ports: &str) -> SourceResult<Vec<Host>> {
    let names: Vec<&str> =
        hosts.split(',').map(|name| if name.is_empty() { "localhost" } else { name }).collect();
    let ports = ports
        .split(',')
        .map(|port| if port.is_empty() { Ok(5432) } else { port.parse::<u16>() })
        .collect::<Result<Vec<u16>, _>>()
        .map_err(|_| invalid("the address has a port that is not a number"))?;
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(invalid(format!(
            "the address has {} and {}",
            words::count(names.len() as u64, "host", "hosts"),
            words::count(ports.len() as u64, "port", "ports")
        )));
    }
    let port = |at: usize| ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
    Ok(names
        .iter()
        .enumerate()
        .map(|(at, name)| Host { name: (*name).to_owned(), port: port(at) })
        .collect())
}

type Pairs = Vec<(String, String)>;

/// What stands behind `postgres://`.
fn url_pairs(rest: &str) -> SourceResult<Pairs> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut pairs = Pairs::new();
    if !user.is_empty() {
        let (user, password) =
            user.split_once(':').map_or((user, None), |(user, rest)| (user, Some(rest)));
        pairs.push(("user".to_owned(), decoded(user)?));
        if let Some(password) = password {
            pairs.push(("password".to_owned(), decoded(password)?));
        }
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = split_port(host)?;
        names.push(decoded(name)?);
        ports.push(port.to_owned());
    }
    pairs.push(("host".to_owned(), names.join(",")));
    pairs.push(("port".to_owned(), ports.join(",")));
    if !database.is_empty() {
        pairs.push(("dbname".to_owned(), decoded(database)?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| invalid("the address has a parameter without ="))?;
        pairs.push((decoded(key)?, decoded(value)?));
    }
    Ok(pairs)
}

/// Of `name`, `name:port`, `[v6]` and `[v6]:port`.
fn split_port(host: &str) -> SourceResult<(&str, &str)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) =
            rest.split_once(']').ok_or_else(|| invalid("the address has [ without ]"))?;
        return Ok((name, port.strip_prefix(':').unwrap_or("")));
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

/// Without its %-escapes.
fn decoded(text: &str) -> SourceResult<String> {
    let bad = || invalid("the address has an invalid %-escape");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().ok_or_else(bad)?, bytes.next().ok_or_else(bad)?];
        out.extend(hex::decode(digits).map_err(|_| bad())?);
    }
    String::from_utf8(out).map_err(|_| bad())
}

/// Of `key=value key='va\'lue'`.
fn keyword_pairs(text: &str) -> SourceResult<Pairs> {
    let mut pairs = Pairs::new();
    let mut chars = text.trim().chars().peekable();
    while chars.peek().is_some() {
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=') {
            key.push(c);
        }
        let named = chars.next().is_some()
            && key.trim().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let (mut value, mut closed) = (String::new(), !quoted);
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.extend(chars.next()),
                '\'' if quoted => {
                    closed = true;
                    break;
                }
                c if c.is_whitespace() && !quoted => break,
                c => value.push(c),
            }
        }
        if !closed || !named || key.trim().is_empty() {
            return Err(invalid("the address cannot be parsed")
                .with_hint("write postgres://user@host:port/database or host=… user=…"));
        }
        pairs.push((key.trim().to_owned(), value));
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;

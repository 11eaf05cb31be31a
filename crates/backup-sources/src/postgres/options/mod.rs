//! Settings of the source, and the addresses of servers: `postgres://…` and `key=value …` as libpq
//! takes them.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`PostgresOptions`] |
//! | `connection.rs` | [`ConnectionOptions`]: settings that few addresses have |
//! | `address.rs` | both forms of addresses |
//! | `client.rs` | [`ClientEnvironment`]: variables, services and files that complete an address |
//! | `parameters.rs` | settings by the values of parameters |
//! | `passfile.rs` | `~/.pgpass` |

mod address;
mod client;
mod connection;
mod parameters;
mod passfile;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use self::address::Pairs;
pub use self::client::ClientEnvironment;
pub(super) use self::connection::Method;
pub use self::connection::{ConnectionOptions, Keepalive, Methods, ServerRole, TlsVersions};
use self::parameters::Parameters;
use super::error::invalid;
use super::restore_options::{RecoveryTarget, RestoredConfiguration};
use crate::waits::Waits;

/// Use of TLS, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server supports it. The server is not verified.
    #[default]
    Prefer,
    /// Always. The server is verified only with a CA file.
    Require,
    /// With a certificate that a trusted authority signed.
    VerifyCa,
    /// With such a certificate for this host.
    VerifyFull,
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address; a directory of Unix sockets if it begins with `/`.
    pub name: String,
    /// Address to connect to instead of looking the name up; the certificate is still that of the
    /// name.
    pub address: Option<IpAddr>,
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
    /// User.
    pub user: String,
    /// Database for SQL; replication needs none.
    pub database: String,
    /// Password. It is never shown.
    pub password: Option<String>,
    /// A file whose first line is the password; read whenever a connection is made.
    pub password_file: Option<PathBuf>,
    /// A password file of libpq, for servers that no other password is known of.
    pub passfile: Option<PathBuf>,
    /// Settings of connections that few addresses have.
    pub connection: ConnectionOptions,
    /// TLS mode.
    pub tls: TlsMode,
    /// Certificates (PEM) of trusted authorities; without, those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the server,
    pub tls_certificate_file: Option<PathBuf>,
    /// and its key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Refuse a server that does not prove by SCRAM, bound to this TLS connection, that it has the
    /// password: `channel_binding=require`.
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
    /// Start the restored server, and wait until it has replayed its log and accepts writes. Its
    /// programs (`postgres`, `pg_ctl`) come from the first of these directories that has them in
    /// the major version of the snapshot.
    pub start: Option<Vec<PathBuf>>,
    /// Stop the replay at its end without accepting writes, until the directory is promoted
    /// ([`promote`](super::promote)).
    pub pause: bool,
    /// Time-out of the start. `None`: a time that fits the length of the log.
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

    /// Reads `postgres://user@host:port,host2/database?sslmode=…` or `host=… user=…`. Missing
    /// parameters have fixed defaults.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`]; the address is not repeated.
    pub fn parse(address: &str) -> SourceResult<Self> {
        Self::parse_in(address, &ClientEnvironment::default())
    }

    /// The same; `client` completes the address.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`]; the address is not repeated.
    pub fn parse_in(address: &str, client: &ClientEnvironment) -> SourceResult<Self> {
        let is_url = address::in_url(address).is_some();
        Parameters(client.complete(pairs(address)?)?).into_options(is_url)
    }

    /// When all is known: which of the two stands first must not matter.
    fn set_tls(&mut self, mode: Option<TlsMode>, roots: Option<String>) -> SourceResult<()> {
        match (roots, mode) {
            // Of the system: our roots without a file. They sign certificates for everybody, so
            // that the name must be checked.
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

    /// The hosts in the order in which they are tried.
    pub(super) fn hosts_in_order(&self) -> Vec<&Host> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if let Some(seed) = self.connection.random_order {
            hosts.sort_by_cached_key(|host| {
                let mut hasher = DefaultHasher::new();
                (seed, &host.name, host.address, host.port).hash(&mut hasher);
                hasher.finish()
            });
        }
        hosts
    }

    /// The password for a database of a host, wherever it is kept.
    pub(super) async fn password(
        &self,
        host: &Host,
        database: &str,
    ) -> SourceResult<Option<String>> {
        let Some(file) = &self.password_file else {
            let known = self.password.clone();
            return Ok(match &self.passfile {
                Some(file) if known.is_none() => {
                    passfile::password(file, host, database, &self.user).await
                }
                _ => known,
            });
        };
        let text = crate::helpers::read_password(file).await.map_err(|error| {
            SourceError::new(
                SourceErrorKind::Invalid,
                format!("cannot read the password file {}", file.display()),
            )
            .with_source(error)
        })?;
        Ok(text.lines().next().map(str::to_owned))
    }

    /// A remedy for a server that demands a password which is not known.
    pub(super) fn password_hint(&self) -> String {
        match self.passfile.as_ref().filter(|file| passfile::is_exposed(file)) {
            Some(file) => {
                format!("others may read {0}, so it is not used: chmod 600 {0}", file.display())
            }
            None => "set the password, or a password file".to_owned(),
        }
    }
}

/// The hosts that an address names.
///
/// # Errors
/// [`SourceErrorKind::Invalid`]; the address is not repeated.
pub fn hosts_of(address: &str) -> SourceResult<Vec<Host>> {
    let values: HashMap<String, String> = pairs(address)?.into_iter().collect();
    let value = |key: &str| values.get(key).map(String::as_str).filter(|value| !value.is_empty());
    parameters::hosts(value("host"), value("hostaddr"), value("port").unwrap_or_default())
}

/// The parameters of an address.
fn pairs(address: &str) -> SourceResult<Pairs> {
    match address::in_url(address) {
        Some(rest) => address::url_pairs(rest),
        None => address::keyword_pairs(address),
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
            passfile: None,
            connection: ConnectionOptions::default(),
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
            pause: false,
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

#[cfg(test)]
mod tests;

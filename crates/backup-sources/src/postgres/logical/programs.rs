//! `pg_dump` and `pg_dumpall`: the definitions of objects are theirs to write.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio::process::Command;

use super::super::options::{
    ConnectionOptions, Host, Keepalive, PostgresOptions, TlsMode, TlsVersions,
};
use super::options::LogicalOptions;
use super::running::Limited;
use crate::helpers::ask;

/// Where packages put the programs, with one directory per version.
const DIRECTORIES: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/Library/PostgreSQL", "bin"),
];

/// Where systems keep the certificates of the authorities that they trust.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/openssl/cert.pem",
];
/// Bytes of arguments up to which every version is told the same way, and those that any system
/// takes.
const FEW: usize = 32 << 10;
const MOST: usize = 512 << 10;
/// Amounts of money in definitions are written as in rows: the program sets everything else by
/// itself.
const MONEY: &str = "-c lc_monetary=C";
/// How long the program waits for locks.
const LOCKING: Duration = Duration::from_secs(5);

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    /// `None`: found by PATH.
    directory: Option<PathBuf>,
    major: u32,
    /// What it says of its version.
    pub(super) version: String,
}

impl Programs {
    /// The oldest ones that know the server's version: newer ones may write what the same server
    /// does not understand.
    pub(super) async fn find(options: &LogicalOptions, server: u32) -> SourceResult<Self> {
        let wanted = server / 10_000;
        if let Some(directory) = &options.programs {
            let found = Self::at(Some(directory.clone())).await.ok_or_else(|| {
                let text = format!("no pg_dump in {} can be started", directory.display());
                SourceError::new(SourceErrorKind::Invalid, text)
                    .with_hint("name the directory of pg_dump and pg_dumpall")
            })?;
            return if found.major >= wanted { Ok(found) } else { Err(too_old(wanted, &[found])) };
        }
        let mut known = Vec::new();
        for directory in std::iter::once(None).chain(candidates().await.into_iter().map(Some)) {
            known.extend(Self::at(directory).await);
        }
        let fits = known
            .iter()
            .filter(|found| found.major >= wanted)
            .min_by_key(|found| found.major)
            .cloned();
        fits.ok_or_else(|| too_old(wanted, &known))
    }

    async fn at(directory: Option<PathBuf>) -> Option<Self> {
        let program = program(directory.as_deref(), "pg_dump");
        let version = ask(Command::new(program).arg("--version")).await.ok()?;
        Some(Self { directory, major: major(&version)?, version })
    }

    /// The definitions of one section, as the snapshot shows them. What is not covered is named by
    /// `exclude`.
    pub(super) async fn dump(
        &self,
        cx: &Context,
        options: &LogicalOptions,
        dump: &Dump<'_>,
        section: &str,
    ) -> SourceResult<String> {
        let server = Limited::of(&options.connection, dump.host, dump.database);
        let mut command =
            self.command("pg_dump", &options.connection, dump.host, dump.database).await?;
        let given = options.connection.connection.server_options.as_deref();
        let all = [given.unwrap_or_default(), MONEY].join(" ");
        command.env("PGDATABASE", dump.database).env("PGOPTIONS", all.trim_start());
        // Large objects are ours to read. Until version 16 the option has no other name in common.
        command.args(["--format=plain", "-B", &format!("--section={section}")]);
        command.arg(format!("--snapshot={}", dump.snapshot));
        // The tables are locked: whoever is in the way came since, and waits for that.
        command
            .arg(format!("--lock-wait-timeout={}", options.lock_timeout.min(LOCKING).as_millis()));
        if dump.encoding != "SQL_ASCII" {
            command.arg("--encoding=UTF8");
        }
        if section == "pre-data" {
            command.arg("--create");
        }
        let doing = format!("pg_dump cannot write the definitions of {}", dump.database);
        let arguments: Vec<String> = dump.exclude.iter().map(Excluded::argument).collect();
        let len: usize = arguments.iter().map(String::len).sum();
        if len <= FEW {
            return server.run(cx, command.args(arguments), None, &doing).await;
        }
        if self.major >= 17 {
            command.arg("--filter=-").stdin(Stdio::piped());
            let lines: String = dump.exclude.iter().map(Excluded::line).collect();
            return server.run(cx, &mut command, Some(lines), &doing).await;
        }
        if len <= MOST {
            return server.run(cx, command.args(arguments), None, &doing).await;
        }
        let text = format!(
            "{doing}: {} tables are excluded, more than {} accepts",
            arguments.len(),
            self.version
        );
        Err(SourceError::new(SourceErrorKind::Unsupported, text)
            .with_hint("install pg_dump of PostgreSQL 17 or newer, or select whole schemas"))
    }

    /// Roles, memberships and tablespaces.
    pub(super) async fn globals(
        &self,
        cx: &Context,
        options: &LogicalOptions,
        host: &Host,
        database: &str,
        passwords: bool,
    ) -> SourceResult<String> {
        let mut command = self.command("pg_dumpall", &options.connection, host, database).await?;
        if let Some(given) = &options.connection.connection.server_options {
            command.env("PGOPTIONS", given);
        }
        command.args(["--globals-only", "--database", database]);
        if !passwords {
            command.arg("--no-role-passwords");
        }
        let server = Limited::of(&options.connection, host, database);
        server.run(cx, &mut command, None, "pg_dumpall cannot write roles and tablespaces").await
    }

    /// Passes the ways to log in that the address allows.
    fn demand_methods(
        &self,
        command: &mut Command,
        connection: &ConnectionOptions,
    ) -> SourceResult<()> {
        let Some(methods) = connection.methods.text() else { return Ok(()) };
        // Older ones would send a password in whichever way the server demands.
        if self.major < 16 {
            let text = format!("{} does not support require_auth", self.version);
            return Err(SourceError::new(SourceErrorKind::Unsupported, text)
                .with_hint("use programs of PostgreSQL 16 or newer"));
        }
        command.env("PGREQUIREAUTH", methods);
        Ok(())
    }

    /// With the same host, user and TLS as our own connections. Secrets go by the environment,
    /// which others cannot read.
    async fn command(
        &self,
        name: &str,
        options: &PostgresOptions,
        host: &Host,
        database: &str,
    ) -> SourceResult<Command> {
        let mut command = Command::new(program(self.directory.as_deref(), name));
        let inherited =
            std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PG"));
        inherited.for_each(|(key, _)| _ = command.env_remove(key));
        let mode = match options.tls {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        };
        command
            .env("PGHOST", &host.name)
            .env("PGPORT", host.port.to_string())
            .env("PGUSER", &options.user);
        let connection = &options.connection;
        command.env("PGAPPNAME", &connection.application_name).env("LC_MESSAGES", "C");
        command.env("PGSSLMODE", mode).envs(variables(connection, host));
        let files = [
            ("PGSSLROOTCERT", &options.tls_ca_file),
            ("PGSSLCERT", &options.tls_certificate_file),
            ("PGSSLKEY", &options.tls_key_file),
            ("PGSSLCRL", &connection.tls_crl_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                command.env(key, file);
            }
        }
        if options.tls_certificate_file.is_none() {
            command.env("PGSSLCERTMODE", "disable");
        }
        self.demand_methods(&mut command, connection)?;
        if options.tls >= TlsMode::VerifyCa && options.tls_ca_file.is_none() {
            // libpq knows `system` since version 16 only, and takes it for full verification only.
            let file = AUTHORITIES.iter().find(|file| Path::new(file).exists());
            let (mode, file) = file.map_or(("verify-full", "system"), |file| (mode, *file));
            command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", file);
        }
        let password = options.password(host, database).await?;
        // As our own connections: nobody gets a password that can be read along who merely asks for
        // it.
        let is_private =
            options.tls >= TlsMode::VerifyCa || options.weak_passwords || is_local(host).await;
        if connection.no_channel_binding {
            command.env("PGCHANNELBINDING", "disable");
        } else if options.channel_binding || (password.is_some() && !is_private) {
            command.env("PGCHANNELBINDING", "require");
        }
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        // There are no variables for them.
        command.arg("--dbname").arg(probes(connection.keepalive));
        // It would ask the terminal for a password.
        command.arg("--no-password").stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }
}

/// What is dumped.
#[derive(Debug)]
pub(super) struct Dump<'a> {
    pub(super) host: &'a Host,
    pub(super) database: &'a str,
    pub(super) snapshot: &'a str,
    pub(super) encoding: &'a str,
    pub(super) exclude: &'a [Excluded],
}

/// What is left out, by its quoted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Excluded {
    Schema(String),
    Table(String),
}

impl Excluded {
    fn argument(&self) -> String {
        match self {
            Self::Schema(name) => format!("--exclude-schema={name}"),
            Self::Table(name) => format!("--exclude-table={name}"),
        }
    }

    /// The same for `--filter`, where a line is one and backslashes begin what stands for something
    /// else.
    fn line(&self) -> String {
        let (what, name) = match self {
            Self::Schema(name) => ("schema", name),
            Self::Table(name) => ("table", name),
        };
        format!("exclude {what} {}\n", name.replace('\\', "\\\\").replace('\n', "\\n"))
    }
}

/// Settings of connections that libpq has variables for.
fn variables(connection: &ConnectionOptions, host: &Host) -> Vec<(&'static str, String)> {
    let address = host.address.map(|address| ("PGHOSTADDR", address.to_string()));
    let timeout = connection.connect_timeout;
    let timeout = timeout.map(|limit| ("PGCONNECT_TIMEOUT", limit.as_secs().to_string()));
    let direct = connection.direct_tls.then(|| ("PGSSLNEGOTIATION", "direct".to_owned()));
    let no_name = (!connection.server_name).then(|| ("PGSSLSNI", "0".to_owned()));
    let version = match connection.tls_versions {
        TlsVersions::All => None,
        TlsVersions::Only12 => Some(("PGSSLMAXPROTOCOLVERSION", "TLSv1.2".to_owned())),
        TlsVersions::Only13 => Some(("PGSSLMINPROTOCOLVERSION", "TLSv1.3".to_owned())),
    };
    [address, timeout, direct, no_name, version].into_iter().flatten().collect()
}

/// Probes of a silent connection as a connection string.
fn probes(keepalive: Keepalive) -> String {
    let seconds = |limit: Duration| limit.as_secs().to_string();
    let parameters = [
        ("keepalives", Some(u8::from(keepalive.enabled).to_string())),
        ("keepalives_idle", keepalive.idle.map(seconds)),
        ("keepalives_interval", keepalive.interval.map(seconds)),
        ("keepalives_count", keepalive.count.map(|count| count.to_string())),
        ("tcp_user_timeout", keepalive.user_timeout.map(|limit| limit.as_millis().to_string())),
    ];
    let given =
        parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    given.collect::<Vec<_>>().join(" ")
}

/// Whether nobody else can read what is said to a host.
async fn is_local(host: &Host) -> bool {
    if host.name.starts_with('/') {
        return true;
    }
    if let Some(address) = host.address {
        return address.is_loopback();
    }
    let found = tokio::net::lookup_host((&*host.name, host.port)).await;
    found.is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
}

/// The major version in the output of `pg_dump --version`.
pub(super) fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("pg_dump (PostgreSQL) ")?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn program(directory: Option<&Path>, name: &str) -> PathBuf {
    directory.map_or_else(|| name.into(), |directory| directory.join(name))
}

/// Directories that may have the programs.
async fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (above, below) in DIRECTORIES {
        let Ok(mut entries) = tokio::fs::read_dir(above).await else { continue };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_one = above.ends_with("ostgresql")
                || above.ends_with("PostgreSQL")
                || name.starts_with("postgresql@");
            if is_one || name.starts_with("pgsql-") {
                found.push(entry.path().join(below));
            }
        }
    }
    found.push("/usr/local/pgsql/bin".into());
    found
}

fn too_old(wanted: u32, known: &[Programs]) -> SourceError {
    let text = match known.iter().max_by_key(|found| found.major) {
        None => format!(
            "pg_dump of PostgreSQL {wanted} or newer is needed for the definitions of objects, but \
             was not found"
        ),
        Some(found) => {
            format!("the server is PostgreSQL {wanted}, and {} cannot read it", found.version)
        }
    };
    SourceError::new(SourceErrorKind::Unsupported, text).with_hint(format!(
        "install the client programs (postgresql-client-{wanted} on Debian and Ubuntu, \
         postgresql{wanted} on RHEL, postgresql@{wanted} with Homebrew), or name another directory \
         of programs"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_lines() {
        let odd = Excluded::Table("\"a\nb\".\"c\\d\"".to_owned());
        assert_eq!(odd.line(), "exclude table \"a\\nb\".\"c\\\\d\"\n");
        assert_eq!(odd.argument(), "--exclude-table=\"a\nb\".\"c\\d\"");
        assert_eq!(Excluded::Schema("\"s\"".to_owned()).line(), "exclude schema \"s\"\n");
    }

    #[test]
    fn probes_are_those_of_the_address() {
        assert_eq!(probes(Keepalive::default()), "keepalives=1 keepalives_idle=30");
        let all = Keepalive {
            enabled: false,
            idle: None,
            interval: Some(Duration::from_secs(7)),
            count: Some(3),
            user_timeout: Some(Duration::from_millis(1500)),
        };
        let said = "keepalives=0 keepalives_interval=7 keepalives_count=3 tcp_user_timeout=1500";
        assert_eq!(probes(all), said);
    }
}

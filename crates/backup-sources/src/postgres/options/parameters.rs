//! Settings by the values of parameters.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use backup_core::source::SourceResult;
use backup_core::words;

use super::super::error::invalid;
use super::connection::{Keepalive, Methods, ServerRole, TlsVersions};
use super::{Host, PostgresOptions, TlsMode};

/// Parameters that have no effect: encodings are those of the databases, and nothing uses Kerberos.
const WITHOUT_EFFECT: [&str; 5] =
    ["client_encoding", "sslcompression", "krbsrvname", "gsslib", "gssdelegation"];
/// Parameters of libpq that are refused, because they are not supported.
const UNSUPPORTED: [&str; 12] = [
    "requirepeer",
    "requiressl",
    "replication",
    "sslpassword",
    "sslcrldir",
    "sslkeylogfile",
    "scram_client_key",
    "scram_server_key",
    "min_protocol_version",
    "max_protocol_version",
    "oauth_issuer",
    "oauth_client_id",
];
const SUPPORTED: [&str; 32] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "require_auth",
    "channel_binding",
    "connect_timeout",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "sslmode",
    "sslnegotiation",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslrootcert",
    "sslcrl",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "load_balance_hosts",
    "service",
];
/// Similarity (Jaro-Winkler) of a name that is probably misspelt.
const SIMILAR: f64 = 0.9;

/// Values of parameters that are not used yet.
pub(super) struct Parameters(pub(super) HashMap<String, String>);

impl Parameters {
    /// All of them as settings. URLs may have parameters of other libraries.
    pub(super) fn into_options(mut self, is_url: bool) -> SourceResult<PostgresOptions> {
        let mut options = PostgresOptions {
            hosts: self.hosts()?,
            user: self.take("user").unwrap_or_default(),
            database: self.take("dbname").unwrap_or_else(|| "postgres".to_owned()),
            password: self.take("password"),
            passfile: self.take("passfile").map(PathBuf::from),
            ..PostgresOptions::default()
        };
        self.login(&mut options)?;
        self.network(&mut options)?;
        self.tls(&mut options)?;
        self.of_other_libraries(&mut options, is_url)?;
        if options.user.is_empty() {
            return Err(
                invalid("the address names no user").with_hint("write postgres://USER@HOST/")
            );
        }
        Ok(options)
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// The value of a parameter among `known` ones.
    fn choice<T: Copy>(&mut self, key: &str, known: &[(&str, T)]) -> SourceResult<Option<T>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let found = known.iter().find(|(name, _)| *name == text);
        match found {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                Err(invalid(format!("{key} {text:?} is unknown"))
                    .with_hint(format!("use one of {}", names.join(", "))))
            }
        }
    }

    fn number<T: FromStr>(&mut self, key: &str) -> SourceResult<Option<T>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let number = text.trim().parse().map_err(|_| {
            invalid(format!("{key} {text:?} is invalid")).with_hint("use a whole number")
        })?;
        Ok(Some(number))
    }

    /// A number of seconds; 0 and less stand for the default.
    fn seconds(&mut self, key: &str) -> SourceResult<Option<Duration>> {
        let found: Option<i64> = self.number(key)?;
        let found = found.and_then(|number| u64::try_from(number).ok());
        Ok(found.filter(|number| *number > 0).map(Duration::from_secs))
    }

    /// As many ports and addresses as names of hosts, or one port for all.
    fn hosts(&mut self) -> SourceResult<Vec<Host>> {
        let (names, addresses) = (self.take("host"), self.take("hostaddr"));
        let ports = self.take("port").unwrap_or_default();
        hosts(names.as_deref(), addresses.as_deref(), &ports)
    }

    fn login(&mut self, options: &mut PostgresOptions) -> SourceResult<()> {
        let connection = &mut options.connection;
        if let Some(methods) = self.take("require_auth") {
            connection.methods = Methods::parse(&methods)?;
        }
        connection.server_options = self.take("options");
        let fallback = self.take("fallback_application_name");
        if let Some(name) = self.take("application_name").or(fallback) {
            connection.application_name = name;
        }
        connection.role =
            self.choice("target_session_attrs", &ServerRole::NAMES)?.unwrap_or_default();
        let bindings =
            [("disable", (false, true)), ("prefer", (false, false)), ("require", (true, false))];
        (options.channel_binding, connection.no_channel_binding) =
            self.choice("channel_binding", &bindings)?.unwrap_or_default();
        Ok(())
    }

    fn network(&mut self, options: &mut PostgresOptions) -> SourceResult<()> {
        let connection = &mut options.connection;
        // As libpq: a second is too short.
        let at_least = Duration::from_secs(2);
        connection.connect_timeout =
            self.seconds("connect_timeout")?.map(|limit| limit.max(at_least));
        let orders = [("disable", false), ("random", true)];
        if self.choice("load_balance_hosts", &orders)?.unwrap_or_default() {
            connection.random_order = Some(RandomState::new().hash_one(()));
        }
        let default = Keepalive::default();
        let user_timeout: Option<u64> = self.number("tcp_user_timeout")?;
        connection.keepalive = Keepalive {
            enabled: self.number::<i64>("keepalives")?.is_none_or(|number| number != 0),
            idle: self.seconds("keepalives_idle")?.or(default.idle),
            interval: self.seconds("keepalives_interval")?,
            count: self.number("keepalives_count")?.filter(|count| *count > 0),
            user_timeout: user_timeout.filter(|limit| *limit > 0).map(Duration::from_millis),
        };
        Ok(())
    }

    fn tls(&mut self, options: &mut PostgresOptions) -> SourceResult<()> {
        let mode = self.tls_mode()?;
        let roots = self.take("sslrootcert");
        options.set_tls(mode, roots)?;
        let uses = [("disable", false), ("allow", true)];
        let shows_certificate = self.choice("sslcertmode", &uses)?.unwrap_or(true);
        let files = [self.take("sslcert"), self.take("sslkey")];
        if shows_certificate {
            let [certificate, key] = files.map(|file| file.map(PathBuf::from));
            (options.tls_certificate_file, options.tls_key_file) = (certificate, key);
        }
        let connection = &mut options.connection;
        connection.tls_crl_file = self.take("sslcrl").map(PathBuf::from);
        connection.server_name =
            self.choice("sslsni", &[("0", false), ("1", true)])?.unwrap_or(true);
        let negotiations = [("postgres", false), ("direct", true)];
        connection.direct_tls = self.choice("sslnegotiation", &negotiations)?.unwrap_or_default();
        if connection.direct_tls && options.tls < TlsMode::Require {
            return Err(invalid("sslnegotiation=direct needs sslmode=require or stronger"));
        }
        connection.tls_versions = self.tls_versions()?;
        // Encryption by Kerberos is not supported; it is never demanded but by this value.
        let gss = [("disable", false), ("prefer", false), ("require", true)];
        if self.choice("gssencmode", &gss)?.unwrap_or_default() {
            return Err(invalid("gssencmode=require is not supported").with_hint("use sslmode"));
        }
        Ok(())
    }

    fn tls_mode(&mut self) -> SourceResult<Option<TlsMode>> {
        let modes = [
            ("disable", TlsMode::Disable),
            ("allow", TlsMode::Prefer),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("no-verify", TlsMode::Require),
            ("verify-ca", TlsMode::VerifyCa),
            ("verify-full", TlsMode::VerifyFull),
        ];
        self.choice("sslmode", &modes)
    }

    fn tls_versions(&mut self) -> SourceResult<TlsVersions> {
        let names = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let known: Vec<(&str, usize)> =
            names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        let least = self.choice("ssl_min_protocol_version", &known)?.unwrap_or(0);
        let most = self.choice("ssl_max_protocol_version", &known)?.unwrap_or(3);
        match (least, most) {
            (0..=2, 3) => Ok(TlsVersions::All),
            (0..=2, 2) => Ok(TlsVersions::Only12),
            (3, 3) => Ok(TlsVersions::Only13),
            _ => Err(invalid("ssl_max_protocol_version is too low")
                .with_hint("allow TLSv1.2, and no less than ssl_min_protocol_version")),
        }
    }

    /// The rest. Parameters of other libraries have no effect, and are named. A misspelt one, or one
    /// about TLS, might be meant to protect something: it is refused.
    fn of_other_libraries(self, options: &mut PostgresOptions, is_url: bool) -> SourceResult<()> {
        let mut rest: Vec<String> = self.0.into_keys().collect();
        rest.sort_unstable();
        for key in rest {
            if WITHOUT_EFFECT.contains(&&*key) {
                continue;
            }
            if UNSUPPORTED.contains(&&*key) || key.starts_with("oauth_") {
                return Err(invalid(format!("the parameter {key} is not supported")).with_hint(
                    "leave it out of the address, the service and the variables (PG…)",
                ));
            }
            let similarity = |known: &&&str| strsim::jaro_winkler(&key.to_lowercase(), known);
            let nearest = SUPPORTED.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
            let nearest = nearest.filter(|known| similarity(known) >= SIMILAR);
            if nearest.is_none() && is_url && !key.to_lowercase().starts_with("ssl") {
                options.connection.ignored.push(key);
                continue;
            }
            let error = invalid(format!("the address has the unknown parameter {key:?}"));
            return Err(error.with_hint(match nearest {
                Some(known) => format!("did you mean {known}?"),
                None => "use the parameters of libpq, such as sslmode and sslrootcert".to_owned(),
            }));
        }
        Ok(())
    }
}

/// Hosts by their names, their addresses, or both.
pub(super) fn hosts(
    names: Option<&str>,
    addresses: Option<&str>,
    ports: &str,
) -> SourceResult<Vec<Host>> {
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let addresses = addresses.map(list);
    let names = match (names, &addresses) {
        (Some(names), _) => list(names),
        (None, Some(addresses)) => addresses.clone(),
        (None, None) => vec![String::new()],
    };
    let count = names.len();
    if let Some(addresses) = addresses.as_ref().filter(|addresses| addresses.len() != count) {
        return Err(unequal(count, addresses.len(), "host address", "host addresses"));
    }
    let ports = ports
        .split(',')
        .map(|port| if port.is_empty() { Ok(5432) } else { port.parse::<u16>() })
        .collect::<Result<Vec<u16>, _>>()
        .map_err(|_| invalid("the address has a port that is not a number"))?;
    if ports.len() != 1 && ports.len() != count {
        return Err(unequal(count, ports.len(), "port", "ports"));
    }
    let mut hosts = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let address = addresses.as_ref().map(|all| all[at].as_str()).filter(|one| !one.is_empty());
        let address = address.map(|text| {
            text.parse().map_err(|_| invalid(format!("hostaddr {text:?} is no IP address")))
        });
        let name = match (name.is_empty(), &address) {
            (false, _) => name,
            (true, Some(Ok(address))) => std::net::IpAddr::to_string(address),
            (true, _) => "localhost".to_owned(),
        };
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        hosts.push(Host { name, address: address.transpose()?, port });
    }
    Ok(hosts)
}

fn unequal(hosts: usize, others: usize, one: &str, many: &str) -> backup_core::source::SourceError {
    invalid(format!(
        "the address has {} and {}",
        words::count(hosts as u64, "host", "hosts"),
        words::count(others as u64, one, many)
    ))
}

//! Values of parameters that an address leaves out: the environment variables, the service file and
//! the defaults of libpq. (PostgreSQL's documentation, chapter “libpq”, sections “Environment
//! Variables”, “The Connection Service File” and “The Password File”.)

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::error::invalid;
use super::address::Pairs;

/// Variables with their parameters; those of services are apart.
const VARIABLES: [(&str, &str); 32] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLSNI", "sslsni"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGGSSLIB", "gsslib"),
    ("PGGSSDELEGATION", "gssdelegation"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];
/// Directories of the service file of the system.
const SYSTEM: [&str; 2] = ["/etc/postgresql-common", "/etc"];
/// Longest file of services.
const LONGEST: u64 = 1 << 20;

/// The environment of a client.
#[derive(Clone, Default)]
pub struct ClientEnvironment {
    variables: HashMap<String, String>,
    /// The user who runs the program.
    user: Option<String>,
}

/// Variables may hold passwords.
impl fmt::Debug for ClientEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientEnvironment").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ClientEnvironment {
    /// The environment `variables` of a process whose user is called `user`.
    pub fn new(
        variables: impl IntoIterator<Item = (String, String)>,
        user: Option<String>,
    ) -> Self {
        let variables = variables.into_iter().collect();
        Self { variables, user }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.variable("HOME").map(|home| Path::new(home).join(name))
    }

    /// Values of all parameters: those of the address, then those of its service, those of the
    /// variables, and defaults.
    pub(super) fn complete(&self, given: Pairs) -> SourceResult<HashMap<String, String>> {
        let mut values: HashMap<String, String> = HashMap::new();
        for (key, value) in given {
            if value.is_empty() {
                values.remove(&key);
            } else {
                values.insert(key, value);
            }
        }
        if let Some(service) =
            values.remove("service").or_else(|| self.variable("PGSERVICE").map(str::to_owned))
        {
            let file = values.remove("servicefile").map(PathBuf::from);
            for (key, value) in self.service(&service, file)? {
                values.entry(key).or_insert(value);
            }
        }
        values.remove("servicefile");
        for (variable, key) in VARIABLES {
            if let Some(value) = self.variable(variable) {
                values.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        self.add_defaults(&mut values);
        Ok(values)
    }

    fn add_defaults(&self, values: &mut HashMap<String, String>) {
        if let Some(user) = &self.user {
            values.entry("user".to_owned()).or_insert_with(|| user.clone());
        }
        let files = [
            ("passfile", ".pgpass"),
            ("sslrootcert", ".postgresql/root.crt"),
            ("sslcrl", ".postgresql/root.crl"),
        ];
        // A list of revoked certificates belongs to its authority.
        let known = if values.contains_key("sslrootcert") { &files[..1] } else { &files[..] };
        for (key, name) in known {
            self.add_file(values, key, name);
        }
        if !values.contains_key("sslcert") && !values.contains_key("sslkey") {
            let pair = [
                ("sslcert", ".postgresql/postgresql.crt"),
                ("sslkey", ".postgresql/postgresql.key"),
            ];
            let exists = |name| self.in_home(name).is_some_and(|file| file.exists());
            if pair.iter().all(|(_, name)| exists(name)) {
                pair.iter().for_each(|(key, name)| self.add_file(values, key, name));
            }
        }
    }

    /// Adds a file in the home directory, if it exists.
    fn add_file(&self, values: &mut HashMap<String, String>, key: &str, name: &str) {
        let file = self.in_home(name).filter(|file| file.exists());
        if let Some(file) = file {
            values.entry(key.to_owned()).or_insert_with(|| file.to_string_lossy().into_owned());
        }
    }

    /// The parameters of a service.
    fn service(&self, name: &str, file: Option<PathBuf>) -> SourceResult<Pairs> {
        let own = file
            .or_else(|| self.variable("PGSERVICEFILE").map(PathBuf::from))
            .or_else(|| self.in_home(".pg_service.conf"));
        let of_system = match self.variable("PGSYSCONFDIR") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => SYSTEM.map(PathBuf::from).to_vec(),
        };
        let of_system = of_system.into_iter().map(|dir| dir.join("pg_service.conf"));
        for file in own.into_iter().chain(of_system) {
            if let Some(found) = in_service_file(&file, name)? {
                return Ok(found);
            }
        }
        Err(invalid(format!("the service {name:?} is in no service file"))
            .with_hint("add it to ~/.pg_service.conf, or name another file with PGSERVICEFILE"))
    }
}

/// The parameters below `[name]`; `None` if a file does not exist, or has no such service.
fn in_service_file(file: &Path, name: &str) -> SourceResult<Option<Pairs>> {
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|open| open.take(LONGEST).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let text = format!("cannot read the service file {}", file.display());
            return Err(SourceError::new(SourceErrorKind::Invalid, text).with_source(error));
        }
    }
    let mut found: Option<Pairs> = None;
    let lines = text.lines().map(str::trim).enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (section == name).then(Pairs::new);
        } else if let Some(found) = &mut found {
            let pair = line.split_once('=').filter(|(key, _)| *key != "service");
            let (key, value) = pair.ok_or_else(|| {
                invalid(format!("{}:{} is no parameter of a service", file.display(), at + 1))
            })?;
            found.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

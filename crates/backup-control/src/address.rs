//! Addresses: what of them may be shown, and those that must not be shown as they are.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// An address without what may be a password: whatever stands before the host, and behind a
/// question mark.
pub(crate) fn without_secrets(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return without_keywords(address);
    };
    let (before, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let (rest, behind) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
    format!("{scheme}://{before}{rest}{behind}")
}

/// The other way in which clients of PostgreSQL write addresses, `host=h password=p`, without the
/// passwords in it.
fn without_keywords(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, value)) = keyword(rest) {
        let length = match value.strip_prefix('\'') {
            // A quote behind a backslash does not end it.
            Some(quoted) => 1 + end_of(quoted, |c| c == '\'', 1),
            None => end_of(value, char::is_whitespace, 0),
        };
        shown.push_str(before);
        shown.push('…');
        rest = &value[length..];
    }
    shown + rest
}

/// Where a value ends, and the bytes of its end with it: behind a backslash, nothing ends it.
fn end_of(value: &str, is_end: impl Fn(char) -> bool, with: usize) -> usize {
    let mut chars = value.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            c if is_end(c) => return at + with,
            _ => {}
        }
    }
    value.len()
}

/// What stands before the value of the first password, and what begins with it.
fn keyword(text: &str) -> Option<(&str, &str)> {
    const KEYWORD: &str = "password";
    let lower = text.to_ascii_lowercase();
    lower.match_indices(KEYWORD).find_map(|(at, _)| {
        let behind = text[at + KEYWORD.len()..].trim_start().strip_prefix('=')?.trim_start();
        Some(text.split_at(text.len() - behind.len()))
    })
}

/// Whether a text is the other way of writing an address, with a password in it.
pub(crate) fn has_keywords(text: &str) -> bool {
    keyword(text).is_some()
}

/// An address without a password, and otherwise as somebody wrote it.
pub(crate) fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return without_keywords(address);
    };
    let (before, rest) = match rest.rsplit_once('@') {
        None => (String::new(), rest),
        Some((before, rest)) => match before.split_once(':') {
            Some((user, _)) => (format!("{user}:…@"), rest),
            None => (format!("{before}@"), rest),
        },
    };
    let is_secret = |query: &str| {
        let query = query.to_ascii_lowercase();
        ["pass", "secret", "token", "key", "cred", "properties"]
            .iter()
            .any(|word| query.contains(word))
    };
    match rest.split_once('?') {
        Some((rest, query)) if is_secret(query) => format!("{scheme}://{before}{rest}?…"),
        _ => format!("{scheme}://{before}{rest}"),
    }
}

/// Whether a text is an address that holds a password.
pub(crate) fn has_password(text: &str) -> bool {
    let before = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    before.is_some_and(|(before, _)| before.contains(':'))
}

/// Whether an address leads to what each machine has of its own: a socket or a port of the machine
/// itself, or a name without a domain, which each network gives to another server.
pub(crate) fn is_of_machine(address: &str) -> bool {
    let named = ServerAddress::new(address).postgres_hosts();
    if !named.is_empty() {
        return named.iter().all(|name| is_name_of_machine(name));
    }
    let Some((scheme, rest)) = address.split_once("://") else { return true };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    let is_own = |host: &str| {
        is_name_of_machine(match host.strip_prefix('[') {
            Some(inner) => inner.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        })
    };
    scheme == "unix" || hosts.split(',').all(is_own)
}

/// The same of the name of a host, its address, or a directory of sockets.
fn is_name_of_machine(name: &str) -> bool {
    let is_loopback = || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    // Escaped, a path begins with `%`.
    name.is_empty() || name.starts_with(['%', '/']) || is_loopback() || !name.contains(['.', ':'])
}

/// The scheme of an address, in small letters; none for a path.
pub(crate) fn scheme(address: &str) -> Option<String> {
    let (scheme, _) = address.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !scheme.contains('/');
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

/// An address of a server that may hold credentials. Shown, stored and logged, it has none; only
/// [`Self::reveal`] gives all of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerAddress(String);

impl ServerAddress {
    /// An address as somebody wrote it.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// All of it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it leads to a MongoDB server.
    #[must_use]
    pub fn is_mongodb(&self) -> bool {
        matches!(scheme(&self.0).as_deref(), Some("mongodb" | "mongodb+srv"))
    }

    /// The database that an address of MongoDB names. Nothing for databases of the server itself:
    /// `admin` and `$external` are for users.
    #[must_use]
    pub fn mongodb_database(&self) -> Option<String> {
        self.mongodb_path().filter(|name| !is_of_server(name))
    }

    /// The database of the server itself that an address of MongoDB names: it selects nothing.
    #[must_use]
    pub fn ignored_mongodb_database(&self) -> Option<String> {
        self.mongodb_path().filter(|name| is_of_server(name))
    }

    /// The decoded path of an address of MongoDB.
    fn mongodb_path(&self) -> Option<String> {
        if !self.is_mongodb() {
            return None;
        }
        let (_, rest) = self.0.split_once("://")?;
        let rest = rest.split('?').next()?;
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (_, path) = rest.split_once('/')?;
        // A path is no form: `+` and `&` stand for themselves.
        let form = format!("={}", path.replace('+', "%2B").replace('&', "%26"));
        let (_, name) = url::form_urlencoded::parse(form.as_bytes()).next()?;
        (!name.is_empty()).then(|| name.into_owned())
    }

    /// Returns `true` if it leads to a PostgreSQL cluster: a URL, also with the name of a driver as
    /// in `postgresql+psycopg://`, or `host=… user=…`.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        match scheme(&self.0) {
            Some(scheme) => {
                let scheme = scheme.split('+').next().unwrap_or_default();
                matches!(scheme, "postgres" | "postgresql")
            }
            None => begins_with_keyword(&self.0),
        }
    }

    /// The names of the hosts of a PostgreSQL cluster; none if the address is invalid, or another
    /// one.
    pub(crate) fn postgres_hosts(&self) -> Vec<String> {
        if self.is_postgres() { crate::sources::postgres_hosts(&self.0) } else { Vec::new() }
    }

    /// Returns true for an address of sentinels of Redis or Valkey.
    #[must_use]
    pub(crate) fn has_sentinels(&self) -> bool {
        self.is_redis() && scheme(&self.0).is_some_and(|scheme| scheme.ends_with("+sentinel"))
    }

    /// Whether it leads to a server of Redis or Valkey, perhaps by a socket of this machine.
    #[must_use]
    pub fn is_redis(&self) -> bool {
        let Some(scheme) = scheme(&self.0) else { return false };
        let scheme = scheme.strip_suffix("+sentinel").unwrap_or(&scheme);
        matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys" | "unix")
    }
}

/// Returns `true` for a text that begins with a parameter of libpq.
fn begins_with_keyword(text: &str) -> bool {
    const KEYWORDS: [&str; 10] = [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "target_session_attrs",
    ];
    text.split_once('=').is_some_and(|(key, _)| KEYWORDS.contains(&key.trim()))
}

fn is_of_server(database: &str) -> bool {
    matches!(database, "admin" | "config" | "local" | "$external")
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.0))
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_among_keywords_are_left_out() {
        for (typed, shown) in [
            ("host=db password=hush user=me", "host=db password=… user=me"),
            ("PASSWORD = 'hu\\'sh it' host=db", "PASSWORD = … host=db"),
            ("password='hush", "password=…"),
            ("password=hush\\ hush host=db", "password=… host=db"),
            ("password='hush\\\\' host=db", "password=… host=db"),
            ("/data/password", "/data/password"),
            ("sslpassword=a password=b", "sslpassword=… password=…"),
        ] {
            assert_eq!(without_secrets(typed), shown);
        }
        assert!(has_keywords("password=x") && !has_keywords("/data/password"));
    }

    #[test]
    fn no_secret_of_an_address_is_shown() {
        for address in [
            "mongodb://me:hush@host:27017/shop?replicaSet=rs",
            "mongodb://me:hu@sh@host,other/",
            "mongodb+srv://me:hu/sh?@host/?authMechanismProperties=AWS_SESSION_TOKEN:hush",
            "mongodb://host/?proxyPassword=hush",
            "postgresql://me:hu@sh@host,other:5433/shop?password=hush",
            "rediss://me:hu@sh@host:7000",
            "unix://:hush@/run/host.sock",
        ] {
            let shown = ServerAddress::new(address);
            let json = serde_json::to_string(&shown).unwrap();
            let shown = format!("{shown} {shown:?} {json}");
            assert!(!shown.contains("hu") && !shown.contains("sh@"), "{shown}");
            assert!(shown.contains("host"), "{shown}");
        }
    }

    #[test]
    fn what_each_machine_has_of_its_own() {
        for own in [
            "/data",
            "unix:///run/x",
            "redis://localhost:1/",
            "postgres://me:p@127.0.0.1:1,[::1]:2/x",
            "mongodb://%2Frun%2Fx/",
            "redis://redis:6379/0",
            "host=/run/postgresql user=me",
            "postgres:///shop?host=db",
        ] {
            assert!(is_of_machine(own), "{own}");
        }
        for shared in [
            "redis://db1.example",
            "postgres://…@127.0.0.1,db1.example/x?…",
            "s3://localhost.example/x",
            "mongodb://[2001:db8::1]/",
            "user=me host=db1.example password=p",
            "postgresql+psycopg://me:p@db1.example/shop?pool=5",
            "postgres:///shop?host=db1.example",
        ] {
            assert!(!is_of_machine(shared), "{shared}");
        }
    }

    #[test]
    fn databases_of_mongodb_addresses() {
        for (address, named, ignored) in [
            ("mongodb://h", None, None),
            ("mongodb://h/", None, None),
            ("mongodb://h/?replicaSet=rs", None, None),
            ("mongodb://h/shop", Some("shop"), None),
            ("mongodb://me:p@h:1,i:2/shop?x=a@b/c", Some("shop"), None),
            ("mongodb+srv://me:p%2F@h/sh%20op+%C3%A9&?x", Some("sh op+é&"), None),
            ("mongodb://me@h/admin", None, Some("admin")),
            ("mongodb://me@h/%24external?authMechanism=MONGODB-X509", None, Some("$external")),
            ("postgres://h/shop", None, None),
        ] {
            let address = ServerAddress::new(address);
            assert_eq!(address.mongodb_database().as_deref(), named, "{address}");
            assert_eq!(address.ignored_mongodb_database().as_deref(), ignored, "{address}");
        }
    }

    #[test]
    fn schemes() {
        assert_eq!(scheme("MongoDB://h").as_deref(), Some("mongodb"));
        for path in ["/a/b", "./mongodb://x", "a", "://x", "1a://x"] {
            assert_eq!(scheme(path), None, "{path}");
        }
        assert!(ServerAddress::new("mongodb+srv://h").is_mongodb());
        assert!(!ServerAddress::new("postgres://h").is_mongodb());
        assert!(
            ServerAddress::new("Postgresql://h").is_postgres()
                && ServerAddress::new("postgres://h").is_postgres()
        );
        assert!(!ServerAddress::new("mongodb://h").is_postgres());
        for address in [
            "redis://h",
            "REDISS://h",
            "valkey://h",
            "redis+sentinel://h/g",
            "valkeys://h",
            "unix:///run/x.sock",
        ] {
            assert!(ServerAddress::new(address).is_redis(), "{address}");
        }
        assert!(
            !ServerAddress::new("postgres://h").is_redis()
                && !ServerAddress::new("./redis").is_redis()
        );
    }
}

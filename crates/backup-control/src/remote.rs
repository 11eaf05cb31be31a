//! Where a daemon answers that is driven from elsewhere.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use url::{Host, Url};

use crate::error::Error;

/// The variable that names the daemon to ask.
pub const SERVER_VARIABLE: &str = "BACKUP_SERVER";
/// The one that holds the token for it,
pub const TOKEN_VARIABLE: &str = "BACKUP_TOKEN";
/// and the one that names the file with the token.
pub const TOKEN_FILE_VARIABLE: &str = "BACKUP_TOKEN_FILE";
/// All of them. What a daemon begins must be done by itself, and needs no token.
pub const VARIABLES: [&str; 3] = [SERVER_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE];

/// What addresses look like.
const HINT: &str =
    "write https://HOST:PORT, or unix:///PATH of its socket; http:// only for this machine";

/// The address of a daemon. It holds no secret: tokens are given otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket of this machine.
    Socket(PathBuf),
    /// A server.
    Web(Url),
}

impl Address {
    /// Understands an address.
    ///
    /// # Errors
    /// If it is none, holds a secret, or would send tokens through a network where they can be
    /// read.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Err(Error::invalid(format!("the address of the server {why}")).with_hint(HINT))
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match PathBuf::from(path) {
                path if path.is_absolute() => Ok(Self::Socket(path)),
                _ => wrong("must name the absolute path of a socket"),
            };
        }
        let Ok(url) = Url::parse(text) else { return wrong("is not a URL") };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid(
                "the address of the server must not hold a user or a password",
            )
            .with_hint("give the token in BACKUP_TOKEN, or in a file with --token-file"));
        }
        if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
            return wrong("must have only a host and a port");
        }
        match (url.scheme(), url.host()) {
            ("https", Some(_)) => Ok(Self::Web(url)),
            ("http", Some(host)) if is_this_machine(&host) => Ok(Self::Web(url)),
            ("http", Some(_)) => wrong("is without TLS: the token could be intercepted"),
            _ => wrong("must begin with https:// or unix://"),
        }
    }

    /// Whether it is on this machine: no proxy is asked then.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Web(url) => url.host().is_some_and(|host| is_this_machine(&host)),
        }
    }
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(ip) => IpAddr::from(*ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::from(*ip).is_loopback(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Web(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "unix:///run/backupd.sock",
            "https://backup1:8321",
            "http://127.0.0.1:8321",
            "http://[::1]:1",
            "http://localhost:2",
        ] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "backup1",
            "backup1:8321",
            "unix://backupd.sock",
            "http://backup1:8321",
            "http://10.0.0.1",
            "ftp://backup1",
            "https://me:hush@backup1/",
            "https://hush@backup1/",
            "https://backup1/api?token=hush",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(
                error.hint().is_some() && !error.to_string().contains("hush"),
                "{bad}: {error}"
            );
        }
        assert!(Address::parse("https://localhost").unwrap().is_this_machine());
        assert!(!Address::parse("https://backup1").unwrap().is_this_machine());
    }
}

//! The keys of `[api]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::Mistake;
use crate::units::Time;

/// How many requests a second may be allowed.
const RATES: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Repositories are looked into no more often.
const SHORTEST_LOOK: std::time::Duration = std::time::Duration::from_secs(60);

/// `[api]`: endpoints and limits of the API of `backupd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Unix socket for this user and root, with the role *admin*. Default: `backupd.sock` in the
    /// state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Additional address and port, for instance `127.0.0.1:8321`. Requests require a token; other
    /// machines also require TLS. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// File with the certificate of this server and its intermediate certificates (PEM). A changed
    /// file is used without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// File with the key of the certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Token file of `backupd token create`. Default: `tokens.json` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
    /// Names of this daemon that a request may have as `Host`, for instance `backup1.example.com`.
    /// Addresses and `localhost` are always accepted. Requests over TCP with another `Host` are
    /// refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Directories below which tokens with the role *operator* may restore. Default: none, and only
    /// admins restore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restore_roots: Vec<PathBuf>,
    /// Maximum number of requests per second of each token, and of each user of the socket.
    /// Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Interval of reading the repositories for metrics: their sizes, and the latest restorable
    /// moments of logs. Default: `15min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_every: Option<Time>,
}

impl ApiConfig {
    /// Its paths, for making them absolute.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.socket, &mut self.tls_cert, &mut self.tls_key, &mut self.tokens_file]
            .into_iter()
            .flatten()
            .chain(&mut self.restore_roots)
    }

    /// The first mistake.
    pub(super) fn mistake(&self) -> Option<Mistake> {
        let mistake = |key: &str, message: &str, hint: &str| {
            Some(Mistake::new(["api", key, ""], message).hint(Some(hint.to_owned())))
        };
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let (given, missing) = if self.tls_cert.is_some() {
                ("tls_cert", "tls_key")
            } else {
                ("tls_key", "tls_cert")
            };
            return mistake(given, &format!("`{given}` requires `{missing}`"), "set both for TLS");
        }
        let is_name = |name: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            !name.is_empty() && name.chars().all(fits) && !name.ends_with('.')
        };
        if let Some(host) = self.hosts.iter().find(|host| !is_name(host)) {
            let hint = "write only the name, without a scheme and port; addresses need no entry";
            return mistake("hosts", &format!("{host:?} is not a host name"), hint);
        }
        if self.restore_roots.iter().any(|root| root.parent().is_none()) {
            let hint = "name a directory that holds nothing but restored data";
            return mistake("restore_roots", "operators could restore everywhere", hint);
        }
        if let Some(rate) = self.rate
            && !RATES.contains(&rate)
        {
            let hint = format!("choose a rate from {} to {}", RATES.start(), RATES.end());
            return mistake(
                "rate",
                &format!("a rate of {rate} requests per second is out of range"),
                &hint,
            );
        }
        if self.look_every.as_ref().is_some_and(|every| every.length() < SHORTEST_LOOK) {
            return mistake("look_every", "`look_every` is too short", "choose 1min or more");
        }
        match self.listen {
            Some(address) if !address.ip().is_loopback() && self.tls_cert.is_none() => mistake(
                "listen",
                &format!(
                    "{address} is reachable from other machines; without TLS, tokens could be \
                     intercepted"
                ),
                "add `tls_cert` and `tls_key`, or listen on 127.0.0.1 only",
            ),
            None if self.tls_cert.is_some() => mistake(
                "tls_cert",
                "`tls_cert` requires `listen`",
                "set `listen`, or leave the certificate out: the Unix socket needs no TLS",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    #[test]
    fn only_tls_leads_beyond_this_machine() {
        let read = |text: &str| {
            parse(
                &format!("[api]\n{text}"),
                Path::new("/etc/backup/backup.toml"),
                &Default::default(),
            )
            .map(|config| config.api)
            .map_err(|error| format!("{error}; {}", error.hint.clone().unwrap_or_default()))
        };
        let api =
            read("listen = \"0.0.0.0:8321\"\ntls_cert = \"cert.pem\"\ntls_key = \"/key.pem\"")
                .unwrap();
        assert_eq!(api.tls_cert.as_deref(), Some(Path::new("/etc/backup/cert.pem")));
        assert_eq!(api.tls_key.as_deref(), Some(Path::new("/key.pem")));
        assert!(read("listen = \"[::1]:8321\"\nlook_every = \"1h\"").is_ok());
        let api =
            read("hosts = [\"backup1.example.com\"]\nrestore_roots = [\"restored\"]").unwrap();
        assert_eq!(api.restore_roots, [Path::new("/etc/backup/restored")]);
        let wrong = [
            "listen = \"0.0.0.0:8321\"",
            "listen = \"somewhere\"",
            "listen = \"127.0.0.1:1\"\ntls_cert = \"c\"",
            "tls_cert = \"c\"\ntls_key = \"k\"",
            "rate = 0",
            "hosts = [\"https://backup1\"]",
            "hosts = [\"[::1]\"]",
            "restore_roots = [\"/srv/restore\", \"/\"]",
            "look_every = \"1s\"",
        ];
        let mistakes: Vec<String> = wrong.iter().map(|text| read(text).unwrap_err()).collect();
        insta::assert_snapshot!(mistakes.join("\n"));
    }
}

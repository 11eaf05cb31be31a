//! Settings of connections that few addresses have, by their names in libpq.

use std::path::PathBuf;
use std::time::Duration;

use backup_core::source::SourceResult;

use super::super::error::invalid;

/// Role of the servers that are meant (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerRole {
    /// Any server.
    #[default]
    Any,
    /// A primary whose transactions may write by default.
    ReadWrite,
    /// The opposite of [`Self::ReadWrite`].
    ReadOnly,
    /// A server that is not in recovery.
    Primary,
    /// A server in recovery.
    Standby,
    /// A standby if one of the hosts is one, or else any server.
    PreferStandby,
}

impl ServerRole {
    /// All values with their names.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("any", Self::Any),
        ("read-write", Self::ReadWrite),
        ("read-only", Self::ReadOnly),
        ("primary", Self::Primary),
        ("standby", Self::Standby),
        ("prefer-standby", Self::PreferStandby),
    ];

    /// The value as it is written.
    pub(in super::super) fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, one)| *one == self).map_or("any", |(name, _)| name)
    }

    /// The demands of each round through the hosts.
    pub(in super::super) fn rounds(self) -> &'static [Self] {
        match self {
            Self::Any => &[Self::Any],
            Self::ReadWrite => &[Self::ReadWrite],
            Self::ReadOnly => &[Self::ReadOnly],
            Self::Primary => &[Self::Primary],
            Self::Standby => &[Self::Standby],
            Self::PreferStandby => &[Self::Standby, Self::Any],
        }
    }

    /// The demand on one host, independent of the others.
    pub(in super::super) fn of_one(self) -> Self {
        if self == Self::PreferStandby { Self::Any } else { self }
    }

    /// Returns `true` for a server of the wanted role. `is_read_only`: its transactions may not write
    /// by default.
    pub(in super::super) fn takes(self, is_standby: bool, is_read_only: bool) -> bool {
        match self {
            Self::Any | Self::PreferStandby => true,
            Self::ReadWrite => !is_standby && !is_read_only,
            Self::ReadOnly => is_standby || is_read_only,
            Self::Primary => !is_standby,
            Self::Standby => is_standby,
        }
    }
}

/// Probes of a connection that is silent. `None`: the default of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// `false`: no probes.
    pub enabled: bool,
    /// Silence before the first one.
    pub idle: Option<Duration>,
    /// Time between two of them.
    pub interval: Option<Duration>,
    /// Lost probes that end the connection.
    pub count: Option<u32>,
    /// Longest that sent data may wait for the confirmation of their arrival.
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    fn default() -> Self {
        let idle = Some(Duration::from_secs(30));
        Self { enabled: true, idle, interval: None, count: None, user_timeout: None }
    }
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Method {
    /// Without any proof, or by the client certificate.
    None,
    Password,
    Md5,
    Scram,
}

impl Method {
    const ALL: [(&'static str, Self); 4] = [
        ("none", Self::None),
        ("password", Self::Password),
        ("md5", Self::Md5),
        ("scram-sha-256", Self::Scram),
    ];
    /// Methods of libpq that are not supported here: a server that demands one is refused anyway.
    const OTHERS: [&'static str; 3] = ["gss", "sspi", "oauth"];

    /// As it is written.
    pub(in super::super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, one)| *one == self).map_or("none", |(name, _)| name)
    }
}

/// The ways to log in that a server may demand (`require_auth`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Methods {
    /// `None`: all of them.
    allowed: Option<Vec<Method>>,
    /// As the address has it.
    text: String,
}

impl Methods {
    /// Of `scram-sha-256,md5` or `!password,!none`.
    pub(in super::super) fn parse(text: &str) -> SourceResult<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_negated = parts.iter().all(|part| part.starts_with('!'));
        let mut named = Vec::new();
        for part in &parts {
            if part.starts_with('!') != is_negated {
                let text = "require_auth mixes methods that are required with others that are not";
                return Err(invalid(text).with_hint("write either all of them with ! or none"));
            }
            let name = part.trim_start_matches('!');
            match Method::ALL.into_iter().find(|(known, _)| *known == name) {
                Some((_, method)) => named.push(method),
                None if Method::OTHERS.contains(&name) => {}
                None => {
                    let known = "none, password, md5, scram-sha-256, gss, sspi or oauth";
                    return Err(invalid(format!("require_auth {name:?} is unknown"))
                        .with_hint(format!("use {known}")));
                }
            }
        }
        let all = Method::ALL.into_iter().map(|(_, method)| method);
        let allowed = all.filter(|method| named.contains(method) != is_negated).collect();
        Ok(Self { allowed: Some(allowed), text: text.to_owned() })
    }

    /// The value of `require_auth`, if the address has one.
    pub(in super::super) fn text(&self) -> Option<&str> {
        self.allowed.as_ref().map(|_| &*self.text)
    }

    pub(in super::super) fn allows(&self, method: Method) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&method))
    }
}

/// Versions of TLS that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// 1.2 only.
    Only12,
    /// 1.3 only.
    Only13,
}

/// Settings of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Longest that one host is waited for.
    pub connect_timeout: Option<Duration>,
    /// Name of the session, as the server shows it.
    pub application_name: String,
    /// Arguments of the server's process for the session, such as `-c statement_timeout=0`.
    pub server_options: Option<String>,
    /// Role of the hosts that are meant.
    pub role: ServerRole,
    /// Try the hosts in an order that this number gives.
    pub random_order: Option<u64>,
    /// Probes of silent connections.
    pub keepalive: Keepalive,
    /// Begin with TLS instead of a request for it (`sslnegotiation=direct`, from PostgreSQL 17).
    pub direct_tls: bool,
    /// Send the name of the host in the TLS handshake.
    pub server_name: bool,
    /// Versions of TLS.
    pub tls_versions: TlsVersions,
    /// Certificates (PEM) that were revoked.
    pub tls_crl_file: Option<PathBuf>,
    /// Never bind SCRAM to the TLS connection (`channel_binding=disable`).
    pub no_channel_binding: bool,
    /// Ways to log in.
    pub methods: Methods,
    /// Parameters of the address that are those of other libraries, and have no effect.
    pub ignored: Vec<String>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            connect_timeout: None,
            application_name: "backup".to_owned(),
            server_options: None,
            role: ServerRole::default(),
            random_order: None,
            keepalive: Keepalive::default(),
            direct_tls: false,
            server_name: true,
            tls_versions: TlsVersions::default(),
            tls_crl_file: None,
            no_channel_binding: false,
            methods: Methods::default(),
            ignored: Vec::new(),
        }
    }
}

//! From the server's errors to ours. Messages of servers are repeated; addresses and passwords
//! never are.

use std::fmt;

use backup_core::source::{MissingPassword, SourceError, SourceErrorKind};

/// Rights that a snapshot and following the log need, as the administrator grants them.
pub(super) const GRANT: &str = "ACL SETUSER backup on >PASSWORD +psync +replconf +ping +info \
                                +acl|whoami +acl|dryrun";

/// Rights that reading key by key needs, where a snapshot by replication is refused.
pub(super) const GRANT_SCAN: &str = "ACL SETUSER backup on >PASSWORD ~* +ping +info +time +select \
                                     +scan +dump +pexpiretime +pttl +function|dump";

/// Rights that finding the nodes of a cluster needs, beside the others.
pub(super) const GRANT_CLUSTER: &str =
    "ACL SETUSER backup +cluster|nodes; for Valkey from 9 on also +cluster|getslotmigrations";

/// Rights that a sentinel has to grant.
pub(super) const GRANT_SENTINEL: &str = "ACL SETUSER backup on >PASSWORD +sentinel";

/// Rights that restoring key by key needs.
pub(super) const GRANT_RESTORE: &str = "ACL SETUSER restore on >PASSWORD ~* +info +time \
                                        +config|get +select +dbsize +restore +dump +exists \
                                        +pexpiretime +pttl +hpexpireat +flushall +flushdb \
                                        +function|restore +function|flush";

/// Rights that restoring as a replica needs; the last three only to compare.
pub(super) const GRANT_REPLICA: &str = "ACL SETUSER restore on >PASSWORD +replicaof +info +select \
                                        +config|get +function|list +time +psync +replconf";

/// A request or a connection to a server failed.
#[derive(Debug)]
pub(super) enum WireError {
    /// The way to it failed.
    Io(std::io::Error),
    /// It refuses: what it says.
    Server(String),
    /// Ours already.
    Source(SourceError),
}

impl WireError {
    /// Whether the user lacks the right.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Server(text) if text.starts_with("NOPERM"))
    }

    /// The same as [`Self::into_source`], with these rights as the remedy for missing ones.
    pub(super) fn into_source_granting(
        self,
        doing: impl fmt::Display,
        rights: &str,
    ) -> SourceError {
        let is_denied = self.is_denied();
        let error = self.into_source(doing);
        if is_denied { error.with_hint(rights) } else { error }
    }

    /// Our error for it. Never of a kind that leaves out one file and goes on.
    pub(super) fn into_source(self, doing: impl fmt::Display) -> SourceError {
        match self {
            Self::Io(error) => SourceError::new(
                SourceErrorKind::Unavailable,
                format!("{doing}: the connection failed"),
            )
            .with_source(error),
            Self::Source(error) => error.context(doing),
            Self::Server(text) => {
                let (kind, hint) = explain(&text);
                let error = SourceError::new(kind, format!("{doing}: server error: {text}"));
                let error = if text.starts_with("NOAUTH") {
                    error.with_source(MissingPassword)
                } else {
                    error
                };
                if let Some(hint) = hint { error.with_hint(hint) } else { error }
            }
        }
    }
}

fn explain(text: &str) -> (SourceErrorKind, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match text.split(' ').next().unwrap_or_default() {
        "NOAUTH" => {
            (SourceErrorKind::Invalid, hint("give user and password: redis://USER:PASSWORD@HOST/"))
        }
        "WRONGPASS" => (SourceErrorKind::Invalid, hint("check user and password")),
        "NOPERM" => (SourceErrorKind::Invalid, Some(GRANT.to_owned())),
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOMASTERLINK" => {
            (SourceErrorKind::Unavailable, hint("try again in a moment"))
        }
        "READONLY" => (SourceErrorKind::Target, hint("name the master: this server is a replica")),
        "OOM" => (SourceErrorKind::Target, hint("raise maxmemory of the target")),
        "MOVED" | "ASK" => {
            (SourceErrorKind::Target, hint("check the address: this server is a node of a cluster"))
        }
        _ if text.contains("max number of clients") => (SourceErrorKind::Unavailable, None),
        _ => (SourceErrorKind::Invalid, None),
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Server(text) => f.write_str(text),
            Self::Source(error) => error.fmt(f),
        }
    }
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<redis::ServerError> for WireError {
    /// The message as the server has sent it: code, then text.
    fn from(error: redis::ServerError) -> Self {
        Self::Server(match error.details() {
            Some(text) => format!("{} {text}", error.code()),
            None => error.code().to_owned(),
        })
    }
}

impl From<SourceError> for WireError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// A request that makes no sense.
pub(super) fn invalid(what: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, what)
}

/// Something that a server or a snapshot says and that cannot be understood.
pub(super) fn malformed(what: impl fmt::Display) -> SourceError {
    invalid(format!("invalid {what}"))
}

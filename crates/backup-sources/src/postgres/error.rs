//! From the server's errors to ours. Messages of servers are repeated; addresses and passwords
//! never are.

use std::fmt;

use backup_core::source::{SourceError, SourceErrorKind};

use super::identifier::readable;
use super::wire::MethodRefused;
use crate::waits::Stalled;

/// SQLSTATE codes, from PostgreSQL's `errcodes.txt`.
pub(super) mod code {
    pub(in super::super) const INVALID_PASSWORD: &str = "28P01";
    pub(in super::super) const INVALID_AUTHORIZATION: &str = "28000";
    pub(in super::super) const DENIED: &str = "42501";
    pub(in super::super) const NOT_SUPPORTED: &str = "0A000";
    pub(in super::super) const UNDEFINED_FILE: &str = "58P01";
    pub(in super::super) const DUPLICATE_OBJECT: &str = "42710";
    pub(in super::super) const NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub(in super::super) const CONFIGURATION_LIMIT: &str = "53400";
    pub(in super::super) const DATA_CORRUPTED: &str = "XX001";
    pub(in super::super) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(in super::super) const CONNECTION_FAILURE: &str = "08006";
    pub(in super::super) const PROTOCOL_VIOLATION: &str = "08P01";
}

/// What a server answers instead of a result, or remarks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServerError {
    /// SQLSTATE.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    /// The function of the server that reports it. Unlike the message it is the same in all
    /// languages.
    pub(super) routine: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code == code::CONNECTION_FAILURE {
            return f.write_str(&self.message);
        }
        // Messages about data (class 22) quote it, and details about constraints (class 23) are of
        // rows. A value that a setting or an option does not take is none.
        let is_about = |class: &str| self.code.starts_with(class);
        let message = match is_about("22") && self.code != "22023" {
            true => &without_quoted(&self.message),
            false => &self.message,
        };
        write!(f, "{message} (SQLSTATE {})", self.code)?;
        let detail = self.detail.as_ref().filter(|_| !is_about("22") && !is_about("23"));
        detail.map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

/// A text with `"…"` in place of everything in double quotes.
fn without_quoted(text: &str) -> String {
    let parts = text.split('"').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part } else { "\"…\"" }).collect()
}

impl std::error::Error for ServerError {}

/// The right that backups and the log need.
const REPLICATION: &str = "ALTER ROLE … REPLICATION for the user in the address";
/// The role of an example, where an error names none.
const ROLE: &str = "backup";

impl ServerError {
    /// Steps of an administrator that give access to the role that the error names.
    fn access(&self) -> String {
        let role = self.named("user").or_else(|| self.named("role"));
        let role = role.map_or_else(|| ROLE.to_owned(), readable);
        let database = self.named("database").map_or_else(|| "replication".to_owned(), readable);
        if self.message.contains("not permitted to log in") {
            return format!("ALTER ROLE {role} LOGIN");
        }
        let is_plain =
            ["no encryption", "SSL off"].iter().any(|words| self.message.contains(words));
        let host = if is_plain { "host" } else { "hostssl" };
        let rule = format!(
            "in pg_hba.conf: {host} {database} {role} ADDRESS scram-sha-256, then SELECT \
             pg_reload_conf();"
        );
        if self.message.contains("pg_hba.conf") {
            let is_replication = database == "replication";
            return if is_replication {
                format!("{rule} The role needs REPLICATION")
            } else {
                rule
            };
        }
        format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…'; and {rule}")
    }

    /// The quoted name behind a word of the message. `None` also in other languages.
    fn named(&self, word: &str) -> Option<&str> {
        let (_, rest) = self.message.split_once(&format!("{word} \""))?;
        let (name, _) = rest.split_once('"')?;
        Some(name)
    }

    /// The server's error in one of the SQL driver's.
    pub(super) fn of_sql(error: &tokio_postgres::Error) -> Option<Self> {
        let db = error.as_db_error()?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Self {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: owned(db.detail()),
            hint: owned(db.hint()),
            routine: owned(db.routine()),
        })
    }

    /// Our error for it.
    pub(super) fn into_source(self, doing: impl fmt::Display) -> SourceError {
        let class = self.code.get(..2).unwrap_or_default();
        let (kind, hint) = match &*self.code {
            code::INVALID_PASSWORD => {
                (SourceErrorKind::Invalid, Some("check user and password".to_owned()))
            }
            code::INVALID_AUTHORIZATION => (SourceErrorKind::Invalid, Some(self.access())),
            code::DENIED => {
                let own = self.hint.clone();
                (SourceErrorKind::Invalid, own.or_else(|| Some(REPLICATION.to_owned())))
            }
            code::TOO_MANY_CONNECTIONS => (
                SourceErrorKind::Unavailable,
                Some(
                    "raise max_wal_senders (and max_connections), or close other connections"
                        .to_owned(),
                ),
            ),
            code::CONFIGURATION_LIMIT => (
                SourceErrorKind::Unavailable,
                Some("raise max_replication_slots, or drop a slot".to_owned()),
            ),
            // Servers do not send it: a stalled connection ends with it (wire/watch.rs).
            code::CONNECTION_FAILURE => {
                (SourceErrorKind::Unavailable, Some(Stalled::hint().to_owned()))
            }
            _ if matches!(class, "08" | "53" | "55" | "57" | "58" | "XX") => {
                (SourceErrorKind::Unavailable, self.hint.clone())
            }
            _ => (SourceErrorKind::Invalid, self.hint.clone()),
        };
        let error = SourceError::new(kind, format!("{doing}: {self}"));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Something went wrong while talking to a server.
#[derive(Debug)]
pub(super) enum WireError {
    /// The way to it failed.
    Io(std::io::Error),
    /// It refuses.
    Server(ServerError),
    /// Ours already.
    Source(SourceError),
}

impl WireError {
    /// The SQLSTATE, if the server said one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// Our error for it.
    pub(super) fn into_source(self, doing: impl fmt::Display) -> SourceError {
        match self {
            Self::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Stalled>()) => {
                SourceError::new(SourceErrorKind::Unavailable, format!("{doing}: {error}"))
                    .with_hint(Stalled::hint())
            }
            Self::Io(error) if is_refused(&error) => {
                invalid(format!("{doing}: {error}")).with_hint(MethodRefused::HINT)
            }
            // Not of kind Io: that would leave one file out and go on.
            Self::Io(error) => SourceError::new(
                SourceErrorKind::Unavailable,
                format!("{doing}: the connection failed"),
            )
            .with_source(error),
            Self::Server(error) => error.into_source(doing),
            Self::Source(error) => error.context(doing),
        }
    }
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<SourceError> for WireError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Returns `true` if a login ended because of its method.
fn is_refused(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<MethodRefused>())
}

/// Something that a server or a snapshot says and that cannot be understood.
pub(super) fn malformed(what: impl fmt::Display) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, format!("invalid {what}"))
}

/// A request that makes no sense.
pub(super) fn invalid(what: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, what)
}

/// Our error for one of the SQL driver's.
pub(super) fn of_sql(error: &tokio_postgres::Error, doing: impl fmt::Display) -> SourceError {
    if let Some(server) = ServerError::of_sql(error) {
        return server.into_source(doing);
    }
    let source = std::error::Error::source(error);
    let of_login = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    if let Some(error) = of_login.filter(|error| is_refused(error)) {
        return invalid(format!("{doing}: {error}")).with_hint(MethodRefused::HINT);
    }
    let cause = source.map(|cause| format!(": {cause}")).unwrap_or_default();
    SourceError::new(SourceErrorKind::Unavailable, format!("{doing}: {error}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_role_and_the_database_of_the_error() {
        let hint = |message: &str| {
            let error = ServerError {
                code: code::INVALID_AUTHORIZATION.to_owned(),
                message: message.to_owned(),
                ..ServerError::default()
            };
            error.into_source("x").hint().unwrap_or_default().to_owned()
        };
        let rule =
            "no pg_hba.conf entry for host \"10.0.0.1\", user \"Ann\", database \"shop\", SSL";
        assert!(hint(rule).starts_with("in pg_hba.conf: hostssl shop \"Ann\" ADDRESS"));
        let rule = "no pg_hba.conf entry for replication connection from host \"::1\", user \"bk\"";
        assert!(hint(rule).starts_with("in pg_hba.conf: hostssl replication bk ADDRESS"));
        let plain =
            "no pg_hba.conf entry for host \"::1\", user \"bk\", database \"x\", no encryption";
        assert!(hint(plain).starts_with("in pg_hba.conf: host x bk ADDRESS"));
        assert_eq!(hint("role \"bk\" is not permitted to log in"), "ALTER ROLE bk LOGIN");
        assert!(hint("role \"bk\" does not exist").starts_with("CREATE ROLE bk LOGIN REPLICATION"));
        assert!(hint("Rolle existiert nicht").starts_with("CREATE ROLE backup LOGIN REPLICATION"));
    }

    #[test]
    fn errors_name_no_values_of_rows() {
        let error = |code: &str, message: &str, detail: &str| ServerError {
            code: code.to_owned(),
            message: message.to_owned(),
            detail: Some(detail.to_owned()),
            ..ServerError::default()
        };
        let cases = [
            (
                error("22P02", "invalid input syntax for type integer: \"secret\"", "secret"),
                "invalid input syntax for type integer: \"…\" (SQLSTATE 22P02)",
            ),
            (
                error("22003", "value \"12345678901\" is out of range for type integer", ""),
                "value \"…\" is out of range for type integer (SQLSTATE 22003)",
            ),
            (
                error("23505", "duplicate key value violates \"t_pkey\"", "Key (id)=(secret)"),
                "duplicate key value violates \"t_pkey\" (SQLSTATE 23505)",
            ),
            (
                error("2BP01", "cannot drop table t: \"t\"", "view v depends on table t"),
                "cannot drop table t: \"t\" (SQLSTATE 2BP01): view v depends on table t",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}

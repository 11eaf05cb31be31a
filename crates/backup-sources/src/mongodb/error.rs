//! From the driver's errors to ours. Nothing of an address with a password ever gets into a
//! message.

use ::mongodb::error::{Error, ErrorKind, WriteFailure};
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::unreachable::Unreachable;
use super::user::GRANT;
#[cfg(doc)]
use super::user::named;
use crate::waits::Stalled;

/// Codes of the server, from its `error_codes.yml`.
pub(super) mod code {
    pub(in super::super) const UNAUTHORIZED: i32 = 13;
    pub(in super::super) const NAMESPACE_NOT_FOUND: i32 = 26;
    pub(in super::super) const CURSOR_NOT_FOUND: i32 = 43;
    pub(in super::super) const NAMESPACE_EXISTS: i32 = 48;
    pub(in super::super) const INVALID_NAMESPACE: i32 = 73;
    pub(in super::super) const CAPPED_POSITION_LOST: i32 = 136;
    pub(in super::super) const NOT_ON_A_VIEW: i32 = 166;
    pub(in super::super) const QUERY_PLAN_KILLED: i32 = 175;
    pub(in super::super) const KEY_NOT_FOUND: i32 = 211;
    pub(in super::super) const CURSOR_KILLED: i32 = 237;
    pub(in super::super) const SNAPSHOT_TOO_OLD: i32 = 239;
    pub(in super::super) const SNAPSHOT_UNAVAILABLE: i32 = 246;
    pub(in super::super) const COLLECTION_UUID_MISMATCH: i32 = 361;
    pub(in super::super) const DUPLICATE_KEY: i32 = 11_000;
}

/// The server's code of an error, if it is one of the server's.
pub(super) fn code_of(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// The driver's error for a server that does not answer.
pub(super) fn stalled(stalled: Stalled) -> Error {
    Error::custom(stalled)
}

/// True if the server has not answered in time. Only followers try again: each attempt takes the
/// time-out.
pub(super) fn is_stalled(error: &Error) -> bool {
    error.get_custom::<Stalled>().is_some()
}

/// True if the driver found no member in its time.
pub(super) fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::ServerSelection { .. })
        || error.get_custom::<Unreachable>().is_some()
}

/// Whether rights are missing.
pub(super) fn is_denied(error: &Error) -> bool {
    code_of(error) == Some(code::UNAUTHORIZED)
}

/// Whether the server or the way to it failed, so that the same request may succeed in a moment.
pub(super) fn is_transient(error: &Error) -> bool {
    if is_unreachable(error) {
        return true;
    }
    match error.kind.as_ref() {
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => true,
        // Stepping down, shutting down, recovering, unreachable, interrupted, timed out in the
        // network or waiting for members.
        ErrorKind::Command(command) => {
            matches!(
                command.code,
                6 | 7
                    | 64
                    | 89
                    | 91
                    | 189
                    | 9001
                    | 10_107
                    | 11_600
                    | 11_601
                    | 11_602
                    | 13_435
                    | 13_436
            )
        }
        _ => false,
    }
}

/// The hint of a denied step; [`named`] puts the connected user into it.
fn hint_of_denied(doing: Doing) -> String {
    match doing {
        Doing::Reading => format!(
            "grant the built-in role `backup`: {GRANT}, [{{role: \"backup\", db: \"admin\"}}])"
        ),
        Doing::Writing => {
            let roles = ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase"];
            let roles = roles.map(|role| format!("{{role: {role:?}, db: \"admin\"}}"));
            format!(
                "grant the built-in roles `restore`, `readWriteAnyDatabase` and \
                 `dbAdminAnyDatabase`: {GRANT}, [{}])",
                roles.join(", ")
            )
        }
    }
}

/// What was being done: reading errors name other roles than writing errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Reading,
    Writing,
}

/// Our error for one of the driver's while `doing` what `what` says.
pub(super) fn convert(error: &Error, doing: Doing, what: impl std::fmt::Display) -> SourceError {
    if let Some(stalled) = error.get_custom::<Stalled>() {
        return SourceError::from(stalled.clone()).context(what);
    }
    if let Some(unreachable) = error.get_custom::<Unreachable>() {
        let text = format!("{what}: {unreachable}");
        return SourceError::new(SourceErrorKind::Unavailable, text).with_hint(unreachable.hint());
    }
    let (kind, message, hint) = match error.kind.as_ref() {
        ErrorKind::Command(command) => {
            let denied = command.code == code::UNAUTHORIZED;
            let kind = match (denied, doing) {
                // Not of kind PermissionDenied: that would leave one collection out and go on.
                (true, _) => SourceErrorKind::Invalid,
                _ if is_transient(error) => SourceErrorKind::Unavailable,
                (_, Doing::Reading) => SourceErrorKind::Unavailable,
                (_, Doing::Writing) => SourceErrorKind::Target,
            };
            let hint = denied.then(|| hint_of_denied(doing));
            // A denied command's message repeats the whole command, with what may be in it.
            let message = if denied { "not authorized" } else { without_values(&command.message) };
            (kind, format!("{message} (code {})", command.code), hint)
        }
        ErrorKind::Authentication { .. } => (
            SourceErrorKind::Invalid,
            "the server refuses the credentials".to_owned(),
            Some("check user, password, authSource and authMechanism of the address".to_owned()),
        ),
        // Where members are known, `Unreachable` takes its place.
        ErrorKind::ServerSelection { .. } => {
            (SourceErrorKind::Unavailable, "no member can be reached".to_owned(), None)
        }
        ErrorKind::Io(io) => {
            (SourceErrorKind::Unavailable, format!("the connection failed: {io}"), None)
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            (SourceErrorKind::Invalid, message.clone(), None)
        }
        ErrorKind::DnsResolve { .. } => {
            (SourceErrorKind::Unavailable, "the host name cannot be resolved".to_owned(), None)
        }
        ErrorKind::ConnectionPoolCleared { .. } => (
            SourceErrorKind::Unavailable,
            "the connections to the server were lost".to_owned(),
            None,
        ),
        ErrorKind::InvalidArgument { .. } => (
            SourceErrorKind::Invalid,
            "invalid address or option".to_owned(),
            Some(
                "write mongodb://user:password@host:port/?options, with %-escapes for :/?#[]@% in \
                 user and password"
                    .to_owned(),
            ),
        ),
        ErrorKind::Write(_) => {
            (SourceErrorKind::Target, "the server refused a write".to_owned(), None)
        }
        _ => (SourceErrorKind::Io, "error in the MongoDB driver".to_owned(), None),
    };
    let kind = if kind == SourceErrorKind::Io { SourceErrorKind::Unavailable } else { kind };
    let error = SourceError::new(kind, format!("{what}: {message}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Turns driver results into ours.
pub(super) trait Explain<T> {
    fn reading(self, what: impl std::fmt::Display) -> SourceResult<T>;
    fn writing(self, what: impl std::fmt::Display) -> SourceResult<T>;
}

impl<T> Explain<T> for Result<T, Error> {
    fn reading(self, what: impl std::fmt::Display) -> SourceResult<T> {
        self.map_err(|error| convert(&error, Doing::Reading, what))
    }

    fn writing(self, what: impl std::fmt::Display) -> SourceResult<T> {
        self.map_err(|error| convert(&error, Doing::Writing, what))
    }
}

/// A server's message without the values in it, which may be customers' data: keys that exist twice,
/// whole documents that an index refuses. They follow the first brace, bracket or quote.
pub(super) fn without_values(message: &str) -> &str {
    let end = message.find(['{', '[', '"']).unwrap_or(message.len());
    message[..end].trim_end_matches([' ', ':', ',', '('])
}

/// Something that a server or a snapshot says and that cannot be understood.
pub(super) fn malformed(what: impl std::fmt::Display) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, format!("invalid {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_from_messages_of_servers() {
        let twice = "E11000 duplicate key error collection: shop.users index: mail_1 dup key: \
                     { mail: \"anna@example.org\" }";
        let cut = "E11000 duplicate key error collection: shop.users index: mail_1 dup key";
        assert_eq!(without_values(twice), cut);
        let place = "Can't extract geo keys: { _id: 1, name: \"Anna\" }  Point must be an array";
        assert_eq!(without_values(place), "Can't extract geo keys");
        assert_eq!(without_values("Index build failed"), "Index build failed");
    }

    #[test]
    fn no_message_of_the_driver_that_may_hold_an_address_is_repeated() {
        let error = Error::from(ErrorKind::Io(std::sync::Arc::new(std::io::Error::other("reset"))));
        let ours = convert(&error, Doing::Reading, "reading");
        assert_eq!(ours.kind(), SourceErrorKind::Unavailable);
        assert!(is_transient(&error));
    }

    #[tokio::test]
    async fn a_bad_address_is_not_repeated() {
        let error = ::mongodb::options::ClientOptions::parse("mongodb://me:se%zzcret@h/?x=1")
            .await
            .unwrap_err();
        let ours = convert(&error, Doing::Reading, "cannot parse the server's address");
        assert!(!ours.chain().contains("cret"), "{}", ours.chain());
        assert_eq!(ours.kind(), SourceErrorKind::Invalid);
        assert!(ours.hint().is_some());
    }
}

//! The public error: a kind that tells the caller what to do, a message, an optional hint, and the
//! cause.
//!
//! `Display` prints the message alone; the cause is reached through [`std::error::Error::source`].
//! Front-ends print the chain and map [`ErrorKind`] to an exit code; nothing below them does.

use std::fmt;

use crate::sink::{SinkError, SinkErrorKind};
use crate::source::{SourceError, SourceErrorKind};

/// Result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository at this place.
    NoRepository,
    /// There is a repository already where one should be created.
    RepositoryExists,
    /// No key file opens with this pass phrase.
    WrongPassphrase,
    /// The repository was written by a newer format version.
    UnsupportedVersion,
    /// Stored bytes are not what was written: a hash, a MAC or a structure does not hold.
    Damaged,
    /// The snapshot, path or object asked for is not there.
    NotFound,
    /// A short name fits several objects.
    Ambiguous,
    /// The request makes no sense or is not supported.
    Invalid,
    /// What exists at the target must not be replaced.
    TargetExists,
    /// The storage refused access.
    PermissionDenied,
    /// The storage is full.
    StorageFull,
    /// The storage failed in a way that may pass; trying again is reasonable.
    Unavailable,
    /// Somebody else does it at the moment, and only one may.
    Busy,
    /// There is more than the caller allows.
    TooLarge,
    /// The source failed.
    Source,
    /// The target could not be written.
    Target,
    /// The caller cancelled.
    Cancelled,
    /// A bug in this program.
    Internal,
}

/// Error of this crate; see the module documentation.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. The message is a lower-case fragment without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// An error about stored bytes that are not what was written.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }

    /// An error that only a bug in this program can cause.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The caller asked to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `doing` in front of the message, keeping kind, hint and cause.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the caller cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind == ErrorKind::Cancelled
    }

    /// Whether stored bytes are not what was written or are gone.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self.kind, ErrorKind::Damaged | ErrorKind::NotFound)
    }

    /// The message followed by the messages of all causes.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<SinkError> for Error {
    fn from(error: SinkError) -> Self {
        let (kind, message, hint) = match error.kind() {
            SinkErrorKind::NotFound => {
                (ErrorKind::NotFound, "an object is missing from the repository", None)
            }
            SinkErrorKind::AlreadyExists => {
                (ErrorKind::RepositoryExists, "an object already exists", None)
            }
            SinkErrorKind::PermissionDenied if error.is_read_only() => (
                ErrorKind::PermissionDenied,
                "the storage is read-only",
                Some(
                    "mount the file system read-write; if it became read-only by itself, check \
                     the disk first",
                ),
            ),
            SinkErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "the storage refuses access",
                Some(
                    "check the owner and mode of the directory, or the permissions of the \
                     credentials",
                ),
            ),
            SinkErrorKind::StorageFull => (
                ErrorKind::StorageFull,
                "the storage is full",
                Some(
                    "free some space and run the command again; it reuses the data already stored",
                ),
            ),
            SinkErrorKind::Cancelled => (ErrorKind::Cancelled, "cancelled", None),
            SinkErrorKind::Unreadable => {
                (ErrorKind::Damaged, "an object cannot be read", Some("check the disk"))
            }
            SinkErrorKind::Archived => (
                ErrorKind::Unavailable,
                "the data is archived in a cold storage class",
                Some("restore it with --thaw, which requests readable copies from the store"),
            ),
            SinkErrorKind::Invalid | SinkErrorKind::Unsupported => {
                (ErrorKind::Invalid, "the storage rejects or does not support the request", None)
            }
            SinkErrorKind::Unavailable | SinkErrorKind::Other => (
                ErrorKind::Unavailable,
                "the storage failed",
                Some(
                    "run the command again when the storage works; it reuses the data already \
                     stored",
                ),
            ),
        };
        let hint = error.hint().or(hint).map(str::to_owned);
        let new = Self::new(kind, message).with_source(error);
        match hint {
            Some(hint) => new.with_hint(hint),
            None => new,
        }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        let kind = match error.kind() {
            SourceErrorKind::Cancelled => ErrorKind::Cancelled,
            SourceErrorKind::Invalid | SourceErrorKind::Unsupported => ErrorKind::Invalid,
            SourceErrorKind::TargetExists => ErrorKind::TargetExists,
            SourceErrorKind::Target => ErrorKind::Target,
            SourceErrorKind::Repository => match error.into_repository_error() {
                Ok(inner) => return inner,
                Err(other) => {
                    return Self::new(ErrorKind::Internal, "cannot read the snapshot")
                        .with_source(other);
                }
            },
            _ => ErrorKind::Source,
        };
        let hint = error.hint().map(str::to_owned);
        let new = Self::new(kind, error.to_string());
        let new = match hint {
            Some(hint) => new.with_hint(hint),
            None => new,
        };
        match error.into_cause() {
            Some(cause) => new.with_source(cause),
            None => new,
        }
    }
}

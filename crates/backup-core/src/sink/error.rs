//! Errors of sinks: what kind, during what, on which key, and whether it may have happened all the
//! same.

use std::{fmt, io};

use super::Key;

/// Result of a sink operation.
pub type SinkResult<T> = Result<T, SinkError>;

/// What went wrong, as far as the caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// The object is not there.
    NotFound,
    /// The object is there and must not be replaced.
    AlreadyExists,
    /// The store refused access.
    PermissionDenied,
    /// There is no room.
    StorageFull,
    /// The object is there but the medium cannot give its bytes back (a bad sector).
    Unreadable,
    /// The object is in an archive and must be thawed before it can be read; see
    /// [`Custody`](super::Custody).
    Archived,
    /// A failure that may pass: trying again is reasonable.
    Unavailable,
    /// The request makes no sense, for instance a range outside the object.
    Invalid,
    /// The sink cannot do this.
    Unsupported,
    /// The operation was cancelled.
    Cancelled,
    /// Anything else; trying again is not known to help.
    Other,
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Storing an object.
    Put,
    /// Uploading an object in parts.
    Upload,
    /// Reading an object.
    Get,
    /// Asking for an object's size.
    Head,
    /// Listing objects.
    List,
    /// Deleting objects.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "write",
            Self::Upload => "upload",
            Self::Get => "read",
            Self::Head => "inspect",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// Whether a failed operation may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It certainly did not happen.
    None,
    /// It may have happened; only looking tells.
    Unknown,
}

/// Error of a sink.
#[derive(Debug)]
pub struct SinkError {
    kind: SinkErrorKind,
    operation: Operation,
    key: String,
    effect: Effect,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SinkError {
    /// An error of `operation` on `key` with unknown effect.
    #[must_use]
    pub fn new(kind: SinkErrorKind, operation: Operation, key: &Key) -> Self {
        Self::on(kind, operation, key.as_str())
    }

    /// Like [`Self::new`] for something that is not a key, for instance a prefix.
    pub fn on(kind: SinkErrorKind, operation: Operation, what: impl Into<String>) -> Self {
        Self {
            kind,
            operation,
            key: what.into(),
            effect: Effect::Unknown,
            hint: None,
            source: None,
        }
    }

    /// States that the operation certainly did not happen.
    #[must_use]
    pub fn without_effect(mut self) -> Self {
        self.effect = Effect::None;
        self
    }

    /// Says what the user can do about it.
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

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// What the user can do about it, where the sink knows better than its kind tells. An error
    /// around another one has the hint of that, unless it has its own.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        let inner = || self.source.as_ref()?.downcast_ref::<Self>()?.hint();
        self.hint.as_deref().or_else(inner)
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether it may have taken effect.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// True if the file system is mounted read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let cause = self.source.as_deref().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether trying again is reasonable.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == SinkErrorKind::Unavailable
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.key.is_empty() { "the repository" } else { &self.key };
        write!(f, "cannot {} {what}", self.operation)?;
        match self.kind {
            SinkErrorKind::NotFound => f.write_str(": it does not exist"),
            SinkErrorKind::AlreadyExists => f.write_str(": it already exists"),
            SinkErrorKind::PermissionDenied if self.is_read_only() => {
                f.write_str(": the file system is read-only")
            }
            SinkErrorKind::PermissionDenied => f.write_str(": permission denied"),
            SinkErrorKind::StorageFull => f.write_str(": no space left"),
            SinkErrorKind::Invalid => f.write_str(": invalid request"),
            SinkErrorKind::Unsupported => f.write_str(": not supported here"),
            SinkErrorKind::Cancelled => f.write_str(": cancelled"),
            SinkErrorKind::Unreadable => f.write_str(": the medium is damaged"),
            SinkErrorKind::Archived => {
                f.write_str(": it is archived and must be made readable first")
            }
            SinkErrorKind::Unavailable | SinkErrorKind::Other => Ok(()),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

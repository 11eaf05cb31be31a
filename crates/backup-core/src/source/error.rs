//! Errors of sources.

use std::fmt;

use crate::error::Error;

/// Result of a source operation.
pub type SourceResult<T> = Result<T, SourceError>;

/// What went wrong, as far as the caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// Something asked for does not exist.
    NotFound,
    /// Access was refused.
    PermissionDenied,
    /// Reading or writing failed.
    Io,
    /// The connection is lost or cannot be made; trying again is reasonable.
    Unavailable,
    /// The log has a gap: continuous capture cannot go on from there.
    LogGap,
    /// The request makes no sense.
    Invalid,
    /// This source cannot do this.
    Unsupported,
    /// What exists at the target must not be replaced.
    TargetExists,
    /// The target could not be written.
    Target,
    /// What was written is not what the snapshot holds.
    Mismatch,
    /// Reading the snapshot failed; the cause is an [`Error`].
    Repository,
    /// The caller cancelled.
    Cancelled,
}

/// The server requires a password, and none is given: cause of a [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no password is given")]
pub struct MissingPassword;

impl MissingPassword {
    /// True if a missing password is among the causes of an error.
    #[must_use]
    pub fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        is_caused_by::<Self>(error)
    }
}

/// A change at the source cannot be applied to the earlier snapshot: only a full backup helps. Cause of
/// a [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only a full backup helps")]
pub struct NeedsFull;

impl NeedsFull {
    /// True if that is among the causes of an error.
    #[must_use]
    pub fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        is_caused_by::<Self>(error)
    }
}

fn is_caused_by<T: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<T>())
}

/// Error of a source.
#[derive(Debug)]
pub struct SourceError {
    kind: SourceErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error of `kind`. The message is a lower-case fragment without a full stop.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// The caller asked to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(SourceErrorKind::Cancelled, "cancelled")
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

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `doing` in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether only the entry at hand is affected, so that a run can go on without it and say so.
    #[must_use]
    pub fn concerns_one_entry(&self) -> bool {
        matches!(
            self.kind,
            SourceErrorKind::NotFound | SourceErrorKind::PermissionDenied | SourceErrorKind::Io
        )
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

    pub(crate) fn into_repository_error(mut self) -> Result<Error, Self> {
        match self.source.take().map(|source| source.downcast::<Error>()) {
            Some(Ok(error)) => Ok(*error),
            Some(Err(other)) => {
                self.source = Some(other);
                Err(self)
            }
            None => Err(self),
        }
    }

    pub(crate) fn into_cause(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.source
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        if error.is_cancelled() {
            return Self::cancelled();
        }
        Self::new(SourceErrorKind::Repository, "cannot read the snapshot").with_source(error)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

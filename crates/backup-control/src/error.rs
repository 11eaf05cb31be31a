//! The error of this crate: a mistake in the configuration or the request, a pass phrase that
//! cannot be had, or an error of the data plane passed on as it is.
//!
//! As in `backup_core`, `Display` prints the message alone and the cause is reached through
//! [`std::error::Error::source`].

use std::fmt;
use std::path::{Path, PathBuf};

/// Result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of this crate; see the module documentation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration file cannot be used.
    Config(ConfigError),
    /// The request does not fit the configuration, or makes no sense.
    Invalid(Detail),
    /// The pass phrase cannot be had.
    Passphrase(Detail),
    /// The data plane failed.
    Core(backup_core::error::Error),
}

/// Message, hint and cause of an [`Error`].
#[derive(Debug)]
pub struct Detail {
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Detail {
    fn new(message: String) -> Self {
        Self { message, hint: None, source: None }
    }
}

/// A mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, if the mistake has one.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Further mistakes, in the order of the file.
    pub others: Box<[Self]>,
}

impl ConfigError {
    pub(crate) fn new(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            line: None,
            message: message.into(),
            hint: None,
            others: Box::default(),
        }
    }

    pub(crate) fn at_line(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    pub(crate) fn with_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(Detail::new(message.into()))
    }

    pub(crate) fn passphrase(message: impl Into<String>) -> Self {
        Self::Passphrase(Detail::new(message.into()))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Invalid(detail) | Self::Passphrase(detail) = &mut self {
            detail.hint = Some(hint.into());
        }
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        if let Self::Invalid(detail) | Self::Passphrase(detail) = &mut self {
            detail.source = Some(source.into());
        }
        self
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Config(error) => error.hint.as_deref(),
            Self::Invalid(detail) | Self::Passphrase(detail) => detail.hint.as_deref(),
            Self::Core(error) => error.hint(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => fmt::Display::fmt(error, f),
            Self::Invalid(detail) | Self::Passphrase(detail) => f.write_str(&detail.message),
            Self::Core(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Invalid(detail) | Self::Passphrase(detail) => {
                detail.source.as_deref().map(|source| source as _)
            }
            Self::Core(error) => std::error::Error::source(error),
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<backup_core::error::Error> for Error {
    fn from(error: backup_core::error::Error) -> Self {
        Self::Core(error)
    }
}

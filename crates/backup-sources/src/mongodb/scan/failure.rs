//! The error of one step of reading a collection.

use ::mongodb::error::Error;
use backup_core::source::SourceError;

/// The error of one step of reading.
pub(super) enum Failure {
    /// The driver's.
    Server(Error),
    /// Ours.
    Source(SourceError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

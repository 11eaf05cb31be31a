//! Documents as values, with a limit on their depth: parsing them recurses.

use std::fmt::Display;

use backup_core::source::SourceResult;
use bson::{Document, RawDocument};

use super::error::malformed;
use super::raw::refuse_deep;

/// The document as a value; `subject` names it in errors.
///
/// # Errors
/// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if it is not BSON, or
/// nested deeper than 256 levels.
pub(super) fn parsed(document: &RawDocument, subject: impl Display) -> SourceResult<Document> {
    refuse_deep(document.as_bytes(), &subject)?;
    Document::try_from(document).map_err(|error| malformed(subject).with_source(error))
}

//! What all incremental backups ask of the snapshot that they build on.

use backup_core::error::{Error, ErrorKind};
use backup_core::repository::SnapshotReader;
use backup_core::source::{SourceError, SourceErrorKind};

/// Why a snapshot that is not all that was meant to be backed up cannot be built on, if so.
pub(crate) fn incomplete(snapshot: &SnapshotReader) -> Option<&'static str> {
    let snapshot = snapshot.snapshot();
    reason(&snapshot.tags, snapshot.x_warnings)
}

fn reason(tags: &[String], warnings: Option<u64>) -> Option<&'static str> {
    if tags.iter().any(|tag| tag == "repaired") {
        return Some("the earlier snapshot was repaired and may have lost something");
    }
    warnings.is_some_and(|some| some > 0).then_some("the earlier snapshot was made with warnings")
}

/// Whether reading the earlier snapshot will fail another time as well. A storage that cannot be
/// reached for a moment must not cost a full backup.
pub(crate) fn is_lasting(error: &SourceError) -> bool {
    match error.kind() {
        SourceErrorKind::Invalid | SourceErrorKind::Unsupported => true,
        SourceErrorKind::Repository => {
            let cause =
                std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
            // Credentials that may store but not read make full backups.
            cause.is_some_and(|cause| {
                cause.is_damage() || cause.kind() == ErrorKind::PermissionDenied
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_lost_something_is_not_built_on() {
        assert!(reason(&["repaired".to_owned()], None).is_some());
        assert!(reason(&[], Some(1)).is_some());
        assert!(reason(&["daily".to_owned()], Some(0)).is_none());
    }

    #[test]
    fn only_what_lasts_costs_a_full_backup() {
        let of = |kind| is_lasting(&Error::new(kind, "x").into());
        assert!(
            of(ErrorKind::Damaged) && of(ErrorKind::NotFound) && of(ErrorKind::PermissionDenied)
        );
        assert!(!of(ErrorKind::Unavailable) && !of(ErrorKind::Cancelled) && !of(ErrorKind::Busy));
        assert!(is_lasting(&SourceError::new(SourceErrorKind::Invalid, "x")));
        assert!(!is_lasting(&SourceError::new(SourceErrorKind::Unavailable, "x")));
    }
}

//! From a source to a snapshot and back.
//!
//! | file | what is in it |
//! |---|---|
//! | `backup/` | [`backup`]: source → chunks → blobs → packs → snapshot |
//! | `restore.rs` | [`restore`]: snapshot → target |
//! | `thaw.rs` | [`Thaw`]: making archived data readable before a restore |
//! | `verify.rs` | [`verify`]: reads everything a snapshot needs |
//! | `meter.rs` | running totals, reported at most ten times a second |

mod backup;
mod meter;
mod restore;
mod thaw;
mod verify;

pub use backup::{BackupOptions, BackupReport, EntryCounts, backup};
pub use restore::restore;
pub use thaw::{Thaw, ThawFigures};
pub use verify::{VerifyLevel, VerifyReport, verify};

pub(crate) use meter::{INTERVAL as PROGRESS_INTERVAL, Meter};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::repository::{Repository, SnapshotReader};
    use crate::source::{RestoreRequest, Source};

    /// A daemon spawns them as tasks: the compiler is the test.
    #[expect(dead_code, reason = "only compiled")]
    fn long_operations_can_be_spawned(
        repository: &Repository,
        source: &dyn Source,
        reader: &SnapshotReader,
        cx: &Context,
    ) {
        fn is_send<T: Send>(_: T) {}
        is_send(backup(repository, source, &BackupOptions::default(), cx));
        is_send(restore(reader, source, &RestoreRequest::default(), cx));
        is_send(verify(reader, VerifyLevel::Deep, cx));
        is_send(crate::check::check(repository, &crate::check::CheckOptions::default(), cx));
        is_send(crate::maintenance::prune(
            repository,
            &crate::maintenance::PruneOptions::default(),
            cx,
        ));
        is_send(repository.undo_forget(&[], "", cx));
    }
}

//! From a source to a snapshot and back.
//!
//! | file | what is in it |
//! |---|---|
//! | `backup/` | [`backup`]: source → chunks → blobs → packs → snapshot |
//! | `restore.rs` | [`restore`]: snapshot → target |
//! | `verify.rs` | [`verify`]: reads everything a snapshot needs |
//! | `meter.rs` | running totals, reported at most ten times a second |

mod backup;
mod meter;
mod restore;
mod verify;

pub use backup::{BackupOptions, BackupReport, EntryCounts, backup};
pub use restore::restore;
pub use verify::{VerifyReport, verify};

pub(crate) use meter::Meter;

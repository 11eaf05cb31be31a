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

pub(crate) use meter::Meter;

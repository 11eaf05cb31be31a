//! Control plane of the backup system: what the command line and the daemon share.
//!
//! ```text
//!  backup.toml ──▶ config ──▶ jobs ──▶ Source + Location + BackupOptions ──▶ backup_core::pipeline
//!  flags ─────────────────────▲                │
//!  environment ──▶ passphrase ─────────────────┘
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | `backup.toml`: where it is looked for, its types, interpolation, errors with line and suggestion |
//! | [`passphrase`] | where a pass phrase comes from, and fetching it |
//! | [`repositories`] | from a name or an address to an opened repository |
//! | [`jobs`] | from a job or flags to a source and the options of a backup |
//! | [`cleanup`] | from jobs to which of their snapshots stay |
//! | [`snapshots`] | from what somebody calls a snapshot to the snapshot |
//! | [`age`], [`moment`] | ages, moments and days as people write them |
//! | [`units`] | sizes, shares, times and limits as people write them |
//! | [`cache`] | where things are kept that can be had again |
//! | [`environment`], [`machine`] | what is known about the process and the machine, passed in and never looked up below |
//! | [`error`] | the error of this crate |
//!
//! Nothing here touches a terminal.

pub mod age;
pub mod cache;
pub mod cleanup;
pub mod config;
pub mod environment;
pub mod error;
pub mod jobs;
pub mod machine;
pub mod moment;
pub mod passphrase;
pub mod repositories;
pub mod snapshots;
pub mod units;

mod names;
mod suggest;

//! Control plane of the backup system: what the command line and the daemon share.
//!
//! ```text
//!  backup.toml ──▶ config ──▶ jobs ──▶ sources + Location + BackupOptions ──▶ backup_core::pipeline
//!  flags ─────────────────────▲                │
//!  environment ──▶ passphrase ─────────────────┘
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | `backup.toml`: where it is looked for, its types, interpolation, errors with line and suggestion |
//! | [`passphrase`] | where a pass phrase comes from, and fetching it |
//! | [`exposed`] | files with secrets that other users can read |
//! | [`patterns`] | lists of patterns for the objects of databases |
//! | [`repositories`] | from a name or an address to an opened repository |
//! | [`reserve`] | disk space that maintenance frees when the disk is full |
//! | [`jobs`] | from a job or flags to a source and the options of a backup |
//! | [`sources`] | from what is backed up, or restored, to a source that does it |
//! | [`catalog`] | what is remembered of runs |
//! | [`runs`] | runs: recorded from beginning to end, one of a job at a time, closed if they died |
//! | [`alerts`] | rules, and what was told of what they find |
//! | [`alive`] | the sign of life of the daemon |
//! | [`audit`] | who did what, in a chain that cannot be changed unseen |
//! | [`heartbeat`] | telling a service that a backup has succeeded |
//! | [`report`] | what came of all of it, and which demands are met |
//! | [`hooks`] | shell commands that are run around a backup |
//! | [`expect`] | what a snapshot must hold at least |
//! | [`advice`] | what could be done better |
//! | [`logs`] | logs of jobs: how they are captured, and what a moment takes to be restored |
//! | [`groups`] | jobs that are restored to one moment |
//! | [`cleanup`] | from jobs to which of their snapshots stay |
//! | [`clusters`] | another cluster of PostgreSQL under the address of a job |
//! | [`notify`] | telling people and programs what happened: channels, and the outbox that loses nothing |
//! | [`schedule`] | what happens when: cron expressions, what is due, the tasks of a configuration |
//! | [`snapshots`] | from what somebody calls a snapshot to the snapshot |
//! | [`damage`] | what is done when something is wrong with a snapshot |
//! | [`disk`] | which disks hold a file |
//! | [`address`] | addresses that hold secrets, and what of them may be shown |
//! | [`age`], [`moment`] | ages, moments and days as people write them |
//! | [`words`] | sizes and times in words |
//! | [`zone`] | time zones: of names, of the machine, and those in force |
//! | [`units`] | sizes, shares, times and limits as people write them |
//! | [`cache`], [`state`] | where things are kept that can be had again, and that cannot |
//! | [`formats`] | versions of everything that is stored or offered |
//! | [`environment`], [`machine`] | what is known about the process and the machine, passed in and never looked up below |
//! | [`error`] | the error of this crate |
//!
//! Nothing here touches a terminal.

pub mod address;
pub mod advice;
pub mod age;
pub mod alerts;
pub mod alive;
pub mod audit;
pub mod cache;
pub mod catalog;
pub mod cleanup;
pub mod clusters;
pub mod config;
pub mod damage;
pub mod disk;
pub mod environment;
pub mod error;
pub mod expect;
pub mod exposed;
pub mod formats;
pub mod groups;
pub mod heartbeat;
pub mod hooks;
pub mod jobs;
pub mod logs;
pub mod machine;
pub mod moment;
pub mod notify;
pub mod passphrase;
pub mod patterns;
pub mod remote;
pub mod report;
pub mod repositories;
pub mod reserve;
pub mod runs;
pub mod schedule;
pub mod snapshots;
pub mod sources;
pub mod state;
pub mod units;
pub mod words;
pub mod zone;

mod names;
mod narrow;
mod suggest;

//! Physical backups: full ones, and what changed since an earlier one.
//!
//! ```text
//!  BASE_BACKUP ─▶ unpack.rs: tar.rs ▸ sums.rs ─▶ entries (contents by bounded channels) ─▶ reader.rs ─▶ pipeline
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `reader.rs` | the backup reader: what is held while it runs, what it stands for |
//! | `begun.rs` | a backup that the server has begun, and the transfer of its files |
//! | `log_keeper.rs` | the slot that keeps the log while a backup runs |
//! | `earlier.rs` | the earlier snapshot that an incremental backup builds on |
//! | `trace.rs` | what changed since, by the log |
//! | `fetch.rs` | a backup by SQL: its beginning |
//! | `fetcher.rs` | reading nothing but what changed, by SQL |
//! | `listing.rs` | the files of a data directory by SQL |
//! | `manifest.rs` | the manifest of what is read so |
//! | `thin.rs` | what is stored of files that come in full |
//! | `unpack.rs` | from the server's archives to entries, while they come |
//! | `feed.rs` | contents of entries on their way |
//! | `tar.rs` | archives, piece by piece |
//! | `sums.rs` | the manifest's checksums against what came |
//! | `synthetic/` | [`synthetic_full()`]: a full one made of one that builds on others, without a server |
//! | `describe.rs` | [`Description`]: what a restore has to know |
//! | `unlogged.rs` | unlogged tables, whose rows are not in a backup |
//! | `configuration.rs` | files of the configuration that are no files of the data directory |

mod begun;
mod configuration;
mod describe;
mod earlier;
mod feed;
mod fetch;
mod fetcher;
mod listing;
mod log_keeper;
mod manifest;
mod reader;
mod sums;
mod synthetic;
mod tar;
mod thin;
mod trace;
mod unlogged;
mod unpack;

pub(super) use describe::{ConfigurationFile, Description, Main, content, segments_of};
pub(super) use earlier::SINCE as INCREMENTAL_SINCE;
pub(super) use reader::open;
pub(super) use sums::Sums;
pub use synthetic::synthetic_full;

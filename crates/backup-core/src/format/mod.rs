//! The stored forms, byte for byte as restic's repository format 2 (and 1, for reading) has them.
//! No I/O here.
//!
//! | file | what is in it |
//! |---|---|
//! | `config.rs` | [`Config`]: version, id, chunker polynomial, our seeds |
//! | `polynomial.rs` | irreducible polynomials, which restic demands in every config |
//! | `keyfile.rs` | [`KeyFile`]: a pass phrase's wrapping of the master key |
//! | `sealed.rs` | encoding of indexes, snapshots and locks: compressed JSON, sealed |
//! | `pack.rs` | [`PackHeader`]: the table at the end of a pack |
//! | `index.rs` | [`IndexFile`]: which pack holds which blob |
//! | `index_json.rs` | reading it |
//! | `tree.rs` | [`Tree`], [`Node`]: reading directories |
//! | `node_json.rs`, `node_lists.rs`, `node_values.rs` | reading one node after the other, and each of its values |
//! | `loose.rs` | values of any kind |
//! | `mended.rs` | directories with values that the JSON parser refuses |
//! | `node_rules.rs` | the rules for names and nodes, which all readers share: [`Fault`], [`Node::misfit`] |
//! | `tree_json.rs` | writing directories exactly as Go's encoder does, so that restic's trees and ours deduplicate |
//! | `raw_tree.rs` | directories as text, for repairs |
//! | `quote.rs` | Go's `strconv.Quote` and JSON string escaping |
//! | `snapshot.rs` | [`Snapshot`]: a completed backup |
//! | `manifest.rs` | [`Manifest`]: what `.backup/manifest.json` says |
//! | `skipped.rs` | `.backup/skipped.jsonl`: the entries that a backup left out |
//! | `lock.rs` | [`Lock`]: restic's lock objects |
//! | `version.rs` | versions of these forms, and the refusal of newer ones |
//!
//! Fields of our own are called `x_…`; stock tools ignore them.

mod config;
mod index;
mod index_json;
mod keyfile;
mod lock;
mod loose;
mod manifest;
mod mended;
mod node_json;
mod node_lists;
mod node_rules;
mod node_values;
mod pack;
mod polynomial;
mod quote;
mod raw_tree;
mod sealed;
mod skipped;
mod snapshot;
mod tree;
mod tree_json;
mod version;

pub use config::{Config, SUPPORTED_VERSIONS, WRITE_VERSION};
pub use index::{IndexBlob, IndexFile, IndexPack, MarkedPack};
pub use keyfile::KeyFile;
pub use lock::Lock;
pub use manifest::{
    IncompleteEntry, MANIFEST_PATH, MANIFEST_SCHEMA, MAX_INCOMPLETE, METADATA_DIR, Manifest,
    ManifestTotals, RESTORE_NOTE,
};
pub use node_rules::{Fault, Loss, size_fault};
pub use pack::{BlobKind, PackHeader, PackedBlob};
pub(crate) use raw_tree::{RawTree, with_field};
pub use sealed::{open_json, seal_json};
pub use skipped::{SKIPPED_NAME, SKIPPED_PATH, SKIPPED_SCHEMA};
pub(crate) use skipped::{
    SkippedLine, content_digest, end_line, entry_line, head_line, parse_head, parse_line,
};
pub use snapshot::{LogExtent, Snapshot, SnapshotLog, SnapshotPart, SnapshotSummary};
pub(crate) use tree::unparsable;
pub use tree::{Node, Tree};
pub(crate) use tree_json::stream_tree;
pub use tree_json::{TreeWriter, write_tree};
pub use version::{
    EXPORTED_KEY_VERSION, NEWER_HINT, RECORD_VERSION, SLICE_VERSION, newer, require_known_json,
};

//! What a stage is.

use std::path::Path;

use backup_benches::Result;

use crate::{bytes, wal};

/// Directory of files that all stages can read.
pub(crate) const FILES: &str = "files";
/// So many bytes of them.
pub(crate) const BYTES: u64 = 2_000_000;

/// A round of work.
pub(crate) type Work = Box<dyn FnMut() -> Result<()>>;

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// What a round does.
    pub(crate) what: &'static str,
    /// Does everything that does not count; the directory holds [`FILES`].
    pub(crate) prepare: fn(&Path) -> Result<Work>,
}

/// On bytes in memory: any number of rounds. Those that take longest last: they are begun first.
pub(crate) const STAGES: [Stage; 12] = [
    Stage {
        name: "header-write",
        what: "header of a pack of 2 000 blobs, sealed",
        prepare: bytes::write_header,
    },
    Stage { name: "header-read", what: "the same, opened", prepare: bytes::read_header },
    Stage {
        name: "tree-write",
        what: "a directory of 2 000 files as JSON",
        prepare: bytes::write_tree,
    },
    Stage { name: "tree-read", what: "the same, parsed", prepare: bytes::read_tree },
    Stage {
        name: "index-write",
        what: "an index object of 10 000 blobs",
        prepare: bytes::write_index,
    },
    Stage { name: "index-read", what: "the same, opened and parsed", prepare: bytes::read_index },
    Stage {
        name: "index-add",
        what: "20 000 blobs into the index in memory",
        prepare: bytes::add_to_index,
    },
    Stage {
        name: "index-find",
        what: "40 000 look-ups there, half of them without a match",
        prepare: bytes::find_in_index,
    },
    Stage { name: "wal", what: "1 MiB of PostgreSQL's log, every checksum", prepare: wal::read },
    Stage { name: "cut", what: "12 MB, by content", prepare: bytes::cut },
    Stage { name: "seal", what: "4 MB, encrypted", prepare: bytes::seal },
    Stage { name: "open", what: "the same, checked and decrypted", prepare: bytes::open },
];

//! What a stage is.

use std::path::Path;

use backup_benches::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{bytes, wal, whole};

/// Directory of files that all stages can read.
pub(crate) const FILES: &str = "files";
/// The most rounds that are asked for: whatever can be used once only is prepared so many times.
pub(crate) const ROUNDS: usize = 2;

/// A round of work.
pub(crate) type Work = Box<dyn FnMut() -> Result<()>>;

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// What a round does.
    pub(crate) what: &'static str,
    /// Does everything that does not count; the directory holds [`FILES`].
    prepare: fn(&Path) -> Result<Work>,
}

/// Those that take longest last: they are begun first.
pub(crate) const STAGES: [Stage; 16] = [
    Stage { name: "header-write", what: "header of a pack of 2 000 blobs, sealed", prepare: bytes::write_header },
    Stage { name: "header-read", what: "the same, opened", prepare: bytes::read_header },
    Stage { name: "tree-write", what: "a directory of 2 000 files as JSON", prepare: bytes::write_tree },
    Stage { name: "tree-read", what: "the same, parsed", prepare: bytes::read_tree },
    Stage { name: "index-write", what: "an index object of 10 000 blobs", prepare: bytes::write_index },
    Stage { name: "index-read", what: "the same, opened and parsed", prepare: bytes::read_index },
    Stage { name: "index-add", what: "20 000 blobs into the index in memory", prepare: bytes::add_to_index },
    Stage { name: "index-find", what: "40 000 look-ups there, half of them in vain", prepare: bytes::find_in_index },
    Stage { name: "wal", what: "1 MiB of PostgreSQL's log, every checksum", prepare: wal::read },
    Stage { name: "cut", what: "12 MB, by content", prepare: bytes::cut },
    Stage { name: "seal", what: "4 MB, encrypted", prepare: bytes::seal },
    Stage { name: "open", what: "the same, checked and decrypted", prepare: bytes::open },
    Stage { name: "index-load", what: "50 000 blobs into the index on disk", prepare: whole::load_index },
    Stage { name: "restore", what: "2 MB of files out of a repository", prepare: whole::restore },
    Stage { name: "check", what: "a repository of 2 MB, all its data", prepare: whole::check },
    Stage { name: "backup", what: "2 MB of files into a new repository", prepare: whole::backup },
];

/// Runs so many rounds of a stage.
pub(crate) fn run(name: &str, rounds: usize, dir: &Path) -> Result<()> {
    on_one_processor()?;
    let stage = STAGES.iter().find(|stage| stage.name == name).ok_or(format!("there is no stage {name}"))?;
    let mut work = (stage.prepare)(dir)?;
    for _ in 0..rounds.min(ROUNDS) {
        work()?;
    }
    Ok(())
}

/// How many threads there are must not depend on the machine.
fn on_one_processor() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    // Not always the first one: several stages run at a time.
    let which = all.get(std::process::id() as usize % all.len().max(1)).ok_or("there is no processor")?;
    let mut one = CpuSet::new();
    one.set(*which);
    Ok(sched_setaffinity(None, &one)?)
}

//! Runs `backup` and others on the same data, in turn, and prints CPU seconds, seconds, peak
//! memory, bytes stored and requests of each, with ratios and what was to be reached.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the contests |
//! | `contest.rs` | measuring step by step, each tool in turn |
//! | `peers.rs` | the commands of each tool |
//! | `same.rs` | whether what was restored is what was backed up |
//! | `floor.rs` | the primitives of each step alone |
//! | `files.rs` | directories of files: large ones, unchanged ones, a million small ones |
//! | `stream.rs` | one endless stream |
//! | `seaweed.rs` | an object store |
//! | `prune.rs` | half of a repository is no longer needed |
//! | `jobs.rs` | very many jobs in one configuration |
//! | `curves.rs`, `svg.rs` | what grows with what, and pictures of it |
//! | `child.rs` | processes of this program: what feeds a stream, and a source that reads one |
//!
//! `cargo bench -p backup-benches --bench compare` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod child;
mod contest;
mod curves;
mod files;
mod floor;
mod jobs;
mod peers;
mod prune;
mod same;
mod seaweed;
mod stream;
mod svg;

use std::path::PathBuf;

use backup_benches::{Args, Report, Result};

const HELP: &str = "\
cargo bench -p backup-benches --bench compare -- [OPTIONS] [CONTEST...]

  files        1 GB of files: first backup, unchanged, forced re-read, restore, check; the default
  unchanged    5000 and 22 000 files without a change, and opening the repository
  small        a million small files: first backup, restore
  stream       20 GB from a pipe
  seaweedfs    2 GB of files into an object store, and back
  prune        forget and prune half of 2 million blobs
  jobs         up to 2000 jobs in one configuration and one repository
  curves       cost against the number of bytes, files, blobs and snapshots

  --runs N     measure each step N times (3)
  --size N     size of one contest: MB of files, stream or seaweedfs, files of small, blobs of
               prune, first points of curves
  --quick      small sizes, one run: test that everything works; missed limits do not fail
  --results D  write NAME.md, NAME.json and pictures into the directory D
";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) runs: u32,
    size: Option<u64>,
    quick: bool,
}

impl Options {
    /// The size that was asked for, or else the one of a contest: that of a full one, or of a quick
    /// one.
    pub(crate) fn size(&self, full: u64, quick: u64) -> u64 {
        self.size.unwrap_or(if self.quick { quick } else { full })
    }

    /// True for a contest with small sizes.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// The meaning of the numbers in a table.
    pub(crate) fn told(&self) -> String {
        if self.runs == 1 {
            "one run".to_owned()
        } else {
            format!("medians (minimum–maximum) of {} runs", self.runs)
        }
    }
}

type Contest = (&'static str, fn(&Options) -> Result<Report>);

const CONTESTS: [Contest; 8] = [
    ("files", files::mixed),
    ("unchanged", files::unchanged),
    ("small", files::small),
    ("stream", stream::contest),
    ("seaweedfs", seaweed::contest),
    ("prune", prune::contest),
    ("jobs", jobs::contest),
    ("curves", curves::contest),
];

fn main() -> Result<()> {
    let mut args = Args::new();
    if let Some(args) = args.child(child::WORD) {
        return child::run(args);
    }
    if args.flag("--help") || args.flag("-h") {
        print!("{HELP}");
        return Ok(());
    }
    let quick = args.flag("--quick");
    let options = Options {
        runs: args.value_or("--runs", if quick { 1 } else { 3 })?,
        size: args.value("--size")?,
        quick,
    };
    let results: Option<PathBuf> = args.value("--results")?;
    let words = args.words()?;
    let wanted = if words.is_empty() { vec!["files".to_owned()] } else { words };
    if let Some(unknown) =
        wanted.iter().find(|name| CONTESTS.iter().all(|(known, _)| known != name))
    {
        return Err(format!("unknown contest {unknown}").into());
    }
    if options.size.is_some() && wanted.len() > 1 {
        return Err("--size requires exactly one contest".into());
    }
    let mut missed = Vec::new();
    for (_, contest) in
        CONTESTS.iter().filter(|(name, _)| wanted.iter().any(|wanted| wanted == name))
    {
        let report = contest(&options)?;
        println!("\n{}", report.markdown());
        if let Some(dir) = &results {
            report.store(dir)?;
        }
        missed.extend(report.missed());
    }
    if missed.is_empty() || quick {
        Ok(())
    } else {
        Err(format!("missed: {}", missed.join(", ")).into())
    }
}

//! Runs `backup` and others on the same data, in turn, and prints CPU seconds, seconds, peak
//! memory, bytes stored and requests of each, with ratios and what was to be reached.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the contests |
//! | `contest.rs` | measuring step by step, each tool in turn |
//! | `peers.rs` | the commands of each tool |
//! | `same.rs` | whether what was restored is what was backed up |
//! | `files.rs` | directories of files: large ones, a million small ones |
//! | `stream.rs` | one endless stream |
//! | `seaweed.rs` | an object store |
//! | `prune.rs` | half of a repository is no longer needed |
//! | `curves.rs`, `svg.rs` | what grows with what, and pictures of it |
//! | `child.rs` | processes of this program: what feeds a stream, and a source that reads one |
//!
//! `cargo bench -p backup-benches --bench compare` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod child;
mod contest;
mod curves;
mod files;
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
  small        a million small files: first backup, restore
  stream       20 GB from a pipe
  seaweedfs    2 GB of files into an object store, and back
  prune        half of 2 million blobs is no longer needed
  curves       what grows with bytes, files, blobs and snapshots

  --runs N     times that each step is measured (3)
  --size N     MB of files, files of small, MB of stream, MB of seaweedfs, blobs of prune, the first
               points of curves; for one contest
  --quick      small and once: whether everything works; what is missed fails nothing
  --results D  write NAME.md and NAME.json there, and pictures
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

    /// What the numbers of a table are.
    pub(crate) fn told(&self) -> String {
        if self.runs == 1 {
            "one run".to_owned()
        } else {
            format!("medians (and least–most) of {} runs", self.runs)
        }
    }
}

type Contest = (&'static str, fn(&Options) -> Result<Report>);

const CONTESTS: [Contest; 6] = [
    ("files", files::mixed),
    ("small", files::small),
    ("stream", stream::contest),
    ("seaweedfs", seaweed::contest),
    ("prune", prune::contest),
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
        return Err(format!("there is no contest {unknown}").into());
    }
    if options.size.is_some() && wanted.len() > 1 {
        return Err("--size is for one contest".into());
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

//! Runs `backup`, stock restic and `tar | zstd` on the same data and prints CPU seconds, wall seconds and peak memory.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the table |
//! | `tools.rs` | the commands of each tool |
//! | `measure.rs` | one command under GNU time |
//!
//! `cargo bench -p backup-benches --bench compare` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod measure;
mod tools;

use std::path::{Path, PathBuf};

use backup_benches::{Result, data};
use measure::Cost;
use tools::{STEPS, Tool};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runs = number(&args, "--runs", 3)?;
    let megabytes = number(&args, "--mb", 1000)?;
    let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
    let source = scratch.path().join("data");
    println!("making {megabytes} MB of data …");
    let files = data::create(&source, u64::from(megabytes) * 1_000_000)?;
    println!("{files} files; {runs} runs of every step, medians: CPU s · wall s · peak MB\n");
    let tools = tools::available(&workspace()?)?;
    let table = measure_all(&tools, &source, scratch.path(), runs)?;
    print_table(&tools, &table);
    Ok(())
}

fn number(args: &[String], name: &str, default: u32) -> Result<u32> {
    match args.iter().position(|arg| arg == name) {
        None => Ok(default),
        Some(at) => Ok(args.get(at + 1).ok_or(format!("{name} needs a number"))?.parse()?),
    }
}

fn workspace() -> Result<PathBuf> {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().ok_or("the package has no parent directory")?.to_path_buf())
}

/// Of every tool the median cost of every step, and the size of what was stored. The tools take turns, and each run begins
/// with another one, so that neither a slow minute of the machine nor what the tool before has left behind is one tool's
/// alone.
fn measure_all(tools: &[Tool], source: &Path, scratch: &Path, runs: u32) -> Result<Vec<(Vec<Option<Cost>>, u64)>> {
    let mut costs: Vec<Vec<Vec<Cost>>> = vec![vec![Vec::new(); STEPS.len()]; tools.len()];
    let mut stored = vec![0; tools.len()];
    for run in 0..runs as usize {
        for which in (0..tools.len()).map(|at| (at + run) % tools.len()) {
            let tool = &tools[which];
            let place = tempfile::tempdir_in(scratch)?;
            for (at, step) in STEPS.iter().enumerate() {
                let Some(command) = (tool.command)(*step, source, place.path()) else {
                    continue;
                };
                costs[which][at].push(measure::run(&command, place.path())?);
                if *step == tools::Step::First {
                    stored[which] = data::size_of(&place.path().join("repo"))?;
                }
            }
        }
    }
    let medians = costs.into_iter().map(|steps| steps.into_iter().map(measure::median).collect());
    Ok(medians.zip(stored).collect())
}

fn print_table(tools: &[Tool], table: &[(Vec<Option<Cost>>, u64)]) {
    print!("{:<14}", "");
    for tool in tools {
        print!("{:>26}", tool.name);
    }
    println!("{:>18}", "CPU, ours/restic");
    let peer = tools.iter().position(|tool| tool.name.starts_with("restic"));
    for (at, step) in STEPS.iter().enumerate() {
        print!("{:<14}", step.title());
        for (costs, _) in table {
            let text = costs[at].as_ref().map_or("–".to_owned(), ToString::to_string);
            print!("{text:>26}");
        }
        let ratio = peer.and_then(|peer| Some(table[0].0[at].as_ref()?.cpu / table[peer].0[at].as_ref()?.cpu));
        println!("{:>18}", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
    }
    print!("{:<14}", "stored");
    for (_, stored) in table {
        print!("{:>26}", format!("{} MB", stored / 1_000_000));
    }
    println!();
}

//! Counts the instructions that each hot stage takes and compares them with `counts.json`: unlike
//! seconds they are the same on a busy machine, so that CI can hold a change to them.
//!
//! Each stage runs in processes of its own under valgrind's callgrind, once with one round of work
//! and once with two: the difference is one round, without the start of the process and what the
//! stage prepares.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the comparison |
//! | `callgrind.rs` | counting one process |
//! | `seconds.rs` | a program of its own: what stages on bytes take in time, by criterion |
//! | `work.rs` | a stage: what it prepares, and a round of it |
//! | `bytes.rs` | stages of the core on bytes in memory |
//! | `whole.rs` | backup, restore and check, and the index of a repository |
//! | `wal.rs` | PostgreSQL's log, and some to read |
//!
//! `scripts/counts` builds and runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod bytes;
mod callgrind;
mod wal;
mod whole;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use backup_benches::{Result, data};
use callgrind::Callgrind;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use work::Stage;

const HELP: &str = "\
scripts/counts [--update] [STAGE...]

  --update   write the counts into benches/stages/counts.json
  STAGE...   count only these stages
";
/// How much more or less than what is written down is said, percent; more of it fails.
const TOLERANCE: f64 = 5.0;

type Counts = BTreeMap<String, u64>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, stage, rounds, dir] = &args[..]
        && flag == "--round"
    {
        return run_rounds(stage, rounds.parse()?, Path::new(dir));
    }
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let is_update = args.iter().any(|arg| arg == "--update");
    let wanted: Vec<&String> = args.iter().filter(|arg| *arg != "--update").collect();
    if let Some(unknown) = wanted.iter().find(|name| all_stages().all(|stage| stage.name != **name))
    {
        return Err(format!("unknown stage {unknown}").into());
    }
    let stages = all_stages()
        .filter(|stage| wanted.is_empty() || wanted.iter().any(|name| *name == stage.name));
    let stages: Vec<&Stage> = stages.collect();
    if !callgrind::sees_the_same_everywhere() {
        println!(
            "Nothing is counted: counts are comparable only on x86-64 with AVX2, other processors \
             run other code."
        );
        return Ok(());
    }
    let counted = count(&stages)?;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("stages/counts.json");
    let known = written(&file)?;
    let worse = compare(&stages, &counted, &known);
    if is_update {
        let mut all: Counts = known
            .into_iter()
            .filter(|(name, _)| all_stages().any(|stage| stage.name == name))
            .collect();
        all.extend(counted);
        std::fs::write(&file, serde_json::to_string_pretty(&all)? + "\n")?;
        println!("\nwritten to {}", file.display());
        return Ok(());
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}: more than the recorded count; if the increase is intended, run scripts/counts \
         --update",
        worse.join(", ")
    )
    .into())
}

/// Those that take longest last: they are begun first.
fn all_stages() -> impl Iterator<Item = &'static Stage> {
    work::STAGES.iter().chain(&whole::STAGES)
}

/// Runs so many rounds of a stage.
fn run_rounds(name: &str, rounds: usize, dir: &Path) -> Result<()> {
    on_one_processor()?;
    let stage =
        all_stages().find(|stage| stage.name == name).ok_or(format!("unknown stage {name}"))?;
    let mut work = (stage.prepare)(dir)?;
    for _ in 0..rounds.min(whole::ROUNDS) {
        work()?;
    }
    Ok(())
}

/// How many threads there are must not depend on the machine.
fn on_one_processor() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    // Not always the first one: several stages run at a time.
    let which = all
        .get(std::process::id() as usize % all.len().max(1))
        .ok_or("the process may run on no processor")?;
    let mut one = CpuSet::new();
    one.set(*which);
    Ok(sched_setaffinity(None, &one)?)
}

fn written(file: &Path) -> Result<Counts> {
    match std::fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Counts::new()),
        Err(error) => Err(error.into()),
    }
}

/// Instructions of one round of each stage. As many stages at a time as there are processors: that
/// changes nothing.
fn count(stages: &[&Stage]) -> Result<Counts> {
    let callgrind = Callgrind::find()?;
    let scratch = tempfile::Builder::new().prefix("backup-counts-").tempdir()?;
    data::create(&scratch.path().join(work::FILES), work::BYTES)?;
    let (left, counts) = (Mutex::new(stages.to_vec()), Mutex::new(Ok(Counts::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some(stage) = left.lock().ok().and_then(|mut left| left.pop()) {
                    let counted = callgrind.round(stage.name, scratch.path());
                    let Ok(mut counts) = counts.lock() else { return };
                    match (&mut *counts, counted) {
                        (Ok(counts), Ok(counted)) => {
                            counts.insert(stage.name.to_owned(), counted);
                        }
                        (Ok(_), Err(error)) => *counts = Err(error),
                        (Err(_), _) => {}
                    }
                }
            });
        }
    });
    counts.into_inner().map_err(|_| "a counting thread failed")?
}

/// Prints the table and says which stages take more than they may.
fn compare(stages: &[&Stage], counted: &Counts, known: &Counts) -> Vec<String> {
    println!("{:<16}{:>16}{:>16}{:>9}  one round", "stage", "instructions", "recorded", "more");
    let mut worse = Vec::new();
    for stage in stages {
        let Some(count) = counted.get(stage.name) else { continue };
        let Some(before) = known.get(stage.name) else {
            println!("{:<16}{count:>16}{:>16}{:>9}  {}", stage.name, "–", "", stage.what);
            worse.push(format!("{} has no recorded count", stage.name));
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "a share is wanted")]
        let more = (*count as f64 / *before as f64 - 1.0) * 100.0;
        println!(
            "{:<16}{count:>16}{before:>16}{:>9}  {}",
            stage.name,
            format!("{more:+.1} %"),
            stage.what
        );
        if more > TOLERANCE {
            worse.push(format!("{} {more:+.1} %", stage.name));
        } else if more < -TOLERANCE {
            println!(
                "  less than the recorded count: record the new one with `scripts/counts --update \
                 {}`",
                stage.name
            );
        }
    }
    worse
}

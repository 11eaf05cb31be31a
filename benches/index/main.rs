//! Opens the index of a very large repository and prints what that takes; fails if it takes too
//! much memory.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, one process per step, the table, the limit |
//! | `steps.rs` | what each process does |
//! | `measure.rs` | time and memory of a process |
//!
//! `cargo bench -p backup-benches --bench index` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod measure;
mod steps;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_benches::synthetic::{ADDED_BLOBS, Synthetic};
use backup_benches::{ALLOCATOR, Args, Result, data};
use backup_core::crypto::Passphrase;
use measure::Cost;

const HELP: &str = "\
cargo bench -p backup-benches --bench index -- [OPTIONS]

  --millions N   blobs in the repository, in millions (100)
  --dir DIR      keep the repository in DIR, and reuse it if it exists (a temporary directory)
";
/// Most memory of its own that a process may hold, megabytes.
const LIMIT: f64 = 200.0;
/// Bytes on disk for each blob: of index objects, and of the cache while its files become one.
const NEEDED: (u64, u64) = (60, 110);
/// Makes this program one of the processes that are measured.
const CHILD: &str = "--child";

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::new();
    if let Some(args) = args.child(CHILD) {
        return child(args).await;
    }
    let Some((millions, dir)) = options(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    match dir {
        Some(dir) => bench(&dir, millions * 1_000_000).await,
        None => {
            let scratch = tempfile::Builder::new().prefix("backup-bench-index-").tempdir()?;
            bench(scratch.path(), millions * 1_000_000).await
        }
    }
}

/// Millions of blobs, and the directory; nothing if help is wanted.
fn options(mut args: Args) -> Result<Option<(u64, Option<PathBuf>)>> {
    if args.flag("--help") || args.flag("-h") {
        return Ok(None);
    }
    let (millions, dir) = (args.value_or("--millions", 100)?, args.value("--dir")?);
    args.end()?;
    if millions == 0 {
        return Err("--millions needs a number above 0".into());
    }
    Ok(Some((millions, dir)))
}

async fn bench(dir: &Path, blobs: u64) -> Result<()> {
    let repository = dir.join("repository");
    need_space(dir, blobs * if repository.exists() { NEEDED.1 } else { NEEDED.0 + NEEDED.1 })?;
    let objects = Synthetic::objects(blobs);
    let tenth = objects.div_ceil(10);
    println!(
        "{objects} index objects for {} million blobs in {} …",
        blobs / 1_000_000,
        repository.display()
    );
    let told = |stored: u64| {
        if stored.is_multiple_of(tenth) {
            println!("{stored} index objects stored");
        }
    };
    let synthetic =
        Synthetic::make(&repository, &Passphrase::new(steps::PHRASE), blobs, told).await?;
    println!(
        "the index objects have {} MB\n",
        data::size_of(&repository.join("index"))? / 1_000_000
    );
    let cache = tempfile::Builder::new().prefix("cache-").tempdir_in(dir)?;
    println!(
        "{:<24}{:>10}{:>10}{:>16}{:>14}{:>12}",
        "", "CPU s", "wall s", "peak anon MB", "peak RSS MB", "cache MB"
    );
    let run =
        |title: &str, step: &str, blobs: u64| run(title, step, &repository, cache.path(), blobs);
    let mut peaks =
        vec![run("open, empty cache", "open", blobs)?.0, run("open, warm cache", "open", blobs)?.0];
    let (peak, times) = run("3 million look-ups", "lookups", blobs)?;
    peaks.push(peak);
    let added = synthetic.add().await?;
    let opened = run("open, 20 new objects", "open", blobs + ADDED_BLOBS);
    synthetic.remove(&added).await?;
    peaks.push(opened?.0);
    println!("\none look-up, ns: {times}");
    let peak = peaks.into_iter().fold(0.0, f64::max);
    if peak > LIMIT {
        return Err(format!("a process held {peak:.0} MB of memory; {LIMIT} are allowed").into());
    }
    Ok(())
}

fn need_space(dir: &Path, needed: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let space = rustix::fs::statvfs(dir)?;
    let free = space.f_bavail * space.f_frsize;
    if free < needed {
        let (free, needed) = (free / 1_000_000, needed / 1_000_000);
        return Err(
            format!("{} has {free} MB free, but {needed} MB are needed", dir.display()).into()
        );
    }
    Ok(())
}

/// Runs a step in a process of its own and prints what it cost; returns its peak of memory, and the
/// times of look-ups.
fn run(
    title: &str,
    step: &str,
    repository: &Path,
    cache: &Path,
    blobs: u64,
) -> Result<(f64, String)> {
    // What the step before left in memory is written before the clock starts.
    rustix::fs::sync();
    let output = Command::new(std::env::current_exe()?)
        .args([CHILD, step])
        .args([repository, cache])
        .arg(blobs.to_string())
        .envs(ALLOCATOR)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{title}: failed").into());
    }
    let (cost, times) = Cost::parse(&String::from_utf8_lossy(&output.stdout))?;
    let Cost { wall, cpu, anon, rss } = cost;
    let size = data::size_of(cache)? / 1_000_000;
    println!("{title:<24}{cpu:>10.1}{wall:>10.1}{anon:>16.0}{rss:>14.0}{size:>12}");
    let times = match times[..] {
        [unknown, known, again] => {
            format!("unknown {unknown:.0}, known {known:.0}, known again {again:.0}")
        }
        _ => String::new(),
    };
    Ok((anon, times))
}

async fn child(args: &[String]) -> Result<()> {
    let [step, repository, cache, blobs] = args else {
        return Err(format!("{CHILD} is an internal argument of this program").into());
    };
    let (repository, cache, blobs) = (Path::new(repository), Path::new(cache), blobs.parse()?);
    match step.as_str() {
        "open" => println!("{}", steps::open(repository, cache, blobs).await?),
        "lookups" => {
            let (cost, [unknown, known, again]) = steps::lookups(repository, cache, blobs).await?;
            println!("{cost} {unknown} {known} {again}");
        }
        _ => return Err(format!("unknown step {step}").into()),
    }
    Ok(())
}

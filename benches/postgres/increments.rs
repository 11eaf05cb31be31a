//! What changed after transactions as of TPC-B, beside pgBackRest's incremental backup of blocks:
//! both build on their own backup before, of the same state, and store the same changes.

use std::path::{Path, PathBuf};

use crate::measure::Cost;
use crate::steps::Bench;
use crate::{Result, ours, stock};

/// Branches of the bank: 100 000 accounts each, 15 MB.
const BRANCHES: u32 = 50;
const TRANSACTIONS: u32 = 10_000;
/// CPU seconds of both sides and stored bytes, as a share of theirs, and megabytes of memory, at
/// most.
const CPU: f64 = 0.5;
const STORED: f64 = 0.6;
const MEMORY: f64 = 200.0;

/// One incremental backup.
struct Increment {
    cost: Cost,
    /// Megabytes that the repository has grown by.
    stored: f64,
}

/// Measures both, prints them, and says what of ours is more than it may be.
pub(crate) fn judge(bench: &Bench, runs: u32) -> Result<Vec<String>> {
    done(stock::bank(&bench.server, BRANCHES)?)?;
    bench.server.sql("CHECKPOINT")?;
    let (theirs, own) = (bench.new_path("blocks")?, bench.new_path("increments")?);
    bench.stanza(&theirs, true)?;
    done(stock::pgbackrest(&bench.server, &theirs, true, stock::FULL)?)?;
    done(ours::command("physical", &bench.server, &own)?)?;
    let (mut of_theirs, mut of_own) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        done(stock::transactions(&bench.server, TRANSACTIONS)?)?;
        bench.server.sql("CHECKPOINT")?;
        let command = stock::pgbackrest(&bench.server, &theirs, true, stock::INCREMENT)?;
        of_theirs.push(increment(bench, &command, &theirs)?);
        of_own.push(increment(bench, &ours::command("increment", &bench.server, &own)?, &own)?);
    }
    let (theirs, own) = (median(of_theirs)?, median(of_own)?);
    println!(
        "\n{TRANSACTIONS} transactions of TPC-B on {BRANCHES} branches; the last column is stored \
         MB"
    );
    println!("{}{:>10.1}", theirs.cost.row("pgBackRest: changed blocks"), theirs.stored);
    println!("{}{:>10.1}", own.cost.row("incremental backup, encrypted"), own.stored);
    let (cpu, stored) = (own.cost.sum() / theirs.cost.sum(), own.stored / theirs.stored);
    println!(
        "\nincremental backup vs pgBackRest: CPU {cpu:.2} (at most {CPU}), stored bytes \
         {stored:.2} (at most {STORED})"
    );
    let mut missed = Vec::new();
    for (what, found, limit) in
        [("CPU", cpu, CPU), ("bytes", stored, STORED), ("MB of memory", own.cost.peak, MEMORY)]
    {
        if found > limit {
            missed.push(format!("incremental backup, {what}: {found:.2}"));
        }
    }
    Ok(missed)
}

fn increment(
    bench: &Bench,
    command: &std::process::Command,
    repository: &Path,
) -> Result<Increment> {
    let before = size(repository)?;
    let cost = bench.cost(command)?;
    #[expect(clippy::cast_precision_loss, reason = "megabytes for display")]
    let stored = size(repository)?.saturating_sub(before) as f64 / 1e6;
    Ok(Increment { cost, stored })
}

/// Bytes of all files in a directory.
fn size(dir: &Path) -> Result<u64> {
    let (mut bytes, mut waiting) = (0, vec![PathBuf::from(dir)]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => waiting.push(entry.path()),
                kind if kind.is_file() => bytes += entry.metadata()?.len(),
                _ => {}
            }
        }
    }
    Ok(bytes)
}

fn median(mut of: Vec<Increment>) -> Result<Increment> {
    of.sort_by(|a, b| a.cost.sum().total_cmp(&b.cost.sum()));
    let middle = of.len() / 2;
    of.into_iter().nth(middle).ok_or_else(|| "nothing was measured".into())
}

/// Runs what is not measured.
fn done(mut command: std::process::Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Err(format!("{:?} failed: {said}", command.get_program()).into())
}

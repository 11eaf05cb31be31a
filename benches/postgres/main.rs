//! What backups of PostgreSQL cost beside `pg_dump -Fc`, `pg_basebackup` and pgBackRest: CPU
//! seconds of both sides of the connection, wall seconds and peak memory, on the same data in the
//! same run.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the table, the limits |
//! | `server.rs` | a server and its data |
//! | `steps.rs` | what is measured |
//! | `increments.rs` | what changed after transactions, beside pgBackRest's blocks |
//! | `stock.rs` | the commands of others |
//! | `ours.rs` | our own, in a process of their own |
//! | `measure.rs` | a command, and what it and the server have taken |
//!
//! `cargo bench -p backup-benches --bench postgres` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod increments;
mod measure;
mod ours;
mod server;
mod steps;
mod stock;

use backup_benches::{Args, Result};
use measure::Cost;
use server::Server;
use steps::{Bench, STEPS, Step};

/// CPU seconds of both sides of one step, as a share of another one's, at most.
const LIMITS: [(Step, Step, f64); 4] = [
    (Step::Logical, Step::Dump, 0.6),
    (Step::Physical, Step::StockEncrypted, 1.0),
    (Step::Physical, Step::StockPlain, 1.3),
    (Step::PhysicalRestore, Step::StockRestore, 1.0),
];
/// Megabytes of ours.
const MEMORY: f64 = 150.0;
/// Megabytes of rows of which a logical backup takes hardly longer than of none: that shows what it
/// costs to begin.
const FEW: u32 = 30;

fn main() -> Result<()> {
    let mut args = Args::new();
    if let Some(args) = args.child("--step") {
        return ours::run(args);
    }
    let megabytes: u32 = args.value_or("--mb", 500)?;
    let runs: u32 = args.value_or("--runs", 3)?;
    let is_of_increments = args.flag("--increments");
    args.end()?;
    let bench = Bench::new(Server::start()?)?;
    println!("medians of {runs} runs");
    if is_of_increments {
        return verdict(&increments::judge(&bench, runs)?);
    }
    if megabytes > FEW {
        let medians = table(&bench, FEW, &[Step::Dump, Step::Logical], runs)?;
        let share = medians[1].sum() / medians[0].sum();
        println!("\n{}: CPU {share:.2} of {}", Step::Logical.title(), Step::Dump.title());
        bench.server.clear()?;
    }
    let mut missed = judge(&table(&bench, megabytes, &STEPS, runs)?)?;
    bench.server.clear()?;
    missed.extend(increments::judge(&bench, runs)?);
    verdict(&missed)
}

fn verdict(missed: &[String]) -> Result<()> {
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", ")).into()) }
}

/// Makes so many megabytes of rows, measures steps, and prints them.
fn table(bench: &Bench, megabytes: u32, steps: &[Step], runs: u32) -> Result<Vec<Cost>> {
    bench.server.fill(megabytes)?;
    let title = format!("{megabytes} MB of rows");
    println!(
        "\n{title:<34}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "client s", "server s", "sum s", "wall s", "peak MB"
    );
    let mut medians: Vec<Cost> = Vec::new();
    for step in steps {
        let mut costs = Vec::new();
        for _ in 0..runs.max(1) {
            costs.push(bench.measure(*step)?);
        }
        costs.sort_by(|a, b| a.sum().total_cmp(&b.sum()));
        let median = costs.swap_remove(costs.len() / 2);
        println!("{}", median.row(step.title()));
        medians.push(median);
    }
    Ok(medians)
}

/// Compares with the limits: what was missed.
fn judge(medians: &[Cost]) -> Result<Vec<String>> {
    let of = |wanted: Step| {
        let at = STEPS.iter().position(|step| *step == wanted);
        at.and_then(|at| medians.get(at))
            .ok_or_else(|| format!("{} was not measured", wanted.title()))
    };
    println!();
    let mut missed = Vec::new();
    for (ours, other, limit) in LIMITS {
        let share = of(ours)?.sum() / of(other)?.sum();
        println!("{}: CPU {share:.2} of {} (at most {limit})", ours.title(), other.title());
        if share > limit {
            missed.push(format!("{}: CPU {share:.2}", ours.title()));
        }
    }
    for step in STEPS.into_iter().filter(|step| step.is_ours()) {
        let peak = of(step)?.peak;
        if peak > MEMORY {
            missed.push(format!("{}: {peak:.0} MB (at most {MEMORY:.0})", step.title()));
        }
    }
    Ok(missed)
}

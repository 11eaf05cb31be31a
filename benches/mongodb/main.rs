//! What a backup of MongoDB costs this side of the connection: CPU seconds per GB, wall seconds and
//! peak memory.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the table |
//! | `server.rs` | servers and their data |
//! | `steps.rs` | what is measured, each step in a process of its own |
//!
//! `cargo bench -p backup-benches --bench mongodb` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod server;
mod steps;

use std::path::PathBuf;
use std::process::Command;

use backup_benches::{ALLOCATOR, Args, Result};
use server::Server;
use steps::{Cost, STEPS, Step};

fn main() -> Result<()> {
    let mut args = Args::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(args) = args.child("--step") {
        let cost = runtime.block_on(steps::run(args))?;
        println!("{cost}");
        return Ok(());
    }
    let megabytes: u32 = args.value_or("--mb", 1000)?;
    let runs: u32 = args.value_or("--runs", 3)?;
    args.end()?;
    let (origin, target) = (Server::start()?, Server::start()?);
    println!("making {megabytes} MB of documents …");
    runtime.block_on(server::fill(&origin.uri, megabytes))?;
    println!(
        "medians of {runs} runs, per GB of documents; the last row in operations per second\n"
    );
    println!("{:<34}{:>10}{:>10}{:>12}{:>10}", "", "CPU s/GB", "wall s/GB", "peak MB", "at most");
    let mut missed = Vec::new();
    for step in STEPS {
        let mut costs = Vec::new();
        for _ in 0..runs {
            let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
            runtime.block_on(server::clear(&target.uri))?;
            costs.push(in_a_process(step, &origin, &target, scratch.path())?);
        }
        costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
        let median = costs.swap_remove(costs.len() / 2);
        println!("{}", step.row(&median));
        if !step.is_kept(&median) {
            missed.push(step.title());
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", ")).into()) }
}

fn in_a_process(
    step: Step,
    origin: &Server,
    target: &Server,
    scratch: &std::path::Path,
) -> Result<Cost> {
    let itself: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(itself);
    let output = command
        .envs(ALLOCATOR)
        .args(["--step", step.word(), &origin.uri, &target.uri])
        .arg(scratch)
        .output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", step.title(), String::from_utf8_lossy(&output.stderr)).into());
    }
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().parse()
}

//! What a backup of MongoDB costs this side of the connection: CPU seconds per GB, wall seconds and
//! peak memory.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the table |
//! | `server.rs` | servers and their data |
//! | `steps.rs` | what is measured, each step in a process of its own |
//! | `collections.rs` | thousands of small collections, compared with a plain client |
//!
//! `cargo bench -p backup-benches --bench mongodb` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod collections;
mod server;
mod steps;

use std::path::{Path, PathBuf};
use std::process::Command;

use backup_benches::{ALLOCATOR, Args, Result};
use collections::COLLECTIONS;
use server::Server;
use steps::{Cost, STEPS, Step};
use tokio::runtime::Runtime;

fn main() -> Result<()> {
    let mut args = Args::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(args) = args.child("--step") {
        println!("{}", runtime.block_on(step(args))?);
        return Ok(());
    }
    let megabytes: u32 = args.value_or("--mb", 1000)?;
    let runs: u32 = args.value_or("--runs", 3)?;
    let count: u32 = args.value_or("--collections", COLLECTIONS)?;
    let is_of_collections = args.flag("--only-collections");
    args.end()?;
    let mut missed = Vec::new();
    if !is_of_collections {
        missed = of_documents(&runtime, runs, megabytes)?;
    }
    missed.extend(collections::judge(&runtime, runs, count)?);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", ")).into()) }
}

/// The cost of one step, in this process.
async fn step(args: &[String]) -> Result<String> {
    match args.split_first() {
        Some((word, args)) if word == "plain" => Ok(collections::plain(args).await?.to_string()),
        Some((word, args)) if word == "collections" => {
            Ok(Box::pin(collections::restored(args)).await?.to_string())
        }
        _ => Ok(Box::pin(steps::run(args)).await?.to_string()),
    }
}

/// Measures all steps with large collections; returns the titles of those that cost too much.
fn of_documents(runtime: &Runtime, runs: u32, megabytes: u32) -> Result<Vec<String>> {
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
            missed.push(step.title().to_owned());
        }
    }
    Ok(missed)
}

fn in_a_process(step: Step, origin: &Server, target: &Server, scratch: &Path) -> Result<Cost> {
    let scratch = scratch.to_str().ok_or("the scratch directory is not UTF-8")?;
    let output = child(&[step.word(), &origin.uri, &target.uri, scratch]);
    output.map_err(|error| format!("{}: {error}", step.title()))?.parse()
}

/// Runs a step in a process of its own; returns its last line.
fn child(args: &[&str]) -> Result<String> {
    let itself: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(itself);
    let output = command.envs(ALLOCATOR).arg("--step").args(args).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned())
}

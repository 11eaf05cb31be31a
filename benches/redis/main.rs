//! What a snapshot of Redis and a restore cost, beside `redis-cli --rdb` and `redis-cli --pipe` on
//! the same data in the same run.
//!
//! | file | what is in it |
//! |---|---|
//! | `main.rs` | arguments, the table, the limits |
//! | `server.rs` | servers, their data, and stock commands |
//! | `ours.rs` | our own steps, each in a process of its own |
//!
//! `cargo bench -p backup-benches --bench redis` runs it; `README.md` says more.

#![expect(clippy::print_stdout, reason = "this program prints a table")]

mod ours;
mod server;

use backup_benches::{Args, Result};
use server::{Cost, Server};

/// Server's main thread of a snapshot, as a share of that of `redis-cli --rdb`, at most.
const SERVER: f64 = 1.2;
/// CPU seconds of the client for each million keys of a snapshot, beyond opening the repository, at
/// most.
const CLIENT: f64 = 0.3;
/// Keys per second that are restored, at least, or
const RATE: f64 = 300_000.0;
/// so many times as long as `redis-cli --pipe` takes for the same commands, at most.
const PIPE: f64 = 1.3;
/// Megabytes of ours.
const MEMORY: f64 = 100.0;

fn main() -> Result<()> {
    let mut args = Args::new();
    if let Some(args) = args.child("--step") {
        println!("{}", ours::run(args)?);
        return Ok(());
    }
    let keys: u32 = args.value_or("--keys", 1_000_000)?;
    let runs = args.value_or("--runs", 3_u32)?.max(1);
    args.end()?;
    let room = tempfile::Builder::new().prefix("backup-bench-redis-").tempdir()?;
    let (origin, target) = (Server::start()?, Server::start()?);
    println!("making {keys} keys …");
    origin.fill(keys)?;
    let commands = room.path().join("commands");
    origin.write_restores(keys, &commands)?;
    println!("medians of {runs} runs\n");
    println!(
        "{:<22}{:>12}{:>16}{:>10}{:>12}{:>10}",
        "", "client CPU s", "server's main s", "wall s", "keys/s", "peak MB"
    );
    let median = |title: &str, step: &dyn Fn(u32) -> Result<Cost>| {
        let mut costs = (0..runs).map(step).collect::<Result<Vec<_>>>()?;
        costs.sort_by(|a, b| (a.client + a.server).total_cmp(&(b.client + b.server)));
        let cost = costs.swap_remove(costs.len() / 2);
        println!("{}", cost.row(title, keys));
        Result::Ok(cost)
    };
    let repository = |run: u32| room.path().join(format!("repository-{run}"));
    let rdb = median("redis-cli --rdb", &|_| origin.rdb(&room.path().join("dump.rdb")))?;
    let snapshot =
        median("snapshot, encrypted", &|run| ours::step("backup", &origin, &repository(run)))?;
    let pipe = median("redis-cli --pipe", &|_| target.pipe(&commands))?;
    let restored = median("restore, RESTORE", &|_| {
        target.clear()?;
        ours::step("restore", &target, &repository(0))
    })?;
    judge(keys, &rdb, &snapshot, &pipe, &restored)
}

/// Compares with the limits.
fn judge(keys: u32, rdb: &Cost, snapshot: &Cost, pipe: &Cost, restored: &Cost) -> Result<()> {
    let millions = f64::from(keys) / 1e6;
    let (server, slower) = (snapshot.server / rdb.server, restored.wall / pipe.wall);
    println!(
        "\nsnapshot: {server:.2} times the main-thread CPU of redis-cli --rdb (at most {SERVER})"
    );
    println!(
        "restore: {slower:.2} times the duration of redis-cli --pipe (at most {PIPE}, or at least \
         {RATE} keys per second)"
    );
    let is_fast = slower <= PIPE || f64::from(keys) / restored.wall >= RATE;
    let rows = [
        (server <= SERVER, "server CPU of a snapshot"),
        (snapshot.client <= CLIENT * millions, "client CPU of a snapshot"),
        (is_fast, "restoring"),
        (snapshot.peak.max(restored.peak) <= MEMORY, "memory"),
    ];
    let missed: Vec<&str> =
        rows.into_iter().filter(|(good, _)| !good).map(|(_, what)| what).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join(", ")).into()) }
}

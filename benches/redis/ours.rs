//! Our own steps, each in a process of its own: what it says of itself is counted from where the
//! repository is open.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use backup_benches::{ALLOCATOR, cpu_of, peak};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::repository::{InitOptions, Repository};
use backup_core::source::RestoreRequest;
use backup_sources::redis::{RedisOptions, RedisSource};
use backup_storage::LocalSink;

use crate::Result;
use crate::server::{Cost, Server};

const PASSPHRASE: &str = "of the bench";

/// This program again, for one step: `backup` into a new repository or `restore` out of one.
pub(crate) fn step(step: &str, server: &Server, repository: &Path) -> Result<Cost> {
    let before = server.cpu()?;
    let mut command = Command::new(std::env::current_exe()?);
    let output = command
        .envs(ALLOCATOR)
        .args(["--step", step, &server.port.to_string()])
        .arg(repository)
        .output()?;
    if !output.status.success() {
        return Err(format!("{step}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> =
        said.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [client, wall, peak] = numbers[..] else {
        return Err("a step must print three numbers".into());
    };
    Ok(Cost { client, server: server.cpu()? - before, wall, peak })
}

/// A step: its name, the server's port, and where the repository is. Says CPU seconds, seconds and
/// megabytes.
pub(crate) fn run(args: &[String]) -> Result<String> {
    let [step, port, repository] = args else {
        return Err("a step requires three arguments".into());
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let cx = Context::silent();
        let source =
            RedisSource::connect(RedisOptions::parse(&format!("redis://127.0.0.1:{port}"))?)
                .await?;
        let passphrase = Passphrase::new(PASSPHRASE);
        let (begun, cpu) = if step == "backup" {
            let sink = Arc::new(LocalSink::create(repository)?);
            let opened = Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await?;
            let begun = (Instant::now(), cpu_of("self")?);
            let options = BackupOptions { estimate: false, ..BackupOptions::default() };
            backup(&opened, &source, &options, &cx).await?;
            begun
        } else {
            let opened =
                Repository::open(Arc::new(LocalSink::open(repository)?), &passphrase).await?;
            let snapshots = opened.snapshots(&cx).await?;
            let newest = snapshots.snapshots.last().ok_or("the repository has no snapshot")?;
            let snapshot = opened.load_index(&cx).await?.snapshot(newest);
            let begun = (Instant::now(), cpu_of("self")?);
            restore(&snapshot, &source, &RestoreRequest::default(), &cx).await?;
            begun
        };
        Ok(format!("{} {} {}", cpu_of("self")? - cpu, begun.elapsed().as_secs_f64(), peak()?))
    })
}

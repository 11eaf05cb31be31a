//! Our own steps, each in a process of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use backup_benches::ALLOCATOR;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::repository::{InitOptions, Repository};
use backup_core::source::{BackupKind, RestoreRequest, Source};
use backup_sources::postgres::{
    LogicalOptions, LogicalSource, PostgresDirectory, PostgresOptions, PostgresSource,
};
use backup_storage::LocalSink;

use crate::Result;
use crate::server::{Server, programs};

/// This program again, for one step: `logical`, `digests`, `physical`, `increment` or `restore`.
/// The repository is new, or has what is restored or built on.
pub(crate) fn command(
    step: &str,
    server: &Server,
    repository: &std::path::Path,
) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.envs(ALLOCATOR).args(["--step", step, &server.port.to_string()]).arg(repository);
    Ok(command)
}

/// A step: its name, the server's port, and where the repository is. What is restored goes beside
/// that.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [step, port, repository] = args else {
        return Err("a step requires three arguments".into());
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let address = format!("postgres://postgres@127.0.0.1:{port}/?sslmode=disable");
    let connection = PostgresOptions { slot: None, ..PostgresOptions::parse(&address)? };
    runtime.block_on(async {
        match &**step {
            "physical" => back_up(&PostgresSource::connect(connection).await?, repository).await,
            "increment" => add(&PostgresSource::connect(connection).await?, repository).await,
            "restore" => restored(repository).await,
            kind => {
                let digests = kind == "digests";
                let options = LogicalOptions {
                    programs: Some(programs()?),
                    digests,
                    jobs: 2,
                    ..LogicalOptions::new(connection)
                };
                back_up(&LogicalSource::connect(options).await?, repository).await
            }
        }
    })
}

async fn back_up(source: &dyn Source, repository: &str) -> Result<()> {
    let cx = Context::silent();
    let sink = Arc::new(LocalSink::create(repository)?);
    let passphrase = Passphrase::generate();
    std::fs::write(key_file(repository), passphrase.reveal())?;
    let repository = Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await?;
    let options = BackupOptions { estimate: false, ..BackupOptions::default() };
    backup(&repository, source, &options, &cx).await?;
    Ok(())
}

/// As `init --generate-key --key-file` writes it: pgBackRest takes its pass phrase as it is, too.
fn key_file(repository: &str) -> PathBuf {
    PathBuf::from(repository).with_extension("key")
}

async fn opened(repository: &str) -> Result<Repository> {
    let passphrase = Passphrase::new(std::fs::read_to_string(key_file(repository))?);
    Ok(Repository::open(Arc::new(LocalSink::open(repository)?), &passphrase).await?)
}

/// What changed since the backup before.
async fn add(source: &dyn Source, repository: &str) -> Result<()> {
    let cx = Context::silent();
    let repository = opened(repository).await?;
    let options = BackupOptions {
        kind: Some(BackupKind::Incremental),
        estimate: false,
        ..BackupOptions::default()
    };
    let report = backup(&repository, source, &options, &cx).await?;
    if report.kind == BackupKind::Incremental {
        Ok(())
    } else {
        Err("the backup is not incremental".into())
    }
}

async fn restored(repository: &str) -> Result<()> {
    let cx = Context::silent();
    let target = PathBuf::from(repository).with_extension("restored");
    let opened = opened(repository).await?;
    let snapshots = opened.snapshots(&cx).await?;
    let newest = snapshots.snapshots.last().ok_or("the repository has no snapshot")?;
    let snapshot = opened.load_index(&cx).await?.snapshot(newest);
    let request =
        RestoreRequest { target: Some(target.display().to_string()), ..RestoreRequest::default() };
    restore(&snapshot, &PostgresDirectory::new(PostgresOptions::default()), &request, &cx).await?;
    Ok(())
}

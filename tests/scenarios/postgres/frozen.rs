//! Servers that stop without closing their connections, and statements that take long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::error::Error;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::Source;
use backup_core::testing::MemorySink;
use backup_sources::Waits;
use backup_sources::postgres::{LogicalOptions, LogicalSource, PostgresOptions};

use super::{options, source_with};
use crate::support::notes::Notes;
use crate::support::postgres::{Postgres, Version};
use crate::support::repo::Repo;

const TIMEOUT: Duration = Duration::from_secs(7);

/// Settings with the short time-out, and notes of the waits.
fn limited(server: &Postgres) -> (PostgresOptions, Context, Arc<Notes>) {
    let (cx, notes) = Notes::context();
    let waits = Waits::new(TIMEOUT, cx.events.clone());
    (PostgresOptions { waits, ..options(server) }, cx, notes)
}

/// Backs up, and stops the server once it sends rows or files.
async fn freeze_while_backing_up(
    server: &Postgres,
    source: &dyn Source,
    cx: &Context,
) -> (Error, Duration) {
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let options = BackupOptions::default();
    let freezing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.pause(true);
        Instant::now()
    };
    let backing_up = backup(&repo.repository, source, &options, cx);
    let (result, frozen) = tokio::join!(backing_up, freezing);
    let passed = frozen.elapsed();
    server.pause(false);
    assert!(repo.snapshots().await.is_empty());
    (result.unwrap_err(), passed)
}

#[track_caller]
fn assert_given_up(server: &Postgres, (error, passed): (Error, Duration), notes: &Notes) {
    let text = format!("{} {:?}", error.chain(), error.hint());
    assert!(text.contains("no answer for 7 seconds"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`timeout`")), "{text}");
    assert!(passed < TIMEOUT * 3, "given up after {passed:?}");
    let waiting = format!("waiting for 127.0.0.1:{}: no answer for 5 seconds", server.port());
    assert!(notes.all().contains(&waiting), "{:?}", notes.all());
}

async fn filled(version: Version) -> Postgres {
    let server = Postgres::start(version).await;
    let rows = "CREATE TABLE large AS SELECT n, repeat(md5(n::text), 30) AS t FROM \
                generate_series(1, 60000) n; ALTER TABLE large ALTER t SET STORAGE EXTERNAL";
    server.run(rows).await;
    server
}

pub(super) async fn base_backup_of_a_frozen_server_is_given_up(version: Version) {
    let server = filled(version).await;
    let (options, cx, notes) = limited(&server);
    // Slow enough for the server to be in the middle.
    let options = PostgresOptions { max_bytes_per_second: Some(4 << 20), ..options };
    let source = source_with(options).await;
    let failed = freeze_while_backing_up(&server, &source, &cx).await;
    assert_given_up(&server, failed, &notes);
}

fn logical(connection: PostgresOptions) -> LogicalOptions {
    let programs = Some(super::logical::programs());
    LogicalOptions { programs, ..LogicalOptions::new(connection) }
}

pub(super) async fn logical_backup_of_a_frozen_server_is_given_up(version: Version) {
    let server = filled(version).await;
    let (options, cx, notes) = limited(&server);
    let options = PostgresOptions { max_bytes_per_second: Some(4 << 20), ..options };
    let source = LogicalSource::connect(logical(options)).await.unwrap();
    let failed = freeze_while_backing_up(&server, &source, &cx).await;
    assert_given_up(&server, failed, &notes);
}

/// A checkpoint that is spread over 27 seconds precedes the backup: the server answers questions.
pub(super) async fn long_checkpoint_is_waited_for(version: Version) {
    let settings = ["checkpoint_timeout=30s", "checkpoint_completion_target=0.9"];
    let server = Postgres::with(version, &[], &settings).await;
    server.run("CHECKPOINT").await;
    server
        .run("CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n")
        .await;
    let (options, cx, notes) = limited(&server);
    let source = source_with(PostgresOptions { fast_checkpoint: false, ..options }).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let began = Instant::now();
    let done = backup(&repo.repository, &source, &BackupOptions::default(), &cx).await;
    done.unwrap_or_else(|error| panic!("{} {:?}", error.chain(), notes.all()));
    assert!(began.elapsed() > TIMEOUT * 2, "the checkpoint was too fast: {:?}", began.elapsed());
    let running = "a statement has been running for 5 seconds";
    assert!(notes.all().iter().any(|note| note.ends_with(running)), "{:?}", notes.all());
}

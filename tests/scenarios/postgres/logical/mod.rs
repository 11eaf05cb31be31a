//! Logical backups.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | what the scenarios share |
//! | `fill.rs` | a database with everything that is easily lost |
//! | `round_trip.rs` | whole databases, from version to version, under load |
//! | `parts.rs` | schemas, tables, other names, what is there already |
//! | `beside.rs` | copies beside originals that have partitions |
//! | `owners.rs` | restores by roles that are no superusers |
//! | `loadable.rs` | backups that other servers can load |
//! | `refused.rs` | objects that the target refuses |
//! | `deferred.rs` | objects that a second attempt restores, missing roles |
//! | `generated/` | generated databases |
//! | `plans.rs` | rows that plans of restores give |
//! | `compare.rs` | snapshots beside servers |
//! | `odd.rs` | names, texts and numbers that are easily overlooked |
//! | `failures.rs` | rights, locks, whoever dies on the way |
//! | `program.rs` | the program itself |
//! | `public.rs` | copies of the schema that every database has |
//! | `grants.rs` | privileges that others than the owners granted, databases that are not complete |
//! | `in_use.rs` | objects of the target that stay as they are |
//! | `hostile.rs` | crafted descriptions |
//! | `by_hand.rs` | restoring with stock tools |

pub(super) mod beside;
pub(super) mod by_hand;
pub(super) mod compare;
pub(super) mod deferred;
pub(super) mod failures;
mod fill;
pub(super) mod generated;
pub(super) mod grants;
pub(super) mod hostile;
pub(super) mod in_use;
pub(super) mod loadable;
pub(super) mod odd;
pub(super) mod owners;
pub(super) mod parts;
pub(super) mod plans;
pub(super) mod program;
pub(super) mod public;
pub(super) mod refused;
pub(super) mod round_trip;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use backup_core::error::Result;
use backup_core::pipeline::{BackupOptions, BackupReport, restore};
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreReport, RestoreRequest, Selection, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::postgres::{LogicalOptions, LogicalSource, PostgresOptions, Renames};
use std::sync::Arc;

use super::place::{Place, with_role};
use super::{options, talking};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;
use crate::support::repo::Repo;
use backup_core::testing::tool;

/// Directory of `pg_dump`, `psql` and the like, of the newest version.
pub(super) fn programs() -> PathBuf {
    tool("pg_dump-18").canonicalize().unwrap().parent().unwrap().to_owned()
}

fn logical(server: &Postgres) -> LogicalOptions {
    of(options(server))
}

fn of(connection: PostgresOptions) -> LogicalOptions {
    LogicalOptions { programs: Some(programs()), ..LogicalOptions::new(connection) }
}

async fn source(options: LogicalOptions) -> LogicalSource {
    let connected = LogicalSource::connect(options).await;
    connected.unwrap_or_else(|error| panic!("connecting: {} ({:?})", error.chain(), error.hint()))
}

/// A server with a database `shop`, which these statements made, and the program with a backup of it.
async fn backed_up_shop(version: Version, statements: &str) -> (Postgres, Place) {
    let server = with_role(version, &[], &[]).await;
    server.run("ALTER ROLE backup SUPERUSER").await;
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", statements).await;
    let place = Place::new(&server, &format!("method = \"logical\"\nprograms = {:?}", programs()));
    place.done(&["run", "crm"]);
    (server, place)
}

async fn repo() -> Repo {
    Repo::init(Arc::new(MemorySink::new())).await
}

fn selection(include: &[&str], exclude: &[&str]) -> Selection {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Selection::new(owned(include), owned(exclude)).unwrap()
}

async fn try_back_up(
    repo: &Repo,
    source: &LogicalSource,
    selection: Selection,
) -> Result<BackupReport> {
    let options = BackupOptions { selection, ..BackupOptions::default() };
    backup_core::pipeline::backup(&repo.repository, source, &options, &talking()).await
}

/// Backs up without a warning, and returns the snapshot.
async fn backed_up(repo: &Repo, source: &LogicalSource, selection: Selection) -> SnapshotReader {
    let report = try_back_up(repo, source, selection).await;
    let report =
        report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint()));
    assert_eq!(report.warnings, 0);
    super::base::last_snapshot(repo).await
}

async fn try_restore(
    snapshot: &SnapshotReader,
    to: LogicalOptions,
    request: RestoreRequest,
) -> Result<RestoreReport> {
    let target = source(to).await;
    restore(snapshot, &target, &RestoreRequest { verify: true, ..request }, &talking()).await
}

async fn restored(
    snapshot: &SnapshotReader,
    to: LogicalOptions,
    request: RestoreRequest,
) -> RestoreReport {
    let report = try_restore(snapshot, to, request).await;
    report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
}

fn renaming(server: &Postgres, rules: &[&str]) -> LogicalOptions {
    LogicalOptions { renames: Renames::new(rules).unwrap(), ..logical(server) }
}

async fn digests(server: &Postgres) -> BTreeMap<String, String> {
    let source = source(logical(server)).await;
    let digest = source.digest(&talking(), &Selection::all()).await.unwrap();
    digest.objects.into_iter().map(|(name, digest)| (name, format!("{digest:?}"))).collect()
}

/// Runs a stock program on a server.
fn stock(server: &Postgres, program: &str, database: &str, args: &[&str]) -> String {
    let mut command = Command::new(programs().join(program));
    command
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &server.port().to_string(),
            "-d",
            database,
        ])
        .args(args);
    // One of the databases makes itself read-only.
    run(command.env("PGOPTIONS", "-c default_transaction_read_only=off")).succeeded().text()
}

/// All definitions of a database as text, byte by byte. Comments name versions, and each dump has a
/// key of its own.
fn definitions(server: &Postgres, database: &str) -> String {
    let text = stock(server, "pg_dump", database, &["--schema-only"]);
    let is_key = |line: &str| {
        let key =
            ["\\restrict ", "\\unrestrict "].iter().find_map(|begin| line.strip_prefix(begin));
        key.is_some_and(|key| key.trim_end().len() >= 32)
    };
    text.split_inclusive('\n')
        .filter(|line| !line.starts_with("-- Dumped") && !is_key(line))
        .collect()
}

/// One text from another database than the administrator's.
async fn value_of(server: &Postgres, database: &str, sql: &str) -> String {
    let row = server.client_of(database).await.query_one(sql, &[]).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error} {:?}", error.as_db_error())).get(0)
}

async fn run_in(server: &Postgres, database: &str, sql: &str) {
    let done = server.client_of(database).await.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
}

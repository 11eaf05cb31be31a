//! Backups and restores of generated databases.

use backup_core::repository::SnapshotReader;
use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Selection};
use backup_sources::postgres::{LogicalOptions, PostgresOptions, Renames};
use std::fmt::Write as _;

use super::names::{quoted, unquoted};
use super::oracle::{Rows, definitions, difference, differing, digest_of, rows};
use super::tables::Table;
use super::{READERS, Schema, owner};
use crate::scenarios::postgres::base::last_snapshot;
use crate::scenarios::postgres::logical::{
    logical, of, repo, source, try_back_up, try_restore, value_of,
};
use crate::scenarios::postgres::say;
use crate::support::long::long;
use crate::support::postgres::{Postgres, Version};
use crate::support::repo::Repo;

/// Databases of one round, each of a seed of its own: one backup reads all of them.
const ROUND: u64 = 5;
const ROUNDS: u64 = 40;

/// Definitions and rows of a database.
struct State {
    definitions: String,
    rows: Rows,
}

impl State {
    async fn of(server: &Postgres, schema: &Schema) -> Result<Self, String> {
        let moves: Vec<String> =
            schema.tables.iter().filter(|table| table.moves).map(Table::sql_quoted).collect();
        let rows = rows(server, &schema.database, &moves).await?;
        Ok(Self { definitions: definitions(server, &schema.database)?, rows })
    }

    fn require_equal(&self, found: &Self, after: &str) -> Result<(), String> {
        let rows = differing(&self.rows, &found.rows);
        let definitions = difference(&self.definitions, &found.definitions);
        let mut problem = String::new();
        for (kind, differences) in [("rows", rows), ("definitions", definitions)] {
            if let Some(differences) = differences {
                _ = write!(problem, "{after}: {kind} differ:\n{differences}\n");
            }
        }
        if problem.is_empty() { Ok(()) } else { Err(problem) }
    }
}

/// Five seeds; with `--long`, two hundred.
pub(crate) async fn generated_databases_come_back(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    for one in [&server, &copy] {
        one.run(&format!("CREATE ROLE {} LOGIN", quoted(owner()))).await;
        for reader in READERS {
            one.run(&format!("CREATE ROLE {}", quoted(reader))).await;
        }
    }
    let rounds = if long() { ROUNDS } else { 1 };
    let mut problems = Vec::new();
    for first in (0..rounds).map(|round| 1 + round * ROUND) {
        let seeds: Vec<u64> = (first..first + ROUND).collect();
        let Err(problem) = check(&server, &copy, version, &seeds).await else { continue };
        // Each by itself, so that the seed is known.
        let before = problems.len();
        for seed in seeds {
            if let Err(problem) = check(&server, &copy, version, &[seed]).await {
                let shown = Schema::generate(seed, version).shown();
                say(&format!("-- seed {seed}: {problem}\n{shown}"));
                problems.push(format!("seed {seed}: {problem}"));
            }
        }
        if problems.len() == before {
            problems.push(format!("seeds from {first} together: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

async fn check(
    server: &Postgres,
    copy: &Postgres,
    version: Version,
    seeds: &[u64],
) -> Result<(), String> {
    let mut schemas: Vec<Schema> =
        seeds.iter().map(|seed| Schema::generate(*seed, version)).collect();
    let mut states = Vec::new();
    for schema in &schemas {
        make(server, schema).await?;
        states.push(State::of(server, schema).await?);
    }
    let databases: Vec<String> =
        schemas.iter().map(|schema| pattern(&[&schema.database])).collect();
    let repo = repo().await;
    let snapshot = backed_up(&repo, server, &databases).await?;
    let request = || RestoreRequest {
        selection: Selection::new(databases.clone(), Vec::new()).unwrap(),
        if_exists: IfExists::Fail,
        ..RestoreRequest::default()
    };
    for is_superuser in [true, false] {
        for schema in &schemas {
            drop_database(copy, schema).await;
            if !is_superuser {
                create_database(copy, schema).await;
            }
        }
        let (to, by) =
            if is_superuser { (logical(copy), "superuser") } else { (by_owner(copy), "owner") };
        restore(&snapshot, to, request(), by).await?;
        for (schema, state) in schemas.iter().zip(&states) {
            let found = State::of(copy, schema).await?;
            state.require_equal(&found, &format!("restored by the {by}"))?;
        }
    }
    for (schema, state) in schemas.iter_mut().zip(&states) {
        beside(server, &snapshot, schema, state).await?;
        schema_beside(server, &snapshot, schema, state).await?;
        drop_database(server, schema).await;
    }
    Ok(())
}

/// Makes a generated database.
async fn make(server: &Postgres, schema: &Schema) -> Result<(), String> {
    drop_database(server, schema).await;
    create_database(server, schema).await;
    let client =
        server.client_of(&schema.database.replace('\\', "\\\\").replace('\'', "\\'")).await;
    let become_owner = format!("SET SESSION AUTHORIZATION {}", quoted(owner()));
    for statement in [&become_owner].into_iter().chain(&schema.statements) {
        let done = client.batch_execute(statement).await;
        done.map_err(|error| format!("the generator: {statement}: {:?}", error.as_db_error()))?;
    }
    Ok(())
}

async fn create_database(server: &Postgres, schema: &Schema) {
    let name = quoted(&schema.database);
    server.run(&format!("CREATE DATABASE {name} OWNER {}", quoted(owner()))).await;
}

async fn drop_database(server: &Postgres, schema: &Schema) {
    let name = quoted(&schema.database);
    server.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
}

async fn backed_up(
    repo: &Repo,
    server: &Postgres,
    databases: &[String],
) -> Result<SnapshotReader, String> {
    let selection = Selection::new(databases.to_vec(), Vec::new()).unwrap();
    let report = try_back_up(repo, &source(logical(server)).await, selection).await;
    let report = report.map_err(|error| format!("backup: {} {:?}", error.chain(), error.hint()))?;
    if report.warnings > 0 {
        return Err(format!("backup: {} warnings", report.warnings));
    }
    Ok(last_snapshot(repo).await)
}

async fn restore(
    snapshot: &SnapshotReader,
    to: LogicalOptions,
    request: RestoreRequest,
    by: &str,
) -> Result<(), String> {
    let report = try_restore(snapshot, to, request).await;
    let report = report
        .map_err(|error| format!("restore by the {by}: {} {:?}", error.chain(), error.hint()))?;
    if report.warnings > 0 {
        return Err(format!("restore by the {by}: {} warnings", report.warnings));
    }
    Ok(())
}

/// Refuses restores that left objects out because the target refused them.
fn require_none_failed(report: &RestoreReport, after: &str) -> Result<(), String> {
    if report.failed.is_empty() { Ok(()) } else { Err(format!("{after}: {:?}", report.failed)) }
}

/// As the owner, who is no superuser and may create no databases.
fn by_owner(server: &Postgres) -> LogicalOptions {
    let user = owner().replace(' ', "%20").replace('"', "%22");
    of(PostgresOptions::parse(&server.uri_of(&user)).unwrap())
}

/// A glob that matches this name only.
fn pattern(parts: &[&str]) -> String {
    let mut pattern = String::new();
    for c in parts.join(".").chars() {
        if "*?[]{}\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A rule for this name only.
fn rule(from: &[&str], to: &[&str]) -> String {
    let side = |parts: &[&str]| parts.join(".").replace('=', "\\=");
    format!("{}={}", side(from), side(to))
}

/// Some tables under other names beside the originals, which do not change.
async fn beside(
    server: &Postgres,
    snapshot: &SnapshotReader,
    schema: &mut Schema,
    state: &State,
) -> Result<(), String> {
    let (mut rules, mut patterns, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = schema.tables.clone();
    for _ in 0..=schema.below(3).min(left.len() - 1) {
        let table = left.remove(schema.below(left.len()));
        let (raw, name) = (unquoted(&table.schema), schema.name());
        let database = schema.database.clone();
        rules.push(rule(&[&database, &raw, &table.name], &[&database, &raw, &name]));
        patterns.push(pattern(&[&database, &raw, &table.name]));
        copies.push((format!("{}.{}", table.schema, quoted(&name)), table));
    }
    let after = format!("restored beside by {rules:?}");
    let to = LogicalOptions { renames: Renames::new(&rules).unwrap(), ..logical(server) };
    let request = RestoreRequest {
        selection: Selection::new(patterns, Vec::new()).unwrap(),
        if_exists: IfExists::Fail,
        ..RestoreRequest::default()
    };
    let done = try_restore(snapshot, to, request).await;
    let done = done.map_err(|error| format!("{after}: {} {:?}", error.chain(), error.hint()))?;
    require_none_failed(&done, &after)?;
    let found = State::of(server, schema).await?;
    let database = schema.database.replace('\\', "\\\\").replace('\'', "\\'");
    for (copy, table) in &copies {
        let only = if table.is_partitioned { "" } else { "ONLY " };
        let digest = digest_of(&format!("{only}{copy}"));
        let digest = value_of(server, &database, &digest).await;
        let expected = &state.rows[&table.sql_quoted()];
        if digest != *expected {
            return Err(format!("{after}: {copy} has {digest}, not {expected}"));
        }
    }
    let originals = |rows: &Rows| -> Rows {
        rows.iter()
            .filter(|(name, _)| state.rows.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    if let Some(differences) = differing(&state.rows, &originals(&found.rows)) {
        return Err(format!("{after}: originals differ:\n{differences}"));
    }
    let names: Vec<&str> = copies.iter().map(|(copy, _)| &**copy).collect();
    let client = server.client_of(&database).await;
    let drop = format!("DROP TABLE {}", names.join(", "));
    let dropped = client.batch_execute(&drop).await;
    dropped.map_err(|error| format!("{after}: {drop}: {:?}", error.as_db_error()))?;
    state.require_equal(&State::of(server, schema).await?, &format!("{after}, and dropped"))
}

/// A whole schema under another name beside the original, which does not change.
async fn schema_beside(
    server: &Postgres,
    snapshot: &SnapshotReader,
    schema: &mut Schema,
    state: &State,
) -> Result<(), String> {
    let raw = unquoted(&schema.schema());
    let name = schema.name();
    let database = schema.database.clone();
    let rules = [rule(&[&database, &raw], &[&database, &name])];
    let after = format!("restored beside by {rules:?}");
    let to = LogicalOptions { renames: Renames::new(rules).unwrap(), ..logical(server) };
    let request = RestoreRequest {
        selection: Selection::new(vec![pattern(&[&database, &raw])], Vec::new()).unwrap(),
        if_exists: IfExists::Fail,
        ..RestoreRequest::default()
    };
    let mut renamed = Vec::new();
    match try_restore(snapshot, to, request).await {
        Ok(report) => {
            require_none_failed(&report, &after)?;
            renamed.push(quoted(&name));
        }
        // Refused: partitions of the schema whose tables are in others, or the reverse.
        Err(error) if error.chain().contains("is a part of") => {}
        Err(error) if error.chain().ends_with(" already") => {}
        Err(error) if error.chain().contains("nothing that the selection matches") => {}
        Err(error) => return Err(format!("{after}: {} {:?}", error.chain(), error.hint())),
    }
    let database = database.replace('\\', "\\\\").replace('\'', "\\'");
    let client = server.client_of(&database).await;
    for name in renamed {
        let found = State::of(server, schema).await?;
        for table in schema.tables.iter().filter(|table| unquoted(&table.schema) == raw) {
            let expected = &state.rows[&table.sql_quoted()];
            let copy = format!("{name}.{}", quoted(&table.name));
            if found.rows.get(&copy) != Some(expected) {
                return Err(format!(
                    "{after}: {copy} has {:?}, not {expected}",
                    found.rows.get(&copy)
                ));
            }
        }
        let drop = format!("DROP SCHEMA {name} CASCADE");
        let dropped = client.batch_execute(&drop).await;
        dropped.map_err(|error| format!("{after}: {drop}: {:?}", error.as_db_error()))?;
    }
    state.require_equal(&State::of(server, schema).await?, &format!("{after}, and dropped"))
}

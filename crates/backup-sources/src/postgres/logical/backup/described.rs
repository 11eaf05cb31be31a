//! `manifest.json` of a database: its tables, their files and digests, as they were read.

use std::collections::HashMap;
use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use bytes::Bytes;

use super::super::super::digest::Sums;
use super::super::catalog::{Kind, Relation};
use super::super::manifest::{self, FORM};
use super::copy::{Part, stored_encoding};
use super::database::Database;
use super::objects;
use super::reader::parts;
use super::state::State;

/// Fails if the rows that were copied are not as many as the digest has counted.
fn require_all(
    table: &Relation,
    files: &[manifest::File],
    digest: Option<Sums>,
) -> SourceResult<()> {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    match digest.filter(|digest| digest.count != rows) {
        None => Ok(()),
        Some(digest) => {
            let text = format!(
                "{}: {} read, but {} counted",
                table.sql(),
                words::count(rows, "row was", "rows were"),
                words::count(digest.count, "row was", "rows were")
            );
            Err(SourceError::new(SourceErrorKind::Mismatch, text))
        }
    }
}

/// The table that the rows of a partition are loaded through.
fn through<'a>(database: &'a Database, one: &'a Relation) -> Option<&'a Relation> {
    database.catalog.routed_by(one).filter(|above| database.is_covered(above))
}

/// The sums of all that is loaded through a partitioned table, if they can be added up: rows of
/// partitions whose columns have another order have other texts.
fn routed(state: &State, at: usize, root: &Relation) -> Option<Sums> {
    if !root.is_routed {
        return None;
    }
    let database = &state.databases[at];
    let relations = database.catalog.relations.iter();
    let leaves = relations.filter(|one| one.kind == Kind::Table && database.is_covered(one));
    let mut leaves = leaves
        .filter(|one| through(database, one).is_some_and(|above| above.oid == root.oid))
        .peekable();
    leaves.peek()?;
    leaves.try_fold(Sums::default(), |mut sums, leaf| {
        sums.add(&state.digest(at, leaf.oid).filter(|_| leaf.columns == root.columns)?);
        Some(sums)
    })
}

/// `manifest.json` of a database.
pub(super) async fn described(state: Arc<State>, version: u32, at: usize) -> SourceResult<Bytes> {
    state.all_read().await?;
    state.require_locks(at).await?;
    let database = &state.databases[at];
    let name_of =
        |oid: u32| database.catalog.by_oid(oid).map(|one| (one.schema.clone(), one.name.clone()));
    let mut files: HashMap<u32, Vec<Part>> = HashMap::new();
    for part in parts(at, database, state.options.split_bytes, version) {
        files.entry(part.table).or_default().push(part);
    }
    let mut tables = Vec::new();
    for one in database.catalog.relations.iter().filter(|one| database.is_covered(one)) {
        if !matches!(one.kind, Kind::Table | Kind::Partitioned) {
            continue;
        }
        let of_it = files.remove(&one.oid).unwrap_or_default();
        let of_it = of_it.into_iter().map(|part| {
            let unread = || {
                SourceError::new(
                    SourceErrorKind::Unavailable,
                    format!("{} was not read", part.path),
                )
            };
            state.file(at, &part.path).ok_or_else(unread)
        });
        let of_it = of_it.collect::<SourceResult<Vec<_>>>()?;
        let digest = state.digest(at, one.oid);
        require_all(one, &of_it, digest)?;
        tables.push(manifest::Table {
            schema: one.schema.clone(),
            name: one.name.clone(),
            partition_of: one.partition_of.and_then(name_of),
            through: through(database, one).map(|above| (above.schema.clone(), above.name.clone())),
            of_extension: one.of_extension,
            columns: one.columns.clone(),
            files: of_it,
            without_rows: !database.has(one),
            digest: digest.or_else(|| routed(&state, at, one)).map(|sums| sums.digest()),
        });
    }
    manifest::encode(&manifest::Database {
        form: FORM,
        name: database.name.clone(),
        encoding: stored_encoding(&database.encoding).to_owned(),
        server_encoding: Some(database.encoding.clone()),
        whole: database.whole,
        include: state.selection.include().to_vec(),
        exclude: state.selection.exclude().to_vec(),
        tables,
        sequences: objects::sequences(&state, at).await?,
        large_objects: state.large_objects(at),
    })
}

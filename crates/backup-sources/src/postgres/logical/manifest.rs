//! `manifest.json`, of the cluster and of each database: what a restore has to know besides the
//! SQL.

use std::collections::{HashMap, HashSet};

use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, ObjectDigest, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::backup::content;
use super::super::error::malformed;
use super::super::layout::TOP;
use super::layout::Place;
use super::parents::have_circle;
use super::sql::Relation;

/// The form of these files.
pub(super) const FORM: u32 = 1;

/// Of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whole {
    pub(super) form: u32,
    pub(super) system_id: String,
    /// For instance 150018 of 15.18.
    pub(super) server_version: u32,
    /// What `pg_dump --version` says.
    pub(super) pg_dump: String,
    /// Whether there are passwords of roles in `globals.sql`; `None` if there is no such file.
    pub(super) passwords: Option<bool>,
    pub(super) databases: Vec<Directory>,
}

/// A database and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    pub(super) name: String,
    pub(super) directory: String,
}

/// Of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Database {
    pub(super) form: u32,
    pub(super) name: String,
    /// Of its data files.
    pub(super) encoding: String,
    /// Of the database itself, by which digests of its rows can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server_encoding: Option<String>,
    /// Whether nothing of it was left out.
    pub(super) whole: bool,
    /// The patterns that the backup went by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) include: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) exclude: Vec<String>,
    /// Tables with rows of their own, and partitioned ones.
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<Sequence>,
    /// How many large objects there are; `None` if they were left out.
    pub(super) large_objects: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// The partitioned table that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition_of: Option<(String, String)>,
    /// The partitioned table that its rows are loaded through: on another server they may belong
    /// to other partitions of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) through: Option<(String, String)>,
    /// Made by an extension, so that only its rows are in the dump.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) of_extension: bool,
    /// Those in the files, in their order.
    pub(super) columns: Vec<String>,
    pub(super) files: Vec<File>,
    /// A standby has no rows of unlogged tables: there is no file then, whatever the primary has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_rows: bool,
    /// Of its own rows. That of a table that others are loaded `through` is of all these together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<ObjectDigest>,
}

/// Below the database's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sequence {
    pub(super) schema: String,
    pub(super) name: String,
    /// The table whose column it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owned_by: Option<(String, String)>,
    /// A standby has no values of unlogged sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_value: Option<i64>,
    #[serde(default)]
    pub(super) is_called: bool,
}

impl Database {
    /// The tables that partitions and sequences belong to.
    ///
    /// # Errors
    /// If a relation is listed twice, or is its own ancestor: no server has that.
    pub(super) fn parents(&self) -> SourceResult<HashMap<Relation, Relation>> {
        let tables = self.tables.iter().map(|one| (&one.schema, &one.name, &one.partition_of));
        let sequences = self.sequences.iter().map(|one| (&one.schema, &one.name, &one.owned_by));
        let (mut listed, mut parents) = (HashSet::new(), HashMap::new());
        for (schema, name, parent) in tables.chain(sequences) {
            if !listed.insert((schema, name)) {
                return Err(malformed(format!("manifest: {schema}.{name} is listed twice")));
            }
            if let Some(parent) = parent {
                parents.insert((schema.clone(), name.clone()), parent.clone());
            }
        }
        if have_circle(&parents) {
            return Err(malformed("manifest: tables are partitions of each other"));
        }
        Ok(parents)
    }
}

/// Where the backup lies in a snapshot, which has one cluster, and its description.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] without a logical backup, [`SourceErrorKind::Unsupported`] for an
/// unknown form; those of reading the snapshot.
pub(super) async fn of_snapshot(snapshot: &SnapshotReader) -> SourceResult<(Place, Whole)> {
    let place = place(snapshot).await?;
    let whole: Whole = decode(&read(snapshot, &place.manifest()).await?)?;
    known_form(whole.form)?;
    Ok((place, whole))
}

/// The description of one of the databases of a backup.
///
/// # Errors
/// Like [`of_snapshot`].
pub(super) async fn of_database(
    snapshot: &SnapshotReader,
    place: &Place,
    one: &Directory,
) -> SourceResult<Database> {
    let path = place.database(&one.directory).join(b"manifest.json");
    let database: Database = decode(&read(snapshot, &path).await?)?;
    known_form(database.form)?;
    Ok(database)
}

async fn place(snapshot: &SnapshotReader) -> SourceResult<Place> {
    let top = EntryPath::root().join(TOP.as_bytes());
    if let Some(subtree) = snapshot.find(&top).await?.and_then(|node| node.subtree) {
        let mut clusters = snapshot.walk_below(top.clone(), subtree);
        while let Some((path, _)) = clusters.next().await? {
            let place = Place::at(&path);
            if path.parent().as_ref() == Some(&top)
                && snapshot.find(&place.manifest()).await?.is_some()
            {
                return Ok(place);
            }
        }
    }
    Err(SourceError::new(
        SourceErrorKind::Invalid,
        "the snapshot holds no logical PostgreSQL backup",
    )
    .with_hint("run `backup ls` to list its contents"))
}

fn known_form(form: u32) -> SourceResult<()> {
    if form == FORM {
        return Ok(());
    }
    let error = SourceError::new(
        SourceErrorKind::Unsupported,
        format!("the backup has the unknown format {form}"),
    );
    Err(error.with_hint(
        "use the newer version of this program that made the backup, or psql as described in \
         docs/postgres.md",
    ))
}

/// The error for a file that a snapshot does not have.
pub(super) fn missing(path: &EntryPath) -> SourceError {
    SourceError::new(SourceErrorKind::Mismatch, format!("{path} is missing in the snapshot"))
}

/// A whole file of a snapshot.
pub(super) async fn read(snapshot: &SnapshotReader, path: &EntryPath) -> SourceResult<Vec<u8>> {
    let node = snapshot.find(path).await?.ok_or_else(|| missing(path))?;
    content(snapshot, &node).await
}

pub(super) fn encode<T: Serialize>(manifest: &T) -> SourceResult<Bytes> {
    let json = serde_json::to_vec_pretty(manifest)
        .map_err(|error| malformed(format!("manifest: {error}")))?;
    Ok(json.into())
}

pub(super) fn decode<T: DeserializeOwned>(json: &[u8]) -> SourceResult<T> {
    serde_json::from_slice(json)
        .map_err(|error| malformed(format!("manifest of the logical backup: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(tables: &[(&str, Option<&str>)], sequences: &[(&str, &str)]) -> Database {
        let relation = |name: &str| ["public", name].map(str::to_owned);
        let json = serde_json::json!({
            "form": FORM, "name": "shop", "encoding": "UTF8", "whole": true, "large_objects": null,
            "tables": tables.iter().map(|(name, parent)| serde_json::json!({
                "schema": "public", "name": name, "partition_of": parent.map(relation),
                "columns": [], "files": [],
            })).collect::<Vec<_>>(),
            "sequences": sequences.iter().map(|(name, table)| serde_json::json!({
                "schema": "public", "name": name, "owned_by": relation(table),
            })).collect::<Vec<_>>(),
        });
        decode(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn circles_and_doubled_relations_are_refused() {
        let sound = [("orders", None), ("old", Some("orders")), ("older", Some("old"))];
        let parents = database(&sound, &[("ids", "orders")]).parents().unwrap();
        assert_eq!(parents.len(), 3);
        let refused = |tables: &[(&str, Option<&str>)], sequences: &[(&str, &str)]| {
            database(tables, sequences).parents().unwrap_err().to_string()
        };
        let circle = [("a", Some("b")), ("b", Some("c")), ("c", Some("a"))];
        assert!(refused(&circle, &[]).contains("partitions of each other"));
        assert!(refused(&[("a", Some("a"))], &[]).contains("partitions of each other"));
        assert!(refused(&[("a", Some("b"))], &[("b", "a")]).contains("partitions of each other"));
        assert!(
            refused(&[("a", None), ("a", Some("b"))], &[]).contains("public.a is listed twice")
        );
        assert!(refused(&[("a", None)], &[("a", "b")]).contains("public.a is listed twice"));
    }
}

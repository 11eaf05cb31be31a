//! What a snapshot holds.

use std::collections::HashMap;

use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, Selection, SourceError, SourceResult};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::super::super::error::malformed;
use super::super::filter::Filter;
use super::super::layout::Place;
use super::super::manifest::{self, Database, Whole, missing, read};
use super::super::programs;
use super::super::sql::Relation;

/// A logical backup inside a snapshot.
#[derive(Debug)]
pub(super) struct Dump {
    snapshot: SnapshotReader,
    place: Place,
    pub(super) whole: Whole,
    /// Those that something may be asked of.
    pub(super) databases: Vec<Stored>,
}

/// A database of it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) manifest: Database,
    /// The tables that its partitions and sequences belong to.
    pub(super) parents: HashMap<Relation, Relation>,
    /// What the backup covered, whether there was something or not.
    pub(super) backed_up: Filter,
    directory: EntryPath,
    /// Major version of `pg_dump`; the largest number if it is not known.
    pub(super) pg_dump: u32,
    /// What concerns the database itself.
    pub(super) database: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl Dump {
    pub(super) async fn open(snapshot: &SnapshotReader, filter: &Filter) -> SourceResult<Self> {
        let (place, whole) = manifest::of_snapshot(snapshot).await?;
        let mut dump = Self { whole, snapshot: snapshot.clone(), databases: Vec::new(), place };
        for one in dump.whole.databases.iter().filter(|one| filter.may_cover(&one.name)) {
            let directory = dump.place.database(&one.directory);
            let manifest = manifest::of_database(snapshot, &dump.place, one).await?;
            let parents = manifest.parents()?;
            let selection = Selection::new(manifest.include.clone(), manifest.exclude.clone())
                .map_err(|error| malformed(format!("manifest: {error}")))?;
            dump.databases.push(Stored {
                manifest,
                parents,
                backed_up: Filter::new(&selection)?,
                database: text(snapshot, &directory.join(b"database.sql")).await?,
                before: text(snapshot, &directory.join(b"pre-data.sql")).await?,
                after: text(snapshot, &directory.join(b"post-data.sql")).await?,
                directory,
                pg_dump: programs::major(&dump.whole.pg_dump).unwrap_or(u32::MAX),
            });
        }
        Ok(dump)
    }

    /// `globals.sql`.
    pub(super) async fn globals(&self) -> SourceResult<String> {
        text(&self.snapshot, &self.place.globals()).await
    }

    /// A file below a database's directory.
    pub(super) async fn content(
        &self,
        stored: &Stored,
        path: &str,
    ) -> SourceResult<BoxStream<'static, SourceResult<Bytes>>> {
        let path =
            path.split('/').fold(stored.directory.clone(), |path, name| path.join(name.as_bytes()));
        let node = self.snapshot.find(&path).await?.ok_or_else(|| missing(&path))?;
        Ok(self.snapshot.content(&node).map_err(SourceError::from).boxed())
    }
}

async fn text(snapshot: &SnapshotReader, path: &EntryPath) -> SourceResult<String> {
    String::from_utf8(read(snapshot, path).await?)
        .map_err(|_| malformed(format!("{path}: not UTF-8")))
}

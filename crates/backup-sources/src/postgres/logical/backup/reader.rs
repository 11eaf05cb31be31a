//! The backup reader.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Chunking, Content, Entry, EntryPath,
    Facts, Item, Metadata, SourceError, SourceResult,
};
use backup_core::words::few;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;

use super::super::super::cluster::Cluster;
use super::super::super::probe::clock_ahead;
use super::super::catalog::{Kind, Relation};
use super::super::filter::Filter;
use super::super::layout::{Place, file_name};
use super::super::manifest::{self, Directory, FORM, Whole};
use super::super::options::LogicalOptions;
use super::super::programs::Programs;
use super::super::{closed, databases, session};
use super::copy::{self, Part};
use super::database::{Database, Definitions, define_all, hold_all};
use super::described::described;
use super::globals::globals;
use super::objects;
use super::state::State;

/// Bytes below which it does not matter which table is read first.
pub(super) const SMALL: u64 = 16 << 20;
/// Names that a warning lists.
const NAMED: usize = 10;

/// Begins a backup.
pub(in super::super) async fn open(
    cx: &Context,
    cluster: &Cluster,
    options: &LogicalOptions,
    request: &BackupRequest,
) -> SourceResult<Box<dyn BackupReader>> {
    let started = cx.clock.now();
    let filter = Filter::new(&request.selection)?;
    let programs = Programs::find(options, cluster.version).await?;
    let sql = session::open(&options.connection, None, &options.connection.database).await?;
    let host = sql.host.clone();
    let clock_ahead_seconds = clock_ahead(cx, &sql).await;
    let names = databases(&sql).await?.into_iter().filter(|name| filter.may_cover(name)).collect();
    // All snapshots first: reading the definitions takes much longer.
    let held = hold_all(cx, options, &filter, &host, names).await?;
    let (held, definitions) = define_all(cx, options, &filter, &programs, held).await?;
    // The moment that the snapshots stand for.
    let taken = held.iter().map(|one| one.taken).max().unwrap_or_else(|| cx.clock.now());
    let unread = closed::closed(&sql, &filter, held.is_empty()).await?;
    drop(sql);
    let globals = globals(cx, options, &host, &programs).await?;
    if held.len() > 1 {
        cx.events.note(format!(
            "Each of the {} databases is stored at its own moment, within about a second of the \
             others.",
            held.len()
        ));
    }
    let whole = Whole {
        form: FORM,
        system_id: cluster.system_id.to_string(),
        server_version: cluster.version,
        pg_dump: programs.version.clone(),
        passwords: globals.as_ref().map(|(_, passwords)| *passwords),
        databases: held
            .iter()
            .map(|one| Directory { name: one.name.clone(), directory: file_name(&one.name) })
            .collect(),
    };
    let mut reader = Reader {
        state: Arc::new(State::new(cx, options, &request.selection, held)),
        place: Place::of(cluster.system_id),
        version: cluster.version,
        clock_ahead_seconds,
        started,
        taken,
        items: unread.iter().map(|name| Next::Warning(closed::warning(name))).collect(),
    };
    filter.note_matches(unread);
    reader.prepare(globals.map(|(text, _)| text), definitions, &whole, &filter)?;
    Ok(Box::new(reader))
}

struct Reader {
    state: Arc<State>,
    place: Place,
    version: u32,
    clock_ahead_seconds: Option<i64>,
    started: Timestamp,
    taken: Timestamp,
    items: VecDeque<Next>,
}

/// What comes next.
enum Next {
    Warning(Warning),
    Directory(EntryPath),
    Text(EntryPath, Bytes),
    Data(EntryPath, Part),
    LargeObjects(EntryPath, usize),
    /// Values of sequences, and then the manifest, of a database.
    Sequences(EntryPath, usize),
    Manifest(EntryPath, usize),
}

impl Reader {
    /// Puts the items in order: data first, the largest before others, then what depends on how
    /// reading it went.
    fn prepare(
        &mut self,
        globals: Option<String>,
        definitions: Vec<Definitions>,
        whole: &Whole,
        filter: &Filter,
    ) -> SourceResult<()> {
        self.items.push_back(Next::Directory(self.place.top()));
        note_matches(&self.state.databases, filter);
        self.items.extend(without_databases(&self.state.databases).map(Next::Warning));
        let (mut data, mut last) = (Vec::new(), Vec::new());
        for (at, (database, definitions)) in
            self.state.databases.iter().zip(definitions).enumerate()
        {
            let here = self.place.database(&file_name(&database.name));
            let text =
                |name: &str, text: String| Next::Text(here.join(name.as_bytes()), text.into());
            self.items.extend(
                without_rows(database).into_iter().chain(mixed(database)).map(Next::Warning),
            );
            self.items.push_back(Next::Directory(here.clone()));
            self.items.push_back(text("database.sql", definitions.database));
            self.items.push_back(text("pre-data.sql", definitions.before));
            self.items.push_back(text("post-data.sql", definitions.after));
            let parts = parts(at, database, self.state.options.split_bytes, self.version);
            for (turn, part) in parts.into_iter().enumerate() {
                let path = part
                    .path
                    .split('/')
                    .fold(here.clone(), |path, name| path.join(name.as_bytes()));
                data.push((part.size, turn, Next::Data(path, part)));
            }
            if database.large_objects {
                data.push((u64::MAX, 0, Next::LargeObjects(here.join(b"large-objects.sql"), at)));
            }
            last.push(Next::Sequences(here.join(b"sequences.sql"), at));
            last.push(Next::Manifest(here.join(b"manifest.json"), at));
        }
        // Small ones take turns by database: the session that holds each one reads its tables.
        data.sort_by_key(|(size, turn, _)| {
            let turn = if *size < SMALL { *turn } else { 0 };
            (std::cmp::Reverse(*size / SMALL), turn)
        });
        if let Some(globals) = globals {
            self.items.push_back(Next::Text(self.place.globals(), globals.into()));
        }
        self.items.extend(data.into_iter().map(|(_, _, next)| next));
        self.items.extend(last);
        self.items.push_back(Next::Text(self.place.manifest(), manifest::encode(whole)?));
        Ok(())
    }

    fn file(&self, path: EntryPath, content: BoxStream<'static, SourceResult<Bytes>>) -> Item {
        let (metadata, content) = (Metadata::stream(self.started), Content::Stream(content));
        Item::Entry(Entry { path, metadata, content, chunking: Chunking::ContentDefined })
    }
}

/// The files of all tables of a database. Before PostgreSQL 14 each range of pages is a scan of the
/// whole table.
pub(super) fn parts(at: usize, database: &Database, split: u64, version: u32) -> Vec<Part> {
    let tables = database.catalog.relations.iter().filter(|one| database.is_covered(one));
    let tables: Vec<&Relation> =
        tables.filter(|one| one.kind == Kind::Table && database.has(one)).collect();
    let can_split = version >= 140_000;
    let files = tables.len()
        + usize::try_from(tables.iter().map(|one| one.size / split.max(1)).sum::<u64>())
            .unwrap_or(0);
    tables
        .iter()
        .flat_map(|one| copy::parts(at, one, &database.encoding, split, files, can_split))
        .collect()
}

/// Records the patterns that match something in these databases; the pipeline reports the others.
fn note_matches(databases: &[Database], filter: &Filter) {
    let names = databases.iter().flat_map(|database| {
        let name = &database.name;
        let schemas = database.catalog.schemas.iter().map(move |schema| format!("{name}.{schema}"));
        let relations = database
            .catalog
            .relations
            .iter()
            .map(move |one| format!("{name}.{}.{}", one.schema, one.name));
        let large_objects = format!("{name}.pg_catalog.pg_largeobject");
        schemas.chain(relations).chain([name.clone(), large_objects])
    });
    filter.note_matches(names);
}

/// A warning if no database is selected.
fn without_databases(databases: &[Database]) -> Option<Warning> {
    databases.is_empty().then(|| Warning {
        kind: WarningKind::Other,
        path: String::new(),
        message: "the selection matches nothing in the cluster: patterns match database, \
                  database.schema or database.schema.table"
            .to_owned(),
    })
}

/// What of a standby, or of a copy, is not read.
fn without_rows(database: &Database) -> Option<Warning> {
    let missing = database
        .catalog
        .relations
        .iter()
        .filter(|one| database.is_covered(one) && !database.has(one));
    let names: Vec<String> = missing.map(Relation::sql).collect();
    (!names.is_empty()).then(|| Warning {
        kind: WarningKind::Other,
        path: database.name.clone(),
        message: format!(
            "unlogged relations have no data on a standby or a restored copy: {} are without rows \
             and values",
            few(&names, NAMED)
        ),
    })
}

/// Definitions that may be those of another moment than the rows, and may not fit each other.
fn mixed(database: &Database) -> Option<Warning> {
    let message =
        "definitions changed repeatedly while pg_dump read them: some may be newer than the \
         snapshot and inconsistent with others; back up again when the changes are over"
            .to_owned();
    database.is_mixed.then(|| Warning {
        kind: WarningKind::Other,
        path: database.name.clone(),
        message,
    })
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        if self.state.cx.cancel.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        let Some(next) = self.items.pop_front() else { return Ok(None) };
        let (state, version) = (Arc::clone(&self.state), self.version);
        Ok(Some(match next {
            Next::Warning(warning) => Item::Warning(warning),
            Next::Directory(path) => {
                let metadata = Metadata::directory(self.started);
                Item::Entry(Entry {
                    path,
                    metadata,
                    content: Content::Empty,
                    chunking: Chunking::default(),
                })
            }
            Next::Text(path, text) => self.file(path, stream::once(async { Ok(text) }).boxed()),
            Next::Data(path, part) => self.file(path, copy::content(&state, part)),
            Next::LargeObjects(path, at) => self.file(path, objects::large_objects(&state, at)),
            Next::Sequences(path, at) => {
                let text = async move {
                    state.all_read().await?;
                    Ok(objects::sequences_sql(&objects::sequences(&state, at).await?).into())
                };
                self.file(path, stream::once(text).boxed())
            }
            Next::Manifest(path, at) => {
                self.file(path, stream::once(described(state, version, at)).boxed())
            }
        }))
    }

    fn facts(&self) -> Facts {
        let server_version = Some(format!("{}.{}", self.version / 10_000, self.version % 10_000));
        let (objects, counted) = (self.state.digests(), self.state.options.digests);
        Facts {
            kind: Some(BackupKind::Full),
            server_version,
            objects,
            counted,
            clock_ahead_seconds: self.clock_ahead_seconds,
            ..Facts::default()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let position = self.state.databases.first().and_then(|database| database.position.clone());
        Ok(Checkpoint { started: self.started, finished: self.taken, position, log: None })
    }

    async fn abort(self: Box<Self>) {
        // Sessions end with it, and with them snapshots and locks.
    }
}

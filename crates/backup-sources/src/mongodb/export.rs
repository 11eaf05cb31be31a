//! Writing a snapshot as a dump that stock tools take: brought to its moment, without an oplog.
//!
//! The layout is mongodump's: `<database>/<collection>.bson` and `.metadata.json`, views and
//! time-series collections as their description only, `system.buckets.….bson` for the data of the
//! latter. `mongorestore DIRECTORY` restores it, whatever happened while the backup was made. No
//! server is needed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, Selection, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use super::catalog::{Collection, Kind};
use super::dump::Dump;
use super::fold::{Folded, Live};
use super::layout;
use super::namespace::{Filter, Namespace};
use super::ordered::Ordered;
use super::output::{OutputFile, failed};
use super::position::Position;
use super::raw::{Element, Fields, Value};
use super::rename::Renames;
use super::server::unless_cancelled;

/// What to export.
#[derive(Debug, Clone, Default)]
pub struct ExportRequest {
    /// Which collections.
    pub selection: Selection,
    /// Under which other names.
    pub renames: Renames,
    /// The moment, inclusive; `None` is the end of the snapshot.
    pub until: Option<Position>,
    /// Compress with gzip: every file, or the archive.
    pub is_gzip: bool,
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportReport {
    /// Collections, views and time-series collections.
    pub collections: u64,
    /// Documents; those of time-series collections are their buckets.
    pub documents: u64,
    /// Bytes of documents.
    pub bytes: u64,
}

/// Writes the selected part of `snapshot` to `directory`, which must be empty or not there; files
/// are readable by their owner only.
///
/// # Errors
/// [`SourceErrorKind::TargetExists`] if the directory holds something, [`SourceErrorKind::Target`]
/// if it cannot be written; [`SourceErrorKind::Unsupported`] if the oplog holds an operation that
/// is not known.
pub async fn export(
    cx: &Context,
    snapshot: &SnapshotReader,
    request: &ExportRequest,
    directory: &Path,
) -> SourceResult<ExportReport> {
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?;
    let until = dump.moment(request.until).await?;
    write(cx, &dump, &ExportRequest { until, ..request.clone() }, directory).await
}

/// The same for a moment of the captured oplog: `log` says which, and what is to be applied to
/// `snapshot`, the base of its plan.
///
/// # Errors
/// As [`export()`]; [`SourceErrorKind::Invalid`] if `request` names another moment.
pub async fn export_with_log(
    cx: &Context,
    snapshot: &SnapshotReader,
    log: Arc<LogReplay>,
    request: &ExportRequest,
    directory: &Path,
) -> SourceResult<ExportReport> {
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?.with_log(Some(log));
    dump.refuse_two_moments(request.until)?;
    write(cx, &dump, request, directory).await
}

async fn write(
    cx: &Context,
    dump: &Dump,
    request: &ExportRequest,
    directory: &Path,
) -> SourceResult<ExportReport> {
    let filter = Filter::new(&request.selection)?;
    let folded = unless_cancelled(cx, dump.fold(cx, request.until, &filter)).await?;
    refuse_unmatched(&folded, &filter, &request.renames)?;
    refuse_content(directory).await?;
    let mut export = Export {
        directory: directory.to_owned(),
        is_gzip: request.is_gzip,
        report: ExportReport::default(),
        files: HashMap::new(),
    };
    export.everything(cx, dump, folded, (&filter, &request.renames)).await?;
    Ok(export.report)
}

/// Refuses renaming rules that match nothing of the export.
pub(super) fn refuse_unmatched(
    folded: &Folded,
    filter: &Filter,
    renames: &Renames,
) -> SourceResult<()> {
    let names = folded.live.iter().filter(|live| !live.temporary);
    let names = names.map(|live| &live.collection.namespace);
    let names = names.chain(folded.views.iter().map(|view| &view.namespace));
    let names: Vec<&Namespace> = names.filter(|name| filter.covers(name)).collect();
    if names.is_empty() && !filter.covers_everything() {
        return Ok(());
    }
    renames.refuse_unmatched(names)
}

async fn refuse_content(directory: &Path) -> SourceResult<()> {
    match tokio::fs::read_dir(directory).await {
        Ok(mut entries) => {
            match entries.next_entry().await.map_err(|error| failed(directory, error))? {
                None => Ok(()),
                Some(_) => {
                    let text = format!("{} is not empty", directory.display());
                    Err(SourceError::new(SourceErrorKind::TargetExists, text)
                        .with_hint("name an empty or a new directory"))
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(directory, error)),
    }
}

struct Export {
    directory: PathBuf,
    is_gzip: bool,
    report: ExportReport,
    /// Files of data by number of the collection.
    files: HashMap<u32, PathBuf>,
}

impl Export {
    async fn everything(
        &mut self,
        cx: &Context,
        dump: &Dump,
        mut folded: Folded,
        (filter, renames): (&Filter, &Renames),
    ) -> SourceResult<()> {
        let renamed = |collection: &Collection| {
            let namespace = renames.apply(&collection.namespace)?;
            SourceResult::Ok(Collection { namespace, ..collection.clone() })
        };
        let live: Vec<Live> = folded.live.iter().filter(|live| !live.temporary).cloned().collect();
        let live: Vec<Live> =
            live.into_iter().filter(|live| filter.covers(&live.collection.namespace)).collect();
        let mut seen = std::collections::BTreeSet::new();
        for view in folded.views.iter().filter(|view| filter.covers(&view.namespace)) {
            self.describe(&renamed(view)?, &mut seen).await?;
        }
        for one in &live {
            let collection = renamed(&one.changed())?;
            self.describe(&described(&collection, one.orphan), &mut seen).await?;
            let files = layout::files(&EntryPath::root(), &collection, 0);
            let path = files.data.map(|path| self.below(&path)).transpose()?.unwrap_or_default();
            self.files.insert(one.number, path.clone());
            let mut file = OutputFile::create(&path, self.is_gzip).await?;
            if let Some(mut reading) = dump.documents(one)? {
                while let Some(document) = unless_cancelled(cx, reading.next()).await? {
                    if let Some(document) = folded.base(one, document)? {
                        self.write(&mut file, &document).await?;
                    }
                }
            }
            file.close().await?;
        }
        self.settled(cx, folded, &live, dump.state.version).await
    }

    /// The documents that operations touch, behind the others.
    async fn settled(
        &mut self,
        cx: &Context,
        mut folded: Folded,
        live: &[Live],
        version: [i32; 3],
    ) -> SourceResult<()> {
        let mut ordered: HashMap<u32, Ordered> = HashMap::new();
        let is_capped = |number: u32| {
            live.iter().any(|live| live.number == number && live.collection.is_capped())
        };
        while let Some(settled) = folded.settle()? {
            cx.check_cancelled().map_err(SourceError::from)?;
            let mut by_collection: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
            for found in settled {
                if is_capped(found.number) {
                    ordered.entry(found.number).or_default().push(&found)?;
                } else if self.files.contains_key(&found.number) {
                    by_collection.entry(found.number).or_default().push(found.document);
                }
            }
            for (number, documents) in by_collection {
                self.append(number, documents.into_iter().map(Ok)).await?;
            }
        }
        for (number, mut ordered) in ordered {
            if let Some(live) = live.iter().find(|live| live.number == number) {
                ordered.sort(&live.collection, version);
            }
            self.append(number, std::iter::from_fn(|| ordered.next().transpose())).await?;
        }
        Ok(())
    }

    async fn append(
        &mut self,
        number: u32,
        documents: impl Iterator<Item = SourceResult<Bytes>>,
    ) -> SourceResult<()> {
        let Some(path) = self.files.get(&number).cloned() else { return Ok(()) };
        let mut file = OutputFile::append(&path, self.is_gzip).await?;
        for document in documents {
            self.write(&mut file, &document?).await?;
        }
        file.close().await
    }

    async fn write(&mut self, file: &mut OutputFile, document: &[u8]) -> SourceResult<()> {
        self.report.documents += 1;
        self.report.bytes += document.len() as u64;
        file.write(document).await
    }

    /// The description of a collection.
    async fn describe(
        &mut self,
        collection: &Collection,
        seen: &mut std::collections::BTreeSet<Namespace>,
    ) -> SourceResult<()> {
        if !seen.insert(collection.namespace.clone()) {
            let text = format!("two collections would be exported as {}", collection.namespace);
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("change the renaming rules"));
        }
        self.report.collections += 1;
        let Some(path) = layout::files(&EntryPath::root(), collection, 0).metadata else {
            return Ok(());
        };
        let path = self.below(&path)?;
        let mut file = OutputFile::create(&path, self.is_gzip).await?;
        file.write(layout::metadata(collection).as_bytes()).await?;
        file.close().await
    }

    /// A path of the layout, `database/file`, below the directory. Names in a snapshot are not to
    /// be trusted: a database whose name is no name of a directory is refused.
    fn below(&self, path: &EntryPath) -> SourceResult<PathBuf> {
        let is_sound = EntryPath::new(path.as_bytes()).as_ref() == Some(path);
        let names: Vec<String> =
            path.segments().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        if !is_sound || names.len() != 2 {
            let text = format!("the snapshot holds a database with an invalid name: {path}");
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("leave the database out with --exclude"));
        }
        let suffix = if self.is_gzip { ".gz" } else { "" };
        Ok(self.directory.join(&names[0]).join(format!("{}{suffix}", names[1])))
    }
}

/// What the description is of: of buckets, the time-series collection that users see.
pub(super) fn described(collection: &Collection, orphan: bool) -> Collection {
    if !collection.namespace.is_buckets() || orphan {
        return collection.clone();
    }
    let options =
        collection.options.only(|option| matches!(option, b"expireAfterSeconds" | b"timeseries"));
    let timeseries = options.document("timeseries").unwrap_or_default();
    let indexes =
        collection.indexes.iter().map(|index| visible_index(index, &timeseries)).collect();
    Collection {
        namespace: collection.namespace.visible(),
        kind: Kind::TimeSeries,
        uuid: None,
        options,
        indexes,
    }
}

/// An index of buckets in the terms of their collection: `meta` is the field for metadata, and
/// bounds of the time in either order are the time, upwards or downwards.
fn visible_index(index: &Fields, timeseries: &Fields) -> Fields {
    if let Some(original) = index.document("originalSpec") {
        return original;
    }
    let field = |name: &str| timeseries.get(name).and_then(Value::string).unwrap_or_default();
    let (time, meta) = (field("timeField"), field("metaField"));
    let mut key = Fields::default();
    for Element { name, value } in index.document("key").unwrap_or_default().iter() {
        let bound = name.strip_prefix(b"control.min.").or(name.strip_prefix(b"control.max."));
        if name == b"meta" {
            key.set(meta, value);
        } else if let Some(rest) = name.strip_prefix(b"meta.") {
            key.set([meta, b".", rest].concat(), value);
        } else if let Some(bound) = bound {
            let bound = if bound == time { time } else { bound };
            if !key.iter().any(|field| field.name == bound) {
                key.push(bound, value);
            }
        } else {
            key.set(name, value);
        }
    }
    let mut out = index.clone();
    if out.has("key") {
        out.set("key", key);
    }
    out
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    #[test]
    fn indexes_of_buckets_are_shown_as_those_of_their_collection() {
        let timeseries = doc! { "timeField": "t", "metaField": "m" }.into();
        let shown = |key: Document| {
            let index = doc! { "v": 2, "key": key, "name": "x" }.into();
            visible_index(&index, &timeseries).document("key").unwrap()
        };
        assert_eq!(
            shown(doc! { "meta": 1, "control.min.t": 1, "control.max.t": 1 }),
            doc! { "m": 1, "t": 1 }.into()
        );
        assert_eq!(
            shown(doc! { "meta.a": -1, "control.max.t": -1, "control.min.t": -1 }),
            doc! { "m.a": -1, "t": -1 }.into()
        );
        let original = doc! { "v": 2, "key": { "v": 1 }, "name": "x" };
        let index = doc! { "v": 2, "key": { "control.min.v": 1 }, "name": "x", "originalSpec": original.clone() };
        assert_eq!(visible_index(&index.into(), &timeseries), original.into());
    }

    #[test]
    fn files_stay_below_the_directory() {
        let directory = PathBuf::from("/out");
        let (report, files) = (ExportReport::default(), HashMap::new());
        let export = Export { directory, is_gzip: false, report, files };
        let of = |db: &str| EntryPath::root().join(db.as_bytes()).join(b"people.bson");
        assert_eq!(export.below(&of("shop")).unwrap(), Path::new("/out/shop/people.bson"));
        for db in ["../../x", "..", ".", "", "a/b", "/etc", "a/../..", "x\0y"] {
            assert!(export.below(&of(db)).is_err(), "{db:?}");
        }
    }
}

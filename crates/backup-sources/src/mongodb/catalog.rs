//! The collections, views and indexes of a server.

use std::collections::BTreeMap;

use ::mongodb::error::Error;
use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::SourceResult;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, RawDocumentBuf, doc};

use super::error::{Explain as _, code, code_of, is_denied, malformed};
use super::namespace::{Filter, Namespace};
use super::raw::{Fields, Value, refuse_deep};
use super::server::{Server, unless_cancelled};

/// Binary form of a collection's UUID.
pub(super) type CollectionUuid = [u8; 16];

/// The `type` of `listCollections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Collection,
    View,
    /// The view of a time-series collection; its documents are in `system.buckets.…`.
    TimeSeries,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::View => "view",
            Self::TimeSeries => "timeseries",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Collection, Self::View, Self::TimeSeries]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// One collection or view with everything but its documents.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collection {
    pub(super) namespace: Namespace,
    pub(super) kind: Kind,
    /// `None` for views and time-series views.
    pub(super) uuid: Option<CollectionUuid>,
    /// As the server lists them, byte for byte.
    pub(super) options: Fields,
    /// Finished indexes as the server lists them, `_id_` included.
    pub(super) indexes: Vec<Fields>,
}

impl Collection {
    pub(super) fn is_capped(&self) -> bool {
        self.options.is_true("capped")
    }

    /// Most documents and bytes of a capped collection.
    pub(super) fn capped_limits(&self) -> (u64, u64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "limits are whole and positive"
        )]
        let limit = |option: &str| {
            let limit = self.options.get(option).and_then(Value::number).unwrap_or_default();
            if limit == 0.0 { u64::MAX } else { limit as u64 }
        };
        (limit("max"), limit("size"))
    }

    /// True for a collection with documents of its own.
    pub(super) fn has_documents(&self) -> bool {
        self.kind == Kind::Collection
    }
}

/// The UUID as commands take it.
pub(super) fn uuid_bson(uuid: &CollectionUuid) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() })
}

/// Names and sizes (bytes in data files) of all databases but the server's own.
pub(super) async fn databases(server: &Server) -> SourceResult<BTreeMap<String, u64>> {
    let reply = server
        .run("admin", doc! { "listDatabases": 1 })
        .await
        .reading("cannot list the databases")?;
    let list = reply.get_array("databases").map_err(|_| malformed("list of databases"))?;
    let mut found = BTreeMap::new();
    for database in list.iter().filter_map(Bson::as_document) {
        let name = database.get_str("name").map_err(|_| malformed("database name"))?;
        if !matches!(name, "local" | "config") {
            found.insert(name.to_owned(), whole(database.get("sizeOnDisk")));
        }
    }
    Ok(found)
}

/// A number of whichever type; zero if there is none.
pub(super) fn number(value: Option<&Bson>) -> f64 {
    match value {
        Some(Bson::Double(number)) => *number,
        #[expect(
            clippy::cast_precision_loss,
            reason = "sizes and counts are far below the limit of exact integers"
        )]
        Some(Bson::Int64(number)) => *number as f64,
        Some(Bson::Int32(number)) => f64::from(*number),
        _ => 0.0,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are whole and positive"
)]
pub(super) fn whole(value: Option<&Bson>) -> u64 {
    number(value) as u64
}

/// Collections and views of a server.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) collections: Vec<Collection>,
    /// `database.name` of those whose names are not UTF-8, made printable. Servers allow them; no
    /// selection, file name or option of this program can name one.
    pub(super) unnamed: Vec<String>,
}

impl Listed {
    /// A warning about each collection that cannot be backed up or compared.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Warning> {
        self.unnamed.iter().map(|name| Warning {
            kind: WarningKind::Unreadable,
            path: name.clone(),
            message: "is left out: its name is not valid UTF-8".to_owned(),
        })
    }

    /// Reports these warnings as events.
    pub(super) fn warn(&self, cx: &Context) {
        for Warning { kind, path, message } in self.warnings() {
            cx.events.warn(kind, path, message);
        }
    }
}

/// The collections and views of the server that the filter covers, without their indexes. Records
/// the include patterns that match.
pub(super) async fn covered(
    cx: &Context,
    server: &Server,
    filter: &Filter,
) -> SourceResult<Listed> {
    let mut found = Listed::default();
    for db in databases(server).await?.into_keys() {
        let listing = async {
            server
                .list_raw(&db, doc! { "listCollections": 1 })
                .await
                .reading("cannot list the collections")
        };
        for entry in unless_cancelled(cx, listing).await? {
            match collection_of(&db, entry.as_bytes())? {
                Ok(collection) => {
                    let namespace = &collection.namespace;
                    if !namespace.is_internal() && filter.covers(namespace) {
                        found.collections.push(collection);
                    }
                }
                Err(name) if filter.covers(&name) => found.unnamed.push(name.to_string()),
                Err(_) => {}
            }
        }
    }
    Ok(found)
}

/// Everything that the filter covers, in order of names.
pub(super) async fn read(cx: &Context, server: &Server, filter: &Filter) -> SourceResult<Listed> {
    let mut found = covered(cx, server, filter).await?;
    for collection in found.collections.iter_mut().filter(|one| one.kind != Kind::View) {
        let listing = indexes(server, collection);
        collection.indexes = unless_cancelled(cx, listing).await?;
    }
    found.collections.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(found)
}

/// One of them, by its name.
pub(super) async fn find(
    server: &Server,
    namespace: &Namespace,
) -> SourceResult<Option<Collection>> {
    let Some(entry) = listed(server, namespace).await.reading("cannot list the collections")?
    else {
        return Ok(None);
    };
    let Ok(mut collection) = collection_of(&namespace.db, entry.as_bytes())? else {
        return Ok(None);
    };
    if collection.kind != Kind::View {
        collection.indexes = indexes(server, &collection).await?;
    }
    Ok(Some(collection))
}

/// The collection that has a name now; `None` if none has, or it is a view.
pub(super) async fn uuid_at(
    server: &Server,
    namespace: &Namespace,
) -> Result<Option<CollectionUuid>, Error> {
    let entry = listed(server, namespace).await?;
    Ok(entry.and_then(|entry| uuid_in(&Fields::parse(entry.as_bytes()).ok()?)))
}

/// The entry of one collection in `listCollections`.
async fn listed(server: &Server, namespace: &Namespace) -> Result<Option<RawDocumentBuf>, Error> {
    let command = doc! { "listCollections": 1, "filter": { "name": &namespace.name } };
    Ok(server.list_raw(&namespace.db, command).await?.into_iter().next())
}

/// The UUID in an entry of `listCollections`.
fn uuid_in(entry: &Fields) -> Option<CollectionUuid> {
    entry.document("info")?.get("uuid")?.uuid()
}

/// The collection of an entry of `listCollections`; its name made printable if that is not UTF-8.
fn collection_of(db: &str, entry: &[u8]) -> SourceResult<Result<Collection, Namespace>> {
    refuse_deep(entry, format_args!("description of a collection in {db}"))?;
    let entry = Fields::parse(entry)?;
    let name = entry.get("name").and_then(Value::string);
    let name = name.ok_or_else(|| malformed("collection name"))?;
    let Ok(name) = std::str::from_utf8(name) else {
        return Ok(Err(Namespace::new(db, name.escape_ascii().to_string())));
    };
    // Servers that know no views leave the type out.
    let kind = entry.text("type").unwrap_or("collection");
    let kind = Kind::parse(kind)
        .ok_or_else(|| malformed(format!("collection {db}.{name}: unknown type {kind:?}")))?;
    let uuid = uuid_in(&entry);
    if kind == Kind::Collection && uuid.is_none() {
        return Err(malformed(format!("collection {db}.{name}: no UUID")));
    }
    let options = entry.document("options").unwrap_or_default();
    let namespace = Namespace::new(db, name);
    Ok(Ok(Collection { namespace, kind, uuid, options, indexes: Vec::new() }))
}

/// The finished indexes of a collection; none if it is gone. Without the ids of builds, the server
/// lists an index that is still being built like a finished one. The UUID names the collection if
/// the rights allow it: its name may be that of another one by now.
async fn indexes(server: &Server, collection: &Collection) -> SourceResult<Vec<Fields>> {
    let namespace = &collection.namespace;
    let command = |which: Bson| doc! { "listIndexes": which, "includeBuildUUIDs": true };
    let by_name = || server.list_raw(&namespace.db, command(namespace.name.as_str().into()));
    let listed = match &collection.uuid {
        Some(uuid) => match server.list_raw(&namespace.db, command(uuid_bson(uuid))).await {
            Err(error) if is_denied(&error) => by_name().await,
            listed => listed,
        },
        None => by_name().await,
    };
    // A collection that has made room for a view is gone as well.
    let is_gone =
        |error: &_| matches!(code_of(error), Some(code::NAMESPACE_NOT_FOUND | code::NOT_ON_A_VIEW));
    let listed = match listed {
        Err(error) if is_gone(&error) => Vec::new(),
        other => other.reading(format_args!("cannot list the indexes of {namespace}"))?,
    };
    let mut finished = Vec::with_capacity(listed.len());
    for index in listed {
        refuse_deep(index.as_bytes(), format_args!("index of {namespace}"))?;
        let index = Fields::parse(index.as_bytes())?;
        if !index.has("buildUUID") && !index.has("indexBuildInfo") {
            finished.push(index.document("spec").unwrap_or(index));
        }
    }
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use bson::Document;

    use super::*;

    #[test]
    fn entries_are_understood() {
        let uuid = [7; 16];
        let entry = doc! { "name": "c", "type": "collection", "options": { "capped": true }, "info": { "uuid": uuid_bson(&uuid) } };
        let found = |entry: &Document| {
            collection_of("db", RawDocumentBuf::try_from(entry).unwrap().as_bytes())
        };
        let collection = found(&entry).unwrap().unwrap();
        assert!(collection.is_capped() && collection.has_documents());
        assert_eq!(collection.uuid, Some(uuid));
        let view =
            doc! { "name": "v", "type": "view", "options": {}, "info": { "readOnly": true } };
        assert_eq!(found(&view).unwrap().unwrap().kind, Kind::View);
        for bad in [
            doc! {},
            doc! { "name": "c", "type": "sphere" },
            doc! { "name": "c", "type": "collection" },
        ] {
            assert!(found(&bad).is_err(), "{bad}");
        }
        let mut odd = RawDocumentBuf::try_from(&view).unwrap().into_bytes();
        let at = odd.windows(2).position(|bytes| bytes == b"v\0").unwrap();
        odd[at] = 0xff;
        assert_eq!(collection_of("db", &odd).unwrap(), Err(Namespace::new("db", "\\xff")));
    }
}

//! What collections, views and indexes a server holds.

use std::collections::BTreeMap;

use backup_core::context::Context;
use backup_core::source::SourceResult;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::error::{Explain as _, code, code_of, malformed};
use super::namespace::{Filter, Namespace};
use super::server::{Server, unless_cancelled};

/// Binary form of a collection's UUID.
pub(super) type CollectionUuid = [u8; 16];

/// What `listCollections` calls `type`.
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
        [Self::Collection, Self::View, Self::TimeSeries].into_iter().find(|kind| kind.word() == word)
    }
}

/// One collection or view with everything but its documents.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collection {
    pub(super) namespace: Namespace,
    pub(super) kind: Kind,
    /// `None` for views and time-series views.
    pub(super) uuid: Option<CollectionUuid>,
    pub(super) options: Document,
    /// Finished indexes as the server lists them, `_id_` included.
    pub(super) indexes: Vec<Document>,
}

impl Collection {
    pub(super) fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }

    /// Most documents and bytes of a capped collection.
    pub(super) fn capped_limits(&self) -> (u64, u64) {
        let limit = |option: &str| match whole(self.options.get(option)) {
            0 => u64::MAX,
            limit => limit,
        };
        (limit("max"), limit("size"))
    }

    /// Whether it holds documents of its own.
    pub(super) fn has_documents(&self) -> bool {
        self.kind == Kind::Collection
    }
}

/// The UUID as commands take it.
pub(super) fn uuid_bson(uuid: &CollectionUuid) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() })
}

pub(super) fn uuid_of(value: Option<&Bson>) -> Option<CollectionUuid> {
    match value {
        Some(Bson::Binary(binary)) => binary.bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

/// Names and sizes (bytes in data files) of all databases but the server's own.
pub(super) async fn databases(server: &Server) -> SourceResult<BTreeMap<String, u64>> {
    let reply = server.run("admin", doc! { "listDatabases": 1 }).await.reading("listing databases")?;
    let list = reply.get_array("databases").map_err(|_| malformed("the list of databases"))?;
    let mut found = BTreeMap::new();
    for database in list.iter().filter_map(Bson::as_document) {
        let name = database.get_str("name").map_err(|_| malformed("the name of a database"))?;
        if !matches!(name, "local" | "config") {
            found.insert(name.to_owned(), whole(database.get("sizeOnDisk")));
        }
    }
    Ok(found)
}

/// A number of whichever type; zero if there is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are whole and positive")]
fn whole(value: Option<&Bson>) -> u64 {
    match value {
        Some(Bson::Double(number)) => *number as u64,
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// Everything that the filter covers, in order of names.
pub(super) async fn read(cx: &Context, server: &Server, filter: &Filter) -> SourceResult<Vec<Collection>> {
    let mut found = Vec::new();
    for db in databases(server).await?.into_keys() {
        let listing = async { server.list(&db, doc! { "listCollections": 1 }).await.reading("listing collections") };
        for entry in unless_cancelled(cx, listing).await? {
            let mut collection = collection_of(&db, &entry)?;
            if collection.namespace.is_internal() || !filter.covers(&collection.namespace) {
                continue;
            }
            if collection.kind != Kind::View {
                let listing = indexes(server, &collection.namespace);
                collection.indexes = unless_cancelled(cx, listing).await?;
            }
            found.push(collection);
        }
    }
    found.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(found)
}

fn collection_of(db: &str, entry: &Document) -> SourceResult<Collection> {
    let name = entry.get_str("name").map_err(|_| malformed("the name of a collection"))?;
    // What it is called is left out by servers that know no views.
    let kind = entry.get_str("type").unwrap_or("collection");
    let kind =
        Kind::parse(kind).ok_or_else(|| malformed(format!("{db}.{name}: it is of the unknown type {kind:?}")))?;
    let uuid = uuid_of(entry.get_document("info").ok().and_then(|info| info.get("uuid")));
    if kind == Kind::Collection && uuid.is_none() {
        return Err(malformed(format!("{db}.{name}: it has no UUID")));
    }
    let options = entry.get_document("options").cloned().unwrap_or_default();
    Ok(Collection { namespace: Namespace::new(db, name), kind, uuid, options, indexes: Vec::new() })
}

/// The finished indexes of a collection; none if it is gone. An index that is still being built is listed like a finished
/// one unless one asks for the ids of builds.
pub(super) async fn indexes(server: &Server, namespace: &Namespace) -> SourceResult<Vec<Document>> {
    let mut command = doc! { "listIndexes": &namespace.name };
    if server.at_least(4, 4) {
        command.insert("includeBuildUUIDs", true);
    }
    let listed = match server.list(&namespace.db, command).await {
        Ok(listed) => listed,
        Err(error) if code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => Vec::new(),
        Err(error) => return Err(error).reading(format_args!("listing the indexes of {namespace}")),
    };
    let finished = |index: Document| {
        let building = index.contains_key("buildUUID") || index.contains_key("indexBuildInfo");
        (!building).then_some(match index.get_document("spec") {
            Ok(spec) => spec.clone(),
            Err(_) => index,
        })
    };
    Ok(listed.into_iter().filter_map(finished).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_understood() {
        let uuid = [7; 16];
        let entry = doc! { "name": "c", "type": "collection", "options": { "capped": true }, "info": { "uuid": uuid_bson(&uuid) } };
        let collection = collection_of("db", &entry).unwrap();
        assert!(collection.is_capped() && collection.has_documents());
        assert_eq!(collection.uuid, Some(uuid));
        let view = doc! { "name": "v", "type": "view", "options": {}, "info": { "readOnly": true } };
        assert_eq!(collection_of("db", &view).unwrap().kind, Kind::View);
        for bad in [doc! {}, doc! { "name": "c", "type": "sphere" }, doc! { "name": "c", "type": "collection" }] {
            assert!(collection_of("db", &bad).is_err(), "{bad}");
        }
    }
}

//! What collections, views and indexes a server holds.

use std::collections::BTreeMap;

use ::mongodb::error::Error;
use backup_core::context::Context;
use backup_core::source::SourceResult;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::error::{Explain as _, code, code_of, is_denied, malformed};
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

/// The collections and views of the server that the filter covers, without their indexes. Records
/// the include patterns that match.
pub(super) async fn covered(
    cx: &Context,
    server: &Server,
    filter: &Filter,
) -> SourceResult<Vec<Collection>> {
    let mut found = Vec::new();
    for db in databases(server).await?.into_keys() {
        let listing = async {
            server
                .list(&db, doc! { "listCollections": 1 })
                .await
                .reading("cannot list the collections")
        };
        for entry in unless_cancelled(cx, listing).await? {
            let collection = collection_of(&db, &entry)?;
            if !collection.namespace.is_internal() && filter.covers(&collection.namespace) {
                found.push(collection);
            }
        }
    }
    Ok(found)
}

/// Everything that the filter covers, in order of names.
pub(super) async fn read(
    cx: &Context,
    server: &Server,
    filter: &Filter,
) -> SourceResult<Vec<Collection>> {
    let mut found = covered(cx, server, filter).await?;
    for collection in found.iter_mut().filter(|one| one.kind != Kind::View) {
        let listing = indexes(server, collection);
        collection.indexes = unless_cancelled(cx, listing).await?;
    }
    found.sort_by(|a, b| a.namespace.cmp(&b.namespace));
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
    let mut collection = collection_of(&namespace.db, &entry)?;
    if collection.kind != Kind::View {
        collection.indexes = indexes(server, &collection).await?;
    }
    Ok(Some(collection))
}

/// Which collection has a name now; `None` if none has, or it is a view.
pub(super) async fn uuid_at(
    server: &Server,
    namespace: &Namespace,
) -> Result<Option<CollectionUuid>, Error> {
    let entry = listed(server, namespace).await?;
    Ok(entry.and_then(|entry| uuid_of(entry.get_document("info").ok()?.get("uuid"))))
}

/// What the server lists of one collection.
async fn listed(server: &Server, namespace: &Namespace) -> Result<Option<Document>, Error> {
    let command = doc! { "listCollections": 1, "filter": { "name": &namespace.name } };
    Ok(server.list(&namespace.db, command).await?.into_iter().next())
}

fn collection_of(db: &str, entry: &Document) -> SourceResult<Collection> {
    let name = entry.get_str("name").map_err(|_| malformed("collection name"))?;
    // What it is called is left out by servers that know no views.
    let kind = entry.get_str("type").unwrap_or("collection");
    let kind = Kind::parse(kind)
        .ok_or_else(|| malformed(format!("collection {db}.{name}: unknown type {kind:?}")))?;
    let uuid = uuid_of(entry.get_document("info").ok().and_then(|info| info.get("uuid")));
    if kind == Kind::Collection && uuid.is_none() {
        return Err(malformed(format!("collection {db}.{name}: no UUID")));
    }
    let options = entry.get_document("options").cloned().unwrap_or_default();
    Ok(Collection { namespace: Namespace::new(db, name), kind, uuid, options, indexes: Vec::new() })
}

/// The finished indexes of a collection; none if it is gone. An index that is still being built is
/// listed like a finished one unless one asks for the ids of builds. Asked for by UUID if the
/// rights allow: by name, they would be those of another collection, or none, if it was renamed
/// since it was listed.
async fn indexes(server: &Server, collection: &Collection) -> SourceResult<Vec<Document>> {
    let namespace = &collection.namespace;
    let command = |which: Bson| doc! { "listIndexes": which, "includeBuildUUIDs": true };
    let by_name = || server.list(&namespace.db, command(namespace.name.as_str().into()));
    let listed = match &collection.uuid {
        Some(uuid) => match server.list(&namespace.db, command(uuid_bson(uuid))).await {
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
        let view =
            doc! { "name": "v", "type": "view", "options": {}, "info": { "readOnly": true } };
        assert_eq!(collection_of("db", &view).unwrap().kind, Kind::View);
        for bad in [
            doc! {},
            doc! { "name": "c", "type": "sphere" },
            doc! { "name": "c", "type": "collection" },
        ] {
            assert!(collection_of("db", &bad).is_err(), "{bad}");
        }
    }
}

//! Steps after the documents: indexes, validators, views, the wait for a majority.

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::target::{FAR_AWAY, Target, fields};
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::Explain as _;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::server::{Primary, Server, unless_cancelled};

/// All indexes of a collection in one build, which reads the documents once.
pub(super) async fn indexes(
    server: &Server,
    collection: &Collection,
    options: &MongoOptions,
) -> SourceResult<()> {
    let namespace = &collection.namespace;
    let collated = collection.options.contains_key("collation");
    let specs: Vec<Bson> = collection
        .indexes
        .iter()
        .filter(|index| !is_made_by_the_server(index))
        .map(|index| Bson::Document(to_create(index, collated, options.defer_ttl)))
        .collect();
    if namespace.is_buckets() {
        drop_others(server, collection).await?;
    }
    if specs.is_empty() {
        return Ok(());
    }
    let command = doc! { "createIndexes": &namespace.name, "indexes": specs };
    server
        .write(&namespace.db, command)
        .await
        .writing(format_args!("cannot build the indexes of {namespace}"))?;
    Ok(())
}

/// The index on `_id` comes with its collection.
pub(super) fn is_made_by_the_server(index: &Document) -> bool {
    index.get_bool("clustered").unwrap_or(false) || index.get_document("key").is_ok_and(is_id)
}

fn is_id(key: &Document) -> bool {
    key.len() == 1
        && matches!(key.get("_id"), Some(Bson::Int32(1) | Bson::Int64(1)) | Some(Bson::Double(_)))
}

/// What `createIndexes` takes.
fn to_create(index: &Document, collated: bool, defer_ttl: bool) -> Document {
    let mut index = fields(index, |key| !matches!(key, "ns" | "background"));
    if collated && !index.contains_key("collation") {
        // It compares plainly although its collection does not: that must be said.
        index.insert("collation", doc! { "locale": "simple" });
    }
    if defer_ttl && index.contains_key("expireAfterSeconds") {
        index.insert("expireAfterSeconds", FAR_AWAY);
    }
    index
}

/// From 6.0 on the server makes an index with every time-series collection; the source may have
/// dropped it.
async fn drop_others(server: &Server, collection: &Collection) -> SourceResult<()> {
    let namespace = &collection.namespace;
    let listing = server.list_written(&namespace.db, doc! { "listIndexes": &namespace.name });
    let mut others = Vec::new();
    for index in listing.await.writing("cannot list the indexes")? {
        let name = index.get_str("name").unwrap_or_default().to_owned();
        let wanted =
            collection.indexes.iter().any(|index| index.get_str("name").ok() == Some(&*name));
        if !wanted && name != "_id_" {
            others.push(name);
        }
    }
    for index in others {
        let command = doc! { "dropIndexes": &namespace.name, "index": index };
        server
            .write(&namespace.db, command)
            .await
            .writing(format_args!("cannot drop an index of {namespace}"))?;
    }
    Ok(())
}

/// What the oplog says of validators is said again, in the same words.
pub(super) async fn validator(
    server: &Server,
    namespace: &Namespace,
    changes: &Document,
) -> SourceResult<()> {
    if changes.is_empty() || namespace.is_buckets() {
        return Ok(());
    }
    let mut command = doc! { "collMod": &namespace.name };
    command.extend(changes.clone());
    server
        .write(&namespace.db, command)
        .await
        .writing(format_args!("cannot set the validator of {namespace}"))?;
    Ok(())
}

/// Views last, all of them: the server does not mind if one stands on another that is not there
/// yet.
pub(super) async fn views(cx: &Context, target: &Target, views: &[Collection]) -> SourceResult<()> {
    for view in views {
        unless_cancelled(cx, target.create_view(view)).await?;
    }
    Ok(())
}

/// Waits until a majority of the target's members has everything: a write that changes nothing does
/// not return before. If somebody else than `primary` takes writes by then, what was acknowledged
/// to us may have been taken back.
pub(super) async fn barrier(
    cx: &Context,
    server: &Server,
    names: &[Namespace],
    primary: Primary,
    again: &str,
) -> SourceResult<()> {
    let hint = format!("when the target is stable, {again}");
    // The right to write is there where documents were written.
    let documents = names.iter().find(|name| !name.is_authorization());
    let Some(namespace) = documents.or(names.first()) else { return Ok(()) };
    let nothing = doc! { "q": { "_id": ObjectId::new() }, "limit": 1 };
    // There is no such collection, and there will be none: any other may be of a kind that does not
    // take this.
    let command = doc! { "delete": "tmp.restore.barrier", "deletes": [nothing], "writeConcern": { "w": "majority" } };
    let waiting = async {
        server
            .write(&namespace.db, command)
            .await
            .writing("no majority of the target's members confirmed the restored data")
    };
    unless_cancelled(cx, waiting).await.map_err(|error| match error.hint() {
        None => error.with_hint(&hint),
        Some(_) => error,
    })?;
    if unless_cancelled(cx, server.primary()).await? == primary {
        return Ok(());
    }
    let text = "the target's primary changed or restarted during the restore: writes that the \
                earlier primary acknowledged may be lost";
    Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_created_as_they_were() {
        let index = doc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "ns": "x.y", "background": true, "expireAfterSeconds": 5 };
        assert_eq!(
            to_create(&index, false, false),
            doc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "expireAfterSeconds": 5 }
        );
        let deferred = to_create(&index, true, true);
        assert_eq!(deferred.get_i32("expireAfterSeconds").unwrap(), FAR_AWAY);
        assert_eq!(deferred.get_document("collation").unwrap(), &doc! { "locale": "simple" });
        assert!(is_made_by_the_server(&doc! { "key": { "_id": 1 }, "name": "_id_" }));
        assert!(!is_made_by_the_server(&doc! { "key": { "_id": "hashed" }, "name": "h" }));
    }
}

//! What comes after the documents: indexes, validators, views, users.

use std::collections::{HashMap, HashSet};

use backup_core::context::Context;
use backup_core::source::{IfExists, RestoreRequest, SourceError, SourceErrorKind, SourceResult};
use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use super::loader::{Loaded, Loader};
use super::target::{FAR_AWAY, Target, fields, loading_name};
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::{Explain as _, code, code_of};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::server::{Primary, Server, unless_cancelled};

/// What to do about users and roles that are something else at the target.
const USERS_STAY: &str = "drop these users and roles at the target first, or leave them out \
                          (--no-users, or exclude admin.system.users and admin.system.roles)";

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
    let db = server.client.database(&namespace.db);
    let mut cursor = db
        .run_cursor_command(doc! { "listIndexes": &namespace.name })
        .await
        .writing("cannot list the indexes")?;
    let mut others = Vec::new();
    while cursor.advance().await.writing("cannot list the indexes")? {
        let name = cursor.current().get_str("name").unwrap_or_default().to_owned();
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
pub(super) async fn views(
    cx: &Context,
    target: &mut Target,
    views: &[Collection],
) -> SourceResult<()> {
    for view in views {
        unless_cancelled(cx, target.create_view(view)).await?;
    }
    Ok(())
}

/// Has the server add users or roles. Those of the same names that are there stay as they are,
/// whatever `if_exists` says: only reading back tells.
pub(super) async fn users(
    cx: &Context,
    server: &Server,
    namespace: &Namespace,
    request: &RestoreRequest,
    loader: Loader,
) -> SourceResult<Loaded> {
    let loading = loading_name(namespace);
    let wanted = loader.waiting()?;
    if request.if_exists == IfExists::Fail {
        // What the oplog brought was not known when the others were compared.
        unless_cancelled(cx, refuse_other_users(server, namespace, &wanted)).await?;
    }
    let merged = match loader.finish().await {
        Ok(loaded) => {
            unless_cancelled(cx, merge(server, namespace, &loading)).await.map(|()| loaded)
        }
        Err(error) => Err(error),
    };
    // Also after a failure: password hashes must not be left where everybody who reads `admin`
    // finds them.
    let dropped = server.write("admin", doc! { "drop": &loading.name }).await;
    let mut loaded = merged?;
    match dropped {
        Err(error) if code_of(&error) != Some(code::NAMESPACE_NOT_FOUND) => {
            return Err(error).writing(format_args!("cannot drop {loading}"));
        }
        _ => {}
    }
    if request.verify {
        unless_cancelled(cx, compare_users(server, namespace, &wanted)).await?;
        loaded.verified = loaded.sum.bytes;
    }
    Ok(loaded)
}

/// Has the server take users or roles over from a collection of their own.
async fn merge(server: &Server, namespace: &Namespace, loading: &Namespace) -> SourceResult<()> {
    let field = if namespace.name == "system.users" {
        "tempUsersCollection"
    } else {
        "tempRolesCollection"
    };
    let command =
        doc! { "_mergeAuthzCollections": 1, field: loading.to_string(), "db": "", "drop": false };
    server.write("admin", command).await.writing(format_args!("cannot restore {namespace}"))?;
    Ok(())
}

/// Reads users or roles back: others may be there too.
async fn compare_users(
    server: &Server,
    namespace: &Namespace,
    wanted: &[RawDocumentBuf],
) -> SourceResult<()> {
    let there: HashSet<Vec<u8>> =
        documents(server, namespace).await?.into_iter().map(RawDocumentBuf::into_bytes).collect();
    let Some(other) = wanted.iter().find(|document| !there.contains(document.as_bytes())) else {
        return Ok(());
    };
    let name = other.get_str("_id").unwrap_or_default();
    let text = format!("{namespace}: {name} at the target differs from the restored one");
    Err(SourceError::new(SourceErrorKind::Mismatch, text).with_hint(USERS_STAY))
}

async fn documents(server: &Server, namespace: &Namespace) -> SourceResult<Vec<RawDocumentBuf>> {
    let collection =
        server.client.database(&namespace.db).collection::<RawDocumentBuf>(&namespace.name);
    let doing = format!("cannot read {namespace}");
    let cursor = collection.find(doc! {}).await.writing(&doing)?;
    cursor.try_collect().await.writing(&doing)
}

/// Refuses users or roles that are at the target and are something else there.
pub(super) async fn refuse_other_users(
    server: &Server,
    namespace: &Namespace,
    wanted: &[RawDocumentBuf],
) -> SourceResult<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let name = |document: &RawDocumentBuf| document.get_str("_id").unwrap_or_default().to_owned();
    let there: HashMap<String, RawDocumentBuf> = documents(server, namespace)
        .await?
        .into_iter()
        .map(|document| (name(&document), document))
        .collect();
    let differs = |document: &&RawDocumentBuf| {
        there.get(&name(document)).is_some_and(|other| other != *document)
    };
    let names: Vec<String> = wanted.iter().filter(differs).map(name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the target already has different {} called {}",
        namespace.name.trim_start_matches("system."),
        names.join(", ")
    );
    Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(USERS_STAY))
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

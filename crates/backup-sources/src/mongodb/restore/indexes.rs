//! Indexes: before the documents where that is cheaper and equally safe, else after them.
//!
//! Building indexes on documents takes a replica set a tenth of a second for each collection, also
//! for five documents; on an empty collection it is one entry of the catalog.

use backup_core::source::SourceResult;
use bson::{Bson, Document, doc};

use super::target::{FAR_AWAY, Target, fields};
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::Explain as _;
use crate::mongodb::namespace::Namespace;

/// Indexes of one collection as `createIndexes` takes them, in the order of the source.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    /// For the empty collection.
    pub(super) early: Vec<Document>,
    /// For the filled one.
    pub(super) late: Vec<Document>,
}

impl Indexes {
    /// Splits the indexes of a collection. Only a small one gets indexes early, and none from the
    /// first one on that could interfere with the documents on their way.
    pub(super) fn of(collection: &Collection, is_small: bool, defer_ttl: bool) -> Self {
        let collated = collection.options.contains_key("collation");
        let indexes = collection.indexes.iter().filter(|index| !is_made_by_the_server(index));
        let mut specs: Vec<Document> =
            indexes.map(|index| to_create(index, collated, defer_ttl)).collect();
        let is_late = |index: &Document| !is_small || interferes(index, collection.is_capped());
        let first = specs.iter().position(is_late).unwrap_or(specs.len());
        let late = specs.split_off(first);
        Self { early: specs, late }
    }

    /// Whether the server deletes documents by one of the late indexes once it is built.
    pub(super) fn expires(&self) -> bool {
        self.late.iter().any(|index| index.contains_key("expireAfterSeconds"))
    }
}

/// True for an index that deletes documents, or may refuse some that the finished collection takes:
/// a capped collection may hold too many until the last one is inserted, and the source may have
/// had duplicates before `prepareUnique` was set.
fn interferes(index: &Document, is_capped: bool) -> bool {
    let is_set = |option| index.get_bool(option).unwrap_or(false);
    index.contains_key("expireAfterSeconds")
        || is_set("prepareUnique")
        || (is_capped && is_set("unique"))
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

impl Target {
    /// Builds indexes with one command, which reads the documents once.
    pub(super) async fn build(
        &self,
        namespace: &Namespace,
        indexes: &[Document],
    ) -> SourceResult<()> {
        if indexes.is_empty() {
            return Ok(());
        }
        let command = doc! { "createIndexes": &namespace.name, "indexes": indexes };
        self.define(&namespace.db, command)
            .await
            .writing(format_args!("cannot build the indexes of {namespace}"))?;
        Ok(())
    }

    /// Drops the indexes that the server has made on buckets and the source has not: from 6.0 on it
    /// makes one with every time-series collection.
    pub(super) async fn drop_other_indexes(&self, collection: &Collection) -> SourceResult<()> {
        let namespace = &collection.namespace;
        let listing =
            self.server.list_written(&namespace.db, doc! { "listIndexes": &namespace.name });
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
            self.define(&namespace.db, command)
                .await
                .writing(format_args!("cannot drop an index of {namespace}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongodb::catalog::Kind;

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

    #[test]
    fn indexes_that_interfere_are_built_after_the_documents() {
        let index = |name: &str| doc! { "key": { name: 1 }, "name": name };
        let with = |name: &str, option: &str, value: Bson| {
            let mut index = index(name);
            index.insert(option, value);
            index
        };
        let names = |capped: bool, is_small: bool, indexes: &[Document]| {
            let collection = Collection {
                namespace: Namespace::new("db", "c"),
                kind: Kind::Collection,
                uuid: None,
                options: if capped {
                    doc! { "capped": true }
                } else {
                    doc! {}
                },
                indexes: indexes.to_vec(),
            };
            let split = Indexes::of(&collection, is_small, false);
            let names = |indexes: &[Document]| {
                indexes.iter().map(|index| index.get_str("name").unwrap()).collect::<String>()
            };
            (names(&split.early), names(&split.late), split.expires())
        };
        let found = |early: &str, late: &str, expires| (early.to_owned(), late.to_owned(), expires);
        let id = doc! { "key": { "_id": 1 }, "name": "_id_" };
        let unique = with("u", "unique", true.into());
        let plain = [id, index("a"), unique.clone()];
        assert_eq!(names(false, true, &plain), found("au", "", false));
        assert_eq!(names(false, false, &plain), found("", "au", false));
        assert_eq!(names(true, true, &plain), found("a", "u", false));
        // The order of the source is kept.
        let ttl = [index("a"), with("t", "expireAfterSeconds", 5.into()), unique];
        assert_eq!(names(false, true, &ttl), found("a", "tu", true));
        let prepared = [with("p", "prepareUnique", true.into()), index("a")];
        assert_eq!(names(false, true, &prepared), found("", "pa", false));
    }
}

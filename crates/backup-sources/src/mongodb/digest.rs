//! Digests of collections, to compare copies.
//!
//! The digest of a collection is the SHA-256 of two things: its description (kind, options and
//! indexes, without details of one server), and the sum, modulo 2¹²⁸, of one XXH3 (128 bits) per
//! document's bytes. The order of the documents does not matter. The digest finds accidents and
//! mistakes; the repository's own hashes protect against forgery.

use std::collections::BTreeMap;

use backup_core::context::Context;
use backup_core::source::{
    Digest, ObjectDigest, Selection, SourceError, SourceErrorKind, SourceResult,
};
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

use super::catalog::{self, Collection, Kind};
use super::extjson;
use super::namespace::Filter;
use super::parsed::parsed;
use super::raw::{self, Fields, OwnedValue};
use super::scan::{self, Scan};
use super::server::Server;

/// Collections that are read at the same time.
const PARALLEL: usize = 2;

/// The sum over documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    total: u128,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Sum {
    /// Adds one document.
    pub(super) fn add(&mut self, document: &[u8]) {
        self.add_hash(Self::hash(document), document.len() as u64);
    }

    /// The part that one document has in a sum.
    pub(super) fn hash(document: &[u8]) -> u128 {
        XxHash3_128::oneshot(document)
    }

    /// Adds one document by its hash and length.
    pub(super) fn add_hash(&mut self, hash: u128, length: u64) {
        self.total = self.total.wrapping_add(hash);
        self.count += 1;
        self.bytes += length;
    }

    /// Counts one document without a look at its content.
    pub(super) fn measure(&mut self, document: &[u8]) {
        self.count += 1;
        self.bytes += document.len() as u64;
    }

    /// Counts documents that lie one after another without a look at their content.
    pub(super) fn measure_all(&mut self, documents: &[u8], count: u64) {
        self.count += count;
        self.bytes += documents.len() as u64;
    }

    /// Adds documents that lie one after another.
    pub(super) fn add_all(&mut self, documents: &[u8]) -> SourceResult<()> {
        super::raw::split(documents).try_for_each(|document| {
            self.add(document?);
            Ok(())
        })
    }

    /// The digest of `collection` with these documents.
    pub(super) fn finish(self, collection: &Collection) -> ObjectDigest {
        let mut hash = Sha256::new();
        hash.update(describe(collection));
        hash.update(self.total.to_le_bytes());
        hash.update(self.count.to_le_bytes());
        ObjectDigest { count: self.count, bytes: self.bytes, digest: hex::encode(hash.finalize()) }
    }
}

/// The description of a collection: kind, options and indexes, without details of one server.
pub(super) fn describe(collection: &Collection) -> Vec<u8> {
    // Users and roles have indexes and options that the server makes by itself.
    let (options, indexes) = if collection.namespace.is_authorization() {
        (Fields::default(), Vec::new())
    } else {
        let mut indexes: Vec<Fields> = collection.indexes.iter().map(comparable_index).collect();
        indexes.sort_by_cached_key(place);
        (sorted(&collection.options), indexes)
    };
    let whole = Fields::default()
        .with("kind", collection.kind.word())
        .with("options", options)
        .with("indexes", OwnedValue::list(indexes.iter().map(OwnedValue::from)));
    let (text, is_exact) = extjson::canonical_if_exact(&whole);
    let mut description = text.into_bytes();
    if !is_exact {
        // JSON has no words for some of it.
        description.extend_from_slice(&whole.encode());
    }
    description
}

/// The order of options and index fields has no meaning; within values it has.
fn sorted(document: &Fields) -> Fields {
    document.only(|field| field != b"uuid").sorted()
}

/// Without the namespace, which only old servers store, and the way of building.
fn comparable_index(index: &Fields) -> Fields {
    sorted(&index.only(|field| !matches!(field, b"ns" | b"background")))
}

/// The order of indexes in the digests of every snapshot there is: that of their text as the driver
/// writes it.
fn place(index: &Fields) -> (Option<String>, Vec<u8>) {
    let bytes = index.encode();
    let parsed = raw::document(&bytes).and_then(|document| parsed(document, "index")).ok();
    (parsed.map(|index| index.to_string()), bytes)
}

/// Digests of everything on the server that the selection covers, by `database.collection`.
pub(super) async fn digest(
    cx: &Context,
    server: &Server,
    selection: &Selection,
) -> SourceResult<Digest> {
    let wanted = |found: &mut Collection| !found.namespace.is_restored_by_the_server();
    digest_of(cx, server, &Filter::new(selection)?, wanted).await
}

/// Digests of the collections that a filter covers and that are `wanted`, with the options that
/// `wanted` leaves them.
pub(super) async fn digest_of(
    cx: &Context,
    server: &Server,
    filter: &Filter,
    wanted: impl FnMut(&mut Collection) -> bool,
) -> SourceResult<Digest> {
    server.refuse_sharded()?;
    let listed = catalog::read(cx, server, filter).await?;
    listed.warn(cx);
    let mut collections = listed.collections;
    collections.retain_mut(wanted);
    let scan = Scan::at_once(cx, server);
    let mut objects: BTreeMap<String, ObjectDigest> = futures::stream::iter(collections)
        .map(|collection| {
            let scan = std::sync::Arc::clone(&scan);
            async move {
                let sum = sum_of(&scan, &collection).await?;
                SourceResult::Ok((collection.namespace.to_string(), sum.finish(&collection)))
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    objects.retain(is_noteworthy);
    Ok(Digest { objects })
}

/// Empty lists of users and roles are there or not as the server likes.
pub(super) fn is_noteworthy(name: &String, digest: &mut ObjectDigest) -> bool {
    digest.count > 0 || !matches!(&**name, "admin.system.users" | "admin.system.roles")
}

/// The sum over the documents that a collection has on the server.
pub(super) async fn sum_of(
    scan: &std::sync::Arc<Scan>,
    collection: &Collection,
) -> SourceResult<Sum> {
    let mut sum = Sum::default();
    if collection.kind != Kind::Collection {
        return Ok(sum);
    }
    let mut content = scan::content(scan, collection.clone(), scan::Purpose::Compare);
    while let Some(bytes) = content.try_next().await? {
        sum.add_all(&bytes)?;
    }
    if scan.was_disturbed() {
        let text = format!("{} was changed while it was compared", collection.namespace);
        return Err(SourceError::new(SourceErrorKind::Invalid, text));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc, rawdoc};

    use super::*;
    use crate::mongodb::namespace::Namespace;

    fn collection(options: Document, indexes: Vec<Document>) -> Collection {
        let namespace = Namespace::new("db", "c");
        let indexes = indexes.into_iter().map(Fields::from).collect();
        let options = options.into();
        Collection { namespace, kind: Kind::Collection, uuid: Some([0; 16]), options, indexes }
    }

    fn digest_of(documents: &[&[u8]], collection: &Collection) -> ObjectDigest {
        let mut sum = Sum::default();
        documents.iter().for_each(|document| sum.add(document));
        sum.finish(collection)
    }

    #[test]
    fn order_of_documents_does_not_count_but_every_byte_does() {
        let plain = collection(doc! {}, vec![]);
        let (a, b) = (rawdoc! { "_id": 1 }, rawdoc! { "_id": 2, "x": 1 });
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let both = digest_of(&[a, b], &plain);
        assert_eq!(both, digest_of(&[b, a], &plain));
        assert_eq!((both.count, both.bytes), (2, (a.len() + b.len()) as u64));
        assert_ne!(both.digest, digest_of(&[a, a], &plain).digest);
        let longer = rawdoc! { "_id": 2, "x": 1_i64 };
        assert_ne!(both.digest, digest_of(&[a, longer.as_bytes()], &plain).digest);
    }

    #[test]
    fn indexes_and_options_count() {
        let index = |unique: bool| doc! { "v": 2, "key": { "a": 1, "b": 1 }, "name": "x", "unique": unique };
        let digest = |options, indexes| digest_of(&[], &collection(options, indexes)).digest;
        let first = digest(doc! { "capped": true, "size": 4096 }, vec![index(true)]);
        assert_eq!(first, digest(doc! { "size": 4096, "capped": true }, vec![index(true)]));
        assert_ne!(first, digest(doc! { "size": 8192, "capped": true }, vec![index(true)]));
        assert_ne!(first, digest(doc! { "capped": true, "size": 4096 }, vec![index(false)]));
        let other_order = doc! { "v": 2, "key": { "b": 1, "a": 1 }, "name": "x", "unique": true };
        assert_ne!(first, digest(doc! { "capped": true, "size": 4096 }, vec![other_order]));
    }
}

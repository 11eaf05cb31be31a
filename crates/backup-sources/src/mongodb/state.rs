//! `catalog.bson`, beside the dump: what the dump's own files have no place for. One document per collection or view, with
//! its UUID, its raw options and indexes and the path of its data, and a first one about the whole.

use backup_core::source::{ObjectDigest, SourceResult};
use bson::{Bson, Document, RawDocumentBuf, doc};
use bytes::{Bytes, BytesMut};

use super::catalog::{Collection, Kind, uuid_bson, uuid_of};
use super::error::malformed;
use super::namespace::Namespace;

/// Version of this form.
const SCHEMA: i32 = 1;

/// What is recorded about a dump.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// `[major, minor, patch]` of the server.
    pub(super) version: [i32; 3],
    /// Whether the oplog must be folded in: the collections were not all read at one moment.
    pub(super) needs_oplog: bool,
    /// What the backup was asked for; the oplog may hold more.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) collections: Vec<Saved>,
}

/// A collection or view of a dump.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    pub(super) collection: Collection,
    /// Path of the data below the replica set's directory; `None` for views.
    pub(super) path: Option<String>,
    /// Digest of the data, if it was read at the dump's one moment.
    pub(super) digest: Option<ObjectDigest>,
    /// The scan had to start again: documents may be there twice, of which the later one counts.
    pub(super) repeated: bool,
}

fn saved_document(saved: &Saved) -> Document {
    let Collection { namespace, kind, uuid, options, indexes } = &saved.collection;
    let mut out = doc! { "db": &namespace.db, "name": &namespace.name, "type": kind.word() };
    if let Some(uuid) = uuid {
        out.insert("uuid", uuid_bson(uuid));
    }
    out.insert("options", options.clone());
    out.insert("indexes", indexes.iter().cloned().map(Bson::Document).collect::<Vec<_>>());
    if let Some(path) = &saved.path {
        out.insert("path", path);
    }
    if let Some(digest) = &saved.digest {
        // 2⁶³ documents or bytes fit into no collection.
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let digest = doc! { "count": number(digest.count), "bytes": number(digest.bytes), "digest": &digest.digest };
        out.insert("digest", digest);
    }
    if saved.repeated {
        out.insert("repeated", true);
    }
    out
}

fn saved_of(document: &Document) -> Option<Saved> {
    let namespace = Namespace::new(document.get_str("db").ok()?, document.get_str("name").ok()?);
    let kind = Kind::parse(document.get_str("type").ok()?)?;
    let indexes = document.get_array("indexes").ok()?.iter().map(|index| index.as_document().cloned());
    let digest = document.get_document("digest").ok().map(|digest| ObjectDigest {
        count: digest.get_i64("count").ok().and_then(|n| n.try_into().ok()).unwrap_or(0),
        bytes: digest.get_i64("bytes").ok().and_then(|n| n.try_into().ok()).unwrap_or(0),
        digest: digest.get_str("digest").unwrap_or_default().to_owned(),
    });
    let collection = Collection {
        namespace,
        kind,
        uuid: uuid_of(document.get("uuid")),
        options: document.get_document("options").ok()?.clone(),
        indexes: indexes.collect::<Option<_>>()?,
    };
    if kind == Kind::Collection && collection.uuid.is_none() {
        return None;
    }
    let path = document.get_str("path").ok().map(str::to_owned);
    Some(Saved { collection, path, digest, repeated: document.get_bool("repeated").unwrap_or(false) })
}

impl State {
    pub(super) fn encode(&self) -> SourceResult<Bytes> {
        let mut out = BytesMut::new();
        let head = doc! {
            "schema": SCHEMA, "version": self.version.to_vec(), "needs_oplog": self.needs_oplog,
            "include": self.include.clone(), "exclude": self.exclude.clone(),
        };
        for document in std::iter::once(head).chain(self.collections.iter().map(saved_document)) {
            let raw = RawDocumentBuf::try_from(&document).map_err(|error| malformed("a catalog").with_source(error))?;
            out.extend_from_slice(raw.as_bytes());
        }
        Ok(out.freeze())
    }

    pub(super) fn decode(documents: &[Document]) -> SourceResult<Self> {
        let broken = || malformed("the snapshot's catalog.bson");
        let (head, rest) = documents.split_first().ok_or_else(broken)?;
        match head.get_i32("schema") {
            Ok(SCHEMA) => {}
            Ok(other) => {
                return Err(malformed(format!("the snapshot's catalog.bson: it has the newer form {other}"))
                    .with_hint("use the version of this program that made the snapshot, or a newer one"));
            }
            Err(_) => return Err(broken()),
        }
        let version = head.get_array("version").map_err(|_| broken())?;
        let patterns = |key: &str| {
            let list =
                head.get_array(key).map(|list| list.iter().filter_map(Bson::as_str).map(str::to_owned).collect());
            list.map_err(|_| broken())
        };
        let version: Vec<i32> = version.iter().filter_map(Bson::as_i32).collect();
        Ok(Self {
            version: version.try_into().map_err(|_| broken())?,
            needs_oplog: head.get_bool("needs_oplog").map_err(|_| broken())?,
            include: patterns("include")?,
            exclude: patterns("exclude")?,
            collections: rest.iter().map(saved_of).collect::<Option<_>>().ok_or_else(broken)?,
        })
    }

    /// The recorded digest of a collection, if it has one.
    pub(super) fn digest_of(&self, namespace: &Namespace) -> Option<&ObjectDigest> {
        self.collections.iter().find(|saved| saved.collection.namespace == *namespace)?.digest.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read() {
        let collection = Collection {
            namespace: Namespace::new("db", "c"),
            kind: Kind::Collection,
            uuid: Some([1; 16]),
            options: doc! { "capped": true, "size": 4096 },
            indexes: vec![doc! { "v": 2, "key": { "b": 1, "a": 1 }, "name": "x" }],
        };
        let view = Collection {
            namespace: Namespace::new("db", "v"),
            kind: Kind::View,
            uuid: None,
            options: doc! { "viewOn": "c", "pipeline": [] },
            indexes: Vec::new(),
        };
        let digest = ObjectDigest { count: 3, bytes: 99, digest: "ab".to_owned() };
        let state = State {
            version: [6, 0, 5],
            needs_oplog: true,
            include: vec!["db".to_owned()],
            exclude: Vec::new(),
            collections: vec![
                Saved { collection, path: Some("dump/db/c.bson".to_owned()), digest: Some(digest), repeated: true },
                Saved { collection: view, path: None, digest: None, repeated: false },
            ],
        };
        let bytes = state.encode().unwrap();
        let (mut cut, mut documents) = (super::super::raw::Documents::default(), Vec::new());
        cut.push(&bytes);
        while let Some(document) = cut.next().unwrap() {
            documents.push(Document::try_from(super::super::raw::document(&document).unwrap()).unwrap());
        }
        assert_eq!(State::decode(&documents).unwrap(), state);
        assert!(state.digest_of(&Namespace::new("db", "c")).is_some());
        assert!(state.digest_of(&Namespace::new("db", "v")).is_none());
        assert!(State::decode(&documents[1..]).is_err());
        documents[0].insert("schema", 2);
        assert!(State::decode(&documents).unwrap_err().hint().is_some());
    }
}

//! `catalog.bson`, beside the dump: what the dump's own files have no place for. One document per
//! collection or view, with its UUID, its raw options and indexes and the path of its data, and a
//! first one about the whole.

use backup_core::source::{ObjectDigest, Selection, SourceResult};
use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use bytes::{Bytes, BytesMut};

use super::catalog::{Collection, Kind, uuid_bson, uuid_of};
use super::error::malformed;
use super::namespace::{Filter, Namespace};
use super::position::Position;

/// Version of this form, and that of catalogs which say what was added to their dump: whoever does
/// not know of that would restore an older state.
const SCHEMA: i32 = 1;
const SCHEMA_WITH_MORE: i32 = 2;

/// What is recorded about a dump.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// `[major, minor, patch]` of the server, or the oldest of them: what it left out of its oplog
    /// must be made up for.
    pub(super) version: [i32; 3],
    /// Whether the oplog must be folded in: the collections were not all read at one moment.
    pub(super) needs_oplog: bool,
    /// What the backup was asked for; the oplog may hold more.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    /// What incremental or differential backups have added to the dump.
    pub(super) since: Option<Since>,
    pub(super) collections: Vec<Saved>,
}

/// The oplog behind a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Since {
    /// What the dump stands for, with its own oplog: the first moment that can be restored.
    pub(super) dumped: Position,
    /// Where the oplog ends.
    pub(super) ends: Position,
    /// The files that hold it, in order: the entries behind the first moment up to the second.
    pub(super) files: Vec<(Position, Position)>,
    /// Version of the newest server that wrote them: who applies them must know what it writes.
    /// Zeros if it is not known.
    pub(super) newest: [i32; 3],
}

impl Since {
    fn document(&self) -> Document {
        let [from, to] = [Timestamp::from(self.dumped), Timestamp::from(self.ends)];
        let file = |(behind, to): &(Position, Position)| doc! { "behind": Timestamp::from(*behind), "to": Timestamp::from(*to) };
        let files = self.files.iter().map(file).collect::<Vec<_>>();
        doc! { "dumped": from, "ends": to, "files": files, "newest": self.newest.to_vec() }
    }

    fn of(document: &Document) -> Option<Self> {
        let at = |document: &Document, key| document.get_timestamp(key).map(Position::from).ok();
        let files = document.get_array("files").ok()?.iter().map(|file| {
            let file = file.as_document()?;
            Some((at(file, "behind")?, at(file, "to")?))
        });
        let files = files.collect::<Option<Vec<_>>>()?;
        let newest = document.get_array("newest").ok().and_then(version_of).unwrap_or_default();
        let since =
            Self { dumped: at(document, "dumped")?, ends: at(document, "ends")?, files, newest };
        since.is_complete().then_some(since)
    }

    /// Whether the files bring the dump to where the oplog ends.
    fn is_complete(&self) -> bool {
        let mut reached = self.dumped;
        for (behind, to) in &self.files {
            if *behind > reached || *to <= reached {
                return false;
            }
            reached = *to;
        }
        reached == self.ends
    }
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
    /// Options that have to be set by `collMod` when it is there: a fold has found them so.
    pub(super) changes: Document,
}

impl Saved {
    /// A collection whose data lies at `path`.
    pub(super) fn of(collection: &Collection, path: Option<String>) -> Self {
        Self {
            collection: collection.clone(),
            path,
            digest: None,
            repeated: false,
            changes: Document::new(),
        }
    }
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
    if !saved.changes.is_empty() {
        out.insert("changes", saved.changes.clone());
    }
    out
}

fn saved_of(document: &Document) -> Option<Saved> {
    let namespace = Namespace::new(document.get_str("db").ok()?, document.get_str("name").ok()?);
    let kind = Kind::parse(document.get_str("type").ok()?)?;
    let indexes =
        document.get_array("indexes").ok()?.iter().map(|index| index.as_document().cloned());
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
    let repeated = document.get_bool("repeated").unwrap_or(false);
    let changes = document.get_document("changes").cloned().unwrap_or_default();
    Some(Saved { collection, path, digest, repeated, changes })
}

fn version_of(numbers: &bson::Array) -> Option<[i32; 3]> {
    numbers.iter().filter_map(Bson::as_i32).collect::<Vec<_>>().try_into().ok()
}

impl State {
    /// The version of the newest server that the dump or the oplog since is of.
    pub(super) fn newest(&self) -> [i32; 3] {
        self.since.as_ref().map_or(self.version, |since| since.newest.max(self.version))
    }

    pub(super) fn encode(&self) -> SourceResult<Bytes> {
        let mut out = BytesMut::new();
        let has_more =
            self.since.is_some() || self.collections.iter().any(|saved| !saved.changes.is_empty());
        let mut head = doc! {
            "schema": if has_more { SCHEMA_WITH_MORE } else { SCHEMA }, "version": self.version.to_vec(), "needs_oplog": self.needs_oplog,
            "include": self.include.clone(), "exclude": self.exclude.clone(),
        };
        if let Some(since) = &self.since {
            head.insert("since", since.document());
        }
        for document in std::iter::once(head).chain(self.collections.iter().map(saved_document)) {
            let raw = RawDocumentBuf::try_from(&document)
                .map_err(|error| malformed("catalog").with_source(error))?;
            out.extend_from_slice(raw.as_bytes());
        }
        Ok(out.freeze())
    }

    pub(super) fn decode(documents: &[Document]) -> SourceResult<Self> {
        let broken = || malformed("catalog.bson in the snapshot");
        let (head, rest) = documents.split_first().ok_or_else(broken)?;
        match head.get_i32("schema") {
            Ok(SCHEMA | SCHEMA_WITH_MORE) => {}
            Ok(other) => {
                return Err(malformed(format!(
                    "catalog.bson in the snapshot: unknown format {other}"
                ))
                .with_hint(
                    "use the version of this program that made the snapshot, or a newer one",
                ));
            }
            Err(_) => return Err(broken()),
        }
        let version = head.get_array("version").map_err(|_| broken())?;
        let patterns = |key: &str| {
            let list = head
                .get_array(key)
                .map(|list| list.iter().filter_map(Bson::as_str).map(str::to_owned).collect());
            list.map_err(|_| broken())
        };
        let since = match head.get_document("since") {
            Err(_) => None,
            Ok(since) => Some(Since::of(since).ok_or_else(broken)?),
        };
        Ok(Self {
            version: version_of(version).ok_or_else(broken)?,
            needs_oplog: head.get_bool("needs_oplog").map_err(|_| broken())?,
            include: patterns("include")?,
            exclude: patterns("exclude")?,
            since,
            collections: rest.iter().map(saved_of).collect::<Option<_>>().ok_or_else(broken)?,
        })
    }

    /// What the backup was asked for.
    pub(super) fn filter(&self) -> SourceResult<Filter> {
        let selection = Selection::new(self.include.clone(), self.exclude.clone());
        Filter::new(
            &selection
                .map_err(|error| malformed("selection in the snapshot").with_source(error))?,
        )
    }

    /// The recorded digest of a collection, if it has one.
    pub(super) fn digest_of(&self, namespace: &Namespace) -> Option<&ObjectDigest> {
        self.collections
            .iter()
            .find(|saved| saved.collection.namespace == *namespace)?
            .digest
            .as_ref()
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
                Saved {
                    collection,
                    path: Some("dump/db/c.bson".to_owned()),
                    digest: Some(digest),
                    repeated: true,
                    changes: doc! { "validator": { "a": 1 } },
                },
                Saved {
                    collection: view,
                    path: None,
                    digest: None,
                    repeated: false,
                    changes: doc! {},
                },
            ],
            since: Some(Since {
                dumped: Position { seconds: 5, increment: 1 },
                ends: Position { seconds: 7, increment: 2 },
                files: vec![(
                    Position { seconds: 4, increment: 1 },
                    Position { seconds: 7, increment: 2 },
                )],
                newest: [7, 0, 2],
            }),
        };
        let bytes = state.encode().unwrap();
        let (mut cut, mut documents) = (super::super::raw::Documents::default(), Vec::new());
        cut.push(&bytes);
        while let Some(document) = cut.next().unwrap() {
            documents
                .push(Document::try_from(super::super::raw::document(&document).unwrap()).unwrap());
        }
        assert_eq!(State::decode(&documents).unwrap(), state);
        assert_eq!(state.newest(), [7, 0, 2]);
        assert!(state.digest_of(&Namespace::new("db", "c")).is_some());
        assert!(state.digest_of(&Namespace::new("db", "v")).is_none());
        assert!(State::decode(&documents[1..]).is_err());
        documents[0].insert("schema", 3);
        assert!(State::decode(&documents).unwrap_err().hint().is_some());
    }

    #[test]
    fn files_since_a_dump_follow_each_other_to_the_end() {
        let at = |seconds| Position { seconds, increment: 1 };
        let is_read = |files: &[(u32, u32)]| {
            let files = files.iter().map(|(behind, to)| (at(*behind), at(*to))).collect();
            let since = Since { dumped: at(5), ends: at(9), files, newest: [5, 0, 4] };
            Since::of(&since.document()) == Some(since)
        };
        assert!(is_read(&[(5, 9)]) && is_read(&[(3, 7), (7, 9)]));
        for bad in [&[][..], &[(3, 7)], &[(6, 9)], &[(5, 7), (8, 9)], &[(5, 9), (9, 9)], &[(5, 10)]]
        {
            assert!(!is_read(bad), "{bad:?}");
        }
        let mut none =
            Since { dumped: at(5), ends: at(5), files: Vec::new(), newest: [5, 0, 4] }.document();
        assert!(Since::of(&none).is_some());
        // As the first versions of this program wrote it.
        none.remove("newest");
        assert_eq!(Since::of(&none).unwrap().newest, [0, 0, 0]);
    }
}

//! `catalog.bson`, beside the dump: facts that have no place in the files of mongodump.
//!
//! The first document describes the whole dump. Each other one describes a collection or view: its
//! UUID, options, indexes and the path of its data.

use backup_core::source::{ObjectDigest, Selection, SourceResult};
use bson::Timestamp;
use bytes::{Bytes, BytesMut};

use super::catalog::{Collection, Kind};
use super::error::malformed;
use super::namespace::{Filter, Namespace};
use super::position::Position;
use super::raw::{Fields, OwnedValue, Value, elements, kind, refuse_deep};

/// Version of this form, and that of catalogs with oplog added to their dump: a program that
/// ignores the addition would restore an older state.
const SCHEMA: i32 = 1;
const SCHEMA_WITH_MORE: i32 = 2;

/// The description of a dump.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// `[major, minor, patch]` of the server, or of the oldest of several: old servers leave some
    /// operations out of their oplog.
    pub(super) version: [i32; 3],
    /// True if the oplog must be folded in: the collections were not all read at one moment.
    pub(super) needs_oplog: bool,
    /// Patterns of the selection; the oplog may hold more.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    /// Oplog that incremental or differential backups have added to the dump.
    pub(super) since: Option<Since>,
    pub(super) collections: Vec<Saved>,
}

/// The oplog behind a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Since {
    /// The moment of the dump with its own oplog: the first one that can be restored.
    pub(super) dumped: Position,
    /// Where the oplog ends.
    pub(super) ends: Position,
    /// The files that hold it, in order: the entries behind the first moment up to the second.
    pub(super) files: Vec<(Position, Position)>,
    /// Version of the newest server that wrote them; zeros if it is not known. The program that
    /// applies them must know its operations.
    pub(super) newest: [i32; 3],
}

impl Since {
    fn document(&self) -> Fields {
        let at = |position: Position| OwnedValue::from(Timestamp::from(position));
        let file = |(behind, to): &(Position, Position)| {
            Fields::default().with("behind", at(*behind)).with("to", at(*to)).into()
        };
        Fields::default()
            .with("dumped", at(self.dumped))
            .with("ends", at(self.ends))
            .with("files", OwnedValue::list(self.files.iter().map(file)))
            .with("newest", version_list(self.newest))
    }

    fn of(document: &Fields) -> Option<Self> {
        let at = |document: &Fields, name| document.get(name)?.timestamp().map(Position::from);
        let file = |file: Value<'_>| {
            let file = Fields::parse(file.document()?).ok()?;
            Some((at(&file, "behind")?, at(&file, "to")?))
        };
        let files = items(document.get("files")?)?.into_iter().map(file).collect::<Option<_>>()?;
        let newest = document.get("newest").and_then(version_of).unwrap_or_default();
        let since =
            Self { dumped: at(document, "dumped")?, ends: at(document, "ends")?, files, newest };
        since.is_complete().then_some(since)
    }

    /// True if the files bring the dump to the end of the oplog.
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
    pub(super) changes: Fields,
}

impl Saved {
    /// A collection whose data lies at `path`.
    pub(super) fn of(collection: &Collection, path: Option<String>) -> Self {
        Self {
            collection: collection.clone(),
            path,
            digest: None,
            repeated: false,
            changes: Fields::default(),
        }
    }
}

fn saved_document(saved: &Saved) -> Fields {
    let Collection { namespace, kind, uuid, options, indexes } = &saved.collection;
    let mut out = Fields::default()
        .with("db", &namespace.db)
        .with("name", &namespace.name)
        .with("type", kind.word());
    if let Some(uuid) = uuid {
        out.set("uuid", *uuid);
    }
    out.set("options", options);
    out.set("indexes", OwnedValue::list(indexes.iter().map(OwnedValue::from)));
    if let Some(path) = &saved.path {
        out.set("path", path);
    }
    if let Some(digest) = &saved.digest {
        // 2⁶³ documents or bytes fit into no collection.
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let digest = Fields::default()
            .with("count", number(digest.count))
            .with("bytes", number(digest.bytes))
            .with("digest", &digest.digest);
        out.set("digest", digest);
    }
    if saved.repeated {
        out.set("repeated", true);
    }
    if !saved.changes.is_empty() {
        out.set("changes", &saved.changes);
    }
    out
}

fn saved_of(document: &Fields) -> Option<Saved> {
    let namespace = Namespace::new(document.text("db")?, document.text("name")?);
    let kind = Kind::parse(document.text("type")?)?;
    let indexes = items(document.get("indexes")?)?.into_iter();
    let indexes = indexes.map(|index| Fields::parse(index.document()?).ok());
    let count = |digest: &Fields, name| digest.get(name).and_then(Value::index).unwrap_or(0) as u64;
    let digest = document.document("digest").map(|digest| ObjectDigest {
        count: count(&digest, "count"),
        bytes: count(&digest, "bytes"),
        digest: digest.text("digest").unwrap_or_default().to_owned(),
    });
    let collection = Collection {
        namespace,
        kind,
        uuid: document.get("uuid").and_then(Value::uuid),
        options: document.document("options")?,
        indexes: indexes.collect::<Option<_>>()?,
    };
    if kind == Kind::Collection && collection.uuid.is_none() {
        return None;
    }
    let path = document.text("path").map(str::to_owned);
    let repeated = document.is_true("repeated");
    let changes = document.document("changes").unwrap_or_default();
    Some(Saved { collection, path, digest, repeated, changes })
}

/// The items of an array.
fn items(array: Value<'_>) -> Option<Vec<Value<'_>>> {
    elements(array.array()?).map(|item| item.ok().map(|item| item.value)).collect()
}

fn version_list(version: [i32; 3]) -> OwnedValue {
    OwnedValue::list(version.map(OwnedValue::from))
}

fn version_of(numbers: Value<'_>) -> Option<[i32; 3]> {
    let number = |value: Value<'_>| match value.kind {
        kind::INT32 => value.bytes.try_into().ok().map(i32::from_le_bytes),
        _ => None,
    };
    items(numbers)?.into_iter().filter_map(number).collect::<Vec<_>>().try_into().ok()
}

impl State {
    /// The version of the newest server that the dump or the oplog since is of.
    pub(super) fn newest(&self) -> [i32; 3] {
        self.since.as_ref().map_or(self.version, |since| since.newest.max(self.version))
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let has_more =
            self.since.is_some() || self.collections.iter().any(|saved| !saved.changes.is_empty());
        let list = |patterns: &[String]| OwnedValue::list(patterns.iter().map(OwnedValue::from));
        let mut head = Fields::default()
            .with("schema", if has_more { SCHEMA_WITH_MORE } else { SCHEMA })
            .with("version", version_list(self.version))
            .with("needs_oplog", self.needs_oplog)
            .with("include", list(&self.include))
            .with("exclude", list(&self.exclude));
        if let Some(since) = &self.since {
            head.set("since", since.document());
        }
        out.extend_from_slice(&head.encode());
        for saved in &self.collections {
            out.extend_from_slice(&saved_document(saved).encode());
        }
        out.freeze()
    }

    /// Reads the documents of `catalog.bson`.
    pub(super) fn decode(documents: &[Bytes]) -> SourceResult<Self> {
        const SUBJECT: &str = "catalog.bson in the snapshot";
        let broken = || malformed(SUBJECT);
        let parse = |document: &Bytes| {
            refuse_deep(document, SUBJECT)?;
            Fields::parse(document)
        };
        let (head, rest) = documents.split_first().ok_or_else(broken)?;
        let head = parse(head)?;
        match head.get("schema").and_then(Value::index).and_then(|schema| schema.try_into().ok()) {
            Some(SCHEMA | SCHEMA_WITH_MORE) => {}
            Some(other) => {
                return Err(malformed(format!("{SUBJECT}: unknown format {other}")).with_hint(
                    "use the version of this program that made the snapshot, or a newer one",
                ));
            }
            None => return Err(broken()),
        }
        let patterns = |name: &str| {
            let list = items(head.get(name).ok_or_else(broken)?).ok_or_else(broken)?;
            let texts = list.into_iter().filter_map(|item| item.text().map(str::to_owned));
            SourceResult::Ok(texts.collect::<Vec<_>>())
        };
        let since = match head.document("since") {
            None => None,
            Some(since) => Some(Since::of(&since).ok_or_else(broken)?),
        };
        let saved = |document| saved_of(&parse(document)?).ok_or_else(broken);
        Ok(Self {
            version: head.get("version").and_then(version_of).ok_or_else(broken)?,
            needs_oplog: head.get("needs_oplog").and_then(Value::boolean).ok_or_else(broken)?,
            include: patterns("include")?,
            exclude: patterns("exclude")?,
            since,
            collections: rest.iter().map(saved).collect::<SourceResult<_>>()?,
        })
    }

    /// The selection of the backup.
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
    use bson::doc;

    use super::*;

    #[test]
    fn is_written_and_read() {
        let collection = Collection {
            namespace: Namespace::new("db", "c"),
            kind: Kind::Collection,
            uuid: Some([1; 16]),
            options: doc! { "capped": true, "size": 4096 }.into(),
            indexes: vec![doc! { "v": 2, "key": { "b": 1, "a": 1 }, "name": "x" }.into()],
        };
        let view = Collection {
            namespace: Namespace::new("db", "v"),
            kind: Kind::View,
            uuid: None,
            options: doc! { "viewOn": "c", "pipeline": [] }.into(),
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
                    changes: doc! { "validator": { "a": 1 } }.into(),
                },
                Saved {
                    collection: view,
                    path: None,
                    digest: None,
                    repeated: false,
                    changes: Fields::default(),
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
        let mut documents: Vec<Bytes> = super::super::raw::split(&state.encode())
            .map(|document| Bytes::copy_from_slice(document.unwrap()))
            .collect();
        assert_eq!(State::decode(&documents).unwrap(), state);
        assert_eq!(state.newest(), [7, 0, 2]);
        assert!(state.digest_of(&Namespace::new("db", "c")).is_some());
        assert!(state.digest_of(&Namespace::new("db", "v")).is_none());
        assert!(State::decode(&documents[1..]).is_err());
        documents[0] = Fields::parse(&documents[0]).unwrap().with("schema", 3).encode().into();
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

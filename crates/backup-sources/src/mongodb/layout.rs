//! Where things lie in a snapshot: mongodump's layout below `/mongodb/<replica set>/dump`, and
//! beside it `catalog.bson` and the captured oplog.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::source::EntryPath;

use super::catalog::{Collection, Kind};
use super::extjson;
use super::namespace::{self, Namespace, file_stem};
use super::position::Position;
use super::raw::{Fields, OwnedValue};
use super::server::{Server, Topology};

/// Paths of one replica set or server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    set: EntryPath,
}

/// Files of one collection or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) data: Option<EntryPath>,
    pub(super) metadata: Option<EntryPath>,
}

/// The directory of all MongoDB data in a snapshot.
pub(super) const TOP: &str = "mongodb";
const CATALOG: &str = "catalog.bson";
const OPLOG: &str = "oplog.bson";
const DUMP: &str = "dump";
const CAPTURED: &str = "oplog";
const SINCE: &str = "since";

impl Layout {
    pub(super) fn of(server: &Server) -> Self {
        let name = match &server.topology {
            Topology::ReplicaSet { name } => file_stem(name),
            Topology::Standalone | Topology::Sharded => "standalone".to_owned(),
        };
        Self::named(&name)
    }

    /// Of the set or server whose directory has this name.
    pub(super) fn named(name: &str) -> Self {
        Self::at(EntryPath::root().join(TOP.as_bytes()).join(name.as_bytes()))
    }

    /// Of what lies at `set`.
    pub(super) fn at(set: EntryPath) -> Self {
        Self { set }
    }

    pub(super) fn set(&self) -> EntryPath {
        self.set.clone()
    }

    pub(super) fn dump(&self) -> EntryPath {
        self.set.join(DUMP.as_bytes())
    }

    pub(super) fn oplog(&self) -> EntryPath {
        self.dump().join(OPLOG.as_bytes())
    }

    /// A file of the captured oplog, by its branch and first entry. A branch that is no UUID, as in a
    /// crafted repository, is not part of the name.
    pub(super) fn captured(&self, branch: &str, first: Position) -> EntryPath {
        let Position { seconds, increment } = first;
        let is_uuid = branch.len() == 32 && branch.bytes().all(|byte| byte.is_ascii_hexdigit());
        let file = match is_uuid {
            true => format!("{seconds:010}-{increment:010}-{branch}.bson"),
            false => file_of(first),
        };
        self.set.join(CAPTURED.as_bytes()).join(file.as_bytes())
    }

    /// The directory of what incremental and differential backups add to the dump.
    pub(super) fn since(&self) -> EntryPath {
        self.set.join(SINCE.as_bytes())
    }

    /// The oplog from behind an entry on, as one of them adds it. Not where the captured oplog
    /// lies: both may begin with the same entry.
    pub(super) fn since_entry(&self, behind: Position) -> EntryPath {
        self.since().join(file_of(behind).as_bytes())
    }

    pub(super) fn catalog(&self) -> EntryPath {
        self.set.join(CATALOG.as_bytes())
    }

    /// A path below this set's directory, without it.
    pub(super) fn relative(&self, path: &EntryPath) -> String {
        let text = path.display();
        let below = text.strip_prefix(&*self.set.display()).unwrap_or(&text);
        below.trim_start_matches('/').to_owned()
    }

    /// The opposite of [`Self::relative`].
    pub(super) fn absolute(&self, relative: &str) -> Option<EntryPath> {
        let path = EntryPath::new(format!("{}/{relative}", self.set.display()))?;
        path.starts_with(&self.set).then_some(path)
    }
}

/// Names sort as their entries do.
fn file_of(entry: Position) -> String {
    format!("{:010}-{:010}.bson", entry.seconds, entry.increment)
}

/// Paths of the files of a collection in a database of `collections`: views have no data, and
/// buckets no description (it stands with their view).
pub(super) fn files(dump: &EntryPath, collection: &Collection, collections: usize) -> Files {
    let namespace = &collection.namespace;
    let at = |namespace: &Namespace, extension: &str| {
        let directory = namespace::directory(dump, namespace, collections);
        directory.join(format!("{}.{extension}", file_stem(&namespace.name)).as_bytes())
    };
    Files {
        data: collection.has_documents().then(|| at(namespace, "bson")),
        metadata: (!namespace.is_buckets()).then(|| at(namespace, "metadata.json")),
    }
}

/// Files and directories of a dump.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) directories: BTreeSet<EntryPath>,
    /// In the order of the collections.
    pub(super) files: Vec<Files>,
}

impl Layout {
    /// Where a dump of these collections and views lies.
    pub(super) fn arrange(&self, collections: &[&Collection]) -> Arranged {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for collection in collections {
            *count.entry(&collection.namespace.db).or_default() += 1;
        }
        let dump = self.dump();
        let mut directories = BTreeSet::from([self.set(), dump.clone()]);
        let mut files = Vec::with_capacity(collections.len());
        for collection in collections {
            let many = count.get(&*collection.namespace.db).copied().unwrap_or(0);
            let of = self::files(&dump, collection, many);
            directories.insert(dump.join(collection.namespace.db.as_bytes()));
            directories.extend(of.data.iter().chain(&of.metadata).filter_map(EntryPath::parent));
            files.push(of);
        }
        Arranged { directories, files }
    }
}

/// The text of a `.metadata.json`: canonical extended JSON with options, indexes, UUID, name and
/// type, as mongodump (100.x) writes it.
pub(super) fn metadata(collection: &Collection) -> String {
    let mut out = Fields::default();
    if !collection.options.is_empty() {
        out.set("options", &collection.options);
    }
    out.set("indexes", OwnedValue::list(collection.indexes.iter().map(OwnedValue::from)));
    if let (Some(uuid), Kind::Collection) = (&collection.uuid, collection.kind) {
        out.set("uuid", &hex::encode(uuid));
    }
    out.set("collectionName", &collection.namespace.name);
    out.set("type", collection.kind.word());
    extjson::canonical(&out)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn collection(name: &str, kind: Kind) -> Collection {
        let namespace = Namespace::new("db", name);
        let uuid = (kind == Kind::Collection).then_some([0xab; 16]);
        let index = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }.into();
        Collection { namespace, kind, uuid, options: Fields::default(), indexes: vec![index] }
    }

    #[test]
    fn paths_are_mongodumps() {
        let layout = Layout::at(EntryPath::new("/mongodb/rs0").unwrap());
        let shown = |name: &str, kind: Kind| {
            let files = files(&layout.dump(), &collection(name, kind), 1);
            let text = |path: Option<EntryPath>| path.map(|path| layout.relative(&path));
            (text(files.data), text(files.metadata))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown("a b", Kind::Collection),
            (some("dump/db/a+b.bson"), some("dump/db/a+b.metadata.json"))
        );
        assert_eq!(shown("v", Kind::View), (None, some("dump/db/v.metadata.json")));
        assert_eq!(
            shown("system.buckets.t", Kind::Collection),
            (some("dump/db/system.buckets.t.bson"), None)
        );
        let path = layout.absolute("dump/db/x.bson").unwrap();
        assert_eq!(layout.relative(&path), "dump/db/x.bson");
        assert_eq!(layout.absolute("../x"), None);
    }

    #[test]
    fn descriptions_are_mongodumps() {
        assert_eq!(
            metadata(&collection("c", Kind::Collection)),
            "{\"indexes\":[{\"v\":{\"$numberInt\":\"2\"},\"key\":{\"_id\":{\"$numberInt\":\"1\"}},\"name\":\"_id_\"}],\
             \"uuid\":\"abababababababababababababababab\",\"collectionName\":\"c\",\"type\":\"collection\"}"
        );
    }
}

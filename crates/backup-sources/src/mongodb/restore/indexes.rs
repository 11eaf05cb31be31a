//! Indexes: before the documents where that is cheaper and equally safe, else after them.
//!
//! Building indexes on documents takes a replica set a tenth of a second for each collection, also
//! for five documents; on an empty collection it is one entry of the catalog.

use backup_core::source::SourceResult;
use bson::doc;

use super::aside::shown;
use super::target::{FAR_AWAY, Target};
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::Explain as _;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::{Fields, OwnedValue, kind};

/// Indexes of one collection as `createIndexes` takes them, in the order of the source.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    /// For the empty collection.
    pub(super) early: Vec<Fields>,
    /// For the filled one.
    pub(super) late: Vec<Fields>,
}

impl Indexes {
    /// Splits the indexes of a collection. Only a small one gets indexes early, and none from the
    /// first one on that could interfere with the documents on their way.
    pub(super) fn of(collection: &Collection, is_small: bool, to: Terms) -> Self {
        let collated = collection.options.has("collation");
        let indexes = collection.indexes.iter().filter(|index| !is_made_by_the_server(index));
        let mut specs: Vec<Fields> = indexes.map(|index| to_create(index, collated, to)).collect();
        let is_late = |index: &Fields| !is_small || interferes(index, collection.is_capped());
        let first = specs.iter().position(is_late).unwrap_or(specs.len());
        let late = specs.split_off(first);
        Self { early: specs, late }
    }

    /// Whether the server deletes documents by one of the late indexes once it is built.
    pub(super) fn expires(&self) -> bool {
        self.late.iter().any(|index| index.has(TTL))
    }
}

const TTL: &str = "expireAfterSeconds";

/// How a target gets its indexes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The server deletes nothing for a long time.
    pub(super) defer_ttl: bool,
    /// The version of the target.
    pub(super) version: [i32; 3],
}

impl Terms {
    /// The time to live that an index gets at the target. Servers before 5.0 store one that is not a
    /// number and never delete by it; later ones took it for zero and deleted everything until they
    /// learned to store the largest number instead
    /// (<https://jira.mongodb.org/browse/SERVER-68477>).
    pub(super) fn set_ttl(self, index: &mut Fields) {
        let Some(ttl) = index.get(TTL) else { return };
        if self.defer_ttl {
            index.set(TTL, FAR_AWAY);
        } else if ttl.number().is_some_and(f64::is_nan) && self.version[0] >= 5 {
            index.set(TTL, i32::MAX);
        }
    }
}

/// True for an index that deletes documents, or may refuse some that the finished collection takes:
/// a capped collection may hold too many until the last one is inserted, and the source may have
/// had duplicates before `prepareUnique` was set.
fn interferes(index: &Fields, is_capped: bool) -> bool {
    index.has(TTL) || index.is_true("prepareUnique") || (is_capped && index.is_true("unique"))
}

/// The index on `_id` comes with its collection.
pub(super) fn is_made_by_the_server(index: &Fields) -> bool {
    index.is_true("clustered") || index.document("key").is_some_and(|key| is_id(&key))
}

fn is_id(key: &Fields) -> bool {
    let direction = key.get("_id").filter(|_| key.len() == 1);
    direction.is_some_and(|direction| match direction.kind {
        kind::DOUBLE => true,
        _ => direction.number() == Some(1.0),
    })
}

/// What `createIndexes` takes.
fn to_create(index: &Fields, collated: bool, to: Terms) -> Fields {
    let mut index = index.only(|field| !matches!(field, b"ns" | b"background"));
    if collated && !index.has("collation") {
        // It compares plainly although its collection does not: that must be said.
        index.set("collation", Fields::default().with("locale", "simple"));
    }
    to.set_ttl(&mut index);
    index
}

impl Target {
    /// Builds indexes with one command, which reads the documents once.
    pub(super) async fn build(
        &self,
        namespace: &Namespace,
        indexes: &[Fields],
    ) -> SourceResult<()> {
        if indexes.is_empty() {
            return Ok(());
        }
        let command = Fields::default()
            .with("createIndexes", &namespace.name)
            .with("indexes", OwnedValue::list(indexes.iter().map(OwnedValue::from)));
        self.define(&namespace.db, &command)
            .await?
            .writing(format_args!("cannot build the indexes of {}", shown(namespace)))
    }

    /// Drops the indexes that the server has made on buckets and the source has not: from 6.0 on it
    /// makes one with every time-series collection.
    pub(super) async fn drop_other_indexes(&self, collection: &Collection) -> SourceResult<()> {
        let namespace = &collection.namespace;
        let listing =
            self.server.list_written(&namespace.db, doc! { "listIndexes": &namespace.name });
        let mut others = Vec::new();
        for index in listing.await.writing("cannot list the indexes")? {
            let index = Fields::parse(index.as_bytes())?;
            let Some(name) = index.get("name") else { continue };
            let wanted = collection.indexes.iter().any(|index| index.get("name") == Some(name));
            if !wanted && name.text() != Some("_id_") {
                others.push(OwnedValue::from(name));
            }
        }
        for index in others {
            let command =
                Fields::default().with("dropIndexes", &namespace.name).with("index", index);
            self.define(&namespace.db, &command)
                .await?
                .writing(format_args!("cannot drop an index of {}", shown(namespace)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document};

    use super::*;
    use crate::mongodb::catalog::Kind;
    use crate::mongodb::raw::Value;

    const PLAIN: Terms = Terms { defer_ttl: false, version: [6, 0, 0] };

    #[test]
    fn indexes_are_created_as_they_were() {
        let index: Fields = doc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "ns": "x.y", "background": true, "expireAfterSeconds": 5 }.into();
        let plain = doc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "expireAfterSeconds": 5 };
        assert_eq!(to_create(&index, false, PLAIN), plain.into());
        let deferred = to_create(&index, true, Terms { defer_ttl: true, ..PLAIN });
        assert_eq!(deferred.get("expireAfterSeconds").unwrap().number(), Some(FAR_AWAY.into()));
        assert_eq!(deferred.document("collation").unwrap(), doc! { "locale": "simple" }.into());
        assert!(is_made_by_the_server(&doc! { "key": { "_id": 1 }, "name": "_id_" }.into()));
        assert!(!is_made_by_the_server(&doc! { "key": { "_id": "hashed" }, "name": "h" }.into()));
    }

    #[test]
    fn a_time_to_live_that_is_no_number_deletes_nothing() {
        let index: Fields =
            doc! { "key": { "a": 1 }, "name": "a", "expireAfterSeconds": f64::NAN }.into();
        let ttl = |version| {
            let made = to_create(&index, false, Terms { version, ..PLAIN });
            made.get(TTL).and_then(Value::number).unwrap()
        };
        assert!(ttl([4, 4, 18]).is_nan());
        assert_eq!((ttl([5, 0, 4]), ttl([6, 0, 0])), (2_147_483_647.0, 2_147_483_647.0));
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
                options: if capped { doc! { "capped": true }.into() } else { Fields::default() },
                indexes: indexes.iter().cloned().map(Fields::from).collect(),
            };
            let split = Indexes::of(&collection, is_small, PLAIN);
            let names = |indexes: &[Fields]| {
                indexes.iter().map(|index| index.text("name").unwrap()).collect::<String>()
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

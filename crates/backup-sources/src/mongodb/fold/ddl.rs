//! Which collections there are at the moment.
//!
//! The catalog of the dump was listed at some time after the oplog's beginning; replaying
//! everything since then ends in the same state wherever the list was made. From mongo.md section 4
//! and the server's `src/mongo/db/repl/oplog.cpp`.

use std::collections::{HashMap, HashSet};

use backup_core::source::{Selection, SourceError, SourceErrorKind, SourceResult};
use bson::{Bson, Document, RawDocument, doc};

use super::{Live, unknown};
use crate::mongodb::catalog::{Collection, CollectionUuid, Kind, uuid_of};
use crate::mongodb::error::malformed;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::parsed::parsed;
use crate::mongodb::state::State;

#[derive(Debug)]
struct Known {
    collection: Collection,
    /// Changes of the validator. The server fills in what a change leaves out, but not what
    /// creation leaves out: so they are made again as changes.
    changes: Document,
    path: Option<String>,
    repeated: bool,
    temporary: bool,
    dead: bool,
    /// Neither in the dump nor created since: it was left out of the backup.
    foreign: bool,
}

impl Known {
    /// Without anything dumped.
    fn new(collection: Collection) -> Self {
        Self {
            collection,
            changes: Document::new(),
            path: None,
            repeated: false,
            temporary: false,
            dead: false,
            foreign: false,
        }
    }
}

/// Collections by UUID. Their numbers are their places.
#[derive(Debug)]
pub(super) struct Catalog {
    known: Vec<(CollectionUuid, Known)>,
    numbers: HashMap<CollectionUuid, u32>,
    /// What the backup was asked for.
    filter: Filter,
}

impl Catalog {
    pub(super) fn new(state: &State) -> SourceResult<Self> {
        let mut catalog =
            Self { known: Vec::new(), numbers: HashMap::new(), filter: state.filter()? };
        for saved in &state.collections {
            if let Some(uuid) = saved.collection.uuid {
                let mut collection = saved.collection.clone();
                let temporary = collection
                    .options
                    .remove("temp")
                    .is_some_and(|temp| temp == Bson::Boolean(true));
                catalog.add(
                    uuid,
                    Known {
                        collection,
                        changes: saved.changes.clone(),
                        path: saved.path.clone(),
                        repeated: saved.repeated,
                        temporary,
                        dead: false,
                        foreign: false,
                    },
                );
            }
        }
        Ok(catalog)
    }

    /// Of a single collection that nothing is known about but that it may have an index, if there
    /// is one at all.
    pub(super) fn of_one(
        known: Option<(CollectionUuid, Namespace)>,
        index: Option<&Document>,
    ) -> SourceResult<Self> {
        let mut catalog = Self {
            known: Vec::new(),
            numbers: HashMap::new(),
            filter: Filter::new(&Selection::default())?,
        };
        if let Some((uuid, namespace)) = known {
            let named = |index: &Document| {
                doc! {
                    "name": index.get("name").cloned().unwrap_or_default(),
                    "key": index.get("keyPattern").cloned().unwrap_or_default(),
                }
            };
            let (options, indexes) = (Document::new(), index.map(named).into_iter().collect());
            let collection = Collection {
                namespace,
                kind: Kind::Collection,
                uuid: Some(uuid),
                options,
                indexes,
            };
            catalog.add(uuid, Known::new(collection));
        }
        Ok(catalog)
    }

    fn add(&mut self, uuid: CollectionUuid, known: Known) {
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.numbers.insert(uuid, number);
        self.known.push((uuid, known));
    }

    pub(super) fn number_of(&self, uuid: &CollectionUuid) -> Option<u32> {
        self.numbers.get(uuid).copied()
    }

    /// Whether the backup was asked for it.
    pub(super) fn covers(&self, namespace: &Namespace) -> bool {
        self.filter.covers(namespace)
    }

    pub(super) fn is_capped(&self, number: u32) -> bool {
        self.known.get(number as usize).is_some_and(|(_, known)| known.collection.is_capped())
    }

    fn get(&mut self, uuid: &CollectionUuid) -> Option<&mut Known> {
        let number = *self.numbers.get(uuid)?;
        self.known.get_mut(number as usize).map(|(_, known)| known)
    }

    /// Takes a command; returns the database whose views are all gone with it, if there is one.
    pub(super) fn command(
        &mut self,
        db: &str,
        entry: &RawDocument,
    ) -> SourceResult<Option<String>> {
        let object = entry.get_document("o").map_err(|_| malformed("oplog entry"))?;
        let object = parsed(object, "command in the oplog")?;
        let Some((command, argument)) = object.iter().next() else {
            return Err(unknown("an empty command", entry));
        };
        let uuid = uuid_of(super::raw_value(entry, "ui")?.as_ref());
        let name = argument.as_str();
        match (&**command, uuid, name) {
            ("create", Some(uuid), Some(name)) => {
                self.create(uuid, Namespace::new(db, name), &object);
            }
            ("drop", _, Some("system.views")) => return Ok(Some(db.to_owned())),
            ("drop", Some(uuid), _) => {
                if let Some(known) = self.get(&uuid) {
                    known.dead = true;
                }
            }
            ("renameCollection", Some(uuid), _) => self.rename(uuid, &object, entry)?,
            ("collMod", Some(uuid), _) => {
                if let Some(known) = self.get(&uuid) {
                    modify(known, &object, entry)?;
                }
            }
            ("createIndexes", Some(uuid), _) => {
                let spec: Document = object.clone().into_iter().skip(1).collect();
                self.index(&uuid, &[Bson::Document(spec)], entry)?;
            }
            ("commitIndexBuild", Some(uuid), _) => {
                let specs = object
                    .get_array("indexes")
                    .map_err(|_| unknown("an index build without indexes", entry))?;
                self.index(&uuid, specs, entry)?;
            }
            ("dropIndexes" | "deleteIndexes" | "dropIndex" | "deleteIndex", Some(uuid), _) => {
                let index = object
                    .get_str("index")
                    .map_err(|_| unknown("an index drop without a name", entry))?;
                if let Some(known) = self.get(&uuid) {
                    known
                        .collection
                        .indexes
                        .retain(|spec| spec.get_str("name").ok() != Some(index));
                }
            }
            // Before it, every collection is dropped by an entry of its own; indexes count when
            // they are finished; markings of multikey indexes are made anew.
            (
                "dropDatabase" | "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata",
                _,
                _,
            ) => {}
            _ => return Err(unknown(format_args!("the command {command}"), entry)),
        }
        Ok(None)
    }

    fn create(&mut self, uuid: CollectionUuid, namespace: Namespace, object: &Document) {
        // It was listed when it was there already: then with all that came after.
        if self.numbers.contains_key(&uuid) {
            return;
        }
        let mut options: Document = object.clone().into_iter().skip(1).collect();
        let mut indexes = Vec::new();
        if let Some(Bson::Document(id)) = options.remove("idIndex") {
            indexes.push(id);
        }
        let temporary = options.remove("temp").is_some_and(|temp| temp == Bson::Boolean(true));
        for of_the_member in ["autoIndexId", "uuid", "recordIdsReplicated"] {
            options.remove(of_the_member);
        }
        let collection =
            Collection { namespace, kind: Kind::Collection, uuid: Some(uuid), options, indexes };
        self.add(uuid, Known { temporary, ..Known::new(collection) });
    }

    fn rename(
        &mut self,
        uuid: CollectionUuid,
        object: &Document,
        entry: &RawDocument,
    ) -> SourceResult<()> {
        let to = object.get_str("to").ok().and_then(Namespace::parse);
        let to = to.ok_or_else(|| unknown("a rename without a new name", entry))?;
        if let Some(target) = uuid_of(object.get("dropTarget"))
            && let Some(target) = self.get(&target)
        {
            target.dead = true;
        }
        let stays = object.get_bool("stayTemp").unwrap_or(false);
        match self.get(&uuid) {
            Some(known) => {
                known.temporary &= stays;
                known.collection.namespace = to;
            }
            None => {
                let collection = Collection {
                    namespace: to,
                    kind: Kind::Collection,
                    uuid: Some(uuid),
                    options: Document::new(),
                    indexes: Vec::new(),
                };
                self.add(uuid, Known { foreign: true, ..Known::new(collection) });
            }
        }
        Ok(())
    }

    fn index(
        &mut self,
        uuid: &CollectionUuid,
        specs: &[Bson],
        entry: &RawDocument,
    ) -> SourceResult<()> {
        let Some(known) = self.get(uuid) else { return Ok(()) };
        for spec in specs {
            let spec = spec
                .as_document()
                .ok_or_else(|| unknown("an index without a specification", entry))?;
            let name =
                spec.get_str("name").map_err(|_| unknown("an index without a name", entry))?;
            known.collection.indexes.retain(|other| other.get_str("name").ok() != Some(name));
            known.collection.indexes.push(spec.clone());
        }
        Ok(())
    }

    /// What is alive, and was asked for when the backup was made.
    pub(super) fn live(self, has_view: impl Fn(&Namespace) -> bool) -> SourceResult<Vec<Live>> {
        let mut names = HashSet::new();
        let mut live = Vec::new();
        for ((uuid, known), number) in self.known.into_iter().zip(0..) {
            let Known { collection, changes, path, repeated, temporary, dead, foreign } = known;
            let namespace = &collection.namespace;
            if dead || namespace.is_internal() || !self.filter.covers(namespace) {
                continue;
            }
            if foreign {
                return Err(SourceError::new(
                    SourceErrorKind::Unsupported,
                    format!(
                        "{namespace} was renamed from a collection that is not in this snapshot"
                    ),
                )
                .with_hint("choose another snapshot"));
            }
            if !names.insert(namespace.clone()) {
                return Err(malformed(format!("oplog: two collections are called {namespace}")));
            }
            let orphan = namespace.is_buckets() && !has_view(namespace);
            live.push(Live {
                number,
                uuid,
                collection,
                changes,
                path,
                repeated,
                orphan,
                temporary,
            });
        }
        Ok(live)
    }
}

/// Changes of options and indexes by `collMod`.
fn modify(known: &mut Known, object: &Document, entry: &RawDocument) -> SourceResult<()> {
    let collection = &mut known.collection;
    for (option, value) in object.iter().skip(1) {
        match (&**option, value) {
            ("index", Bson::Document(change)) => modify_index(collection, change, entry)?,
            ("validator" | "validationLevel" | "validationAction", value) => {
                known.changes.insert(option, value.clone());
            }
            ("expireAfterSeconds", Bson::String(off)) if off == "off" => {
                collection.options.remove("expireAfterSeconds");
            }
            ("timeseries", Bson::Document(change)) => {
                let mut timeseries =
                    collection.options.get_document("timeseries").cloned().unwrap_or_default();
                timeseries.extend(change.clone());
                collection.options.insert("timeseries", timeseries);
            }
            ("cappedSize", size) => _ = collection.options.insert("size", size.clone()),
            ("cappedMax", max) => _ = collection.options.insert("max", max.clone()),
            ("expireAfterSeconds" | "recordPreImages" | "changeStreamPreAndPostImages", value) => {
                _ = collection.options.insert(option, value.clone());
            }
            _ => return Err(unknown(format_args!("a change of the option {option}"), entry)),
        }
    }
    Ok(())
}

fn modify_index(
    collection: &mut Collection,
    change: &Document,
    entry: &RawDocument,
) -> SourceResult<()> {
    let is_meant = |spec: &&mut Document| match (change.get_str("name"), change.get("keyPattern")) {
        (Ok(name), _) => spec.get_str("name").ok() == Some(name),
        (_, key) => key.is_some() && spec.get("key") == key,
    };
    // Of one that was dropped later on, or that is still being built.
    let Some(spec) = collection.indexes.iter_mut().find(is_meant) else { return Ok(()) };
    for (field, value) in change {
        let is_true = value.as_bool() == Some(true);
        match &**field {
            "name" | "keyPattern" => {}
            "expireAfterSeconds" => _ = spec.insert(field, value.clone()),
            "hidden" | "prepareUnique" if is_true => _ = spec.insert(field, true),
            "hidden" | "prepareUnique" => _ = spec.remove(field),
            "unique" if is_true => {
                spec.remove("prepareUnique");
                spec.insert("unique", true);
            }
            other => {
                return Err(unknown(format_args!("a change of the index option {other}"), entry));
            }
        }
    }
    Ok(())
}

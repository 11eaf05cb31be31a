//! The collections of the moment.
//!
//! The catalog of the dump was listed at some time after the oplog's beginning; replaying
//! everything since then ends in the same state wherever the list was made. From mongo.md section 4
//! and the server's `src/mongo/db/repl/oplog.cpp`.

use std::collections::{HashMap, HashSet};

use backup_core::source::{Selection, SourceError, SourceErrorKind, SourceResult};
use bson::RawDocument;

use super::modify::modify;
use super::{Live, unknown, uuid_in};
use crate::mongodb::catalog::{Collection, CollectionUuid, Kind};
use crate::mongodb::error::malformed;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::raw::{Element, Fields, OwnedValue, Value, elements, get, refuse_deep};
use crate::mongodb::state::State;

#[derive(Debug)]
struct Known {
    collection: Collection,
    /// Changes of the validator. The server fills in what a change leaves out, but not what
    /// creation leaves out: so they are made again as changes.
    changes: Fields,
    path: Option<String>,
    repeated: bool,
    temporary: bool,
    dead: bool,
    /// Neither in the dump nor created since: it was left out of the backup.
    foreign: bool,
    /// The first operation on it that is not known.
    spoiled: Option<SourceError>,
}

/// A collection or view that cannot be brought to the moment, and why.
#[derive(Debug)]
pub(in crate::mongodb) struct Spoiled {
    pub(in crate::mongodb) namespace: Namespace,
    pub(in crate::mongodb) reason: SourceError,
}

impl Known {
    /// Without anything dumped.
    fn new(collection: Collection) -> Self {
        Self {
            collection,
            changes: Fields::default(),
            path: None,
            repeated: false,
            temporary: false,
            dead: false,
            foreign: false,
            spoiled: None,
        }
    }
}

/// Collections by UUID. Their numbers are their places.
#[derive(Debug)]
pub(super) struct Catalog {
    known: Vec<(CollectionUuid, Known)>,
    numbers: HashMap<CollectionUuid, u32>,
    /// The selection of the backup.
    filter: Filter,
    /// Every `collMod` that does not mention it switches `recordPreImages` off, as servers from 5.0
    /// on do.
    forgets_images: bool,
}

impl Catalog {
    pub(super) fn new(state: &State) -> SourceResult<Self> {
        let mut catalog = Self {
            known: Vec::new(),
            numbers: HashMap::new(),
            filter: state.filter()?,
            forgets_images: state.version[..2] >= [5, 0][..],
        };
        for saved in &state.collections {
            if let Some(uuid) = saved.collection.uuid {
                let mut collection = saved.collection.clone();
                let temporary = is_true(collection.options.remove("temp"));
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
                        spoiled: None,
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
        index: Option<&Fields>,
    ) -> SourceResult<Self> {
        let mut catalog = Self {
            known: Vec::new(),
            numbers: HashMap::new(),
            filter: Filter::new(&Selection::default())?,
            forgets_images: false,
        };
        if let Some((uuid, namespace)) = known {
            let named = |index: &Fields| {
                let mut named = index.only(|field| field == b"name");
                if let Some(key) = index.get("keyPattern") {
                    named.set("key", key);
                }
                named
            };
            let (options, indexes) = (Fields::default(), index.map(named).into_iter().collect());
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

    /// Marks a collection as unusable: an operation on it cannot be carried out.
    pub(super) fn spoil(&mut self, number: u32, reason: SourceError) {
        if let Some((_, known)) = self.known.get_mut(number as usize) {
            known.spoiled.get_or_insert(reason);
        }
    }

    /// Takes a command; returns the database whose views are all gone with it, if there is one.
    pub(super) fn command(
        &mut self,
        db: &str,
        entry: &RawDocument,
    ) -> SourceResult<Option<String>> {
        let object = get(entry.as_bytes(), "o")?.and_then(Value::document);
        let object = object.ok_or_else(|| malformed("oplog entry"))?;
        refuse_deep(object, "command in the oplog")?;
        let object = Fields::parse(object)?;
        let Some(Element { name: command, value: argument }) = object.iter().next() else {
            return Err(unknown("an empty command", entry));
        };
        let command = String::from_utf8_lossy(command);
        let uuid = uuid_in(entry)?;
        let name = argument.text();
        match (&*command, uuid, name) {
            ("create", Some(uuid), Some(name)) => {
                self.create(uuid, Namespace::new(db, name), &object);
            }
            // A name that is not UTF-8: it was left out of the backup.
            ("create", Some(_), None) if argument.string().is_some() => {}
            ("drop", _, Some("system.views")) => return Ok(Some(db.to_owned())),
            ("drop", Some(uuid), _) => {
                if let Some(known) = self.get(&uuid) {
                    known.dead = true;
                }
            }
            ("renameCollection", Some(uuid), _) => self.rename(uuid, &object, entry)?,
            ("collMod", Some(uuid), _) => {
                let forgets_images = self.forgets_images;
                if let Some(known) = self.get(&uuid) {
                    if forgets_images {
                        known.collection.options.remove("recordPreImages");
                    }
                    modify(&mut known.collection, &mut known.changes, &object, entry)?;
                }
            }
            ("createIndexes", Some(uuid), _) => {
                self.index(&uuid, object.behind_the_first(), entry)?;
            }
            ("commitIndexBuild", Some(uuid), _) => self.indexes(&uuid, &object, entry)?,
            ("dropIndexes" | "deleteIndexes" | "dropIndex" | "deleteIndex", Some(uuid), _) => {
                let index = object.get("index").filter(|index| index.string().is_some());
                let index = index.ok_or_else(|| unknown("an index drop without a name", entry))?;
                if let Some(known) = self.get(&uuid) {
                    known.collection.indexes.retain(|spec| spec.get("name") != Some(index));
                }
            }
            // Before it, every collection is dropped by an entry of its own; indexes count when
            // they are finished; markings of multikey indexes do not last; a check of a
            // collection changes nothing.
            (
                "dropDatabase"
                | "startIndexBuild"
                | "abortIndexBuild"
                | "setMultikeyMetadata"
                | "dbCheck",
                _,
                _,
            ) => {}
            _ => return Err(unknown(format_args!("the command {command}"), entry)),
        }
        Ok(None)
    }

    fn create(&mut self, uuid: CollectionUuid, namespace: Namespace, object: &Fields) {
        // It was listed when it was there already: then with all that came after.
        if self.numbers.contains_key(&uuid) {
            return;
        }
        let mut options = object.behind_the_first();
        let indexes = options.document("idIndex").into_iter().collect();
        options.remove("idIndex");
        let temporary = is_true(options.remove("temp"));
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
        object: &Fields,
        entry: &RawDocument,
    ) -> SourceResult<()> {
        let Some(to) = object.text("to").and_then(Namespace::parse) else {
            return match self.get(&uuid) {
                Some(_) => Err(unknown("a rename to a name that is not UTF-8", entry)),
                None => Ok(()),
            };
        };
        if let Some(target) = object.get("dropTarget").and_then(Value::uuid)
            && let Some(target) = self.get(&target)
        {
            target.dead = true;
        }
        let stays = object.is_true("stayTemp");
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
                    options: Fields::default(),
                    indexes: Vec::new(),
                };
                self.add(uuid, Known { foreign: true, ..Known::new(collection) });
            }
        }
        Ok(())
    }

    /// Takes the indexes of a build.
    fn indexes(
        &mut self,
        uuid: &CollectionUuid,
        object: &Fields,
        entry: &RawDocument,
    ) -> SourceResult<()> {
        let specs = object.get("indexes").and_then(Value::array);
        let specs = specs.ok_or_else(|| unknown("an index build without indexes", entry))?;
        for spec in elements(specs) {
            let spec = spec?.value.document();
            let spec = spec.ok_or_else(|| unknown("an index without a specification", entry))?;
            self.index(uuid, Fields::parse(spec)?, entry)?;
        }
        Ok(())
    }

    fn index(
        &mut self,
        uuid: &CollectionUuid,
        spec: Fields,
        entry: &RawDocument,
    ) -> SourceResult<()> {
        let Some(known) = self.get(uuid) else { return Ok(()) };
        let name = spec.get("name").filter(|name| name.string().is_some());
        let name = name.ok_or_else(|| unknown("an index without a name", entry))?;
        known.collection.indexes.retain(|other| other.get("name") != Some(name));
        known.collection.indexes.push(spec);
        Ok(())
    }

    /// Live collections within the selection of the backup, and spoiled ones.
    pub(super) fn live(
        self,
        has_view: impl Fn(&Namespace) -> bool,
    ) -> SourceResult<(Vec<Live>, Vec<Spoiled>)> {
        let mut names = HashSet::new();
        let (mut live, mut unusable) = (Vec::new(), Vec::new());
        for ((uuid, known), number) in self.known.into_iter().zip(0..) {
            let Known { collection, changes, path, repeated, temporary, dead, foreign, spoiled } =
                known;
            let namespace = &collection.namespace;
            if dead || namespace.is_internal() || !self.filter.covers(namespace) {
                continue;
            }
            let spoiled = spoiled.or_else(|| foreign.then(|| foreign_to(namespace)));
            if let Some(reason) = spoiled {
                // Temporary ones are not restored anyway.
                if !temporary {
                    unusable.push(Spoiled { namespace: namespace.clone(), reason });
                }
                continue;
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
        Ok((live, unusable))
    }
}

fn foreign_to(namespace: &Namespace) -> SourceError {
    SourceError::new(
        SourceErrorKind::Unsupported,
        format!("{namespace} was renamed from a collection that is not in this snapshot"),
    )
    .with_hint("choose another snapshot")
}

fn is_true(value: Option<OwnedValue>) -> bool {
    value.is_some_and(|value| value.get().boolean() == Some(true))
}

//! Collections, indexes, options and views of the moment.

use std::collections::{BTreeMap, HashMap};

use backup_core::source::SourceResult;

use super::change::change;
use super::failed;
use super::fields::{
    fields_of, get, is_same_key, is_true, name_of, number, set_option, sorted, take,
};
use super::log::Transaction;
use super::tree::{Field, Slice, Value, find, parse, top};
use crate::mongodb::catalog::{Collection, CollectionUuid, Kind};
use crate::mongodb::namespace::{BUCKETS, Namespace};
use crate::mongodb::state::State;

/// Options of a creation that belong to the member, or are stored elsewhere.
const NOT_KEPT: [&[u8]; 5] = [b"idIndex", b"temp", b"autoIndexId", b"uuid", b"recordIdsReplicated"];
/// Markings that the server makes by itself.
const MARKINGS: [&[u8]; 4] = [
    b"timeseriesBucketsMayHaveMixedSchemaData",
    b"timeseriesBucketingParametersHaveChanged",
    b"_removeLegacyTimeseriesBucketingParametersHaveChanged",
    b"isUnsplittable",
];

/// Options of a time series that are compared after a change.
const BUCKETING: [&[u8]; 3] = [b"timeField", b"metaField", b"granularity"];

/// A collection.
#[derive(Debug)]
pub(super) struct Defined {
    pub(super) namespace: Option<Namespace>,
    pub(super) is_temporary: bool,
    pub(super) is_dropped: bool,
    options: Vec<Field>,
    indexes: Vec<Vec<Field>>,
    /// Its granularity was changed: the server derives other options from it.
    is_rebucketed: bool,
}

#[derive(Debug)]
pub(super) struct Definitions {
    pub(super) collections: HashMap<CollectionUuid, Defined>,
    /// By `database.name`.
    views: BTreeMap<Vec<u8>, Vec<Field>>,
    /// Commands of transactions that have not ended.
    waiting: Vec<(Transaction, Vec<u8>)>,
    /// Servers from 5.0 on switch images off with every change that does not mention them.
    forgets_images: bool,
}

impl Definitions {
    /// The definitions of the dump.
    pub(super) fn of(state: &State) -> SourceResult<Self> {
        let mut this = Self {
            collections: HashMap::new(),
            views: BTreeMap::new(),
            waiting: Vec::new(),
            forgets_images: state.version[..2] >= [5, 0][..],
        };
        for saved in &state.collections {
            let Collection { namespace, kind, uuid, options, indexes } = &saved.collection;
            let mut options = fields_of(options)?;
            match (kind, uuid) {
                (Kind::View, _) => _ = this.views.insert(namespace.to_string().into(), options),
                (Kind::TimeSeries, _) => {
                    let on = namespace.buckets().name.into_bytes();
                    let length = u32::try_from(on.len() + 1).unwrap_or(u32::MAX).to_le_bytes();
                    let on = Value::Plain(2, [&length[..], &on, &[0]].concat());
                    this.views.insert(namespace.to_string().into(), vec![(b"viewOn".to_vec(), on)]);
                }
                (Kind::Collection, Some(uuid)) => {
                    let is_temporary =
                        take(&mut options, b"temp").is_some_and(|temp| is_true(&temp));
                    for (name, value) in fields_of(&saved.changes)? {
                        set_option(&mut options, &name, value);
                    }
                    let defined = Defined {
                        namespace: Some(namespace.clone()),
                        is_temporary,
                        is_dropped: false,
                        options,
                        indexes: indexes.iter().map(fields_of).collect::<SourceResult<_>>()?,
                        is_rebucketed: false,
                    };
                    this.collections.insert(*uuid, defined);
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// Takes an operation; one of an open transaction waits for its end.
    pub(super) fn operation(
        &mut self,
        transaction: Option<Transaction>,
        operation: &[u8],
    ) -> SourceResult<()> {
        let text = |name| find(operation, name).and_then(Slice::text).unwrap_or_default();
        let (op, ns) = (text("op"), text("ns"));
        let is_view = ns.ends_with(b".system.views");
        match (op, transaction) {
            (b"c", Some(number)) => self.waiting.push((number, operation.to_vec())),
            (b"c", None) => self.command(operation, ns),
            (b"i" | b"u" | b"d", _) if is_view => self.view(op, operation)?,
            _ => {}
        }
        Ok(())
    }

    /// The operations of a transaction take effect.
    pub(super) fn commit(&mut self, transaction: Transaction) {
        let ready = self.waiting.extract_if(.., |(number, _)| *number == transaction);
        for (_, operation) in ready.collect::<Vec<_>>() {
            let ns = find(&operation, "ns").and_then(Slice::text).unwrap_or_default().to_vec();
            self.command(&operation, &ns);
        }
    }

    /// Carries out a command; one that is not known changes nothing here.
    fn command(&mut self, entry: &[u8], ns: &[u8]) {
        let object = find(entry, "o").and_then(Slice::inside).unwrap_or_default();
        let Some((first, rest)) =
            top(object).and_then(|fields| Some((*fields.first()?, parse(object)?.split_off(1))))
        else {
            return;
        };
        let db = ns.split(|byte| *byte == b'.').next().unwrap_or_default();
        if (first.name, first.text()) == (b"drop", Some(b"system.views")) {
            self.views.retain(|name, _| name.split(|byte| *byte == b'.').next() != Some(db));
            return;
        }
        let Some(uuid) = find(entry, "ui").and_then(Slice::uuid) else { return };
        match first.name {
            b"create" => {
                let name = [db, b".", first.text().unwrap_or_default()].concat();
                self.collections.entry(uuid).or_insert_with(|| created(&name, rest));
            }
            b"renameCollection" => self.rename(uuid, object),
            other => {
                let forgets_images = self.forgets_images;
                if let Some(defined) = self.collections.get_mut(&uuid) {
                    defined.command(other, rest, forgets_images);
                }
            }
        }
    }

    fn rename(&mut self, uuid: CollectionUuid, object: &[u8]) {
        let replaced = find(object, "dropTarget").and_then(Slice::uuid);
        if let Some(replaced) = replaced.and_then(|uuid| self.collections.get_mut(&uuid)) {
            replaced.is_dropped = true;
        }
        let stays = find(object, "stayTemp").is_some_and(Slice::is_true);
        if let Some(defined) = self.collections.get_mut(&uuid) {
            defined.namespace = find(object, "to").and_then(Slice::text).and_then(namespace);
            defined.is_temporary &= stays;
        }
    }

    /// Views are documents.
    fn view(&mut self, op: &[u8], operation: &[u8]) -> SourceResult<()> {
        let object = |name| find(operation, name).and_then(Slice::inside);
        let broken = || failed("an operation on a view");
        let named = object(if op == b"u" { "o2" } else { "o" }).ok_or_else(broken)?;
        let id = find(named, "_id").and_then(Slice::text).ok_or_else(broken)?.to_vec();
        let new = object("o").and_then(parse).ok_or_else(broken)?;
        if op == b"d" {
            self.views.remove(&id);
        } else if op == b"i" || get(&new, b"_id").is_some() {
            self.views.insert(id, new);
        } else if let Some(mut view) = self.views.remove(&id)
            && change(&mut view, &new).is_some()
        {
            self.views.insert(id, view);
        }
        Ok(())
    }

    /// Returns `true` if there is a view of any kind.
    pub(super) fn has_view(&self, namespace: &Namespace) -> bool {
        self.views.contains_key(namespace.to_string().as_bytes())
    }

    /// Views by name, without those of time series: their collections bring them along.
    pub(super) fn views(&self) -> impl Iterator<Item = (Namespace, &[Field])> {
        let is_plain = |view: &[Field]| match get(view, b"viewOn") {
            Some(Value::Plain(2, text)) => {
                text.get(4..).is_some_and(|on| !on.starts_with(BUCKETS.as_bytes()))
            }
            _ => false,
        };
        let plain = self.views.iter().filter(move |(_, view)| is_plain(view));
        plain.filter_map(|(name, view)| Some((namespace(name)?, &view[..])))
    }
}

fn created(name: &[u8], mut options: Vec<Field>) -> Defined {
    let indexes = match take(&mut options, b"idIndex") {
        Some(Value::Document(index)) => vec![index],
        _ => Vec::new(),
    };
    let is_temporary = take(&mut options, b"temp").is_some_and(|temp| is_true(&temp));
    options.retain(|(name, _)| !NOT_KEPT.contains(&&name[..]));
    let namespace = namespace(name);
    Defined { namespace, is_temporary, is_dropped: false, options, indexes, is_rebucketed: false }
}

impl Defined {
    fn command(&mut self, command: &[u8], rest: Vec<Field>, forgets_images: bool) {
        match command {
            b"drop" => self.is_dropped = true,
            b"createIndexes" => self.index(rest),
            b"commitIndexBuild" => {
                if let Some(Value::Array(indexes)) = get(&rest, b"indexes") {
                    for (_, index) in indexes {
                        if let Value::Document(index) = index {
                            self.index(index.clone());
                        }
                    }
                }
            }
            b"dropIndexes" | b"deleteIndexes" | b"dropIndex" | b"deleteIndex" => {
                let name = get(&rest, b"index");
                self.indexes.retain(|index| get(index, b"name") != name);
            }
            b"collMod" => self.modify(rest, forgets_images),
            _ => {}
        }
    }

    fn index(&mut self, new: Vec<Field>) {
        self.indexes.retain(|index| get(index, b"name") != get(&new, b"name"));
        self.indexes.push(new);
    }

    fn modify(&mut self, changes: Vec<Field>, forgets_images: bool) {
        if forgets_images {
            take(&mut self.options, b"recordPreImages");
        }
        for (name, value) in changes {
            let as_off = Value::Plain(2, b"\x04\0\0\0off\0".to_vec());
            match (&name[..], value) {
                (b"index", Value::Document(change)) => self.modify_index(&change),
                (b"timeseries", Value::Document(change)) => self.rebucket(&change),
                (b"expireAfterSeconds", value) if value == as_off => {
                    take(&mut self.options, b"expireAfterSeconds");
                }
                (b"cappedSize", value) => set_option(&mut self.options, b"size", value),
                (b"cappedMax", value) => {
                    let is_unlimited = number(&value).is_some_and(|max| max <= 0.0);
                    let most = Value::Plain(18, i64::from(i32::MAX).to_le_bytes().to_vec());
                    set_option(&mut self.options, b"max", if is_unlimited { most } else { value });
                }
                (b"recordPreImages", value) if !is_true(&value) => {
                    take(&mut self.options, b"recordPreImages");
                }
                (b"changeStreamPreAndPostImages", Value::Document(change))
                    if !get(&change, b"enabled").is_some_and(is_true) =>
                {
                    take(&mut self.options, b"changeStreamPreAndPostImages");
                }
                (marking, _) if MARKINGS.contains(&marking) => {}
                (option, value) => set_option(&mut self.options, option, value),
            }
        }
    }

    fn modify_index(&mut self, change: &[Field]) {
        let (name, key) = (get(change, b"name"), get(change, b"keyPattern"));
        let is_meant = |index: &&mut Vec<Field>| match name {
            Some(name) => get(index, b"name") == Some(name),
            None => is_same_key(key, get(index, b"key")),
        };
        let Some(index) = self.indexes.iter_mut().find(is_meant) else { return };
        for (option, value) in change {
            match &option[..] {
                b"name" | b"keyPattern" => {}
                b"hidden" | b"prepareUnique" if !is_true(value) => _ = take(index, option),
                b"forceNonUnique" => _ = take(index, b"unique"),
                other => {
                    if other == b"unique" {
                        take(index, b"prepareUnique");
                    }
                    take(index, other);
                    index.push((other.to_vec(), value.clone()));
                }
            }
        }
    }

    /// Sets the granularity; options that the server derives from it stay.
    fn rebucket(&mut self, change: &[Field]) {
        self.is_rebucketed = true;
        let Some(Value::Document(mut fields)) = take(&mut self.options, b"timeseries") else {
            return;
        };
        match get(change, b"granularity") {
            Some(granularity) => set_option(&mut fields, b"granularity", granularity.clone()),
            None => _ = take(&mut fields, b"granularity"),
        }
        self.options.push((b"timeseries".to_vec(), Value::Document(fields)));
    }

    /// Differences from a restored definition.
    pub(super) fn differences(&self, restored: &Collection) -> SourceResult<Vec<String>> {
        let mut found = Vec::new();
        let kept = |fields: &[Field]| {
            let mut kept = fields.to_vec();
            for (name, value) in &mut kept {
                if let (b"timeseries", true, Value::Document(fields)) =
                    (&name[..], self.is_rebucketed, value)
                {
                    fields.retain(|(name, _)| BUCKETING.contains(&&name[..]));
                    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
            }
            sorted(kept)
        };
        if kept(&self.options) != kept(&fields_of(&restored.options)?) {
            found.push("options".to_owned());
        }
        let ours = restored.indexes.iter().map(|index| fields_of(index).map(sorted));
        let mut ours = ours.collect::<SourceResult<Vec<_>>>()?;
        for index in self.indexes.iter().cloned().map(sorted) {
            match ours.iter().position(|other| *other == index) {
                Some(at) => _ = ours.swap_remove(at),
                None => found.push(format!("index {}", name_of(&index))),
            }
        }
        found.extend(ours.iter().map(|index| format!("index {}", name_of(index))));
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Returns `true` if a view was restored unchanged.
pub(super) fn is_same_view(view: &[Field], restored: &Collection) -> SourceResult<bool> {
    let mut view = view.to_vec();
    take(&mut view, b"_id");
    Ok(sorted(view) == sorted(fields_of(&restored.options)?))
}

fn namespace(name: &[u8]) -> Option<Namespace> {
    std::str::from_utf8(name).ok().and_then(Namespace::parse)
}

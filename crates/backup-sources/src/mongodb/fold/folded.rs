//! The second pass of a fold: the collections of the moment, and their documents.

use backup_core::source::SourceResult;
use bytes::Bytes;

use super::Spoiled;
use super::spill::{Settled, Spill};
use super::users::Users;
use crate::mongodb::catalog::{Collection, CollectionUuid};
use crate::mongodb::raw::{Fields, elements, id_of};

/// A collection that exists at the moment.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::mongodb) struct Live {
    pub(in crate::mongodb) number: u32,
    pub(in crate::mongodb) uuid: CollectionUuid,
    /// Under its name, with its options and indexes at the moment.
    pub(in crate::mongodb) collection: Collection,
    /// What `collMod` has to change when it is created like that: its validator.
    pub(in crate::mongodb) changes: Fields,
    /// Path of its dumped documents, if it was there when the dump was made.
    pub(in crate::mongodb) path: Option<String>,
    /// Documents may be in the dump twice.
    pub(super) repeated: bool,
    /// Buckets whose view is missing: the server allows it, if creating races with writing.
    pub(in crate::mongodb) orphan: bool,
    /// It was made for the time of an operation (`$out`, `$merge`, conversions) that is under way
    /// at the moment.
    pub(in crate::mongodb) temporary: bool,
}

impl Live {
    /// A collection without a history.
    #[cfg(test)]
    pub(in crate::mongodb) fn of(collection: Collection) -> Self {
        Self {
            number: 0,
            uuid: collection.uuid.unwrap_or_default(),
            collection,
            changes: Fields::default(),
            path: None,
            repeated: false,
            orphan: false,
            temporary: false,
        }
    }

    /// The collection with its changes made, as far as they can be known without a server.
    pub(in crate::mongodb) fn changed(&self) -> Collection {
        let mut collection = self.collection.clone();
        for change in self.changes.iter() {
            let option = String::from_utf8_lossy(change.name);
            match change.value.document() {
                Some(nothing) if elements(nothing).next().is_none() => {
                    _ = collection.options.remove(&option);
                }
                _ => collection.options.set(change.name, change.value),
            }
        }
        collection
    }
}

/// Second pass: the documents.
#[derive(Debug)]
pub(in crate::mongodb) struct Folded {
    pub(in crate::mongodb) live: Vec<Live>,
    pub(in crate::mongodb) views: Vec<Collection>,
    /// What is left out because of an operation that is not known.
    pub(in crate::mongodb) spoiled: Vec<Spoiled>,
    /// Transactions have begun that end later, or never.
    pub(in crate::mongodb) unfinished: bool,
    pub(super) spill: Spill,
    pub(super) users: Users,
}

impl Folded {
    /// The users or roles of the moment, known before the other documents: `dumped` are those of
    /// the dump.
    pub(in crate::mongodb) fn users(
        &self,
        live: &Live,
        dumped: Vec<Bytes>,
    ) -> SourceResult<Vec<Bytes>> {
        self.users.of(live.number, dumped)
    }

    /// A document of the dump. What no operation touches comes back at once; the rest with
    /// [`Self::settle`].
    pub(in crate::mongodb) fn base(
        &mut self,
        live: &Live,
        document: Bytes,
    ) -> SourceResult<Option<Bytes>> {
        match self.waits(live, &document)? {
            None => Ok(Some(document)),
            Some(id) => {
                self.spill.base(live.number, &id, &document)?;
                Ok(None)
            }
        }
    }

    /// Whether documents of a collection may have to wait for operations.
    pub(in crate::mongodb) fn is_touched(&self, live: &Live) -> bool {
        live.repeated || self.spill.is_touched(live.number)
    }

    /// The `_id` of a document of the dump that comes with [`Self::settle`] only.
    pub(in crate::mongodb) fn waits(
        &self,
        live: &Live,
        document: &[u8],
    ) -> SourceResult<Option<Vec<u8>>> {
        if !self.is_touched(live) {
            return Ok(None);
        }
        let id = id_of(document)?;
        // Order counts where the oldest documents go first: then all of them are put in order
        // together.
        let together = live.collection.is_capped() || live.repeated;
        Ok((together || self.spill.may_touch(live.number, &id)).then_some(id))
    }

    /// All documents of the dump are in: the documents that operations touch, a part at a time, in
    /// no order. Those of collections that are gone are left out. Documents of a capped collection
    /// carry their place; the caller sorts.
    pub(in crate::mongodb) fn settle(&mut self) -> SourceResult<Option<Vec<Settled>>> {
        self.spill.settle()
    }
}

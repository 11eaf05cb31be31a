//! The expected result of a restore, worked out a second time from the dump and its oplog: `--verify`
//! compares it with the result of the fold.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`Expected`]: reads everything, and compares |
//! | `log.rs` | entries of the oplog as operations; which transactions took effect |
//! | `definitions.rs` | collections, indexes, options and views |
//! | `fields.rs` | fields of definitions |
//! | `documents.rs` | sums over documents, brought to the moment in parts on disk |
//! | `change.rs` | the effect of an update on a document |
//! | `tree.rs` | documents as trees |
//!
//! A check repeats the mistakes of code that it shares. Both readings share the repository's reader,
//! the choice of log pieces, the cut of a file into documents, the catalog of the dump, and name
//! patterns. They share neither the parser nor the rules for transactions, updates and definitions.
//! The dump of the restored collections and the oplog are read once more.
//!
//! The order of capped collections is not compared, nor are the bucket spans that the server derives
//! from a changed granularity.

mod change;
mod definitions;
mod documents;
mod fields;
mod log;
mod tree;

use std::collections::{HashMap, HashSet};

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::catalog::CollectionUuid;
use super::digest::Sum;
use super::dump::Dump;
use super::fold::{Folded, Live};
use super::namespace::{Filter, Namespace};
use super::position::Position;
use definitions::{Definitions, is_same_view};
use documents::{Documents, Wanted};
use log::{Event, Log};

/// The error of a second reading.
fn failed(what: &str) -> SourceError {
    let text = format!("--verify cannot read the snapshot a second time: the oplog holds {what}");
    SourceError::new(SourceErrorKind::Mismatch, text)
}

/// The expected state at a moment.
#[derive(Debug)]
pub(super) struct Expected {
    sums: HashMap<CollectionUuid, Sum>,
    definitions: Definitions,
}

/// A second reading on its way: the oplog first, then the documents of the dump.
#[derive(Debug)]
struct Second {
    log: Log,
    definitions: Definitions,
    documents: Documents,
}

impl Second {
    /// Takes the next entry of the oplog.
    fn entry(&mut self, entry: &[u8]) -> SourceResult<()> {
        let Self { log, definitions, documents } = self;
        log.take(entry, &mut |event| match event {
            Event::Operation(transaction, operation) => {
                documents.operation(transaction, operation)?;
                definitions.operation(transaction, operation)
            }
            Event::Commit(transaction) => {
                definitions.commit(transaction);
                Ok(())
            }
        })
    }

    fn finish(self, cx: &Context) -> SourceResult<Expected> {
        let sums = self.documents.finish(cx, &self.log)?;
        Ok(Expected { sums, definitions: self.definitions })
    }
}

impl Expected {
    /// Reads the dump and its oplog up to `until`, with the documents of `collections`.
    pub(super) async fn read(
        cx: &Context,
        dump: &Dump,
        until: Option<Position>,
        collections: impl Iterator<Item = &Live>,
    ) -> SourceResult<Self> {
        let repeated: HashSet<CollectionUuid> = dump
            .state
            .collections
            .iter()
            .filter(|saved| saved.repeated)
            .filter_map(|saved| saved.collection.uuid)
            .collect();
        let drops_silently = dump.state.version[0] < 5;
        let collections: Vec<&Live> = collections.collect();
        let of: HashSet<CollectionUuid> = collections.iter().map(|live| live.uuid).collect();
        let wanted = collections.into_iter().map(|live| {
            let limits = (live.collection.is_capped() && drops_silently)
                .then(|| live.collection.capped_limits());
            (live.uuid, Wanted { is_repeated: repeated.contains(&live.uuid), limits })
        });
        let mut second = Second {
            log: Log::new(dump.read_at(), until),
            definitions: Definitions::of(&dump.state)?,
            documents: Documents::new(wanted, dump.entry_bytes()),
        };
        let mut entries = dump.entries(cx, Some(&of))?;
        while let Some(entry) = entries.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            second.entry(&entry)?;
        }
        for saved in &dump.state.collections {
            let Some(uuid) = saved.collection.uuid.filter(|uuid| of.contains(uuid)) else {
                continue;
            };
            let Some(path) = &saved.path else { continue };
            let mut reading = dump.documents_at(path)?;
            while let Some(document) = reading.next().await? {
                cx.check_cancelled().map_err(SourceError::from)?;
                second.documents.dumped(&uuid, &document)?;
            }
        }
        second.finish(cx)
    }

    /// The documents of a collection.
    pub(super) fn sum(&self, uuid: &CollectionUuid) -> Sum {
        self.sums.get(uuid).copied().unwrap_or_default()
    }

    /// Differences from the fold, within all of `filters`; objects that the fold has left out are no
    /// difference.
    pub(super) fn differences(
        &self,
        filters: [&Filter; 2],
        folded: &Folded,
    ) -> SourceResult<Vec<String>> {
        let Folded { live, views, spoiled, .. } = folded;
        let mut found = Vec::new();
        let folded: HashMap<_, _> = live.iter().map(|live| (live.uuid, live)).collect();
        let is_meant = |namespace: &Namespace| {
            !namespace.is_internal()
                && filters.iter().all(|filter| filter.covers(namespace))
                && spoiled.iter().all(|spoiled| spoiled.namespace != *namespace)
        };
        for (uuid, defined) in &self.definitions.collections {
            let namespace = defined.namespace.as_ref().filter(|namespace| is_meant(namespace));
            match (namespace.filter(|_| !defined.is_dropped), folded.get(uuid)) {
                (Some(namespace), None) => found.push(format!("{namespace} was left out")),
                (Some(namespace), Some(folded)) => {
                    let name = &folded.collection.namespace;
                    if name != namespace {
                        found.push(format!("{name} must be called {namespace}"));
                    }
                    let differences = defined.differences(&folded.changed())?;
                    found.extend(differences.iter().map(|what| format!("{namespace}: {what}")));
                    if namespace.is_buckets()
                        && folded.orphan == self.definitions.has_view(&namespace.visible())
                    {
                        found.push(format!("{namespace}: whether it has a view"));
                    }
                    if folded.temporary != defined.is_temporary {
                        found.push(format!("{namespace}: whether it was temporary"));
                    }
                }
                (None, _) => {}
            }
        }
        for Live { uuid, collection, .. } in live {
            let namespace = &collection.namespace;
            let defined = self.definitions.collections.get(uuid);
            if is_meant(namespace) && defined.is_none_or(|defined| defined.is_dropped) {
                found.push(format!("{namespace} was dropped before the moment"));
            }
        }
        let expected: HashMap<_, _> =
            self.definitions.views().filter(|(name, _)| is_meant(name)).collect();
        for view in views.iter().filter(|view| is_meant(&view.namespace)) {
            match expected.get(&view.namespace) {
                Some(fields) if is_same_view(fields, view)? => {}
                Some(_) => found.push(format!("{}: its definition", view.namespace)),
                None => found.push(format!("{} was dropped before the moment", view.namespace)),
            }
        }
        let folded: HashSet<_> = views.iter().map(|view| &view.namespace).collect();
        let missing = expected.keys().filter(|name| !folded.contains(name));
        found.extend(missing.map(|name| format!("{name} was left out")));
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

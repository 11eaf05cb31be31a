//! What a restore must have written, found a second time from the dump and its oplog: `--verify`
//! compares it with what the fold has made.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Expected`]: reads everything, and compares |
//! | `log.rs` | entries of the oplog as operations; which transactions took effect |
//! | `definitions.rs` | collections, indexes, options and views |
//! | `documents.rs` | sums over documents, brought to the moment in parts on disk |
//! | `change.rs` | what an update makes of a document |
//! | `tree.rs` | documents as trees |
//!
//! A check that shares code with what it checks repeats its mistakes: nothing here uses `fold/` or
//! the parser of `raw/`. Common to both are the repository's reader, the cut of a file into
//! documents, the catalog of the dump, and the name patterns of the selection. It reads the dump
//! and all of the oplog once more.

mod change;
mod definitions;
mod documents;
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

/// What is in the snapshot cannot be read a second time.
fn failed(what: &str) -> SourceError {
    let text = format!("--verify cannot read the snapshot a second time: the oplog holds {what}");
    SourceError::new(SourceErrorKind::Mismatch, text)
}

/// Everything as it must be at a moment.
#[derive(Debug)]
pub(super) struct Expected {
    sums: HashMap<CollectionUuid, Sum>,
    definitions: Definitions,
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
        let wanted = collections.map(|live| {
            let limits = (live.collection.is_capped() && drops_silently)
                .then(|| live.collection.capped_limits());
            (live.uuid, Wanted { is_repeated: repeated.contains(&live.uuid), limits })
        });
        let mut documents = Documents::new(wanted, dump.entry_bytes());
        let mut definitions = Definitions::of(&dump.state)?;
        let mut log = Log::new(dump.read_at(), until);
        let mut entries = dump.entries(cx, None)?;
        while let Some(entry) = entries.next().await? {
            cx.check_cancelled().map_err(SourceError::from)?;
            log.take(&entry, &mut |event| {
                match event {
                    Event::Operation(transaction, operation) => {
                        documents.operation(transaction, operation)?;
                        definitions.operation(transaction, operation)?;
                    }
                    Event::Commit(transaction) => definitions.commit(transaction),
                }
                Ok(())
            })?;
        }
        for saved in &dump.state.collections {
            let Some(uuid) = saved.collection.uuid.filter(|uuid| documents.wants(uuid)) else {
                continue;
            };
            let Some(path) = &saved.path else { continue };
            let mut reading = dump.documents_at(path)?;
            while let Some(document) = reading.next().await? {
                cx.check_cancelled().map_err(SourceError::from)?;
                documents.dumped(&uuid, &document)?;
            }
        }
        let sums = documents.finish(cx, &log)?;
        Ok(Self { sums, definitions })
    }

    /// The documents of a collection.
    pub(super) fn sum(&self, uuid: &CollectionUuid) -> Sum {
        self.sums.get(uuid).copied().unwrap_or_default()
    }

    /// What is not as the fold has found it, as far as all of `filters` cover it; but for what the
    /// fold says it has left out.
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

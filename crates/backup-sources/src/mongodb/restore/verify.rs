//! Reading back what was restored: documents, options, indexes, validators and views.
//!
//! Options and indexes are compared as the server lists them. Other versions have other words for
//! some options and lack others: there, the kind of collections and the keys of indexes are compared.
//! If operations of the oplog were applied, the result is also compared with a second reading of the
//! snapshot by other code.
//! Of merged collections, the documents and the presence of indexes are compared. Users and roles are
//! compared where they are restored.

use std::collections::HashSet;
use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::Loaded;
use super::definitions::{Comparison, differences};
use super::indexes::{Terms, is_made_by_the_server};
use super::target::FAR_AWAY;
use crate::mongodb::catalog::{self, Collection};
use crate::mongodb::digest::{self, Sum};
use crate::mongodb::expected::Expected;
use crate::mongodb::fold::Live;
use crate::mongodb::import::drop_unrecorded;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::scan::Scan;
use crate::mongodb::server::Server;

/// A restored collection, and its definition in the snapshot.
pub(super) struct Restored {
    /// Under its name at the target.
    pub(super) collection: Collection,
    pub(super) live: Live,
    pub(super) loaded: Loaded,
}

/// Compares a target with the restored data.
pub(super) struct Verifier<'a> {
    scan: Arc<Scan>,
    server: &'a Server,
    options: &'a MongoOptions,
    /// The target is of the version of the source.
    is_same_version: bool,
    collections: usize,
    indexes: usize,
    /// Collections that were merged into.
    merged: usize,
    /// The second reading of the snapshot; `None` without an oplog to apply.
    expected: Option<Expected>,
    /// The target's server has applied operations to the loaded documents.
    replays: bool,
    /// By collection, for people.
    differences: Vec<String>,
}

/// Differences that an error lists.
const LISTED: usize = 20;

impl<'a> Verifier<'a> {
    pub(super) fn new(
        scan: Arc<Scan>,
        server: &'a Server,
        options: &'a MongoOptions,
        version: [i32; 3],
    ) -> Self {
        let is_same_version = server.version[..2] == version[..2];
        Self {
            scan,
            server,
            options,
            is_same_version,
            collections: 0,
            indexes: 0,
            merged: 0,
            expected: None,
            replays: false,
            differences: Vec::new(),
        }
    }

    /// Notes differences that were found elsewhere.
    pub(super) fn found(&mut self, differences: Vec<String>) {
        self.differences.extend(differences);
    }

    /// Compares the loaded documents with a second reading of the snapshot.
    pub(super) fn expect(&mut self, expected: Expected, written: &[(Live, Sum)], replays: bool) {
        self.replays = replays;
        for (live, sum) in written {
            let second = expected.sum(&live.uuid);
            if self.is_replayed(live) || second == *sum {
                continue;
            }
            let namespace = &live.collection.namespace;
            self.differences.push(format!(
                "{namespace}: {} documents with {} bytes were restored; a second reading of the \
                 snapshot finds {} with {} bytes",
                sum.count, sum.bytes, second.count, second.bytes
            ));
        }
        self.expected = Some(expected);
    }

    /// Returns `true` if the server has applied the operations on a collection.
    fn is_replayed(&self, live: &Live) -> bool {
        self.replays
            && !live.collection.is_capped()
            && !live.collection.namespace.is_authorization()
    }

    /// Reads a collection back; returns the bytes of its documents, unless they were read already.
    pub(super) async fn collection(&mut self, restored: &Restored) -> SourceResult<u64> {
        let Restored { collection, live, loaded } = restored;
        let namespace = &collection.namespace;
        let Some(there) = self.find(namespace).await? else { return Ok(0) };
        let expected = self.expected(collection, live);
        if loaded.merged {
            self.merged += 1;
            // What was merged was read back batch by batch.
            self.has_indexes(&expected, &there);
            return Ok(0);
        }
        self.collections += 1;
        self.compare(&expected, &there, !live.changes.is_empty());
        self.indexes += there.indexes.len();
        let sum = digest::sum_of(&self.scan, &there).await?;
        let right = match &self.expected {
            Some(expected) if self.is_replayed(live) => expected.sum(&live.uuid),
            _ => loaded.sum,
        };
        // Capped collections drop what does not fit; the source may have held more than its limits
        // say for a moment.
        if sum != right {
            self.differences.push(format!(
                "{namespace}: {} documents with {} bytes, but {} with {} bytes were restored",
                sum.count, sum.bytes, right.count, right.bytes
            ));
        }
        Ok(sum.bytes)
    }

    pub(super) async fn view(&mut self, view: &Collection) -> SourceResult<()> {
        if let Some(there) = self.find(&view.namespace).await? {
            self.compare(view, &there, false);
        }
        Ok(())
    }

    /// Fails if anything differs, with all differences.
    pub(super) fn finish(&self) -> SourceResult<()> {
        let count = self.differences.len();
        if count == 0 {
            return Ok(());
        }
        let mut text = self.differences.iter().take(LISTED).cloned().collect::<Vec<_>>().join("; ");
        if count > LISTED {
            text.push_str(&format!("; and {} more", count - LISTED));
        }
        let text = format!("the target differs from the snapshot: {text}");
        Err(SourceError::new(SourceErrorKind::Mismatch, text))
    }

    /// A summary of the comparison, for people.
    pub(super) fn told(&self, views: usize) -> String {
        let (collections, indexes) = (self.collections, self.indexes);
        let merged = match self.merged {
            0 => String::new(),
            merged => {
                format!(
                    " Of {merged} merged collections, the documents were read back and the indexes \
                     exist."
                )
            }
        };
        let limit = if self.is_same_version {
            String::new()
        } else {
            format!(
                "; most options were not compared, because MongoDB {} is another version",
                self.server.version_text()
            )
        };
        format!(
            "Read back (collections {collections}, indexes {indexes}, views {views}): equal to the \
             snapshot{limit}.{merged}"
        )
    }

    async fn find(&mut self, namespace: &Namespace) -> SourceResult<Option<Collection>> {
        let found = catalog::find(self.server, namespace).await?;
        if found.is_none() {
            self.differences.push(format!("{namespace} is missing"));
        }
        Ok(found)
    }

    /// A collection that was merged into may have others as well, and keeps its options. The server
    /// refuses one of a name with another key.
    fn has_indexes(&mut self, expected: &Collection, there: &Collection) {
        let names: HashSet<&str> =
            there.indexes.iter().filter_map(|index| index.text("name")).collect();
        let wanted = expected.indexes.iter().filter(|index| !is_made_by_the_server(index));
        for name in wanted.filter_map(|index| index.text("name")) {
            if !names.contains(name) {
                self.differences.push(format!("{}: index {name} is missing", there.namespace));
            }
        }
    }

    /// With what was asked to be different.
    fn expected(&self, collection: &Collection, live: &Live) -> Collection {
        let mut expected = Collection { namespace: collection.namespace.clone(), ..live.changed() };
        if self.options.defer_ttl && expected.options.has("expireAfterSeconds") {
            expected.options.set("expireAfterSeconds", i64::from(FAR_AWAY));
        }
        let terms = Terms { defer_ttl: self.options.defer_ttl, version: self.server.version };
        expected.indexes.iter_mut().for_each(|index| terms.set_ttl(index));
        expected
    }

    fn compare(&mut self, expected: &Collection, there: &Collection, validator_was_set: bool) {
        let how = Comparison { is_same_version: self.is_same_version, validator_was_set };
        let mut there = there.clone();
        drop_unrecorded(expected, &mut there);
        let found = differences(expected, &there, how).into_iter();
        self.differences.extend(found.map(|found| format!("{}: {found}", expected.namespace)));
    }
}

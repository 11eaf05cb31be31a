//! Reading back what was restored: documents, options, indexes, validators and views.
//!
//! Options and indexes are compared as the server lists them. Other versions say the same in other
//! words, and some options are unknown to them: there, only what the collections and their indexes
//! are is compared. Of collections that were merged into, documents and the presence of indexes;
//! users and roles are compared where they are restored.

use std::collections::HashSet;
use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Bson, Document};

use super::Loaded;
use super::indexes::is_made_by_the_server;
use super::target::{FAR_AWAY, fields};
use crate::mongodb::catalog::{self, Collection};
use crate::mongodb::digest;
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::scan::Scan;
use crate::mongodb::server::Server;

/// A restored collection, and what it has to be.
pub(super) struct Restored {
    /// Under its name at the target.
    pub(super) collection: Collection,
    pub(super) live: Live,
    pub(super) loaded: Loaded,
}

/// Compares a target with what was restored to it.
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
}

/// What changes of a validator set; the server adds what they leave open.
const VALIDATION: [&str; 3] = ["validator", "validationLevel", "validationAction"];

impl<'a> Verifier<'a> {
    pub(super) fn new(
        scan: Arc<Scan>,
        server: &'a Server,
        options: &'a MongoOptions,
        version: [i32; 3],
    ) -> Self {
        let is_same_version = server.version[..2] == version[..2];
        Self { scan, server, options, is_same_version, collections: 0, indexes: 0, merged: 0 }
    }

    /// Reads a collection back; returns the bytes of its documents, unless they were read already.
    pub(super) async fn collection(&mut self, restored: &Restored) -> SourceResult<u64> {
        let Restored { collection, live, loaded } = restored;
        let there = self.find(&collection.namespace).await?;
        if loaded.merged {
            self.merged += 1;
            // What was merged was read back batch by batch.
            return self.has_indexes(&self.expected(collection, live), &there).map(|()| 0);
        }
        self.collections += 1;
        self.compare(&self.expected(collection, live), &there, !live.changes.is_empty())?;
        self.indexes += there.indexes.len();
        let sum = digest::sum_of(&self.scan, &there).await?;
        if sum == loaded.sum {
            return Ok(sum.bytes);
        }
        // Capped collections drop what does not fit; the source may have held more than its limits
        // say for a moment.
        let text = format!(
            "{}: the target has {} documents with {} bytes, but {} with {} bytes were restored",
            collection.namespace, sum.count, sum.bytes, loaded.sum.count, loaded.sum.bytes
        );
        Err(SourceError::new(SourceErrorKind::Mismatch, text).with_hint(
            "check for other writers at the target, and for TTL indexes that delete old documents",
        ))
    }

    pub(super) async fn view(&self, view: &Collection) -> SourceResult<()> {
        let there = self.find(&view.namespace).await?;
        self.compare(view, &there, false)
    }

    /// What was compared, for people.
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

    async fn find(&self, namespace: &Namespace) -> SourceResult<Collection> {
        catalog::find(self.server, namespace).await?.ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Mismatch,
                format!("{namespace} is missing at the target after the restore"),
            )
        })
    }

    /// A collection that was merged into may have others as well, and keeps its options. The server
    /// refuses one of a name with another key.
    fn has_indexes(&self, expected: &Collection, there: &Collection) -> SourceResult<()> {
        let name = |index: &Document| index.get_str("name").unwrap_or_default().to_owned();
        let names: HashSet<String> = there.indexes.iter().map(name).collect();
        let mut wanted =
            expected.indexes.iter().filter(|index| !is_made_by_the_server(index)).map(name);
        let Some(name) = wanted.find(|name| !names.contains(name)) else { return Ok(()) };
        let text = format!(
            "{}: its index {name} is missing at the target after the restore",
            there.namespace
        );
        Err(SourceError::new(SourceErrorKind::Mismatch, text)
            .with_hint("check for other writers at the target"))
    }

    /// With what was asked to be different.
    fn expected(&self, collection: &Collection, live: &Live) -> Collection {
        let mut expected = Collection { namespace: collection.namespace.clone(), ..live.changed() };
        if self.options.defer_ttl {
            if expected.options.contains_key("expireAfterSeconds") {
                expected.options.insert("expireAfterSeconds", i64::from(FAR_AWAY));
            }
            for index in
                expected.indexes.iter_mut().filter(|index| index.contains_key("expireAfterSeconds"))
            {
                index.insert("expireAfterSeconds", FAR_AWAY);
            }
        }
        expected
    }

    fn compare(
        &self,
        expected: &Collection,
        there: &Collection,
        was_changed: bool,
    ) -> SourceResult<()> {
        let part = |collection: &Collection| {
            let mut collection = collection.clone();
            let validator =
                collection.options.get_document("validator").cloned().unwrap_or_default();
            if was_changed {
                VALIDATION.iter().for_each(|option| _ = collection.options.remove(option));
            }
            if !self.is_same_version {
                collection.options =
                    fields(&collection.options, |option| matches!(option, "capped" | "viewOn"));
                let essence = |index| fields(index, |field| matches!(field, "name" | "key"));
                collection.indexes = collection.indexes.iter().map(essence).collect();
            }
            // The one that is the collection itself stands among its options, and not in the oplog.
            collection.indexes.retain(|index| !index.get_bool("clustered").unwrap_or(false));
            collection.options = plain(&collection.options);
            collection.indexes = collection.indexes.iter().map(plain).collect();
            (collection, validator)
        };
        let ((expected, validator), (there, validator_there)) = (part(expected), part(there));
        let what = if expected.kind != there.kind {
            "its kind"
        } else if validator != validator_there {
            "its validator"
        } else if digest::describe(&Collection { indexes: Vec::new(), ..expected.clone() })
            != digest::describe(&Collection { indexes: Vec::new(), ..there.clone() })
        {
            "its options"
        } else if digest::describe(&expected) != digest::describe(&there) {
            "its indexes"
        } else {
            return Ok(());
        };
        let namespace = &expected.namespace;
        let text = format!("{namespace} at the target differs from the snapshot in {what}");
        Err(SourceError::new(SourceErrorKind::Mismatch, text)
            .with_hint("check for other writers at the target"))
    }
}

/// Numbers by their value: what changes an option may say it as another kind of number than what
/// creates it.
fn plain(fields: &Document) -> Document {
    let number = |value: &Bson| match value {
        Bson::Int32(number) => f64::from(*number).into(),
        Bson::Int64(_) => catalog::number(Some(value)).into(),
        other => other.clone(),
    };
    fields.iter().map(|(field, value)| (field.clone(), number(value))).collect()
}

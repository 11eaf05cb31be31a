//! What prunes note for later ones: objects `x-prune/NAME`.
//!
//! Packs that no index object lists, the remains of somebody who was killed, are deleted when their
//! record is old enough. Somebody who was out of touch may list such a pack after that. Whoever
//! begins now must not rely upon it: it may be deleted at any moment.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::index::Mark;
use super::{IndexedRepository, Repository, layout};
use crate::error::{Error, Result};
use crate::format::open_json;
use crate::id::PackId;
use crate::sink::{ObjectMeta, SinkErrorKind, SinkOps};

/// Who was at work when packs were marked, or were found in no index object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PruneRecord {
    pub(crate) written: Timestamp,
    /// The marks that it covers, by their times.
    pub(crate) marks: BTreeSet<Option<Timestamp>>,
    /// Packs that no index listed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) orphans: BTreeSet<PackId>,
    pub(crate) sessions: BTreeSet<String>,
    /// Other tools, by host and process.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) locks: BTreeSet<String>,
}

/// All records that are there, each as far as it can be read.
///
/// # Errors
/// Those of the sink.
pub(crate) async fn read_all(
    repository: &Repository,
) -> Result<Vec<(ObjectMeta, Result<PruneRecord>)>> {
    let listed = repository.sink().list_all(&layout::prune_records()).await?;
    let read = |meta: ObjectMeta| async move {
        match repository.sink().get_bytes(&meta.key).await {
            Ok(sealed) => Ok(Some((meta, open_json(repository.key(), &sealed)))),
            // A prune that ends now drops it.
            Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    };
    let found: Vec<Option<_>> =
        futures::stream::iter(listed).map(read).buffered(8).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

impl IndexedRepository {
    /// Marks packs that are to be deleted, though an index object lists them. For writers, whose
    /// session began before the index was loaded, and before they ask what is in the store.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) async fn distrust_noted_packs(&self) -> Result<()> {
        for (_, record) in read_all(&self.repository).await? {
            // No prune acts upon one that is damaged.
            let Ok(record) = record else { continue };
            let noted: Vec<PackId> = record.orphans.into_iter().collect();
            self.index.mark_packs(&noted, Mark { time: Some(record.written) });
        }
        Ok(())
    }
}

//! Records of prunes for later prunes: objects `x-prune/NAME`.
//!
//! A prune deletes packs without an index entry (of killed writers) when their record is old enough.
//! A writer that wakes up after hours may list such a pack after that. New writers do not rely on
//! the pack: it may be deleted at any moment.

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

/// Active sessions at the time when packs were marked, or found without an index entry.
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

/// All records; a damaged one is an error in its place.
///
/// # Errors
/// Errors of the sink.
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
    /// Marks packs that a record names for deletion, even if an index object lists them. A writer
    /// calls this after its session began and its index was loaded, and before it lists the packs.
    ///
    /// # Errors
    /// Errors of the sink.
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

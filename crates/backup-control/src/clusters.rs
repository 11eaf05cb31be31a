//! Another cluster of PostgreSQL under the address of a job: its data and its log would get among
//! those of the right one, and policies would remove these.

use std::fmt;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::Result;
use backup_core::repository::{Repository, SnapshotInfo};
use backup_core::source::Source;

use crate::sources::SourceSpec;

/// Kinds of sources whose paths begin with the identifier of a cluster.
const KINDS: [&str; 2] = ["postgres", "postgres-logical"];

/// A source that is another cluster than the one that the snapshots of its job belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCluster {
    job: String,
    /// System identifiers.
    known: String,
    found: String,
}

impl OtherCluster {
    /// The hint of the error.
    pub const REMEDY: &str = "use a separate job for the new cluster; if it replaces the other \
                              one, set its `system_id` in the configuration";
}

impl fmt::Display for OtherCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, known, found } = self;
        write!(
            f,
            "the snapshots of job {job} belong to cluster {known}, but the source is cluster \
             {found}"
        )
    }
}

/// Returns `true` for a cluster without `system_id` in the configuration: another one may take its
/// place unnoticed.
#[must_use]
pub fn may_be_another(spec: &SourceSpec, source: &dyn Source) -> bool {
    KINDS.contains(&source.kind()) && !spec.names_cluster()
}

/// Compares the cluster behind the address of a job with the newest snapshot of a cluster that the
/// job has. `None` if they are the same, or there is nothing to compare. For `age` see
/// [`Repository::recent_snapshots`].
///
/// # Errors
/// Errors of reading the snapshots.
pub async fn other_than_known(
    repository: &Repository,
    job: &str,
    spec: &SourceSpec,
    source: &dyn Source,
    age: Duration,
    cx: &Context,
) -> Result<Option<OtherCluster>> {
    if !may_be_another(spec, source) {
        return Ok(None);
    }
    let snapshots = repository.recent_snapshots(age, cx).await?.snapshots;
    let is_of_job = |info: &&SnapshotInfo| {
        info.snapshot.tag("job") == Some(job)
            && info.snapshot.tag("source").is_some_and(|kind| KINDS.contains(&kind))
    };
    let newest = snapshots.iter().rev().find(is_of_job);
    let known = newest.and_then(|info| info.snapshot.paths.first()?.split('/').nth(2));
    let found = source.identity().id;
    Ok(known.filter(|known| *known != found).map(|known| OtherCluster {
        job: job.to_owned(),
        known: known.to_owned(),
        found: found.clone(),
    }))
}

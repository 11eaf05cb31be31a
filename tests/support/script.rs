//! Scripted sources: what they hold, and what of them was restored.

use backup_core::context::Context;
use backup_core::error::Result;
use backup_core::id::SnapshotId;
use backup_core::pipeline::restore;
use backup_core::source::{Digest, RestoreRequest, Selection, Source};
use backup_core::testing::ScriptedSource;

use super::repo::Repo;

/// What a source holds.
pub(crate) async fn digest(source: &ScriptedSource) -> Digest {
    source.digest(&Context::silent(), &Selection::all()).await.unwrap()
}

/// Restores a snapshot into memory.
pub(crate) async fn restore_script(repo: &Repo, id: SnapshotId) -> Result<ScriptedSource> {
    let target = ScriptedSource::new();
    let request = RestoreRequest::default();
    restore(&repo.try_reader(id).await?, &target, &request, &Context::silent()).await?;
    Ok(target)
}

/// Fails unless a snapshot holds exactly what `source` does.
#[track_caller]
pub(crate) fn assert_holds(
    repo: &Repo,
    id: SnapshotId,
    source: &ScriptedSource,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let restored = restore_script(repo, id)
            .await
            .unwrap_or_else(|error| panic!("{caller}: {}", error.chain()));
        assert_eq!(restored.restored_digest(&Selection::all()), digest(source).await, "{caller}");
    }
}

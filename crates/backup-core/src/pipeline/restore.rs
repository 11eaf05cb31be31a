//! From a snapshot to a target.

use crate::context::Context;
use crate::error::Result;
use crate::repository::SnapshotReader;
use crate::source::{RestoreReport, RestoreRequest, Source};

/// Writes a snapshot, or the selected part of it, to the target that `target` stands for.
///
/// # Errors
/// Those of the source's [`restore`](Source::restore).
pub async fn restore(
    snapshot: &SnapshotReader,
    target: &dyn Source,
    request: &RestoreRequest,
    cx: &Context,
) -> Result<RestoreReport> {
    cx.check_cancelled()?;
    Ok(target.restore(cx, request, snapshot).await?)
}

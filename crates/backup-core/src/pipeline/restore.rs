//! From a snapshot to a target.

use crate::context::Context;
use crate::error::Result;
use crate::repository::SnapshotReader;
use crate::repository::session::Session;
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
    let reading = if request.dry_run {
        None
    } else {
        Session::begin_reading(snapshot.repository(), "restore", cx).await
    };
    let report = target.restore(cx, request, snapshot).await;
    if let Some(reading) = reading {
        reading.end().await;
    }
    Ok(report?)
}

//! From a snapshot to a target.

use crate::context::Context;
use crate::error::Result;
use crate::event::WarningKind;
use crate::repository::SnapshotReader;
use crate::repository::session::Session;
use crate::source::{RestoreReport, RestoreRequest, Source};

/// Writes a snapshot, or the selected part of it, to the target that `target` stands for. Each
/// include pattern that matches nothing in the snapshot is a warning.
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
    let request = RestoreRequest { selection: request.selection.fresh(), ..request.clone() };
    let report = target.restore(cx, &request, snapshot).await;
    if let Some(reading) = reading {
        reading.end().await;
    }
    let mut report = report?;
    if report.entries > 0 {
        for pattern in request.selection.unmatched() {
            report.warnings += 1;
            let message = format!("the pattern {pattern:?} matches nothing in the snapshot");
            cx.events.warn(WarningKind::Other, "", message);
        }
    }
    Ok(report)
}

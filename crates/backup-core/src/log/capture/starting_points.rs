//! The positions from which a capture may continue.

use super::CaptureOptions;
use crate::context::Context;
use crate::error::Result;
use crate::log::gather::LogView;
use crate::log::lane::Lane;
use crate::log::outbox::Outbox;
use crate::log::position::Mark;

/// Opens the outbox, and finds where the log may be followed from, the best first. `stored` is the
/// end of the last slice.
pub(super) async fn open(
    lane: &Lane,
    options: &CaptureOptions,
    stored: Option<Mark>,
    cx: &Context,
) -> Result<(Outbox, Vec<Option<Mark>>)> {
    let outbox = Outbox::open(lane, options.memory, options.spool.as_ref()).await?;
    let starts = starting_points(lane, &outbox, stored, cx).await?;
    Ok((outbox, starts))
}

/// Where the log may be followed from, the best first.
async fn starting_points(
    lane: &Lane,
    outbox: &Outbox,
    stored: Option<Mark>,
    cx: &Context,
) -> Result<Vec<Option<Mark>>> {
    let view = LogView::of_snapshots(lane, cx).await?;
    // What this process has taken comes first; if others have got farther on the same branch, that.
    let (waiting, rolled) = (outbox.end(), view.end());
    let mut points: Vec<Mark> = Vec::new();
    for point in [waiting, stored, rolled].into_iter().flatten() {
        match points.iter_mut().find(|known| known.at.branch == point.at.branch) {
            Some(known) if known.at.offset < point.at.offset => *known = point,
            Some(_) => {}
            None => points.push(point),
        }
    }
    // What a new backup needs, if what comes between is lost.
    points.extend(
        view.newest_start().filter(|needed| points.iter().all(|point| adds(needed, point))),
    );
    Ok(points.into_iter().map(Some).chain([None]).collect())
}

/// Whether the log can be followed from where a backup needs it, besides from here.
fn adds(needed: &Mark, point: &Mark) -> bool {
    // What lies between them was captured of what the source lost: where positions are times, it
    // would be there twice, with different content.
    let is_lost = needed.state.is_some()
        && needed.at.branch == point.at.branch
        && needed.at.offset < point.at.offset;
    needed.at != point.at && !is_lost
}

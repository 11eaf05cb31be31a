//! What a snapshot says of the pieces of a log that it holds.

use jiff::Timestamp;

use crate::format::LogExtent;
use crate::log::Tick;
use crate::log::detail::Detail;
use crate::log::slice::{Part, SliceHeader};

/// Pieces of the log that are being put together: as few as there are gaps and branches.
#[derive(Debug, Default)]
pub(super) struct Extents {
    pub(super) pieces: Vec<(LogExtent, Detail)>,
    captured: Option<Timestamp>,
}

impl Extents {
    pub(super) fn add(&mut self, slice: &SliceHeader, places: Vec<Part>) {
        self.captured = self.captured.max(Some(slice.captured));
        let goes_on = |extent: &LogExtent| {
            extent.branch == slice.branch
                && extent.from <= slice.from
                && slice.from <= extent.to
                && slice.parent.is_none()
        };
        if self.pieces.last().is_none_or(|(last, _)| !goes_on(last)) {
            let extent = LogExtent {
                branch: slice.branch.clone(),
                parent: slice.parent.clone(),
                from: slice.from,
                to: slice.from,
                first: None,
                last: None,
                bytes: 0,
                detail: String::new(),
                gap: slice.gap.clone(),
                state: None,
            };
            self.pieces.push((extent, Detail::new(&slice.branch)));
        }
        if let Some((extent, detail)) = self.pieces.last_mut() {
            if slice.to >= extent.to {
                extent.state.clone_from(&slice.state);
            }
            extent.to = extent.to.max(slice.to);
            let ticks: &[Tick] = &slice.ticks;
            extent.first = extent.first.or(ticks.first().copied());
            extent.last = ticks.last().copied().or(extent.last);
            extent.bytes += places.iter().map(|part| part.len).sum::<u64>();
            detail.add(slice, places);
        }
    }

    /// The moment up to which everything is there.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let times = self.pieces.iter().filter_map(|(extent, _)| extent.last.map(|last| last.time));
        times.max().or(self.captured)
    }
}

//! Recording up to which time the stored log is complete.

use super::Run;
use crate::error::Result;
use crate::log::position::Mark;
use crate::log::slice::Slice;
use crate::log::{Position, Watermark};
use crate::source::LogReader;

impl Run<'_> {
    /// Stores up to which time everything is there before something is missing: the lease holds
    /// only the newest watermark. It is put behind all that came, so that it is stored last.
    pub(super) async fn keep_watermark(&mut self, watermark: Option<Watermark>) -> Result<()> {
        let Some((end, watermark)) = self.end.clone().zip(watermark) else { return Ok(()) };
        let begins = Position::new(watermark.at.branch.clone(), watermark.stored_to());
        if self.gap.is_some() || self.is_incomplete || begins != end.at {
            return Ok(());
        }
        let now = self.cx.clock.now();
        self.put(Slice::complete(self.lane.stream(), end.state, &watermark, now), None).await
    }

    /// Stores why something is missing as soon as the reader vouches for a position behind it: at an
    /// idle source the next event, which would carry the reason, may be far away.
    pub(super) async fn record_gap(&mut self, reader: &mut dyn LogReader) -> Result<()> {
        let Some(watermark) = reader.vouched_for() else { return Ok(()) };
        let Some(reason) = self.gap.take() else { return Ok(()) };
        let at = Position::new(watermark.at.branch.clone(), watermark.stored_to());
        let end = Mark { at, state: reader.state() };
        let now = self.cx.clock.now();
        let slice = Slice::gap(self.lane.stream(), end.clone(), watermark.time, reason, now);
        self.end = Some(end);
        self.put(slice, Some(reader)).await
    }

    /// Records the watermark of the reader, or the last one, if the log is stored up to there.
    pub(super) fn note_watermark(&mut self, reader: Option<&dyn LogReader>) {
        if let Some(reader) = reader {
            self.vouched = reader.vouched_for();
        }
        let is_stored = self.filling.is_none() && self.outbox.is_empty() && !self.is_incomplete;
        if let Some(watermark) = self.vouched.as_ref().filter(|_| is_stored) {
            self.note.set(watermark);
        }
    }
}

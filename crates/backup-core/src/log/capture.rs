//! Capturing the log of a source.
//!
//! ```text
//!  LogReader ─segments─▶ slice (1 MiB or 1 s) ─seal─▶ outbox (memory or spool) ─▶ uploader ─▶ lane
//!      ▲                                                                             │
//!      └─────────────────────────── acknowledge ◀────────────────────────────────────┘
//! ```
//!
//! When everything that came is stored, the time up to which the source vouches for that goes into
//! the lease, which is renewed anyway.

mod options;
mod starting_points;
mod vouching;

pub use options::{Acknowledge, CaptureOptions, CaptureReport, DeadHolders};

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lane::Lane;
use super::outbox::{Outbox, Waiting};
use super::position::Mark;
use super::slice::{Filling, Slice};
use super::uploader::{Stored, Uploader};
use super::{Position, Stream, Watermark};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, LogEvent};
use crate::repository::{LeaseNote, Repository};
use crate::source::{LogReader, LogSegment, Source, SourceErrorKind};
use starting_points::open;

/// At the end, so long is waited for what was captured to be stored.
const LAST_UPLOADS: Duration = Duration::from_secs(10);
/// Interval of reading the watermark of the reader.
const VOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// Captures the log of `source` until the caller cancels, which is no error.
///
/// # Errors
/// [`ErrorKind::Busy`] if somebody else captures it; those of the source; those of the sink before
/// anything was captured. Later ones are tried again for ever, and told by events. Whenever it
/// ends, the next capture goes on where this one has stopped. A gap is no error: it is noted in the
/// repository, told, and the log followed from behind it.
pub async fn capture(
    repository: &Repository,
    source: &dyn Source,
    options: &CaptureOptions,
    cx: &Context,
) -> Result<CaptureReport> {
    repository.require_writable()?;
    match run(repository, source, options, cx, &AtomicBool::new(false)).await {
        Err(error) if error.is_cancelled() && cx.cancel.is_cancelled() => {
            Ok(CaptureReport::default())
        }
        other => other,
    }
}

/// Captures, and sets `has_begun` once this process holds the lease. Cancellation is an error.
pub(super) async fn run(
    repository: &Repository,
    source: &dyn Source,
    options: &CaptureOptions,
    cx: &Context,
    has_begun: &AtomicBool,
) -> Result<CaptureReport> {
    let stream = Stream::of(&source.identity());
    let lane = Lane::new(repository, &stream);
    if options.acknowledge == Acknowledge::Spooled && options.spool.is_none() {
        return Err(Error::new(ErrorKind::Invalid, "acknowledging spooled data requires a spool"));
    }
    let note = LeaseNote::default();
    let mut uploader = Uploader::new(lane.clone(), &stream, options, note.clone(), cx);
    // Before the spool is opened: the lease names the process that uses both.
    let stored_before = uploader.take_over().await?;
    has_begun.store(true, Ordering::Relaxed);
    let (outbox, starts) = match open(&lane, options, stored_before, cx).await {
        Ok(opened) => opened,
        Err(error) => {
            // The next one need not wait. The lease expires if it cannot be given back.
            _ = uploader.end().await;
            return Err(error);
        }
    };
    let (sender, stored) = watch::channel(Stored::default());
    let mut run = Run {
        lane: &lane,
        source,
        options,
        cx,
        outbox: &outbox,
        stored: stored.clone(),
        filling: None,
        end: None,
        note,
        vouched: None,
        is_incomplete: false,
        gap: None,
        gaps: 0,
    };
    let (result, is_whole) = tokio::select! {
        result = run.follow(starts) => (result, true),
        // A slice on its way to the outbox is lost.
        never = uploader.run(&outbox, &sender) => (never.map(|never| match never {}), false),
    };
    let result = match result {
        Err(error) if error.kind() == ErrorKind::Busy => Err(error),
        other => {
            tokio::select! {
                () = outbox.emptied() => {}
                _ = uploader.run(&outbox, &sender) => {}
                () = tokio::time::sleep(LAST_UPLOADS) => {}
            }
            if is_whole {
                run.note_watermark(None);
            }
            other
        }
    };
    let released = uploader.end().await;
    result.and(released)?;
    let stored = stored.borrow().clone();
    Ok(CaptureReport {
        slices: stored.slices,
        bytes: stored.bytes,
        position: stored.position,
        gaps: run.gaps,
    })
}

/// Why reading has ended.
enum End {
    Cancelled,
    Gap(String),
}

struct Run<'a> {
    lane: &'a Lane,
    source: &'a dyn Source,
    options: &'a CaptureOptions,
    cx: &'a Context,
    outbox: &'a Outbox,
    stored: watch::Receiver<Stored>,
    filling: Option<(Filling, Instant)>,
    /// Where the log ends that came so far.
    end: Option<Mark>,
    /// Stored with the lease: the watermark of the stored log.
    note: LeaseNote,
    /// The last watermark of the reader.
    vouched: Option<Watermark>,
    /// Something that came found no room at the end, and is not stored.
    is_incomplete: bool,
    /// Why something is missing before the next segment, until that is stored.
    gap: Option<String>,
    gaps: u64,
}

impl Run<'_> {
    /// Follows the log from the first point that the source still has.
    async fn follow(&mut self, starts: Vec<Option<Mark>>) -> Result<()> {
        let mut known: Vec<Position> =
            starts.iter().flatten().map(|mark| mark.at.clone()).collect();
        self.end = starts.first().cloned().flatten();
        let mut starts = starts.into_iter();
        while let Some(start) = starts.next() {
            let opened = match &start {
                Some(Mark { at, state: Some(state) }) => {
                    self.source.resume_log(self.cx, at, state).await
                }
                other => self.source.open_log(self.cx, other.as_ref().map(|mark| &mark.at)).await,
            };
            let start = start.map(|mark| mark.at);
            let mut reader = match opened {
                Ok(reader) => reader,
                Err(error) if error.kind() == SourceErrorKind::LogGap && start.is_some() => {
                    // That of the capturer before.
                    self.keep_watermark(self.note.read()).await?;
                    self.note_gap(error.to_string());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if start.is_none() {
                reader.begin_behind(&known);
            }
            self.cx.events.emit(&Event::Log(LogEvent::Following { from: start.clone() }));
            match self.read(reader, start, &mut known).await? {
                End::Cancelled => return Ok(()),
                End::Gap(reason) => {
                    // Until a position behind it is known it is the same one. It is told again: a
                    // backup that was begun since is of no use.
                    if self.gap.is_some() {
                        self.tell_gap(&reason);
                    }
                    let vouched = self.vouched.take();
                    self.keep_watermark(vouched).await?;
                    self.note_gap(reason);
                    starts = vec![None].into_iter();
                }
            }
        }
        Ok(())
    }

    fn note_gap(&mut self, reason: String) {
        if self.gap.is_none() {
            self.gaps += 1;
            self.tell_gap(&reason);
            self.gap = Some(reason);
        }
    }

    fn tell_gap(&self, reason: &str) {
        self.cx.events.emit(&Event::Log(LogEvent::Gap { reason: reason.to_owned() }));
    }

    async fn read(
        &mut self,
        mut reader: Box<dyn LogReader>,
        start: Option<Position>,
        known: &mut Vec<Position>,
    ) -> Result<End> {
        let mut last = start;
        let mut looking = tokio::time::interval(VOUCH_INTERVAL);
        loop {
            let due = self.filling.as_ref().map(|(_, since)| *since + self.options.flush_after);
            tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => {
                    self.vouched = reader.vouched_for();
                    self.flush(None).await?;
                    return Ok(End::Cancelled);
                }
                Ok(()) = self.stored.changed() => self.acknowledge_stored(&mut *reader).await?,
                () = sleep_until(due) => self.flush(Some(&mut *reader)).await?,
                _ = looking.tick() => {
                    self.record_gap(&mut *reader).await?;
                    self.note_watermark(Some(&*reader));
                }
                segment = reader.next() => match segment {
                    Ok(segment) => {
                        self.require_continuity(&segment, last.as_ref());
                        last = Some(Position::new(segment.branch.clone(), segment.to));
                        self.take(segment, &mut *reader).await?;
                    }
                    Err(error) if error.kind() == SourceErrorKind::Cancelled && self.cx.cancel.is_cancelled() => {
                        self.vouched = reader.vouched_for();
                        self.flush(None).await?;
                        return Ok(End::Cancelled);
                    }
                    Err(error) => {
                        self.vouched = reader.vouched_for();
                        self.flush(Some(&mut *reader)).await?;
                        return match error.kind() {
                            SourceErrorKind::LogGap => {
                                known.extend(last);
                                Ok(End::Gap(error.to_string()))
                            }
                            _ => Err(error.into()),
                        };
                    }
                },
            }
        }
    }

    /// What a source has left out is a gap, even if it does not say so.
    fn require_continuity(&mut self, segment: &LogSegment, last: Option<&Position>) {
        let Some(last) = last else { return };
        let goes_on = match &segment.parent {
            Some(parent) => {
                parent.branch == last.branch
                    && parent.offset <= last.offset
                    && segment.from <= parent.offset
            }
            None => segment.branch == last.branch && segment.from <= last.offset,
        };
        let goes_back =
            self.options.goes_back && (segment.parent.is_some() || segment.branch != last.branch);
        if !goes_on && !goes_back && self.gap.is_none() {
            self.note_gap(format!(
                "the source continued at {}@{} after {last}",
                segment.branch, segment.from
            ));
            let from = Some(Position::new(segment.branch.clone(), segment.from));
            self.cx.events.emit(&Event::Log(LogEvent::Following { from }));
        }
    }

    async fn take(&mut self, segment: LogSegment, reader: &mut dyn LogReader) -> Result<()> {
        let fits = self.gap.is_none()
            && self.filling.as_ref().is_some_and(|(filling, _)| filling.fits(&segment));
        if !fits {
            self.flush(Some(reader)).await?;
        }
        let at = Position::new(segment.branch.clone(), segment.to);
        self.end = Some(Mark { at, state: reader.state() });
        match &mut self.filling {
            Some((filling, _)) => filling.add(segment),
            None => {
                let (gap, now) = (self.gap.take(), self.cx.clock.now());
                self.filling =
                    Some((Filling::begin(self.lane.stream(), segment, gap, now), Instant::now()));
            }
        }
        if let Some((filling, _)) = &mut self.filling {
            filling.keep_state(reader.state());
        }
        if self
            .filling
            .as_ref()
            .is_some_and(|(filling, _)| filling.len() >= self.options.flush_bytes)
        {
            self.flush(Some(reader)).await?;
        }
        Ok(())
    }

    /// Closes the slice. While there is no room for it, `reader` goes on being told what is stored.
    async fn flush(&mut self, reader: Option<&mut dyn LogReader>) -> Result<()> {
        match self.filling.take() {
            Some((filling, _)) => {
                let put = self.put(filling.finish(), reader).await;
                self.is_incomplete |= put.is_err();
                put
            }
            None => Ok(()),
        }
    }

    async fn put(&mut self, slice: Slice, reader: Option<&mut dyn LogReader>) -> Result<()> {
        let key = self.lane.repository().key().clone();
        let sealing = move || {
            let pack = slice.seal(&key)?;
            Ok((Waiting::new(&slice, pack), slice.end()))
        };
        let (waiting, end) = self.lane.repository().cpu().run(sealing).await?;
        if !self.outbox.has_room(waiting.size()) {
            self.cx.events.emit(&Event::Log(LogEvent::Full { waiting_bytes: self.outbox.bytes() }));
        }
        let mut putting = std::pin::pin!(self.outbox.put(waiting));
        let Some(reader) = reader else {
            // At the end nobody waits for ever: what finds no room is read again from the source.
            let put = tokio::time::timeout(LAST_UPLOADS, putting).await;
            self.is_incomplete |= put.is_err();
            return put.unwrap_or(Ok(()));
        };
        loop {
            tokio::select! {
                put = &mut putting => {
                    put?;
                    break;
                }
                () = self.cx.cancel.cancelled() => {
                    self.is_incomplete = true;
                    return Ok(());
                }
                Ok(()) = self.stored.changed() => {
                    let position = self.stored.borrow_and_update().position.clone();
                    acknowledge(self.options.acknowledge, Acknowledge::Stored, position, reader).await?;
                }
            }
        }
        if self.outbox.is_durable() {
            acknowledge(self.options.acknowledge, Acknowledge::Spooled, Some(end), reader).await?;
        }
        Ok(())
    }

    async fn acknowledge_stored(&mut self, reader: &mut dyn LogReader) -> Result<()> {
        let position = self.stored.borrow_and_update().position.clone();
        acknowledge(self.options.acknowledge, Acknowledge::Stored, position, reader).await
    }
}

/// Acknowledges what has come so far, if that is how far it has to come.
async fn acknowledge(
    wanted: Acknowledge,
    reached: Acknowledge,
    position: Option<Position>,
    reader: &mut dyn LogReader,
) -> Result<()> {
    match position {
        Some(position) if wanted == reached => Ok(reader.acknowledge(&position).await?),
        _ => Ok(()),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

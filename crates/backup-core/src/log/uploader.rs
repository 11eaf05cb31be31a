//! Storing what was captured, slice after slice, by one capturer at a time.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

use super::gather::LogView;
use super::lane::Lane;
use super::outbox::{Outbox, Waiting};
use super::position::Mark;
use super::slice::{Slice, TakeOver};
use super::{CaptureOptions, Position, Stream};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, LogEvent};
use crate::repository::{KeptLease, Lease, LeaseNote, LeaseOptions};

/// Time before something is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Writes the slices of one stream, under a lease: its token is the epoch.
#[derive(Debug)]
pub(super) struct Uploader<'a> {
    lane: Lane,
    lease_name: String,
    options: &'a CaptureOptions,
    cx: &'a Context,
    /// Stored with the lease.
    note: LeaseNote,
    turn: Option<Turn>,
}

/// The right to write.
#[derive(Debug)]
struct Turn {
    lease: KeptLease,
    next: u64,
}

/// What was stored so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) position: Option<Position>,
    pub(super) slices: u64,
    pub(super) bytes: u64,
}

impl<'a> Uploader<'a> {
    pub(super) fn new(
        lane: Lane,
        stream: &Stream,
        options: &'a CaptureOptions,
        note: LeaseNote,
        cx: &'a Context,
    ) -> Self {
        Self { lane, lease_name: stream.capture_lease(), options, cx, note, turn: None }
    }

    /// Takes the lease, and notes where this goes on: at the end of the last slice, which is
    /// returned.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if somebody else captures this stream; those of the sink.
    pub(super) async fn take_over(&mut self) -> Result<Option<Mark>> {
        if let Some(turn) = self.turn.take() {
            // Lost as far as this process can tell, but nobody else needs to have it yet.
            _ = turn.lease.abandon().await;
        }
        let options = LeaseOptions {
            holder: self.options.holder.clone(),
            period: self.options.lease_period,
            dead: self.options.dead.report().await,
            note: self.note.clone(),
            ..LeaseOptions::default()
        };
        let lease = Lease::acquire(self.lane.repository(), &self.lease_name, &options, self.cx)
            .await?
            .keep();
        let taken = self.note_take_over(&lease).await;
        match taken {
            Ok(mark) => {
                self.turn = Some(Turn { lease, next: 1 });
                Ok(mark)
            }
            Err(error) => lease.release_after(Err(error)).await,
        }
    }

    async fn note_take_over(&self, lease: &KeptLease) -> Result<Option<Mark>> {
        let slices = self.lane.list().await?;
        let mut mark = None;
        // The last slice, and the note at the beginning of its epoch: what came late may end before
        // what was there then.
        let last = slices.last().map(|last| last.epoch);
        let note = slices.iter().find(|slice| Some(slice.epoch) == last && slice.sequence == 0);
        for slice in slices.last().into_iter().chain(note) {
            match self.lane.header(slice).await {
                Ok(Some(header)) => mark = later(mark, header.mark()),
                Ok(None) => {}
                // What it held is missing; the timeline will say so.
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let noted = match &mark {
            Some(mark) => Some(mark.clone()),
            // Nothing is stored yet. A successor continues from here even if this process is killed
            // before it stores anything, and a newer backup exists by then.
            None => {
                let view = LogView::of_snapshots(&self.lane, self.cx).await?;
                view.newest_start().filter(|_| view.end().is_none())
            }
        };
        let note = TakeOver {
            holder: self.options.holder.clone(),
            after: slices.last().map(|slice| (slice.epoch, slice.sequence)),
            position: noted.as_ref().map(|mark| mark.at.clone()),
            state: noted.and_then(|mark| mark.state),
        };
        let note = Slice::take_over(self.lane.stream(), note, self.cx.clock.now());
        let pack = note.seal(self.lane.repository().key())?;
        if self.lane.create(lease.token(), 0, pack.into()).await? {
            return Ok(mark);
        }
        Err(rival())
    }

    /// Stores what is in the outbox, and what comes, and tells how far that is. Never ends by
    /// itself.
    pub(super) async fn run(
        &mut self,
        outbox: &Outbox,
        stored: &watch::Sender<Stored>,
    ) -> Result<Infallible> {
        loop {
            let first = tokio::select! {
                first = outbox.first() => first,
                () = self.lost() => {
                    self.regain(outbox).await?;
                    continue;
                }
            };
            let size = self.store(&first, outbox).await?;
            outbox.remove_first().await?;
            stored.send_modify(|stored| {
                stored.position = Some(first.end.clone());
                stored.slices += 1;
                stored.bytes += size;
            });
            let time = first.last.map(|tick| tick.time);
            let event =
                LogEvent::Stored { position: first.end, time, waiting_bytes: outbox.bytes() };
            self.cx.events.emit(&Event::Log(event));
        }
    }

    /// Returns when the lease is lost.
    async fn lost(&self) {
        match &self.turn {
            Some(turn) => turn.lease.lost().cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Takes the lease again, also while there is nothing to store: it carries the watermark.
    async fn regain(&mut self, outbox: &Outbox) -> Result<()> {
        let mut delay = RETRY.0;
        loop {
            match self.take_over().await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Busy => return Err(error),
                Err(error) => self.wait(&error, outbox, &mut delay).await,
            }
        }
    }

    /// Reports a failure, and waits before the next attempt.
    async fn wait(&self, error: &Error, outbox: &Outbox, delay: &mut Duration) {
        let (message, waiting_bytes) = (error.chain(), outbox.bytes());
        self.cx.events.emit(&Event::Log(LogEvent::Delayed { message, waiting_bytes }));
        tokio::time::sleep(*delay).await;
        *delay = (*delay * 2).min(RETRY.1);
    }

    async fn store(&mut self, waiting: &Waiting, outbox: &Outbox) -> Result<u64> {
        let pack = waiting.pack().await?;
        let mut delay = RETRY.0;
        loop {
            let error = match self.try_store(&pack).await {
                Ok(()) => return Ok(pack.len() as u64),
                // Another one captures: two would only do the same twice.
                Err(error) if error.kind() == ErrorKind::Busy => return Err(error),
                Err(error) => error,
            };
            self.wait(&error, outbox, &mut delay).await;
        }
    }

    async fn try_store(&mut self, pack: &bytes::Bytes) -> Result<()> {
        if self.turn.as_ref().is_none_or(|turn| turn.lease.check().is_err()) {
            // The store was out of reach for long; whoever took over meanwhile may be gone again.
            self.take_over().await?;
        }
        let turn =
            self.turn.as_mut().ok_or_else(|| Error::internal("the uploader has no lease"))?;
        if !self.lane.create(turn.lease.token(), turn.next, pack.clone()).await? {
            return Err(rival());
        }
        turn.next += 1;
        Ok(())
    }

    /// Gives the lease back.
    pub(super) async fn end(self) -> Result<()> {
        match self.turn {
            Some(turn) => turn.lease.abandon().await,
            None => Ok(()),
        }
    }
}

/// The later of two positions; the first if they cannot be compared.
fn later(a: Option<Mark>, b: Option<Mark>) -> Option<Mark> {
    match (a, b) {
        (Some(a), Some(b)) if a.at.branch == b.at.branch => {
            Some(if a.at.offset >= b.at.offset { a } else { b })
        }
        (a, b) => a.or(b),
    }
}

fn rival() -> Error {
    Error::new(ErrorKind::Busy, "another process captures this log under the same lease").with_hint(
        "run only one log capture for each source: this store cannot exclude a second one",
    )
}

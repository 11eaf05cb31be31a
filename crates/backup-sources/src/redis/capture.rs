//! Following the stream of commands: the segments that go to the log lane.
//!
//! A branch is a replication id, an offset is that of the server: bytes of its stream. Segments are
//! whole events, so that every place where the log can be cut is one where a replica can stop. The
//! stream has no clock: an event has the time at which the end of it was received.
//!
//! ```text
//!  server ─▶ Follower (a task: reads, says how much is durable, connects again) ─▶ Capture ─▶ segments
//! ```

use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{Position, Tick, Watermark};
use backup_core::source::{LogReader, LogSegment, SourceError, SourceErrorKind, SourceResult};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Follower, Piece, begin, gap, join, refuse_what_is_gone, turn_of};
use super::layout::Layout;
use super::options::RedisOptions;
use super::server::Server;
use super::stream::Splitter;

/// Pieces of at most 128 KiB that wait.
const WAITING: usize = 32;
/// Segments end here, behind a whole event.
pub(super) const SEGMENT: usize = 1 << 20;
/// Files end here.
pub(super) const FILE: u64 = 64 << 20;
/// What was received within this time is one segment, whose time is that of the last of it.
const AT_ONCE: SignedDuration = SignedDuration::from_millis(10);
/// An event is kept in memory until it is whole: of a larger one the log has a gap. Servers take no
/// more from their clients.
pub(super) const LARGEST_EVENT: usize = 1 << 30;
/// Signs of life alone are stored so rarely: where nothing happens nothing is to be stored.
pub(super) const NOISE: Duration = Duration::from_secs(600);

/// Follows the stream from `from`, or from now on.
pub(super) async fn open(
    cx: &Context,
    options: &RedisOptions,
    layout: &Layout,
    from: Option<&Position>,
) -> SourceResult<Box<dyn LogReader>> {
    let server = Server::find(options).await?;
    let (replication, at, turn) = match from {
        Some(from) => {
            refuse_what_is_gone(&server.info, from)?;
            let (replication, id) = join(options, from)
                .await
                .map_err(|error| error.into_source("cannot follow the replication stream"))?;
            (replication, from.clone(), turn_of(&server.info, from, id))
        }
        None => begin(options, &server.info).await?,
    };
    let (durable, acknowledged) = watch::channel(0);
    let (sender, pieces) = channel(WAITING);
    let follower = Follower {
        cx: cx.clone(),
        options: options.clone(),
        seek: None,
        place: at.clone(),
        joined: server.info.number("master_repl_offset"),
        turn,
        pieces: sender,
        acknowledged,
    };
    let task = AbortOnDropHandle::new(tokio::spawn(follower.run(replication)));
    Ok(Box::new(Capture {
        cx: cx.clone(),
        layout: layout.clone(),
        pieces,
        durable,
        splitter: Splitter::default(),
        at,
        parent: None,
        file: None,
        time: cx.clock.now(),
        told: Instant::now(),
        alive: None,
        next: None,
        _task: task,
    }))
}

struct Capture {
    cx: Context,
    layout: Layout,
    pieces: Receiver<Piece>,
    durable: watch::Sender<u64>,
    splitter: Splitter,
    /// Where the last segment ended.
    at: Position,
    /// The branch has just begun, there.
    parent: Option<Position>,
    /// Offset at which the file begins that grows.
    file: Option<u64>,
    /// When the last bytes came.
    time: Timestamp,
    /// When a segment was yielded last.
    told: Instant,
    /// When the server was known to have sent everything that was taken.
    alive: Option<Timestamp>,
    /// Taken off the channel, and not looked at.
    next: Option<Piece>,
    _task: AbortOnDropHandle<()>,
}

impl Capture {
    /// The whole events, as a segment.
    fn segment(&mut self) -> Option<LogSegment> {
        let whole = self.splitter.take()?;
        let from = self.at.offset;
        let to = from + whole.bytes.len() as u64;
        self.at.offset = to;
        let file = match self.file {
            Some(file) if from - file < FILE && self.parent.is_none() => file,
            _ => from,
        };
        self.file = Some(file);
        self.told = Instant::now();
        let mut ticks = vec![Tick { offset: from + whole.first as u64, time: self.time }];
        if ticks[0].offset < to {
            ticks.push(Tick { offset: to, time: self.time });
        }
        Some(LogSegment {
            branch: self.at.branch.clone(),
            parent: self.parent.take(),
            from,
            to,
            ticks,
            path: self.layout.log(&self.at.branch, file),
            at: from - file,
            scope: None,
            data: whole.bytes,
        })
    }

    /// What cannot be taken in is told behind the whole events before it.
    fn take_in(&mut self, bytes: &[u8], time: Timestamp) {
        match self.splitter.push(bytes) {
            Ok(()) if self.splitter.unfinished() > LARGEST_EVENT => {
                let text =
                    "a command or a transaction is larger than the 1 GiB that can be captured";
                self.next = Some(Piece::Failed(gap(text.to_owned())));
            }
            // The time is that of the end of what was received.
            Ok(()) => self.time = time,
            Err(error) => self.next = Some(Piece::Failed(error)),
        }
    }

    fn is_worth_telling(&self) -> bool {
        self.splitter.tells() || self.splitter.whole() > 0 && self.told.elapsed() >= NOISE
    }
}

#[async_trait]
impl LogReader for Capture {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        loop {
            let piece = match self.next.take() {
                Some(piece) => piece,
                None => {
                    let piece = tokio::select! {
                        biased;
                        () = self.cx.cancel.cancelled() => return Err(SourceError::cancelled()),
                        piece = self.pieces.recv() => piece,
                    };
                    piece.ok_or_else(|| {
                        SourceError::new(
                            SourceErrorKind::Unavailable,
                            "the replication stream ended unexpectedly",
                        )
                    })?
                }
            };
            match piece {
                Piece::Failed(error) => {
                    // What is whole comes first.
                    if let Some(segment) = self.segment() {
                        self.next = Some(Piece::Failed(error));
                        return Ok(segment);
                    }
                    return Err(error);
                }
                Piece::Branch(id) => {
                    if let Some(segment) = self.segment() {
                        self.next = Some(Piece::Branch(id));
                        return Ok(segment);
                    }
                    self.parent = Some(self.at.clone());
                    self.at.branch = id;
                }
                Piece::Alive(time) => self.alive = Some(time),
                Piece::Bytes(bytes, time) => {
                    self.take_in(&bytes, time);
                    // More that is there already, up to a segment, as long as it came at once.
                    while self.splitter.whole() < SEGMENT && self.next.is_none() {
                        match self.pieces.try_recv() {
                            Ok(Piece::Bytes(bytes, more))
                                if more.duration_since(time).abs() < AT_ONCE =>
                            {
                                self.take_in(&bytes, more);
                            }
                            Ok(other) => self.next = Some(other),
                            Err(_) => break,
                        }
                    }
                    if self.is_worth_telling()
                        && let Some(segment) = self.segment()
                    {
                        return Ok(segment);
                    }
                }
            }
        }
    }

    /// Signs of life are not worth a segment of their own: the log is complete where the last one
    /// ends.
    fn vouched_for(&self) -> Option<Watermark> {
        let time = self.alive.filter(|_| !self.splitter.tells() && self.parent.is_none())?;
        Some(Watermark::new(self.at.clone(), time))
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        if position.branch == self.at.branch {
            self.durable.send_replace(position.offset);
        }
        Ok(())
    }
}

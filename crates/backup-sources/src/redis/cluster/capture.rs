//! Following the streams of all masters at the same time.
//!
//! ```text
//!  each master ─▶ Follower ─▶ Stream (whole events) ─▶ windows by time of receipt ─▶ are slots at rest? ─▶ segments
//! ```
//!
//! What was received is held back until the masters have been asked, after it came, whether those
//! that are followed are still the masters (one that is cut off from the others does not know), and
//! whether any slot is on its way: while one is, a key may be in two streams or in none, and no
//! moment of that is a state of the cluster. Then the log ends with what came before the last good
//! answer, and has a gap.
//!
//! Places are nanoseconds, as `places.rs` says. Between two windows there is a heartbeat; within a
//! segment a byte takes a nanosecond, so that a place in it is one in the stream of its master.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{Position, Tick, Watermark};
use backup_core::source::{LogReader, LogSegment, SourceError, SourceErrorKind, SourceResult};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::capture::SEGMENT;
use super::super::follow::{Piece, gap};
use super::super::layout::cluster_log_file;
use super::super::options::RedisOptions;
use super::super::server::Version;
use super::discover::{Cluster, Rest};
use super::places::{CLOCKS, Places, nanoseconds, position};
use super::stream::{Stream, Whole};
use super::window::{Ready, Unit, Window, heartbeat};

/// Pieces of at most 128 KiB that wait, of all masters.
const WAITING: usize = 32;
/// What was received within this time, of whichever masters, belongs together.
const WINDOW: SignedDuration = SignedDuration::from_millis(250);
/// So long after something has come the masters are asked, unless so much is held back before.
const ASKING: Duration = Duration::from_millis(500);
const MUCH: usize = 1 << 20;
/// Asked they are no more often than this, and where nothing happens no more rarely than that.
const SELDOM: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(10);
/// No more is held back.
const MOST: usize = 32 << 20;
/// So long it may not be known whether slots are at rest.
const PATIENCE: Duration = Duration::from_secs(120);
/// So long a cluster is waited for whose log begins anew.
const BEGINNING: Duration = Duration::from_secs(600);

/// Follows all masters from where they were, or from now on.
pub(in super::super) async fn open(
    cx: &Context,
    options: &RedisOptions,
    version: Option<&Version>,
    from: Option<(&Position, &str)>,
) -> SourceResult<Box<dyn LogReader>> {
    let places = from.map(|(_, state)| Places::parse(state)).transpose()?;
    let cluster = match &places {
        Some(_) => Cluster::find(options, version).await?,
        None => at_rest(cx, options, version).await?,
    };
    let cluster = Arc::new(cluster);
    if places.as_ref().is_some_and(|places| places.0.len() != cluster.shards.len()) {
        return Err(gap("the number of masters in the cluster has changed".to_owned()));
    }
    let (sender, pieces) = channel(WAITING);
    let mut streams = Vec::new();
    for (shard, number) in cluster.shards.iter().zip(0..) {
        let known = places.as_ref().map(|places| {
            places
                .of(&shard.slots)
                .ok_or_else(|| gap("slots of the cluster have new owners".to_owned()))
        });
        let stream =
            Stream::begin(cx, &cluster, shard, known.transpose()?, (number, sender.clone())).await;
        streams.push(stream.map_err(|error| error.context(format!("node {}", shard.address)))?);
    }
    let begun = cx.clock.now();
    let at = from.map_or_else(
        || nanoseconds(begun.checked_sub(CLOCKS).unwrap_or(begun)),
        |(at, _)| at.offset,
    );
    Ok(Box::new(Capture {
        cx: cx.clone(),
        cluster,
        version: version.cloned(),
        stored: Places(streams.iter().map(Stream::place).collect()),
        streams,
        pieces,
        at,
        held: VecDeque::new(),
        covered: 0,
        ready: VecDeque::new(),
        unacknowledged: VecDeque::new(),
        asking: None,
        asked: Vec::new(),
        alive: None,
        vouched: None,
        due: Instant::now() + ASKING,
        known: Instant::now(),
        failed: None,
    }))
}

/// A log that begins anew waits until slots are where they stay: the next reason for a gap would
/// only be another one. And it begins earlier than it does by as much as backups ask for, so that
/// one can build on it that is begun now: not before whatever was captured until now has ended.
async fn at_rest(
    cx: &Context,
    options: &RedisOptions,
    version: Option<&Version>,
) -> SourceResult<Cluster> {
    tokio::time::sleep(CLOCKS.unsigned_abs() + WINDOW.unsigned_abs()).await;
    let (begun, mut told) = (Instant::now(), false);
    loop {
        match Cluster::find(options, version).await {
            Err(error)
                if error.kind() == SourceErrorKind::Unavailable && begun.elapsed() < BEGINNING =>
            {
                if !std::mem::replace(&mut told, true) {
                    cx.events.note(format!("the log begins when the cluster is stable: {error}"));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

struct Capture {
    cx: Context,
    cluster: Arc<Cluster>,
    version: Option<Version>,
    streams: Vec<Stream>,
    pieces: Receiver<(usize, Piece)>,
    /// Where the last segment ends.
    at: u64,
    /// What is held back. The first ones came before the question that is being asked.
    held: VecDeque<Window>,
    covered: usize,
    ready: VecDeque<Ready>,
    /// Where the masters were behind the segment that was told last.
    stored: Places,
    /// Ends of segments, whose they were, and the offset there.
    unacknowledged: VecDeque<(u64, usize, u64)>,
    asking: Option<AbortOnDropHandle<Rest>>,
    /// Which nodes were followed when that began.
    asked: Vec<Option<String>>,
    /// When all of them were known to have sent everything that was held back then,
    alive: Option<Timestamp>,
    /// and the same of the yielded segments, when they were masters and slots at rest.
    vouched: Option<Timestamp>,
    due: Instant,
    /// When it was last known that slots are at rest.
    known: Instant,
    /// Why it ends, when everything before that was told.
    failed: Option<SourceError>,
}

impl Capture {
    fn held_bytes(&self) -> usize {
        self.held.iter().map(|window| window.len).sum()
    }

    fn take(&mut self, number: usize, piece: Piece) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        match stream.take(piece) {
            Ok(Some(whole)) => {
                self.hold(number, whole);
                // Where the others are is stored with it. That they live moves their offsets too.
                for other in 0..self.streams.len() {
                    if let Some(time) = self.held.back().map(|window| window.begun)
                        && let Some(whole) = self.streams[other].whole()
                    {
                        self.hold(other, Whole { time, ..whole });
                    }
                }
            }
            Ok(None) => {}
            Err(error) => self.failed = Some(error),
        }
    }

    fn hold(&mut self, number: usize, whole: Whole) {
        let Whole { id, from, first, bytes, time } = whole;
        if self.held_bytes() == 0 {
            self.due = self.due.min(Instant::now() + ASKING);
        }
        let is_open = |window: &Window| {
            time.duration_since(window.begun).abs() < WINDOW && window.len < SEGMENT
        };
        if self.held.len() <= self.covered || !self.held.back().is_some_and(is_open) {
            self.held.push_back(Window { begun: time, last: time, units: Vec::new(), len: 0 });
        }
        if let Some(window) = self.held.back_mut() {
            window.last = window.last.max(time);
            window.len += bytes.len();
            match window.units.iter_mut().find(|unit| unit.stream == number && unit.id == id) {
                Some(unit) => unit.data.extend_from_slice(&bytes),
                None => {
                    window.units.push(Unit { stream: number, id, from, first, data: bytes.into() });
                }
            }
        }
        if self.held_bytes() >= MUCH {
            self.due = self.due.min(self.known + SELDOM);
        }
    }

    /// The masters have answered whether slots are at rest.
    fn answered(&mut self, rest: Rest) {
        let covered = std::mem::take(&mut self.covered);
        let now = Instant::now();
        self.due = now + if self.held.len() > covered { ASKING } else { IDLE };
        match rest {
            Rest::Still if self.asked == self.followed() => {
                (self.known, self.vouched) = (now, self.alive);
                for window in self.held.drain(..covered).collect::<Vec<_>>() {
                    self.release(window);
                }
            }
            Rest::Changed(what) => {
                self.held.clear();
                self.failed =
                    Some(gap(format!("{what}: the log of the cluster ends before this change")));
            }
            Rest::Still => self.due = now,
            Rest::Elsewhere(numbers) => {
                self.due = now + ASKING;
                for stream in numbers.into_iter().filter_map(|number| self.streams.get(number)) {
                    stream.leave();
                }
                self.wait_no_longer(None);
            }
            Rest::Unknown(error) => {
                self.due = now + ASKING;
                self.wait_no_longer(Some(error));
            }
        }
    }

    /// What is held back is given up when nobody can tell any more what it is worth: it is read
    /// again, or behind a gap.
    fn wait_no_longer(&mut self, error: Option<SourceError>) {
        let is_over = self.failed.is_some() && self.followed().contains(&None);
        if is_over || self.known.elapsed() > PATIENCE {
            self.held.clear();
            let unknown = || {
                SourceError::new(
                    SourceErrorKind::Unavailable,
                    "a master of the cluster cannot be followed",
                )
            };
            self.failed.get_or_insert(error.unwrap_or_else(unknown));
        }
    }

    fn followed(&self) -> Vec<Option<String>> {
        self.streams.iter().map(Stream::followed).collect()
    }

    /// Makes segments of a window.
    fn release(&mut self, window: Window) {
        for unit in window.units {
            let begin = self.at.max(nanoseconds(window.last));
            if begin > self.at {
                self.ready.push_back(Ready { segment: heartbeat(self.at, begin), end: None });
            }
            self.at = begin + unit.data.len() as u64;
            let stream = &mut self.streams[unit.stream];
            let file = stream.file_for(&unit.id, unit.from);
            let end = (unit.stream, unit.id.clone(), unit.from + unit.data.len() as u64);
            let mut ticks = vec![Tick { offset: begin + unit.first as u64, time: window.last }];
            if ticks[0].offset < self.at {
                ticks.push(Tick { offset: self.at, time: window.last });
            }
            let segment = LogSegment {
                path: cluster_log_file(&stream.name, &unit.id, file),
                at: unit.from - file,
                ticks,
                data: unit.data.freeze(),
                ..heartbeat(begin, self.at)
            };
            self.ready.push_back(Ready { segment, end: Some(end) });
        }
    }

    /// Notes that it is told.
    fn tell(&mut self, ready: Ready) -> LogSegment {
        if let Some((number, id, offset)) = ready.end {
            self.unacknowledged.push_back((ready.segment.to, number, offset));
            if let Some(place) = self.stored.0.get_mut(number) {
                (place.id, place.offset) = (id, offset);
            }
        }
        ready.segment
    }

    fn ask(&mut self) {
        self.covered = self.held.len();
        self.asked = self.followed();
        // The first one that has not written for longest decides; none may be missing.
        let alive: Option<Vec<Timestamp>> =
            self.streams.iter().map(|stream| stream.alive).collect();
        self.alive = alive.and_then(|alive| alive.into_iter().min());
        let (cluster, version, followed) =
            (self.cluster.clone(), self.version.clone(), self.asked.clone());
        let asking = tokio::spawn(async move { cluster.rest(version.as_ref(), &followed).await });
        self.asking = Some(AbortOnDropHandle::new(asking));
    }
}

#[async_trait]
impl LogReader for Capture {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(self.tell(ready));
            }
            if self.held.is_empty()
                && let Some(error) = self.failed.take()
            {
                return Err(error);
            }
            let is_asking = self.asking.is_some();
            let has_room = self.failed.is_none() && self.held_bytes() < MOST;
            let answer = async {
                match &mut self.asking {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => return Err(SourceError::cancelled()),
                answer = answer => {
                    self.asking = None;
                    let broken = || SourceError::new(SourceErrorKind::Unavailable,
                        "the query to the masters was interrupted");
                    self.answered(answer.unwrap_or_else(|_| Rest::Unknown(broken())));
                }
                () = tokio::time::sleep_until(self.due), if !is_asking => self.ask(),
                piece = self.pieces.recv(), if has_room => {
                    let ended = || SourceError::new(SourceErrorKind::Unavailable,
                        "the replication streams ended unexpectedly");
                    match piece {
                        Some((number, piece)) => self.take(number, piece),
                        None => self.failed = Some(ended()),
                    }
                }
            }
        }
    }

    fn state(&self) -> Option<String> {
        self.stored.text()
    }

    fn vouched_for(&self) -> Option<Watermark> {
        let time = self.vouched.filter(|_| self.ready.is_empty() && self.failed.is_none())?;
        Some(Watermark::new(position(self.at), time))
    }

    fn begin_behind(&mut self, known: &[Position]) {
        let ends = known
            .iter()
            .filter(|known| known.branch == position(0).branch)
            .map(|known| known.offset);
        self.at = ends.fold(self.at, u64::max);
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        while let Some((to, number, offset)) = self.unacknowledged.front().copied()
            && to <= position.offset
        {
            self.unacknowledged.pop_front();
            self.streams[number].acknowledge(offset);
        }
        Ok(())
    }
}

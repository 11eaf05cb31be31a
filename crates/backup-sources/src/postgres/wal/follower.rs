//! The task that follows the log: over hosts, timelines and interruptions.

use std::collections::VecDeque;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::log::{Position, Tick, Watermark};
use backup_core::source::{EntryPath, LogSegment, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::error::{WireError, malformed};
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::super::options::PostgresOptions;
use super::super::wire::{WalEvent, WalStream};
use super::find::{Found, PATIENCE, PAUSE, Turn, Wanted, find};
use super::history::History;
use super::records::{Event, Records, server_time};
use super::slot;
use super::upstream::Upstream;

/// So often a connection may be lost before anything came over it: then that is an error.
const FRUITLESS: u32 = 8;
/// Longest pause between two such.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between two words of a server that nothing happens, in microseconds: as long as a commit may be
/// on its way to the log.
const APART: i64 = 5_000_000;

type Segments = mpsc::Sender<SourceResult<LogSegment>>;

pub(super) struct Follower {
    cx: Context,
    cluster: Cluster,
    options: PostgresOptions,
    layout: Layout,
    stream: WalStream,
    timeline: u32,
    /// Where that left the one before, if it was left while we followed.
    turned_at: Option<Lsn>,
    /// Everything before it was handed on.
    at: Lsn,
    records: Records,
    segments: Segments,
    vouched: watch::Sender<Option<Watermark>>,
    durable: watch::Receiver<Option<Position>>,
    /// The standby that is followed, if the stream is not of the server that writes the log.
    upstream: Option<Upstream>,
    idle: Idle,
    /// The silence of the server was reported.
    is_silent: bool,
    /// Since when there is this connection, and how many were lost before without anything new.
    connected: Instant,
    fruitless: u32,
}

/// When nothing happened, by the clock of the server that writes the log.
#[derive(Debug, Default)]
struct Idle(Option<i64>);

impl Idle {
    /// It says at `time` that it has sent everything; returns the time up to which this is known to
    /// be all there is. What was written before the last word but one and not sent with it would
    /// have come before this one.
    fn heard(&mut self, time: i64) -> Option<i64> {
        match self.0 {
            Some(before) if time.saturating_sub(before) < APART => None,
            before => {
                self.0 = Some(time);
                before
            }
        }
    }

    /// Something came, or may have.
    fn over(&mut self) {
        self.0 = None;
    }
}

impl Follower {
    /// Begins with the segment that holds `from`, or the newest place.
    pub(super) async fn begin(
        cx: &Context,
        cluster: &Cluster,
        options: &PostgresOptions,
        from: Option<&Position>,
        (segments, vouched): (Segments, watch::Sender<Option<Watermark>>),
        durable: watch::Receiver<Option<Position>>,
    ) -> SourceResult<Self> {
        let (timeline, from) = match from {
            Some(from) => {
                let timeline = from.branch.parse().map_err(|_| {
                    let text =
                        format!("{from} is not a position in the WAL of a PostgreSQL cluster");
                    SourceError::new(SourceErrorKind::LogGap, text)
                        .with_hint("run a full backup: later moments can be restored from it on")
                })?;
                (timeline, Lsn(from.offset))
            }
            None => {
                let mut connection = cluster.connect(options).await?;
                let system = cluster.require_same(&mut connection).await?;
                (system.timeline, system.at)
            }
        };
        let at = cluster.segments.floor(from);
        let found = find(cx, cluster, options, Wanted { timeline, at, had: from }).await?;
        if found.was_reported {
            cx.events.connected();
        }
        let mut follower = Self {
            cx: cx.clone(),
            cluster: cluster.clone(),
            options: options.clone(),
            layout: Layout::of(cluster.system_id),
            stream: found.stream,
            timeline,
            turned_at: None,
            at,
            records: Records::new(cluster.segments, at),
            segments,
            vouched,
            durable,
            upstream: found.standby.map(Upstream::of),
            idle: Idle::default(),
            is_silent: false,
            connected: Instant::now(),
            fruitless: 0,
        };
        follower.pending(found.turns).await?;
        Ok(follower)
    }

    /// Until nobody listens any more, or it cannot go on.
    pub(super) async fn run(mut self) {
        let error = loop {
            if let Err(error) = self.follow().await {
                break error;
            }
        };
        // Nobody may listen any more.
        _ = self.segments.send(Err(error)).await;
    }

    /// Reads until the connection is lost, and finds another one.
    async fn follow(&mut self) -> SourceResult<()> {
        let doing = "cannot follow the WAL";
        loop {
            let event = tokio::select! {
                () = self.cx.cancel.cancelled() => return Err(SourceError::cancelled()),
                () = self.segments.closed() => return Err(SourceError::cancelled()),
                Ok(()) = self.durable.changed() => {
                    let durable = self.durable.borrow_and_update().clone();
                    // A place on the timeline before may lie behind what is stored of this one.
                    let Some(durable) = durable.filter(|durable| durable.branch == self.timeline.to_string()) else {
                        continue;
                    };
                    match self.stream.acknowledge(Lsn(durable.offset)).await {
                        Ok(()) => continue,
                        Err(error) => return self.reconnect(error).await,
                    }
                }
                event = self.stream.next() => event,
            };
            if self.is_silent && event.is_ok() {
                self.is_silent = false;
                self.cx.events.connected();
            }
            match event {
                Ok(WalEvent::Data { at, data }) => self.data(at, data).await?,
                Ok(WalEvent::Quiet { end, time }) => self.quiet(end, time).await,
                Ok(WalEvent::Turn { next, at }) => return self.turn(next, at).await,
                Ok(WalEvent::Silent) => {
                    self.is_silent = true;
                    self.cx.events.unreachable("no answer for 5 seconds");
                }
                Err(error) if slot::is_gone(&error) => {
                    let connection = self.cluster.connect(&self.options).await.ok();
                    return Err(slot::gap(error, &self.options, connection, doing).await);
                }
                Err(WireError::Source(error)) => return Err(error),
                // A server that shuts down says so.
                Err(error) => return self.reconnect(error.into_source(doing)).await,
            }
        }
    }

    /// Finds a server after the connection was lost with `error`.
    async fn reconnect(&mut self, error: SourceError) -> SourceResult<()> {
        if self.connected.elapsed() >= PATIENCE {
            self.fruitless = 0;
        }
        if self.fruitless >= FRUITLESS {
            return Err(error);
        }
        if let Some(pause) = pause(self.fruitless) {
            tokio::select! {
                () = self.cx.cancel.cancelled() => return Err(SourceError::cancelled()),
                () = self.segments.closed() => return Err(SourceError::cancelled()),
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.fruitless += 1;
        self.cx.events.unreachable(error.chain());
        let wanted = Wanted { timeline: self.timeline, at: self.at, had: self.at };
        let Found { stream, turns, standby, .. } =
            find(&self.cx, &self.cluster, &self.options, wanted).await?;
        (self.stream, self.connected) = (stream, Instant::now());
        self.upstream = standby.map(Upstream::of);
        self.is_silent = false;
        self.cx.events.connected();
        self.idle.over();
        self.pending(turns).await
    }

    /// Gets on to the timelines that a server is on already.
    async fn pending(&mut self, turns: VecDeque<Turn>) -> SourceResult<()> {
        for turn in turns {
            self.begin_timeline(&turn).await?;
        }
        Ok(())
    }

    /// The server was promoted while we followed. Who knows the next timeline, and its history, is
    /// found before anything is said of it: a branch that is begun and never gone on with would be
    /// in the way of the right one.
    async fn turn(&mut self, next: u32, at: Lsn) -> SourceResult<()> {
        if at != self.at {
            return Err(malformed(format!(
                "end of timeline {}: {at} instead of {}",
                self.timeline, self.at
            )));
        }
        let text = format!("the WAL continues on timeline {next}, which no server has");
        self.reconnect(SourceError::new(SourceErrorKind::Unavailable, text)).await
    }

    /// A branch begins with the history of its timeline, and with the segment in which it left the
    /// one before.
    async fn begin_timeline(&mut self, turn: &Turn) -> SourceResult<()> {
        let start = self.cluster.segments.floor(turn.at);
        self.timeline = turn.next;
        self.turned_at = Some(turn.at);
        self.at = start;
        self.records = Records::new(self.cluster.segments, start);
        self.idle.over();
        self.send(LogSegment {
            branch: turn.next.to_string(),
            parent: Some(Position::new(turn.from.to_string(), turn.at.0)),
            from: start.0,
            to: start.0,
            ticks: Vec::new(),
            path: self.layout.history(turn.next, &History::file_name(turn.next)),
            at: 0,
            scope: None,
            data: turn.history.clone(),
        })
        .await
    }

    async fn data(&mut self, at: Lsn, mut data: Bytes) -> SourceResult<()> {
        if at != self.at {
            return Err(malformed(format!("WAL from the server: {at} follows {}", self.at)));
        }
        self.fruitless = 0;
        self.idle.over();
        let segments = self.cluster.segments;
        while !data.is_empty() {
            let number = segments.number(self.at);
            let left =
                usize::try_from(segments.start(number + 1).0 - self.at.0).unwrap_or(usize::MAX);
            let piece = data.split_to(data.len().min(left));
            let mut ticks = Vec::new();
            self.records.push(&piece, |event| ticks.extend(tick(&event)))?;
            if self.records.ended() {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    format!("the WAL at {} is damaged", self.at),
                ));
            }
            let path = self.layout.segment(segments, self.timeline, number);
            let within = self.at.0 - segments.start(number).0;
            self.segment(piece.len() as u64, ticks, path, within, piece).await?;
        }
        Ok(())
    }

    /// Nothing new up to now, by the server's clock.
    async fn quiet(&mut self, end: Lsn, time: i64) {
        // Log that a standby has not received may have been written long before its clock shows
        // this time: only messages of the server that writes count.
        let said = match &mut self.upstream {
            None => Some((end, time)),
            Some(upstream) => upstream.heard(&self.options).await,
        };
        match said {
            Some((end, time)) if end == self.at => {
                if let Some(time) = self.idle.heard(time).and_then(server_time) {
                    self.vouched.send_replace(Some(Watermark::new(self.position(), time)));
                }
            }
            _ => self.idle.over(),
        }
    }

    /// Where everything ends that was handed on.
    pub(super) fn position(&self) -> Position {
        Position::new(self.timeline.to_string(), self.at.0)
    }

    async fn segment(
        &mut self,
        len: u64,
        ticks: Vec<Tick>,
        path: EntryPath,
        at: u64,
        data: Bytes,
    ) -> SourceResult<()> {
        let from = self.at;
        self.at = Lsn(from.0 + len);
        let branch = self.timeline.to_string();
        let (from, to, scope) = (from.0, self.at.0, None);
        self.send(LogSegment { branch, parent: None, from, to, ticks, path, at, scope, data }).await
    }

    async fn send(&mut self, segment: LogSegment) -> SourceResult<()> {
        // While nobody takes it the server must go on hearing of us, or it ends the connection:
        // that is made good by finding another one.
        self.segments.send(Ok(segment)).await.map_err(|_| SourceError::cancelled())
    }
}

fn tick(event: &Event) -> Option<Tick> {
    event.moment.as_ref().map(|moment| Tick { offset: event.to.0, time: moment.time() })
}

/// How long to wait before a connection is made anew: not at all after one that something came
/// over.
fn pause(fruitless: u32) -> Option<Duration> {
    let doublings = fruitless.checked_sub(1)?;
    Some(PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_when_the_next_word_comes_and_nothing_did() {
        let mut idle = Idle::default();
        assert_eq!(idle.heard(10 * APART), None);
        // Another one at once tells nothing.
        assert_eq!(idle.heard(10 * APART + 1), None);
        assert_eq!(idle.heard(12 * APART), Some(10 * APART));
        assert_eq!(idle.heard(13 * APART), Some(12 * APART));
        idle.over();
        assert_eq!(idle.heard(15 * APART), None);
        assert_eq!(idle.heard(16 * APART), Some(15 * APART));
    }

    #[test]
    fn pauses_grow_while_nothing_comes() {
        assert_eq!(pause(0), None);
        assert_eq!([1, 2, 3].map(|lost| pause(lost).unwrap()), [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert_eq!(pause(FRUITLESS), Some(LONGEST_PAUSE));
        assert_eq!(pause(u32::MAX), Some(LONGEST_PAUSE));
    }
}

//! A repository, a source with a log, and what can be restored of it.

use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SharedClock, SystemClock};
use backup_core::context::Context;
use backup_core::error::Result;
use backup_core::log::{
    CaptureOptions, CaptureReport, LogReplay, LogView, Plan, Refusal, RollUpOptions, RollUpReport,
    Stream, Target, capture, roll_up,
};
use backup_core::pipeline::backup;
use backup_core::repository::Repository;
use backup_core::source::{EntryPath, Source};
use backup_core::testing::ScriptedLog;
use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::noise::noise;
use super::repo::options;

/// Everything about one stream.
#[derive(Clone)]
pub(crate) struct Logged {
    pub(crate) repository: Repository,
    pub(crate) source: ScriptedLog,
    pub(crate) stream: Stream,
    pub(crate) cx: Context,
}

/// A capture in the background.
pub(crate) struct Capturing {
    pub(crate) task: JoinHandle<Result<CaptureReport>>,
    cancel: CancellationToken,
}

impl Capturing {
    pub(crate) async fn stop(self) -> Result<CaptureReport> {
        self.cancel.cancel();
        self.task.await.unwrap()
    }
}

/// Flushes fast: tests have no second to spare.
pub(crate) fn fast() -> CaptureOptions {
    CaptureOptions {
        flush_after: Duration::from_millis(50),
        flush_bytes: 2000,
        ..CaptureOptions::default()
    }
}

impl Logged {
    pub(crate) fn new(repository: &Repository, clock: SharedClock) -> Self {
        let source = ScriptedLog::new();
        let stream = Stream::of(&source.identity());
        let cx = Context { clock, ..Context::silent() };
        Self { repository: repository.clone(), source, stream, cx }
    }

    pub(crate) fn begin(&self, options: CaptureOptions) -> Capturing {
        let cancel = CancellationToken::new();
        let (one, cx) = (self.clone(), Context { cancel: cancel.clone(), ..self.cx.clone() });
        let task =
            tokio::spawn(async move { capture(&one.repository, &one.source, &options, &cx).await });
        Capturing { task, cancel }
    }

    /// Captures until everything that has happened is acknowledged.
    pub(crate) async fn catch_up(&self) -> CaptureReport {
        self.catch_up_with(fast()).await
    }

    pub(crate) async fn catch_up_with(&self, options: CaptureOptions) -> CaptureReport {
        let mut capturing = self.begin(options);
        let end = self.source.end();
        while self.source.acknowledged().as_ref() != Some(&end) {
            tokio::select! {
                ended = &mut capturing.task => panic!("it has ended: {:?}", ended.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        capturing.stop().await.unwrap()
    }

    pub(crate) async fn back_up(&self) {
        let done = backup(&self.repository, &self.source, &options(), &self.cx).await;
        done.unwrap_or_else(|error| panic!("{}", error.chain()));
    }

    pub(crate) async fn roll_up(&self) -> RollUpReport {
        self.roll_up_with(&RollUpOptions::default()).await
    }

    pub(crate) async fn roll_up_with(&self, options: &RollUpOptions) -> RollUpReport {
        let done = roll_up(&self.repository, &self.stream, options, &self.cx).await;
        done.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(crate) async fn view(&self) -> LogView {
        LogView::load(&self.repository, &self.stream, &self.cx)
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(crate) async fn plan(&self, target: &Target) -> Result<Plan, Box<Refusal>> {
        self.view().await.timeline().plan(target)
    }

    /// The state at a moment: that of the base and the events since.
    pub(crate) async fn restored(&self, target: &Target) -> Vec<u8> {
        let indexed = self.repository.load_index(&self.cx).await.unwrap();
        let mut view = self.view().await;
        if let Target::Time(time) = target {
            view.refine(&indexed, *time).await.unwrap();
        }
        let plan = view.timeline().plan(target).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let base = view.snapshots().find(|info| info.id == plan.base.id).unwrap();
        let reader = indexed.snapshot(base);
        let node = reader.find(&EntryPath::new("/scripted/state").unwrap()).await.unwrap().unwrap();
        let mut state = Vec::new();
        let mut content = reader.content(&node);
        while let Some(bytes) = content.next().await {
            state.extend_from_slice(&bytes.unwrap());
        }
        let until = plan.until;
        let mut events = Applied {
            at: plan.base.at.offset,
            stop: plan.stop.offset,
            until,
            log: self.source.clone(),
        };
        let replay = LogReplay::new(indexed.clone(), self.stream.clone(), view, plan);
        let mut tape = replay.tape(&self.cx).unwrap();
        let mut piece = None;
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(part) = tape.next().await.unwrap_or_else(|error| panic!("{}", error.chain()))
        {
            let this =
                Piece { from: part.from, to: part.to, path: part.path.clone(), limit: part.limit };
            if piece.as_ref() != Some(&this) {
                events.apply(piece.take(), &bytes, &mut state);
                bytes.clear();
                piece = Some(this);
            }
            bytes.extend_from_slice(&part.data);
        }
        events.apply(piece.take(), &bytes, &mut state);
        assert!(events.at >= events.stop, "the log ends at {}, not at {}", events.at, events.stop);
        state
    }

    /// Whatever is acknowledged can be restored, whole.
    pub(crate) async fn assert_all_there(&self) {
        let end = self.source.acknowledged().expect("something is acknowledged");
        let restored = self.restored(&Target::Position(end.clone())).await;
        assert!(restored == self.source.bytes_up_to(end.offset), "the state at {end} differs");
    }
}

/// Bytes that belong together.
#[derive(PartialEq)]
struct Piece {
    from: u64,
    to: u64,
    path: String,
    limit: Option<u64>,
}

/// Events that are applied once each.
struct Applied {
    at: u64,
    stop: u64,
    until: Option<jiff::Timestamp>,
    log: ScriptedLog,
}

impl Applied {
    fn apply(&mut self, piece: Option<Piece>, mut bytes: &[u8], state: &mut Vec<u8>) {
        let Some(piece) = piece else { return };
        // Event by event: 4 bytes length, then its data.
        let mut number = piece.from;
        while let Some(len) = bytes.first_chunk() {
            let len = 4 + u32::from_le_bytes(*len) as usize;
            let (event, rest) = bytes.split_at(len);
            number += 1;
            let wanted = number <= self.stop
                || self.until.is_some_and(|until| {
                    self.at + 1 == number && self.log.time_of(number).unwrap() <= until
                });
            if number == self.at + 1 && wanted && piece.limit.is_none_or(|limit| number <= limit) {
                state.extend_from_slice(event);
                self.at = number;
            }
            bytes = rest;
        }
        assert!(bytes.is_empty(), "a piece of the log ends within an event");
    }
}

/// Two thousand events a second; how long ago the first one happened that would be lost if the
/// source died, at the worst moment.
pub(crate) async fn worst_lag(logged: &Logged, duration: Duration) -> Duration {
    let data = Bytes::from(noise(1, 500));
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut worst = Duration::ZERO;
    while begun.elapsed() < duration {
        ticks.tick().await;
        for _ in 0..20 {
            logged.source.push(SystemClock.now(), data.clone());
        }
        let stored = logged.source.acknowledged().map_or(0, |at| at.offset);
        if let Some(since) = logged.source.time_of(stored + 1) {
            worst = worst.max(
                Duration::try_from(since.duration_until(SystemClock.now())).unwrap_or_default(),
            );
        }
    }
    worst
}

//! Following the oplog into a repository, and restoring to any moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::event::{Event, Events, LogEvent, Reporter};
use backup_core::log::{
    CaptureOptions, LogReplay, LogView, Plan, Position, Refusal, RollUpOptions, Stream, Target,
    capture, roll_up,
};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{BackupKind, RestoreRequest, Selection, Source as _};
use backup_sources::mongodb::{
    ExportRequest, MongoOptions, MongoSource, Replay, SnapshotReads, export_with_log,
    synthetic_full,
};
use bson::doc;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::hostile::{Origin, same_files, seeds};
use super::workload::Workload;
use super::{options, restored, say, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// Keeps what the capturer tells.
#[derive(Default)]
struct Told(Mutex<Vec<LogEvent>>);

impl Reporter for Told {
    fn report(&self, event: &Event) {
        if let Event::Log(event) = event {
            self.0.lock().unwrap().push(event.clone());
        }
    }
}

/// A repository and a source whose oplog is followed.
#[derive(Clone)]
pub(super) struct Logged {
    pub(super) repository: Repository,
    pub(super) source: MongoSource,
    stream: Stream,
    told: Arc<Told>,
}

/// A capturer in the background.
pub(super) struct Capturing {
    task: JoinHandle<()>,
    cx: Context,
}

impl Capturing {
    /// As if the process were killed.
    async fn kill(self) {
        self.task.abort();
        _ = self.task.await;
    }

    pub(super) async fn stop(self) {
        self.cx.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// A moment at which nobody wrote.
struct Fence {
    at: Position,
    time: Timestamp,
    expected: State,
}

impl Logged {
    pub(super) async fn new(source: MongoSource) -> Self {
        Self::over(super::repository().await, source)
    }

    pub(super) fn over(repository: Repository, source: MongoSource) -> Self {
        let stream = Stream::of(&source.identity());
        Self { repository, source, stream, told: Arc::default() }
    }

    pub(super) fn begin(&self) -> Capturing {
        let reporter: Arc<dyn Reporter> = Arc::clone(&self.told) as _;
        let cx = Context::new(Events::to(reporter));
        let (one, context) = (self.clone(), cx.clone());
        let options = CaptureOptions {
            lease_period: Duration::from_millis(500),
            ..CaptureOptions::default()
        };
        let task = tokio::spawn(async move {
            loop {
                match capture(&one.repository, &one.source, &options, &context).await {
                    Ok(_) => return,
                    // Of one that was killed.
                    Err(error) if error.kind() == ErrorKind::Busy => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => panic!("capturing: {} ({:?})", error.chain(), error.hint()),
                }
            }
        });
        Capturing { task, cx }
    }

    pub(super) async fn back_up(&self) {
        let report =
            backup(&self.repository, &self.source, &BackupOptions::default(), &super::talking())
                .await;
        report.unwrap_or_else(|error| panic!("backing up: {}", error.chain()));
    }

    pub(super) async fn roll_up(&self) {
        let done =
            roll_up(&self.repository, &self.stream, &RollUpOptions::default(), &Context::silent())
                .await;
        let report = done.unwrap_or_else(|error| panic!("rolling up: {}", error.chain()));
        say(&format!("{report:?}"));
    }

    pub(super) async fn view(&self) -> LogView {
        let view = LogView::load(&self.repository, &self.stream, &Context::silent()).await;
        view.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(super) async fn plan(&self, target: &Target) -> Result<Plan, Box<Refusal>> {
        self.view().await.timeline().plan(target)
    }

    /// Waits until everything that is there now can be restored.
    pub(super) async fn reached(&self, at: &Position) {
        let started = Instant::now();
        while let Err(refusal) = self.plan(&Target::Position(at.clone())).await {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{refusal:?}: {:?}",
                self.told.0.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A base and what is to be applied to it.
    pub(super) async fn replay(&self, moment: &Target) -> (SnapshotReader, Arc<LogReplay>) {
        let indexed = self.repository.load_index(&Context::silent()).await.unwrap();
        let mut view = self.view().await;
        if let Target::Time(time) = moment {
            view.refine(&indexed, *time).await.unwrap();
        }
        let plan = view
            .timeline()
            .plan(moment)
            .unwrap_or_else(|refusal| panic!("{moment:?}: {refusal:?}"));
        let base = view.snapshots().find(|info| info.id == plan.base.id).unwrap();
        let snapshot = indexed.snapshot(base);
        (snapshot, Arc::new(LogReplay::new(indexed, self.stream.clone(), view, plan)))
    }

    pub(super) async fn restore(
        &self,
        moment: &Target,
        target: &MongoSource,
        request: RestoreRequest,
    ) -> Plan {
        let (snapshot, log) = self.replay(moment).await;
        let plan = log.plan().clone();
        restored(&snapshot, target, RestoreRequest { log: Some(log), ..request }).await;
        plan
    }
}

/// A moment of a source in its captured log.
pub(super) fn position(source: &MongoSource, at: backup_sources::mongodb::Position) -> Position {
    Position::new(source.branch(), u64::from(at.seconds) << 32 | u64::from(at.increment))
}

/// Everybody rests: what there is then.
async fn fence(origin: &Origin, workload: &Workload, source: &MongoSource) -> Fence {
    workload.pause().await;
    let expected = origin.state().await;
    let last = origin.last_write().await;
    let mut newest = source.newest_entry(&Context::silent()).await.unwrap().at;
    while newest < last {
        tokio::time::sleep(Duration::from_millis(20)).await;
        newest = source.newest_entry(&Context::silent()).await.unwrap().at;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let time = SystemClock.now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    workload.go_on();
    Fence { at: position(source, newest), time, expected }
}

/// Fences while a capturer is killed again and again.
async fn fences(
    logged: &Logged,
    origin: &Origin,
    workload: &Workload,
    random: &mut StdRng,
) -> (Vec<Fence>, u32) {
    let (mut fences, mut kills) = (Vec::new(), 0);
    let mut capturing = logged.begin();
    logged.back_up().await;
    for number in 0..4 {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..2500))).await;
            capturing.kill().await;
            kills += 1;
            capturing = logged.begin();
        }
        fences.push(fence(origin, workload, &logged.source).await);
        match number {
            1 => logged.roll_up().await,
            2 => logged.back_up().await,
            _ => {}
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    logged.reached(&fences[3].at).await;
    capturing.stop().await;
    (fences, kills)
}

pub(super) async fn every_moment_comes_back(version: Version) {
    let target = Mongod::start(version).await;
    for seed in seeds() {
        say(&format!("seed {seed}"));
        let origin = Origin::start(version).await;
        let workload = Workload::start(origin.uri(), version, seed).await;
        let mut random = StdRng::seed_from_u64(seed);
        // Every other time the bases are read at one moment, where the server can do that.
        let snapshot_reads = if seed % 2 == 0 { SnapshotReads::Auto } else { SnapshotReads::Never };
        let logged = Logged::new(origin.reading(snapshot_reads).await).await;
        let (fences, kills) = fences(&logged, &origin, &workload, &mut random).await;
        workload.stop().await;
        let expected = origin.state().await;
        let last = position(&logged.source, origin.last_write().await);
        let capturing = logged.begin();
        logged.reached(&last).await;
        capturing.stop().await;
        if seed % 3 == 0 {
            logged.roll_up().await;
        }
        let to = source(&target).await;
        for (number, fence) in fences.iter().enumerate() {
            for moment in [Target::Position(fence.at.clone()), Target::Time(fence.time)] {
                target.clear().await;
                let plan = logged.restore(&moment, &to, verified()).await;
                say(&format!(
                    "fence {number}, {moment:?}: {} pieces on {}",
                    plan.log.len(),
                    plan.base.at
                ));
                same(&fence.expected, &state(&target.client).await);
            }
        }
        target.clear().await;
        logged.restore(&Target::Latest, &to, verified()).await;
        same(&expected, &state(&target.client).await);
        in_part(&logged, &fences, &target, &mut random).await;
        // The other way to the same moment.
        target.clear().await;
        let applying = MongoOptions { replay: Replay::ApplyOps, ..options(&target) };
        let applying = MongoSource::connect(applying).await.unwrap();
        let at = Target::Position(fences[1].at.clone());
        logged.restore(&at, &applying, RestoreRequest::default()).await;
        same(&fences[1].expected, &state(&target.client).await);
        let (room, (snapshot, log)) = (tempfile::tempdir().unwrap(), logged.replay(&at).await);
        let (cx, all) = (Context::silent(), ExportRequest::default());
        export_with_log(&cx, &snapshot, log, &all, room.path()).await.unwrap();
        same_files(room.path(), &fences[1].expected);
        compacted(&logged, &fences, &target).await;
        say(&format!(
            "exact: {} fences, {kills} kills, workload {:?}",
            fences.len(),
            expected.len()
        ));
    }
}

/// Some collections only, whatever they were called before.
async fn in_part(logged: &Logged, fences: &[Fence], target: &Mongod, random: &mut StdRng) {
    let to = source(target).await;
    for fence in fences {
        let (mut expected, mut include) = (State::new(), Vec::new());
        let plain =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        for (name, facts) in &fence.expected {
            // By the name of a time-series collection its buckets are meant as well. They can lie
            // beside a plain collection: a `create` that found one has left them.
            let (db, rest) = name.split_once('.').unwrap();
            let has_buckets = fence.expected.contains_key(&format!("{db}.system.buckets.{rest}"));
            if plain(name)
                && facts.kind != "timeseries"
                && !has_buckets
                && !name.contains(".system.")
                && random.random_bool(0.3)
            {
                expected.insert(name.clone(), facts.clone());
                include.push(name.clone());
            }
        }
        if include.is_empty() {
            continue;
        }
        target.clear().await;
        let selection = Selection::new(include, Vec::new()).unwrap();
        let request = RestoreRequest { selection, ..RestoreRequest::default() };
        logged.restore(&Target::Position(fence.at.clone()), &to, request).await;
        say(&format!("in part: {:?}", expected.keys()));
        same(&expected, &state(&target.client).await);
    }
}

/// What the log comes to at a moment becomes a full snapshot without the server: it is exact, and
/// later moments begin there.
async fn compacted(logged: &Logged, fences: &[Fence], target: &Mongod) {
    let (snapshot, log) = logged.replay(&Target::Position(fences[1].at.clone())).await;
    let (options, cx) = (BackupOptions::default(), super::talking());
    let report = synthetic_full(&logged.repository, &snapshot, Some(log), &options, &cx).await;
    let report =
        report.unwrap_or_else(|error| panic!("compacting: {} ({:?})", error.chain(), error.hint()));
    assert_eq!((report.kind, report.warnings), (BackupKind::Full, 0));
    let to = source(target).await;
    for fence in &fences[1..3] {
        target.clear().await;
        let plan = logged.restore(&Target::Position(fence.at.clone()), &to, verified()).await;
        assert!(
            plan.base.at.offset >= fences[1].at.offset,
            "what was compacted is not where it begins: {plan:?}"
        );
        if fence.at == fences[1].at {
            assert_eq!((Some(plan.base.id), plan.log.len()), (report.snapshot, 0));
        }
        same(&fence.expected, &state(&target.client).await);
    }
}

/// Two thousand writes a second: what was written three seconds ago is stored.
pub(super) async fn the_log_is_close_behind(version: Version) {
    let server = Mongod::start(version).await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    let started = Instant::now();
    let written = AtomicBool::new(false);
    let writing = async {
        for n in 0..200 {
            tokio::time::sleep_until((started + Duration::from_millis(50) * n).into()).await;
            let documents: Vec<_> =
                (0..100).map(|_| doc! { "n": n, "p": "x".repeat(200) }).collect();
            server.run("db", doc! { "insert": "c", "documents": documents }).await;
        }
        written.store(true, Ordering::SeqCst);
        started.elapsed()
    };
    let watching = async {
        let mut worst = jiff::SignedDuration::ZERO;
        tokio::time::sleep(Duration::from_secs(3)).await;
        while !written.load(Ordering::SeqCst) {
            let told = logged.told.0.lock().unwrap().iter().rev().find_map(|event| match event {
                LogEvent::Stored { time, .. } => *time,
                _ => None,
            });
            worst = worst.max(SystemClock.now().duration_since(told.expect("something is stored")));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        worst
    };
    let (took, worst) = tokio::join!(writing, watching);
    capturing.stop().await;
    say(&format!("20000 writes in {took:?}: at worst {worst:?} behind"));
    assert!(worst < jiff::SignedDuration::from_secs(3), "{worst:?}");
}

/// What the server has thrown away meanwhile is a gap: noted, refused, and over with the next full
/// backup.
pub(super) async fn what_was_not_captured_is_refused(version: Version) {
    let server = Mongod::with(version, &["--oplogSize", "1", "--syncdelay", "1"]).await;
    let logged = Logged::new(source(&server).await).await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let capturing = logged.begin();
    logged.back_up().await;
    let at = |entry| position(&logged.source, entry);
    let newest = async || at(logged.source.newest_entry(&Context::silent()).await.unwrap().at);
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 2 }] }).await;
    let before = newest().await;
    logged.reached(&before).await;
    capturing.stop().await;
    let started = Instant::now();
    for n in 0.. {
        let documents: Vec<_> = (0..10)
            .map(|id| doc! { "_id": format!("{n} {id}"), "p": "x".repeat(100_000) })
            .collect();
        server.run("db", doc! { "insert": "fill", "documents": documents }).await;
        let window = logged.source.oplog_window(&Context::silent()).await.unwrap().unwrap();
        if at(window.oldest) > before {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the oplog does not roll over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 3 }] }).await;
    let after = newest().await;
    let started = Instant::now();
    let gap = loop {
        let gaps = logged.view().await.timeline().gaps();
        if let Some(gap) = gaps.into_iter().next() {
            break gap;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", logged.told.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(gap.from, before.offset);
    assert!(gap.reason.as_ref().unwrap().contains("reaches back only to"), "{gap:?}");
    let refusal = logged.plan(&Target::Position(after)).await.unwrap_err();
    assert_eq!(refusal.before.unwrap().0, before);
    logged.back_up().await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 4 }] }).await;
    let after = newest().await;
    logged.reached(&after).await;
    capturing.stop().await;
    let target = Mongod::start(version).await;
    logged.restore(&Target::Position(after), &source(&target).await, verified()).await;
    same(&state(&server.client).await, &state(&target.client).await);
    // Without an oplog there is nothing to capture.
    let alone = source(&Mongod::standalone(version).await).await;
    assert!(!alone.capabilities().log_capture && logged.source.capabilities().log_capture);
}

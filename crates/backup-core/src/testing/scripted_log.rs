//! A source with a log: numbered events, each some bytes. Its state is the list of all events so
//! far.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::context::Context;
use crate::log::{Position, Tick, Watermark};
use crate::repository::SnapshotReader;
use crate::source::{
    BackupReader, BackupRequest, Checkpoint, Chunking, Content, Digest, Entry, EntryPath, Item,
    LogReader, LogSegment, LogStart, Metadata, Probe, RestoreReport, RestoreRequest, Selection,
    Source, SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity, SourceResult,
};

/// Events that share a file.
const PER_FILE: u64 = 1000;

/// A source with a log. Event `n` leads from offset `n` to `n + 1`. Cheap to clone; clones are one
/// source.
#[derive(Clone, Default)]
pub struct ScriptedLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    branch: String,
    /// Where the branch left the one before.
    parent: Option<Position>,
    events: Vec<Event>,
    /// Events before are gone.
    kept_from: u64,
    acknowledged: Option<Position>,
    /// How many more segments can be read.
    allowed: Option<u64>,
    /// The source vouches that everything before this has happened.
    vouched: Option<Timestamp>,
    /// Branches begin with a segment that says so, and nothing else.
    announces: bool,
}

#[derive(Clone)]
struct Event {
    time: Timestamp,
    data: Bytes,
}

impl fmt::Debug for ScriptedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ScriptedLog")
            .field("branch", &state.branch)
            .field("events", &state.events.len())
            .finish()
    }
}

impl fmt::Display for ScriptedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scripted log")
    }
}

impl ScriptedLog {
    /// A log without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happens. Returns where the event ends.
    pub fn push(&self, time: Timestamp, data: impl Into<Bytes>) -> Position {
        let mut state = self.lock();
        state.events.push(Event { time, data: data.into() });
        let position = state.end();
        drop(state);
        self.0.changed.notify_waiters();
        position
    }

    /// The source vouches that nothing happens any more before `time`, or for nothing.
    pub fn vouch(&self, time: Option<Timestamp>) {
        self.lock().vouched = time;
    }

    /// Where the log ends.
    #[must_use]
    pub fn end(&self) -> Position {
        self.lock().end()
    }

    /// What was acknowledged last.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Position> {
        self.lock().acknowledged.clone()
    }

    /// The source forgets the events before an offset, acknowledged or not.
    pub fn forget_before(&self, offset: u64) {
        let mut state = self.lock();
        state.kept_from = state.kept_from.max(offset);
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// A new branch leaves this one at an offset; what came behind is undone.
    pub fn fork(&self, name: &str, at: u64) {
        let mut state = self.lock();
        state.parent = Some(Position::new(state.branch.clone(), at));
        name.clone_into(&mut state.branch);
        state.events.truncate(usize::try_from(at).unwrap_or(usize::MAX));
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// From now on a new branch begins with a segment that holds no event, only where it comes
    /// from.
    pub fn announce_branches(&self) {
        self.lock().announces = true;
    }

    /// After so many more segments reading fails, until this is called again.
    pub fn fail_after(&self, segments: Option<u64>) {
        self.lock().allowed = segments;
        self.0.changed.notify_waiters();
    }

    /// All events so far, as they come from a log: length and bytes of each.
    #[must_use]
    pub fn bytes_up_to(&self, offset: u64) -> Vec<u8> {
        let state = self.lock();
        state
            .events
            .iter()
            .take(usize::try_from(offset).unwrap_or(usize::MAX))
            .flat_map(|event| encode(&event.data))
            .collect()
    }

    /// Time of the event that ends at an offset.
    #[must_use]
    pub fn time_of(&self, offset: u64) -> Option<Timestamp> {
        let at = usize::try_from(offset.checked_sub(1)?).ok()?;
        self.lock().events.get(at).map(|event| event.time)
    }
}

impl State {
    fn end(&self) -> Position {
        Position::new(self.branch.clone(), self.events.len() as u64)
    }
}

/// An event as it lies in a log file.
fn encode(data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes()[..], data].concat()
}

#[async_trait]
impl Source for ScriptedLog {
    fn kind(&self) -> &'static str {
        "scripted-log"
    }

    fn identity(&self) -> SourceIdentity {
        let text = || "scripted".to_owned();
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: text(),
            host: text(),
            paths: vec!["/scripted".to_owned()],
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: true }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Ok(Probe::default())
    }

    async fn open_backup(
        &self,
        cx: &Context,
        _request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let at = self.end();
        let state = self.bytes_up_to(at.offset);
        Ok(Box::new(Base { at, state: Some(state), started: cx.clock.now() }))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        let state = self.lock();
        let left = state.parent.as_ref();
        let next = match (from, left) {
            (None, _) => state.events.len() as u64,
            (Some(from), _) if from.branch == state.branch => from.offset,
            // What lies behind was undone.
            (Some(from), Some(left)) if from.branch == left.branch => from.offset.min(left.offset),
            (Some(from), _) => return Err(gap(&format!("the branch of {from} went on elsewhere"))),
        };
        let is_new_branch = from.is_some_and(|from| from.branch != state.branch);
        if next < state.kept_from || next > state.events.len() as u64 {
            return Err(gap("it is not kept so far"));
        }
        drop(state);
        Ok(Box::new(Reader { source: self.clone(), next, is_new_branch }))
    }

    async fn restore(
        &self,
        _cx: &Context,
        _request: &RestoreRequest,
        _snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Err(SourceError::new(
            SourceErrorKind::Unsupported,
            "a scripted log is compared, not restored",
        ))
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(SourceError::new(SourceErrorKind::Unsupported, "a scripted log has no digest"))
    }
}

fn gap(why: &str) -> SourceError {
    SourceError::new(SourceErrorKind::LogGap, why)
}

/// The state as one file.
struct Base {
    at: Position,
    state: Option<Vec<u8>>,
    started: Timestamp,
}

#[async_trait]
impl BackupReader for Base {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let Some(state) = self.state.take() else { return Ok(None) };
        let path = EntryPath::new("/scripted/state").ok_or_else(|| gap("the path is wrong"))?;
        let stream = futures::stream::iter([Ok(Bytes::from(state))]);
        Ok(Some(Item::Entry(Entry {
            path,
            metadata: Metadata::stream(self.started),
            content: Content::Stream(Box::pin(stream)),
            chunking: Chunking::ContentDefined,
        })))
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        Ok(Checkpoint {
            started: self.started,
            finished: self.started,
            position: Some(self.at.to_string()),
            log: Some(LogStart::new(self.at.offset, self.at)),
        })
    }

    async fn abort(self: Box<Self>) {}
}

struct Reader {
    source: ScriptedLog,
    next: u64,
    is_new_branch: bool,
}

impl Reader {
    fn announcement(&self, state: &State) -> Option<LogSegment> {
        let parent =
            state.parent.clone().filter(|parent| state.announces && self.next == parent.offset);
        let parent = parent.filter(|_| self.is_new_branch);
        let path = EntryPath::new(format!("/scripted/log/{}.history", state.branch))?;
        let (from, to) = (self.next, self.next);
        let data = Bytes::from_static(b"a branch");
        parent.map(|parent| LogSegment {
            branch: state.branch.clone(),
            parent: Some(parent),
            from,
            to,
            ticks: Vec::new(),
            path,
            at: 0,
            scope: None,
            data,
        })
    }

    /// The next segment, if something has happened.
    fn try_next(&mut self) -> SourceResult<Option<LogSegment>> {
        let mut state = self.source.lock();
        if self.next < state.kept_from {
            return Err(gap("the source has forgotten what comes next"));
        }
        if let Some(announcement) = self.announcement(&state) {
            self.is_new_branch = false;
            return Ok(Some(announcement));
        }
        let Some(at) = usize::try_from(self.next).ok().filter(|at| *at < state.events.len()) else {
            return Ok(None);
        };
        match &mut state.allowed {
            Some(0) => {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    "the connection is lost",
                ));
            }
            Some(allowed) => *allowed -= 1,
            None => {}
        }
        let event = state.events[at].clone();
        let parent = state.parent.clone().filter(|_| self.is_new_branch);
        let before_fork = parent.clone().filter(|parent| self.next < parent.offset);
        let branch = before_fork
            .as_ref()
            .map_or_else(|| state.branch.clone(), |parent| parent.branch.clone());
        let parent = if before_fork.is_none() { parent } else { None };
        self.is_new_branch &= parent.is_none();
        let first = self.next / PER_FILE * PER_FILE;
        let start = usize::try_from(first).unwrap_or(usize::MAX).min(at);
        let before: usize = state.events[start..at].iter().map(|event| event.data.len() + 4).sum();
        let path = EntryPath::new(format!("/scripted/log/{branch}-{first:08}"))
            .ok_or_else(|| gap("the path is wrong"))?;
        let segment = LogSegment {
            branch,
            parent,
            from: self.next,
            to: self.next + 1,
            ticks: vec![Tick { offset: self.next + 1, time: event.time }],
            path,
            at: before as u64,
            scope: None,
            data: encode(&event.data).into(),
        };
        self.next += 1;
        Ok(Some(segment))
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        let shared = Arc::clone(&self.source.0);
        loop {
            let changed = shared.changed.notified();
            if let Some(segment) = self.try_next()? {
                return Ok(segment);
            }
            changed.await;
        }
    }

    fn vouched_for(&self) -> Option<Watermark> {
        let state = self.source.lock();
        let at = Some(state.end()).filter(|end| !self.is_new_branch && end.offset == self.next)?;
        state.vouched.map(|time| Watermark::new(at, time))
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        let mut state = self.source.lock();
        let later = state
            .acknowledged
            .as_ref()
            .is_none_or(|known| known.branch != position.branch || known < position);
        if later {
            state.acknowledged = Some(position.clone());
        }
        Ok(())
    }
}

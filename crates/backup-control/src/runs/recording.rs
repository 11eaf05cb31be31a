//! A run that is being recorded.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::event::{Event, Events, Progress, Reporter, Stage};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Evidence, Log, Run, RunId, StageTime, State, What};
use crate::catalog::{BEAT, Error, Result, SharedCatalog};
use crate::words;

/// Stages that are remembered of one run: more than any run has.
const MAX_STAGES: usize = 64;

/// A run that is being recorded. Dropping it without [`Self::end`] leaves a run whose process has
/// died.
#[derive(Debug)]
pub struct Recording {
    catalog: SharedCatalog,
    recorder: Arc<Recorder>,
    _beating: AbortOnDropHandle<()>,
}

/// Listens to the events of a run.
struct Recorder {
    clock: SharedClock,
    next: Events,
    seen: Mutex<Seen>,
    states: watch::Sender<Run>,
}

struct Seen {
    run: Run,
    log: Log,
    stages: Vec<(Stage, Timestamp)>,
    /// The first message that could not be kept.
    trouble: Option<std::io::Error>,
}

impl Recording {
    /// Begins to record a run in `catalog`, whose directory is `dir`.
    ///
    /// # Errors
    /// Those of the catalog, and of the file with the messages.
    pub async fn begin(dir: &Path, catalog: SharedCatalog, run: Run, cx: &Context) -> Result<Self> {
        let mut log =
            Log::begin(dir, &run.id).map_err(|error| Error::Place(dir.to_path_buf(), error))?;
        let title = format!(
            "{}: {}, repository {}",
            match run.what {
                What::Group => format!("group {}", run.job),
                what => format!("{} of job {}", what.as_str(), run.job),
            },
            run.evidence.subject,
            run.repository
        );
        log.add(cx.clock.now(), &title).map_err(|error| Error::Place(dir.to_path_buf(), error))?;
        catalog.add(&run).await?;
        let (states, changes) = watch::channel(run.clone());
        tokio::spawn(follow(Arc::clone(&catalog), changes));
        let beating =
            AbortOnDropHandle::new(tokio::spawn(beat(Arc::clone(&catalog), run.id.clone())));
        let seen = Mutex::new(Seen { run, log, stages: Vec::new(), trouble: None });
        let recorder =
            Recorder { clock: Arc::clone(&cx.clock), next: cx.events.clone(), seen, states };
        Ok(Self { catalog, recorder: Arc::new(recorder), _beating: beating })
    }

    /// The name of the run.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.recorder.seen().run.id.clone()
    }

    /// Events that are recorded, and passed on to where they went before.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::to(Arc::clone(&self.recorder) as _)
    }

    /// Ends the run in a state, with what came of it.
    ///
    /// # Errors
    /// Those of the catalog, and of the file with the messages.
    pub async fn end(self, state: State, change: impl FnOnce(&mut Evidence)) -> Result<Run> {
        let now = self.recorder.clock.now();
        let (run, kept) = {
            let mut seen = self.recorder.seen();
            change(&mut seen.run.evidence);
            seen.run.state = state;
            seen.run.finished = Some(now);
            let last = last_words(&seen.run);
            let kept = match seen.trouble.take() {
                Some(error) => Err(error),
                None => seen.log.end(now, &last),
            };
            (seen.run.clone(), kept)
        };
        if let Err(error) = self.catalog.update(&run).await {
            // Whoever opens the catalog next tells it.
            _ = self.recorder.seen().log.keep(&run);
            return Err(error);
        }
        kept.map_err(|error| Error::Place(format!("log of run {}", run.id).into(), error))?;
        Ok(run)
    }
}

#[cfg(test)]
impl Recording {
    /// As if the process died between the last message and the catalog.
    pub(super) fn end_unknown(self, words: &str) {
        self.recorder.seen().log.end(Timestamp::UNIX_EPOCH, words).unwrap();
    }
}

/// How a log ends.
fn last_words(run: &Run) -> String {
    let mut text = run.state.as_str().to_owned();
    if let Some(failure) = &run.evidence.failure {
        text.push_str(&format!(": {}", failure.message));
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
    }
    text
}

/// Keeps the catalog up to date while a run goes on. What cannot be written now is written at the
/// end, or fails there.
async fn follow(catalog: SharedCatalog, mut changes: watch::Receiver<Run>) {
    while changes.changed().await.is_ok() {
        let run = changes.borrow_and_update().clone();
        _ = catalog.update(&run).await;
    }
}

/// Shows others that a run goes on, if it is seen by others.
async fn beat(catalog: SharedCatalog, id: RunId) {
    while let Some(shared) = catalog.shared() {
        tokio::time::sleep(BEAT).await;
        // One that is away may be back the next time.
        _ = shared.beat(&id).await;
    }
}

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, event: &Event) {
        let now = self.clock.now();
        let mut seen = self.seen();
        match event {
            Event::StageStarted { stage } => seen.stages.push((*stage, now)),
            Event::StageFinished { stage, progress } => {
                seen.finish(*stage, progress, now);
                let reached = match (seen.run.what, stage) {
                    (What::Backup, Stage::Backup) => State::Captured,
                    (What::Backup, Stage::Commit) => State::Uploaded,
                    _ => return,
                };
                seen.run.state = reached;
                _ = self.states.send_replace(seen.run.clone());
            }
            Event::Warning(warning) if warning.path.is_empty() => {
                seen.add(now, &format!("warning: {}", warning.message));
            }
            Event::Warning(warning) => {
                seen.add(now, &format!("warning: {}: {}", warning.path, warning.message));
            }
            Event::SnapshotSaved { id } => {
                seen.add(now, &format!("snapshot {id} saved"));
                // Whatever comes behind it and fails: it is there.
                if seen.run.what == What::Backup {
                    seen.run.evidence.snapshot = Some(id.to_hex());
                    _ = self.states.send_replace(seen.run.clone());
                }
            }
            Event::Note { message } => seen.add(now, message),
            _ => {}
        }
    }
}

impl Seen {
    fn finish(&mut self, stage: Stage, progress: &Progress, now: Timestamp) {
        let Some(at) = self.stages.iter().position(|(known, _)| *known == stage) else { return };
        let (_, started) = self.stages.remove(at);
        let millis = u64::try_from(now.duration_since(started).as_millis()).unwrap_or(0);
        let name = name(stage);
        let (items, bytes) = (progress.done_items, progress.done_bytes);
        self.add(
            now,
            &format!("{name}: {items} done, {}, {millis} ms", words::count(bytes, "byte", "bytes")),
        );
        if self.run.evidence.stages.len() < MAX_STAGES {
            self.run.evidence.stages.push(StageTime { stage: name, millis, bytes, items });
        }
    }

    fn add(&mut self, now: Timestamp, message: &str) {
        if let Err(error) = self.log.add(now, message) {
            self.trouble.get_or_insert(error);
        }
    }
}

/// The name of a stage, as events in JSON have it.
fn name(stage: Stage) -> String {
    let json = serde_json::to_value(stage).ok();
    json.as_ref().and_then(serde_json::Value::as_str).unwrap_or("other").to_owned()
}

impl Reporter for Recorder {
    fn report(&self, event: &Event) {
        self.record(event);
        self.next.emit(event);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("run", &self.seen().run.id).finish_non_exhaustive()
    }
}

//! The scheduler: runs the tasks of a configuration, each as a process of the program `backup` of
//! its own.
//!
//! One task at a time of every job, records of runs, audit, alerts, hooks and retention are
//! therefore as they are by hand, and a task that hangs or dies takes nothing with it.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Scheduler`]: the handle, and how it is built |
//! | `core/` | what is to be begun and stopped when, without doing it: no clock, no process, no file |
//! | `items.rs` | pieces of work that wait or go on |
//! | `turns.rs` | which of those that wait goes next: priorities and limits |
//! | `follow.rs` | what goes on all the time: when it is begun again |
//! | `orders.rs` | from work to the arguments of the program and what it uses |
//! | `memory.rs` | what survives a restart |
//! | `child.rs` | one process: reading what it says, stopping it |
//! | `exit.rs` | processes that report their final error and do not exit |
//! | `drive.rs` | does what the core says |
//! | `tests/` | months by a clock of their own; the program itself |
//!
//! ```text
//!  Plan ─▶ Core ── tick(now) ─▶ begin, ask to stop, kill ─▶ child ─▶ over ─▶ Core
//!            ▲ └── what survives ─▶ memory (before anything is begun)
//!            └ Engine: start, cancel, pause (the API)
//! ```

mod child;
mod core;
mod drive;
mod exit;
mod follow;
mod items;
mod memory;
mod orders;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backup_control::config::{LastGood, LoadedConfig};
use backup_control::environment::Environment;
use backup_control::machine::Machine;
use backup_control::schedule::Plan;
use backup_control::zone::{self, Zone};
use backup_core::clock::{SharedClock, SystemClock};
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;

pub(crate) use self::core::SCHEDULE;
use self::core::{Core, Now};
use self::exit::ExitLimits;
use self::orders::Orders;
pub(crate) use self::orders::restore as restore_words;
use crate::engine::{Ended, Engine, Health, Refusal, Running, Task, TaskEvent, Work};
use crate::journal::{Journal, Silence};

/// Events that wait for a listener who is slow.
const EVENTS: usize = 1024;
/// How long a process may take to come to a safe point after it was asked to stop.
const GRACE: Duration = Duration::from_secs(300);
/// The trouble that there is no copy of the configuration for tasks.
const COPY: &str = "copy of the configuration";

/// Why a scheduler cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one has this state directory.
    #[error("another scheduler uses the state directory {}", .0.display())]
    Taken(PathBuf),
    /// There is no place for its state.
    #[error("no directory for the state of the scheduler is known")]
    NoPlace,
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}: {}", .0.display(), .1)]
    State(PathBuf, std::io::Error),
    /// There is no program that could do anything.
    #[error("there is no program {}", .0.display())]
    NoProgram(PathBuf),
    /// The time zone of the machine is not understood: tasks would start at wrong hours.
    #[error("{0}")]
    Zone(backup_control::error::Error),
}

impl StartError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Taken(_) => {
                "stop the other scheduler, or set BACKUP_STATE_DIR to another directory"
            }
            Self::State(_, error) if error.kind() == std::io::ErrorKind::Unsupported => {
                "use a newer version of this program, or set BACKUP_STATE_DIR to another directory"
            }
            Self::NoPlace | Self::State(..) => {
                "set BACKUP_STATE_DIR to a directory that this user may write to"
            }
            Self::Zone(error) => error.hint().unwrap_or("set TZ to the name of a time zone"),
            Self::NoProgram(_) => "install `backup` beside `backupd`, or name it in BACKUP_PROGRAM",
        }
    }
}

/// How a scheduler is to be.
#[derive(Debug)]
pub struct Builder {
    loaded: LoadedConfig,
    program: PathBuf,
    state_dir: Option<PathBuf>,
    env: Environment,
    clock: SharedClock,
    journal: Arc<dyn Journal>,
    grace: Duration,
    exit_limits: ExitLimits,
}

impl Builder {
    /// The environment of the processes. Default: that of this one.
    #[must_use]
    pub fn environment(mut self, env: Environment) -> Self {
        self.env = env;
        self
    }

    /// Where its state is kept, and that of the processes. Default: as `backup` has it.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// Who is told what happens. Default: nobody.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = journal;
        self
    }

    /// The clock that schedules go by. Default: that of the system.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a process may take to come to a safe point after it was asked to stop. Default:
    /// five minutes.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Time that a process has to exit after its final error, until its run counts as ended, and
    /// the further time until the process is killed. Default: 30 seconds and five minutes.
    #[must_use]
    pub fn exit_limits(mut self, grace: Duration, kill: Duration) -> Self {
        self.exit_limits = ExitLimits { grace, kill };
        self
    }

    /// Begins. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(self) -> Result<Scheduler, StartError> {
        if !self.program.is_file() {
            return Err(StartError::NoProgram(self.program));
        }
        let machine = Machine::in_zone(zone::local(&self.env).map_err(StartError::Zone)?);
        let base = self
            .state_dir
            .or_else(|| backup_control::state::dir(&self.env))
            .ok_or(StartError::NoPlace)?;
        backup_control::state::tighten(&base, &self.env)
            .map_err(|error| StartError::State(base.clone(), error))?;
        let store = memory::Store::open(&base)?;
        let (memory, damaged) = store.read()?;
        let plan = Plan::new(&self.loaded.config, &machine);
        let last_good = LastGood::in_state(&base);
        let kept = last_good.keep(&self.loaded);
        let orders = orders(self.loaded, &last_good, kept.is_ok());
        let steady = std::time::Instant::now();
        let now = Now { wall: self.clock.now(), steady: Duration::ZERO };
        let mut core = Core::new(plan, orders, memory, self.grace, now);
        if let Some(aside) = damaged {
            core.damaged_memory(&aside, now);
        }
        core.trouble(COPY, kept.err().as_ref().map(not_kept));
        let (events, _) = broadcast::channel(EVENTS);
        let (over, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            wake: Notify::new(),
            events,
            over,
            journal: self.journal,
            clock: self.clock,
            steady,
            machine,
            program: self.program,
            env: self.env,
            state_dir: base,
            last_good,
            exit_limits: self.exit_limits,
        });
        let driver = tokio::spawn(drive::run(Arc::clone(&shared), store));
        Ok(Scheduler { shared, driver: Mutex::new(Some(driver)) })
    }
}

/// What all parts of a running scheduler share.
struct Shared {
    core: Mutex<Core>,
    wake: Notify,
    events: broadcast::Sender<TaskEvent>,
    /// Whether the driver has ended.
    over: watch::Sender<bool>,
    journal: Arc<dyn Journal>,
    clock: SharedClock,
    steady: std::time::Instant,
    machine: Machine,
    program: PathBuf,
    env: Environment,
    state_dir: PathBuf,
    last_good: LastGood,
    exit_limits: ExitLimits,
}

/// Tasks get the copy of the configuration, which no later mistake in the file breaks; the file
/// itself if there is no copy of it.
fn orders(loaded: LoadedConfig, last_good: &LastGood, is_kept: bool) -> Orders {
    let file = if is_kept { last_good.path().to_path_buf() } else { loaded.file };
    Orders::new(loaded.config, file)
}

fn not_kept(error: &std::io::Error) -> String {
    format!("cannot store a copy of the configuration: {error}")
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), steady: self.steady.elapsed() }
    }

    /// Tells whoever listens what the core had to say. No lock is held meanwhile.
    fn tell(&self) {
        let (events, lines) = self.core().take_said();
        for event in events {
            // Nobody has to listen.
            _ = self.events.send(event);
        }
        lines.iter().for_each(|line| self.journal.line(line));
    }
}

/// A scheduler that runs. Dropping it kills what it has begun; [`Self::shutdown`] lets it come to a
/// safe point.
pub struct Scheduler {
    shared: Arc<Shared>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("state_dir", &self.shared.state_dir)
            .finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler for a configuration, whose tasks are done by this program `backup`.
    #[must_use]
    pub fn builder(loaded: LoadedConfig, program: impl Into<PathBuf>) -> Builder {
        Builder {
            loaded,
            program: program.into(),
            state_dir: None,
            env: Environment::from_process(),
            clock: Arc::new(SystemClock),
            journal: Arc::new(Silence),
            grace: GRACE,
            exit_limits: ExitLimits::default(),
        }
    }

    /// Goes on with another configuration: what goes on comes to its end, logs are followed anew.
    pub fn reload(&self, loaded: LoadedConfig) {
        let plan = Plan::new(&loaded.config, &self.shared.machine);
        let is_kept = self.keep(&loaded);
        let orders = orders(loaded, &self.shared.last_good, is_kept);
        self.shared.core().replace(plan, orders, self.shared.now());
        self.shared.wake.notify_one();
    }

    /// The time zone of the schedules.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.shared.core().zone().clone()
    }

    /// Stores a valid configuration for tasks that start from now on; the schedules stay. Returns
    /// false if that is not possible.
    pub fn keep(&self, loaded: &LoadedConfig) -> bool {
        let kept = self.shared.last_good.keep(loaded);
        let is_kept = kept.is_ok();
        self.trouble(COPY, kept.err().as_ref().map(not_kept));
        is_kept
    }

    /// The last valid configuration, as tasks get it.
    #[must_use]
    pub fn last_good(&self) -> &LastGood {
        &self.shared.last_good
    }

    /// Notes that something is wrong with `what`, or no more, for [`Engine::health`].
    pub fn trouble(&self, what: &str, trouble: Option<String>) {
        self.shared.core().trouble(what, trouble);
    }

    /// Begins nothing any more, asks what goes on to stop, and waits until it has.
    pub async fn shutdown(&self) {
        self.shared.core().stop(self.shared.now());
        self.shared.wake.notify_one();
        let mut over = self.shared.over.subscribe();
        _ = over.wait_for(|over| *over).await;
    }

    /// Kills what goes on, during [`Self::shutdown`].
    pub fn kill(&self) {
        self.shared.core().hurry();
        self.shared.wake.notify_one();
    }

    /// Where its state is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.shared.state_dir
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take() {
            driver.abort();
        }
    }
}

impl Engine for Scheduler {
    fn tasks(&self) -> Vec<Task> {
        self.shared.core().tasks()
    }

    fn running(&self) -> Vec<Running> {
        self.shared.core().running()
    }

    fn ended(&self) -> Vec<Ended> {
        self.shared.core().ended()
    }

    fn start(&self, work: Work, by: &str) -> Result<String, Refusal> {
        let started = self.shared.core().start(work, by, self.shared.now());
        self.shared.wake.notify_one();
        started
    }

    fn cancel(&self, id: &str) -> Result<(), Refusal> {
        let cancelled = self.shared.core().cancel(id, self.shared.now());
        self.shared.wake.notify_one();
        cancelled
    }

    fn pause(&self, task: Option<&str>, paused: bool) -> Result<(), Refusal> {
        let done = self.shared.core().pause(task, paused, self.shared.now());
        self.shared.wake.notify_one();
        done
    }

    fn events(&self) -> broadcast::Receiver<TaskEvent> {
        self.shared.events.subscribe()
    }

    fn health(&self) -> Health {
        self.shared.core().health()
    }
}

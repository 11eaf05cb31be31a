//! `backupd run`: a scheduler, the API, signals, and the manager of services.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_control::alive::{self, Alive};
use backup_control::config::Broken;
use backup_control::environment::Environment;
use backup_control::words;
use backup_core::clock::{Clock, SharedClock, SystemClock};
use clap::ValueEnum;
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::answering::Answering;
use crate::clock::Accelerated;
use crate::configuration::{Change, Configuration};
use crate::engine::{CONFIGURATION, Engine, Work};
use crate::journal::{Form, Journal, Level, Line, Written, traced};
use crate::scheduler::{SCHEDULE, Scheduler};

/// The trouble that there is no sign of life.
const SIGN_OF_LIFE: &str = "sign of life";
/// How often the manager of services is told that all is well, if it does not say how often it
/// wants to be.
const STILL_ALIVE: Duration = Duration::from_secs(10);
/// Interval of looks at the configuration file.
const LOOK_AT_FILE: Duration = Duration::from_secs(1);

/// Options of `backupd run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file [default: BACKUP_CONFIG, ./backup.toml, ~/.config/backup/backup.toml,
    /// /etc/backup/backup.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Format of the log messages
    #[arg(long, value_name = "FORM", default_value = "human")]
    log: LogArg,
    /// Only for tests: speed of the clock of schedules, as a factor
    #[arg(long, value_name = "FACTOR", hide = true, requires = "accelerate_from", value_parser = clap::value_parser!(i32).range(1..=86_400))]
    accelerate: Option<i32>,
    /// Only for tests: start time of this clock
    #[arg(long, value_name = "TIME", hide = true)]
    accelerate_from: Option<Timestamp>,
}

/// Format of the log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogArg {
    /// Text lines; with priorities if the journal of systemd reads them
    Human,
    /// One JSON object per line
    Json,
}

/// Why the daemon cannot begin.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { message: message.into(), hint: hint.map(str::to_owned) }
    }
}

impl From<backup_control::error::Error> for Failure {
    fn from(error: backup_control::error::Error) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

/// Runs until it is told to stop.
pub(crate) fn run(args: &Args, env: &Environment) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("cannot start: {error}"), None))?;
    runtime.block_on(serve(args, env))
}

async fn serve(args: &Args, env: &Environment) -> Result<(), Failure> {
    let state = backup_control::state::dir(env);
    let (configuration, loaded) =
        Configuration::begin(args.config.as_deref(), env, state.as_deref())?;
    let said = Said { clock: clock(args), journal: journal(args, env) };
    let mut signals = Signals::new()
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}"), None))?;
    traced::install(Arc::clone(&said.journal), Arc::clone(&said.clock));
    let program = program(env)?;
    let builder = Scheduler::builder(loaded.clone(), program.clone()).environment(env.clone());
    let started = builder.clock(Arc::clone(&said.clock)).journal(Arc::clone(&said.journal)).start();
    let scheduler =
        Arc::new(started.map_err(|error| Failure::new(error.to_string(), Some(error.hint())))?);
    let file = loaded.file.display().to_string();
    let begun = Answering::begin(loaded, &program, env, Arc::clone(&said.clock), &scheduler).await;
    let (answering, listening) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            scheduler.shutdown().await;
            return Err(failure);
        }
    };
    let tasks = words::count(scheduler.tasks().len() as u64, "task", "tasks");
    let besides = listening.address.map(|address| format!(" and {address}")).unwrap_or_default();
    let listens = format!("listening on {}{besides}", listening.socket.display());
    said.say(Level::Info, format!("{} is ready: {tasks} of {file}, {listens}", version()));
    said.say(Level::Info, format!("schedules are in {}", scheduler.zone()));
    notify(&[NotifyState::Ready, NotifyState::Status(&tasks)]);
    let daemon = Daemon { scheduler, answering, said };
    daemon.watch(configuration, &mut signals).await;
    daemon.end(&mut signals).await;
    Ok(())
}

/// What runs.
struct Daemon {
    scheduler: Arc<Scheduler>,
    answering: Answering,
    said: Said,
}

impl Daemon {
    /// Until somebody wants it to stop.
    async fn watch(&self, mut configuration: Configuration, signals: &mut Signals) {
        let mut told: Option<Instant> = None;
        self.begun(&mut configuration);
        let mut look = tokio::time::interval(LOOK_AT_FILE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pet = tokio::time::interval(still_alive().min(alive::EVERY));
        pet.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_alive = self.scheduler.health().is_alive(self.said.clock.now());
            if is_alive && told.is_none_or(|told| told.elapsed() >= alive::EVERY) {
                told = Some(Instant::now());
                self.show_life();
            }
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hang_up.recv() => self.reload(&mut configuration),
                _ = look.tick() => if let Some(change) = configuration.look() {
                    self.apply(change);
                },
                _ = pet.tick() => {
                    if is_alive {
                        notify(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
    }

    fn show_life(&self) {
        // By the clock of the system, whatever schedules go by: whoever looks for it has no other.
        let at = SystemClock.now();
        let alive =
            Alive { pid: std::process::id(), at, version: env!("CARGO_PKG_VERSION").to_owned() };
        let trouble = alive.write(self.scheduler.state_dir()).err();
        let trouble =
            trouble.map(|error| format!("cannot write the beacon to the state directory: {error}"));
        self.scheduler.trouble(SIGN_OF_LIFE, trouble);
    }

    /// Reports that the file is broken at the start.
    fn begun(&self, configuration: &mut Configuration) {
        match configuration.begun() {
            Ok(None) => {}
            Ok(Some(broken)) => self.broke(&broken.clone()),
            Err(error) => {
                let text = format!("cannot note that the configuration is valid: {error}");
                self.said.say(Level::Warning, text);
            }
        }
    }

    fn reload(&self, configuration: &mut Configuration) {
        let mut began = vec![NotifyState::Reloading];
        began.extend(NotifyState::monotonic_usec_now());
        notify(&began);
        self.apply(configuration.reload());
        notify(&[NotifyState::Ready]);
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Edited(loaded) => _ = self.scheduler.keep(&loaded),
            Change::Broke(broken) => self.broke(&broken),
            Change::Mended(loaded) => {
                let was_broken = self.scheduler.health().troubles.contains_key(CONFIGURATION);
                self.answering.reload(loaded.clone());
                self.scheduler.reload(loaded);
                self.scheduler.trouble(CONFIGURATION, None);
                let tasks = words::count(self.scheduler.tasks().len() as u64, "task", "tasks");
                self.said.say(Level::Info, format!("configuration reloaded: {tasks}"));
                let zone = self.scheduler.zone();
                self.said.say(Level::Info, format!("schedules are in {zone}"));
                if was_broken {
                    self.evaluate_alerts();
                }
            }
        }
    }

    fn broke(&self, broken: &Broken) {
        let hint = broken.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let text = format!(
            "configuration broken since {:.0}, the last valid one stays in force: {}{hint}",
            broken.since, broken.error
        );
        self.said.say(Level::Error, text.clone());
        self.scheduler.trouble(CONFIGURATION, Some(text));
        self.evaluate_alerts();
    }

    /// Notifies at once, and not with the next scheduled evaluation.
    fn evaluate_alerts(&self) {
        if self.scheduler.tasks().iter().any(|task| task.work == Work::Alerts) {
            // Refused if they are being evaluated: the next evaluation is soon.
            _ = self.scheduler.start(Work::Alerts, SCHEDULE);
        }
    }

    /// Comes to a safe point, and answers until then.
    async fn end(self, signals: &mut Signals) {
        notify(&[NotifyState::Stopping]);
        self.said.say(
            Level::Info,
            "stopping: waiting until running operations reach a safe point".to_owned(),
        );
        let mut over = std::pin::pin!(self.scheduler.shutdown());
        loop {
            tokio::select! {
                () = &mut over => break,
                _ = signals.terminate.recv() => self.scheduler.kill(),
                _ = signals.interrupt.recv() => self.scheduler.kill(),
                // It is not dead because somebody needs long to come to a safe point.
                () = tokio::time::sleep(still_alive()) => notify(&[NotifyState::Watchdog]),
            }
        }
        self.answering.end().await;
        // Nobody shall miss a daemon that was told to stop.
        if let Err(error) = Alive::remove(self.scheduler.state_dir()) {
            self.said.say(Level::Warning, format!("cannot remove the beacon: {error}"));
        }
        self.said.say(Level::Info, "stopped".to_owned());
    }
}

/// The program that does everything.
pub(crate) fn program(env: &Environment) -> Result<PathBuf, Failure> {
    if let Some(program) = env.get("BACKUP_PROGRAM") {
        return Ok(PathBuf::from(program));
    }
    let own = std::env::current_exe();
    let own = own.map_err(|error| {
        Failure::new(format!("cannot determine the path of this program: {error}"), None)
    })?;
    Ok(own.parent().unwrap_or(Path::new("/")).join("backup"))
}

fn clock(args: &Args) -> SharedClock {
    match (args.accelerate, args.accelerate_from) {
        (Some(factor), Some(from)) => Arc::new(Accelerated { factor, from }),
        _ => Arc::new(SystemClock),
    }
}

fn journal(args: &Args, env: &Environment) -> Arc<dyn Journal> {
    let form = match args.log {
        LogArg::Json => Form::Json,
        LogArg::Human if env.get("JOURNAL_STREAM").is_some() => Form::Journald,
        LogArg::Human => Form::Human,
    };
    Arc::new(Written::new(form, std::io::stderr()))
}

fn version() -> String {
    format!("backupd {}", env!("CARGO_PKG_VERSION"))
}

/// How often the manager of services wants to hear something: twice as often as it would act.
fn still_alive() -> Duration {
    sd_notify::watchdog_enabled().map_or(STILL_ALIVE, |limit| limit / 2)
}

/// Tells the manager of services, if there is one.
fn notify(states: &[NotifyState<'_>]) {
    _ = sd_notify::notify(states);
}

/// Where lines of the daemon itself go.
struct Said {
    clock: SharedClock,
    journal: Arc<dyn Journal>,
}

impl Said {
    fn say(&self, level: Level, message: String) {
        self.journal.line(&Line { time: self.clock.now(), level, task: None, id: None, message });
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

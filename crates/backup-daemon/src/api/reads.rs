//! What is known without the engine: the configuration, the catalog, alerts, the audit log, and the
//! program `backup`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use backup_control::alerts::{Facts, Ledger, Scope};
use backup_control::audit::Audit;
use backup_control::catalog::{self, Home, SharedCatalog};
use backup_control::config::LoadedConfig;
use backup_control::environment::Environment;
use backup_control::machine::Machine;
use backup_control::moment::Moment;
use backup_control::zone::Zones;
use backup_core::clock::SharedClock;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::sync::watch;

use super::problem::{Answer, Problem};
use super::program::{Program, Spoken, Unheard};

/// What is known without the engine.
#[derive(Debug, Clone)]
pub struct Reads {
    /// The configuration as it is now: it may be loaded anew.
    pub config: watch::Receiver<Arc<LoadedConfig>>,
    /// The environment of the daemon.
    pub env: Environment,
    /// The machine, and the user of the daemon.
    pub machine: Machine,
    /// The state directory.
    pub state: PathBuf,
    /// What is remembered of runs.
    pub catalog: SharedCatalog,
    /// The time.
    pub clock: SharedClock,
    /// The program `backup`.
    pub program: Arc<dyn Program>,
}

impl Reads {
    /// For the state directory `state`. The catalog is the one of the configuration; one of a
    /// server that is away is not waited for, and another one takes a restart.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn open(
        config: watch::Receiver<Arc<LoadedConfig>>,
        env: Environment,
        state: PathBuf,
        clock: SharedClock,
        program: Arc<dyn Program>,
    ) -> catalog::Result<Self> {
        let home = Home::of(Some(&config.borrow().config), &env, &state)
            .map_err(catalog::Error::Unclear)?;
        let opened = catalog::open(&home, clock.now()).await?;
        if let Some(aside) = opened.put_aside {
            tracing::warn!("the damaged catalog was moved to {}", aside.display());
        }
        Ok(Self {
            config,
            machine: Machine::local(&env),
            env,
            state,
            catalog: opened.catalog,
            clock,
            program,
        })
    }

    pub(crate) fn config(&self) -> Arc<LoadedConfig> {
        Arc::clone(&self.config.borrow())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time zone of dates in input and output.
    pub(super) fn zone(&self) -> TimeZone {
        Zones::new(Some(&self.config().config), &self.machine.zone).dates.rules
    }

    /// The first moment of what somebody wrote.
    pub(super) fn moment(&self, text: &str) -> Answer<Timestamp> {
        Ok(match Moment::parse(text, self.now(), &self.zone())? {
            Moment::Instant(instant) => instant,
            Moment::Day(day) => day.start,
        })
    }

    /// The last moment of what somebody wrote: a day means its end.
    pub(super) fn end_of(&self, text: &str) -> Answer<Timestamp> {
        Ok(Moment::parse(text, self.now(), &self.zone())?.end())
    }

    pub(crate) fn audit(&self) -> Audit {
        Audit::in_state(&self.state).shipped(&self.env)
    }

    /// What this machine remembers of jobs and repositories.
    pub(crate) async fn facts(&self) -> catalog::Result<Facts> {
        let loaded = self.config();
        let (scope, host) = (Scope::of(&loaded), &self.machine.host);
        Facts::remembered(&loaded.config, &scope, &*self.catalog, self.audit(), host).await
    }

    /// The ledger of alerts, for as long as `work` takes.
    pub(crate) async fn ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(Ledger) -> Result<T, backup_control::alerts::Error> + Send + 'static,
    ) -> Answer<T> {
        let (dir, scope, now) = (self.state.clone(), Scope::of(&self.config()), self.now());
        let done =
            tokio::task::spawn_blocking(move || Ledger::open(&dir, scope, now).and_then(work))
                .await;
        done.map_err(|error| Problem::of_thread(&error))?.map_err(|error| Problem::failed(&error))
    }

    /// Asks the program for an object.
    pub(super) async fn object(&self, words: Vec<String>, by: &str) -> Answer<Value> {
        Ok(self.ask(words, by).await?.object()?)
    }

    /// Asks the program.
    pub(super) async fn ask(&self, words: Vec<String>, by: &str) -> Answer<Spoken> {
        Ok(self.program.ask(&words, by).await?)
    }
}

impl From<Unheard> for Problem {
    fn from(unheard: Unheard) -> Self {
        let error = backup_control::words::chain(&unheard);
        match unheard {
            Unheard::Missing(..) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error).hint(
                "check that the program `backup` is installed beside `backupd`, or named by \
                 BACKUP_PROGRAM",
            ),
            Unheard::Late(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, error)
                .hint("check that the repository is reachable"),
            Unheard::Long => Self::wrong(error).hint("request less, with `job`, `days` or `limit`"),
            Unheard::Busy => Self::later(error, 5),
            Unheard::Failed { hint, code, is_unknown, .. } => {
                let status = match code {
                    _ if is_unknown => StatusCode::NOT_FOUND,
                    Some(2) => StatusCode::BAD_REQUEST,
                    Some(5 | 11) => StatusCode::CONFLICT,
                    _ => StatusCode::BAD_GATEWAY,
                };
                let problem = Self::new(status, error);
                match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
        }
    }
}

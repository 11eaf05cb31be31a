//! One execution of a job at a time, among machines. What they share decides: a catalog, else the
//! repository.
//!
//! Both keep the right for a while only, by a clock of their own, so that a machine that has gone
//! blocks nobody for ever; and both know a process of this machine that has died at once, by what
//! it left in its [`Flight`](super::Flight). Two backups of a job at once do no harm: where neither
//! can be asked, a backup goes on without it.

use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::event::{Events, WarningKind};
use backup_core::repository::{KeptLease, Lease, LeaseOptions, Repository};
use tokio_util::task::AbortOnDropHandle;

use super::flight::{busy, name};
use super::{Holder, Run, RunId};
use crate::catalog::{self, FLIGHT, SharedCatalog};
use crate::error::Result;

/// How long the right lasts in a repository, unless it is renewed; others wait twice as long.
const PERIOD: Duration = Duration::from_secs(300);

/// What of the right to execute a job concerns other machines. It lasts until [`Agreed::end`];
/// dropped, it lasts a little longer.
#[derive(Debug)]
pub struct Agreed {
    way: Way,
    _watch: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Way {
    Catalog { catalog: SharedCatalog, key: String, run: RunId },
    Repository(KeptLease),
}

/// Whose right it is: what machines call the same is the same.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The run that is to execute the job.
    pub run: &'a Run,
    /// The repository.
    pub repository: &'a str,
    /// The source, with the name of the machine if each has its own.
    pub source: &'a str,
    /// Who may have it on this machine, and has died.
    pub before: &'a [Holder],
}

impl Agreed {
    /// By a catalog. None if it is of this machine alone; an error of the catalog inside if it
    /// cannot be asked.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if another machine executes the job: which, and since when.
    pub async fn by_catalog(
        catalog: &SharedCatalog,
        claim: Claim<'_>,
        events: &Events,
    ) -> Result<catalog::Result<Option<Self>>> {
        let Some(shared) = catalog.shared() else { return Ok(Ok(None)) };
        let key = name(claim.repository, claim.source, claim.run);
        let dead: Vec<String> = claim.before.iter().map(|holder| holder.run.clone()).collect();
        match shared.take_flight(&key, claim.run, &dead).await {
            Ok(None) => {}
            Ok(Some(holder)) => return Err(lasting(busy(Some(&holder), claim.run), FLIGHT).into()),
            Err(error) => return Ok(Err(error)),
        }
        let (events, job, run) = (events.clone(), claim.run.job.clone(), claim.run.id.clone());
        let way = Way::Catalog { catalog: Arc::clone(catalog), key: key.clone(), run: run.clone() };
        let catalog = Arc::clone(catalog);
        let keep = async move {
            loop {
                tokio::time::sleep(FLIGHT / 3).await;
                let kept = match catalog.shared() {
                    Some(shared) => shared.keep_flight(&key, &run).await,
                    None => return,
                };
                // One that is away may be back the next time.
                if let Ok(false) = kept {
                    return warn(&events, &job);
                }
            }
        };
        Ok(Ok(Some(Self { way, _watch: AbortOnDropHandle::new(tokio::spawn(keep)) })))
    }

    /// By the repository itself.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if another process executes the job: who, and since when; those of the
    /// sink.
    pub async fn by_repository(
        repository: &Repository,
        claim: Claim<'_>,
        cx: &Context,
    ) -> Result<Self> {
        // Its address may be another one on each machine.
        let lease = format!("run-{}", name("", claim.source, claim.run));
        let options = LeaseOptions {
            period: PERIOD,
            holder: Holder::of(claim.run).to_string(),
            dead: claim.before.iter().map(Holder::to_string).collect(),
            // Two at once do no harm.
            settle: Duration::from_secs(1),
            ..LeaseOptions::default()
        };
        let taken = match Lease::acquire(repository, &lease, &options, cx).await {
            Ok(taken) => taken.keep(),
            Err(error) if error.kind() == ErrorKind::Busy => {
                let holder = Lease::holder(repository, &lease).await?;
                let who = holder.unwrap_or_else(|| "another process".to_owned());
                let text = format!("job {} is already being run by {who}", claim.run.job);
                return Err(lasting(CoreError::new(ErrorKind::Busy, text), 2 * PERIOD).into());
            }
            Err(error) => return Err(error.into()),
        };
        let (lost, events, job) = (taken.lost().clone(), cx.events.clone(), claim.run.job.clone());
        let watch = tokio::spawn(async move {
            lost.cancelled().await;
            warn(&events, &job);
        });
        Ok(Self { way: Way::Repository(taken), _watch: AbortOnDropHandle::new(watch) })
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Why it could not be, in words; then others wait until it has expired.
    pub async fn end(self) -> Result<(), String> {
        let chain = |error: &dyn std::error::Error| crate::words::chain(error);
        match self.way {
            Way::Repository(lease) => lease.abandon().await.map_err(|error| chain(&error)),
            Way::Catalog { catalog, key, run } => match catalog.shared() {
                Some(shared) => shared.end_flight(&key, &run).await.map_err(|error| chain(&error)),
                None => Ok(()),
            },
        }
    }
}

fn lasting(error: CoreError, wait: Duration) -> CoreError {
    let seconds = wait.as_secs();
    error.with_hint(format!(
        "wait until that process has finished, or stop it; if its machine is down, its lock \
         expires within {seconds} seconds"
    ))
}

fn warn(events: &Events, job: &str) {
    let text = format!(
        "the lock of job {job} could not be renewed in time: another machine may have started the \
         job too"
    );
    events.warn(WarningKind::Other, "", text);
}

//! [`Right`]: the lock that a run of a job holds, on this machine and among machines.

use backup_control::jobs::Job;
use backup_control::runs::{Agreed, Claim, Flight, Run};
use backup_control::state;
use backup_core::repository::Repository;

use super::{Records, warn};
use crate::command_error::{CommandError, CommandResult};
use crate::human;
use crate::session::Session;

/// The right to execute a job.
#[derive(Debug)]
pub(crate) struct Right {
    flight: Option<Flight>,
    agreed: Option<Agreed>,
}

/// What is said where others cannot be asked.
const UNKNOWN: &str = "cannot determine whether another machine already runs the job";

impl Right {
    /// The right to execute the job of `run`. On this machine the system tells who has it; among
    /// machines a catalog that they share does, else [the repository](Self::in_repository). Whoever
    /// cannot be asked says so in a warning.
    pub(crate) async fn take(
        session: &Session,
        records: Option<&Records>,
        job: &Job,
        run: &Run,
    ) -> CommandResult<Self> {
        let mut right = Self { flight: flight(session, run)?, agreed: None };
        // What a shared catalog calls the same are several, if each machine has its own.
        if let Some(records) = records.filter(|_| !job.repository.is_of_machine()) {
            let source = job.key_among_machines(&run.host);
            match Agreed::by_catalog(
                &records.catalog,
                right.claim(run, &source),
                &session.cx.events,
            )
            .await?
            {
                Ok(taken) => right.agreed_on(taken),
                Err(error) => warn(session, UNKNOWN, &error.into()),
            }
        }
        Ok(right)
    }

    /// Agrees with others in the repository, unless that was done elsewhere; `open` opens it.
    pub(crate) async fn in_repository(
        &mut self,
        session: &Session,
        job: &Job,
        run: &Run,
        open: impl AsyncFnOnce() -> Option<Repository>,
    ) -> CommandResult<()> {
        if self.agreed.is_some() {
            return Ok(());
        }
        let Some(repository) = open().await else { return Ok(()) };
        let source = job.key_among_machines(&run.host);
        match Agreed::by_repository(&repository, self.claim(run, &source), &session.cx).await {
            Ok(taken) => self.agreed_on(Some(taken)),
            Err(error) => {
                let error = CommandError::from(error);
                match error.is_busy() {
                    true => return Err(error.held()),
                    false if error.is_cancelled() => return Err(error),
                    false => warn(session, UNKNOWN, &error),
                }
            }
        }
        Ok(())
    }

    fn agreed_on(&mut self, agreed: Option<Agreed>) {
        if let (Some(_), Some(flight)) = (&agreed, &mut self.flight) {
            flight.settle();
        }
        self.agreed = agreed;
    }

    fn claim<'a>(&'a self, run: &'a Run, source: &'a str) -> Claim<'a> {
        let before = self.flight.as_ref().map_or(&[][..], Flight::before);
        Claim { run, repository: &run.repository, source, before }
    }

    /// Gives it back.
    pub(crate) async fn end(self, session: &Session) {
        let Some(agreed) = self.agreed else { return };
        if let Err(why) = agreed.end().await {
            let why = human::text(why.as_bytes());
            session.ui.warning(session.of_job(format_args!(
                "cannot release the job lock, so other machines still see the job as running: {why}"
            )));
        }
    }
}

/// The right to execute the job of `run` on this machine; none if nothing can be locked here, which
/// is a warning.
fn flight(session: &Session, run: &Run) -> CommandResult<Option<Flight>> {
    let Some(dir) = state::dir(&session.env) else { return Ok(None) };
    match Flight::take(&dir, &run.repository, &run.evidence.subject, run)? {
        Ok(flight) => Ok(Some(flight)),
        Err(error) => {
            let error = CommandError::io("cannot lock a file in the state directory", &error);
            warn(session, "cannot determine whether the job is already running", &error);
            Ok(None)
        }
    }
}

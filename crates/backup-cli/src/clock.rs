//! The clock of this machine in verbs that remove by age.

use backup_core::repository::{ClockDoubt, Present, Repository};

use crate::command_error::{CommandError, CommandResult};
use crate::session::Session;

/// The argument of verbs that remove by age.
#[derive(Debug, clap::Args)]
pub(crate) struct ClockArgs {
    /// Vouch for the clock of this machine although it contradicts the latest known time
    #[arg(long)]
    clock_is_right: bool,
}

impl ClockArgs {
    /// The present of a repository for a verb that removes by age. A clock in doubt is vouched for
    /// by the flag, or by a person on a terminal; otherwise the doubt remains.
    pub(crate) async fn present(
        &self,
        session: &Session,
        repository: &Repository,
        dry_run: bool,
    ) -> CommandResult<Present> {
        let present = repository.present(&session.cx).await?;
        let Some(doubt) = present.doubt() else { return Ok(present) };
        if dry_run {
            if !self.clock_is_right {
                session.ui.warning(doubt.describe());
            }
            return Ok(if self.clock_is_right { present.vouched_for() } else { present });
        }
        if !self.clock_is_right {
            if session.is_unattended() || !session.ui.can_ask() {
                return Ok(present);
            }
            let described = doubt.describe();
            session.confirm(&format!("Careful: {described}. Is the clock right?")).await?;
        }
        repository.confirm_clock(&session.cx).await?;
        session.trail.note("clock", format!("{:.0} vouched for", doubt.clock));
        Ok(present.vouched_for())
    }

    /// Like [`Self::present`].
    ///
    /// # Errors
    /// A refusal if the clock is in doubt and no person vouches for it, except in a dry run.
    pub(crate) async fn require(
        &self,
        session: &Session,
        repository: &Repository,
        dry_run: bool,
    ) -> CommandResult<Present> {
        let present = self.present(session, repository, dry_run).await?;
        match present.doubt().filter(|_| !dry_run) {
            Some(doubt) => Err(refusal(&doubt)),
            None => Ok(present),
        }
    }
}

/// The refusal to remove by a clock in doubt.
pub(crate) fn refusal(doubt: &ClockDoubt) -> CommandError {
    CommandError::from(doubt.refusal()).invalid_is_refused()
}

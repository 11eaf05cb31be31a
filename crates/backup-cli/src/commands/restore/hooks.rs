//! What a job has to be done around a restore to where its data came from.

use backup_control::config::{Config, HooksConfig};
use backup_control::hooks::{self, Around, Hook};
use backup_control::runs::RunId;
use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::RestoreReport;

use super::Restore;
use crate::command_error::{CommandError, CommandResult};
use crate::session::Session;

/// The commands of a job.
#[derive(Debug)]
pub(in crate::commands) struct RestoreHooks {
    hooks: HooksConfig,
    /// Variables that hold secrets of the configuration.
    secrets: Vec<String>,
}

impl RestoreHooks {
    /// Those of the job `job`, if it has any.
    pub(super) fn of(job: &str, config: Option<&Config>) -> Option<Self> {
        let config = config?;
        let hooks = config.jobs.get(job)?.hooks.clone()?;
        Some(Self { hooks, secrets: config.secret_variables() })
    }
}

impl Restore {
    /// Restores between the hooks, if there are any; says how many warnings they add.
    pub(super) async fn between_hooks(
        &self,
        session: &Session,
        run: &RunId,
    ) -> CommandResult<(RestoreReport, u64)> {
        let Some(RestoreHooks { hooks, secrets }) = &self.hooks else {
            return Ok((self.execute(&session.cx).await?, 0));
        };
        let job = self.snapshot.snapshot().tag("job").unwrap_or_default();
        let mut facts = vec![
            ("BACKUP_HOOK_JOB", job.to_owned()),
            ("BACKUP_HOOK_RUN", run.to_string()),
            ("BACKUP_HOOK_SNAPSHOT", self.snapshot.id().to_hex()),
            ("BACKUP_HOOK_TARGET", self.restorer.place.clone()),
        ];
        let env = &session.env;
        let begun = hooks::run(
            Hook::BeforeRestore,
            hooks,
            Around { env, secrets, facts: &facts },
            &session.cx,
        )
        .await;
        let result = match begun {
            Ok(()) => self.execute(&session.cx).await,
            Err(error) => Err(CommandError::from(error)),
        };
        let (word, error) = match &result {
            Ok(report) if report.warnings == 0 => ("success", String::new()),
            Ok(_) => ("warnings", String::new()),
            Err(error) if error.is_cancelled() => ("cancelled", error.chain()),
            Err(error) => ("failed", error.chain()),
        };
        facts.extend([("BACKUP_HOOK_RESULT", word.to_owned()), ("BACKUP_HOOK_ERROR", error)]);
        // What was stopped for the restore has to be started again, also if somebody has stopped
        // the restore.
        let cx = Context::new(session.cx.events.clone());
        let ended =
            hooks::run(Hook::AfterRestore, hooks, Around { env, secrets, facts: &facts }, &cx)
                .await;
        if let Err(error) = &ended {
            cx.events.warn(WarningKind::Other, "", error.to_string());
        }
        Ok((result?, u64::from(ended.is_err())))
    }
}

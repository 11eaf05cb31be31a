//! Checks of a group and of its members before anything is written.

use backup_control::config::SourceKind;
use backup_core::source::RestoreReport;

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::restore::{Args, Restore};
use crate::human;
use crate::session::Session;

/// Everything that is looked at before a member is restored.
pub(super) async fn rehearse(restore: &mut Restore) -> CommandResult<(Outcome, RestoreReport)> {
    let incomplete = restore.warn_of_incomplete().await?;
    restore.require_writable()?;
    let report = restore.rehearse().await?;
    restore.remove_as_planned(&report);
    restore.require_entries(&report)?;
    Ok((incomplete, report))
}

/// Tells of a member that cannot be restored; the others are looked at all the same.
pub(super) fn refuse(
    session: &Session,
    job: &str,
    error: CommandError,
    refused: &mut Option<CommandError>,
) -> CommandResult<()> {
    if error.is_cancelled() {
        return Err(error);
    }
    let error = error.context(format_args!("job {}", human::text(job.as_bytes())));
    match refused {
        None => *refused = Some(error),
        Some(_) => session.ui.error(&error),
    }
    Ok(())
}

/// Fails with the first of those that cannot be restored; the others were told already.
pub(super) fn require_plans(refused: Option<CommandError>) -> CommandResult<()> {
    refused.map_or(Ok(()), |first| Err(first.context("nothing was restored")))
}

/// Two members in one place would be found out only when the first has been written.
pub(super) fn require_different_targets(
    restores: &[(Restore, RestoreReport)],
) -> CommandResult<()> {
    let alone = [SourceKind::Postgres, SourceKind::Redis];
    for (at, (one, _)) in restores.iter().enumerate() {
        let same = |other: &&(Restore, RestoreReport)| {
            other.0.restorer.place == one.restorer.place && alone.contains(&other.0.restorer.kind)
        };
        if let Some((other, _)) = restores[..at].iter().find(same) {
            let text = format!(
                "jobs {} and {} have the same restore target",
                other.member(),
                one.member()
            );
            return Err(CommandError::usage(text).with_hint("give each job its own target"));
        }
    }
    Ok(())
}

/// Refuses what names parts of one source.
pub(super) fn require_meaning(args: &Args) -> CommandResult<()> {
    let of_one = [
        ("--only", !args.only.is_empty()),
        ("--exclude", !args.exclude.is_empty()),
        ("--rename", !args.rename.is_empty()),
        ("--tablespace", !args.tablespace.is_empty()),
        ("--db", !args.db.is_empty()),
        ("--thaw", args.thaw.is_some()),
        ("--job, --source, --tier, --host, --tag and --date", !args.filter.is_empty()),
    ];
    match of_one.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => {
            let hint = "leave it out, or restore the member alone with `backup restore --job JOB \
                        --at MOMENT --target …`";
            Err(CommandError::usage(format!("a group does not support {flag}")).with_hint(hint))
        }
    }
}

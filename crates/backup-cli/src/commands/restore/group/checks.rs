//! Checks of a group and of its members before anything is written.

use std::collections::BTreeSet;

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
    for (at, one) in restores.iter().enumerate() {
        if let Some((other, _)) = restores[..at].iter().find(|other| are_in_conflict(one, other)) {
            let one = &one.0;
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

/// Returns `true` for two members that would replace each other's data. Servers of PostgreSQL take
/// several members with different databases.
fn are_in_conflict(one: &(Restore, RestoreReport), other: &(Restore, RestoreReport)) -> bool {
    let restorer = &other.0.restorer;
    let is_server = restorer.is_server();
    restorer.place == one.0.restorer.place
        && match restorer.kind {
            SourceKind::Redis => true,
            SourceKind::Postgres if is_server => share_database(&one.1, &other.1),
            SourceKind::Postgres => true,
            SourceKind::Mongodb | SourceKind::Files => false,
        }
}

/// Returns `true` if two plans name objects of one database.
fn share_database(one: &RestoreReport, other: &RestoreReport) -> bool {
    let names = |report: &RestoreReport| -> BTreeSet<String> {
        let written = report.objects.iter().map(|object| &object.name);
        let removed = report.removals.iter().map(|removal| &removal.name);
        let database =
            |name: &String| name.split_once('.').map_or(&**name, |(name, _)| name).to_owned();
        written.chain(removed).map(database).collect()
    };
    !names(one).is_disjoint(&names(other))
}

#[cfg(test)]
mod tests {
    use backup_core::source::PlannedObject;

    use super::*;

    #[test]
    fn plans_share_a_database_by_the_names_of_their_objects() {
        let plan = |names: &[&str]| RestoreReport {
            objects: names
                .iter()
                .map(|name| PlannedObject {
                    kind: "table".to_owned(),
                    name: (*name).to_owned(),
                    count: None,
                    existing: None,
                })
                .collect(),
            ..RestoreReport::default()
        };
        let shop = plan(&["shop.public.orders", "crm.public.people"]);
        assert!(share_database(&shop, &plan(&["crm.old.people"])));
        assert!(!share_database(&shop, &plan(&["shops.public.orders"])));
    }
}

//! Objects of the whole cluster: roles, tablespaces and their settings.

use backup_core::context::Context;
use backup_core::source::SourceResult;

use super::super::super::options::Host;
use super::super::options::LogicalOptions;
use super::super::programs::Programs;

/// Roles, tablespaces and their settings as SQL, and whether the passwords of roles are part of it,
/// which only a superuser can read.
pub(super) async fn globals(
    cx: &Context,
    options: &LogicalOptions,
    host: &Host,
    programs: &Programs,
) -> SourceResult<Option<(String, bool)>> {
    let database = &options.connection.database;
    if let Ok(text) = programs.globals(cx, options, host, database, true).await {
        return Ok(Some((text, true)));
    }
    cx.check_cancelled()?;
    match programs.globals(cx, options, host, database, false).await {
        Ok(text) => {
            cx.events.note(
                "Passwords of roles are not in the backup: only a superuser can read them \
                 (pg_authid).",
            );
            Ok(Some((text, false)))
        }
        Err(error) => Err(error),
    }
}

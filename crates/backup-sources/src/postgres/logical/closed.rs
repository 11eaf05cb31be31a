//! Databases that allow no connections (`ALLOW_CONNECTIONS false`): no backup can read them, so a
//! backup that would include one reports it.

use backup_core::event::{Warning, WarningKind};
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::error::of_sql;
use super::super::wire::Sql;
use super::filter::Filter;
use super::sql::quoted;

/// The databases of users that allow no connections and that `filter` may cover. Databases whose
/// removal was interrupted (a limit of -2) hold nothing.
///
/// # Errors
/// [`SourceErrorKind::PermissionDenied`] if there is one and the selection covers no other database
/// (`is_empty`).
pub(super) async fn closed(
    sql: &Sql,
    filter: &Filter,
    is_empty: bool,
) -> SourceResult<Vec<String>> {
    const ASKING: &str = "SELECT datname::text FROM pg_database WHERE NOT datallowconn AND \
                          datconnlimit <> -2 AND datname NOT IN ('template0', 'template1', \
                          'rdsadmin', 'cloudsqladmin', 'azure_maintenance', 'azure_sys') ORDER BY \
                          1";
    let rows = sql.client.query(ASKING, &[]).await;
    let names = rows
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>());
    let names = names.map_err(|error| of_sql(&error, "cannot list the databases"))?;
    let names: Vec<String> = names.into_iter().filter(|name| filter.may_cover(name)).collect();
    match names.first() {
        Some(first) if is_empty => {
            let text = format!("the database {first} does not allow connections");
            Err(SourceError::new(SourceErrorKind::PermissionDenied, text).with_hint(remedy(first)))
        }
        _ => Ok(names),
    }
}

/// The warning about one of several databases.
pub(super) fn warning(database: &str) -> Warning {
    Warning {
        kind: WarningKind::Unreadable,
        path: database.to_owned(),
        message: format!("the database does not allow connections: {}", remedy(database)),
    }
}

fn remedy(database: &str) -> String {
    let name = quoted(database);
    format!("run ALTER DATABASE {name} ALLOW_CONNECTIONS true, or exclude the database")
}

//! Requirements on a target, checked before hours of work.

use backup_core::context::Context;
use backup_core::source::{Selection, SourceError, SourceErrorKind, SourceResult};

use super::error::writing;
use super::options::LogicalOptions;
use super::session;

/// Fails if the target takes no writes, or if a database that `selection` names is not there and
/// may not be created. Notes a target that is older than `version`, for instance 150018 of 15.18.
pub(super) async fn require(
    cx: &Context,
    options: &LogicalOptions,
    version: u32,
    selection: &Selection,
) -> SourceResult<()> {
    const ASKING: &str = "SELECT pg_catalog.current_setting('server_version_num')::int, \
                          pg_is_in_recovery(), (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE \
                          rolname = current_user), current_user::text, ARRAY(SELECT datname::text \
                          FROM pg_database)";
    let failed = |error: tokio_postgres::Error| writing(&error, "cannot inspect the target");
    let sql = match session::open(&options.connection, None, &options.connection.database).await {
        // The address may name one that does not exist yet.
        Err(_) if options.connection.database != "postgres" => {
            session::open(&options.connection, None, "postgres").await?
        }
        opened => opened?,
    };
    let row = sql.client.query_one(ASKING, &[]).await.map_err(failed)?;
    let found: i32 = row.try_get(0).map_err(failed)?;
    let is_standby: bool = row.try_get(1).map_err(failed)?;
    let can_create: bool = row.try_get(2).map_err(failed)?;
    let role: String = row.try_get(3).map_err(failed)?;
    let databases: Vec<String> = row.try_get(4).map_err(failed)?;
    if is_standby {
        let error = SourceError::new(SourceErrorKind::Target, "the target is a standby");
        return Err(error.with_hint("name its primary: a standby takes no writes"));
    }
    if !can_create {
        for name in databases_named(selection) {
            let target = options.renames.database(name)?;
            if !databases.contains(&target) {
                let text = format!(
                    "the database {target} does not exist at the target, and {role} may not create it"
                );
                let hint = format!(
                    "ALTER ROLE {role} CREATEDB, or create the database first, owned by this role"
                );
                return Err(SourceError::new(SourceErrorKind::Target, text).with_hint(hint));
            }
        }
    }
    note_older(cx, u32::try_from(found).unwrap_or(0), version);
    Ok(())
}

/// Notes a target whose version is older than that of the origin.
pub(super) fn note_older(cx: &Context, target: u32, origin: u32) {
    let (target, origin) = (target / 10_000, origin / 10_000);
    if target < origin {
        cx.events.note(format!(
            "The target is PostgreSQL {target}, older than the origin's {origin}: it may not \
             support all definitions."
        ));
    }
}

/// The databases that patterns name exactly.
fn databases_named(selection: &Selection) -> impl Iterator<Item = &str> {
    let names = selection
        .include()
        .iter()
        .map(|pattern| pattern.split_once('.').map_or(pattern.as_str(), |(database, _)| database));
    names.filter(|name| !name.contains(['*', '?', '[', '{', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_name_only() {
        let include = ["shop.public.t", "crm", "a*.x", "{a,b}"].map(str::to_owned).to_vec();
        let selection = Selection::new(include, Vec::new()).unwrap();
        assert_eq!(databases_named(&selection).collect::<Vec<_>>(), ["shop", "crm"]);
    }
}

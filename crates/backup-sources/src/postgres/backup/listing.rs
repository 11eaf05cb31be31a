//! The files of a data directory by SQL, as BASE_BACKUP chooses them (`basebackup.c`).

use std::collections::{BTreeMap, HashSet};

use backup_core::source::SourceResult;
use jiff::Timestamp;

use super::super::error::{malformed, of_sql};
use super::super::wire::Sql;

/// Directories that are there, and nothing in them: it is made anew when a server starts.
const EMPTY: [&str; 8] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
];
/// Files that belong to the running server, or to other backups.
const LEFT_OUT: [&str; 7] = [
    "backup_label",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "tablespace_map",
];

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// From the data directory on.
    pub(super) path: String,
    pub(super) is_dir: bool,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// Everything that belongs to a backup, directories before what is in them.
pub(super) async fn list(sql: &Sql) -> SourceResult<Vec<Found>> {
    const LISTING: &str = "WITH RECURSIVE version AS (SELECT 'PG_' || \
                           current_setting('server_version_num')::int / 10000 || '_' || \
                           catalog_version_no AS name FROM pg_control_system()), found AS (SELECT \
                           name AS path, size, modification, isdir FROM pg_ls_dir('.', true, \
                           false) AS name, pg_stat_file(name, true) UNION ALL SELECT found.path || \
                           '/' || inner_name, s.size, s.modification, s.isdir FROM found, \
                           pg_ls_dir(found.path, true, false) AS inner_name, \
                           pg_stat_file(found.path || '/' || inner_name, true) AS s WHERE \
                           found.isdir AND found.path <> ALL ($1) AND (found.path !~ \
                           '^pg_tblspc/[0-9]+$' OR inner_name = (SELECT name FROM version))) \
                           SELECT path, size, extract(epoch FROM modification)::bigint, isdir FROM \
                           found WHERE isdir IS NOT NULL ORDER BY path COLLATE \"C\"";
    let doing = |error| of_sql(&error, "cannot list the data directory");
    let rows = sql.client.query(LISTING, &[&&EMPTY[..]]).await.map_err(doing)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (size, modified): (i64, i64) =
            (row.try_get(1).map_err(doing)?, row.try_get(2).map_err(doing)?);
        found.push(Found {
            path: row.try_get(0).map_err(doing)?,
            is_dir: row.try_get(3).map_err(doing)?,
            size: u64::try_from(size).map_err(|_| malformed("file size"))?,
            modified: Timestamp::from_second(modified).map_err(|_| malformed("file time"))?,
        });
    }
    let unlogged: HashSet<String> =
        found.iter().filter_map(|one| one.path.strip_suffix("_init").map(str::to_owned)).collect();
    found.retain(|one| belongs(&one.path, &unlogged));
    Ok(found)
}

/// Tablespaces and where they are, but for those in the data directory itself.
pub(super) async fn tablespaces(sql: &Sql) -> SourceResult<BTreeMap<u32, String>> {
    const PLACES: &str = "SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace";
    let doing = |error| of_sql(&error, "cannot list the tablespaces");
    let mut places = BTreeMap::new();
    for row in sql.client.query(PLACES, &[]).await.map_err(doing)? {
        let place: String = row.try_get(1).map_err(doing)?;
        if place.starts_with('/') {
            places.insert(row.try_get(0).map_err(doing)?, place);
        }
    }
    Ok(places)
}

/// Whether something is backed up; `unlogged` are the relations of which only an empty copy is.
fn belongs(path: &str, unlogged: &HashSet<String>) -> bool {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_passing =
        |part: &str| part.starts_with("pgsql_tmp") || part.starts_with("pg_internal.init");
    if LEFT_OUT.contains(&path) || path.split('/').any(is_passing) {
        return false;
    }
    let in_database = dir.starts_with("base/") || dir.starts_with("pg_tblspc/");
    if in_database && is_temporary(name) {
        return false;
    }
    let number = name.find(|letter: char| !letter.is_ascii_digit()).map_or(name, |at| &name[..at]);
    number.is_empty() || name.ends_with("_init") || !unlogged.contains(&format!("{dir}/{number}"))
}

/// Of a relation that its session drops: `t<backend>_<number>`.
fn is_temporary(name: &str) -> bool {
    let digits = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    name.strip_prefix('t')
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(one, other)| digits(one) && digits(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_backup() {
        let unlogged = HashSet::from(["base/5/7".to_owned()]);
        for (path, expected) in [
            ("base/5/16384", true),
            ("base/5/7", false),
            ("base/5/7.1", false),
            ("base/5/7_fsm", false),
            ("base/5/7_init", true),
            ("base/5/77", true),
            ("base/6/7", true),
            ("base/5/t3_16384", false),
            ("base/5/t3_16384_fsm", false),
            ("base/5/table", true),
            ("base/pgsql_tmp", false),
            ("base/pgsql_tmp/pgsql_tmp77.0.fileset/0.0", false),
            ("base/5/pg_internal.init.77", false),
            ("global/pg_control", true),
            ("postmaster.pid", false),
            ("log/postmaster.pid", true),
            ("backup_label.old", true),
            ("pg_wal", true),
        ] {
            assert_eq!(belongs(path, &unlogged), expected, "{path}");
        }
    }
}

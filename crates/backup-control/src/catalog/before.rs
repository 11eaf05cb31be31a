//! Copies of a catalog in a file, made before a program changes its tables.
//!
//! ```text
//!  catalog.db.VERSION.bak       the catalog with the tables of this version
//! ```
//!
//! An earlier program can use the copy: stop all programs, move it to `catalog.db`, and remove
//! `catalog.db-wal` and `catalog.db-shm`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{Error, Result};

/// Copies that are kept: those of the newest versions.
const KEPT: usize = 2;

/// Copies the catalog in `file`, whose tables are of `version`. A copy of the same version is
/// replaced, and copies of the oldest versions are removed. Blocks.
///
/// # Errors
/// [`Error::Database`] if the catalog cannot be read or the copy not be written, [`Error::Place`]
/// for other errors of the copy. The catalog is unchanged then.
pub(super) fn copy(connection: &Connection, file: &Path, version: i64) -> Result<()> {
    let to = with_end(file, &format!(".{version}.bak"));
    let new = with_end(&to, ".new");
    let failed = |error| Error::Place(new.clone(), error);
    // SQLite writes into an empty file, which keeps its mode.
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let copy = options.open(&new).map_err(failed)?;
    let path = ToSqlOutput::Borrowed(ValueRef::Text(new.as_os_str().as_bytes()));
    let written = connection
        .execute("VACUUM INTO ?1", [path])
        .map_err(|error| Error::Database(file.to_path_buf(), error))
        .and_then(|_| copy.sync_all().map_err(failed))
        .and_then(|()| std::fs::rename(&new, &to).map_err(failed));
    if written.is_err() {
        // The cause is reported; a leftover is truncated by the next attempt.
        _ = std::fs::remove_file(&new);
    }
    written?;
    let dir = file.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    // An old copy that cannot be removed is no reason to do without the catalog.
    _ = thin_out(dir, file);
    Ok(())
}

/// Removes all copies but [`KEPT`].
fn thin_out(dir: &Path, file: &Path) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let version = |path: &Path| -> Option<i64> {
        let rest = path.file_name()?.to_str()?.strip_prefix(&name)?.strip_prefix('.')?;
        rest.strip_suffix(".bak")?.parse().ok()
    };
    let mut copies = Vec::new();
    for found in std::fs::read_dir(dir)? {
        let path = found?.path();
        copies.extend(version(&path).map(|version| (version, path)));
    }
    copies.sort_unstable();
    let surplus = copies.len().saturating_sub(KEPT);
    copies.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A database with a row of the same number as its version.
    fn database(file: &Path, version: i64) -> Connection {
        let connection = Connection::open(file).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER)").unwrap();
        connection.execute("INSERT INTO t VALUES (?1)", [version]).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        connection
    }

    fn names(dir: &Path) -> Vec<String> {
        let all = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.contains("bak"));
        names.sort();
        names
    }

    #[test]
    fn copies_are_private_complete_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalog.db");
        for version in [8, 9, 10, 11] {
            // The row is still in the write-ahead log when it is copied.
            copy(&database(&file, version), &file, version).unwrap();
        }
        assert_eq!(names(dir.path()), ["catalog.db.10.bak", "catalog.db.11.bak"]);
        let kept = dir.path().join("catalog.db.10.bak");
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = Connection::open(kept).unwrap();
        let number = |query: &str| kept.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), 10);
        assert_eq!((number("SELECT count(*) FROM t"), number("SELECT max(n) FROM t")), (3, 10));
    }

    #[test]
    fn copy_of_the_same_version_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalog.db");
        let connection = database(&file, 3);
        copy(&connection, &file, 3).unwrap();
        connection.execute("INSERT INTO t VALUES (4)", []).unwrap();
        copy(&connection, &file, 3).unwrap();
        assert_eq!(names(dir.path()), ["catalog.db.3.bak"]);
        let kept = Connection::open(dir.path().join("catalog.db.3.bak")).unwrap();
        let rows: i64 = kept.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
    }

    #[test]
    fn surplus_copy_that_cannot_be_removed_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalog.db");
        for surplus in [1, 2] {
            std::fs::create_dir(dir.path().join(format!("catalog.db.{surplus}.bak"))).unwrap();
        }
        copy(&database(&file, 3), &file, 3).unwrap();
        let names = names(dir.path());
        assert_eq!(names, ["catalog.db.1.bak", "catalog.db.2.bak", "catalog.db.3.bak"]);
    }
}

//! Where operators may restore: to new or empty directories below `[api] restore_roots`.

use std::io;
use std::path::{Path, PathBuf};

use super::problem::{Answer, Problem};
use super::words::Target;
use crate::engine::{Running, Work};

/// Checks that an operator may restore to `target`. The caller starts the restore before another
/// one is checked, so that the running ones are complete.
///
/// A snapshot can hold symbolic links. A target below that of another unfinished restore is
/// therefore refused: a link could lead it elsewhere after this check.
pub(super) async fn check(target: &str, roots: Vec<PathBuf>, running: &[Running]) -> Answer<()> {
    let others: Vec<PathBuf> = running.iter().filter_map(directory).collect();
    let target = PathBuf::from(target);
    let checking = tokio::task::spawn_blocking(move || examine(&target, &roots, &others));
    let found = checking.await.map_err(|error| Problem::of_thread(&error))?;
    match found {
        Ok(Place::Free) => Ok(()),
        Ok(Place::Outside) => Err(Problem::forbidden(
            "operators may restore only below the directories of `restore_roots`",
        )
        .hint("add a directory to `restore_roots` in `[api]`, or restore with the role admin")),
        Ok(Place::Taken) => Err(Problem::new(
            axum::http::StatusCode::CONFLICT,
            "another restore to this directory, above it or below it is not finished",
        )
        .hint("choose another directory, or wait")),
        Ok(Place::Full) => Err(Problem::forbidden(
            "a restore to a directory that is not empty requires the role admin",
        )),
        Err(_) => Err(Problem::forbidden(
            "a restore to a path that is not an empty directory requires the role admin",
        )),
    }
}

/// The directory of an unfinished restore.
fn directory(running: &Running) -> Option<PathBuf> {
    match &running.work {
        Work::Restore(order) if !order.dry_run => match Target::parse(&order.target) {
            Ok(Target::Directory(directory)) => Some(directory.into()),
            _ => None,
        },
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A new or empty directory below a root.
    Free,
    /// Not below a root.
    Outside,
    /// Another restore uses it, or a directory above or below it.
    Taken,
    /// Not empty.
    Full,
}

/// Blocks.
fn examine(target: &Path, roots: &[PathBuf], others: &[PathBuf]) -> io::Result<Place> {
    let real = resolve(target)?;
    let is_below = |root: &PathBuf| {
        std::fs::canonicalize(root).is_ok_and(|root| real != root && real.starts_with(root))
    };
    if !roots.iter().any(is_below) {
        return Ok(Place::Outside);
    }
    let overlaps = |other: &PathBuf| {
        let other = resolve(other).unwrap_or_else(|_| other.clone());
        other.starts_with(&real) || real.starts_with(&other)
    };
    if others.iter().any(overlaps) {
        return Ok(Place::Taken);
    }
    match std::fs::read_dir(&real) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Free),
        Err(error) => Err(error),
        Ok(mut entries) => Ok(entries.next().map_or(Place::Free, |_| Place::Full)),
    }
}

/// The path without symbolic links. Its last parts need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    for known in path.ancestors() {
        match std::fs::symlink_metadata(known) {
            // A link to nothing is an error.
            Ok(_) => {
                let missing = path.strip_prefix(known).map_err(io::Error::other)?;
                let real = std::fs::canonicalize(known)?;
                return Ok(if missing.as_os_str().is_empty() { real } else { real.join(missing) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_free_directories_below_a_root_are_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for made in ["root/empty", "root/full/a", "outside/empty", "rootless"] {
            std::fs::create_dir_all(at(made)).unwrap();
        }
        std::fs::write(at("root/file"), "").unwrap();
        symlink(at("outside"), at("root/out")).unwrap();
        symlink(at("nowhere"), at("root/dangling")).unwrap();
        symlink(at("root"), at("alias")).unwrap();
        let roots = [at("none"), at("root")];
        let examined = |path: &str| examine(&at(path), &roots, &[]).ok();
        for path in ["root/new", "root/new/deep", "root/empty", "alias/new", "root/full/new"] {
            assert_eq!(examined(path), Some(Place::Free), "{path}");
        }
        for path in ["root", "alias", "outside/empty", "rootless", "root/out/new", "root/out"] {
            assert_eq!(examined(path), Some(Place::Outside), "{path}");
        }
        assert_eq!(examined("root/full"), Some(Place::Full));
        for path in ["root/file", "root/file/new", "root/dangling", "root/dangling/new"] {
            assert_eq!(examined(path), None, "{path}");
        }
        assert_eq!(examine(&at("root/new"), &[], &[]).unwrap(), Place::Outside);
        assert_eq!(examine(&at("root/new"), &[at("none")], &[]).unwrap(), Place::Outside);
    }

    #[test]
    fn a_restore_that_could_plant_a_link_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let others = [at("a/b")];
        let examined = |path: &str| examine(&at(path), &[dir.path().into()], &others).unwrap();
        for path in ["a", "a/b", "a/b/link/new"] {
            assert_eq!(examined(path), Place::Taken, "{path}");
        }
        assert_eq!(examined("a/bb"), Place::Free);
    }
}

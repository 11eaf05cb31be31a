//! The given paths: made absolute, cleaned lexically, and merged.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};

/// Name of the directory at the root of every snapshot that belongs to the backup itself.
pub(super) const RESERVED: &[u8] = b"/.backup";

/// Absolute, clean paths in depth-first order; paths below another given path are merged into it.
///
/// Links are not resolved: as restic does, `a/../b` means `b` beside `a`, whatever `a` is.
pub(super) fn clean(paths: &[PathBuf]) -> SourceResult<Vec<EntryPath>> {
    if paths.is_empty() {
        return Err(SourceError::new(SourceErrorKind::Invalid, "no path given")
            .with_hint("name at least one path"));
    }
    let mut roots = paths.iter().map(|path| absolute(path)).collect::<SourceResult<Vec<_>>>()?;
    roots.sort_by(|a, b| a.segments().cmp(b.segments()));
    let mut merged: Vec<EntryPath> = Vec::with_capacity(roots.len());
    for root in roots {
        if !merged.last().is_some_and(|last| root.starts_with(last)) {
            merged.push(root);
        }
    }
    Ok(merged)
}

fn absolute(path: &Path) -> SourceResult<EntryPath> {
    let invalid = |message: String| SourceError::new(SourceErrorKind::Invalid, message);
    if path.as_os_str().is_empty() {
        return Err(invalid("empty path".to_owned()).with_hint("name a directory or a file"));
    }
    let full = std::path::absolute(path).map_err(|error| {
        invalid(format!("cannot make {} absolute", path.display())).with_source(error)
    })?;
    let mut clean = PathBuf::new();
    for component in full.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    let entry = EntryPath::new(clean.as_os_str().as_bytes())
        .ok_or_else(|| invalid(format!("{} is not a path", path.display())))?;
    if is_reserved(&entry) {
        return Err(reserved_error(&entry));
    }
    Ok(entry)
}

/// Whether `path` is where every snapshot keeps its own description.
pub(super) fn is_reserved(path: &EntryPath) -> bool {
    let bytes = path.as_bytes();
    bytes.starts_with(RESERVED) && matches!(bytes.get(RESERVED.len()), None | Some(b'/'))
}

/// The refusal of a user's own `/.backup`.
pub(super) fn reserved_error(path: &EntryPath) -> SourceError {
    SourceError::new(
        SourceErrorKind::Invalid,
        format!("cannot back up {path}: this path is reserved"),
    )
    .with_hint(
        "rename the directory or exclude it: every snapshot keeps its own description in /.backup",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(paths: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        clean(&paths).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cleans_merges_and_orders() {
        assert_eq!(cleaned(&["/b", "/a/x", "/a", "/b/", "/a-b"]), ["/a", "/a-b", "/b"]);
        assert_eq!(cleaned(&["/a/./b/../c//d"]), ["/a/c/d"]);
        assert_eq!(cleaned(&["/../x"]), ["/x"]);
        assert_eq!(cleaned(&["/x", "/"]), ["/"]);
    }

    #[test]
    fn depth_first_order_is_not_byte_order() {
        // '-' sorts before '/', but `/a/z` belongs to `/a`, which comes before `/a-b`.
        assert_eq!(cleaned(&["/a-b", "/a/z"]), ["/a/z", "/a-b"]);
    }

    #[test]
    fn relative_paths_start_at_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(cleaned(&["."]), [here.display().to_string()]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        for bad in ["", "/.backup", "/.backup/x", "/x/../.backup"] {
            let error = clean(&[PathBuf::from(bad)]).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Invalid, "{bad}");
            assert!(error.hint().is_some(), "{bad}");
        }
        assert!(clean(&[]).is_err());
        assert_eq!(cleaned(&["/.backups"]), ["/.backups"]);
    }
}

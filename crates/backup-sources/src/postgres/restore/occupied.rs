//! The content of a directory that is in the way of a restore.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::words::count;

/// Entries that are counted at most: a refusal does not wait for the end of a large tree.
const MAX_COUNTED: u64 = 100_000;

/// Files and bytes below `dir`, for instance `3 files, 8192 bytes`. Links are not followed.
pub(super) fn described(dir: &Path) -> String {
    let mut waiting = vec![PathBuf::from(dir)];
    let mut entries = 0;
    let mut files = 0;
    let mut bytes = 0;
    let mut is_all = true;
    while let Some(dir) = waiting.pop() {
        let Ok(found) = fs::read_dir(&dir) else {
            is_all = false;
            continue;
        };
        for entry in found {
            let metadata = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
            let Ok((path, metadata)) = metadata else {
                is_all = false;
                continue;
            };
            entries += 1;
            if entries > MAX_COUNTED {
                return format!("more than {MAX_COUNTED} entries");
            }
            if metadata.is_dir() {
                waiting.push(path);
            } else {
                files += 1;
                bytes += metadata.len();
            }
        }
    }
    let at_least = if is_all { "" } else { "at least " };
    format!("{at_least}{}, {}", count(files, "file", "files"), count(bytes, "byte", "bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn described_directory_counts_nested_files_and_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(described(dir.path()), "0 files, 0 bytes");
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/one"), "1").unwrap();
        assert_eq!(described(dir.path()), "1 file, 1 byte");
        fs::write(dir.path().join("two"), "12345").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("a/link")).unwrap();
        assert_eq!(described(dir.path()), "3 files, 7 bytes", "a link to / has one byte");
    }
}

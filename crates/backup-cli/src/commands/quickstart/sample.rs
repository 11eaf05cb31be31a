//! The part of a directory that a first try backs up.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use crate::command_error::{CommandError, CommandResult};

/// Names of directories whose content can be made again.
const CACHE_NAMES: [&str; 4] = [".cache", ".tools", "node_modules", "target"];
/// Files that mark directories as caches or as not to be backed up.
const CACHE_MARKERS: [&str; 2] = ["CACHEDIR.TAG", ".nobackup"];
/// Maximum number of files, directories and links in a sample.
const MAX_ENTRIES: u64 = 20_000;
/// Maximum number of paths to exclude by name.
const MAX_EXCLUDED: usize = 50_000;

/// A part of a directory: files in the order of their paths, until the limit is reached.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Bytes that the sample may have.
    limit: u64,
    /// Bytes of the files in the sample.
    pub(super) bytes: u64,
    /// Files in the sample.
    pub(super) files: u64,
    entries: u64,
    /// Directories of caches, which are not in the sample.
    pub(super) caches: Vec<PathBuf>,
    /// Other files and directories that are not in the sample.
    pub(super) left_out: Vec<PathBuf>,
    /// No further file fits.
    is_full: bool,
}

impl Sample {
    /// Takes files below `dir` until they have `limit` bytes or are too many. Ignores the
    /// directory `own`.
    ///
    /// Entries whose names are not UTF-8 are always in the sample: no pattern can exclude them.
    ///
    /// # Errors
    /// The directory has no files for a sample, or too many entries to exclude by name.
    pub(super) fn choose(dir: &Path, own: &Path, limit: u64) -> CommandResult<Self> {
        let mut sample = Self { limit, ..Self::default() };
        sample.visit(dir, own);
        let hint = "back up everything with --all, or name another directory";
        if sample.left_out.len() > MAX_EXCLUDED {
            let text = format!("{} has too many entries for a sample", dir.display());
            return Err(CommandError::usage(text).with_hint(hint));
        }
        if sample.files == 0 {
            let text = format!("{} has no files for a sample", dir.display());
            return Err(CommandError::usage(text).with_hint(hint));
        }
        Ok(sample)
    }

    /// Whether the sample is not the whole directory.
    pub(super) fn is_partial(&self) -> bool {
        self.paths_left_out().next().is_some()
    }

    /// Paths of files and directories that are not in the sample.
    pub(super) fn paths_left_out(&self) -> impl Iterator<Item = &PathBuf> {
        self.caches.iter().chain(&self.left_out)
    }

    /// Skips an unreadable directory: the backup reports it.
    fn visit(&mut self, dir: &Path, own: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut entries: Vec<DirEntry> = entries.filter_map(Result::ok).collect();
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            if self.left_out.len() > MAX_EXCLUDED {
                return;
            }
            self.take(&entry, own);
        }
    }

    fn take(&mut self, entry: &DirEntry, own: &Path) {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { return };
        let can_be_excluded = path.to_str().is_some();
        if metadata.is_dir() && path == own {
            return;
        }
        if metadata.is_dir() && can_be_excluded && is_cache(&path) {
            self.caches.push(path);
            return;
        }
        self.is_full |= self.entries >= MAX_ENTRIES;
        let len = if metadata.is_file() { metadata.len() } else { 0 };
        let fits = !self.is_full && len <= self.limit.saturating_sub(self.bytes);
        if !fits && can_be_excluded {
            // One very large file does not end the sample.
            self.is_full |= len < self.limit / 10;
            self.left_out.push(path);
            return;
        }
        self.entries += 1;
        if metadata.is_dir() {
            self.visit(&path, own);
        } else if metadata.is_file() {
            self.bytes += len;
            self.files += 1;
        }
    }
}

fn is_cache(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| CACHE_NAMES.iter().any(|cache| name == *cache))
        || CACHE_MARKERS.iter().any(|marker| dir.join(marker).exists())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn write(dir: &Path, path: &str, len: usize) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; len]).unwrap();
    }

    fn names(paths: &[PathBuf], dir: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        paths.iter().map(name).collect()
    }

    #[test]
    fn sample_of_a_small_directory_is_everything_but_caches() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        for path in ["a", "b/target", "target/x", ".tools/x", "marked/CACHEDIR.TAG", "own/x"] {
            write(dir, path, 100);
        }
        let sample = Sample::choose(dir, &dir.join("own"), 1000).unwrap();
        assert_eq!((sample.bytes, sample.files), (200, 2));
        assert_eq!(names(&sample.caches, dir), [".tools", "marked", "target"]);
        assert!(sample.left_out.is_empty(), "{sample:?}");
    }

    #[test]
    fn sample_ends_at_its_limit_and_passes_over_one_huge_file() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        write(dir, "a/huge", 5000);
        write(dir, "a/small", 900);
        write(dir, "b/one", 60);
        write(dir, "b/two", 60);
        write(dir, "c/three", 10);
        write(dir, "d", 10);
        let sample = Sample::choose(dir, Path::new("/none"), 1000).unwrap();
        assert_eq!((sample.bytes, sample.files), (960, 2));
        assert_eq!(names(&sample.left_out, dir), ["a/huge", "b/two", "c", "d"]);
    }

    #[test]
    fn sample_of_a_large_flat_directory_keeps_its_limit() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        for n in 0..1200 {
            write(dir, &format!("many/{n:05}"), 10);
        }
        write(dir, "z", 10);
        let sample = Sample::choose(dir, Path::new("/none"), 150).unwrap();
        assert_eq!((sample.bytes, sample.files, sample.left_out.len()), (150, 15, 1186));
        let sample = Sample::choose(&dir.join("many"), Path::new("/none"), 150).unwrap();
        assert_eq!((sample.bytes, sample.files, sample.left_out.len()), (150, 15, 1185));
    }

    #[test]
    fn sample_includes_names_that_no_pattern_can_exclude() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        write(dir, "a", 100);
        fs::write(dir.join(std::ffi::OsStr::from_bytes(b"z\xff")), [0; 50]).unwrap();
        let sample = Sample::choose(dir, Path::new("/none"), 120).unwrap();
        assert_eq!((sample.bytes, sample.files), (150, 2));
    }

    #[test]
    fn sample_of_a_directory_without_files_is_refused() {
        let room = tempfile::tempdir().unwrap();
        write(room.path(), "target/x", 1);
        Sample::choose(room.path(), Path::new("/none"), 100).unwrap_err();
    }
}

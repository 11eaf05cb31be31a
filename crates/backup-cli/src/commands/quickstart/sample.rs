//! The part of a directory that a first try backs up.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

/// Names of directories whose content can be made again.
pub(super) const CACHE_NAMES: [&str; 4] = [".cache", ".tools", "node_modules", "target"];
/// Files that mark directories left out of a first try.
pub(super) const CACHE_MARKERS: [&str; 2] = ["CACHEDIR.TAG", ".nobackup"];
/// Files in a sample, at most.
const MAX_FILES: u64 = 20_000;
/// A directory that is left out in part has at most this many entries left out, each by its name.
const MAX_LEFT_OUT: usize = 1000;

/// A part of a directory: files in the order of their paths, until the limit is reached.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Bytes that the sample may have.
    limit: u64,
    /// Bytes of the files in the sample.
    pub(super) bytes: u64,
    /// Files in the sample.
    pub(super) files: u64,
    /// Files and directories that the sample leaves out; empty if it is the whole directory.
    pub(super) left_out: Vec<PathBuf>,
    /// No further file fits.
    is_full: bool,
}

impl Sample {
    /// Takes files below `dir` until they have `limit` bytes. Directories of caches and the
    /// directory `own` are neither taken nor counted as left out.
    pub(super) fn choose(dir: &Path, own: &Path, limit: u64) -> Self {
        let mut sample = Self { limit, ..Self::default() };
        sample.visit(dir, own);
        sample
    }

    /// Returns whether anything of `dir` is in the sample. A directory that cannot be read is: the
    /// backup reports it.
    fn visit(&mut self, dir: &Path, own: &Path) -> bool {
        let Ok(entries) = fs::read_dir(dir) else { return true };
        let mut entries: Vec<DirEntry> = entries.filter_map(Result::ok).collect();
        entries.sort_by_key(DirEntry::file_name);
        let before = (self.bytes, self.files, self.left_out.len());
        for (number, entry) in entries.iter().enumerate() {
            if self.is_full && entries.len() - number > MAX_LEFT_OUT {
                // Too many to name: the directory is left out as a whole.
                (self.bytes, self.files) = (before.0, before.1);
                self.left_out.truncate(before.2);
                return false;
            }
            self.take(entry, own);
        }
        true
    }

    fn take(&mut self, entry: &DirEntry, own: &Path) {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { return };
        if metadata.is_dir() {
            if path == own || is_cache(&path) {
                return;
            }
            if self.is_full || !self.visit(&path, own) {
                self.left_out.push(path);
            }
        } else if metadata.is_file() {
            let fits = metadata.len() <= self.limit - self.bytes && self.files < MAX_FILES;
            if fits && !self.is_full {
                self.bytes += metadata.len();
                self.files += 1;
            } else {
                // One very large file does not end the sample.
                let is_small = metadata.len() < self.limit / 10;
                let has_named_enough = self.left_out.len() >= MAX_LEFT_OUT;
                self.is_full |= is_small || has_named_enough || self.files == MAX_FILES;
                self.left_out.push(path);
            }
        }
    }
}

fn is_cache(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| CACHE_NAMES.iter().any(|cache| name == *cache))
        || CACHE_MARKERS.iter().any(|marker| dir.join(marker).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, len: usize) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; len]).unwrap();
    }

    fn left_out(sample: &Sample, dir: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        sample.left_out.iter().map(name).collect()
    }

    #[test]
    fn sample_of_a_small_directory_is_all_of_it_but_caches() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        for path in ["a", "b/c", "target/x", ".tools/x", "marked/CACHEDIR.TAG", "own/x"] {
            write(dir, path, 100);
        }
        let sample = Sample::choose(dir, &dir.join("own"), 1000);
        assert_eq!((sample.bytes, sample.files), (200, 2));
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
        let sample = Sample::choose(dir, Path::new("/none"), 1000);
        assert_eq!((sample.bytes, sample.files), (960, 2));
        assert_eq!(left_out(&sample, dir), ["a/huge", "b/two", "c", "d"]);
    }

    #[test]
    fn sample_leaves_out_a_directory_with_too_many_files_as_a_whole() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        write(dir, "a", 10);
        for n in 0..MAX_LEFT_OUT + 100 {
            write(dir, &format!("many/{n:05}"), 10);
        }
        let sample = Sample::choose(dir, Path::new("/none"), 150);
        assert_eq!((sample.bytes, sample.files), (10, 1));
        assert_eq!(left_out(&sample, dir), ["many"]);
    }
}

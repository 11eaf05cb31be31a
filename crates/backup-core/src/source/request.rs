//! What is asked of a source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::{Delete, EntryPath, ExcludePatterns};
use crate::log::LogReplay;
use crate::repository::SnapshotReader;

/// Type of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Everything is read.
    Full,
    /// What changed since the last snapshot is read.
    Incremental,
    /// What changed since the last full snapshot is read.
    Differential,
    /// Continuous capture of a log.
    Log,
}

impl BackupKind {
    /// The word used in tags and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Differential => "differential",
            Self::Log => "log",
        }
    }
}

/// What to back up and how.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The type that will be recorded.
    pub kind: BackupKind,
    /// Which objects.
    pub selection: Selection,
    /// The earlier snapshot to build on; none for a full one.
    pub parent: Option<SnapshotReader>,
}

impl BackupRequest {
    /// For everything that the selection covers, whatever there is already.
    #[must_use]
    pub fn full(selection: Selection) -> Self {
        Self { kind: BackupKind::Full, selection, parent: None }
    }
}

/// A glob that cannot be understood.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid pattern {pattern:?}: {message}")]
pub struct SelectionError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub message: String,
}

/// Selected objects of a source: include and exclude globs over paths (or over
/// `database.collection` names).
///
/// Without include patterns everything is included. Excluding wins over including. A pattern also
/// covers everything below what it matches. Of the exclude patterns the last one that matches
/// decides, and one that begins with `!` readmits ([`ExcludePatterns`]); nothing is readmitted
/// below an excluded directory.
///
/// A selection records which of its include patterns have matched an object. Clones share this
/// record; [`Selection::fresh`] starts a new one.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Vec<String>,
    exclude: Vec<String>,
    include_set: GlobSet,
    exclude_set: ExcludePatterns,
    /// Number of include patterns that have to match; those after them may match nothing.
    required: usize,
    record: MatchRecord,
}

/// The include patterns of a selection that have matched an object. Clones share the record.
#[derive(Debug, Clone, Default)]
pub struct MatchRecord(Arc<[AtomicBool]>);

impl MatchRecord {
    fn new(patterns: usize) -> Self {
        Self((0..patterns).map(|_| AtomicBool::new(false)).collect())
    }

    /// `true` while some pattern has matched nothing: only then a source has to record matches.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.0.iter().any(|matched| !matched.load(Ordering::Relaxed))
    }

    /// Records that the pattern with this index has matched an object of the source.
    pub fn note(&self, pattern: usize) {
        if let Some(matched) = self.0.get(pattern) {
            matched.store(true, Ordering::Relaxed);
        }
    }

    /// Records that all patterns have matched: for a source whose objects were selected before.
    pub fn note_all(&self) {
        self.0.iter().for_each(|matched| matched.store(true, Ordering::Relaxed));
    }
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The pattern that matches this name alone, also in a list with commas.
    #[must_use]
    pub fn literal(name: &str) -> String {
        let mut pattern = String::with_capacity(name.len());
        for character in name.chars() {
            // At the beginning of an exclude pattern, `!` readmits.
            if "*?[]{}\\!,".contains(character) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    }

    /// Builds a selection. A pattern with a leading `/` is anchored at the root; others match at
    /// any depth. `*` does not cross `/`, `**` does.
    ///
    /// # Errors
    /// [`SelectionError`] names the first pattern that is not a valid glob.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, SelectionError> {
        Self::with_optional(include, Vec::new(), exclude)
    }

    /// Builds a selection in which the include patterns `optional` may match nothing.
    ///
    /// # Errors
    /// [`SelectionError`] names the first pattern that is not a valid glob.
    pub fn with_optional(
        mut include: Vec<String>,
        optional: Vec<String>,
        exclude: Vec<String>,
    ) -> Result<Self, SelectionError> {
        let required = include.len();
        include.extend(optional);
        Ok(Self {
            include_set: compile(&include)?,
            exclude_set: ExcludePatterns::new(&exclude, compile)?,
            required,
            record: MatchRecord::new(include.len()),
            include,
            exclude,
        })
    }

    /// The same selection, none of whose patterns has matched yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { record: MatchRecord::new(self.include.len()), ..self.clone() }
    }

    /// The same patterns, whose matches are recorded in the record of `other`, a selection with
    /// equal include patterns.
    #[must_use]
    pub fn recording_for(self, other: &Self) -> Self {
        Self { record: other.record.clone(), required: other.required, ..self }
    }

    /// The record of the patterns that have matched.
    #[must_use]
    pub fn record(&self) -> &MatchRecord {
        &self.record
    }

    /// True if there are include patterns and none of them has matched until now.
    #[must_use]
    pub fn has_no_match(&self) -> bool {
        let matched = |matched: &AtomicBool| matched.load(Ordering::Relaxed);
        !self.include.is_empty() && !self.record.0.iter().any(matched)
    }

    /// The include patterns that have to match and have matched nothing until now.
    #[must_use]
    pub fn unmatched(&self) -> Vec<&str> {
        let patterns = self.include.iter().zip(&*self.record.0).take(self.required);
        let unmatched = patterns.filter(|(_, matched)| !matched.load(Ordering::Relaxed));
        unmatched.map(|(pattern, _)| &**pattern).collect()
    }

    /// The include patterns.
    #[must_use]
    pub fn include(&self) -> &[String] {
        &self.include
    }

    /// The exclude patterns.
    #[must_use]
    pub fn exclude(&self) -> &[String] {
        &self.exclude
    }

    /// Whether everything is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether `path` itself matches an exclude pattern.
    #[must_use]
    pub fn is_excluded(&self, path: &EntryPath) -> bool {
        !self.exclude.is_empty() && self.exclude_set.excludes([as_path(path)])
    }

    /// Whether `path` or a directory above it matches an include pattern, and nothing above or at
    /// it is excluded.
    #[must_use]
    pub fn covers(&self, path: &EntryPath) -> bool {
        let mut included = self.include.is_empty();
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.is_excluded(&path) {
                return false;
            }
            included |= self.include_set.is_match(as_path(&path));
            at = path.parent();
        }
        if included && self.record.is_incomplete() {
            self.note_matches(path);
        }
        included
    }

    /// Records the include patterns that match `path` or a directory above it.
    pub fn note_matches(&self, path: &EntryPath) {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            let matches = self.include_set.matches(as_path(&path));
            matches.into_iter().for_each(|pattern| self.record.note(pattern));
            at = path.parent();
        }
    }
}

#[cfg(unix)]
fn as_path(path: &EntryPath) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

fn compile(patterns: &[String]) -> Result<GlobSet, SelectionError> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        let trimmed = pattern.trim_end_matches('/');
        let anchored = if trimmed.is_empty() {
            "/".to_owned()
        } else if trimmed.starts_with('/') {
            trimmed.to_owned()
        } else {
            format!("/**/{trimmed}")
        };
        let glob = globset::GlobBuilder::new(&anchored)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error: globset::Error| SelectionError {
                pattern: pattern.clone(),
                message: error.kind().to_string(),
            })?;
        add(&mut builder, glob);
    }
    builder.build().map_err(|error| SelectionError {
        pattern: error.glob().unwrap_or_default().to_owned(),
        message: error.kind().to_string(),
    })
}

fn add(builder: &mut GlobSetBuilder, glob: Glob) {
    builder.add(glob);
}

/// What to do about something that exists at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Refuse to write anything.
    #[default]
    Fail,
    /// Replace the objects that the snapshot holds. Redis also loses the objects that the snapshot
    /// lacks; other sources lose these only with [`Delete`].
    Replace,
    /// Replace what differs, keep what is not in the snapshot.
    Merge,
}

/// What to restore and how.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Where to: a directory or an address; `None` is the place the data came from.
    pub target: Option<String>,
    /// Which entries.
    pub selection: Selection,
    /// What to do about what exists.
    pub if_exists: IfExists,
    /// Which objects that the snapshot lacks are removed, for sources that replace object by
    /// object.
    pub delete: Delete,
    /// Read back and compare what was written.
    pub verify: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Leave holes where the content is zeros.
    pub sparse: bool,
    /// The log to apply afterwards, for sources that have one.
    pub log: Option<Arc<LogReplay>>,
}

impl Default for RestoreRequest {
    fn default() -> Self {
        Self {
            target: None,
            selection: Selection::all(),
            if_exists: IfExists::Fail,
            delete: Delete::Nothing,
            verify: false,
            dry_run: false,
            sparse: false,
            log: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Selection::new(owned(include), owned(exclude)).unwrap()
    }

    #[test]
    fn excluding_wins_and_covers_what_is_below() {
        let s = selection(&[], &["*.tmp", "!keep.tmp", r"\!odd", "/a/cache/*", "!/a/cache/b"]);
        for (name, covered) in [
            ("/x/keep.tmp", true),
            ("/x/other.tmp", false),
            ("/x/!odd", false),
            ("/a/cache/b/c", true),
            ("/a/cache/c", false),
            ("/a/cache/c/keep.tmp", false),
        ] {
            assert_eq!(s.covers(&path(name)), covered, "{name}");
        }
        let s = selection(&[], &["*.tmp", "/a/cache", "node_modules/"]);
        assert!(s.covers(&path("/a/b")));
        assert!(!s.covers(&path("/x/y.tmp")));
        assert!(!s.covers(&path("/a/cache/deep/file")));
        assert!(s.covers(&path("/b/a/cache")));
        assert!(!s.covers(&path("/src/node_modules/x/index.js")));
    }

    #[test]
    fn including_limits() {
        let s = selection(&["/a/b", "*.conf"], &["secret.conf"]);
        assert!(s.covers(&path("/a/b/c")));
        assert!(s.covers(&path("/etc/x.conf")));
        assert!(!s.covers(&path("/etc/secret.conf")));
        assert!(!s.covers(&path("/a/c")));
    }

    #[test]
    fn selection_records_unmatched_patterns() {
        let s = selection(&["/a/b", "*.conf", "/tipo"], &["secret.conf"]);
        assert_eq!(s.unmatched(), ["/a/b", "*.conf", "/tipo"]);
        assert!(!s.covers(&path("/etc/secret.conf")), "an excluded object is no match");
        assert_eq!(s.unmatched().len(), 3);
        let other = s.clone();
        assert!(other.covers(&path("/a/b/c")) && other.covers(&path("/etc/x.conf")));
        assert_eq!((s.unmatched(), s.record().is_incomplete()), (vec!["/tipo"], true));
        assert_eq!(s.fresh().unmatched().len(), 3);
        assert!(!Selection::all().record().is_incomplete());
    }

    #[test]
    fn a_star_does_not_cross_directories() {
        let s = selection(&[], &["/a/*/c"]);
        assert!(!s.covers(&path("/a/b/c")));
        assert!(s.covers(&path("/a/b/b/c")));
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = Selection::new(vec![], vec!["a[".to_owned()]).unwrap_err();
        assert_eq!(error.pattern, "a[");
    }
}

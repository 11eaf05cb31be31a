//! Which entries are meant: the request's selection and the source's own exclude patterns, applied
//! from the top down.

use std::path::PathBuf;

use backup_core::source::{
    EntryPath, Selection, SkipRules, SourceError, SourceErrorKind, SourceResult,
};

/// How far an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// It is not, and nothing below it is.
    No,
    /// It is not, but something below it may be.
    Below,
    /// It is, and everything below it unless excluded.
    Yes,
}

/// Include and exclude patterns. Going from a directory to its children with [`Filter::child`]
/// costs one match per child where [`Selection::covers`] would look at every directory above it.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    selection: Selection,
    excludes: Selection,
}

impl Filter {
    /// A filter of `selection` alone.
    pub(super) fn new(selection: Selection) -> Self {
        Self { selection, excludes: Selection::all() }
    }

    /// A filter of `selection` and the patterns in `files`.
    pub(super) fn with_files(selection: Selection, files: &[PathBuf]) -> SourceResult<Self> {
        let mut patterns = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file).map_err(|error| {
                SourceError::new(
                    SourceErrorKind::Invalid,
                    format!("cannot read the exclude file {}", file.display()),
                )
                .with_source(error)
                .with_hint("correct the path of the exclude file or create it")
            })?;
            patterns.extend(
                text.lines().map(str::trim).filter(|line| is_pattern(line)).map(str::to_owned),
            );
        }
        let excludes = Selection::new(Vec::new(), patterns).map_err(|error| {
            SourceError::new(SourceErrorKind::Invalid, "invalid pattern in an exclude file")
                .with_source(error)
        })?;
        Ok(Self { selection, excludes })
    }

    /// The filter of a backup that recorded `rules`; `None` if a pattern is not valid.
    pub(super) fn of_rules(rules: &SkipRules) -> Option<Self> {
        let selection = Selection::new(rules.include.clone(), rules.exclude.clone()).ok()?;
        let excludes = Selection::new(Vec::new(), rules.exclude_from_files.clone()).ok()?;
        Some(Self { selection, excludes })
    }

    /// Records the patterns.
    pub(super) fn record(&self, rules: &mut SkipRules) {
        rules.include = self.selection.include().to_vec();
        rules.exclude = self.selection.exclude().to_vec();
        rules.exclude_from_files = self.excludes.exclude().to_vec();
    }

    /// Returns `true` if an exclude pattern matches `path` itself.
    pub(super) fn is_excluded(&self, path: &EntryPath) -> bool {
        self.selection.is_excluded(path) || self.excludes.is_excluded(path)
    }

    /// How far `path`, given by the user, is meant. Naming a path outweighs patterns that would
    /// exclude it.
    pub(super) fn root(&self, path: &EntryPath) -> Cover {
        self.included(path)
    }

    /// How far `path` is meant whose directory is meant as far as `parent`.
    pub(super) fn child(&self, parent: Cover, path: &EntryPath) -> Cover {
        if parent == Cover::No || self.is_excluded(path) {
            return Cover::No;
        }
        if parent == Cover::Yes {
            // The path may match a pattern that no directory above it matches.
            if self.selection.record().is_incomplete() {
                self.selection.note_matches(path);
            }
            return Cover::Yes;
        }
        self.included(path)
    }

    fn included(&self, path: &EntryPath) -> Cover {
        // `covers` would also look for excluded directories above, which a given path outweighs;
        // without include patterns the answer is known.
        if self.selection.include().is_empty() || self.selection.covers(path) {
            Cover::Yes
        } else {
            Cover::Below
        }
    }
}

fn is_pattern(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Filter::new(Selection::new(owned(include), owned(exclude)).unwrap())
    }

    #[test]
    fn includes_from_the_top_down() {
        let filter = filter(&["/a/b", "*.conf"], &["secret*"]);
        assert_eq!(filter.root(&path("/a")), Cover::Below);
        assert_eq!(filter.child(Cover::Below, &path("/a/b")), Cover::Yes);
        assert_eq!(filter.child(Cover::Yes, &path("/a/b/c")), Cover::Yes);
        assert_eq!(filter.child(Cover::Yes, &path("/a/b/secret.conf")), Cover::No);
        assert_eq!(filter.child(Cover::Below, &path("/a/x.conf")), Cover::Yes);
        assert_eq!(filter.child(Cover::No, &path("/a/secret/x.conf")), Cover::No);
    }

    #[test]
    fn a_given_path_outweighs_patterns() {
        let filter = filter(&[], &["/a"]);
        assert_eq!(filter.root(&path("/a")), Cover::Yes);
        assert_eq!(filter.child(Cover::Yes, &path("/a/a")), Cover::Yes);
    }

    #[test]
    fn exclude_files_have_comments_and_name_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("excludes");
        std::fs::write(&file, "# comment\n\n  *.tmp \n/x/cache/\n").unwrap();
        let filter = Filter::with_files(Selection::all(), std::slice::from_ref(&file)).unwrap();
        assert_eq!(filter.child(Cover::Yes, &path("/q/y.tmp")), Cover::No);
        assert_eq!(filter.child(Cover::Yes, &path("/x/cache")), Cover::No);
        assert_eq!(filter.child(Cover::Yes, &path("/comment")), Cover::Yes);

        std::fs::write(&file, "a[\n").unwrap();
        let error = Filter::with_files(Selection::all(), std::slice::from_ref(&file)).unwrap_err();
        assert!(error.chain().contains("a["), "{}", error.chain());
        let error = Filter::with_files(Selection::all(), &[dir.path().join("none")]).unwrap_err();
        assert!(error.to_string().contains("none") && error.hint().is_some());
    }
}

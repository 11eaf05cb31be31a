//! Exclude patterns, in order.

use std::path::Path;

use globset::GlobSet;

/// Exclude patterns whose order counts, as in `.gitignore`: the last one that matches decides, and
/// one that begins with `!` readmits. `\!` begins a pattern with a literal `!`.
#[derive(Debug, Clone, Default)]
pub struct ExcludePatterns {
    set: GlobSet,
    /// For each pattern whether it readmits.
    readmits: Vec<bool>,
}

impl ExcludePatterns {
    /// Builds the set from patterns, which `compile` receives without the `!`.
    ///
    /// # Errors
    /// Those of `compile`.
    pub fn new<E>(
        patterns: &[String],
        compile: impl FnOnce(&[String]) -> Result<GlobSet, E>,
    ) -> Result<Self, E> {
        let readmits = patterns.iter().map(|pattern| pattern.starts_with('!')).collect();
        let bare = |pattern: &String| match pattern.strip_prefix(r"\!") {
            Some(rest) => format!("!{rest}"),
            None => pattern.strip_prefix('!').unwrap_or(pattern).to_owned(),
        };
        let bare: Vec<String> = patterns.iter().map(bare).collect();
        Ok(Self { set: compile(&bare)?, readmits })
    }

    /// True if there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readmits.is_empty()
    }

    /// True if a pattern readmits: parts of an excluded object may then be selected.
    #[must_use]
    pub fn has_readmission(&self) -> bool {
        self.readmits.contains(&true)
    }

    /// True if the object with these names is excluded: the last pattern that matches one of them
    /// excludes.
    pub fn excludes<N: AsRef<Path>>(&self, names: impl IntoIterator<Item = N>) -> bool {
        if !self.has_readmission() {
            return names.into_iter().any(|name| self.set.is_match(name));
        }
        let last = |name: N| self.set.matches(name).into_iter().max();
        names.into_iter().filter_map(last).max().is_some_and(|at| !self.readmits[at])
    }
}

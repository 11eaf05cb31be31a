//! The state in which a failed restore leaves the target.

use std::collections::BTreeSet;

use backup_core::source::{IfExists, SourceError};
use backup_core::words;

use super::target::Target;
use crate::mongodb::namespace::Namespace;

/// Names that an error lists.
const NAMED: usize = 5;

/// The command that completes an interrupted restore without dropping merged documents.
pub(super) fn again(if_exists: IfExists) -> &'static str {
    match if_exists {
        IfExists::Merge => "restore again with --if-exists merge",
        IfExists::Fail | IfExists::Replace => "restore again with --if-exists replace",
    }
}

/// Collections of a failed restore, by their state at the target.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Dropped collections whose successors do not exist.
    missing: BTreeSet<Namespace>,
    /// Collections that hold a part of their documents.
    partial: BTreeSet<Namespace>,
    /// Temporary collections that could not be dropped.
    leftovers: BTreeSet<Namespace>,
}

impl Left {
    /// After the restore's own collections were dropped, as far as that was possible.
    pub(super) fn of(target: &Target) -> Self {
        let state = target.state();
        let partial: BTreeSet<Namespace> = state
            .filling
            .iter()
            .map(Namespace::visible)
            .chain(state.merging.iter().cloned())
            .collect();
        Self {
            missing: state.dropped.difference(&partial).cloned().collect(),
            leftovers: state.staged.keys().cloned().collect(),
            partial,
        }
    }

    /// Describes the state in front of the error that ended the restore; `complete` of `all`
    /// collections were restored.
    pub(super) fn explain(
        &self,
        error: SourceError,
        (complete, all): (u64, u64),
        if_exists: IfExists,
    ) -> SourceError {
        if complete == all && self.is_nothing() {
            return error;
        }
        let mut parts = vec![format!("{complete} of {all} collections were restored")];
        let lists = [
            ("missing", &self.missing),
            ("incomplete", &self.partial),
            ("left behind", &self.leftovers),
        ];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        parts.extend(lists.map(|(word, names)| format!("{word}: {}", list(names))));
        if complete < all {
            parts.push("all others are as before".to_owned());
        }
        let is_explained = error.hint().is_some();
        let error = error.context(format!("restore stopped ({})", parts.join("; ")));
        if is_explained { error } else { error.with_hint(again(if_exists)) }
    }

    fn is_nothing(&self) -> bool {
        self.missing.is_empty() && self.partial.is_empty() && self.leftovers.is_empty()
    }
}

fn list(names: &BTreeSet<Namespace>) -> String {
    words::few(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), NAMED)
}

#[cfg(test)]
mod tests {
    use backup_core::source::SourceErrorKind;

    use super::*;

    fn error() -> SourceError {
        SourceError::new(SourceErrorKind::Target, "refused")
    }

    #[test]
    fn failure_names_collection_states() {
        let untouched = Left::default().explain(error(), (0, 1), IfExists::Replace);
        assert_eq!(
            untouched.to_string(),
            "restore stopped (0 of 1 collections were restored; all others are as before): refused"
        );
        assert!(untouched.hint().unwrap().contains("--if-exists replace"));
        assert_eq!(untouched.kind(), SourceErrorKind::Target);
        let set = |names: &[&str]| names.iter().filter_map(|name| Namespace::parse(name)).collect();
        let left = Left {
            missing: set(&["a.ts"]),
            partial: set(&["a.1", "a.2", "a.3", "a.4", "a.5", "a.6"]),
            leftovers: BTreeSet::new(),
        };
        assert_eq!(
            left.explain(error(), (2, 9), IfExists::Fail).to_string(),
            "restore stopped (2 of 9 collections were restored; missing: a.ts; incomplete: a.1, \
             a.2, a.3, a.4, a.5 and 1 more; all others are as before): refused"
        );
    }

    #[test]
    fn failure_keeps_hint_of_cause() {
        let all = Left::default().explain(error(), (5, 5), IfExists::Fail);
        assert_eq!(all.to_string(), "refused");
        let hinted = error().with_hint("wait");
        assert_eq!(Left::default().explain(hinted, (0, 5), IfExists::Fail).hint(), Some("wait"));
        let merged = Left::default().explain(error(), (0, 5), IfExists::Merge);
        assert!(merged.hint().unwrap().contains("--if-exists merge"));
    }
}

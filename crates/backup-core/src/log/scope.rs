//! What a piece of a log is about.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Of so many objects it is not noted which ones: headers of slices are read by the hundred.
const MOST: usize = 128;

/// What the events of a piece are about, in the source's own terms: whoever wants a part of the
/// data only can leave out pieces that have nothing to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Every reader needs something in it, whatever he wants: for instance what creates, drops and
    /// renames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// The objects that its other events are about.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub objects: BTreeSet<String>,
}

impl Scope {
    /// Of two pieces that become one; `None` means that it is not known.
    #[must_use]
    pub fn join(one: Option<Self>, other: Option<&Self>) -> Option<Self> {
        let (mut joined, other) = (one?, other?);
        joined.always |= other.always;
        joined.objects.extend(other.objects.iter().cloned());
        joined.noted()
    }

    /// Itself, unless it is about too many objects to be noted.
    #[must_use]
    pub fn noted(self) -> Option<Self> {
        (self.objects.len() <= MOST).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(always: bool, objects: &[&str]) -> Scope {
        Scope { always, objects: objects.iter().map(|&object| object.to_owned()).collect() }
    }

    #[test]
    fn pieces_that_become_one_are_about_both() {
        let joined = Scope::join(Some(scope(false, &["a"])), Some(&scope(true, &["b", "a"])));
        assert_eq!(joined, Some(scope(true, &["a", "b"])));
        assert_eq!(Scope::join(None, Some(&scope(false, &[]))), None);
        assert_eq!(Scope::join(Some(scope(false, &[])), None), None);
    }

    #[test]
    fn too_many_objects_are_not_noted() {
        let many = |from: usize, to| Scope {
            always: false,
            objects: (from..to).map(|n| n.to_string()).collect(),
        };
        assert!(Scope::join(Some(many(0, 64)), Some(&many(64, 128))).is_some());
        assert!(Scope::join(Some(many(0, 64)), Some(&many(64, 129))).is_none());
    }

    #[test]
    fn what_says_nothing_takes_no_room() {
        assert_eq!(serde_json::to_string(&Scope::default()).unwrap(), "{}");
        let text = r#"{"always":true,"objects":["a"]}"#;
        assert_eq!(serde_json::from_str::<Scope>(text).unwrap(), scope(true, &["a"]));
    }
}

//! Which log of which source.

use sha2::{Digest, Sha256};

use crate::source::SourceIdentity;

/// The log of one source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    kind: String,
    id: String,
}

impl Stream {
    /// The log of a source.
    #[must_use]
    pub fn of(source: &SourceIdentity) -> Self {
        Self { kind: source.kind.clone(), id: source.id.clone() }
    }

    /// The name that its objects have: it tells nothing about the source.
    #[must_use]
    pub fn name(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.kind, &self.id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex::encode(&hash.finalize()[..12])
    }

    /// The lease that its capturer holds.
    pub(super) fn capture_lease(&self) -> String {
        format!("capture-{}", self.name())
    }

    /// The lease of whoever rolls it up.
    pub(super) fn roll_up_lease(&self) -> String {
        format!("roll-up-{}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_can_stand_in_keys() {
        let stream =
            |kind: &str, id: &str| Stream { kind: kind.to_owned(), id: id.to_owned() }.name();
        assert_ne!(stream("ab", "c"), stream("a", "bc"));
        assert_eq!(stream("mongodb", "rs0").len(), 24);
        assert!(
            crate::repository::layout::lease(
                &Stream { kind: "a".into(), id: "/".into() }.capture_lease()
            )
            .is_ok()
        );
    }
}

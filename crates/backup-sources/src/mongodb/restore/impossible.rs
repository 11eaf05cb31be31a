//! Names that no server takes: they come from renaming rules, or from another database at the target
//! that differs in case only.

use std::collections::BTreeMap;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::target::Target;
use crate::mongodb::namespace::Namespace;

/// Characters that no name of a database contains, on servers for Linux.
const FORBIDDEN: [char; 7] = ['/', '\\', '.', ' ', '"', '$', '\0'];
/// Bytes of the name of a database.
const DATABASE: usize = 63;
/// Bytes of `database.collection`.
const WHOLE: usize = 255;

impl Target {
    /// Refuses names of restored objects that the server would refuse.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] for the first of them.
    pub(super) fn refuse_impossible(&self, names: &[Namespace]) -> SourceResult<()> {
        let state = self.state();
        let existing = state.existing.keys().map(|name| &*name.db);
        let mut databases: BTreeMap<String, &str> =
            existing.map(|database| (database.to_ascii_lowercase(), database)).collect();
        for name in names {
            if let Some(reason) = reason(name) {
                return Err(refused(name, &reason));
            }
            let known = databases.entry(name.db.to_ascii_lowercase()).or_insert(&name.db);
            if *known != name.db {
                let reason = format!("the name of the database {known} differs in case only");
                return Err(refused(name, &reason));
            }
        }
        Ok(())
    }
}

/// The rule that a name breaks on every server.
fn reason(name: &Namespace) -> Option<String> {
    if let Some(letter) = name.db.chars().find(|letter| FORBIDDEN.contains(letter)) {
        return Some(format!("the name of a database cannot contain {letter:?}"));
    }
    if name.db.len() > DATABASE {
        return Some(format!("the name of a database has at most {DATABASE} bytes"));
    }
    let collection = name.visible().name;
    if collection.contains(['$', '\0']) || collection.starts_with('.') {
        let text = "the name of a collection cannot contain \"$\" or begin with a dot";
        return Some(text.to_owned());
    }
    let length = name.db.len() + 1 + name.name.len();
    (length > WHOLE).then(|| format!("the name has {length} bytes, more than {WHOLE}"))
}

fn refused(name: &Namespace, reason: &str) -> SourceError {
    let name = name.visible();
    SourceError::new(SourceErrorKind::Invalid, format!("cannot restore as {name}: {reason}"))
        .with_hint("choose another name with --rename FROM=TO")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_server_takes_have_a_reason() {
        let long = "x".repeat(64);
        for (db, collection) in
            [("a b", "c"), ("a$", "c"), ("a/b", "c"), (&*long, "c"), ("a", "b$c"), ("a", ".b")]
        {
            assert!(reason(&Namespace::new(db, collection)).is_some(), "{db}.{collection}");
        }
        assert!(reason(&Namespace::new("a", "x".repeat(254))).is_some());
        for (db, collection) in [("a-b", "c d"), (&long[..63], "c"), ("é", "system.js")] {
            assert_eq!(reason(&Namespace::new(db, collection)), None);
        }
        assert_eq!(reason(&Namespace::new("a", "x".repeat(253))), None);
    }
}

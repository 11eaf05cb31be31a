//! Comparing the relations of the script with those of the manifest: a relation that only one of
//! the two has could not be loaded.

use std::collections::HashSet;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words::few;

use super::super::catalog;
use super::super::sql::{RELATION_KINDS, Relation, Script};
use super::database::Database;

/// Names that an error lists.
const NAMED: usize = 10;

/// Fails if `before` (`pre-data.sql`) does not define a relation that is backed up, or defines a
/// table that the catalog lacks. Extensions define their own relations.
///
/// # Errors
/// [`SourceErrorKind::Unavailable`] if definitions changed all the time, otherwise
/// [`SourceErrorKind::Mismatch`].
pub(super) fn require_defined(database: &Database, before: &str) -> SourceResult<()> {
    let script = Script::parse(before);
    let entries = script.entries.iter().filter(|entry| RELATION_KINDS.contains(&entry.kind));
    let pair = |one: &catalog::Relation| (one.schema.clone(), one.name.clone());
    let known: HashSet<Relation> = database.catalog.relations.iter().map(pair).collect();
    let (mut defined, mut unknown) = (HashSet::new(), Vec::new());
    for entry in entries {
        let name = (entry.schema.clone().into_owned(), entry.name.clone().into_owned());
        if entry.kind == "TABLE" && !known.contains(&name) {
            unknown.push(name.clone());
        }
        defined.insert(name);
    }
    let covered = database.catalog.relations.iter();
    let covered = covered.filter(|one| database.is_covered(one) && !one.of_extension);
    let missing: Vec<Relation> = covered.map(pair).filter(|name| !defined.contains(name)).collect();
    let (names, what) = match (missing.is_empty(), unknown.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => (missing, "does not define"),
        (true, false) => (unknown, "defines, although the catalog lacks them,"),
    };
    let names: Vec<String> =
        names.iter().map(|(schema, name)| format!("{schema:?}.{name:?}")).collect();
    let text = format!(
        "the backup of {} could not be loaded: pg_dump {what} {}",
        database.name,
        few(&names, NAMED)
    );
    Err(if database.is_mixed {
        SourceError::new(SourceErrorKind::Unavailable, text)
            .with_hint("try again when the definitions no longer change")
    } else {
        SourceError::new(SourceErrorKind::Mismatch, text)
            .with_hint("back up the tables that these relations belong to as well, or exclude them")
    })
}

//! The names that relations get, and with them everything that belongs to them and shares their
//! names: partitions, sequences, indexes, constraints, statistics objects; types of several ranges.

use std::collections::{HashMap, HashSet};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::options::LogicalOptions;
use super::super::sql::{Entry, NewNames, Relation, Script};
use super::plan::{Plan, relation};

impl Plan<'_> {
    /// The new names of schemas and relations, and of everything that belongs to these.
    pub(super) fn new_names(
        &self,
        options: &LogicalOptions,
        covered: &HashSet<Relation>,
    ) -> NewNames {
        let database = &*self.stored.manifest.name;
        let mut names = NewNames { known: self.known(), ..NewNames::default() };
        for schema in covered.iter().map(|(schema, _)| schema).chain(&self.schemas) {
            if let Some(renamed) = options.renames.schema(database, schema) {
                names.schemas.insert(schema.clone(), renamed);
            }
        }
        let relations: HashSet<&String> = names.known.iter().map(|(_, name)| name).collect();
        let extended = self.extended();
        let is_shared =
            |schema: &&String| relations.contains(*schema) || !extended.contains(*schema);
        names.shared = names.schemas.keys().filter(is_shared).cloned().collect();
        for (schema, name) in covered {
            if let Some(renamed) = options.renames.relation(database, schema, name) {
                names.relations.insert(relation(schema, name), renamed);
            }
        }
        // Partitions and sequences: first of the tables themselves, then of their partitions.
        let parents = &self.stored.parents;
        let mut parts: Vec<(usize, &Relation, &Relation)> = covered
            .iter()
            .filter_map(|part| Some((depth(part, parents), part, parents.get(part)?)))
            .collect();
        parts.sort_unstable();
        let indexes = self.indexes.iter();
        let parts = parts.into_iter().map(|(_, part, table)| (part, table)).chain(indexes);
        // A table also gets another name by its schema, in which its parts need not lie.
        for (part, table) in parts {
            if names.is_renamed(table) && !names.relations.contains_key(part) {
                names.relations.insert(part.clone(), names.with_table(part, table));
            }
        }
        for entry in &self.before {
            let Some(multirange) = entry.multirange() else { continue };
            let Some(range) = entry.names().into_iter().next() else { continue };
            if multirange.0 != range.0 && names.is_renamed(&range) {
                names.relations.insert(multirange.clone(), names.with_table(&multirange, &range));
            }
        }
        for (one, table) in &self.statistics {
            if names.is_renamed(table) {
                names.statistics.insert(one.clone(), names.with_table(one, table));
            }
        }
        names
    }

    /// Refuses rules that give two relations one name.
    pub(super) fn refuse_equal_names(&self, covered: &HashSet<Relation>) -> SourceResult<()> {
        let mut seen: HashMap<Relation, &Relation> = HashMap::new();
        // Constraints without an index may be called like a table.
        let is_renamed =
            |one: &&Relation| self.names.relations.contains_key(*one) && !covered.contains(*one);
        let indexes = self.indexes.keys().filter(is_renamed);
        for one in covered.iter().chain(indexes) {
            let name = self.names.of(&one.0, &one.1);
            let shown = format!("{}.{}", name.0, name.1);
            if let Some(other) = seen.insert(name, one) {
                let text = format!(
                    "the renaming rules give {}.{} and {}.{} one name, {shown}",
                    other.0, other.1, one.0, one.1
                );
                return Err(SourceError::new(SourceErrorKind::Invalid, text)
                    .with_hint("correct the rules, or name the relations one by one"));
            }
        }
        Ok(())
    }

    /// The table of a partition or sequence that is made, both by their names at the target.
    pub(super) fn parents_made(&self) -> HashMap<Relation, Relation> {
        let renamed = |one: &Relation| self.names.of(&one.0, &one.1);
        let parents = self.stored.parents.iter();
        let parents = parents.map(|(part, table)| (renamed(part), renamed(table)));
        parents.filter(|(part, _)| self.made.contains(part)).collect()
    }

    /// Schemas that extensions are made in.
    fn extended(&self) -> HashSet<String> {
        self.before.iter().filter_map(Entry::extended_schema).collect()
    }

    /// Everything that the snapshot has with a schema, as its statements name it.
    fn known(&self) -> HashSet<Relation> {
        let scripts = [Script::parse(&self.stored.before), Script::parse(&self.stored.after)];
        let entries = scripts.iter().flat_map(|script| &script.entries);
        entries.flat_map(Entry::names).collect()
    }
}

/// Number of ancestors of a relation.
fn depth(one: &Relation, parents: &HashMap<Relation, Relation>) -> usize {
    std::iter::successors(parents.get(one), |parent| parents.get(*parent)).count()
}

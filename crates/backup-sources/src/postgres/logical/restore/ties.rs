//! Ties of restored tables to others that are not restored with them: foreign keys, publications,
//! inheritance.

use std::collections::HashSet;

use super::super::sql::{Entry, RELATION_KINDS, Relation, qualified};
use super::plan::Plan;

/// Objects of the target before anything is made.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) relations: HashSet<Relation>,
    pub(super) publications: HashSet<String>,
    /// Roles that new relations of this role are granted to by default: their schema (`None` for
    /// all) and the role as SQL has it.
    pub(super) granted: Vec<(Option<String>, String)>,
}

impl Plan<'_> {
    /// The reason why an entry cannot be made beside the objects of the target, if there is one.
    pub(super) fn loose_end(&self, entry: &Entry<'_>, there: &There) -> Option<String> {
        match entry.kind {
            "FK CONSTRAINT" => self.loose_key(entry, there),
            "PUBLICATION TABLE" => self.loose_member(entry, there),
            _ => None,
        }
    }

    /// A statement that takes back the default privileges of a new relation: it gets the privileges
    /// of the snapshot only.
    pub(super) fn ungranted(&self, entry: &Entry<'_>, there: &There) -> Option<String> {
        if !self.privileges || !RELATION_KINDS.contains(&entry.kind) {
            return None;
        }
        let (schema, name) = entry.about().map(|one| self.names.of(&one.0, &one.1))?;
        let applies =
            |of: &Option<String>| of.as_ref().is_none_or(|granted_in| *granted_in == schema);
        let roles = there.granted.iter().filter(|(of, _)| applies(of)).map(|(_, role)| &**role);
        let roles: Vec<&str> = roles.collect();
        let kind = if entry.kind == "SEQUENCE" { "SEQUENCE" } else { "TABLE" };
        let name = qualified(&schema, &name);
        (!roles.is_empty())
            .then(|| format!("REVOKE ALL ON {kind} {name} FROM {}", roles.join(", ")))
    }

    fn loose_key(&self, entry: &Entry<'_>, there: &There) -> Option<String> {
        let (table, other) = (entry.about()?, entry.references()?);
        let other_there = self.names.of(&other.0, &other.1);
        if there.relations.contains(&other_there) || self.made.contains(&other_there) {
            return None;
        }
        Some(format!(
            "a foreign key of {} is left out: the referenced {} is not at the target",
            shown(&table),
            shown(&other)
        ))
    }

    /// A copy under another name is no member of the publications of its original: subscribers lack
    /// such a table, and their replication would stop.
    fn loose_member(&self, entry: &Entry<'_>, there: &There) -> Option<String> {
        let (table, publication) = (entry.about()?, entry.publication()?);
        if !there.publications.contains(&publication) {
            let is_it = |one: &Entry<'_>| {
                one.kind == "PUBLICATION" && one.publication().as_ref() == Some(&publication)
            };
            let is_made = self.before.iter().chain(&self.after).any(is_it);
            let text = "which is not at the target";
            return (!is_made).then(|| {
                format!("{} is not added to the publication {publication:?}, {text}", shown(&table))
            });
        }
        let name = self.names.of(&table.0, &table.1);
        (name != table).then(|| {
            format!(
                "{} is not added to the publication {publication:?} of its original",
                shown(&name)
            )
        })
    }

    /// Statements that separate a copy under another name from a parent that stays, after `entry`
    /// has made the copy: queries of the parent would return the rows of the copy as well.
    pub(super) fn untied(&self, entry: &Entry<'_>) -> Vec<String> {
        self.parents_left(entry)
            .map(|(name, parent)| {
                let (name, parent) = (qualified(&name.0, &name.1), qualified(&parent.0, &parent.1));
                format!("ALTER TABLE ONLY {name} NO INHERIT {parent}")
            })
            .collect()
    }

    /// Copies and the tables that they would inherit from, at the target.
    fn parents_left(&self, entry: &Entry<'_>) -> impl Iterator<Item = (Relation, Relation)> {
        let own = entry.about().filter(|_| matches!(entry.kind, "TABLE" | "FOREIGN TABLE"));
        let own = own.map(|own| (self.names.of(&own.0, &own.1), own));
        let copies = own.filter(|(name, own)| name != own).into_iter();
        copies.flat_map(|(name, _)| {
            let parents = entry.inherits().into_iter();
            let parents = parents.map(|(schema, parent)| self.names.of(&schema, &parent));
            let left = parents.filter(|parent| !self.made.contains(parent));
            left.map(move |parent| (name.clone(), parent))
        })
    }

    /// Ties that a copy under another name does not get, because the table at the other end stays.
    pub(super) fn separated(&self) -> Vec<String> {
        let left = self.before.iter().flat_map(|entry| self.parents_left(entry));
        let text = |(name, parent): (Relation, Relation)| {
            format!("{} does not inherit from {}, which stays", shown(&name), shown(&parent))
        };
        left.map(text).collect()
    }
}

fn shown(one: &Relation) -> String {
    format!("{}.{}", one.0, one.1)
}

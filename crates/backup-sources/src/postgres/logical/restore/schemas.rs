//! Schemas that no entry of the dump makes: of single tables, and `public`, which every database
//! has from its beginning.

use std::collections::{BTreeMap, HashSet};

use super::super::sql::quoted;
use super::plan::Plan;

const PUBLIC: &str = "public";

/// The first version of `pg_dump` for which only `USAGE` of `public` is a default privilege of all
/// roles. For earlier ones `CREATE` is another.
const ONLY_USAGE: u32 = 15;

impl Plan<'_> {
    /// The statements that make such schemas, by their names at the target.
    pub(super) fn schemas_to_make(&self) -> BTreeMap<String, String> {
        let created = self.before.iter().filter(|entry| entry.creates_schema());
        let created: HashSet<String> =
            created.map(|entry| self.names.schema(&entry.name)).collect();
        let of_relations = self.made.iter().map(|(schema, _)| schema);
        let renamed = self.schemas.iter().filter_map(|schema| self.names.schemas.get(schema));
        of_relations
            .chain(renamed)
            .filter(|schema| !created.contains(*schema))
            .map(|schema| (schema.clone(), self.making(schema)))
            .collect()
    }

    /// The statement for one schema. A copy of `public` first gets the privileges that `public` has in
    /// a new database: the dump only has the differences.
    fn making(&self, schema: &str) -> String {
        let name = quoted(schema);
        let create = format!("CREATE SCHEMA IF NOT EXISTS {name}");
        let is_copy = self.names.schemas.get(PUBLIC).is_some_and(|renamed| renamed == schema);
        // Without the entries about the schema itself, `public` may be less open than that.
        if !(is_copy && self.privileges && self.schemas.contains(PUBLIC)) {
            return create;
        }
        let rights = if self.stored.pg_dump < ONLY_USAGE { "USAGE, CREATE" } else { "USAGE" };
        format!("{create}\n;GRANT {rights} ON SCHEMA {name} TO PUBLIC")
    }
}

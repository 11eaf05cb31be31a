//! Partitions whose rows may belong to other partitions on another server: their rows are loaded
//! through the partitioned table, and compared with it.

use super::super::manifest::Table;
use super::super::sql::Relation;
use super::plan::Plan;

impl Plan<'_> {
    /// Schema and name, at the target, of the table that the rows of `table` are loaded into:
    /// itself, or the partitioned one by which the server finds their partitions.
    pub(super) fn loaded_into(&self, table: &Table) -> Relation {
        self.route_of(table)
            .map_or_else(|| self.name_of(table), |(schema, name)| self.names.of(schema, name))
    }

    /// The partitioned table that the rows of `table` are loaded through, by its name in the
    /// snapshot; none if it is not restored.
    pub(super) fn route_of<'t>(&self, table: &'t Table) -> Option<&'t Relation> {
        table.through.as_ref().filter(|through| self.routes.contains(*through))
    }

    /// The tables at the target that have the rows which the digest of `table` is of: itself, or
    /// the partitions that are loaded through it. `None` if some of these are not restored.
    pub(super) fn with_rows_of(&self, table: &Table) -> Option<Vec<Relation>> {
        let own = (table.schema.clone(), table.name.clone());
        if !self.routes.contains(&own) {
            return Some(vec![self.name_of(table)]);
        }
        let is_routed = |one: &&Table| one.through.as_ref() == Some(&own);
        let restored = self.tables.iter().copied().filter(is_routed);
        let restored: Vec<Relation> = restored.map(|one| self.name_of(one)).collect();
        let stored = self.stored.manifest.tables.iter().filter(is_routed).count();
        (restored.len() == stored).then_some(restored)
    }
}

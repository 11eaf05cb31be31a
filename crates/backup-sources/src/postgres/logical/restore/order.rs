//! The order of tables in which rows find the rows to which they refer.

use std::collections::{HashMap, HashSet};

use super::super::manifest::Table;
use super::super::sql::Relation;
use super::plan::Plan;

impl<'a> Plan<'a> {
    /// The tables, those first that foreign keys of others refer to. Those that refer to each other
    /// in a circle come as they are.
    pub(super) fn in_order(&self) -> Vec<&'a Table> {
        let above: HashMap<Relation, Relation> = self
            .tables
            .iter()
            .filter_map(|table| Some((of(table), table.partition_of.clone()?)))
            .collect();
        // Rows of a partitioned table are in its partitions, and its keys are theirs.
        let lineage = |table: &Table| {
            std::iter::successors(Some(of(table)), |one| above.get(one).cloned())
                .collect::<Vec<Relation>>()
        };
        let mut parts: HashMap<Relation, Vec<&'a Table>> = HashMap::new();
        for table in &self.tables {
            lineage(table).into_iter().for_each(|one| parts.entry(one).or_default().push(table));
        }
        let mut keys: HashMap<Relation, Vec<Relation>> = HashMap::new();
        for entry in self.after.iter().filter(|entry| entry.kind == "FK CONSTRAINT") {
            if let (Some(from), Some(to)) = (entry.about(), entry.references()) {
                keys.entry(from).or_default().push(to);
            }
        }
        let referred = |table: &Table| -> Vec<&'a Table> {
            let to = lineage(table).into_iter().filter_map(|one| keys.get(&one)).flatten();
            to.filter_map(|one| parts.get(one)).flatten().copied().collect()
        };
        sorted(&self.tables, referred)
    }
}

fn of(table: &Table) -> Relation {
    (table.schema.clone(), table.name.clone())
}

/// Depth first, without recursion: chains of tables may be long.
fn sorted<'a>(tables: &[&'a Table], referred: impl Fn(&Table) -> Vec<&'a Table>) -> Vec<&'a Table> {
    let (mut seen, mut out) = (HashSet::new(), Vec::with_capacity(tables.len()));
    for table in tables {
        // Each once on its way in, and once when all that it refers to is out.
        let mut left = vec![(*table, false)];
        while let Some((table, is_done)) = left.pop() {
            if is_done {
                out.push(table);
            } else if seen.insert((&*table.schema, &*table.name)) {
                left.push((table, true));
                left.extend(referred(table).into_iter().map(|other| (other, false)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        Table {
            schema: "s".to_owned(),
            name: name.to_owned(),
            partition_of: None,
            through: None,
            of_extension: false,
            columns: Vec::new(),
            files: Vec::new(),
            without_rows: false,
            digest: None,
        }
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let tables: Vec<Table> = ["a", "b", "c", "d"].into_iter().map(table).collect();
        let by_name = |name: &str| tables.iter().find(|table| table.name == name).unwrap();
        // A circle of b and c beside a → d.
        let referred = |table: &Table| match &*table.name {
            "a" => vec![by_name("d"), by_name("b")],
            "b" => vec![by_name("c")],
            "c" => vec![by_name("b")],
            _ => Vec::new(),
        };
        let order: Vec<&str> = sorted(&tables.iter().collect::<Vec<_>>(), referred)
            .iter()
            .map(|table| &*table.name)
            .collect();
        assert_eq!(order, ["c", "b", "d", "a"]);
    }
}

//! Partitioned tables: by ranges, lists and hashes, in several levels, with default partitions and
//! partitions that were attached.

use super::Schema;
use super::names::quoted;
use super::tables::{Column, Table};
use super::types::Type;

/// Method of a division. The first column is an integer from 1 on, the second one has labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Range,
    RangeOfTwo,
    Expression,
    List,
    Hash,
    HashOfLabels,
}

const METHODS: [Method; 6] = [
    Method::Range,
    Method::RangeOfTwo,
    Method::Expression,
    Method::List,
    Method::Hash,
    Method::HashOfLabels,
];

impl Schema {
    pub(super) fn add_partitioned_table(&mut self) {
        let labelled: Vec<Type> =
            self.types.iter().filter(|kind| kind.labels.is_some()).cloned().collect();
        let kind = self.pick(&labelled);
        let mut table = self.table(4);
        let label = Column {
            name: quoted(&self.name()),
            definition: kind.sql.clone(),
            value: kind.value.clone(),
        };
        table.columns.insert(1, label);
        let method = self.pick(&METHODS);
        table.is_partitioned = true;
        let listed = definitions(&table.columns);
        let sql = table.sql();
        let by = by(method, &table);
        self.add(format!("CREATE TABLE {sql} ({}) PARTITION BY {by}", listed.join(", ")));
        table.moves = method == Method::HashOfLabels;
        self.add_partitions(&mut table, &sql, method, &kind, 2);
        // A key has all columns of the division.
        table.is_keyed = method == Method::Range || method == Method::Hash;
        if self.one_in(2) && method != Method::Expression && !table.moves {
            let (key, label) = (&table.columns[0].name, &table.columns[1].name);
            let columns = match method {
                Method::Range | Method::Hash if self.every_level_is_by_key(&table) => key.clone(),
                _ => format!("{key}, {label}"),
            };
            let name = quoted(&self.name());
            self.add(format!("ALTER TABLE {sql} ADD CONSTRAINT {name} UNIQUE ({columns})"));
        }
        table.is_keyed = false;
        self.insert(&table, &sql);
        self.tables.push(table);
    }

    /// Lower levels are divided by the label.
    fn every_level_is_by_key(&self, table: &Table) -> bool {
        let begin = format!("PARTITION BY LIST ({}", table.columns[1].name);
        let hash = format!("PARTITION BY HASH ({}", table.columns[1].name);
        let of_label = |statement: &String| statement.contains(&begin) || statement.contains(&hash);
        !self.statements.iter().any(of_label)
    }

    /// Partitions of `parent`, some of them divided again.
    fn add_partitions(
        &mut self,
        table: &mut Table,
        parent: &str,
        method: Method,
        kind: &Type,
        levels: usize,
    ) {
        for bound in self.bounds(method, kind) {
            // Half of the tables have partitions in other schemas.
            let name = if table.rows.is_multiple_of(2) {
                self.qualified()
            } else {
                format!("{}.{}", table.schema, quoted(&self.name()))
            };
            let next =
                self.pick(&[Method::Range, Method::List, Method::Hash, Method::HashOfLabels]);
            let is_divided = levels > 0 && self.one_in(3);
            let more = if is_divided {
                format!(" PARTITION BY {}", by(next, table))
            } else {
                String::new()
            };
            if self.one_in(3) {
                self.attach(table, parent, &name, &bound, &more);
            } else {
                self.add(format!("CREATE TABLE {name} PARTITION OF {parent} {bound}{more}"));
            }
            if is_divided {
                table.moves |= next == Method::HashOfLabels;
                self.add_partitions(table, &name, next, kind, levels - 1);
            }
        }
    }

    /// A table with another order of columns and a dropped one becomes a partition.
    fn attach(&mut self, table: &Table, parent: &str, name: &str, bound: &str, more: &str) {
        let mut listed = definitions(&table.columns);
        listed.rotate_left(1);
        let gone = quoted(&self.name());
        listed.insert(0, format!("{gone} int"));
        self.add(format!("CREATE TABLE {name} ({}){more}", listed.join(", ")));
        self.add(format!("ALTER TABLE {name} DROP COLUMN {gone}"));
        self.add(format!("ALTER TABLE {parent} ATTACH PARTITION {name} {bound}"));
    }

    /// Bounds that take every row.
    fn bounds(&mut self, method: Method, kind: &Type) -> Vec<String> {
        let range = |from: &str, to: &str| format!("FOR VALUES FROM ({from}) TO ({to})");
        let has_default = self.one_in(2);
        let default = "DEFAULT".to_owned();
        match method {
            Method::Range | Method::Expression => {
                let last = if has_default { default } else { range("90", "MAXVALUE") };
                vec![range("MINVALUE", "5"), range("5", "90"), last]
            }
            Method::RangeOfTwo => {
                let labels = kind.labels.as_ref().unwrap();
                let middle = format!("20, {}", labels[1]);
                vec![
                    range("MINVALUE, MINVALUE", &middle),
                    range(&middle, "MAXVALUE, MAXVALUE"),
                    default,
                ]
            }
            Method::List => {
                let labels = kind.labels.clone().unwrap();
                let last = if has_default {
                    default
                } else {
                    format!("FOR VALUES IN ({}, NULL)", labels[2])
                };
                vec![format!("FOR VALUES IN ({}, {})", labels[0], labels[1]), last]
            }
            Method::Hash | Method::HashOfLabels => {
                let of = |modulus: u8, remainder: u8| {
                    format!("FOR VALUES WITH (MODULUS {modulus}, REMAINDER {remainder})")
                };
                if self.one_in(2) { vec![of(2, 0), of(4, 1), of(4, 3)] } else { vec![of(1, 0)] }
            }
        }
    }
}

fn definitions(columns: &[Column]) -> Vec<String> {
    columns.iter().map(|column| format!("{} {}", column.name, column.definition)).collect()
}

fn by(method: Method, table: &Table) -> String {
    let (key, label) = (&table.columns[0].name, &table.columns[1].name);
    match method {
        Method::Range => format!("RANGE ({key})"),
        Method::RangeOfTwo => format!("RANGE ({key}, {label})"),
        Method::Expression => format!("RANGE (({key} % 100))"),
        Method::List => format!("LIST ({label})"),
        Method::Hash => format!("HASH ({key})"),
        Method::HashOfLabels => format!("HASH ({label})"),
    }
}

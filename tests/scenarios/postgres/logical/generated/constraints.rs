//! Foreign keys in every direction, exclusion and check constraints, indexes.

use super::names::quoted;
use super::tables::Table;
use super::{Schema, Version};

impl Schema {
    pub(super) fn add_constraints(&mut self) {
        let keyed: Vec<Table> =
            self.tables.iter().filter(|table| is_target(table)).cloned().collect();
        if !keyed.is_empty() {
            // Each one refers to the next, the last to the first, and each to itself.
            for at in 0..keyed.len() {
                let next = &keyed[(at + 1) % keyed.len()];
                self.refer(&keyed[at], next);
                if self.one_in(3) {
                    self.refer(&keyed[at], &keyed[at]);
                }
            }
            for table in self.tables.clone() {
                if table.is_partitioned {
                    let target = self.pick(&keyed);
                    self.refer(&table, &target);
                }
            }
        }
        for table in self.tables.clone() {
            if table.columns.is_empty() || table.inherits {
                continue;
            }
            for _ in 0..self.below(3) {
                self.add_index(&table);
            }
            self.add_check(&table);
            if self.one_in(3) && !table.is_partitioned {
                self.add_exclusion(&table);
            }
        }
        if self.one_in(3) {
            self.add_temporal();
        }
    }

    /// A column that refers to another table, and its foreign key.
    fn refer(&mut self, from: &Table, to: &Table) {
        if from.is_unlogged != to.is_unlogged || from.inherits {
            return;
        }
        let (column, name) = (quoted(&self.name()), quoted(&self.name()));
        let (sql, key) = (from.sql(), &from.columns[0].name);
        self.add(format!("ALTER TABLE {sql} ADD COLUMN {column} int"));
        self.add(format!("UPDATE {sql} SET {column} = 1 + {key} % {}", to.rows));
        let target = format!("{} ({})", to.sql(), to.columns[0].name);
        let options = [
            "",
            " ON DELETE CASCADE ON UPDATE SET NULL",
            " DEFERRABLE INITIALLY DEFERRED",
            " MATCH FULL ON DELETE SET DEFAULT DEFERRABLE",
            " NOT VALID",
            " NOT ENFORCED",
        ];
        let limit = if from.is_partitioned {
            4
        } else if self.is_since(Version::V18) {
            6
        } else {
            5
        };
        let option = options[self.below(limit)];
        self.add(format!(
            "ALTER TABLE {sql} ADD CONSTRAINT {name} FOREIGN KEY ({column}) REFERENCES \
             {target}{option}"
        ));
    }

    fn add_index(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let (name, function) = (quoted(&self.name()), self.function());
        let on = match self.below(9) {
            0 => format!("{sql} ({function}({key})) WHERE {key} > 3"),
            1 => format!("{sql} USING hash ({key})"),
            2 => format!("{sql} USING brin ({key}) WITH (pages_per_range = 7)"),
            3 => format!("{sql} ({key} DESC NULLS LAST) INCLUDE ({key})"),
            4 => format!("{sql} USING gin ((ARRAY[{key}]))"),
            5 => format!("{sql} USING gist (point({key}, 1))"),
            6 => format!("{sql} (({key}::text) COLLATE \"C\" text_pattern_ops)"),
            7 if self.is_since(Version::V15) && !table.is_partitioned => {
                format!("{sql} ({key}) NULLS NOT DISTINCT")
            }
            _ => format!("{sql} ({key}, ({key} % 5)) WITH (fillfactor = 60)"),
        };
        let unique = if on.ends_with("DISTINCT") { "UNIQUE " } else { "" };
        self.add(format!("CREATE {unique}INDEX {name} ON {on}"));
        let index = format!("{}.{name}", table.schema);
        if self.one_in(3) {
            self.add(format!("COMMENT ON INDEX {index} IS E'an index\\n--;'"));
        }
        if on.ends_with("fillfactor = 60)") {
            self.add(format!("ALTER INDEX {index} ALTER COLUMN 2 SET STATISTICS 99"));
            if !table.is_partitioned && self.one_in(2) {
                self.add(format!("ALTER TABLE {sql} CLUSTER ON {name}"));
            }
        }
        if on.ends_with("fillfactor = 60)") && !table.is_partitioned && self.one_in(2) {
            let identity = quoted(&self.name());
            self.add(format!("CREATE UNIQUE INDEX {identity} ON {sql} ({key})"));
            self.add(format!("ALTER TABLE {sql} ALTER {key} SET NOT NULL"));
            self.add(format!("ALTER TABLE {sql} REPLICA IDENTITY USING INDEX {identity}"));
        }
    }

    fn add_check(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let (name, function) = (quoted(&self.name()), self.function());
        let check = match self.below(4) {
            0 => format!("CHECK ({function}({key}) >= 0)"),
            1 => format!("CHECK ({key} > 0 AND {key} IN (1, 2) OR {key} <> ALL (ARRAY[-1, -2]))"),
            2 => format!("CHECK ({key} < 5) NOT VALID"),
            _ => return,
        };
        self.add(format!("ALTER TABLE {sql} ADD CONSTRAINT {name} {check}"));
    }

    fn add_exclusion(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let name = quoted(&self.name());
        let with = format!("int4range({key} * 10, {key} * 10 + 5) WITH &&");
        let gist = self.extensions.iter().find(|(name, _)| name == "btree_gist");
        let more = gist
            .map_or(String::new(), |(_, schema)| format!("{key} {schema}.gist_int4_ops WITH =, "));
        let deferrable = if self.one_in(2) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
        self.add(format!(
            "ALTER TABLE {sql} ADD CONSTRAINT {name} EXCLUDE USING gist ({more}{with}) WHERE \
             ({key} > 2){deferrable}"
        ));
    }

    /// Keys without overlaps, since 18.
    fn add_temporal(&mut self) {
        let gist =
            self.extensions.iter().any(|(name, schema)| name == "btree_gist" && schema == "public");
        if !self.is_since(Version::V18) || !gist {
            return;
        }
        let (one, two) = (self.qualified(), self.qualified());
        self.add(format!(
            "CREATE TABLE {one} (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS))"
        ));
        self.add(format!(
            "CREATE TABLE {two} (id int, at daterange, FOREIGN KEY (id, PERIOD at) REFERENCES {one} \
             (id, PERIOD at))"
        ));
        self.add(format!(
            "INSERT INTO {one} VALUES (1, '[2026-01-01,2026-03-01)'), (1, '[2026-03-01,)')"
        ));
        self.add(format!("INSERT INTO {two} VALUES (1, '[2026-02-01,2026-04-01)')"));
    }
}

/// True if a foreign key can refer to the first column.
fn is_target(table: &Table) -> bool {
    table.is_keyed && table.rows > 0 && !table.is_partitioned
}

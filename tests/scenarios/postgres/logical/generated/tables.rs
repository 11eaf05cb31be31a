//! Tables of every kind, and their rows.

use super::names::{quoted, unquoted};
use super::{Schema, Version, left_out};

/// A column and the expression of its values.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// In quotes.
    pub(super) name: String,
    pub(super) definition: String,
    pub(super) value: String,
}

/// A table that is no partition.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// In quotes.
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) columns: Vec<Column>,
    /// The first column is an integer key from 1 to the number of rows.
    pub(super) is_keyed: bool,
    pub(super) is_partitioned: bool,
    /// The partitions of the rows depend on the server.
    pub(super) moves: bool,
    /// The table has parents or children.
    pub(super) inherits: bool,
    pub(super) is_unlogged: bool,
}

impl Table {
    /// The name in SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", self.schema, quoted(&self.name))
    }

    /// The same with the schema in quotes, `public` too.
    pub(super) fn sql_quoted(&self) -> String {
        format!("{}.{}", quoted(&unquoted(&self.schema)), quoted(&self.name))
    }
}

impl Schema {
    pub(super) fn add_tables(&mut self) {
        for _ in 0..4 + self.below(4) {
            self.add_plain_table();
        }
        for _ in 0..1 + self.below(3) {
            self.add_partitioned_table();
        }
        if self.one_in(2) {
            self.add_family();
        }
        if self.one_in(2) {
            self.add_typed_table();
        }
        if self.one_in(3) {
            let mut table = self.table(0);
            (table.columns, table.rows, table.is_keyed) = (Vec::new(), self.below(3), false);
            self.add(format!("CREATE TABLE {} ()", table.sql()));
            for _ in 0..table.rows {
                self.add(format!("INSERT INTO {} DEFAULT VALUES", table.sql()));
            }
            self.tables.push(table);
        }
    }

    /// A table with a key and up to this many more columns.
    pub(super) fn table(&mut self, most: usize) -> Table {
        let mut columns = vec![Column {
            name: quoted(&self.name()),
            definition: "int NOT NULL".to_owned(),
            value: "n".to_owned(),
        }];
        for _ in 0..self.below(most + 1) {
            let column = self.column();
            columns.push(column);
        }
        Table {
            schema: self.schema(),
            name: self.name(),
            rows: self.pick(&[0, 1, 7, 60, 300]),
            columns,
            is_keyed: true,
            is_partitioned: false,
            moves: false,
            inherits: false,
            is_unlogged: false,
        }
    }

    fn column(&mut self) -> Column {
        let (name, kind) = (quoted(&self.name()), self.kind());
        let (mut definition, mut value) = (kind.sql, kind.value);
        if self.one_in(6) {
            definition = format!("{definition} DEFAULT {}", at_three(&value));
        }
        if self.one_in(4) {
            let every = 2 + self.below(4);
            value = format!("CASE WHEN n % {every} = 0 THEN NULL ELSE {value} END");
        } else if self.one_in(4) {
            definition.push_str(" NOT NULL");
        }
        if self.one_in(8) {
            let check = quoted(&self.name());
            definition.push_str(&format!(" CONSTRAINT {check} CHECK ({name} IS NULL OR true)"));
        }
        Column { name, definition, value }
    }

    fn add_plain_table(&mut self) {
        let mut table = self.table(7);
        table.columns[0].definition = self.key_definition();
        self.add_special_columns(&mut table);
        let mut listed: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.definition))
            .collect();
        let key = table.columns[0].name.clone();
        if self.one_in(3) {
            let (name, function) = (quoted(&self.name()), self.function());
            let stored = if self.is_since(Version::V18) && self.one_in(2) {
                format!("({key} * 2) VIRTUAL")
            } else {
                format!("({function}({key}) + 1) STORED")
            };
            listed.push(format!("{name} int GENERATED ALWAYS AS {stored}"));
        }
        let dropped = self.one_in(4).then(|| quoted(&self.name()));
        if let Some(dropped) = &dropped {
            listed.insert(self.below(listed.len()), format!("{dropped} text DEFAULT 'gone'"));
        }
        let has_sequence =
            ["serial", "IDENTITY"].iter().any(|word| table.columns[0].definition.contains(word));
        let is_known = left_out("unlogged table with a sequence before 15")
            && !self.is_since(Version::V15)
            && has_sequence;
        table.is_unlogged = self.one_in(8) && !is_known;
        let unlogged = if table.is_unlogged { "UNLOGGED " } else { "" };
        let with = if self.one_in(5) { " WITH (fillfactor = 70)" } else { "" };
        let sql = table.sql();
        self.add(format!("CREATE {unlogged}TABLE {sql} ({}){with}", listed.join(", ")));
        if let Some(dropped) = dropped {
            self.add(format!("ALTER TABLE {sql} DROP COLUMN {dropped}"));
        }
        self.insert(&table, &sql);
        if table.columns.len() > 1 && self.one_in(4) {
            let column = table.columns[1].name.clone();
            self.add(format!("ALTER TABLE {sql} ALTER {column} SET STATISTICS 17"));
        }
        self.tables.push(table);
    }

    /// The first column: a plain integer, or one with a sequence.
    fn key_definition(&mut self) -> String {
        let options = "(START 5 INCREMENT 3 MINVALUE -10 CACHE 2)";
        let sequence = match self.below(6) {
            0 => "int GENERATED ALWAYS AS IDENTITY".to_owned(),
            1 => format!("int GENERATED BY DEFAULT AS IDENTITY {options}"),
            2 | 3 => "serial".to_owned(),
            _ => "int".to_owned(),
        };
        let key = if self.one_in(4) {
            // Foreign keys refer to no deferrable key.
            format!("UNIQUE CONSTRAINT {} PRIMARY KEY DEFERRABLE", quoted(&self.name()))
        } else {
            "PRIMARY KEY".to_owned()
        };
        format!("{sequence} {key}")
    }

    /// Columns of the types of rows, and defaults by a sequence of another table.
    fn add_special_columns(&mut self, table: &mut Table) {
        let other = self.tables.iter().filter(|other| other.is_keyed && other.rows > 0).cloned();
        let other: Vec<Table> = other.filter(|other| !other.is_partitioned).collect();
        if !other.is_empty() && self.one_in(4) {
            let other = self.pick(&other);
            let key = &other.columns[0].name;
            let value = format!(
                "(SELECT x FROM {} AS x WHERE x.{key} = 1 + n % {})",
                other.sql(),
                other.rows
            );
            table.columns.push(Column {
                name: quoted(&self.name()),
                definition: other.sql(),
                value,
            });
        }
        if self.one_in(4) {
            let sequence = self.qualified();
            self.add(format!("CREATE SEQUENCE {sequence} AS smallint INCREMENT -1 CYCLE"));
            let name = sequence.replace('\'', "''").replace('\\', "\\\\");
            table.columns.push(Column {
                name: quoted(&self.name()),
                definition: format!("smallint DEFAULT nextval(E'{name}')"),
                value: "n::smallint".to_owned(),
            });
        }
    }

    /// Fills a table, `into` it or one of its children.
    pub(super) fn insert(&mut self, table: &Table, into: &str) {
        if table.rows == 0 || table.columns.is_empty() {
            return;
        }
        let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
        let values: Vec<&str> = table.columns.iter().map(|column| &*column.value).collect();
        let fill = format!(
            "INSERT INTO {into} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM generate_series(1, {}) \
             AS n",
            names.join(", "),
            values.join(", "),
            table.rows
        );
        self.add(fill);
        let is_always = table.columns[0].definition.contains("ALWAYS");
        if self.one_in(5) && !is_always {
            let key = &table.columns[0].name;
            self.add(format!("UPDATE {into} SET {key} = {key} WHERE {key} % 5 = 0"));
        }
    }

    /// Parents, a child of one and a child of both.
    fn add_family(&mut self) {
        let (mut one, mut two) = (self.table(2), self.table(2));
        for (parent, table) in [&mut one, &mut two].into_iter().enumerate() {
            table.columns[0].name = "\"shared\"".to_owned();
            (table.is_keyed, table.inherits) = (false, true);
            let check = quoted(&self.name());
            let listed: Vec<String> = table
                .columns
                .iter()
                .map(|column| format!("{} {}", column.name, column.definition))
                .chain([format!("CONSTRAINT {check} CHECK (shared > {parent} - 9)")])
                .collect();
            let sql = table.sql();
            self.add(format!("CREATE TABLE {sql} ({})", listed.join(", ")));
            let name = quoted(&self.name());
            self.add(format!(
                "ALTER TABLE {sql} ADD CONSTRAINT {name} CHECK (shared <> -77) NO INHERIT"
            ));
            self.insert(table, &sql);
        }
        for parents in [vec![&one], vec![&one, &two]] {
            let own = self.table(2);
            let mut child = own.clone();
            child.columns = own.columns.iter().skip(1).cloned().collect();
            let listed: Vec<String> = child
                .columns
                .iter()
                .map(|column| format!("{} {}", column.name, column.definition))
                .collect();
            let from: Vec<String> = parents.iter().map(|parent| parent.sql()).collect();
            let sql = child.sql();
            self.add(format!(
                "CREATE TABLE {sql} ({}) INHERITS ({})",
                listed.join(", "),
                from.join(", ")
            ));
            for parent in parents.iter().rev() {
                child.columns.splice(0..0, parent.columns.iter().cloned());
            }
            child.columns.dedup_by(|a, b| a.name == b.name);
            let mut seen = Vec::new();
            child.columns.retain(|column| {
                let is_new = !seen.contains(&column.name);
                seen.push(column.name.clone());
                is_new
            });
            (child.is_keyed, child.inherits) = (false, true);
            self.insert(&child, &sql);
            if self.one_in(2) {
                let column = self.pick(&child.columns);
                self.add(format!("ALTER TABLE {sql} ALTER {} SET STATISTICS 3", column.name));
                self.add(format!("ALTER TABLE {sql} ALTER shared SET DEFAULT 9"));
            }
            self.tables.push(child);
        }
        self.tables.extend([one, two]);
    }

    fn add_typed_table(&mut self) {
        let (kind, column) = (self.qualified(), quoted(&self.name()));
        self.add(format!("CREATE TYPE {kind} AS (id int, {column} text)"));
        let mut table = self.table(0);
        let of = |name: &str, value: &str| Column {
            name: name.to_owned(),
            definition: String::new(),
            value: value.to_owned(),
        };
        table.columns = vec![of("id", "n"), of(&column, "'typed ' || n")];
        // Columns cannot be added.
        table.is_keyed = false;
        let sql = table.sql();
        self.add(format!(
            "CREATE TABLE {sql} OF {kind} (id WITH OPTIONS PRIMARY KEY, {column} DEFAULT 'none')"
        ));
        self.insert(&table, &sql);
        self.tables.push(table);
    }
}

/// An expression of `n` for 3.
fn at_three(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('n') {
        let is_part =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_\"'\\".contains(c));
        let alone = !is_part(rest[..at].chars().last()) && !is_part(rest[at + 1..].chars().next());
        out.push_str(&rest[..at]);
        out.push_str(if alone { "3" } else { "n" });
        rest = &rest[at + 1..];
    }
    out + rest
}

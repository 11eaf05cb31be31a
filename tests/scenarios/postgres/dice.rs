//! Statements made by dice: whatever there is that changes files of relations.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_postgres::Client;

use super::say;
use crate::support::postgres::Version;

const INDEXES: [&str; 6] = [
    "btree (id)",
    "hash (t)",
    "gin (words)",
    "gist (place)",
    "spgist (place)",
    "brin (id) WITH (pages_per_range = 2)",
];

/// What there is, and what happens to it.
pub(super) struct Workload {
    dice: StdRng,
    version: Version,
    made: u32,
    tables: Vec<String>,
    databases: Vec<String>,
    prepared: Vec<String>,
}

impl Workload {
    pub(super) fn new(seed: u64, version: Version) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self {
            dice,
            version,
            made: 0,
            tables: Vec::new(),
            databases: Vec::new(),
            prepared: Vec::new(),
        }
    }

    fn name(&mut self, of: &str) -> String {
        self.made += 1;
        format!("{of}_{}", self.made)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.dice.random_range(0..of.len())]
    }

    /// Some statements, one after the other.
    pub(super) async fn go_on(&mut self, shop: &Client, steps: u32) {
        for _ in 0..steps {
            for sql in self.step() {
                say(&sql);
                shop.batch_execute(&sql)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
            }
        }
    }

    fn step(&mut self) -> Vec<String> {
        let kind = self.dice.random_range(0..10);
        let table = match self.tables.len() {
            0 => None,
            len => Some(self.dice.random_range(0..len)),
        };
        match (kind, table) {
            (0, _) | (1..=6, None) => self.new_table(),
            (1..=4, Some(at)) => self.rows(&self.tables[at].clone()),
            (5 | 6, Some(at)) => self.files(at),
            (7, _) => self.database(),
            (8, _) => self.transaction(),
            _ => self.anything(),
        }
    }

    fn new_table(&mut self) -> Vec<String> {
        let (name, index) = (self.name("made"), self.one(&INDEXES));
        let (kind, place) =
            (self.one(&["", "", "UNLOGGED"]), self.one(&["", "", "TABLESPACE far"]));
        let rows = self.dice.random_range(0..6000);
        self.tables.push(name.clone());
        vec![
            format!(
                "CREATE {kind} TABLE {name} (id int, t text, words text[], place point) {place}"
            ),
            self.more(&name, rows),
            format!("CREATE INDEX ON {name} USING {index}"),
        ]
    }

    fn more(&mut self, table: &str, rows: u32) -> String {
        let first = self.dice.random_range(0..100_000);
        format!(
            "INSERT INTO {table} SELECT n, md5(n::text), ARRAY['a' || n % 7, 'b' || n], point(n % \
             100, n / 100) FROM generate_series({first}, {first} + {rows}) n"
        )
    }

    fn rows(&mut self, table: &str) -> Vec<String> {
        let (of, is, rows) = (
            self.dice.random_range(2..40),
            self.dice.random_range(0..3),
            self.dice.random_range(1..3000),
        );
        let sql = match self.dice.random_range(0..5) {
            0 => format!("UPDATE {table} SET t = t || 'x' WHERE id % {of} = {is}"),
            1 => format!("DELETE FROM {table} WHERE id % {of} = {is}"),
            2 => format!("UPDATE {table} SET place = point(id % {of}, {is}) WHERE id % 5 = {is}"),
            3 => format!("DELETE FROM {table} WHERE ctid > '({of}, 0)'"),
            _ => self.more(table, rows),
        };
        // Reading sets hint bits, and prunes.
        vec![sql, format!("SELECT count(*) FROM {table}")]
    }

    fn files(&mut self, at: usize) -> Vec<String> {
        let table = self.tables[at].clone();
        let index = self.one(&INDEXES);
        vec![match self.dice.random_range(0..11) {
            0 | 1 => format!("VACUUM {table}"),
            2 => format!("VACUUM (FREEZE) {table}"),
            3 => format!("VACUUM FULL {table}"),
            4 => format!("TRUNCATE {table}"),
            5 => format!("REINDEX TABLE {table}"),
            6 => format!("CREATE INDEX ON {table} USING {index}"),
            7 => format!("ALTER TABLE {table} SET {}", self.one(&["LOGGED", "UNLOGGED"])),
            8 => format!("ALTER TABLE {table} SET TABLESPACE {}", self.one(&["far", "pg_default"])),
            9 => {
                format!("ALTER TABLE {table} ADD COLUMN {} float DEFAULT random()", self.name("c"))
            }
            _ => format!("DROP TABLE {}", self.tables.swap_remove(at)),
        }]
    }

    fn database(&mut self) -> Vec<String> {
        if self.databases.is_empty() || self.dice.random_bool(0.6) {
            let name = self.name("later");
            self.databases.push(name.clone());
            let how = match self.version >= Version::V15 {
                true => self.one(&["STRATEGY wal_log", "STRATEGY file_copy"]),
                false => "",
            };
            return vec![format!("CREATE DATABASE {name} {how}")];
        }
        let at = self.dice.random_range(0..self.databases.len());
        match self.dice.random_bool(0.5) {
            true => vec![format!("DROP DATABASE {}", self.databases.swap_remove(at))],
            false => {
                let to = self.one(&["far", "pg_default"]);
                vec![format!("ALTER DATABASE {} SET TABLESPACE {to}", self.databases[at])]
            }
        }
    }

    fn transaction(&mut self) -> Vec<String> {
        if let Some(name) = self.prepared.pop() {
            return vec![format!("{} PREPARED '{name}'", self.one(&["COMMIT", "ROLLBACK"]))];
        }
        let rows = self.dice.random_range(1..500);
        let insert =
            format!("INSERT INTO prepared SELECT n, 'p' FROM generate_series(1, {rows}) n");
        let begin = "BEGIN; SAVEPOINT one".to_owned();
        if self.dice.random_bool(0.5) {
            return vec![
                begin,
                insert,
                "ROLLBACK TO one; SELECT count(*) FROM prepared; ROLLBACK".to_owned(),
            ];
        }
        let name = self.name("p");
        self.prepared.push(name.clone());
        vec![begin, insert, format!("PREPARE TRANSACTION '{name}'")]
    }

    fn anything(&mut self) -> Vec<String> {
        let some = [
            "CHECKPOINT",
            "SELECT pg_switch_wal()",
            "SELECT lo_from_bytea(0, repeat('large object', 3000)::bytea)",
            "SELECT lo_unlink(oid) FROM pg_largeobject_metadata ORDER BY oid LIMIT 1",
            "SELECT nextval('numbers') FROM generate_series(1, 50)",
            "REFRESH MATERIALIZED VIEW seen",
            "VACUUM",
            "VACUUM FULL pg_class",
            "REINDEX SYSTEM shop",
            "CLUSTER \"Odd name\".\"T 1\" USING \"T 1_pkey\"",
            "UPDATE large SET t = t || 'y' WHERE id % 91 = 5",
        ];
        vec![self.one(&some).to_owned()]
    }
}

//! Generated databases through logical backups: restored by a superuser and by the plain owner they
//! are equal, and tables restored beside the originals leave these alone. A seed makes the same
//! database every time; the SQL of one that fails is shown.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Schema`]: the state of the generator and its order of work |
//! | `names.rs` | odd names |
//! | `types.rs` | types, and values of each |
//! | `tables.rs` | tables of every kind and their rows |
//! | `partitions.rs` | partitioned tables |
//! | `constraints.rs` | keys, constraints, indexes |
//! | `objects.rs` | functions, views, triggers, rules, policies, and the rest |
//! | `oracle.rs` | the state of a database by SQL and stock `pg_dump` |
//! | `checks.rs` | backups and restores of generated databases |

pub(crate) mod checks;
mod constraints;
mod names;
mod objects;
mod oracle;
mod partitions;
mod tables;
mod types;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::names::quoted;
use self::tables::Table;
use self::types::Type;
use crate::support::postgres::Version;

/// Other roles than the owner, which have grants.
const READERS: [&str; 2] = ["reader", "Odd reader"];

/// Constructs that the generator leaves out, because the product has a known fault with them.
const KNOWN: &[&str] = &["name with a dot or a star"];

fn left_out(construct: &str) -> bool {
    KNOWN.contains(&construct)
}

/// The role that owns a generated database and everything in it.
fn owner() -> &'static str {
    if left_out("role whose name needs quotes") { "owner" } else { "the \"owner\"" }
}

/// A generated database.
struct Schema {
    random: StdRng,
    version: Version,
    /// Name of the database.
    database: String,
    /// Statements of the owner, each in a transaction of its own.
    statements: Vec<String>,
    /// Names made so far.
    named: usize,
    reserved: usize,
    /// In quotes.
    schemas: Vec<String>,
    /// Names and schemas.
    extensions: Vec<(String, String)>,
    types: Vec<Type>,
    /// Functions of one integer with an integer result that any expression may call.
    functions: Vec<String>,
    tables: Vec<Table>,
    /// Materialized views with rows, each behind those that it reads.
    filled: Vec<String>,
}

impl Schema {
    fn generate(seed: u64, version: Version) -> Self {
        let mut schema = Self {
            random: StdRng::seed_from_u64(seed),
            version,
            database: String::new(),
            statements: Vec::new(),
            named: 0,
            reserved: 0,
            schemas: vec!["public".to_owned()],
            extensions: Vec::new(),
            types: types::plain(version),
            functions: Vec::new(),
            tables: Vec::new(),
            filled: Vec::new(),
        };
        // Programs of PostgreSQL take no database whose name has several lines.
        let name = schema.name().replace(['\n', '\r'], " ");
        schema.database = format!("{} {seed}", &name[..name.floor_char_boundary(50)]);
        for _ in 0..=schema.below(3) {
            let name = quoted(&schema.name());
            schema.add(format!("CREATE SCHEMA {name}"));
            schema.schemas.push(name);
        }
        schema.add_extensions();
        schema.add_functions();
        schema.add_types();
        schema.add_tables();
        schema.add_constraints();
        schema.add_objects();
        // A restore fills them by the policies that were added since.
        for view in schema.filled.clone() {
            schema.add(format!("REFRESH MATERIALIZED VIEW {view}"));
        }
        schema
    }

    /// All statements, for failures.
    fn shown(&self) -> String {
        let statements = self.statements.iter().map(|statement| format!("{statement};\n"));
        format!("-- database {}\n{}", quoted(&self.database), statements.collect::<String>())
    }

    fn add(&mut self, statement: impl Into<String>) {
        self.statements.push(statement.into());
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit)
    }

    /// True once in `times`.
    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn is_since(&self, version: Version) -> bool {
        self.version >= version
    }

    /// A schema in quotes.
    fn schema(&mut self) -> String {
        let schemas = self.schemas.clone();
        self.pick(&schemas)
    }

    /// A schema that was made here.
    fn own_schema(&mut self) -> String {
        let own = self.schemas[1..].to_vec();
        self.pick(&own)
    }

    /// A new name in a schema, in quotes.
    fn qualified(&mut self) -> String {
        format!("{}.{}", self.schema(), quoted(&self.name()))
    }
}

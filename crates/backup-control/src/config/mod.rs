//! `backup.toml`.
//!
//! ```text
//!  search (find.rs) ──▶ text ──▶ TOML table ──▶ ${NAME} (interpolate.rs) ──▶ types (types.rs)
//!                                                                     ──▶ references, names (validate.rs)
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `types.rs` | [`Config`], [`RepositoryConfig`], [`SourceConfig`], [`JobConfig`]: every key, with its meaning |
//! | `keep.rs` | [`KeepConfig`], [`PruneConfig`]: what stays |
//! | `find.rs` | where the file is looked for |
//! | `load.rs` | reading it; mistakes with line and suggestion |
//! | `interpolate.rs` | `${NAME}` and `${NAME:-default}` in string values |
//! | `validate.rs` | what the types cannot say: references between sections, names, addresses |
//!
//! To add a key: a field with a doc comment in `types.rs`, its use in `jobs.rs` or `repositories.rs`, a line in
//! `examples/`. A key that nothing honours does not belong here.

mod find;
mod interpolate;
mod keep;
mod load;
mod types;
mod validate;

pub use find::{find, not_found, search_path};
pub use keep::{Count, KeepConfig, PruneConfig, RuleConfig};
pub use load::{LoadedConfig, load, parse};
pub use types::{Config, DefaultsConfig, JobConfig, JobType, RepositoryConfig, SourceConfig, SourceKind};

/// An example of a configuration, with every key explained; also at `examples/files.toml`.
pub const EXAMPLE: &str = include_str!("../../../../examples/files.toml");

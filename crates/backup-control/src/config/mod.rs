//! `backup.toml`.
//!
//! ```text
//!  search (find.rs) ──▶ text ──▶ TOML table ──▶ ${NAME} (interpolate.rs) ──▶ types (types.rs)
//!                                                                     ──▶ references, names (validate.rs)
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `types.rs` | [`Config`], [`RepositoryConfig`], [`JobConfig`]: every key, with its meaning |
//! | `source.rs` | [`SourceConfig`]: the keys of sources, and which kind each belongs to |
//! | `source_keys.rs` | the kinds of sources that each key belongs to |
//! | `job.rs` | [`HooksConfig`], [`RetryConfig`], [`ExpectConfig`], [`Window`]: when jobs may run, and what is done around them |
//! | `group.rs` | [`GroupConfig`]: jobs that are backed up together and restored to one moment |
//! | `keep.rs` | [`KeepConfig`], [`PruneConfig`]: what stays |
//! | `alerts.rs` | [`AlertConfig`]: when who is told |
//! | `api.rs` | [`ApiConfig`]: where the daemon answers, and whom |
//! | `catalog.rs` | [`CatalogConfig`]: where runs are remembered |
//! | `audit.rs` | [`AuditConfig`]: how long is kept what was done |
//! | `logs.rs` | [`LogsConfig`]: how logs are captured |
//! | `notify.rs` | [`NotifyConfig`]: the keys of channels, and which kind each belongs to |
//! | `report.rs` | [`ReportConfig`]: prices |
//! | `schedule.rs` | [`ScheduleConfig`], [`DaemonConfig`]: when things happen |
//! | `server.rs` | [`ServerConfig`]: daemons elsewhere |
//! | `copies.rs` | [`CopyConfig`], [`ArchiveConfig`]: what goes into other repositories when |
//! | `origins.rs` | [`Origin`]: where a value comes from; showing a configuration |
//! | `schema.rs` | [`schema()`]: the JSON schema, and the reference of all keys |
//! | `from_env.rs` | [`from_env()`]: a configuration from the variables of other tools |
//! | `last_good.rs` | [`LastGood`]: the private copy that the daemon hands to its tasks |
//! | `find.rs` | where the file is looked for |
//! | `load.rs` | reading it; mistakes with line |
//! | `mistakes.rs` | all mistakes, in the order of the file |
//! | `missing.rs` | [`MissingPath`]: files and directories that do not exist |
//! | `explain.rs` | errors of the TOML library in words of the configuration, with suggestions |
//! | `tables.rs` | refuses lists where a table is expected |
//! | `tilde.rs` | refuses values that begin with `~/`, which nothing expands |
//! | `interpolate.rs` | `${NAME}` and `${NAME:-default}` in string values |
//! | `validate.rs` | what the types cannot say: references between sections, names, addresses |
//!
//! To add a key: a field with a doc comment in `types.rs` or `source.rs`, its use in `jobs.rs`,
//! `sources/` or `repositories.rs`, a line in `examples/`. A key that nothing honours does not
//! belong here.

mod alerts;
mod api;
mod audit;
mod catalog;
mod copies;
mod explain;
mod find;
mod from_env;
mod group;
mod interpolate;
mod job;
mod keep;
mod last_good;
mod load;
mod logs;
mod missing;
mod mistakes;
mod notify;
mod origins;
mod report;
mod schedule;
mod schema;
mod server;
mod source;
mod source_keys;
mod tables;
mod tilde;
mod types;
mod validate;

pub use alerts::AlertConfig;
pub use api::ApiConfig;
pub use audit::{AuditConfig, AuditKeepConfig};
pub use catalog::CatalogConfig;
pub use copies::{ArchiveConfig, CheckData, CopyConfig};
pub use find::{find, not_found, search_path};
pub use from_env::{FromEnv, from_env};
pub use group::GroupConfig;
pub use job::{ExpectConfig, HooksConfig, RetryConfig, Window};
pub use keep::{Count, KeepConfig, PruneConfig, RuleConfig};
pub use last_good::{Broken, LastGood, Resolved, original};
pub use load::{LoadedConfig, load, parse};
pub use logs::{AcknowledgeConfig, LogsConfig};
pub use missing::MissingPath;
pub use notify::{ChannelKind, NotifyConfig, SecurityConfig, WebAddress};
pub use origins::{Origin, Origins};
pub use report::ReportConfig;
pub use schedule::{DaemonConfig, ScheduleConfig};
pub use schema::{reference, schema};
pub use server::ServerConfig;
pub use source::{
    MajorityConfig, MethodConfig, ReaderConfig, ReplayConfig, SnapshotReadsConfig, SourceConfig,
    SourceKind, WriteConcernConfig,
};
pub use types::{Config, DefaultsConfig, JobConfig, JobType, RepositoryConfig};

/// The examples, by name: those of `examples/`. The first explains what holds for all.
pub const EXAMPLES: [(&str, &str); 12] = [
    ("files", include_str!("../../../../examples/files.toml")),
    ("mongodb", include_str!("../../../../examples/mongodb.toml")),
    ("postgres", include_str!("../../../../examples/postgres.toml")),
    ("redis", include_str!("../../../../examples/redis.toml")),
    ("object-stores", include_str!("../../../../examples/object-stores.toml")),
    ("retention", include_str!("../../../../examples/retention.toml")),
    ("notifications", include_str!("../../../../examples/notifications.toml")),
    ("lending", include_str!("../../../../examples/lending.toml")),
    ("legal", include_str!("../../../../examples/legal.toml")),
    ("trading", include_str!("../../../../examples/trading.toml")),
    ("leads", include_str!("../../../../examples/leads.toml")),
    ("aquarium", include_str!("../../../../examples/aquarium.toml")),
];

/// The first of them.
pub const EXAMPLE: &str = EXAMPLES[0].1;

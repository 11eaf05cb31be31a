//! The sections and keys of `backup.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backup_core::compress::Compression;
use backup_core::source::BackupKind;
use backup_storage::StoreSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts::AlertConfig;
use super::api::ApiConfig;
use super::audit::AuditConfig;
use super::catalog::CatalogConfig;
use super::group::GroupConfig;
use super::job::{ExpectConfig, HooksConfig, RetryConfig, Window};
use super::keep::{KeepConfig, PruneConfig};
use super::logs::LogsConfig;
use super::notify::{NotifyConfig, WebAddress};
use super::report::ReportConfig;
use super::schedule::{DaemonConfig, ScheduleConfig};
use super::server::ServerConfig;
use super::source::SourceConfig;
use crate::units::{Share, Size, Text, Time};

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What holds for all of it.
    #[serde(skip_serializing_if = "is_default")]
    pub defaults: DefaultsConfig,
    /// What reports need to know besides.
    #[serde(skip_serializing_if = "is_default")]
    pub report: ReportConfig,
    /// What the daemon does besides backups, and how much at a time.
    #[serde(skip_serializing_if = "is_default")]
    pub schedule: DaemonConfig,
    /// What is recorded of what was done.
    #[serde(skip_serializing_if = "is_default")]
    pub audit: AuditConfig,
    /// Where runs are remembered.
    #[serde(skip_serializing_if = "is_default")]
    pub catalog: CatalogConfig,
    /// Where the daemon answers, and whom.
    #[serde(skip_serializing_if = "is_default")]
    pub api: ApiConfig,
    /// Daemons elsewhere that `--server` can name, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, ServerConfig>,
    /// Where backups are kept, by name.
    pub repositories: BTreeMap<String, RepositoryConfig>,
    /// What is backed up, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Which source goes into which repository and how, by name.
    pub jobs: BTreeMap<String, JobConfig>,
    /// Which jobs are backed up together, and restored to one moment, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupConfig>,
    /// What is watched, and who is told, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<String, AlertConfig>,
    /// Who is told what happened, and how, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notify: BTreeMap<String, NotifyConfig>,
}

/// `[defaults]`: what holds wherever nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsConfig {
    /// The time zone whose days, weeks, months and years count, and in which dates are understood
    /// and shown, for instance `Europe/Berlin`. Default: that of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `[defaults.keep]`: which snapshots stay, for jobs that do not say so themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
}

/// `[repositories.NAME]`: a place for backups. At most one of the `passphrase_…` keys.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Its address: a directory, or a URL. Relative directories start at the configuration file.
    pub url: String,
    /// File that holds the pass phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// Environment variable that holds the pass phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// Shell command whose output's first line is the pass phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_command: Option<String>,
    /// How hard to compress: `off`, `fast`, `auto`, `max`, or a zstd level from 1 to 19. Default:
    /// `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "compression")]
    #[schemars(with = "Option<Size>")]
    pub compression: Option<Compression>,
    /// Size at which a pack is closed. Default: 8MiB in a directory, else 32MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_size: Option<Size>,
    /// Share of what was written that is opened or read back and compared. Default: 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_sample: Option<Share>,
    /// How many packs are uploaded at a time. Default: what suits the kind of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads: Option<usize>,
    /// How large it may become: `backup storage` says how much is left, and for how long that will
    /// do. Default: what the disk has, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Size>,
    /// `[repositories.NAME.prune]`: how data that no snapshot needs is removed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prune: PruneConfig,
    /// `[repositories.NAME.store]`: how an object store is reached, and the rate limits of any
    /// store.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(schema_with = "super::schema::store")]
    pub store: StoreSettings,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Type of the snapshots a job makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Everything is read.
    Full,
    /// What changed since the last snapshot is read.
    Incremental,
    /// What changed since the last full snapshot is read.
    Differential,
}

impl From<JobType> for BackupKind {
    fn from(kind: JobType) -> Self {
        match kind {
            JobType::Full => Self::Full,
            JobType::Incremental => Self::Incremental,
            JobType::Differential => Self::Differential,
        }
    }
}

/// `[jobs.NAME]`: one source, one repository, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    /// Name of the source.
    pub source: String,
    /// Name of the repository.
    pub repository: String,
    /// Type of the snapshots. Default: of files incremental, and full where there is no earlier
    /// snapshot; of databases full.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// Tier of the snapshots, for instance `daily`. Default: `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Patterns of what is backed up; without any, everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of what is left out; they win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Tags of the snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How large a backup may become: with more, it fails, and there is no snapshot. Default: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// The time of the day in which it may begin, for instance `22:00-06:00`, in
    /// `defaults.time_zone`; at other times it takes `--force`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub window: Option<Window>,
    /// `[[jobs.NAME.schedule]]`: when the daemon backs it up, or one cron expression. Default:
    /// never.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::schedule::one_or_many"
    )]
    #[schemars(schema_with = "super::schedule::one_or_many_schema")]
    pub schedule: Vec<ScheduleConfig>,
    /// Which of the things that wait for their turn goes first, from -100 to 100: the highest.
    /// Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How long a backup by the daemon may take before it is stopped, at least 1min. Default:
    /// `schedule.deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// `[jobs.NAME.retry]`: trying again what failed because a store or a server was away. Default:
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryConfig>,
    /// How much of its data may be lost at most, for instance `15min`: the rule `rpo` and reports
    /// measure it. Default: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Time>,
    /// How long a restore may take at most, for instance `1h`: reports measure it. Default: not
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<Time>,
    /// Address that is asked for (`GET`) whenever a backup has succeeded: a service there tells you
    /// if it is not, also when this machine is gone. It may be secret, and is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub heartbeat: Option<WebAddress>,
    /// `[[jobs.NAME.expect]]`: what a snapshot must hold at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ExpectConfig>,
    /// `[jobs.NAME.hooks]`: shell commands that are run around a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksConfig>,
    /// `[jobs.NAME.keep]`: which of its snapshots stay. Default: `[defaults.keep]`, and all if
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// `[jobs.NAME.logs]`: how the log of its source is captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogsConfig>,
}

impl JobConfig {
    /// What snapshots record of it: everything but the commands of its hooks, its heartbeat, and
    /// when it runs.
    pub(crate) fn recorded(&self) -> Self {
        Self {
            hooks: None,
            heartbeat: None,
            schedule: Vec::new(),
            priority: None,
            deadline: None,
            ..self.clone()
        }
    }
}

impl Config {
    /// The environment variables that it says hold pass phrases, passwords, keys of stores, and
    /// secrets of channels.
    #[must_use]
    pub fn secret_variables(&self) -> Vec<String> {
        let repositories = self.repositories.values().flat_map(
            |RepositoryConfig { passphrase_env, store, .. }| {
                [
                    passphrase_env,
                    &store.secret_access_key_env,
                    &store.session_token_env,
                    &store.account_key_env,
                ]
            },
        );
        let sources = self.sources.values().map(|source| &source.password_env);
        let channels = self.notify.values().map(|channel| &channel.secret_env);
        let catalog = [&self.catalog.password_env];
        repositories.chain(sources).chain(channels).chain(catalog).flatten().cloned().collect()
    }

    /// Which snapshots of a job stay: what it says itself, else the default.
    #[must_use]
    pub fn keep_of(&self, job: &str) -> Option<&KeepConfig> {
        self.jobs.get(job).and_then(|job| job.keep.as_ref()).or(self.defaults.keep.as_ref())
    }
}

/// [`Compression`] as its text; a bare number is a zstd level.
mod compression {
    use backup_core::compress::Compression;
    use serde::{Deserializer, Serializer};

    use super::Text;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Compression>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(compression) => serializer.collect_str(compression),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Compression>, D::Error> {
        let text = Text::<Compression>::new("off, fast, auto, max or a zstd level from 1 to 19");
        deserializer.deserialize_any(text).map(Some)
    }
}

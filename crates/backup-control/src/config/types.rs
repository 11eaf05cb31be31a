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
    /// Defaults for all jobs.
    #[serde(skip_serializing_if = "is_default")]
    pub defaults: DefaultsConfig,
    /// Settings of reports.
    #[serde(skip_serializing_if = "is_default")]
    pub report: ReportConfig,
    /// Scheduled maintenance of the daemon, and its limits.
    #[serde(skip_serializing_if = "is_default")]
    pub schedule: DaemonConfig,
    /// Retention of the audit log.
    #[serde(skip_serializing_if = "is_default")]
    pub audit: AuditConfig,
    /// Location of the catalog of runs.
    #[serde(skip_serializing_if = "is_default")]
    pub catalog: CatalogConfig,
    /// Endpoints and limits of the API of the daemon.
    #[serde(skip_serializing_if = "is_default")]
    pub api: ApiConfig,
    /// Remote daemons for `--server`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, ServerConfig>,
    /// Repositories, by name.
    pub repositories: BTreeMap<String, RepositoryConfig>,
    /// Sources, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Jobs, by name.
    pub jobs: BTreeMap<String, JobConfig>,
    /// Groups of jobs that are backed up together and restored to one moment, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupConfig>,
    /// Alert rules, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<String, AlertConfig>,
    /// Notification channels, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notify: BTreeMap<String, NotifyConfig>,
}

/// `[defaults]`: defaults for all jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsConfig {
    /// Time zone of days, weeks, months and years, and of dates in input and output, for instance
    /// `Europe/Berlin`. Default: `schedule.time_zone` for dates in input and output; that of the
    /// machine for the others: of the variable `TZ`, else of `/etc/localtime`, else UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `[defaults.keep]`: retention policy of jobs without a policy of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
}

/// `[repositories.NAME]`: a repository. At most one of the `passphrase_…` keys is allowed.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Address: a directory or a URL. Relative directories start at the directory of the
    /// configuration file.
    pub url: String,
    /// File with the pass phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// Environment variable with the pass phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// Shell command that prints the pass phrase on its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_command: Option<String>,
    /// Compression: `off`, `fast`, `auto`, `max`, or a zstd level from 1 to 19. Default: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "compression")]
    #[schemars(with = "Option<Size>")]
    pub compression: Option<Compression>,
    /// Size at which a pack is complete. Default: 8MiB in a directory, else 32MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_size: Option<Size>,
    /// Share of the written data to open, or to read back and compare. Default: 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_sample: Option<Share>,
    /// Number of concurrent uploads of packs. Default: depends on the kind of storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads: Option<usize>,
    /// Intended maximum size. `backup storage`, alerts, reports and metrics use it to compute the
    /// free space; backups do not enforce it. Default: the space of the disk, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Size>,
    /// Disk space to keep allocated in the file `x-reserve`, for instance `64MiB`. If the disk is
    /// full, `prune`, `cleanup` and `forget` free it, so that they have room to work. The next
    /// successful backup or prune allocates it again. For directories only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Size>,
    /// `[repositories.NAME.prune]`: removal of unreferenced data.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prune: PruneConfig,
    /// `[repositories.NAME.store]`: access to an object store, and rate limits of any store.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(schema_with = "super::schema::store")]
    pub store: StoreSettings,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Type of the snapshots of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Reads everything.
    Full,
    /// Reads the changes since the last snapshot.
    Incremental,
    /// Reads the changes since the last full snapshot.
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

/// `[jobs.NAME]`: a backup of one source into one repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    /// Name of the source.
    pub source: String,
    /// Name of the repository.
    pub repository: String,
    /// Type of the snapshots: `full`, `incremental` or `differential`. Default: `incremental` for
    /// files, after a first full snapshot; `full` for databases.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// Tier of the snapshots, for instance `daily`. Default: `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Host name that the snapshots record. Snapshots of one host are compared with each other, and
    /// kept by one policy: set it where the name of the machine changes, as in containers. Default:
    /// the name of the machine for files, that of the server for databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Patterns of the files or objects to back up. Default: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// More patterns of files or objects to include, which may match nothing yet. A pattern of
    /// `include` that matches nothing makes the run end with exit code 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include_optional: Vec<String>,
    /// Patterns of files or objects to exclude; they override `include`. Of several that match, the
    /// last one decides; one that begins with `!` includes again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Tags of the snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Maximum size of a backup. A larger one fails, without a snapshot. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Daily time window in which a backup may start, for instance `22:00-06:00`, in
    /// `defaults.time_zone`. At other times, `--force` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub window: Option<Window>,
    /// `[[jobs.NAME.schedule]]`: schedules of the daemon, or one cron expression. Default: none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::schedule::one_or_many"
    )]
    #[schemars(schema_with = "super::schedule::one_or_many_schema")]
    pub schedule: Vec<ScheduleConfig>,
    /// Priority among waiting tasks, from -100 to 100; the highest runs first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Time limit of a backup by the daemon, at least 1min; a longer one is stopped. Default:
    /// `schedule.deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// `[jobs.NAME.retry]`: retries of a backup that failed because a store or server was
    /// unavailable. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryConfig>,
    /// Recovery point objective: maximum data loss, for instance `15min`. The rule `rpo` and
    /// reports measure it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Time>,
    /// Recovery time objective: maximum duration of a restore, for instance `1h`. Reports measure
    /// it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto: Option<Time>,
    /// URL to request (`GET`) after each successful backup of the whole job. A monitoring service
    /// then reports missing requests, also if this machine is down. The URL may be secret, and is
    /// not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub heartbeat: Option<WebAddress>,
    /// `[[jobs.NAME.expect]]`: minimum contents of a snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ExpectConfig>,
    /// `[jobs.NAME.hooks]`: shell commands that run before and after a backup or restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksConfig>,
    /// `[jobs.NAME.keep]`: retention policy of its snapshots. Default: `[defaults.keep]`; without
    /// that, all snapshots stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
    /// `[jobs.NAME.logs]`: capture of the log of its source.
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

    /// The named jobs and the jobs of the named groups, each once. A name that neither has stays,
    /// and is an error for the code that looks the job up.
    pub fn jobs_of<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let mut jobs = Vec::new();
        for name in names {
            let members =
                self.groups.get(name).map_or(std::slice::from_ref(name), |group| &group.jobs);
            for job in members {
                if !jobs.contains(job) {
                    jobs.push(job.clone());
                }
            }
        }
        jobs
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

//! From a job of the configuration, or from flags alone, to a source and the options of a backup.

use std::path::PathBuf;

use backup_core::compress::Compression;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, Selection};
use backup_sources::files::FilesOptions;
use jiff::Span;

use crate::address;
use crate::age::Age;
use crate::config::{
    Config, ExpectConfig, HooksConfig, JobConfig, JobType, LogsConfig, MethodConfig, RetryConfig,
    SourceConfig, SourceKind, WebAddress, Window,
};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::repositories::RepositorySpec;
use crate::sources::{self, SourceSpec};
use crate::units::{Share, Size};
use crate::{names, narrow, patterns, suggest};

/// Flags that change a job's configuration: single values replace it, include patterns narrow it,
/// other lists are added to it.
#[derive(Debug, Clone, Default)]
pub struct JobFlags {
    /// Type of the snapshot.
    pub kind: Option<JobType>,
    /// Tier of the snapshot.
    pub tier: Option<String>,
    /// Host name that the snapshot records.
    pub host: Option<String>,
    /// More tags.
    pub tags: Vec<String>,
    /// Include patterns that narrow those of the job.
    pub include: Vec<String>,
    /// More exclude patterns.
    pub exclude: Vec<String>,
    /// More files with exclude patterns.
    pub exclude_files: Vec<PathBuf>,
    /// More names of marker files.
    pub exclude_if_present: Vec<String>,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// Leave out larger files.
    pub max_file_size: Option<Size>,
    /// How PostgreSQL is backed up.
    pub method: Option<MethodConfig>,
    /// How large a backup may become.
    pub max_size: Option<Size>,
    /// Run it at any time, however large it becomes.
    pub force: bool,
    /// Run it at any time.
    pub outside_window: bool,
    /// How hard to compress.
    pub compression: Option<Compression>,
    /// Share of what was written that is compared.
    pub verify_sample: Option<Share>,
}

impl JobFlags {
    /// True if some flag selects less than the job does.
    fn narrow(&self) -> bool {
        let lists = [&self.include, &self.exclude, &self.exclude_if_present];
        lists.into_iter().any(|list| !list.is_empty())
            || !self.exclude_files.is_empty()
            || self.one_file_system
            || self.max_file_size.is_some()
    }
}

/// Where jobs run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The variables.
    pub env: &'a Environment,
}

/// A backup that is ready to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it goes.
    pub repository: RepositorySpec,
    /// What is read.
    pub source: SourceSpec,
    /// How.
    pub options: BackupOptions,
    /// Exclude patterns of the flags, which are among those of the selection.
    pub excluded: Vec<String>,
    /// No snapshot of it may be forgotten before it is so old.
    pub minimum_age: Option<Span>,
    /// How the log of the source is captured.
    pub logs: LogsConfig,
    /// When it may run, what is done around it, and what must come of it.
    pub execution: Execution,
}

/// When a job may run, what is done around it, and what must come of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Execution {
    /// The time of the day in which it may begin.
    pub window: Option<Window>,
    /// Whether it is tried again.
    pub retry: Option<RetryConfig>,
    /// What its snapshots must hold.
    pub expect: Vec<ExpectConfig>,
    /// What is run around it.
    pub hooks: HooksConfig,
    /// What is asked for when it has succeeded.
    pub heartbeat: Option<WebAddress>,
}

impl Execution {
    fn of(job: &JobConfig, flags: &JobFlags) -> Self {
        Self {
            window: job.window.filter(|_| !flags.force && !flags.outside_window),
            retry: job.retry.clone(),
            expect: job.expect.clone(),
            hooks: job.hooks.clone().unwrap_or_default(),
            heartbeat: job.heartbeat.clone(),
        }
    }
}

impl Job {
    /// The job `name` of the configuration, with what the flags change. `repository` replaces the
    /// job's own.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such job or a value makes no sense; those of the source.
    pub fn from_config(
        name: &str,
        config: &Config,
        repository: Option<RepositorySpec>,
        flags: &JobFlags,
        place: Place<'_>,
    ) -> Result<Self> {
        let job = find(name, config)?;
        let source = config.sources.get(&job.source).ok_or_else(|| {
            Error::invalid(format!("job `{name}`: there is no source `{}`", job.source))
        })?;
        let repository = match repository {
            Some(repository) => repository,
            None => RepositorySpec::named(&job.repository, config)?,
        };
        let assembled =
            Self::assemble(name, repository, with_flags(source, flags)?, Some(job), flags, place)?;
        let minimum_age =
            config.keep_of(name).and_then(|keep| keep.compliance.as_ref()).map(Age::span);
        Ok(Self { minimum_age, ..assembled })
    }

    /// A backup without any configuration, of `addresses`: paths, `file://` URLs, or one server.
    ///
    /// # Errors
    /// As [`Self::from_config`].
    pub fn ad_hoc(
        name: Option<&str>,
        addresses: &[String],
        repository: RepositorySpec,
        flags: &JobFlags,
        place: Place<'_>,
    ) -> Result<Self> {
        let default = BackupOptions::default().job;
        let source = with_flags(&sources::of_addresses(addresses)?, flags)?;
        Self::assemble(name.unwrap_or(&default), repository, source, None, flags, place)
    }

    /// The source as other machines call it if it is the same to them. `host` is the name of this
    /// machine, unless the job has one.
    #[must_use]
    pub fn key_among_machines(&self, host: &str) -> String {
        self.source.among_machines(self.options.host.as_deref().unwrap_or(host))
    }

    fn assemble(
        name: &str,
        repository: RepositorySpec,
        source: SourceConfig,
        job: Option<&JobConfig>,
        flags: &JobFlags,
        place: Place<'_>,
    ) -> Result<Self> {
        names::check("job", name)?;
        let tier = flags.tier.as_deref().or_else(|| job?.tier.as_deref()).unwrap_or("manual");
        names::check("tier", tier)?;
        flags.tags.iter().try_for_each(|tag| names::check_tag(tag))?;
        flags.host.iter().try_for_each(|host| names::check_host(host))?;
        let host = flags.host.clone().or_else(|| job?.host.clone());
        let flags = &JobFlags {
            include: patterns::split(source.kind, &flags.include),
            exclude: patterns::split(source.kind, &flags.exclude),
            ..flags.clone()
        };
        let both = |own: fn(&JobConfig) -> &Vec<String>, more: &[String]| -> Vec<String> {
            job.map(own).into_iter().flatten().chain(more).cloned().collect()
        };
        let selection = selection(job, flags, source.kind)?;
        let mut write = repository.write_settings();
        write.compression = flags.compression.unwrap_or(write.compression);
        write.verify_sample = flags.verify_sample.map_or(write.verify_sample, |share| share.0);
        let configuration =
            serde_json::json!({ "source": source.recorded(), "job": job.map(JobConfig::recorded) });
        let options = BackupOptions {
            job: name.to_owned(),
            kind: kind_of(&source, flags.kind.or_else(|| job?.kind))?,
            tier: tier.to_owned(),
            host: host.clone(),
            tags: both(|job| &job.tags, &flags.tags),
            selection,
            // The configuration defines a configured job; flags define an ad hoc job.
            is_part: job.is_some() && flags.narrow(),
            write,
            time_zone: place.machine.zone.rules.clone(),
            username: place.machine.user.clone(),
            configuration,
            max_bytes: if flags.force {
                None
            } else {
                flags.max_size.or_else(|| job?.max_size).map(|size| size.0)
            },
            ..BackupOptions::default()
        };
        let mut machine = place.machine.clone();
        machine.host = host.unwrap_or(machine.host);
        let source = SourceSpec::new(source, &machine, place.env)?;
        let source = if job.is_none() { source.ad_hoc() } else { source };
        let logs = job.and_then(|job| job.logs.clone()).unwrap_or_default();
        let execution = job.map(|job| Execution::of(job, flags)).unwrap_or_default();
        let excluded = flags.exclude.clone();
        Ok(Self { repository, source, options, excluded, minimum_age: None, logs, execution })
    }
}

/// Options of a snapshot that is stored under the name of a job without a configuration, and is not
/// read from a source of the job.
///
/// # Errors
/// [`Error::Invalid`] if a name or a tag makes no sense.
pub fn options_without_source(
    name: &str,
    repository: &RepositorySpec,
    flags: &JobFlags,
    place: Place<'_>,
) -> Result<BackupOptions> {
    names::check("job", name)?;
    let tier = flags.tier.as_deref().unwrap_or("manual");
    names::check("tier", tier)?;
    flags.tags.iter().try_for_each(|tag| names::check_tag(tag))?;
    Ok(BackupOptions {
        job: name.to_owned(),
        tier: tier.to_owned(),
        tags: flags.tags.clone(),
        write: repository.write_settings(),
        time_zone: place.machine.zone.rules.clone(),
        username: place.machine.user.clone(),
        ..BackupOptions::default()
    })
}

/// The selection of the job, narrowed by the flags.
fn selection(job: Option<&JobConfig>, flags: &JobFlags, kind: SourceKind) -> Result<Selection> {
    let list = |of: fn(&JobConfig) -> &Vec<String>| job.map(of).cloned().unwrap_or_default();
    let (own, may_be_missing) = (list(|job| &job.include), list(|job| &job.include_optional));
    let all: Vec<String> = own.iter().chain(&may_be_missing).cloned().collect();
    let common = narrow::intersection(&all, &flags.include, kind)?;
    let is_optional = |pattern: &String| may_be_missing.contains(pattern) && !own.contains(pattern);
    let (optional, include) = common.into_iter().partition(is_optional);
    let exclude = list(|job| &job.exclude).into_iter().chain(flags.exclude.iter().cloned());
    Selection::with_optional(include, optional, exclude.collect())
        .map_err(|error| Error::invalid(error.to_string()).with_hint(GLOB_HINT))
}

/// What helps after a bad pattern.
pub const GLOB_HINT: &str =
    "patterns are globs: `*`, `**`, `?`, `[a-z]`, `{a,b}`; a backslash escapes the next character";

pub(crate) fn find<'a>(name: &str, config: &'a Config) -> Result<&'a JobConfig> {
    if let Some(job) = config.jobs.get(name) {
        return Ok(job);
    }
    if let Some(group) = config.groups.get(name) {
        let error = Error::invalid(format!("`{name}` is a group, and one job is expected"));
        let hint = suggest::hint(name, group.jobs.iter().map(String::as_str));
        return Err(hint.into_iter().fold(error, Error::with_hint));
    }
    let known = config.jobs.keys().chain(config.groups.keys());
    Err(unknown(name, &known.map(String::as_str).collect::<Vec<_>>()))
}

/// The error for a name that no job has: [`Error::Invalid`], whose hint names the most similar of
/// the jobs that are `known`, or all of them.
#[must_use]
pub fn unknown(name: &str, known: &[&str]) -> Error {
    // An address in its place may hold a password.
    let error = Error::invalid(format!("there is no job `{}`", address::without_secrets(name)));
    if address::scheme(name).is_some() {
        return error.with_hint("use --source to back up an address without a job");
    }
    match suggest::hint(name, known.iter().copied()) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint(
            "the configuration has no jobs; `backup run --source DIR` works without one",
        ),
    }
}

/// The type of a snapshot. Of a database everything is read unless something else is asked for:
/// otherwise its chain of logs would grow for ever without anybody's wish.
fn kind_of(source: &SourceConfig, asked: Option<JobType>) -> Result<Option<BackupKind>> {
    let asked = asked.map(BackupKind::from);
    match (source.kind, asked) {
        (SourceKind::Files, asked) => Ok(asked),
        (SourceKind::Postgres, Some(other))
            if source.method == Some(MethodConfig::Logical) && other != BackupKind::Full =>
        {
            let text = format!(
                "there are no logical snapshots of PostgreSQL of type `{}`",
                other.as_str()
            );
            Err(Error::invalid(text).with_hint(
                "leave the type out: a logical backup reads all rows, and does not store unchanged \
                 data again",
            ))
        }
        (_, asked) => Ok(asked.or(Some(BackupKind::Full))),
    }
}

fn with_flags(source: &SourceConfig, flags: &JobFlags) -> Result<SourceConfig> {
    let mut source = source.clone();
    let only_files = [
        ("--exclude-file", !flags.exclude_files.is_empty()),
        ("--exclude-if-present", !flags.exclude_if_present.is_empty()),
        ("--one-file-system", flags.one_file_system),
        ("--max-file-size", flags.max_file_size.is_some()),
    ];
    if let Some(method) = flags.method {
        if source.kind != SourceKind::Postgres {
            return Err(Error::invalid(format!(
                "--method does not apply to a source of kind `{}`",
                source.kind
            ))
            .with_hint("leave --method out: it is for PostgreSQL"));
        }
        source.method = Some(method);
    }
    if source.kind != SourceKind::Files {
        return match only_files.into_iter().find(|(_, given)| *given) {
            None => Ok(source),
            Some((flag, _)) => Err(Error::invalid(format!(
                "{flag} does not apply to a source of kind `{}`",
                source.kind
            ))
            .with_hint(
                "leave the flag out: it is for files; --include and --exclude choose parts of a \
                 server",
            )),
        };
    }
    source.exclude_files.extend(flags.exclude_files.iter().cloned());
    if !flags.exclude_if_present.is_empty() {
        let markers = source
            .exclude_if_present
            .get_or_insert_with(|| FilesOptions::default().exclude_if_present);
        markers.extend(flags.exclude_if_present.iter().cloned());
    }
    if flags.one_file_system {
        source.one_file_system = Some(true);
    }
    source.max_file_size = flags.max_file_size.or(source.max_file_size);
    Ok(source)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use backup_core::event::Events;

    use super::*;
    use crate::environment::Environment;

    const CONFIG: &str = r#"
        [repositories.main]
        url = "/repo"
        compression = "max"
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [jobs.docs]
        source = "home"
        repository = "main"
        tier = "daily"
        type = "differential"
        exclude = ["*.tmp"]
        tags = ["a"]
    "#;

    fn config() -> Config {
        crate::config::parse(CONFIG, Path::new("/backup.toml"), &Environment::default()).unwrap()
    }

    fn place() -> Place<'static> {
        let machine =
            Machine { host: "host".into(), user: "user".into(), zone: crate::zone::Zone::UTC };
        Place {
            machine: Box::leak(Box::new(machine)),
            env: Box::leak(Box::new(Environment::default())),
        }
    }

    async fn identity(job: &Job) -> backup_core::source::SourceIdentity {
        job.source.open(&Environment::default(), &Events::silent()).await.unwrap().identity()
    }

    fn repository() -> RepositorySpec {
        RepositorySpec::resolve("/other", None).unwrap()
    }

    #[tokio::test]
    async fn flags_replace_values_and_add_to_lists() {
        let flags = JobFlags {
            tier: Some("weekly".into()),
            exclude: vec!["*.log".into()],
            tags: vec!["b".into()],
            ..JobFlags::default()
        };
        let job = Job::from_config("docs", &config(), None, &flags, place()).unwrap();
        assert_eq!(job.repository.name.as_deref(), Some("main"));
        assert_eq!(job.options.tier, "weekly");
        assert_eq!(job.options.kind, Some(BackupKind::Differential));
        assert_eq!(job.options.tags, ["a", "b"]);
        assert_eq!(job.options.selection.exclude(), ["*.tmp", "*.log"]);
        assert_eq!(job.options.write.compression, Compression::Max);
        let identity = identity(&job).await;
        assert_eq!((identity.host.as_str(), identity.paths), ("host", vec!["/home".to_owned()]));
    }

    #[tokio::test]
    async fn host_of_a_job_replaces_the_name_of_the_machine() {
        let config = CONFIG.replace("tier = \"daily\"", "tier = \"daily\"\nhost = \"web\"");
        let config =
            crate::config::parse(&config, Path::new("/b.toml"), &Environment::default()).unwrap();
        let flagged = JobFlags { host: Some("pod".into()), ..JobFlags::default() };
        for (flags, host) in [(JobFlags::default(), "web"), (flagged, "pod")] {
            let job = Job::from_config("docs", &config, None, &flags, place()).unwrap();
            assert_eq!(job.options.host.as_deref(), Some(host));
            assert_eq!(identity(&job).await.host, host);
            assert!(job.key_among_machines("host").starts_with(&format!("{host}: ")));
        }
        let job =
            Job::from_config("docs", &self::config(), None, &JobFlags::default(), place()).unwrap();
        assert_eq!((job.options.host.as_deref(), &*identity(&job).await.host), (None, "host"));
        let bad = JobFlags { host: Some("a b".into()), ..JobFlags::default() };
        let error = Job::from_config("docs", &config, None, &bad, place()).unwrap_err();
        assert!(error.to_string().contains("\"a b\" cannot be the name of a host"), "{error}");
    }

    #[tokio::test]
    async fn without_configuration() {
        let addresses = ["file:///data".to_owned(), "/etc".to_owned()];
        let job =
            Job::ad_hoc(None, &addresses, repository(), &JobFlags::default(), place()).unwrap();
        assert_eq!(job.options.job, "manual");
        assert_eq!(identity(&job).await.paths, ["/data", "/etc"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = JobFlags::default();
        let error = Job::from_config("doc", &config(), None, &none, place()).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `docs`?"));
        let error =
            Job::from_config("mongodb://me:hush@db/", &config(), None, &none, place()).unwrap_err();
        assert!(
            error.hint().unwrap().contains("--source") && !error.to_string().contains("hush"),
            "{error}"
        );
        for address in ["postgres://db/x", "mysql://db/x", "file://host/x", ""] {
            assert!(
                Job::ad_hoc(None, &[address.to_owned()], repository(), &none, place()).is_err(),
                "{address}"
            );
        }
        let bad = JobFlags { exclude: vec!["a[".into()], ..JobFlags::default() };
        let error = Job::ad_hoc(None, &["/x".into()], repository(), &bad, place()).unwrap_err();
        assert_eq!(error.hint(), Some(GLOB_HINT));
        assert!(Job::ad_hoc(Some("a,b"), &["/x".into()], repository(), &none, place()).is_err());
    }

    #[cfg(feature = "mongodb")]
    #[test]
    fn servers() {
        let address = ["mongodb://me:hush@host/?x=hush".to_owned()];
        let none = JobFlags::default();
        let job = Job::ad_hoc(None, &address, repository(), &none, place()).unwrap();
        assert_eq!(job.options.kind, Some(BackupKind::Full));
        assert!(!job.options.configuration.to_string().contains("database"));
        let named = ["mongodb://me:hush@host/shop".to_owned()];
        let named = Job::ad_hoc(None, &named, repository(), &none, place()).unwrap();
        assert_eq!(named.options.configuration["source"]["database"], "shop");
        let incremental = JobFlags { kind: Some(JobType::Incremental), ..none.clone() };
        let built_on = Job::ad_hoc(None, &address, repository(), &incremental, place()).unwrap();
        assert_eq!(built_on.options.kind, Some(BackupKind::Incremental));
        assert_eq!(job.source.to_string(), "MongoDB at mongodb://…@host/?…");
        let shown = format!("{job:?} {}", job.options.configuration);
        assert!(!shown.contains("hush") && shown.contains("mongodb://…@host"), "{shown}");
        for flags in [
            JobFlags { one_file_system: true, ..none.clone() },
            JobFlags { max_file_size: Some(Size(1)), ..none.clone() },
            JobFlags { exclude_files: vec!["x".into()], ..none.clone() },
            JobFlags { exclude_if_present: vec!["x".into()], ..none.clone() },
        ] {
            let error = Job::ad_hoc(None, &address, repository(), &flags, place()).unwrap_err();
            assert!(error.hint().is_some() && !format!("{error:?}").contains("hush"), "{error:?}");
        }
        let error = Job::ad_hoc(
            None,
            &[address[0].clone(), "/etc".to_owned()],
            repository(),
            &none,
            place(),
        )
        .unwrap_err();
        assert!(error.hint().is_some() && !format!("{error:?}").contains("hush"), "{error:?}");
    }

    #[cfg(feature = "mongodb")]
    #[test]
    fn how_a_password_is_had_is_not_recorded() {
        let text = r#"
            [repositories.main]
            url = "/repo"
            [sources.shop]
            kind = "mongodb"
            url = "mongodb://me:hush@host/"
            password_command = "echo hush"
            [jobs.shop]
            source = "shop"
            repository = "main"
        "#;
        let config =
            crate::config::parse(text, Path::new("/backup.toml"), &Environment::default()).unwrap();
        let job = Job::from_config("shop", &config, None, &JobFlags::default(), place()).unwrap();
        assert!(
            !job.options.configuration.to_string().contains("hush"),
            "{}",
            job.options.configuration
        );
    }
}

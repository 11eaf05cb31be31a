//! From a job of the configuration, or from flags alone, to a source and the options of a backup.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::compress::Compression;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, Selection, Source};
use backup_sources::files::{FilesOptions, FilesSource};
use backup_storage::Location;
use jiff::Span;

use crate::age::Age;
use crate::config::{Config, JobConfig, JobType, SourceConfig, SourceKind};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::repositories::RepositorySpec;
use crate::units::{Share, Size};
use crate::{names, suggest};

/// What flags say beyond, or instead of, a job's configuration: single values replace, lists are added.
#[derive(Debug, Clone, Default)]
pub struct JobFlags {
    /// Type of the snapshot.
    pub kind: Option<JobType>,
    /// Tier of the snapshot.
    pub tier: Option<String>,
    /// More tags.
    pub tags: Vec<String>,
    /// More include patterns.
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
    /// How hard to compress.
    pub compression: Option<Compression>,
    /// Share of what was written that is compared.
    pub verify_sample: Option<Share>,
}

/// A backup that is ready to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it goes.
    pub repository: RepositorySpec,
    /// What is read.
    pub source: Arc<dyn Source>,
    /// How.
    pub options: BackupOptions,
    /// No snapshot of it may be forgotten before it is so old.
    pub minimum_age: Option<Span>,
}

impl Job {
    /// The job `name` of the configuration, with what the flags change. `repository` replaces the job's own.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such job or a value makes no sense; those of the source.
    pub fn from_config(
        name: &str,
        config: &Config,
        repository: Option<RepositorySpec>,
        flags: &JobFlags,
        machine: &Machine,
    ) -> Result<Self> {
        let job = find(name, config)?;
        let source = config
            .sources
            .get(&job.source)
            .ok_or_else(|| Error::invalid(format!("job `{name}`: there is no source `{}`", job.source)))?;
        let repository = match repository {
            Some(repository) => repository,
            None => RepositorySpec::named(&job.repository, config)?,
        };
        let assembled = Self::assemble(name, repository, with_flags(source, flags), Some(job), flags, machine)?;
        let minimum_age = config.keep_of(name).and_then(|keep| keep.compliance.as_ref()).map(Age::span);
        Ok(Self { minimum_age, ..assembled })
    }

    /// A backup without any configuration, of `addresses`: paths or `file://` URLs.
    ///
    /// # Errors
    /// As [`Self::from_config`].
    pub fn ad_hoc(
        name: Option<&str>,
        addresses: &[String],
        repository: RepositorySpec,
        flags: &JobFlags,
        machine: &Machine,
    ) -> Result<Self> {
        let default = BackupOptions::default().job;
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let paths = addresses.iter().map(|address| path_of(address).map(absolute)).collect::<Result<_>>()?;
        let source = SourceConfig {
            kind: SourceKind::Files,
            paths,
            exclude_files: Vec::new(),
            exclude_if_present: None,
            one_file_system: false,
            max_file_size: None,
        };
        Self::assemble(name.unwrap_or(&default), repository, with_flags(&source, flags), None, flags, machine)
    }

    fn assemble(
        name: &str,
        repository: RepositorySpec,
        source: SourceConfig,
        job: Option<&JobConfig>,
        flags: &JobFlags,
        machine: &Machine,
    ) -> Result<Self> {
        names::check("job", name)?;
        let tier = flags.tier.as_deref().or_else(|| job?.tier.as_deref()).unwrap_or("manual");
        names::check("tier", tier)?;
        flags.tags.iter().try_for_each(|tag| names::check_tag(tag))?;
        let both = |own: fn(&JobConfig) -> &Vec<String>, more: &[String]| -> Vec<String> {
            job.map(own).into_iter().flatten().chain(more).cloned().collect()
        };
        let selection =
            Selection::new(both(|job| &job.include, &flags.include), both(|job| &job.exclude, &flags.exclude))
                .map_err(|error| Error::invalid(error.to_string()).with_hint(GLOB_HINT))?;
        let mut write = repository.write_settings();
        write.compression = flags.compression.unwrap_or(write.compression);
        write.verify_sample = flags.verify_sample.map_or(write.verify_sample, |share| share.0);
        let configuration = serde_json::json!({ "source": source, "job": job });
        let options = BackupOptions {
            job: name.to_owned(),
            kind: flags.kind.or_else(|| job?.kind).map(BackupKind::from),
            tier: tier.to_owned(),
            tags: both(|job| &job.tags, &flags.tags),
            selection,
            write,
            time_zone: machine.time_zone.clone(),
            username: machine.user.clone(),
            configuration,
            ..BackupOptions::default()
        };
        Ok(Self { repository, source: open_source(source, machine)?, options, minimum_age: None })
    }
}

/// What helps after a bad pattern.
pub const GLOB_HINT: &str =
    "patterns are globs: `*`, `**`, `?`, `[a-z]`, `{a,b}`; a backslash takes the meaning from the next letter";

pub(crate) fn find<'a>(name: &str, config: &'a Config) -> Result<&'a JobConfig> {
    config.jobs.get(name).ok_or_else(|| {
        let error = Error::invalid(format!("there is no job `{name}`"));
        match suggest::hint(name, config.jobs.keys().map(String::as_str)) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("the configuration has no jobs; `backup run --source DIR` works without one"),
        }
    })
}

fn with_flags(source: &SourceConfig, flags: &JobFlags) -> SourceConfig {
    let mut source = source.clone();
    source.exclude_files.extend(flags.exclude_files.iter().cloned());
    if !flags.exclude_if_present.is_empty() {
        let markers = source.exclude_if_present.get_or_insert_with(|| FilesOptions::default().exclude_if_present);
        markers.extend(flags.exclude_if_present.iter().cloned());
    }
    source.one_file_system |= flags.one_file_system;
    source.max_file_size = flags.max_file_size.or(source.max_file_size);
    source
}

fn open_source(source: SourceConfig, machine: &Machine) -> Result<Arc<dyn Source>> {
    match source.kind {
        SourceKind::Files => {
            let defaults = FilesOptions::default();
            let options = FilesOptions {
                exclude_files: source.exclude_files,
                exclude_if_present: source.exclude_if_present.unwrap_or(defaults.exclude_if_present),
                one_file_system: source.one_file_system,
                max_file_size: source.max_file_size.map(|size| size.0),
                host: machine.host.clone(),
                ..FilesOptions::default()
            };
            let files = FilesSource::new(source.paths, options).map_err(backup_core::error::Error::from)?;
            Ok(Arc::new(files))
        }
    }
}

/// The source that restores snapshots of `kind` (the tag `source=…`; none for snapshots of other tools, which hold
/// files), made from `paths`.
///
/// # Errors
/// [`Error::Invalid`] for a kind that this program does not know.
pub fn restorer(kind: Option<&str>, paths: &[String], machine: &Machine) -> Result<Arc<dyn Source>> {
    match kind {
        None | Some("files") => {
            let paths = if paths.is_empty() { vec!["/".into()] } else { paths.iter().map(PathBuf::from).collect() };
            let options = FilesOptions { host: machine.host.clone(), ..FilesOptions::default() };
            Ok(Arc::new(FilesSource::new(paths, options).map_err(backup_core::error::Error::from)?))
        }
        Some(other) => Err(Error::invalid(format!("this program cannot restore snapshots of `{other}`"))
            .with_hint("use the version that made it, or `restic restore` and the notes in .backup/RESTORE.md")),
    }
}

/// The path that an address of a source means.
fn path_of(address: &str) -> Result<PathBuf> {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let is_scheme = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains('/');
    match scheme.filter(|scheme| is_scheme(scheme)) {
        None => Ok(PathBuf::from(address)),
        Some(scheme) if scheme.eq_ignore_ascii_case("file") => match address.parse() {
            Ok(Location::Local(path)) => Ok(path),
            Ok(_) | Err(_) => Err(Error::invalid(format!("{address:?} is no path of this machine"))
                .with_hint("write file:///absolute/path")),
        },
        Some(scheme) => Err(Error::invalid(format!("this program cannot back up `{scheme}` sources"))
            .with_hint("it knows directories and files; write ./ in front of a path that looks like an address")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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

    fn machine() -> Machine {
        Machine { host: "host".into(), user: "user".into(), time_zone: jiff::tz::TimeZone::UTC }
    }

    fn repository() -> RepositorySpec {
        RepositorySpec::resolve("/other", None).unwrap()
    }

    #[test]
    fn flags_replace_values_and_add_to_lists() {
        let flags = JobFlags {
            tier: Some("weekly".into()),
            exclude: vec!["*.log".into()],
            tags: vec!["b".into()],
            ..JobFlags::default()
        };
        let job = Job::from_config("docs", &config(), None, &flags, &machine()).unwrap();
        assert_eq!(job.repository.name.as_deref(), Some("main"));
        assert_eq!(job.options.tier, "weekly");
        assert_eq!(job.options.kind, Some(BackupKind::Differential));
        assert_eq!(job.options.tags, ["a", "b"]);
        assert_eq!(job.options.selection.exclude(), ["*.tmp", "*.log"]);
        assert_eq!(job.options.write.compression, Compression::Max);
        let identity = job.source.identity();
        assert_eq!((identity.host.as_str(), identity.paths), ("host", vec!["/home".to_owned()]));
    }

    #[test]
    fn without_configuration() {
        let addresses = ["file:///data".to_owned(), "/etc".to_owned()];
        let job = Job::ad_hoc(None, &addresses, repository(), &JobFlags::default(), &machine()).unwrap();
        assert_eq!(job.options.job, "manual");
        assert_eq!(job.source.identity().paths, ["/data", "/etc"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = JobFlags::default();
        let error = Job::from_config("doc", &config(), None, &none, &machine()).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `docs`?"));
        for address in ["postgres://db/x", "file://host/x", ""] {
            assert!(Job::ad_hoc(None, &[address.to_owned()], repository(), &none, &machine()).is_err(), "{address}");
        }
        let bad = JobFlags { exclude: vec!["a[".into()], ..JobFlags::default() };
        let error = Job::ad_hoc(None, &["/x".into()], repository(), &bad, &machine()).unwrap_err();
        assert_eq!(error.hint(), Some(GLOB_HINT));
        assert!(Job::ad_hoc(Some("a,b"), &["/x".into()], repository(), &none, &machine()).is_err());
    }
}

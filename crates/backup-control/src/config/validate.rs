//! What the types cannot say: references between sections, names, addresses, ranges.

use backup_core::repository::WriteSettings;
use backup_core::source::Selection;

use super::{Config, DefaultsConfig, JobConfig, KeepConfig, RepositoryConfig, SourceConfig};
use crate::error::Error;
use crate::units::Size;
use crate::{names, suggest};

/// Smallest size of a pack: below this, packs would be mere overhead.
const MIN_PACK_SIZE: u64 = 1 << 20;

/// A mistake and the path of the key it is about.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: Vec<String>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Mistake {
    fn new(at: [&str; 3], message: impl Into<String>) -> Self {
        Self { at: at.map(str::to_owned).to_vec(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    fn from_error(at: [&str; 3], error: &Error) -> Self {
        Self::new(at, error.to_string()).hint(error.hint().map(str::to_owned))
    }
}

/// Finds the first mistake.
pub(super) fn config(config: &Config) -> Result<(), Mistake> {
    defaults(&config.defaults)?;
    for (name, value) in &config.repositories {
        repository(name, value)?;
    }
    for (name, value) in &config.sources {
        source(name, value)?;
    }
    config.jobs.iter().try_for_each(|(name, value)| job(config, name, value))
}

fn defaults(defaults: &DefaultsConfig) -> Result<(), Mistake> {
    const SECTION: &str = "defaults";
    if let Some(zone) = &defaults.time_zone
        && let Err(error) = crate::machine::zone(zone)
    {
        return Err(Mistake::from_error([SECTION, "time_zone", ""], &error));
    }
    defaults.keep.as_ref().map_or(Ok(()), |keep| policy([SECTION, "keep", ""], keep))
}

/// Whether a policy can be meant.
fn policy(at: [&str; 3], keep: &KeepConfig) -> Result<(), Mistake> {
    if let Err(error) = keep.policy() {
        return Err(Mistake::new(at, error.to_string())
            .hint(Some("for instance `keep = { daily = 7, weekly = 4, monthly = 12 }`".to_owned())));
    }
    let known = ["full", "incremental", "differential", "log"];
    if let Some(kind) = keep.types.keys().find(|kind| !known.contains(&kind.as_str())) {
        return Err(
            Mistake::new(at, format!("there are no snapshots of type `{kind}`")).hint(suggest::hint(kind, known))
        );
    }
    keep.tiers.keys().try_for_each(|tier| names::check("tier", tier)).map_err(|error| Mistake::from_error(at, &error))
}

fn name(section: &str, what: &str, name: &str) -> Result<(), Mistake> {
    names::check(what, name).map_err(|error| Mistake::from_error([section, name, ""], &error))
}

fn repository(own: &str, repository: &RepositoryConfig) -> Result<(), Mistake> {
    const SECTION: &str = "repositories";
    name(SECTION, "repository", own)?;
    if let Err(error) = crate::repositories::location(&repository.url) {
        return Err(Mistake::from_error([SECTION, own, "url"], &error));
    }
    let given: Vec<&str> = [
        ("passphrase_file", repository.passphrase_file.is_some()),
        ("passphrase_env", repository.passphrase_env.is_some()),
        ("passphrase_command", repository.passphrase_command.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    if let [_, second, ..] = given[..] {
        return Err(Mistake::new([SECTION, own, second], "the pass phrase is given in several ways")
            .hint(Some(format!("keep one of `{}`", given.join("`, `")))));
    }
    let sizes = MIN_PACK_SIZE..=WriteSettings::MAX_PACK_SIZE as u64;
    if let Some(Size(size)) = repository.pack_size
        && !sizes.contains(&size)
    {
        return Err(Mistake::new(
            [SECTION, own, "pack_size"],
            format!("a pack size of {} is not possible", Size(size)),
        )
        .hint(Some(format!("choose one from {} to {}", Size(*sizes.start()), Size(*sizes.end())))));
    }
    if repository.uploads == Some(0) {
        return Err(Mistake::new([SECTION, own, "uploads"], "without an upload nothing is stored"));
    }
    if repository.quota == Some(Size(0)) {
        return Err(Mistake::new([SECTION, own, "quota"], "a quota of nothing leaves no room")
            .hint(Some("leave `quota` out if there is none".to_owned())));
    }
    if repository.prune.max_repack == Some(Size(0)) {
        return Err(Mistake::new([SECTION, own, "prune"], "with `max_repack` of nothing, nothing is written anew")
            .hint(Some("to write nothing anew, set `max_unused = \"unlimited\"`".to_owned())));
    }
    Ok(())
}

fn source(own: &str, source: &SourceConfig) -> Result<(), Mistake> {
    const SECTION: &str = "sources";
    name(SECTION, "source", own)?;
    if source.paths.is_empty() || source.paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Mistake::new([SECTION, own, "paths"], "a path is missing")
            .hint(Some("name at least one directory or file".to_owned())));
    }
    Ok(())
}

fn job(config: &Config, own: &str, job: &JobConfig) -> Result<(), Mistake> {
    const SECTION: &str = "jobs";
    name(SECTION, "job", own)?;
    if !config.sources.contains_key(&job.source) {
        let hint = suggest::hint(&job.source, config.sources.keys().map(String::as_str));
        return Err(Mistake::new([SECTION, own, "source"], format!("there is no source `{}`", job.source)).hint(hint));
    }
    if !config.repositories.contains_key(&job.repository) {
        let hint = suggest::hint(&job.repository, config.repositories.keys().map(String::as_str));
        let message = format!("there is no repository `{}`", job.repository);
        return Err(Mistake::new([SECTION, own, "repository"], message).hint(hint));
    }
    if let Some(tier) = &job.tier {
        names::check("tier", tier).map_err(|error| Mistake::from_error([SECTION, own, "tier"], &error))?;
    }
    for tag in &job.tags {
        names::check_tag(tag).map_err(|error| Mistake::from_error([SECTION, own, "tags"], &error))?;
    }
    for (key, patterns) in [("include", &job.include), ("exclude", &job.exclude)] {
        if let Err(error) = Selection::new(patterns.clone(), Vec::new()) {
            return Err(Mistake::new([SECTION, own, key], error.to_string()));
        }
    }
    job.keep.as_ref().map_or(Ok(()), |keep| policy([SECTION, own, "keep"], keep))
}

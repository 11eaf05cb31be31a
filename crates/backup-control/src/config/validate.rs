//! What the types cannot say: references between sections, names, addresses, ranges.

mod sources;

use backup_core::repository::WriteSettings;
use backup_core::source::Selection;
use backup_storage::Location;

use super::{
    AlertConfig, Config, DefaultsConfig, HooksConfig, JobConfig, KeepConfig, NotifyConfig,
    ReaderConfig, RepositoryConfig, RetryConfig, SourceConfig, SourceKind, schedule,
};
use crate::alerts::{About, Condition};
use crate::error::Error;
use crate::units::Size;
use crate::zone::{Zone, Zones};
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
    pub(super) fn new(at: [&str; 3], message: impl Into<String>) -> Self {
        Self { at: at.map(str::to_owned).to_vec(), message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The key of the table that it is about.
    fn within(mut self, key: &str) -> Self {
        self.at.push(key.to_owned());
        self
    }

    pub(super) fn from_error(at: [&str; 3], error: &Error) -> Self {
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
        sources::source(name, value)?;
    }
    // With a zone for schedules alone, the machine decides whether a time is within a window.
    let is_known = config.defaults.time_zone.is_some() || config.schedule.time_zone.is_none();
    let zones = is_known.then(|| Zones::new(Some(config), &Zone::UTC));
    for (name, value) in &config.jobs {
        job(config, zones.as_ref(), name, value)?;
    }
    config.groups.iter().try_for_each(|(name, group)| match group.mistake(name, config) {
        None => Ok(()),
        Some((key, error)) => Err(Mistake::from_error(["groups", name, key], &error)),
    })?;
    report(config)?;
    if let Some((key, error)) = config.schedule.mistake(&config.notify) {
        return Err(Mistake::from_error(["schedule", key, ""], &error));
    }
    if let Some((key, error)) = config.schedule.wrong_copy(config) {
        return Err(Mistake::from_error(["schedule", key, ""], &error));
    }
    config.api.mistake().map_or(Ok(()), Err)?;
    let is_missing = |channel: &&String| !config.notify.contains_key(*channel);
    if let Some(unknown) = config.audit.notify.iter().find(is_missing) {
        let message = format!("there is no channel `{unknown}`");
        return Err(Mistake::new(["audit", "notify", ""], &message)
            .hint(suggest::hint(unknown, config.notify.keys().map(String::as_str))));
    }
    config.catalog.mistake().map_or(Ok(()), Err)?;
    config.servers.iter().try_for_each(|(own, server)| {
        name("servers", "server", own)?;
        server.mistake(own).map_or(Ok(()), Err)
    })?;
    config.alerts.iter().try_for_each(|(name, value)| alert(config, name, value))?;
    config.notify.iter().try_for_each(|(name, value)| channel(name, value))
}

fn defaults(defaults: &DefaultsConfig) -> Result<(), Mistake> {
    const SECTION: &str = "defaults";
    if let Some(zone) = &defaults.time_zone
        && let Err(error) = crate::zone::named(zone)
    {
        return Err(Mistake::from_error([SECTION, "time_zone", ""], &error));
    }
    defaults.keep.as_ref().map_or(Ok(()), |keep| policy([SECTION, "keep", ""], keep))
}

/// Whether a policy can be meant.
fn policy(at: [&str; 3], keep: &KeepConfig) -> Result<(), Mistake> {
    if let Err(error) = keep.policy() {
        return Err(Mistake::new(at, error.to_string()).hint(Some(
            "for instance `keep = { daily = 7, weekly = 4, monthly = 12 }`".to_owned(),
        )));
    }
    let known = ["full", "incremental", "differential", "log"];
    if let Some(kind) = keep.types.keys().find(|kind| !known.contains(&kind.as_str())) {
        return Err(Mistake::new(at, format!("there are no snapshots of type `{kind}`"))
            .hint(suggest::hint(kind, known)));
    }
    keep.tiers
        .keys()
        .try_for_each(|tier| names::check("tier", tier))
        .map_err(|error| Mistake::from_error(at, &error))
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
        return Err(Mistake::new([SECTION, own, second], "the pass phrase is set by several keys")
            .hint(Some(format!("keep one of `{}`", given.join("`, `")))));
    }
    let sizes = MIN_PACK_SIZE..=WriteSettings::MAX_PACK_SIZE as u64;
    if let Some(Size(size)) = repository.pack_size
        && !sizes.contains(&size)
    {
        return Err(Mistake::new(
            [SECTION, own, "pack_size"],
            format!("a pack size of {} is out of range", Size(size)),
        )
        .hint(Some(format!(
            "choose a size from {} to {}",
            Size(*sizes.start()),
            Size(*sizes.end())
        ))));
    }
    if repository.uploads == Some(0) {
        return Err(Mistake::new([SECTION, own, "uploads"], "`uploads` must be at least 1"));
    }
    if repository.quota == Some(Size(0)) {
        return Err(Mistake::new([SECTION, own, "quota"], "a quota of 0 leaves no space")
            .hint(Some("leave `quota` out to set none".to_owned())));
    }
    reserve(own, repository)?;
    if repository.prune.max_repack == Some(Size(0)) {
        return Err(Mistake::new(
            [SECTION, own, "prune"],
            "with `max_repack` of 0, no pack is ever rewritten",
        )
        .hint(Some("to rewrite no packs, set `max_unused = \"unlimited\"`".to_owned())));
    }
    Ok(())
}

fn reserve(own: &str, repository: &RepositoryConfig) -> Result<(), Mistake> {
    let at = ["repositories", own, "reserve"];
    let Some(Size(size)) = repository.reserve else { return Ok(()) };
    if size == 0 {
        return Err(Mistake::new(at, "a reserve of 0 reserves nothing")
            .hint(Some("leave `reserve` out to reserve nothing".to_owned())));
    }
    match crate::repositories::location(&repository.url) {
        Ok(Location::Local(_)) => Ok(()),
        _ => Err(Mistake::new(at, "only a repository in a directory can have a reserve")
            .hint(Some("remove `reserve`".to_owned()))),
    }
}

fn job(config: &Config, zones: Option<&Zones>, own: &str, job: &JobConfig) -> Result<(), Mistake> {
    const SECTION: &str = "jobs";
    name(SECTION, "job", own)?;
    if !config.sources.contains_key(&job.source) {
        let hint = suggest::hint(&job.source, config.sources.keys().map(String::as_str));
        return Err(Mistake::new(
            [SECTION, own, "source"],
            format!("there is no source `{}`", job.source),
        )
        .hint(hint));
    }
    let kind = config.sources.get(&job.source).map(|source| source.kind);
    if !config.repositories.contains_key(&job.repository) {
        let hint = suggest::hint(&job.repository, config.repositories.keys().map(String::as_str));
        let message = format!("there is no repository `{}`", job.repository);
        return Err(Mistake::new([SECTION, own, "repository"], message).hint(hint));
    }
    if let Some(tier) = &job.tier {
        names::check("tier", tier)
            .map_err(|error| Mistake::from_error([SECTION, own, "tier"], &error))?;
    }
    if let Some(host) = &job.host {
        names::check_host(host)
            .map_err(|error| Mistake::from_error([SECTION, own, "host"], &error))?;
    }
    for tag in &job.tags {
        names::check_tag(tag)
            .map_err(|error| Mistake::from_error([SECTION, own, "tags"], &error))?;
    }
    patterns(own, job, kind)?;
    execution(own, job, config.sources.get(&job.source))?;
    let ranks = (job.priority, job.deadline.as_ref());
    let window = (job.window.as_ref(), zones);
    if let Some((key, error)) = schedule::mistake(&job.schedule, ranks, window) {
        return Err(Mistake::from_error([SECTION, own, key], &error));
    }
    if let Some(logs) = &job.logs {
        if kind == Some(SourceKind::Files) {
            return Err(Mistake::new(
                [SECTION, own, "logs"],
                "sources of kind `files` have no log",
            )
            .hint(Some("leave `logs` out, and back up files more often".to_owned())));
        }
        if config
            .sources
            .get(&job.source)
            .is_some_and(|source| source.reader == Some(ReaderConfig::Scan))
        {
            let hint = "leave `logs` out, or use `reader = \"replica\"`: a scan has no position \
                        that a log can continue from";
            let text = "a source with `reader = \"scan\"` has no log to capture";
            return Err(Mistake::new([SECTION, own, "logs"], text).hint(Some(hint.to_owned())));
        }
        if let Some((key, error)) = logs.mistake() {
            let mistake = Mistake::from_error([SECTION, own, "logs"], &error);
            return Err(mistake.within(key));
        }
    }
    job.keep.as_ref().map_or(Ok(()), |keep| policy([SECTION, own, "keep"], keep))
}

/// Patterns of a job: they can be parsed, and its source selects by them.
fn patterns(own: &str, job: &JobConfig, kind: Option<SourceKind>) -> Result<(), Mistake> {
    const SECTION: &str = "jobs";
    let patterns = [
        ("include", &job.include),
        ("include_optional", &job.include_optional),
        ("exclude", &job.exclude),
    ];
    for (key, patterns) in patterns {
        if let Err(error) = Selection::new(patterns.clone(), Vec::new()) {
            return Err(Mistake::new([SECTION, own, key], error.to_string()));
        }
        if kind == Some(SourceKind::Redis) && !patterns.is_empty() {
            let hint = "leave the key out, and select keys in the restore (--only, --exclude)";
            return Err(Mistake::new(
                [SECTION, own, key],
                "a server of Redis is backed up as a whole",
            )
            .hint(Some(hint.to_owned())));
        }
    }
    Ok(())
}

/// Prices, of repositories that there are.
fn report(config: &Config) -> Result<(), Mistake> {
    const AT: [&str; 3] = ["report", "prices", ""];
    for (name, price) in &config.report.prices {
        if !config.repositories.contains_key(name) {
            return Err(Mistake::new(AT, format!("there is no repository `{name}`"))
                .hint(suggest::hint(name, config.repositories.keys().map(String::as_str))));
        }
        if !price.is_finite() || *price < 0.0 {
            return Err(Mistake::new(AT, format!("{price} is not a price")));
        }
    }
    Ok(())
}

/// A rule, and who is told.
fn alert(config: &Config, own: &str, alert: &AlertConfig) -> Result<(), Mistake> {
    const SECTION: &str = "alerts";
    name(SECTION, "rule", own)?;
    if let Err(error) = crate::notify::patterns(&alert.only) {
        return Err(Mistake::from_error([SECTION, own, "only"], &error));
    }
    if alert.condition.about() == About::Daemon && !alert.only.is_empty() {
        let mistake = Mistake::new(
            [SECTION, own, "only"],
            format!("`{}` applies to the daemon", alert.condition),
        );
        return Err(mistake.hint(Some("leave `only` out: a machine has one daemon".to_owned())));
    }
    if let Some(unknown) = alert.notify.iter().find(|channel| !config.notify.contains_key(*channel))
    {
        return Err(Mistake::new(
            [SECTION, own, "notify"],
            format!("there is no channel `{unknown}`"),
        )
        .hint(suggest::hint(unknown, config.notify.keys().map(String::as_str))));
    }
    if alert.floor.is_some() && !matches!(alert.condition, Condition::Duration(_)) {
        let mistake = Mistake::new(
            [SECTION, own, "floor"],
            format!("`{}` compares no durations", alert.condition),
        );
        return Err(mistake.hint(Some("leave `floor` out: it belongs to `duration`".to_owned())));
    }
    let lasts = [
        ("for", alert.lasting.is_some()),
        ("repeat", alert.repeat.is_some()),
        ("resolve", alert.resolve.is_some()),
    ];
    match lasts.into_iter().find(|(_, given)| *given && alert.condition.is_event()) {
        Some((key, _)) => {
            Err(Mistake::new([SECTION, own, key], format!("`{}` notifies once", alert.condition))
                .hint(Some(format!("leave `{key}` out"))))
        }
        None => Ok(()),
    }
}

/// A channel of notifications.
fn channel(own: &str, channel: &NotifyConfig) -> Result<(), Mistake> {
    name("notify", "channel", own)?;
    let mistake = crate::notify::mistake(channel);
    mistake.map_or(Ok(()), |(key, error)| Err(Mistake::from_error(["notify", own, key], &error)))
}

/// When it may run, what is done around it, and what must come of it.
fn execution(own: &str, job: &JobConfig, source: Option<&SourceConfig>) -> Result<(), Mistake> {
    let mistake = |key: &str, text: &str| Mistake::new(["jobs", own, key], text);
    if job.max_size == Some(Size(0)) {
        return Err(mistake("max_size", "with `max_size` of 0, no backup can succeed")
            .hint(Some("leave `max_size` out".to_owned())));
    }
    if let Some(error) = job.retry.as_ref().and_then(RetryConfig::mistake) {
        return Err(Mistake::from_error(["jobs", own, "retry"], &error));
    }
    if let Some((key, error)) = job.hooks.as_ref().and_then(HooksConfig::mistake) {
        return Err(Mistake::from_error(["jobs", own, "hooks"], &error).within(key));
    }
    let counts = |source: &SourceConfig| source.kind != SourceKind::Files;
    let of_object = job.expect.iter().find_map(|expect| expect.object.as_ref());
    if let (Some(object), false) = (of_object, source.is_some_and(counts)) {
        let text = format!("backups of this source do not count {object:?}");
        return Err(
            mistake("expect", &text).hint(Some("leave `object` out to count files".to_owned()))
        );
    }
    if job.expect.iter().any(|expect| expect.min == 0) {
        return Err(mistake("expect", "a minimum of 0 is always met")
            .hint(Some("write `min = 1`".to_owned())));
    }
    Ok(())
}

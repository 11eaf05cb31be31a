//! What is done with repositories on a schedule: `[[schedule.copy]]`, `[[schedule.archive]]`,
//! `check_data`.

use std::fmt;

use backup_core::check::ReadData;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::DaemonConfig;
use super::types::Config;
use crate::age::Age;
use crate::error::Error;
use crate::schedule::Cron;
use crate::suggest;

/// `[[schedule.copy]]`: scheduled copy of snapshots from one repository into another. Snapshots
/// that exist in the target are not copied again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyConfig {
    /// Cron expression.
    #[schemars(with = "String")]
    pub at: Cron,
    /// Name of the source repository.
    pub from: String,
    /// Name of the target repository, created by `backup init --like`.
    pub to: String,
    /// Only snapshots of this job. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// `[[schedule.archive]]`: scheduled copy of old snapshots into an archive repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// Cron expression.
    #[schemars(with = "String")]
    pub at: Cron,
    /// Name of the source repository.
    pub from: String,
    /// Name of the target repository.
    pub to: String,
    /// Only snapshots older than this, for instance `90d`.
    #[schemars(with = "String")]
    pub older_than: Age,
    /// Only snapshots of this job. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Storage class of the copied data, for instance `GLACIER`. Default: that of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// `true`: remove the snapshots from the source repository. Default: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<bool>,
}

/// Amount of data that a check reads: a different part each time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CheckData(String);

impl TryFrom<String> for CheckData {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The same part every time would say nothing of the others.
        if text.contains('/') {
            return Err(format!(
                "{text} reads the same part in every check: choose a share (5%) or an amount \
                 (10GiB)"
            ));
        }
        text.parse::<ReadData>().map(|_| Self(text)).map_err(|error| error.to_string())
    }
}

impl From<CheckData> for String {
    fn from(data: CheckData) -> Self {
        data.0
    }
}

impl fmt::Display for CheckData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DaemonConfig {
    /// The first copy or archive that cannot be made with the repositories and jobs that there are:
    /// its key, and why.
    pub(super) fn wrong_copy(&self, config: &Config) -> Option<(&'static str, Error)> {
        let copies = self.copy.iter().map(|copy| ("copy", &copy.from, &copy.to, &copy.job));
        let archives = self
            .archive
            .iter()
            .map(|archive| ("archive", &archive.from, &archive.to, &archive.job));
        copies.chain(archives).find_map(|(key, from, to, job)| {
            let repositories = &config.repositories;
            if let Some(unknown) =
                [from, to].into_iter().find(|name| !repositories.contains_key(*name))
            {
                let error = Error::invalid(format!("there is no repository `{unknown}`"));
                let hint = suggest::hint(unknown, repositories.keys().map(String::as_str));
                return Some((key, hint.into_iter().fold(error, Error::with_hint)));
            }
            if from == to {
                let error = Error::invalid(format!("`from` and `to` are both repository `{from}`"));
                return Some((key, error.with_hint("name another repository in `to`")));
            }
            let unknown = job.as_ref().filter(|job| !config.jobs.contains_key(*job))?;
            let error = Error::invalid(format!("there is no job `{unknown}`"));
            let hint = suggest::hint(unknown, config.jobs.keys().map(String::as_str));
            Some((key, hint.into_iter().fold(error, Error::with_hint)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    #[test]
    fn copies_name_what_there_is() {
        let read = |schedule: &str| {
            let text = format!(
                "[repositories.main]\nurl = \"/r\"\n[repositories.offsite]\nurl = \
                 \"/o\"\n[sources.a]\nkind = \"files\"\npaths = [\"/a\"]\n[jobs.a]\nsource = \
                 \"a\"\nrepository = \"main\"\n{schedule}"
            );
            parse(&text, Path::new("/x.toml"), &Default::default())
                .map(|config| config.schedule)
                .map_err(|error| format!("{error}; {}", error.hint.clone().unwrap_or_default()))
        };
        let copy = |from: &str, to: &str, more: &str| {
            read(&format!(
                "[[schedule.copy]]\nat = \"@daily\"\nfrom = \"{from}\"\nto = \"{to}\"\n{more}"
            ))
        };
        assert_eq!(
            copy("main", "offsite", "job = \"a\"").unwrap().copy[0].job.as_deref(),
            Some("a")
        );
        for (wrong, word) in [
            (copy("main", "ofsite", ""), "did you mean `offsite`"),
            (copy("main", "s3://me:hush@x/", ""), "there is no repository"),
            (copy("main", "main", ""), "are both repository `main`"),
            (copy("main", "offsite", "job = \"b\""), "there is no job"),
            (copy("main", "offsite", "older_than = \"1d\""), "older_than"),
            (read("[schedule]\ncheck_data = \"5%\""), "has no effect without `check`"),
            (
                read("[schedule]\ncheck = \"@daily\"\ncheck_data = \"1/12\""),
                "the same part in every check",
            ),
            (read("[schedule]\ncheck = \"@daily\"\ncheck_data = \"much\""), "much"),
        ] {
            let error = wrong.unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(read("[schedule]\ncheck = \"@daily\"\ncheck_data = \"10GiB\"").is_ok());
    }
}

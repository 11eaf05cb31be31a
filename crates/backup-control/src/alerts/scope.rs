//! The jobs and repositories of a configuration, by which alerts are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::About;
use crate::audit::Record;
use crate::config::LoadedConfig;
use crate::repositories::RepositorySpec;

/// The jobs and repositories that a configuration names. The state of alerts is kept by these, and
/// not by the path of the configuration: a moved or copied file continues the same alerts.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Path of the configuration file.
    pub file: String,
    /// Addresses of repositories as runs hold them, by their names in the configuration.
    pub repositories: BTreeMap<String, String>,
    /// Names of the repositories of jobs, by job.
    pub jobs: BTreeMap<String, String>,
}

impl Scope {
    /// The scope of a configuration.
    #[must_use]
    pub fn of(loaded: &LoadedConfig) -> Self {
        let (file, config) = (&loaded.file, &loaded.config);
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let address =
            |name: &String| Some((name.clone(), RepositorySpec::named(name, config).ok()?.place()));
        let jobs = config.jobs.iter();
        Self {
            file: file.display().to_string(),
            repositories: config.repositories.keys().filter_map(address).collect(),
            jobs: jobs.map(|(name, job)| (name.clone(), job.repository.clone())).collect(),
        }
    }

    /// Address of the repository of a job.
    #[must_use]
    pub fn of_job(&self, job: &str) -> Option<&str> {
        self.repositories.get(self.jobs.get(job)?).map(String::as_str)
    }

    /// Address of the repository that an alert about `subject` concerns; none if the configuration
    /// does not name the subject, and for the daemon.
    #[must_use]
    pub fn repository(&self, about: About, subject: &str) -> Option<&str> {
        match about {
            About::Job => self.of_job(subject),
            About::Repository => self.repositories.get(subject).map(String::as_str),
            About::Daemon => None,
        }
    }

    /// Whether the configuration names the subject of an alert, in this repository.
    #[must_use]
    pub fn covers(&self, about: About, subject: &str, repository: Option<&str>) -> bool {
        about == About::Daemon
            || repository.is_some() && self.repository(about, subject) == repository
    }
}

/// The jobs and repositories that a command has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Names of jobs.
    pub jobs: BTreeSet<String>,
    /// Addresses of repositories.
    pub repositories: BTreeSet<String>,
}

impl Affected {
    /// One job.
    #[must_use]
    pub fn job(name: &str) -> Self {
        Self { jobs: [name.to_owned()].into(), repositories: BTreeSet::new() }
    }

    /// Adds the subject of a record of the audit log: the job of a backup or restore, the
    /// repository of a verification or copy.
    pub fn add(&mut self, record: &Record) {
        let detail = |name: &str| record.details.get(name).cloned();
        match record.operation.as_str() {
            "backup" | "restore" => self.jobs.extend(detail("job")),
            "verify" | "check" | "copy" | "archive" => {
                self.repositories.extend(detail("repository"));
            }
            _ => {}
        }
    }
}

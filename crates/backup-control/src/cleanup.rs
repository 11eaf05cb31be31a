//! From the jobs of the configuration to what a cleanup has to do.

use std::collections::HashSet;

use backup_core::repository::SnapshotFilter;
use backup_core::retention::Policy;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::jobs;
use crate::repositories::RepositorySpec;

/// What helps if a job does not say what stays.
const HINT: &str = "add a policy to the job, for instance `keep = { daily = 7, weekly = 4, monthly \
                    = 12 }`, or write [defaults.keep]";

/// The snapshots of one job in one repository, and which of them stay.
#[derive(Debug, Clone)]
pub struct Cleanup {
    /// The job.
    pub job: String,
    /// Where its snapshots are.
    pub repository: RepositorySpec,
    /// Which ones they are.
    pub filter: SnapshotFilter,
    /// Which of them stay.
    pub policy: Policy,
}

/// The cleanups of the jobs `names`. `repository` replaces the jobs' own.
///
/// # Errors
/// [`Error::Invalid`] if there is no such job, or none that says what stays.
pub fn of_jobs(
    config: &Config,
    names: &[String],
    repository: Option<&RepositorySpec>,
) -> Result<Vec<Cleanup>> {
    let (mut cleanups, mut seen) = (Vec::new(), HashSet::new());
    for name in names {
        let section = jobs::find(name, config)?;
        let keep = config.keep_of(name).ok_or_else(|| {
            Error::invalid(format!("job `{name}` has no retention policy")).with_hint(HINT)
        })?;
        let repository = match repository {
            Some(repository) => repository.clone(),
            None => RepositorySpec::named(&section.repository, config)?,
        };
        if !seen.insert(name) {
            continue;
        }
        let policy = keep
            .policy()
            .map_err(|error| Error::invalid(format!("job `{name}`: {error}")).with_hint(HINT))?;
        let filter = SnapshotFilter { job: Some(name.clone()), ..SnapshotFilter::default() };
        cleanups.push(Cleanup { job: name.clone(), repository, filter, policy });
    }
    Ok(cleanups)
}

/// The names of all jobs that say which snapshots stay.
///
/// # Errors
/// [`Error::Invalid`] if there is none.
pub fn all_jobs(config: &Config) -> Result<Vec<String>> {
    let names: Vec<String> =
        config.jobs.keys().filter(|name| config.keep_of(name).is_some()).cloned().collect();
    match names.is_empty() {
        true => {
            Err(Error::invalid("no job of the configuration has a retention policy")
                .with_hint(HINT))
        }
        false => Ok(names),
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
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [jobs.a]
        source = "home"
        repository = "main"
        keep = { last = 1 }
        [jobs.b]
        source = "home"
        repository = "main"
    "#;

    fn config(more: &str) -> Config {
        crate::config::parse(
            &format!("{CONFIG}{more}"),
            Path::new("/backup.toml"),
            &Environment::default(),
        )
        .unwrap()
    }

    #[test]
    fn groups_stand_for_their_jobs() {
        let config = config("[groups.all]\njobs = [\"b\", \"a\"]");
        let names = ["a", "all", "c", "a"].map(str::to_owned);
        assert_eq!(config.jobs_of(&names), ["a", "b", "c"]);
    }

    #[test]
    fn a_jobs_own_rules_go_before_the_defaults() {
        let alone = config("");
        assert_eq!(all_jobs(&alone).unwrap(), ["a"]);
        let error = of_jobs(&alone, &["b".to_owned()], None).unwrap_err();
        assert_eq!(error.hint(), Some(HINT));
        assert!(of_jobs(&alone, &["c".to_owned()], None).is_err());

        let config = config("[defaults]\nkeep = { daily = 7 }");
        let names = all_jobs(&config).unwrap();
        assert_eq!(names, ["a", "b"]);
        let cleanups = of_jobs(&config, &[names, vec!["a".to_owned()]].concat(), None).unwrap();
        assert_eq!(cleanups.len(), 2, "each once");
        let counts = |at: usize| (cleanups[at].policy.last, cleanups[at].policy.daily);
        use backup_core::retention::Keep;
        assert_eq!(
            [counts(0), counts(1)],
            [(Keep::Count(1), Keep::None), (Keep::None, Keep::Count(7))]
        );
        let other = RepositorySpec::resolve("/other", None).unwrap();
        let moved = of_jobs(&config, &["a".to_owned()], Some(&other)).unwrap();
        assert_eq!(moved[0].repository.to_string(), "/other");
    }
}

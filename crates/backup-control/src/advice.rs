//! What could be done better, from the configuration and from what came of runs.

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Config, JobConfig, JobType, SourceKind};
use crate::error::Result;
use crate::jobs;
use crate::runs::{Run, State, analyze};

/// Successful runs from which on something can be said about how they usually are.
const ENOUGH: usize = 3;

/// Something that could be done better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The job that it is about; none if it is about all.
    pub job: Option<String>,
    /// What was seen.
    pub seen: String,
    /// What can be done.
    pub advice: String,
}

impl Advice {
    fn of(job: &str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { job: Some(job.to_owned()), seen: seen.into(), advice: advice.into() }
    }
}

/// Looks at the job `name`, whose newest runs are `runs`, newest first.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) if there is no such job.
pub fn of_job(config: &Config, name: &str, runs: &[Run], now: Timestamp) -> Result<Vec<Advice>> {
    let job = jobs::find(name, config)?;
    let mut advice = of_runs(name, runs, now);
    if config.keep_of(name).is_none() {
        let what = "define a retention policy, for instance `keep = { daily = 7, weekly = 4, \
                    monthly = 12 }`, and run `backup cleanup --all`";
        advice.push(Advice::of(name, "no retention policy applies: all snapshots are kept", what));
    }
    match config.sources.get(&job.source).map(|source| source.kind) {
        Some(SourceKind::Files) | None => {}
        Some(kind) => advice.extend(of_server(config, name, job, kind)),
    }
    Ok(advice)
}

/// Looks at what holds for all jobs.
#[must_use]
pub fn of_all(config: &Config) -> Vec<Advice> {
    let is_local = |url: &str| !url.contains("://") || url.starts_with("file://");
    let are_local = config.repositories.values().all(|repository| is_local(&repository.url));
    if config.repositories.is_empty() || !are_local {
        return Vec::new();
    }
    let seen = "all repositories are directories of this machine".to_owned();
    let what = "keep a copy elsewhere: create it with `backup init -r COPY --like FIRST`, then run \
                `backup copy --all --to COPY`";
    vec![Advice { job: None, seen, advice: what.to_owned() }]
}

fn of_runs(name: &str, runs: &[Run], now: Timestamp) -> Vec<Advice> {
    let mut advice = Vec::new();
    let Some(last) = runs.first() else {
        return vec![Advice::of(
            name,
            "the catalog has no run of this job",
            format!("run `backup run {name}` from a timer"),
        )];
    };
    let failed =
        runs.iter().take_while(|run| matches!(run.state, State::Failed | State::Cancelled)).count();
    if failed > 0 {
        let why = last
            .evidence
            .failure
            .as_ref()
            .map(|failure| format!(": {}", failure.message))
            .unwrap_or_default();
        let seen = if failed == 1 {
            "the last run failed or was cancelled".to_owned()
        } else {
            format!("the last {failed} runs failed or were cancelled")
        };
        advice.push(Advice::of(
            name,
            format!("{seen}{why}"),
            format!("correct the cause, then run `backup retry {}`", last.id),
        ));
    }
    let Some(success) = runs.iter().find(|run| run.state.is_success()) else { return advice };
    if success.evidence.warnings > 0 {
        let seen = format!(
            "the last successful run had warnings ({} of them): the snapshot may be incomplete",
            success.evidence.warnings
        );
        advice.push(Advice::of(
            name,
            seen,
            format!(
                "`backup logs run {}` lists the warnings; exclude the affected objects or make \
                 them readable",
                success.id
            ),
        ));
    }
    let analysis = analyze(success, runs, now);
    if analysis.earlier.is_some_and(|earlier| earlier.runs >= ENOUGH) {
        for remark in analysis.remarks {
            advice.push(Advice::of(
                name,
                format!("last successful run: {remark}"),
                format!("run `backup analyze {}`", success.id),
            ));
        }
    }
    advice
}

fn of_server(config: &Config, name: &str, job: &JobConfig, kind: SourceKind) -> Vec<Advice> {
    let mut advice = Vec::new();
    let source = &config.sources[&job.source];
    let is_logical = source.method == Some(crate::config::MethodConfig::Logical);
    if job.logs.is_none() && !is_logical {
        let seen = "the log is not captured: changes since the last backup can be lost";
        advice.push(Advice::of(
            name,
            seen,
            format!(
                "run `backup logs follow {name}` as a service; its settings are in \
                 [jobs.{name}.logs]"
            ),
        ));
    }
    let counts = kind != SourceKind::Postgres || is_logical;
    if job.expect.is_empty() && counts {
        let seen = "a backup of an emptied database would succeed";
        let what = format!(
            "declare the expected contents: `[[jobs.{name}.expect]]` with `object` and `min`"
        );
        advice.push(Advice::of(name, seen, what));
    }
    if job.kind == Some(JobType::Incremental)
        && !config.jobs.values().any(|other| {
            other.source == job.source
                && other.repository == job.repository
                && other.kind != Some(JobType::Incremental)
        })
    {
        let seen = "all backups are incremental: a restore reads every one since the first";
        let full = format!("run `backup run {name} --type full` once a week");
        // The others take a server, or have nothing to put together.
        let what = if matches!(kind, SourceKind::Mongodb | SourceKind::Postgres) {
            format!("{full}, or `backup logs compact {name}`")
        } else {
            full
        };
        advice.push(Advice::of(name, seen, what));
    }
    advice
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::SignedDuration;

    use super::*;
    use crate::environment::Environment;
    use crate::machine::Machine;
    use crate::runs::{Failure, What};

    const CONFIG: &str = r#"
        [repositories.main]
        url = "/repo"
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [sources.cache]
        kind = "redis"
        url = "redis://host"
        [jobs.docs]
        source = "home"
        repository = "main"
        keep = { last = 3 }
        [jobs.cache]
        source = "cache"
        repository = "main"
        type = "incremental"
    "#;

    fn runs(states: &[(State, i64)]) -> Vec<Run> {
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let run = |(at, (state, seconds)): (usize, &(State, i64))| {
            let started = Timestamp::UNIX_EPOCH - SignedDuration::from_hours(at as i64);
            let mut run = Run::new(What::Backup, "docs", "/repo", &machine, started);
            (run.state, run.finished) =
                (*state, Some(started + SignedDuration::from_secs(*seconds)));
            if *state == State::Failed {
                run.evidence.failure = Some(Failure { message: "disk full".into(), hint: None });
            }
            run
        };
        states.iter().enumerate().map(run).collect()
    }

    #[test]
    fn is_given_for_what_was_seen() {
        let config =
            crate::config::parse(CONFIG, Path::new("/backup.toml"), &Environment::default())
                .unwrap();
        let seen = |name: &str, runs: &[Run]| {
            let advice = of_job(&config, name, runs, Timestamp::UNIX_EPOCH).unwrap();
            advice.into_iter().map(|advice| advice.seen).collect::<Vec<_>>()
        };
        assert_eq!(seen("docs", &runs(&[(State::Verified, 10)])), Vec::<String>::new());
        assert_eq!(seen("docs", &[]), ["the catalog has no run of this job"]);
        let failed = runs(&[(State::Failed, 1), (State::Failed, 1), (State::Verified, 10)]);
        assert_eq!(seen("docs", &failed), ["the last 2 runs failed or were cancelled: disk full"]);
        let slow = runs(&[
            (State::Verified, 90),
            (State::Verified, 10),
            (State::Verified, 10),
            (State::Verified, 10),
        ]);
        assert_eq!(
            seen("docs", &slow).len(),
            2,
            "twice as long, and outside of the stages: {:?}",
            seen("docs", &slow)
        );
        assert_eq!(
            seen("cache", &runs(&[(State::Verified, 10)])).len(),
            4,
            "{:?}",
            seen("cache", &[])
        );
        let words = of_job(&config, "cache", &[], Timestamp::UNIX_EPOCH).unwrap();
        assert!(
            words.iter().all(|one| !one.advice.contains("compact")),
            "it is refused: {words:?}"
        );
        assert_eq!(of_all(&config).len(), 1);
        assert!(of_job(&config, "other", &[], Timestamp::UNIX_EPOCH).is_err());
    }
}

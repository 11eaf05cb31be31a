//! `status --nagios`: one line for a monitoring system.

use backup_control::alerts::{About, Alert, Condition, Phase};
use backup_control::config::Config;
use backup_control::runs::State;

use super::job::JobStatus;
use super::{Args, Examined};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::alerts;
use crate::human;
use crate::monitoring::{Figure, Level, Report};
use crate::session::Session;

/// Prints the line of a plugin. Every error is an unknown state.
pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let report = match report(session, args).await {
        Ok(report) => report,
        Err(error) => Report::unknown(error.chain()),
    };
    session.ui.print(&report)?;
    Ok(report.level().outcome())
}

async fn report(session: &Session, args: &Args) -> CommandResult<Report> {
    if session.ui.is_json() {
        return Err(CommandError::usage("--nagios prints a line of text, not JSON")
            .with_hint("leave out --json"));
    }
    let loaded = session.config()?;
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let Examined { jobs, outcome } = super::examine(session, args).await?;
    let mut report = Report::default();
    if jobs.is_empty() {
        return Ok(Report::unknown("there are no jobs".to_owned()));
    }
    match outcome {
        Outcome::Success => {}
        Outcome::Warnings | Outcome::Damage => {
            let text = "a repository has damaged snapshots; run `backup check`";
            report.problems.push((Level::Critical, text.to_owned()));
        }
        // The reason is among the problems of a job, or on stderr.
        Outcome::Failed(_) => {
            let text = "a repository or a log cannot be read";
            report.problems.push((Level::Unknown, text.to_owned()));
        }
    }
    let now = session.cx.clock.now();
    report.figures.push(Figure::new("jobs", jobs.len() as u64, ""));
    let alerts = firing(session, config, args, &jobs).await?;
    report.figures.push(Figure::new("alerts", alerts.len() as u64, ""));
    for job in &jobs {
        let rpo = config.and_then(|config| config.jobs.get(&job.job)?.rpo.as_ref());
        let rpo = rpo.map(|rpo| rpo.length());
        let exposed = job.last_point().map(|point| human::between(point, now));
        let text = |text: String| format!("{}: {text}", job.job);
        let problems = problems(job).into_iter().map(|(level, problem)| (level, text(problem)));
        report.problems.extend(problems);
        if let (Some(exposed), Some(rpo)) = (exposed, rpo)
            && exposed > rpo
        {
            let (exposed, rpo) = (human::duration(exposed), human::duration(rpo));
            let problem =
                format!("a failure now would lose the last {exposed}; the limit is {rpo}");
            report.problems.push((Level::Critical, text(problem)));
        }
        let limit = rpo.map(|rpo| rpo.as_secs());
        report.figures.extend(figures(job, exposed.map(|time| time.as_secs()), limit));
    }
    report.problems.extend(alerts.iter().map(|alert| {
        (
            alerts::check::level_of(alert),
            format!("{}: {}: {}", alert.rule, alert.title, alert.cause),
        )
    }));
    report.problems.retain(|(level, _)| *level > Level::Good);
    report.summary = summary(&jobs, now);
    Ok(report)
}

/// The problems of a job, apart from alert rules.
fn problems(job: &JobStatus) -> Vec<(Level, String)> {
    let mut problems = Vec::new();
    if !job.reachable {
        problems.push((Level::Unknown, format!("repository {} cannot be read", job.repository)));
    }
    if !job.runs_known {
        problems.push((Level::Unknown, "the catalog of runs cannot be read".to_owned()));
    }
    if let Some(run) = job.last_whole_run.as_ref().filter(|run| run.state == State::Failed) {
        let failure = run.failure.as_ref();
        let why = failure.map_or("no cause is recorded", |failure| failure.message.as_str());
        problems.push((Level::Critical, format!("the last run failed: {why}")));
    }
    match &job.last_success {
        None if job.reachable => {
            problems.push((Level::Critical, "there is no successful backup".to_owned()));
        }
        Some(success) if success.warnings > 0 => {
            let warnings = human::count(success.warnings, "warning", "warnings");
            problems.push((Level::Warning, format!("the last snapshot is incomplete: {warnings}")));
        }
        _ => {}
    }
    if let Some(why) = &job.recovery_refused {
        problems.push((Level::Warning, format!("no moment of the log can be restored: {why}")));
    }
    problems
}

fn figures(job: &JobStatus, exposed: Option<u64>, limit: Option<u64>) -> Vec<Figure> {
    let figure =
        |name: &str, value: u64, unit| Figure::new(format!("{}_{name}", job.job), value, unit);
    let success = job.last_success.as_ref();
    let took = job
        .last_whole_run
        .as_ref()
        .and_then(|run| Some(human::between(run.started, run.finished?)));
    let age = job.age_seconds.map(|age| figure("age", age, "s"));
    let exposed = exposed.map(|age| figure("exposed", age, "s").critical_above(limit));
    let size = success.and_then(|success| success.bytes).map(|bytes| figure("size", bytes, "B"));
    let took = took.map(|took| figure("duration", took.as_secs(), "s"));
    [age, exposed, size, took].into_iter().flatten().collect()
}

/// Firing alerts of the configuration that no silence covers, about the jobs that are meant and
/// their repositories. A failed run is a problem of its own.
async fn firing(
    session: &Session,
    config: Option<&Config>,
    args: &Args,
    jobs: &[JobStatus],
) -> CommandResult<Vec<Alert>> {
    let Some(config) = config.filter(|config| !config.alerts.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut ledger = alerts::ledger(session).await?;
    ledger.release();
    let now = session.cx.clock.now();
    let is_failure = |alert: &Alert| {
        let rule = config.alerts.get(&alert.rule);
        rule.is_some_and(|rule| matches!(rule.condition, Condition::Failure))
    };
    let is_meant = |alert: &Alert| match alert.about {
        About::Job => jobs.iter().any(|job| job.job == alert.subject),
        About::Repository => {
            jobs.iter().any(|job| Some(&job.repository) == alert.repository.as_ref())
        }
        About::Daemon => args.jobs.is_empty(),
    };
    let fires = |alert: &&Alert| {
        alert.phase == Phase::Firing
            && is_meant(alert)
            && !is_failure(alert)
            && !ledger.silences_alert(alert, now)
    };
    Ok(ledger.own_alerts().filter(fires).cloned().collect())
}

fn summary(jobs: &[JobStatus], now: jiff::Timestamp) -> String {
    let count = human::count(jobs.len() as u64, "job", "jobs");
    let successes = jobs.iter().filter_map(|job| job.last_success.as_ref());
    let oldest = successes.map(|success| success.time).min();
    let oldest = oldest.map(|time| format!(", oldest success {}", human::age(time, now)));
    format!("{count}{}", oldest.unwrap_or_default())
}

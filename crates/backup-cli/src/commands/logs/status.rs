//! `backup logs status`.

use backup_control::config::{Config, SourceKind};
use backup_core::log::{LogView, Stream};
use jiff::Timestamp;
use serde::Serialize;

use super::figures::Figures;
use super::lines::position;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::opened::Opened;
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Show which parts of captured logs are stored, rolled up or missing
///
/// The lag is the time since the log is known to be complete. It grows without a capturer, but not
/// while a captured source is idle. The exit code is 4 if slices are damaged.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Job [default: all jobs of the configuration that have a log]
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

/// The log of a job, in JSON.
#[derive(Debug, Serialize)]
struct LogJson {
    job: String,
    repository: String,
    stream: String,
    lag_seconds: Option<u64>,
    /// A process captures the log now.
    capturing: bool,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    schema_version: u32,
    logs: &'a [LogJson],
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let (logs, mut worst) = match &args.job {
        Some(job) => (vec![of_one(session, job).await?], Outcome::Success),
        None => of_all(session).await?,
    };
    if logs.iter().any(|log| !log.figures.damaged.is_empty()) {
        worst = worst.max(Outcome::Damage);
    }
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&StatusJson { schema_version: SCHEMA_VERSION, logs: &logs })?;
        return Ok(worst);
    }
    if logs.is_empty() {
        ui.status("No job of the configuration has a log.");
        return Ok(worst);
    }
    ui.print(table(session, &logs).lines().join("\n"))?;
    for log in &logs {
        for gap in &log.figures.gaps {
            ui.warning(format_args!(
                "the log of job {} is missing {}",
                log.job,
                gap.words(session.zone())
            ));
        }
        for slice in &log.figures.damaged {
            let message = human::text(slice.message.as_bytes());
            ui.warning(format_args!(
                "slice {} of job {} is damaged: {message}",
                slice.slice, log.job
            ));
        }
    }
    Ok(worst)
}

/// Repositories that are open already, by their addresses.
type Known = Vec<(String, Opened)>;

async fn of_one(session: &Session, job: &str) -> CommandResult<LogJson> {
    let spec = super::repository_of(session, job)?;
    let opened = session.open_indexed_at(&spec).await?;
    let stream = super::stream_of(session, &opened, job).await?;
    of_stream(session, &opened, job, spec.to_string(), &stream).await
}

/// None if its source has no log.
async fn of_job(session: &Session, job: &str, known: &mut Known) -> CommandResult<Option<LogJson>> {
    let spec = super::repository_of(session, job)?;
    let place = spec.to_string();
    let at = match known.iter().position(|(known, _)| *known == place) {
        Some(at) => at,
        None => {
            let opened = session.open_indexed_at(&spec).await?;
            known.push((place.clone(), opened));
            known.len() - 1
        }
    };
    let opened = &known[at].1;
    match super::find_stream(session, opened, job).await? {
        Some(stream) => of_stream(session, opened, job, place, &stream).await.map(Some),
        None => Ok(None),
    }
}

async fn of_stream(
    session: &Session,
    opened: &Opened,
    job: &str,
    repository: String,
    stream: &Stream,
) -> CommandResult<LogJson> {
    let view = LogView::load(opened.indexed.repository(), stream, &session.cx).await?.of_job(job);
    let figures = Figures::of(&view, &view.timeline());
    let now = session.cx.clock.now();
    let lag_seconds = figures.lag(now).map(|lag| lag.as_secs());
    let (job, stream, capturing) = (job.to_owned(), stream.name(), figures.is_captured(now));
    Ok(LogJson { job, repository, stream, lag_seconds, capturing, figures })
}

/// All jobs with a log. One whose repository or source is away does not hide the others.
async fn of_all(session: &Session) -> CommandResult<(Vec<LogJson>, Outcome)> {
    let loaded = session.require_config()?;
    let (mut logs, mut known, mut worst) = (Vec::new(), Known::new(), Outcome::Success);
    for job in candidates(&loaded.config) {
        match of_job(session, job, &mut known).await {
            Ok(log) => logs.extend(log),
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                let error: CommandError = error.context(format_args!("job {job}"));
                worst = worst.max(Outcome::Failed(error.exit_code()));
                session.ui.error(&error);
            }
        }
    }
    Ok((logs, worst))
}

/// Jobs whose sources may have a log.
fn candidates(config: &Config) -> impl Iterator<Item = &str> {
    let is_files = |source: &String| {
        config.sources.get(source).is_some_and(|source| source.kind == SourceKind::Files)
    };
    config.jobs.iter().filter(move |(_, job)| !is_files(&job.source)).map(|(name, _)| name.as_str())
}

fn table(session: &Session, logs: &[LogJson]) -> Table {
    let mut table = Table::new([
        ("Job", Align::Left),
        ("Stored up to", Align::Left),
        ("Position", Align::Left),
        ("Behind", Align::Right),
        ("To roll up", Align::Left),
        ("Gaps", Align::Right),
        ("Damaged", Align::Right),
        ("Captured by", Align::Left),
    ]);
    for log in logs {
        table.row(row(log, session.cx.clock.now(), session.zone()));
    }
    table
}

fn row(log: &LogJson, now: Timestamp, zone: &jiff::tz::TimeZone) -> Vec<String> {
    let figures = &log.figures;
    let nonzero = |count: usize| if count == 0 { String::new() } else { count.to_string() };
    let waiting = match figures.waiting_slices {
        0 => "nothing".to_owned(),
        some => format!(
            "{}, {}",
            human::count(some, "slice", "slices"),
            human::size(figures.waiting_bytes)
        ),
    };
    let holder = figures.holder.as_deref().filter(|_| log.capturing);
    vec![
        log.job.clone(),
        figures.time.map(|time| human::full_time(time, zone)).unwrap_or_default(),
        figures.position.as_ref().map_or_else(|| "nothing yet".to_owned(), position),
        figures.lag(now).map(human::duration).unwrap_or_default(),
        waiting,
        nonzero(figures.gaps.len()),
        nonzero(figures.damaged.len()),
        human::text(holder.unwrap_or_default().as_bytes()),
    ]
}

//! `backup storage`.

use backup_control::repositories::RepositorySpec;
use backup_core::maintenance::{self, ObjectTotals, StorageReport};
use jiff::Span;
use jiff::civil::Date;
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::repositories::{self, Holding, InRepository, Objects};
use crate::session::Session;
use crate::table::{Align, Table, facts};
use crate::ui::SCHEMA_VERSION;

/// From this share of the quota on, somebody should do something.
const NEARLY_FULL: f64 = 0.8;

/// Show the size, growth and remaining room of a repository
///
/// Remaining room is the smaller of the unused `quota` of the configuration and the free disk
/// space. If the configuration has several repositories and neither --repo nor --job names one,
/// shows each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only the repository of this job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

const EXAMPLES: &str = "\
Example:
  backup storage -r ./repo --json";

/// For how long there is room.
#[derive(Debug, Serialize)]
struct Forecast {
    /// The snapshots span at least 24 hours; with less, the growth is unknown.
    growth_is_known: bool,
    quota_bytes: Option<u64>,
    /// What may still be stored, by the quota or the disk.
    room_bytes: Option<u64>,
    /// For so many days, if it goes on as in the last 30; none if it does not grow.
    days_left: Option<u64>,
    /// The day on which it is full.
    full_on: Option<Date>,
}

impl Forecast {
    fn of(session: &Session, spec: &RepositorySpec, report: &StorageReport) -> Self {
        let quota_bytes = spec.config.as_ref().and_then(|config| config.quota).map(|quota| quota.0);
        let of_quota = quota_bytes.map(|quota| quota.saturating_sub(report.total.bytes));
        let room_bytes = [of_quota, report.free_bytes].into_iter().flatten().min();
        let days_left = room_bytes.and_then(|room| match room {
            0 => Some(0),
            room => report.days_until(room),
        });
        let full_on = days_left.and_then(|days| {
            let today = session.cx.clock.now().to_zoned(session.zone().clone()).date();
            let span = Span::new().try_days(i64::try_from(days).ok()?).ok()?;
            // Beyond the end of the calendar is never.
            today.checked_add(span).ok()
        });
        Self {
            growth_is_known: report.growth_per_day.is_some(),
            quota_bytes,
            room_bytes,
            days_left,
            full_on,
        }
    }
}

#[derive(Serialize)]
struct StorageJson<'a> {
    schema_version: u32,
    repository: String,
    #[serde(flatten)]
    report: &'a StorageReport,
    deduplication: Option<f64>,
    compression: Option<f64>,
    #[serde(flatten)]
    forecast: &'a Forecast,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    session.require_configured(args.job.as_deref())?;
    let places = Holding::all(session, args.job.as_deref())?;
    let mut objects = Objects::of(places.len());
    let work = async |place: &Holding| storage(session, &place.spec, &mut objects).await;
    let outcome = repositories::each(session, &places, None, work).await?;
    objects.finish(session)?;
    Ok(outcome)
}

/// Shows one repository.
async fn storage(session: &Session, spec: &RepositorySpec, objects: &mut Objects) -> CommandResult {
    let repository = session.open(spec).await?;
    let report = maintenance::storage(&repository, &session.cx).await?;
    let forecast = Forecast::of(session, spec, &report);
    let ui = &session.ui;
    if ui.is_json() {
        let (schema_version, repository) = (SCHEMA_VERSION, spec.to_string());
        let (deduplication, compression) = (report.deduplication(), report.compression());
        let report = &report;
        let json = StorageJson {
            schema_version,
            repository,
            report,
            deduplication,
            compression,
            forecast: &forecast,
        };
        objects.add(session, &InRepository::new(spec, json))?;
        return Ok(Outcome::Success);
    }
    ui.line(format_args!("Repository {spec}"))?;
    ui.line(facts(&overview(&report, &forecast)))?;
    ui.line("")?;
    for line in by_kind(&report).lines() {
        ui.line(line)?;
    }
    ui.flush()?;
    if let Some(quota) = forecast.quota_bytes
        && report.total.bytes as f64 >= quota as f64 * NEARLY_FULL
    {
        let percent = percent(report.total.bytes, quota);
        ui.warning(format_args!("{percent} of the quota of {} is used", human::size(quota)));
        ui.hint("free space with `backup cleanup` and `backup prune`");
    }
    Ok(Outcome::Success)
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.0}%", part as f64 / whole.max(1) as f64 * 100.0)
}

fn overview(report: &StorageReport, forecast: &Forecast) -> Vec<(&'static str, String)> {
    let total = format!("{} in {}", human::size(report.total.bytes), objects(report.total.objects));
    let quota = forecast.quota_bytes.map(|quota| {
        format!("{}, {} used", human::size(quota), percent(report.total.bytes, quota))
    });
    let room = match (forecast.room_bytes, forecast.days_left, forecast.full_on) {
        (None, ..) => "unknown: set `quota` in the configuration".to_owned(),
        (Some(room), None, _) if !forecast.growth_is_known => {
            format!("{}; a forecast needs backups over at least one day", human::size(room))
        }
        (Some(room), None, _) => format!("{}; the repository does not grow", human::size(room)),
        (Some(room), Some(days), Some(date)) if days < 3650 => {
            format!(
                "{}, enough for {}, until {date}",
                human::size(room),
                human::count(days, "day", "days")
            )
        }
        (Some(room), ..) => format!("{}, enough for more than ten years", human::size(room)),
    };
    let marked = match report.marked_bytes {
        0 => String::new(),
        bytes => {
            format!(
                "{}; `backup prune` removes the data after the grace period",
                human::size(bytes)
            )
        }
    };
    vec![
        ("Stored", total),
        (
            "Reserve",
            if report.reserved_bytes > 0 {
                human::size(report.reserved_bytes)
            } else {
                String::new()
            },
        ),
        ("Marked", marked),
        ("Growth per day", growth(report)),
        ("Quota", quota.unwrap_or_default()),
        ("Free disk space", report.free_bytes.map(human::size).unwrap_or_default()),
        ("Remaining", room),
    ]
}

/// The growth of a repository per day, or why it is unknown.
pub(super) fn growth(report: &StorageReport) -> String {
    report
        .growth_per_day
        .map_or_else(|| "unknown: the backups span less than one day".to_owned(), human::size)
}

fn objects(count: u64) -> String {
    human::count(count, "object", "objects")
}

/// By what objects are for: the largest first.
fn by_kind(report: &StorageReport) -> Table {
    let mut kinds: Vec<(&String, &ObjectTotals)> = report.objects.iter().collect();
    kinds.sort_by_key(|(name, totals)| (std::cmp::Reverse(totals.bytes), name.as_str()));
    let columns = [("Kind", Align::Left), ("Objects", Align::Right), ("Size", Align::Right)];
    let mut table = Table::new(columns);
    for (name, totals) in kinds {
        table.row([
            human::text(name.as_bytes()),
            totals.objects.to_string(),
            human::size(totals.bytes),
        ]);
    }
    table
}

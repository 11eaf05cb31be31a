//! The plan of a cleanup, for people and in JSON.

use backup_control::cleanup::Cleanup;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{CleanupPlan, PlannedSnapshot};
use backup_core::repository::{ClockDoubt, EffectiveTime};
use backup_core::retention::{Anomaly, AnomalyKind, Period, Reason};
use jiff::Timestamp;
use serde::Serialize;

use crate::clock;
use crate::command_error::{CommandError, CommandResult};
use crate::commands::view;
use crate::human;
use crate::session::Session;
use crate::table::Align;
use crate::ui::SCHEMA_VERSION;

/// The fate of a snapshot, in JSON.
#[derive(Serialize)]
struct PlannedJson<'a> {
    id: String,
    short_id: String,
    time: Timestamp,
    /// The time that it counts for, with the times that this is derived from.
    counts_for: EffectiveTime,
    tier: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    keep: bool,
    reasons: &'a [Reason],
}

#[derive(Serialize)]
struct PlanEvent<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    repository: String,
    job: &'a str,
    dry_run: bool,
    /// The time zone of days, weeks, months and years, and the place that selects it.
    time_zone: &'a str,
    time_zone_origin: &'static str,
    kept: usize,
    dropped: usize,
    /// Snapshots whose times this cleanup adopts.
    adopted: Vec<String>,
    /// The contradiction between the clock and the latest time that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_doubt: Option<ClockDoubt>,
    anomalies: &'a [Anomaly],
    snapshots: Vec<PlannedJson<'a>>,
}

/// Shows the plan of a job.
pub(super) fn show(
    session: &Session,
    cleanup: &Cleanup,
    plan: &CleanupPlan,
    dry_run: bool,
) -> CommandResult<()> {
    warn(session, cleanup, plan);
    let zone = session.zones().calendar.clone();
    let (ui, dropped) = (&session.ui, plan.dropped().len());
    let kept = plan.snapshots.len() - dropped;
    if ui.is_json() {
        ui.event(&PlanEvent {
            schema_version: SCHEMA_VERSION,
            event: "plan",
            verb: "cleanup",
            repository: cleanup.repository.to_string(),
            job: &cleanup.job,
            dry_run,
            time_zone: &zone.name,
            time_zone_origin: zone.origin.as_str(),
            kept,
            dropped,
            adopted: plan.adopted.iter().map(|info| info.id.to_hex()).collect(),
            clock_doubt: plan.doubt,
            anomalies: &plan.anomalies,
            snapshots: plan.snapshots.iter().map(planned_json).collect(),
        });
        return Ok(());
    }
    let heading = format!("Plan for job {} in {}", cleanup.job, cleanup.repository);
    if plan.snapshots.is_empty() {
        return ui.print(format_args!("{heading}: no snapshots"));
    }
    ui.status(format_args!("Job {}: days, weeks and months are in {zone}.", cleanup.job));
    let mut table = view::snapshot_table(&[("", Align::Left), ("Reason", Align::Left)]);
    for planned in &plan.snapshots {
        let mut row = view::snapshot_row(session, &planned.info);
        row.push(if planned.decision.keep() { "keep" } else { "forget" }.to_owned());
        row.push(reasons(&planned.decision.reasons));
        table.row(row);
    }
    ui.print(format_args!(
        "{heading}: forget {dropped} of {}\n{}",
        plan.snapshots.len(),
        table.lines().join("\n")
    ))
}

/// Warns of snapshots that a person has to look at, and lists those that are adopted.
fn warn(session: &Session, cleanup: &Cleanup, plan: &CleanupPlan) {
    let ui = &session.ui;
    let job = &cleanup.job;
    let names = |ids: &mut dyn Iterator<Item = SnapshotId>| {
        ids.map(|id| id.short()).collect::<Vec<_>>().join(", ")
    };
    if !plan.adopted.is_empty() {
        let count = human::count(plan.adopted.len() as u64, "snapshot", "snapshots");
        let ids = names(&mut plan.adopted.iter().map(|info| info.id));
        let reason = if plan.is_first { "first cleanup of this repository" } else { "--adopt" };
        ui.status(format_args!("Job {job}, {reason}: adopts {count}: {ids}"));
    }
    let disputed = plan.disputed();
    if !disputed.is_empty() {
        let count = human::count(disputed.len() as u64, "snapshot has", "snapshots have");
        let ids = names(&mut disputed.iter().copied());
        ui.warning(format_args!(
            "job {job}: {count} a date that the store does not confirm; policies neither remove \
             nor count them: {ids}"
        ));
        ui.hint(format_args!(
            "if the repository was moved or the snapshots were imported, run `{} cleanup {} --adopt`",
            session.program,
            human::shell(job)
        ));
    }
    for anomaly in &plan.anomalies {
        let ids = names(&mut anomaly.snapshots.iter().copied());
        ui.warning(format_args!("job {job}: {}: {ids}", difference(&anomaly.kind)));
    }
}

/// The difference from the usual, for people.
fn difference(kind: &AnomalyKind) -> String {
    match kind {
        AnomalyKind::ManySnapshots { day, count, usual } => {
            let count = human::count(*count as u64, "snapshot", "snapshots");
            format!("{count} on {day}, usually at most {usual}")
        }
        AnomalyKind::SmallSize { bytes, usual } => {
            format!("size fell to {}, usually {}", human::size(*bytes), human::size(*usual))
        }
        _ => "unusual snapshots".to_owned(),
    }
}

/// The refusal to forget snapshots of jobs whose snapshots are unusual, or by a clock in doubt.
pub(super) fn refusal<'a>(
    session: &Session,
    stopped: impl Iterator<Item = (&'a str, &'a CleanupPlan)>,
) -> Option<CommandError> {
    let (mut jobs, mut causes) = (Vec::new(), Vec::new());
    for (job, plan) in stopped {
        if let Some(doubt) = &plan.doubt {
            return Some(clock::refusal(doubt).context(format_args!("job {job}")));
        }
        jobs.push(human::shell(job));
        causes.extend(
            plan.anomalies
                .iter()
                .map(|anomaly| format!("job {job}: {}", difference(&anomaly.kind))),
        );
    }
    if jobs.is_empty() {
        return None;
    }
    let causes = causes.join("; ");
    let hint = format!(
        "compare the snapshots with `{program} list`; if they are expected, run `{program} cleanup \
         {} --adopt`",
        jobs.join(" "),
        program = session.program
    );
    Some(CommandError::refused(format!("cleanup stopped, {causes}")).with_hint(hint))
}

fn planned_json(planned: &PlannedSnapshot) -> PlannedJson<'_> {
    let PlannedSnapshot { info, decision } = planned;
    PlannedJson {
        id: info.id.to_hex(),
        short_id: info.id.short(),
        time: info.time(),
        counts_for: info.effective,
        tier: info.snapshot.tag("tier"),
        kind: info.snapshot.tag("type"),
        keep: decision.keep(),
        reasons: &decision.reasons,
    }
}

/// The reasons why a snapshot stays, for people.
fn reasons(reasons: &[Reason]) -> String {
    let reason = |reason: &Reason| match reason {
        Reason::Last => "last".to_owned(),
        Reason::Period { period } => match period {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }
        .to_owned(),
        Reason::Within => "recent enough".to_owned(),
        Reason::Tag { tag } => format!("tag {}", human::text(tag.as_bytes())),
        Reason::Tier { tier } => format!("tier {}", human::text(tier.as_bytes())),
        Reason::Type { kind } => format!("type {}", human::text(kind.as_bytes())),
        Reason::PointInTime => "point in time".to_owned(),
        Reason::Hold { reason } => format!("held: {}", human::text(reason.as_bytes())),
        Reason::Compliance => "compliance".to_owned(),
        Reason::MinCopies => "newest".to_owned(),
        Reason::NewestVerified => "newest verified".to_owned(),
        Reason::WrongClock => "implausible date".to_owned(),
        Reason::DisputedTime => "date not confirmed".to_owned(),
        Reason::BeforeAnomaly => "newest before an anomaly".to_owned(),
        Reason::NeededBy { id } => format!("needed by {}", id.short()),
        _ => "another rule".to_owned(),
    };
    match reasons.is_empty() {
        true => "no rule keeps it".to_owned(),
        false => reasons.iter().map(reason).collect::<Vec<_>>().join(", "),
    }
}

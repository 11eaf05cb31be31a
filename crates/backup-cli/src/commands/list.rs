//! `backup list`.

use backup_control::repositories::RepositorySpec;
use backup_core::repository::{SnapshotInfo, SnapshotList};
use serde::Serialize;

use super::hold::{self, HoldJson, Holds};
use super::view::{self, DamagedJson, SnapshotJson};
use crate::args::{FilterArgs, TimeArgs};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::job_names::JobNames;
use crate::repositories::{self, Holding, InRepository, Objects};
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// List snapshots, oldest first
///
/// If the configuration has several repositories and neither --repo nor --job names one, lists
/// those of each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    times: TimeArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup list --job documents
  backup list --date yesterday --json";

#[derive(Serialize)]
struct ListedJson<'a> {
    #[serde(flatten)]
    snapshot: SnapshotJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldJson<'a>>,
}

#[derive(Serialize)]
struct ListJson<'a> {
    schema_version: u32,
    repository: String,
    snapshots: Vec<ListedJson<'a>>,
    damaged: Vec<DamagedJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable_holds: Option<&'a str>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let places = Holding::all(session, args.filter.job.as_deref())?;
    let mut objects = Objects::of(places.len());
    let mut jobs = JobNames::default();
    // The only repository is checked before its output, several when all have been read.
    let work = async |place: &Holding| {
        let job = args.filter.job.as_deref().filter(|_| places.len() == 1);
        list(session, args, &place.spec, (&mut objects, &mut jobs, job)).await
    };
    let outcome = repositories::each(session, &places, None, work).await?;
    if outcome == Outcome::Success {
        jobs.require(session, args.filter.job.as_deref())?;
    }
    objects.finish(session)?;
    Ok(outcome)
}

/// Lists the snapshots of one repository.
async fn list(
    session: &Session,
    args: &Args,
    spec: &RepositorySpec,
    (objects, jobs, job): (&mut Objects, &mut JobNames, Option<&str>),
) -> CommandResult {
    let repository = session.open(spec).await?;
    let list = repository.snapshots(&session.cx).await?;
    jobs.add(&list);
    jobs.require(session, job)?;
    let (holds, unreadable) = hold::in_force(session, &repository).await?;
    let (filter, within) = (args.filter.choice(session)?, args.times.within(session)?);
    let is_meant = |info: &&SnapshotInfo| filter.matches(info) && within.contains(&info.time());
    let shown: Vec<&SnapshotInfo> = list.snapshots.iter().filter(is_meant).collect();
    if session.ui.is_json() {
        let object = ListJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            snapshots: shown
                .into_iter()
                .map(|info| ListedJson {
                    snapshot: SnapshotJson::from(info),
                    hold: holds.get(&info.id).map(HoldJson::from),
                })
                .collect(),
            damaged: view::damaged(&list),
            unreadable_holds: unreadable.as_deref(),
        };
        objects.add(session, &InRepository::new(spec, object))?;
        let whole = list.damaged.is_empty() && unreadable.is_none();
        return Ok(if whole { Outcome::Success } else { Outcome::Damage });
    }
    print(session, &list, &shown, &holds)?;
    view::warn_of_wrong_times(session, shown.iter().copied());
    Ok(hold::warn_of_unreadable(&session.ui, unreadable.as_deref())
        .max(view::warn_of_damaged(&session.ui, &list)))
}

fn print(
    session: &Session,
    list: &SnapshotList,
    shown: &[&SnapshotInfo],
    holds: &Holds,
) -> CommandResult<()> {
    let ui = &session.ui;
    if shown.is_empty() {
        ui.status("No snapshots.");
        if list.snapshots.is_empty() {
            ui.hint("create the first snapshot with `backup run`");
        }
        return Ok(());
    }
    for line in table(session, shown, holds).lines() {
        ui.line(line)?;
    }
    ui.flush()?;
    ui.status(human::count(shown.len() as u64, "snapshot", "snapshots"));
    Ok(())
}

fn table(session: &Session, shown: &[&SnapshotInfo], holds: &Holds) -> Table {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Age", Align::Left),
        ("Job", Align::Left),
        ("Type", Align::Left),
        ("Tier", Align::Left),
        ("Host", Align::Left),
        ("Files", Align::Right),
        ("Size", Align::Right),
        ("State", Align::Left),
        ("Tags", Align::Text),
        ("Paths", Align::Text),
    ]);
    let now = session.cx.clock.now();
    for info in shown {
        let snapshot = &info.snapshot;
        let tag = |name: &str| human::text(snapshot.tag(name).unwrap_or_default().as_bytes());
        let summary = snapshot.summary.as_ref();
        table.row([
            info.id.short(),
            human::time(info.time(), session.zone()),
            human::age(info.time(), now),
            tag("job"),
            tag("type"),
            tag("tier"),
            human::text(snapshot.hostname.as_bytes()),
            summary.map(|summary| summary.total_files_processed.to_string()).unwrap_or_default(),
            summary.map(|summary| human::size(summary.total_bytes_processed)).unwrap_or_default(),
            state(info, holds),
            view::user_tags(info),
            human::text(snapshot.paths.join(" ").as_bytes()),
        ]);
    }
    table
}

fn state(info: &SnapshotInfo, holds: &Holds) -> String {
    let held = holds.contains_key(&info.id).then_some("held");
    view::states(info).into_iter().chain(held).collect::<Vec<_>>().join(", ")
}

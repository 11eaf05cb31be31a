//! `backup hold`.

use std::collections::BTreeMap;

use backup_control::age::Age;
use backup_core::error::ErrorKind;
use backup_core::id::SnapshotId;
use backup_core::repository::{Repository, SnapshotInfo};
use backup_core::retention::Hold;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::FilterArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::{SCHEMA_VERSION, Ui};

/// Hold snapshots, so that no policy removes them
///
/// A held snapshot is neither cleaned up nor forgotten until the hold ends or `backup release` ends
/// it. A second hold replaces the first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    /// Reason, recorded with the hold
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// End of the hold: a moment, or the end of this day [default: until released]
    #[arg(long, value_name = "TIME", conflicts_with = "length")]
    until: Option<String>,
    /// Duration of the hold, for instance 30d or 7y
    #[arg(long = "for", value_name = "AGE", id = "length")]
    length: Option<Age>,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup hold latest --reason 'before the upgrade' --for 30d
  backup hold 1a2b3c4d --reason 'case 4711' --until 2033-12-31";

/// A hold in JSON.
#[derive(Debug, Serialize)]
pub(super) struct HoldJson<'a> {
    until: Option<Timestamp>,
    reason: &'a str,
    since: Timestamp,
}

impl<'a> From<&'a Hold> for HoldJson<'a> {
    fn from(hold: &'a Hold) -> Self {
        Self { until: hold.until, reason: &hold.reason, since: hold.since }
    }
}

#[derive(Serialize)]
struct HeldJson<'a> {
    schema_version: u32,
    repository: String,
    snapshots: Vec<String>,
    hold: HoldJson<'a>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    // Mistakes are reported before a repository is opened.
    hold(session, args, session.cx.clock.now())?;
    let spec = args.filter.repository(session)?;
    let repository = session.open(&spec).await?;
    let present = repository.present(&session.cx).await?;
    let hold = hold(session, args, present.latest())?;
    let list = repository.snapshots(&session.cx).await?;
    let choice = args.filter.choice(session)?;
    session.require_job(&list, choice.filter.job.as_deref())?;
    let infos = session.find_all(&repository, &list, &args.snapshots, &choice).await?;
    session.trail.snapshots(infos.iter().map(|info| &info.id));
    session.trail.note("reason", &hold.reason);
    let (earlier, _) = in_force(session, &repository).await?;
    for info in &infos {
        if let Some(earlier) = earlier.get(&info.id) {
            session.ui.warning(format_args!(
                "the hold on {} is replaced: {}",
                info.id.short(),
                words(session, earlier)
            ));
        }
        repository.hold(&info.id, &hold).await?;
    }
    report(session, spec.to_string(), &infos, &hold)?;
    Ok(Outcome::Success)
}

fn hold(session: &Session, args: &Args, now: Timestamp) -> CommandResult<Hold> {
    if args.reason.trim().is_empty() {
        return Err(CommandError::usage("the reason is empty")
            .with_hint("give the reason for the hold with --reason"));
    }
    let until = match (&args.until, &args.length) {
        (Some(until), _) => Some(session.moment(until)?.end()),
        (None, Some(length)) => Some(length.after(now, session.zone())?),
        (None, None) => None,
    };
    if let Some(until) = until.filter(|until| *until <= now) {
        let until = human::full_time(until, session.zone());
        return Err(CommandError::usage(format!("{until} has passed already"))
            .with_hint("give a later time with --until, or a duration with --for"));
    }
    Ok(Hold { until, reason: args.reason.trim().to_owned(), since: now })
}

/// By snapshot.
pub(super) type Holds = BTreeMap<SnapshotId, Hold>;

/// The holds that have not ended; or none, and why they cannot be read, which must not keep anybody
/// from seeing snapshots.
pub(super) async fn in_force(
    session: &Session,
    repository: &Repository,
) -> CommandResult<(Holds, Option<String>)> {
    match repository.holds().await {
        Ok(mut holds) => {
            holds.retain(|_, hold| hold.is_in_force(session.cx.clock.now()));
            Ok((holds, None))
        }
        Err(error) if error.kind() == ErrorKind::Damaged => Ok((Holds::new(), Some(error.chain()))),
        Err(error) => Err(error.into()),
    }
}

/// Says so.
pub(super) fn warn_of_unreadable(ui: &Ui, unreadable: Option<&str>) -> Outcome {
    let Some(why) = unreadable else {
        return Outcome::Success;
    };
    ui.warning(format_args!("cannot read which snapshots are held: {why}"));
    ui.hint("write a damaged hold again with `backup hold`");
    Outcome::Damage
}

/// Until when and why, for people.
pub(super) fn words(session: &Session, hold: &Hold) -> String {
    let until = match hold.until {
        Some(until) => format!("held until {}", human::time(until, session.zone())),
        None => "held until released".to_owned(),
    };
    format!("{until} ({})", human::text(hold.reason.as_bytes()))
}

fn report(
    session: &Session,
    repository: String,
    infos: &[&SnapshotInfo],
    hold: &Hold,
) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        let snapshots = infos.iter().map(|info| info.id.to_hex()).collect();
        return ui.json(&HeldJson {
            schema_version: SCHEMA_VERSION,
            repository,
            snapshots,
            hold: hold.into(),
        });
    }
    for info in infos {
        let id = paint(style::SNAPSHOT, info.id.short());
        ui.status(format_args!("Snapshot {id} is {}", words(session, hold)));
    }
    Ok(())
}

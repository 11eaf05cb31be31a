//! `backup repair`.

use std::path::PathBuf;

use backup_control::passphrase::PassphraseFlags;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{self, RepairOptions, RepairReport};
use backup_core::repository::{Repository, SnapshotList, UnavailableSnapshot};
use serde::Serialize;

use super::view::{self, Summary};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Repair lost indexes, lost objects and unreadable snapshots
///
/// Shows the plan, and executes it after confirmation. Takes lost objects from a copy of the
/// repository. No data is thrown away: unreadable objects are put aside, and damaged snapshots are
/// replaced by ones without the lost parts. Permanent losses are named, and the exit code is then
/// 4.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Take lost objects from this repository, which holds copies; repeat for several
    #[arg(long, value_name = "REPOSITORY")]
    from: Vec<String>,
    /// File that holds the pass phrase of --from [default: as for --repo]
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "from_password_command")]
    from_password_file: Option<PathBuf>,
    /// Shell command that prints the pass phrase of --from
    #[arg(long, value_name = "COMMAND", requires = "from")]
    from_password_command: Option<String>,
    /// Give up this damaged or missing snapshot, and repair nothing else; repeat for several
    ///
    /// A damaged object is moved to x-quarantine/. Names such as `latest` then mean older
    /// snapshots.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["from", "read_data"])]
    accept_loss: Vec<String>,
    /// Also read all data, to find packs that are damaged inside
    #[arg(long)]
    read_data: bool,
    /// Show the plan, and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    #[command(subcommand)]
    selection: Option<Selection>,
}

/// Parts of a repository to repair in any case.
#[derive(Debug, clap::Subcommand)]
enum Selection {
    /// Give up packs, once their readable blobs are in new packs
    ///
    /// For packs that `check --read-data` names, or that lie on failing storage. Other damage is
    /// repaired, too. The packs stay until a prune deletes them.
    Packs {
        /// Name of a pack, or its first digits: at least four
        #[arg(required = true, value_name = "PACK")]
        packs: Vec<String>,
    },
}

const EXAMPLES: &str = "\
Examples:
  backup check
  backup repair --dry-run
  backup repair --read-data --from s3://bucket/backup
  backup repair packs 1f3a9c02";

/// Snapshots that were given up, in JSON.
#[derive(Serialize)]
struct GivenUpJson {
    schema_version: u32,
    repository: String,
    dry_run: bool,
    given_up: Vec<String>,
}

impl Args {
    /// The flags of the first repository serve for all, unless the others have their own.
    fn flags(&self, session: &Session) -> PassphraseFlags {
        if self.from_password_file.is_none() && self.from_password_command.is_none() {
            return session.passphrase_flags();
        }
        PassphraseFlags {
            file: self.from_password_file.clone(),
            command: self.from_password_command.clone(),
        }
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    if !args.dry_run {
        // Not only after everything was read.
        session.require_confirmable()?;
    }
    if !args.accept_loss.is_empty() {
        if args.selection.is_some() {
            return Err(CommandError::usage("--accept-loss repairs nothing else")
                .with_hint("run the two repairs one after the other"));
        }
        return accept_loss(session, &spec.to_string(), &repository, args).await;
    }
    let packs = match &args.selection {
        Some(Selection::Packs { packs }) => maintenance::find_packs(&repository, packs).await?,
        None => Vec::new(),
    };
    let mut options = RepairOptions {
        from: copies(session, args).await?,
        packs,
        read_data: args.read_data,
        write: spec.write_settings(),
        holder: session.holder(),
        dry_run: true,
    };
    let plan = maintenance::repair(&repository, &options, &session.cx).await?;
    show(session, &spec.to_string(), &plan)?;
    if args.dry_run && args.from.is_empty() && !plan.lost.is_empty() {
        session.ui.hint("if a copy of the repository exists, name it with --from");
    }
    if args.dry_run || (plan.repaired.is_empty() && plan.lost.is_empty()) {
        return Ok(outcome(&plan));
    }
    let mut question = format!("Repair {spec}?");
    if !plan.lost.is_empty() {
        question = format!("Repair {spec}, and remove permanently lost parts from its snapshots?");
        if args.from.is_empty() {
            session.ui.hint(
                "if a copy of the repository exists, name it with --from before parts are removed",
            );
        }
    }
    session.confirm(&question).await?;
    options.dry_run = false;
    let report = maintenance::repair(&repository, &options, &session.cx).await?;
    show(session, &spec.to_string(), &report)?;
    session.ui.hint("check the result with `backup check --read-data`");
    Ok(outcome(&report))
}

/// Gives up snapshots that cannot be read, after confirmation.
async fn accept_loss(
    session: &Session,
    place: &str,
    repository: &Repository,
    args: &Args,
) -> CommandResult {
    let list = repository.snapshots(&session.cx).await?;
    let unavailable = repository.unavailable_snapshots(&list, &session.cx).await?;
    let mut given_up: Vec<&UnavailableSnapshot> = Vec::new();
    for name in &args.accept_loss {
        let found = named(&unavailable, &list, name)?;
        if !given_up.contains(&found) {
            given_up.push(found);
        }
    }
    let ui = &session.ui;
    let count = human::count(given_up.len() as u64, "snapshot", "snapshots");
    if !ui.is_json() {
        ui.line(format_args!("Plan: give up {count} of {place}"))?;
        for one in &given_up {
            ui.line(format_args!("  snapshot {}: {}", one.id.short(), one.reason))?;
        }
        ui.flush()?;
    }
    if !args.dry_run {
        session.confirm(&format!("Give up {count} of {place}? The loss is final.")).await?;
        let ids: Vec<SnapshotId> = given_up.iter().map(|one| one.id).collect();
        session.trail.snapshots(&ids);
        maintenance::accept_loss(repository, &ids, &session.cx).await?;
        ui.status(format_args!("{count} given up"));
    }
    if ui.is_json() {
        let given_up = given_up.iter().map(|one| one.id.to_hex()).collect();
        ui.json(&GivenUpJson {
            schema_version: SCHEMA_VERSION,
            repository: place.to_owned(),
            dry_run: args.dry_run,
            given_up,
        })?;
    }
    Ok(Outcome::Success)
}

/// The unavailable snapshot whose identifier begins with `name`.
fn named<'a>(
    unavailable: &'a [UnavailableSnapshot],
    list: &SnapshotList,
    name: &str,
) -> CommandResult<&'a UnavailableSnapshot> {
    let prefix = name.to_ascii_lowercase();
    let fits = |id: &SnapshotId| !prefix.is_empty() && id.to_hex().starts_with(&prefix);
    let mut found = unavailable.iter().filter(|one| fits(&one.id));
    let message = match (found.next(), found.next()) {
        (Some(one), None) => return Ok(one),
        (Some(_), Some(_)) => format!("several unreadable snapshots begin with {prefix}"),
        (None, _) if list.snapshots.iter().any(|info| fits(&info.id)) => {
            format!("snapshot {prefix} can be read, so there is no loss to accept")
        }
        (None, _) => format!("{name:?} names no damaged or missing snapshot"),
    };
    Err(CommandError::usage(message)
        .with_hint("list damaged and missing snapshots with `backup check`"))
}

async fn copies(session: &Session, args: &Args) -> CommandResult<Vec<Repository>> {
    let mut copies = Vec::new();
    for name in &args.from {
        copies.push(session.open_with(&session.resolve(name)?, &args.flags(session)).await?);
    }
    Ok(copies)
}

/// What is lost stays lost, also in a plan.
fn outcome(report: &RepairReport) -> Outcome {
    if report.lost.is_empty() { Outcome::Success } else { Outcome::Damage }
}

fn show(session: &Session, repository: &str, report: &RepairReport) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        ui.event(&Summary::new("repair", repository.to_owned(), report));
        return Ok(());
    }
    let count = human::count(report.repaired.len() as u64, "object", "objects");
    let heading = match (report.repaired.is_empty(), report.dry_run) {
        (true, _) if report.lost.is_empty() => {
            format!("{}: {repository}", paint(style::GOOD, "Nothing to repair"))
        }
        (true, true) => {
            format!(
                "Plan: nothing in {repository} can be repaired; unreadable objects are set aside"
            )
        }
        (true, false) => {
            format!("{repository}: nothing could be repaired; unreadable objects are set aside")
        }
        // What a lost directory held is known only once it is back.
        (false, true) => format!("Plan: repair at least {count} of {repository}"),
        (false, false) => format!("{repository}: {count} {}", paint(style::GOOD, "repaired")),
    };
    ui.line(heading)?;
    for repair in &report.repaired {
        ui.line(format_args!(
            "  {}: {}",
            human::text(repair.object.as_bytes()),
            human::text(repair.what.as_bytes())
        ))?;
    }
    for line in view::problems(&report.lost) {
        ui.line(line)?;
    }
    ui.flush()
}

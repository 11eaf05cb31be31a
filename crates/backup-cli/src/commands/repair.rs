//! `backup repair`.

use std::path::PathBuf;

use backup_control::passphrase::PassphraseFlags;
use backup_core::maintenance::{self, RepairOptions, RepairReport};
use backup_core::repository::Repository;

use super::view::{self, Summary};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

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
    /// Also read all data, to find packs that are damaged inside
    #[arg(long)]
    read_data: bool,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup check
  backup repair --dry-run
  backup repair --read-data --from s3://bucket/backup";

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
    let mut options = RepairOptions {
        from: copies(session, args).await?,
        read_data: args.read_data,
        write: spec.write_settings(),
        holder: session.holder(),
        dry_run: true,
    };
    let plan = maintenance::repair(&repository, &options, &session.cx).await?;
    show(session, &spec.to_string(), &plan)?;
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
                "Plan: nothing in {repository} can be repaired; unreadable snapshots are set aside"
            )
        }
        (true, false) => {
            format!("{repository}: nothing could be repaired; unreadable snapshots are set aside")
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

//! `backup restore`.

use std::time::Duration;

use backup_control::jobs;
use backup_core::pipeline::{self, Thaw};
use backup_core::repository::SnapshotReader;
use backup_core::sink::ThawSpeed;
use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Source};
use clap::ValueEnum;
use serde::Serialize;

use super::view::Summary;
use crate::args::{self, FilterArgs};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Restore a snapshot, or part of it
///
/// Below --target, files lie at the paths they had. What exists there is never touched unless --if-exists says so;
/// then, and with --in-place, the plan is shown first and has to be confirmed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "place", required = true, args = ["target", "in_place"])]
pub(crate) struct Args {
    /// The snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Restore below this directory; it is made if it does not exist
    #[arg(long, value_name = "DIR")]
    target: Option<String>,
    /// Restore to where the data came from
    #[arg(long)]
    in_place: bool,
    /// Only what matches this glob; repeat it for several
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Leave out what matches this glob; repeat it for several
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// What to do about what exists at the target
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    if_exists: IfExistsArg,
    /// Read back what was written and compare it
    #[arg(long)]
    verify: bool,
    /// Leave holes in files where the content is zeros
    #[arg(long)]
    sparse: bool,
    /// Ask the store to make archived data readable first, and wait until it is: expedited (minutes), standard (hours) or
    /// bulk (cheapest, up to two days)
    #[arg(long, value_name = "SPEED", num_args = 0..=1, default_missing_value = "standard")]
    thaw: Option<ThawArg>,
    /// For how many days thawed data stays readable
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "thaw")]
    thaw_days: u32,
    /// Ask for the thaw, but do not wait: the same command later restores
    #[arg(long, requires = "thaw")]
    no_wait: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// How fast archived data is made readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThawArg {
    Expedited,
    Standard,
    Bulk,
}

impl From<ThawArg> for ThawSpeed {
    fn from(arg: ThawArg) -> Self {
        match arg {
            ThawArg::Expedited => Self::Expedited,
            ThawArg::Standard => Self::Standard,
            ThawArg::Bulk => Self::Bulk,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  backup restore latest --target /tmp/restored
  backup restore latest --target /tmp/restored --only /home/me/letters
  backup restore 1a2b3c4d --in-place --if-exists merge --only '/etc/**/*.conf'";

/// How often the store is asked whether a thaw is done: it takes minutes at best.
const THAW_POLL: Duration = Duration::from_secs(30);

/// What to do about what exists at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfExistsArg {
    /// Refuse to write anything
    Fail,
    /// Make the target equal to the snapshot: replace what differs, remove what the snapshot does not have
    Replace,
    /// Replace what differs, keep what the snapshot does not have
    Merge,
}

impl From<IfExistsArg> for IfExists {
    fn from(arg: IfExistsArg) -> Self {
        match arg {
            IfExistsArg::Fail => Self::Fail,
            IfExistsArg::Replace => Self::Replace,
            IfExistsArg::Merge => Self::Merge,
        }
    }
}

/// A restore in JSON.
#[derive(Serialize)]
struct RestoreJson<'a> {
    snapshot: String,
    target: Option<&'a str>,
    dry_run: bool,
    #[serde(flatten)]
    report: &'a RestoreReport,
}

/// A restore that is ready to run.
pub(super) struct Restore<'a> {
    pub(super) session: &'a Session,
    pub(super) repository: String,
    pub(super) snapshot: SnapshotReader,
    pub(super) source: std::sync::Arc<dyn Source>,
    pub(super) request: RestoreRequest,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let selection = args::selection(&args.only, &args.exclude)?;
    let spec = session.repository()?;
    let opened = session.open_indexed().await?;
    let info = session.find(&opened.snapshots, &args.snapshot, &args.filter.choice(session)?)?;
    let snapshot = opened.indexed.snapshot(info);
    let source = jobs::restorer(info.snapshot.tag("source"), &snapshot.paths(), &session.machine)?;
    let request = RestoreRequest {
        target: args.target.clone(),
        selection,
        if_exists: args.if_exists.into(),
        verify: args.verify,
        dry_run: false,
        sparse: args.sparse,
    };
    let restore = Restore { session, repository: spec.to_string(), snapshot, source, request };
    let overwrites = args.in_place || args.if_exists != IfExistsArg::Fail;
    if args.dry_run {
        restore.plan().await?;
        return Ok(Outcome::Success);
    }
    if let Some(speed) = args.thaw
        && !restore.thaw(speed.into(), args.thaw_days, !args.no_wait).await?
    {
        return Ok(Outcome::Warnings);
    }
    if overwrites {
        restore.plan().await?;
        session.confirm(&format!("Restore to {}?", restore.place())).await?;
    }
    let report = restore.execute().await?;
    Ok(Outcome::with_warnings(report.warnings))
}

impl Restore<'_> {
    /// Makes archived data readable; says whether it is.
    async fn thaw(&self, speed: ThawSpeed, days: u32, wait: bool) -> CommandResult<bool> {
        let (ui, cx) = (&self.session.ui, &self.session.cx);
        let mut thaw = Thaw::survey(&self.snapshot, &self.request.selection, cx).await?;
        if !thaw.is_possible() {
            ui.warning("this storage has no archive that can be thawed from here; restoring what can be read");
        }
        let figures = thaw.figures();
        if figures.is_ready() {
            return Ok(true);
        }
        if figures.archived > 0 {
            ui.status(format_args!(
                "To be thawed for {days} days: {} of {}; {} of {} can be read already",
                human::count(figures.archived, "object", "objects"),
                human::size(figures.archived_bytes),
                figures.ready + figures.thawing,
                human::size(figures.ready_bytes + figures.thawing_bytes)
            ));
            self.session.confirm("Thaw them? The store charges by object and by size.").await?;
            thaw.request(days, speed, cx).await?;
        }
        let figures = thaw.figures();
        ui.status(format_args!(
            "Thawing: {} of {}; {} of {} can be read already",
            human::count(figures.thawing, "object", "objects"),
            human::size(figures.thawing_bytes),
            figures.ready,
            human::size(figures.ready_bytes)
        ));
        if !wait {
            ui.status("The same command restores as soon as the store has thawed them.");
            return Ok(false);
        }
        thaw.wait(THAW_POLL, cx).await?;
        Ok(true)
    }

    /// Where it goes, for people.
    fn place(&self) -> String {
        match &self.request.target {
            Some(target) => target.clone(),
            None => format!("where it came from ({})", self.source),
        }
    }

    /// Shows what would be done.
    async fn plan(&self) -> CommandResult<RestoreReport> {
        let request = RestoreRequest { dry_run: true, ..self.request.clone() };
        let report = pipeline::restore(&self.snapshot, &*self.source, &request, &self.session.cx).await?;
        let heading = format!("Plan: restore snapshot {} to {}", self.short(), self.place());
        self.report(&report, true, &heading, ["write", "leave as they are", "remove"])?;
        Ok(report)
    }

    /// Restores, and says what came of it.
    pub(super) async fn execute(&self) -> CommandResult<RestoreReport> {
        let report = pipeline::restore(&self.snapshot, &*self.source, &self.request, &self.session.cx).await?;
        let restored = paint(style::GOOD, "restored");
        let heading = format!("Snapshot {} {restored} to {}", self.short(), self.place());
        self.report(&report, false, &heading, ["written", "as they were", "removed"])?;
        Ok(report)
    }

    fn short(&self) -> String {
        paint(style::SNAPSHOT, self.snapshot.id().short())
    }

    fn report(&self, report: &RestoreReport, dry_run: bool, heading: &str, verbs: [&str; 3]) -> CommandResult<()> {
        let ui = &self.session.ui;
        if ui.is_json() {
            let (snapshot, target) = (self.snapshot.id().to_hex(), self.request.target.as_deref());
            let json = RestoreJson { snapshot, target, dry_run, report };
            ui.event(&Summary::new("restore", self.repository.clone(), &json));
            return Ok(());
        }
        let bytes = |part: u64| match part == report.total_bytes {
            true => human::size(part),
            false => format!("{} of {}", human::size(part), human::size(report.total_bytes)),
        };
        let [write, leave, remove] = verbs;
        let files = |count: u64| human::count(count, "file", "files");
        let mut lines = vec![
            heading.to_owned(),
            format!("  {write}: {}, {}", files(report.files_written), bytes(report.written_bytes)),
        ];
        if report.files_unchanged > 0 {
            lines.push(format!("  {leave}: {}", files(report.files_unchanged)));
        }
        if report.removed > 0 || dry_run {
            lines.push(format!("  {remove}: {}", human::count(report.removed, "entry", "entries")));
        }
        if report.verified_bytes > 0 {
            lines.push(format!("  read back and compared: {}", human::size(report.verified_bytes)));
        }
        if report.warnings > 0 {
            lines.push(format!(
                "  not exactly as in the snapshot: {}; see the warnings",
                human::count(report.warnings, "entry", "entries")
            ));
        }
        // What somebody is about to confirm is shown even to those who want quiet.
        if dry_run { ui.print(lines.join("\n")) } else { ui.summary(lines.join("\n")) }
    }
}

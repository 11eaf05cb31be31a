//! `backup restore`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verb: plan, confirmation, restore |
//! | `args.rs` | its flags |
//! | `values.rs` | values of these flags |
//! | `asked/` | questions on a terminal to whoever says nothing |
//! | `at.rs` | a moment of a log: what it takes |
//! | `group.rs` | a group: every member to the same moment |
//! | `group/checks.rs` | checks of a group before anything is written |
//! | `group/limit.rs` | changes of members that the latest moment of a group leaves out |
//! | `hooks.rs` | what a job has to be done around a restore |
//! | `checks.rs` | what is looked at before anything is written or paid for |
//! | `promote.rs` | `backup restore promote` |
//! | `thaw.rs` | making archived data readable first |
//! | `without_log.rs` | [`WithoutLog`]: the snapshot of a member of a group without a log |
//! | `shown.rs` | what is said of a plan and of what came of it |

mod args;
mod asked;
pub(super) mod at;
mod checks;
mod group;
mod hooks;
mod promote;
pub(crate) mod shown;
mod thaw;
mod values;
mod without_log;

use std::sync::Arc;

use backup_control::config::{Config, SourceKind};
use backup_control::repositories::RepositorySpec;
use backup_control::runs::{Evidence, Run, What};
use backup_control::sources::{RestoreFlags, RestoreTo, Restorer, Surroundings};
use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::pipeline;
use backup_core::repository::{SnapshotInfo, SnapshotReader};
use backup_core::source::{Delete, IfExists, RestoreReport, RestoreRequest};

use super::alerts;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::records::{self, Records};
use crate::reporter;
use crate::session::Session;
use crate::style::{self, paint};

pub(crate) use args::Args;
pub(super) use asked::asked;
use without_log::WithoutLog;

/// A restore that is ready to run.
pub(super) struct Restore {
    pub(super) session: Session,
    /// Its job, if it is one of a group.
    pub(super) member: Option<String>,
    /// Set if it is one of a group and has no log.
    pub(super) without_log: Option<WithoutLog>,
    pub(super) repository: String,
    /// The same as runs remember it.
    pub(super) place: String,
    pub(super) snapshot: SnapshotReader,
    pub(super) restorer: Restorer,
    pub(super) request: RestoreRequest,
    /// Whether only a part was asked for.
    pub(super) is_part: bool,
    /// Whether anything gets another name.
    pub(super) is_renaming: bool,
    /// Whether databases of Redis go to others.
    pub(super) is_mapping: bool,
    /// What is done around it.
    pub(super) hooks: Option<hooks::RestoreHooks>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    if let Some(args::Verb::Promote(args)) = &args.verb {
        return promote::run(session, args).await;
    }
    if let Some(group) = group::named(session, args)? {
        return Box::pin(group.run(session, args)).await;
    }
    if let Some(before) = &args.asked {
        before.verified(session).await?;
    }
    let mut restore = Box::pin(prepare(session, args)).await?;
    restore.require_match().await?;
    let incomplete = restore.warn_of_incomplete().await?;
    let overwrites = args.overwrites();
    if args.dry_run {
        restore.plan().await?;
        return Ok(incomplete);
    }
    if let Some(speed) = args.thaw {
        if overwrites {
            // Not only after hours of thawing.
            session.require_confirmable()?;
        }
        restore.require_target().await?;
        if !restore.thaw(speed.into(), args.thaw_days, !args.no_wait).await? {
            return Ok(Outcome::Warnings);
        }
    }
    if overwrites || args.asked.is_some() {
        let planned = restore.plan().await?;
        restore.remove_as_planned(&planned);
        let question = format!("Restore to {}?", restore.restorer.place);
        let word = checks::word_of_confirmation(std::slice::from_ref(&restore));
        asked::confirm(session, args, &question, word.as_deref()).await?;
    }
    if let Some(before) = &args.asked {
        before.backed_up(session).await?;
    }
    let records = Records::open(session).await;
    let report = restore.execute_recorded(records.as_ref()).await?;
    Ok(incomplete.max(Outcome::with_warnings(report.warnings)))
}

/// What is restored, from which repository, and where to.
struct Chosen<'a> {
    spec: &'a RepositorySpec,
    snapshot: SnapshotReader,
    info: &'a SnapshotInfo,
    log: Option<Arc<LogReplay>>,
    to: RestoreTo<'a>,
}

async fn prepare(session: &Session, args: &Args) -> CommandResult<Restore> {
    args.require_sense()?;
    let to = match &args.target[..] {
        [] if args.in_place => RestoreTo::Origin,
        [] => {
            let hint = "name a directory or a server with --target, or restore to the original \
                        location with --in-place";
            return Err(CommandError::usage("no restore target is given").with_hint(hint));
        }
        [target] => RestoreTo::Target(target),
        _ => {
            return Err(CommandError::usage(
                "a snapshot takes one --target, and several are given",
            )
            .with_hint("give one --target; only a group takes several"));
        }
    };
    let spec = args.filter.repository(session)?;
    let opened = session.open_indexed_at(&spec).await?;
    if args.in_place
        && let Some(name) = &args.snapshot
    {
        checks::require_one_origin(name, &opened.snapshots, &args.filter.choice(session)?)?;
    }
    let asked = at::Asked {
        snapshot: args.snapshot.as_deref(),
        at: args.at.as_deref(),
        before: args.before.as_ref(),
        filter: &args.filter,
    };
    let at::Chosen { info, log, until } = at::choose(session, &opened, asked).await?;
    let snapshot = opened.snapshot(&info, log.as_ref());
    let flags = RestoreFlags { until, ..args.flags() };
    // A mistake in a configuration is nothing to somebody who restores without it.
    let config = if args.in_place { session.config()? } else { session.config().ok().flatten() };
    let config = config.as_ref().map(|loaded| &loaded.config);
    let chosen = Chosen { spec: &spec, snapshot, info: &info, log, to };
    assemble(session, args, chosen, &flags, config).await
}

async fn assemble(
    session: &Session,
    args: &Args,
    chosen: Chosen<'_>,
    flags: &RestoreFlags,
    config: Option<&Config>,
) -> CommandResult<Restore> {
    let Chosen { spec, snapshot, info, log, to } = chosen;
    let job = info.snapshot.tag("job").unwrap_or_default();
    session.trail.note("job", job);
    let is_origin = matches!(to, RestoreTo::Origin);
    let hooks = if is_origin { hooks::RestoreHooks::of(job, config) } else { None };
    let around = Surroundings {
        config,
        machine: &session.machine,
        env: &session.env,
        events: &session.cx.events,
    };
    let (paths, now) = (snapshot.paths(), session.now());
    let connecting = Restorer::of(&info.snapshot, &paths, to, flags, &now, around);
    let restorer = session.unless_cancelled(connecting).await?;
    let request = RestoreRequest {
        target: restorer.target.clone(),
        selection: crate::args::selection_of(
            info.snapshot.tag("source"),
            &args.only,
            &args.exclude,
        )?,
        if_exists: args.if_exists(),
        delete: flags.delete(),
        verify: args.verify,
        dry_run: false,
        sparse: args.sparse,
        log,
    };
    let repository = spec.to_string();
    let (is_part, is_renaming) = (!request.selection.is_all(), !args.rename.is_empty());
    let (is_mapping, place) = (!args.db.is_empty(), records::place(spec));
    // The plan has warned of it before it is executed.
    let events = reporter::warnings_once(session.cx.events.clone());
    let cx = Context { events, ..session.cx.clone() };
    Ok(Restore {
        session: Session { cx, ..session.clone() },
        member: None,
        without_log: None,
        repository,
        place,
        snapshot,
        restorer,
        request,
        is_part,
        is_renaming,
        is_mapping,
        hooks,
    })
}

impl Restore {
    /// Shows what would be done.
    async fn plan(&self) -> CommandResult<RestoreReport> {
        let report = self.rehearse().await?;
        self.require_entries(&report)?;
        self.show_plan(&report)?;
        Ok(report)
    }

    fn show_plan(&self, report: &RestoreReport) -> CommandResult<()> {
        let heading = format!("Plan: restore snapshot {} to {}", self.short(), self.restorer.place);
        self.report(report, true, &heading, ["write", "keep unchanged", "remove"])
    }

    /// Limits the removal to the objects of a plan: others may have appeared since.
    fn remove_as_planned(&mut self, planned: &RestoreReport) {
        let Some(doubtful) = self.request.delete.doubtful() else { return };
        self.request.delete = if self.restorer.kind == SourceKind::Files {
            Delete::PlannedFiles(Arc::clone(&planned.planned), doubtful)
        } else {
            Delete::Planned(planned.removals.iter().map(|removal| removal.name.clone()).collect())
        };
    }

    /// What would be done; nothing is.
    async fn rehearse(&self) -> CommandResult<RestoreReport> {
        let request = RestoreRequest { dry_run: true, ..self.request.clone() };
        let source = &*self.restorer.source;
        Ok(pipeline::restore(&self.snapshot, source, &request, &self.session.cx).await?)
    }

    /// Restores, and says what came of it.
    pub(super) async fn execute(&self, cx: &Context) -> CommandResult<RestoreReport> {
        let source = &*self.restorer.source;
        let report = pipeline::restore(&self.snapshot, source, &self.request, cx).await?;
        self.require_entries(&report)?;
        let restored = paint(style::GOOD, "restored");
        let heading = format!("Snapshot {} {restored} to {}", self.short(), self.restorer.place);
        self.report(&report, false, &heading, ["written", "unchanged", "removed"])?;
        Ok(report)
    }

    /// Whether databases of a server are emptied, with all keys in them.
    fn replaces_server(&self) -> bool {
        let is_redis = self.restorer.kind == SourceKind::Redis && self.restorer.is_server();
        is_redis && self.request.if_exists == IfExists::Replace
    }

    /// Restores as a run that is remembered.
    async fn execute_recorded(&self, records: Option<&Records>) -> CommandResult<RestoreReport> {
        let session = &self.session;
        let job = self.snapshot.snapshot().tag("job").unwrap_or_default();
        let now = session.cx.clock.now();
        let mut run = Run::new(What::Restore, job, &self.place, &session.machine, now);
        run.evidence.subject = self.restorer.place.clone();
        run.evidence.snapshot = Some(self.snapshot.id().to_hex());
        run.evidence.is_whole = Some(self.request.selection.is_all());
        let id = run.id.clone();
        let work = async |heard: &Session| {
            // Whoever watches over restores hears of it now, not when all is over.
            let (done, ()) = tokio::join!(
                self.between_hooks(heard, &id),
                alerts::check::restore_started(session, job)
            );
            done
        };
        let describe = |done: &(RestoreReport, u64), evidence: &mut Evidence| {
            evidence.restored(&done.0);
            evidence.warnings += done.1;
        };
        let (report, warnings) = records::recorded(session, records, run, work, describe).await?;
        Ok(RestoreReport { warnings: report.warnings + warnings, ..report })
    }

    fn short(&self) -> String {
        paint(style::SNAPSHOT, self.snapshot.id().short())
    }
}

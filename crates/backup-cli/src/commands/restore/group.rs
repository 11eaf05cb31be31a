//! Restoring a group: every member to the same moment, by its own engine and to its own target.
//! Nothing is written before the plans of all of them stand.

mod checks;
mod limit;

use std::sync::Arc;

use backup_control::config::{Config, GroupConfig, LoadedConfig, SourceKind};
use backup_control::groups::{self, Latest, Member, MemberPlan};
use backup_control::jobs::{Job, JobFlags};
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Search;
use backup_control::sources::{RestoreFlags, RestoreTo};
use backup_core::context::Context;
use backup_core::source::IfExists;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::{Args, Chosen, Restore, WithoutLog, asked, assemble, at};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::opened::Opened;
use crate::records::Records;
use crate::reporter;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;
use checks::{refuse, rehearse, require_different_targets, require_meaning, require_plans};
use limit::LimitJson;

/// A group that somebody has named.
pub(super) struct Group {
    name: String,
    loaded: Arc<LoadedConfig>,
}

/// A member with the repository that it is in.
struct Place<'a> {
    spec: RepositorySpec,
    opened: &'a Opened,
}

/// What came of a member.
#[derive(Serialize)]
struct MemberJson<'a> {
    job: &'a str,
    snapshot: String,
    /// The time of the snapshot that a member without a log is restored to.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_time: Option<Timestamp>,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct GroupEvent<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    group: &'a str,
    moment: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitJson<'a>>,
    dry_run: bool,
    members: Vec<MemberJson<'a>>,
}

/// The group that is named in place of a snapshot.
pub(super) fn named(session: &Session, args: &Args) -> CommandResult<Option<Group>> {
    let Some(name) = &args.snapshot else { return Ok(None) };
    let is_snapshot = name == "latest"
        || name.bytes().all(|byte| byte.is_ascii_hexdigit())
        || name.contains("://")
        || session.moment(name).is_ok();
    if is_snapshot {
        return Ok(None);
    }
    let loaded = session.config()?.filter(|loaded| loaded.config.groups.contains_key(name));
    Ok(loaded.map(|loaded| Group { name: name.clone(), loaded }))
}

impl Group {
    fn config(&self) -> &Config {
        &self.loaded.config
    }

    fn section(&self) -> &GroupConfig {
        &self.config().groups[&self.name]
    }

    pub(super) async fn run(&self, session: &Session, args: &Args) -> CommandResult {
        require_meaning(args)?;
        args.require_sense()?;
        let targets = self.targets(args)?;
        if args.overwrites() && !args.dry_run {
            // Not only when everything is planned.
            session.require_confirmable()?;
        }
        let (latest, restores) = Box::pin(self.plans(session, args, &targets)).await?;
        let (mut incomplete, mut rehearsed, mut refused) = (Outcome::Success, Vec::new(), None);
        for mut restore in restores {
            match rehearse(&mut restore).await {
                Ok((outcome, report)) => {
                    incomplete = incomplete.max(outcome);
                    rehearsed.push((restore, report));
                }
                Err(error) => refuse(session, restore.member(), error, &mut refused)?,
            }
        }
        require_plans(refused)?;
        require_different_targets(&rehearsed)?;
        if args.dry_run || args.overwrites() || args.asked.is_some() {
            rehearsed.iter().try_for_each(|(restore, report)| restore.show_plan(report))?;
        }
        let restores: Vec<Restore> = rehearsed.into_iter().map(|(restore, _)| restore).collect();
        if args.dry_run {
            self.report(
                session,
                &latest,
                true,
                restores.iter().map(|restore| restore.json(None)).collect(),
            )?;
            return Ok(incomplete);
        }
        limit::confirm(session, &latest).await?;
        self.confirm(session, args, &restores).await?;
        if let Some(before) = &args.asked {
            before.backed_up(session).await?;
        }
        Ok(incomplete.max(self.execute(session, &latest, &restores).await?))
    }

    /// Where each member goes.
    fn targets(&self, args: &Args) -> CommandResult<Vec<(&str, Option<String>)>> {
        let members = &self.section().jobs;
        let mut given: Vec<(&str, &str)> = Vec::new();
        for text in &args.target {
            let pair =
                text.split_once('=').filter(|(job, _)| members.iter().any(|member| member == job));
            let (job, target) = pair.ok_or_else(|| {
                CommandError::usage("--target names no member of the group").with_hint(format!(
                    "write --target JOB=DIR_OR_SERVER, with JOB one of {}",
                    members.join(", ")
                ))
            })?;
            if given.iter().any(|(known, _)| *known == job) {
                return Err(CommandError::usage(format!("there are two targets for job {job}")));
            }
            given.push((job, target));
        }
        let target = |job: &String| {
            let own = given
                .iter()
                .find(|(known, _)| known == job)
                .map(|(_, target)| (*target).to_owned());
            own.or_else(|| Some(self.section().targets.get(job)?.reveal().to_owned()))
        };
        let of = |job: &'_ String| match target(job) {
            _ if args.in_place => Ok(None),
            Some(target) => Ok(Some(target)),
            None => Err(CommandError::usage(format!("job {job} has no restore target")).with_hint(
                format!(
                    "add --target {job}=DIR_OR_SERVER, or set the target in [groups.{}.targets] of \
                     the configuration",
                    self.name
                ),
            )),
        };
        members.iter().map(|job| Ok((job.as_str(), of(job)?))).collect()
    }

    /// What has to be restored to which moment. All members that cannot be are named.
    async fn plans(
        &self,
        session: &Session,
        args: &Args,
        targets: &[(&str, Option<String>)],
    ) -> CommandResult<(Latest, Vec<Restore>)> {
        let mut opened: Vec<(String, Opened)> = Vec::new();
        let mut specs = Vec::new();
        for (job, _) in targets {
            let flags = JobFlags::default();
            let job = Job::from_config(
                job,
                self.config(),
                session.named_repository()?,
                &flags,
                session.place(),
            )?;
            let place = job.repository.to_string();
            if !opened.iter().any(|(known, _)| *known == place) {
                opened.push((place.clone(), session.open_indexed_at(&job.repository).await?));
            }
            specs.push((job.repository, job.source.kind(), place));
        }
        let (mut members, mut places, mut refused) = (Vec::new(), Vec::new(), None);
        for ((job, _), (spec, kind, place)) in targets.iter().zip(specs) {
            let Some((_, opened)) = opened.iter().find(|(known, _)| *known == place) else {
                continue;
            };
            match Member::load(job, kind, &opened.indexed, &opened.snapshots, &session.cx).await {
                Ok(member) => members.push(member),
                Err(error) => refuse(session, job, error.into(), &mut refused)?,
            }
            places.push(Place { spec, opened });
        }
        require_plans(refused.take())?;
        if args.before.is_some() {
            let text = "a group has no --before: a position belongs to one replica set";
            return Err(CommandError::usage(text).with_hint("name a time with --at"));
        }
        let latest = match args.at.as_deref() {
            None | Some("latest") => groups::latest(&members, session.cx.clock.now())?,
            Some(text) => Latest { moment: groups::moment(text, &session.now())?, limit: None },
        };
        let moment = latest.moment;
        session.ui.status(format_args!(
            "Group {} as of {}",
            human::text(self.name.as_bytes()),
            human::full_time(moment, session.zone())
        ));
        if let Some(limit) = &latest.limit {
            session.ui.status(limit::words(limit, moment));
        }
        let kinds: Vec<&str> = members.iter().map(|member| member.source).collect();
        let mut restores = Vec::new();
        for ((member, place), (job, target)) in members.into_iter().zip(&places).zip(targets) {
            let flags = args.flags().of_kind(member.source, &kinds)?;
            let to = target.as_deref().map_or(RestoreTo::Origin, RestoreTo::Target);
            let planning = self.plan(session, args, member, place, (to, &flags, moment));
            match Box::pin(planning).await {
                Ok(restore) => restores.push(restore),
                Err(error) => refuse(session, job, error, &mut refused)?,
            }
        }
        require_plans(refused)?;
        Ok((latest, restores))
    }

    async fn plan(
        &self,
        session: &Session,
        args: &Args,
        member: Member,
        place: &Place<'_>,
        (to, flags, moment): (RestoreTo<'_>, &RestoreFlags, Timestamp),
    ) -> CommandResult<Restore> {
        let job = member.job.clone();
        let (info, log, without_log) = match member.plan(moment).await? {
            MemberPlan::Log(info, log) => (info, Some(log), None),
            MemberPlan::Snapshot(info) => {
                if !args.filter.choice(session)?.skip_damaged {
                    let (now, opened) = (session.now(), place.opened);
                    let (repository, list) = (opened.indexed.repository(), &opened.snapshots);
                    let search = Search { repository, list, now: &now, cx: &session.cx };
                    let name = args.at.as_deref().unwrap_or("latest");
                    search.require_newest(&info, moment, name).await?;
                }
                let time = human::full_time(info.time(), session.zone());
                session.ui.status(format_args!(
                    "{}: no log; restoring the snapshot of {time}",
                    human::text(job.as_bytes())
                ));
                let without_log = WithoutLog::of(info.time(), moment);
                (info, None, Some(without_log))
            }
            MemberPlan::Refused(refusal) => return Err(at::refused(&refusal, session.zone())),
        };
        let snapshot = place.opened.snapshot(&info, log.as_ref());
        // What is heard of it says which member it is.
        let events = reporter::of_job(&session.ui, &job);
        let session = Session { cx: Context { events, ..session.cx.clone() }, ..session.clone() };
        let chosen = Chosen { spec: &place.spec, snapshot, info: &info, log, to };
        let mut restore = assemble(&session, args, chosen, flags, Some(self.config())).await?;
        if restore.restorer.kind == SourceKind::Postgres && !restore.restorer.is_server() {
            // A data directory is always a new one; what the flag says is for the others.
            restore.request.if_exists = IfExists::Fail;
        }
        Ok(Restore { member: Some(job), without_log, ..restore })
    }

    async fn confirm(
        &self,
        session: &Session,
        args: &Args,
        restores: &[Restore],
    ) -> CommandResult<()> {
        if !args.overwrites() && args.asked.is_none() {
            return Ok(());
        }
        let question =
            format!("Restore all members of group {}?", human::text(self.name.as_bytes()));
        let word = super::checks::word_of_confirmation(restores);
        asked::confirm(session, args, &question, word.as_deref()).await
    }

    /// Restores all members, whatever comes of each.
    async fn execute(
        &self,
        session: &Session,
        latest: &Latest,
        restores: &[Restore],
    ) -> CommandResult {
        let records = Records::open(session).await;
        let one =
            async |restore| (restore, Restore::execute_recorded(restore, records.as_ref()).await);
        let mut running =
            stream::iter(restores.iter().map(one)).buffered(self.section().parallel());
        let (mut worst, mut members, mut cancelled) = (Outcome::Success, Vec::new(), None);
        while let Some((restore, result)) = running.next().await {
            let error = match result {
                Ok(report) => {
                    worst = worst.max(Outcome::with_warnings(report.warnings));
                    None
                }
                Err(error) => {
                    worst = worst.or_failed(&error);
                    let text = error.chain();
                    if error.is_cancelled() {
                        cancelled = Some(error);
                    } else {
                        session.ui.error(&error.context(format_args!("job {}", restore.member())));
                    }
                    Some(text)
                }
            };
            members.push(restore.json(error));
        }
        drop(running);
        match cancelled {
            Some(error) => Err(error),
            None => self.report(session, latest, false, members).map(|()| worst),
        }
    }

    fn report(
        &self,
        session: &Session,
        latest: &Latest,
        dry_run: bool,
        members: Vec<MemberJson<'_>>,
    ) -> CommandResult<()> {
        let moment = latest.moment;
        if session.ui.is_json() {
            let (schema_version, event, verb) = (SCHEMA_VERSION, "summary", "restore");
            let group = self.name.as_str();
            session.ui.event(&GroupEvent {
                schema_version,
                event,
                verb,
                group,
                moment,
                limit: latest.limit.as_ref().map(LimitJson::from),
                dry_run,
                members,
            });
            return Ok(());
        }
        let name = human::text(self.name.as_bytes());
        let moment = human::full_time(moment, session.zone());
        if dry_run {
            return session.ui.print(format_args!("Group {name} can be restored as of {moment}"));
        }
        let good = members.iter().filter(|member| member.error.is_none()).count();
        let count = human::count(members.len() as u64, "job", "jobs");
        let word = match good == members.len() {
            true => paint(style::GOOD, "restored"),
            false => paint(style::ERROR, "partly restored"),
        };
        session.ui.summary(format_args!("Group {name} {word} as of {moment}: {good} of {count}"))
    }
}

impl Restore {
    /// Its job, where it is one of a group.
    fn member(&self) -> &str {
        self.member.as_deref().unwrap_or_default()
    }

    fn json(&self, error: Option<String>) -> MemberJson<'_> {
        MemberJson {
            job: self.member(),
            snapshot: self.snapshot.id().to_hex(),
            snapshot_time: self.without_log.map(|without_log| without_log.time),
            target: &self.restorer.place,
            error,
        }
    }
}

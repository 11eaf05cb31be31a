//! Everything that a configuration names: a tick or a cross for each thing, and what mends it for
//! each cross.

use std::collections::BTreeMap;
use std::fs;

use backup_control::config::{Config, JobConfig, LoadedConfig};
use backup_control::exposed::{self, ExposedFile};
use backup_control::jobs::{Job, JobFlags};
use backup_control::repositories::RepositorySpec;
use backup_control::{cache, state};
use backup_core::repository::{ClockDoubt, LARGEST_SKEW, Repository, SnapshotList};
use serde::Serialize;

use super::sources;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::records::Records;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// What the checks are about that are about no repository and no job.
const MACHINE: &str = "this machine";
/// With less room than this, a backup of anything may fail.
const LITTLE: u64 = 1 << 30;
/// Snapshots of a job whose hosts are compared.
const NEWEST: usize = 10;

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    /// What it is about: this machine, a repository, a job.
    of: String,
    /// What was looked at.
    what: &'static str,
    well: bool,
    /// What was found.
    found: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct EverythingJson<'a> {
    schema_version: u32,
    checks: &'a [Check],
}

/// What goes on.
struct Round<'a> {
    session: &'a Session,
    checks: Vec<Check>,
    /// The snapshots of the repositories that could be opened, by name.
    snapshots: BTreeMap<String, SnapshotList>,
}

pub(super) async fn run(session: &Session, loaded: &LoadedConfig) -> CommandResult {
    let mut round = Round { session, checks: Vec::new(), snapshots: BTreeMap::new() };
    round.machine()?;
    round.catalog().await?;
    let config = &loaded.config;
    round.secrets(config)?;
    for name in config.repositories.keys() {
        let spec = RepositorySpec::resolve(name, Some(config))?;
        Box::pin(round.repository(name, &spec)).await?;
    }
    for name in config.jobs.keys() {
        Box::pin(round.job(name, loaded)).await?;
    }
    let crosses = round.checks.iter().filter(|check| !check.well).count();
    if session.ui.is_json() {
        session
            .ui
            .json(&EverythingJson { schema_version: SCHEMA_VERSION, checks: &round.checks })?;
    } else if crosses == 0 {
        session.ui.print(paint(style::GOOD, "No problems"))?;
    } else {
        session
            .ui
            .print(format_args!("{} found", human::count(crosses as u64, "problem", "problems")))?;
    }
    Ok(Outcome::with_warnings(crosses as u64))
}

impl Round<'_> {
    /// Shows at once what was found: the next may take a while.
    fn add(&mut self, check: Check) -> CommandResult<()> {
        if !self.session.ui.is_json() {
            let mark =
                if check.well { paint(style::GOOD, "✓") } else { paint(style::ERROR, "✗") };
            let (of, found) =
                (human::text(check.of.as_bytes()), human::text(check.found.as_bytes()));
            self.session.ui.print(format_args!("{mark} {of}: {}: {found}", check.what))?;
            if let Some(fix) = &check.fix {
                let fix = human::text(fix.as_bytes());
                self.session.ui.print(format_args!("    {} {fix}", paint(style::HINT, "Fix:")))?;
            }
        }
        self.checks.push(check);
        Ok(())
    }

    fn well(
        &mut self,
        of: &str,
        what: &'static str,
        found: impl Into<String>,
    ) -> CommandResult<()> {
        self.add(Check { of: of.to_owned(), what, well: true, found: found.into(), fix: None })
    }

    fn ill(
        &mut self,
        of: &str,
        what: &'static str,
        found: String,
        fix: impl Into<String>,
    ) -> CommandResult<()> {
        self.add(Check { of: of.to_owned(), what, well: false, found, fix: Some(fix.into()) })
    }

    /// A failure, unless it is that of somebody who has no time. What mends it, if the failure does
    /// not say.
    fn failed(
        &mut self,
        of: &str,
        what: &'static str,
        error: CommandError,
        fix: &str,
    ) -> CommandResult<()> {
        if error.is_cancelled() {
            return Err(error);
        }
        let fix = error.hint().unwrap_or(fix).to_owned();
        self.ill(of, what, error.chain(), fix)
    }

    /// Where runs are remembered.
    async fn catalog(&mut self) -> CommandResult<()> {
        match Records::require(self.session).await {
            Ok(_) => self.well(MACHINE, "catalog of runs", "can be used"),
            Err(error) => self.failed(
                MACHINE,
                "catalog of runs",
                error,
                "check the server of the catalog; backups continue without the catalog",
            ),
        }
    }

    /// Where this program keeps what it remembers.
    fn machine(&mut self) -> CommandResult<()> {
        let dirs = [
            ("state directory", state::dir(&self.session.env), "BACKUP_STATE_DIR"),
            ("cache directory", cache::dir(&self.session.env), "BACKUP_CACHE_DIR"),
        ];
        for (what, dir, variable) in dirs {
            let fix = format!("set {variable} to a directory that this user may write to");
            let Some(dir) = dir else {
                self.ill(MACHINE, what, "no directory is set".to_owned(), fix)?;
                continue;
            };
            let tried = cache::create(&dir).and_then(|()| {
                let probe = dir.join(".probe");
                fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe))
            });
            match tried {
                Ok(()) => self.well(MACHINE, what, dir.display().to_string())?,
                Err(error) => self.ill(
                    MACHINE,
                    what,
                    format!("cannot write to {}: {error}", dir.display()),
                    fix,
                )?,
            }
        }
        Ok(())
    }

    /// Files with secrets. A warning of a later step would repeat the finding.
    fn secrets(&mut self, config: &Config) -> CommandResult<()> {
        const WHAT: &str = "files with secrets";
        let mut exposed = exposed::of_config(config);
        let named = exposed::file_of_flags(&self.session.passphrase_flags(), &self.session.env);
        let named = named.and_then(|file| ExposedFile::at(&file));
        exposed.extend(named.map(|file| (MACHINE.to_owned(), file)));
        if exposed.is_empty() {
            return self.well(MACHINE, WHAT, "only their owners can read them");
        }
        for (of, file) in exposed {
            if self.session.note_exposed(&file) {
                self.ill(&of, WHAT, file.to_string(), file.remedy())?;
            }
        }
        Ok(())
    }

    /// Reads the snapshots of a repository, for the checks of its jobs.
    async fn list(&mut self, name: &str, of: &str, repository: &Repository) -> CommandResult<()> {
        match repository.snapshots(&self.session.cx).await {
            Ok(list) => _ = self.snapshots.insert(name.to_owned(), list),
            Err(error) => {
                const FIX: &str = "find the cause with `backup check`";
                self.failed(of, "snapshots", error.into(), FIX)?;
            }
        }
        Ok(())
    }

    async fn repository(&mut self, name: &str, spec: &RepositorySpec) -> CommandResult<()> {
        let of = format!("repository {name}");
        let repository = match self.session.open(spec).await {
            Ok(repository) => repository,
            Err(error) => {
                return self.failed(
                    &of,
                    "can be opened",
                    error,
                    "correct the address or pass phrase in [repositories]",
                );
            }
        };
        self.well(&of, "can be opened", spec.place())?;
        self.list(name, &of, &repository).await?;
        match repository.probe_store(&self.session.cx).await {
            Ok(verdict) => {
                let is_of_clock = |concern: &String| concern.contains("clock");
                let (clock, concerns): (Vec<_>, Vec<_>) =
                    verdict.concerns().into_iter().partition(is_of_clock);
                if concerns.is_empty() {
                    self.well(
                        &of,
                        "storage",
                        format!("{}: meets the requirements", verdict.store),
                    )?;
                }
                for concern in concerns {
                    self.ill(&of, "storage", concern, "see docs/storage.md, or use another store")?;
                }
                match (verdict.clock_ahead_seconds, clock.into_iter().next()) {
                    (_, Some(concern)) => {
                        self.ill(
                            &of,
                            "clock",
                            concern,
                            "synchronise the clock of this machine with NTP",
                        )?;
                    }
                    (Some(ahead), None) => {
                        self.well(&of, "clock", difference("store", ahead))?;
                    }
                    (None, None) => {}
                }
            }
            Err(error) => self.failed(
                &of,
                "storage",
                error.into(),
                "grant the rights listed in docs/storage.md",
            )?,
        }
        if let Ok(present) = repository.present(&self.session.cx).await
            && let Some(doubt) = present.doubt()
        {
            self.ill(&of, "clock", doubt.describe(), ClockDoubt::REMEDY)?;
        }
        match repository.sink().free_bytes() {
            None => Ok(()),
            Some(free) if free < LITTLE => {
                let fix = "free disk space, remove old snapshots (`backup cleanup`, `backup \
                           prune`), or move the repository to a larger disk";
                self.ill(&of, "room", format!("{} free", human::size(free)), fix)
            }
            Some(free) => self.well(&of, "room", format!("{} free", human::size(free))),
        }
    }

    /// The clock of a database server. Moments of its log are by that clock.
    fn clock_of_server(&mut self, of: &str, ahead: Option<i64>) -> CommandResult<()> {
        let Some(ahead) = ahead else { return Ok(()) };
        if ahead.abs() <= LARGEST_SKEW.as_secs() {
            return self.well(of, "clock", difference("server", ahead));
        }
        let found = format!("the clock of the server is ahead of this machine by {ahead} s");
        self.ill(of, "clock", found, "synchronise the clocks of both machines with NTP")
    }

    /// The hosts of the newest snapshots of a job. Under changing names, every backup reads all files
    /// again, and no policy compares its snapshots.
    fn hosts(&mut self, name: &str, of: &str, job: &JobConfig) -> CommandResult<()> {
        let Some(list) = self.snapshots.get(&job.repository) else { return Ok(()) };
        let hosts = changing_hosts(list, name);
        if job.host.is_some() || hosts.len() < 2 {
            return Ok(());
        }
        let found = format!("its newest snapshots name several hosts: {}", hosts.join(", "));
        let fix = format!("set `host` in [jobs.{name}], or use one job name for each machine");
        self.ill(of, "host", found, fix)
    }

    async fn job(&mut self, name: &str, loaded: &LoadedConfig) -> CommandResult<()> {
        let of = format!("job {name}");
        if let Some(job) = loaded.config.jobs.get(name) {
            self.hosts(name, &of, job)?;
        }
        let session = self.session;
        let job = match Job::from_config(
            name,
            &loaded.config,
            None,
            &JobFlags::default(),
            session.place(),
        ) {
            Ok(job) => job,
            Err(error) => {
                return self.failed(
                    &of,
                    "configuration",
                    error.into(),
                    "find the error with `backup config check`",
                );
            }
        };
        let (selection, repository) = (job.options.selection.clone(), job.repository.clone());
        let source = sources::of_job(&loaded.config, name, job);
        let connected = match session.connect(&source).await {
            Ok(connected) => connected,
            Err(error) => {
                let fix = "start the server, let this machine reach it, or correct the address in \
                           [sources]";
                return self.failed(&of, "connection", error, fix);
            }
        };
        self.well(&of, "connection", connected.to_string())?;
        let of_job = (name, &repository);
        if let Some(other) = sources::other_cluster(session, of_job, &source, &*connected).await? {
            self.ill(&of, "cluster", other.finding, other.remedy)?;
        }
        let probe = connected.probe(&session.cx).await.map_err(backup_core::error::Error::from);
        if let Ok(ahead) = probe.as_ref().map(|probe| probe.clock_ahead_seconds) {
            self.clock_of_server(&of, ahead)?;
        }
        match probe {
            Ok(probe) if probe.problems.is_empty() => {
                self.well(&of, "rights and tools", "ready for backup")?;
                match sources::parts(session, &*connected, &selection).await? {
                    Ok(parts) => self.well(&of, "selection", sources::shown(&parts))?,
                    Err(problem) => {
                        self.ill(&of, "selection", problem.finding, problem.remedy)?;
                    }
                }
            }
            Ok(probe) => {
                for problem in probe.problems {
                    self.ill(&of, "rights and tools", problem.finding, problem.remedy)?;
                }
            }
            Err(error) => {
                self.failed(&of, "rights and tools", error.into(), "check the log of the server")?;
            }
        }
        Ok(())
    }
}

/// The hosts of the newest snapshots of a job, newest first.
fn changing_hosts(list: &SnapshotList, job: &str) -> Vec<String> {
    let of_job = list.snapshots.iter().rev().filter(|info| info.snapshot.tag("job") == Some(job));
    let mut hosts: Vec<String> = Vec::new();
    for info in of_job.take(NEWEST) {
        if !hosts.contains(&info.snapshot.hostname) {
            hosts.push(info.snapshot.hostname.clone());
        }
    }
    hosts
}

/// The difference between a clock and that of this machine, for people. Stores date objects in whole
/// seconds.
fn difference(whose: &str, ahead: i64) -> String {
    match ahead {
        -1..=1 => "in step with this machine".to_owned(),
        _ => format!("{whose} ahead by {ahead} s"),
    }
}

//! The tasks of a configuration.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::timetable::{self, CatchUp, Timetable};
use super::{Cron, Uses};
use crate::config::{
    ArchiveConfig, Config, CopyConfig, DaemonConfig, JobConfig, JobType, ScheduleConfig, Window,
};
use crate::machine::Machine;
use crate::zone::{Zone, Zones};

/// When alert rules are looked at if nothing else is said.
const ALERTS: &str = "*/5 * * * *";
/// Of how long a time reports are if nothing else is said.
const REPORT_SINCE: &str = "7d";

/// Everything that happens, and how much of it at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The time zone of all schedules.
    pub zone: Zone,
    /// The time zone of the windows of jobs.
    pub window_zone: Zone,
    /// The tasks, in the order of the configuration.
    pub tasks: Vec<Planned>,
    /// Their names.
    names: HashSet<String>,
    /// How much at a time.
    pub limits: Limits,
    /// How long anything may take that does not say so itself.
    pub deadline: Duration,
}

/// How much is done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Altogether.
    pub parallel: usize,
    /// With the same source host.
    pub per_host: usize,
    /// With the same repository.
    pub per_repository: usize,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Unique, and the same after a restart.
    pub name: String,
    /// What it does.
    pub duty: Duty,
    /// When; none: all the time.
    pub timetable: Option<Timetable>,
    /// Which goes first.
    pub priority: i32,
    /// How long it may take; none: for ever.
    pub deadline: Option<Duration>,
    /// When it may begin.
    pub window: Option<Window>,
    /// What it uses.
    pub uses: Uses,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// A backup of a job or a group.
    Backup {
        /// The job or group.
        job: String,
        /// The type of the snapshots, if it is not that of the job.
        kind: Option<JobType>,
        /// The tier of the snapshots, if it is not that of the job.
        tier: Option<String>,
        /// It also begins outside of the job's window.
        outside_window: bool,
    },
    /// Capturing the log of a job.
    Follow {
        /// The job.
        job: String,
    },
    /// Verifying the newest snapshot of a job.
    Verify {
        /// The job.
        job: String,
    },
    /// Forgetting and removing.
    Cleanup,
    /// Checking a repository.
    Check {
        /// The repository.
        repository: String,
        /// How much of the data is read too.
        data: Option<String>,
    },
    /// Removing from a repository what nothing needs.
    Prune {
        /// The repository.
        repository: String,
    },
    /// Copying snapshots into another repository.
    Copy(CopyConfig),
    /// Copying old snapshots into an archive.
    Archive(ArchiveConfig),
    /// Making a full snapshot of the captured log of a job.
    Compact {
        /// The job.
        job: String,
    },
    /// Looking for alerts.
    Alerts,
    /// Sending a report.
    Report {
        /// Of how long a time.
        since: String,
        /// Through which channels.
        to: Vec<String>,
    },
}

impl Planned {
    /// When it begins next; none if it goes on all the time.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let table = self.timetable.as_ref()?;
        table.next(table.from_now_on(now))
    }
}

impl Plan {
    /// The tasks of a configuration on a machine.
    #[must_use]
    pub fn new(config: &Config, machine: &Machine) -> Self {
        let DaemonConfig { max_parallel, per_source_host, per_repository, .. } = config.schedule;
        let zones = Zones::new(Some(config), &machine.zone);
        let mut plan = Self {
            zone: zones.schedules,
            window_zone: zones.calendar,
            tasks: Vec::new(),
            names: HashSet::new(),
            limits: Limits {
                parallel: max_parallel.unwrap_or(2),
                per_host: per_source_host.unwrap_or(1),
                per_repository: per_repository.unwrap_or(usize::MAX),
            },
            deadline: config.schedule.deadline(),
        };
        for (name, job) in &config.jobs {
            plan.job(name, job, config, machine);
        }
        for (name, group) in &config.groups {
            let ranks = (
                group.priority.unwrap_or(0),
                group.deadline.as_ref().map(crate::units::Time::length),
            );
            plan.backups(name, &group.schedule, ranks, None, (config, machine));
        }
        plan.besides(config, machine);
        plan
    }

    /// Time zones and limits alone.
    #[must_use]
    pub fn without_tasks(&self) -> Self {
        let Self { ref zone, ref window_zone, limits, deadline, .. } = *self;
        let (zone, window_zone) = (zone.clone(), window_zone.clone());
        Self { zone, window_zone, tasks: Vec::new(), names: HashSet::new(), limits, deadline }
    }

    /// When each job is backed up next, by itself or with a group. A job without a time is left
    /// out.
    #[must_use]
    pub fn next_backups(&self, now: Timestamp) -> HashMap<&str, Timestamp> {
        let mut times: HashMap<&str, Timestamp> = HashMap::new();
        let backups = self.tasks.iter().filter(|task| matches!(task.duty, Duty::Backup { .. }));
        for (task, next) in backups.filter_map(|task| Some((task, task.next(now)?))) {
            for job in &task.uses.jobs {
                times.entry(job).and_modify(|time| *time = next.min(*time)).or_insert(next);
            }
        }
        times
    }

    fn job(&mut self, name: &str, job: &JobConfig, config: &Config, machine: &Machine) {
        let ranks =
            (job.priority.unwrap_or(0), job.deadline.as_ref().map(crate::units::Time::length));
        self.backups(name, &job.schedule, ranks, job.window, (config, machine));
        if job.logs.as_ref().is_some_and(|logs| logs.follow != Some(false)) {
            let duty = Duty::Follow { job: name.to_owned() };
            self.add(Planned {
                name: format!("{name}/logs"),
                duty,
                timetable: None,
                priority: ranks.0,
                deadline: None,
                window: None,
                uses: Uses::aside(),
            });
        }
        if let (Some(at), Some(_)) = (&config.schedule.compact, &job.logs) {
            let duty = Duty::Compact { job: name.to_owned() };
            let uses = Uses::of_repositories([&job.repository]);
            self.scheduled(
                (format!("{name}/compact"), duty, uses),
                at,
                Duration::ZERO,
                (config, machine),
            );
        }
        if let Some(at) = &config.schedule.verify {
            let duty = Duty::Verify { job: name.to_owned() };
            let uses = Uses::of_repositories([&job.repository]);
            self.scheduled(
                (format!("{name}/verify"), duty, uses),
                at,
                Duration::ZERO,
                (config, machine),
            );
        }
    }

    /// The backups of a job or a group.
    fn backups(
        &mut self,
        name: &str,
        schedules: &[ScheduleConfig],
        (priority, deadline): (i32, Option<Duration>),
        window: Option<Window>,
        (config, machine): (&Config, &Machine),
    ) {
        for schedule in schedules {
            let outside_window = schedule.outside_window == Some(true);
            let (kind, tier) = (schedule.kind, schedule.tier.clone());
            let label = tier.as_deref().or(kind.map(word)).unwrap_or("backup");
            let task = format!("{name}/{label}");
            let duty = Duty::Backup { job: name.to_owned(), kind, tier, outside_window };
            let jitter =
                schedule.jitter.as_ref().map_or(Duration::ZERO, crate::units::Time::length);
            let work = (task, duty, Uses::of_backup(name, config));
            let planned = self.scheduled(work, &schedule.at, jitter, (config, machine));
            planned.priority = priority;
            planned.deadline = deadline.or(planned.deadline);
            planned.window = window.filter(|_| !outside_window);
        }
    }

    /// What happens besides backups.
    fn besides(&mut self, config: &Config, machine: &Machine) {
        let daemon = &config.schedule;
        let place = (config, machine);
        if let Some(at) = &daemon.cleanup {
            let uses = Uses::of_repositories(config.jobs.values().map(|job| &job.repository));
            self.scheduled(("cleanup".to_owned(), Duty::Cleanup, uses), at, Duration::ZERO, place);
        }
        for name in config.repositories.keys() {
            let data = daemon.check_data.as_ref().map(ToString::to_string);
            let check = Duty::Check { repository: name.clone(), data };
            let prune = Duty::Prune { repository: name.clone() };
            for (at, word, duty) in
                [(&daemon.check, "check", check), (&daemon.prune, "prune", prune)]
            {
                let Some(at) = at else { continue };
                let uses = Uses::of_repositories([name]);
                self.scheduled((format!("{word}/{name}"), duty, uses), at, Duration::ZERO, place);
            }
        }
        for copy in &daemon.copy {
            let (name, uses) =
                (format!("copy/{}", copy.to), Uses::of_repositories([&copy.from, &copy.to]));
            self.scheduled((name, Duty::Copy(copy.clone()), uses), &copy.at, Duration::ZERO, place);
        }
        for archive in &daemon.archive {
            let (name, uses) = (
                format!("archive/{}", archive.to),
                Uses::of_repositories([&archive.from, &archive.to]),
            );
            self.scheduled(
                (name, Duty::Archive(archive.clone()), uses),
                &archive.at,
                Duration::ZERO,
                place,
            );
        }
        let usual = || ALERTS.parse::<Cron>().ok().filter(|_| !config.alerts.is_empty());
        if let Some(at) = daemon.alerts.clone().or_else(usual) {
            self.scheduled(
                ("alerts".to_owned(), Duty::Alerts, Uses::aside()),
                &at,
                Duration::ZERO,
                place,
            );
        }
        if let Some(at) = &daemon.report {
            let since =
                daemon.report_since.as_ref().map_or(REPORT_SINCE.to_owned(), ToString::to_string);
            let duty = Duty::Report { since, to: daemon.report_to.clone() };
            self.scheduled(("report".to_owned(), duty, Uses::aside()), at, Duration::ZERO, place);
        }
    }

    fn scheduled(
        &mut self,
        (name, duty, uses): (String, Duty, Uses),
        at: &Cron,
        jitter: Duration,
        (config, machine): (&Config, &Machine),
    ) -> &mut Planned {
        let timetable = Timetable {
            cron: at.clone(),
            zone: self.zone.rules.clone(),
            delay: timetable::delay(&name, &machine.host, jitter),
            catch_up: config.schedule.catch_up().map_or(CatchUp::Never, CatchUp::Within),
        };
        let deadline = Some(config.schedule.deadline());
        self.add(Planned {
            name,
            duty,
            timetable: Some(timetable),
            priority: 0,
            deadline,
            window: None,
            uses,
        })
    }

    /// Adds a task, under another name if there is one of its name already.
    fn add(&mut self, mut planned: Planned) -> &mut Planned {
        let known = |name: &String| self.names.contains(name);
        if known(&planned.name) {
            let numbered =
                (2..).map(|number| format!("{}-{number}", planned.name)).find(|name| !known(name));
            planned.name = numbered.unwrap_or_default();
        }
        let at = self.tasks.len();
        self.names.insert(planned.name.clone());
        self.tasks.push(planned);
        &mut self.tasks[at]
    }
}

fn word(kind: JobType) -> &'static str {
    match kind {
        JobType::Full => "full",
        JobType::Incremental => "incremental",
        JobType::Differential => "differential",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = r#"
        [repositories.main]
        url = "/r"
        [sources.shop]
        kind = "mongodb"
        url = "mongodb://me:hush@DB1:27017,db2,[::1]:5/?replicaSet=rs"
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [jobs.home]
        source = "home"
        repository = "main"
        schedule = "0 1 * * *"
        [jobs.shop]
        source = "shop"
        repository = "main"
        window = "22:00-06:00"
        priority = 5
        deadline = "2h"
        logs = { flush_after = "1s" }
        [[jobs.shop.schedule]]
        at = "0 2 * * 0"
        type = "full"
        tier = "weekly"
        [[jobs.shop.schedule]]
        at = "0 2 * * 1-6"
        type = "incremental"
        jitter = "10min"
        [[jobs.shop.schedule]]
        at = "0 12 * * *"
        type = "incremental"
        outside_window = true
        [groups.all]
        jobs = ["home", "shop"]
        schedule = "@monthly"
        [alerts.failed]
        condition = "failure"
        severity = "high"
        [repositories.offsite]
        url = "/o"
        [schedule]
        time_zone = "Europe/Berlin"
        cleanup = "30 5 * * *"
        compact = "0 4 * * 6"
        prune = "0 5 * * 6"
        check = "0 6 * * 0"
        check_data = "5%"
        verify = "0 7 * * *"
        [[schedule.copy]]
        at = "0 8 * * *"
        from = "main"
        to = "offsite"
        [[schedule.archive]]
        at = "0 9 1 * *"
        from = "main"
        to = "offsite"
        older_than = "90d"
    "#;

    #[test]
    fn tasks_of_a_configuration() {
        let config = crate::config::parse(TEXT, Path::new("/x.toml"), &Default::default()).unwrap();
        let machine = Machine { host: "h".into(), user: "u".into(), zone: crate::zone::Zone::UTC };
        let plan = Plan::new(&config, &machine);
        let lines = plan.tasks.iter().map(|task| {
            let when =
                task.timetable.as_ref().map_or("always".to_owned(), |table| table.cron.to_string());
            let window = task.window.map(|window| format!(" in {window}")).unwrap_or_default();
            let hosts: Vec<_> = task.uses.hosts.iter().map(String::as_str).collect();
            let hours = task.deadline.map(|deadline| deadline.as_secs() / 3600);
            format!(
                "{} {when}{window} {} {hours:?} [{}]",
                task.name,
                task.priority,
                hosts.join(",")
            )
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        home/backup 0 1 * * * 0 Some(24) [localhost]
        home/verify 0 7 * * * 0 Some(24) []
        shop/weekly 0 2 * * 0 in 22:00-06:00 5 Some(2) [db1,db2,localhost]
        shop/incremental 0 2 * * 1-6 in 22:00-06:00 5 Some(2) [db1,db2,localhost]
        shop/incremental-2 0 12 * * * 5 Some(2) [db1,db2,localhost]
        shop/logs always 5 None []
        shop/compact 0 4 * * 6 0 Some(24) []
        shop/verify 0 7 * * * 0 Some(24) []
        all/backup @monthly 0 Some(24) [db1,db2,localhost]
        cleanup 30 5 * * * 0 Some(24) []
        check/main 0 6 * * 0 0 Some(24) []
        prune/main 0 5 * * 6 0 Some(24) []
        check/offsite 0 6 * * 0 0 Some(24) []
        prune/offsite 0 5 * * 6 0 Some(24) []
        copy/offsite 0 8 * * * 0 Some(24) []
        archive/offsite 0 9 1 * * 0 Some(24) []
        alerts */5 * * * * 0 Some(24) []
        ");
        assert_eq!(
            (plan.zone.to_string(), plan.window_zone.to_string()),
            (
                "Europe/Berlin (from `schedule.time_zone`)".to_owned(),
                "UTC, no zone is set".to_owned()
            )
        );
        let jitter = plan.tasks.iter().find(|task| task.name == "shop/incremental").unwrap();
        let delay = jitter.timetable.as_ref().unwrap().delay;
        assert!(delay > Duration::ZERO && delay < Duration::from_secs(600), "{delay:?}");
        assert!(!format!("{plan:?}").contains("hush"));
        // By itself, at one o'clock in Berlin.
        let now: Timestamp = "2026-03-30T22:00:00Z".parse().unwrap();
        let next = |now| plan.next_backups(now).get("home").copied();
        assert_eq!(next(now), Some("2026-03-30T23:00:00Z".parse().unwrap()));
        // With the group.
        let of_month = next("2026-03-31T21:00:00Z".parse().unwrap());
        assert_eq!(of_month, Some("2026-03-31T22:00:00Z".parse().unwrap()));
        assert_eq!(plan.next_backups(now).get("other"), None);
    }
}

//! An engine that does nothing, and remembers what it was asked for.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;

use super::now;
use crate::engine::{Ended, Engine, Health, Refusal, RestoreOrder, Running, Task, TaskEvent, Work};

/// An engine with a task `docs/daily`, and a restore that goes on under the id `r1`.
#[derive(Debug)]
pub(crate) struct ScriptedEngine {
    events: broadcast::Sender<TaskEvent>,
    state: Mutex<Asked>,
}

/// What it was asked for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Asked {
    pub(crate) started: Vec<(Work, String)>,
    pub(crate) cancelled: Vec<String>,
    pub(crate) paused: Vec<(Option<String>, bool)>,
    pub(crate) is_dead: bool,
    pub(crate) is_stopping: bool,
    pub(crate) panics: bool,
}

impl ScriptedEngine {
    pub(crate) fn new() -> Self {
        Self { events: broadcast::channel(8).0, state: Mutex::default() }
    }

    pub(crate) fn asked(&self) -> Asked {
        self.state.lock().unwrap().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn tell(&self, event: TaskEvent) {
        _ = self.events.send(event);
    }

    pub(crate) fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// A backup that is over.
    pub(crate) fn ended_backup(id: &str) -> Ended {
        Ended {
            id: id.to_owned(),
            task: Some("docs/daily".into()),
            work: backup(),
            by: "schedule".into(),
            began: ago(90),
            ended: ago(60),
            exit_code: Some(0),
            error: String::new(),
            said: Vec::new(),
        }
    }

    /// A restore that failed.
    pub(crate) fn ended_restore(id: &str) -> Ended {
        let order = RestoreOrder {
            what: "latest".into(),
            repository: None,
            at: None,
            target: "/srv/x".into(),
            dry_run: false,
        };
        let work = Work::Restore(order);
        let error = "no room".to_owned();
        Ended {
            task: None,
            work,
            by: "anna".into(),
            exit_code: Some(1),
            error,
            ..Self::ended_backup(id)
        }
    }
}

fn backup() -> Work {
    Work::Backup { job: "docs".into(), kind: None, tier: Some("daily".into()) }
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

impl Engine for ScriptedEngine {
    fn tasks(&self) -> Vec<Task> {
        assert!(!self.asked().panics, "a mistake in the program that holds bkpd_hush");
        vec![Task {
            name: "docs/daily".into(),
            work: backup(),
            schedule: Some("0 2 * * *".into()),
            next: Some(ago(-3600)),
            paused: false,
            last: Some(Self::ended_backup("b0")),
        }]
    }

    fn running(&self) -> Vec<Running> {
        let order = RestoreOrder {
            what: "latest".into(),
            repository: None,
            at: None,
            target: "/srv/x".into(),
            dry_run: false,
        };
        let progress =
            serde_json::json!({ "event": "progress", "done_bytes": 25, "total_bytes": 100 });
        let restore = Running {
            id: "r1".into(),
            task: None,
            work: Work::Restore(order),
            by: "anna".into(),
            since: Some(ago(10)),
            progress: Some(progress),
        };
        let waiting = Running {
            id: "w1".into(),
            task: Some("docs/daily".into()),
            work: backup(),
            by: "schedule".into(),
            since: None,
            progress: None,
        };
        vec![restore, waiting]
    }

    fn ended(&self) -> Vec<Ended> {
        vec![Self::ended_backup("b0")]
    }

    fn start(&self, work: Work, by: &str) -> Result<String, Refusal> {
        match &work {
            Work::Backup { job, .. } if job == "none" => {
                return Err(Refusal::Unknown("job none".into()));
            }
            Work::Backup { job, .. } if job == "busy" => {
                return Err(Refusal::Busy("the queue is full".into()));
            }
            Work::Backup { job, .. } if job == "twice" => {
                return Err(Refusal::Refused("the operation is already running".into()));
            }
            _ => {}
        }
        let mut state = self.state.lock().unwrap();
        state.started.push((work, by.to_owned()));
        Ok(format!("s{}", state.started.len()))
    }

    fn cancel(&self, id: &str) -> Result<(), Refusal> {
        if id != "r1" {
            return Err(Refusal::Unknown("operation with this id".into()));
        }
        self.state.lock().unwrap().cancelled.push(id.to_owned());
        Ok(())
    }

    fn pause(&self, task: Option<&str>, paused: bool) -> Result<(), Refusal> {
        if task.is_some_and(|task| task != "docs/daily") {
            return Err(Refusal::Unknown("task of that name".into()));
        }
        self.state.lock().unwrap().paused.push((task.map(str::to_owned), paused));
        Ok(())
    }

    fn events(&self) -> broadcast::Receiver<TaskEvent> {
        self.events.subscribe()
    }

    fn health(&self) -> Health {
        let asked = self.asked();
        Health {
            looked: ago(if asked.is_dead { 3600 } else { 1 }),
            troubles: Default::default(),
            stopping: asked.is_stopping,
        }
    }
}

//! Tests of the core by a clock of their own, without processes, but for `lingering.rs`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a world in which time passes as a test wants it |
//! | `lingering.rs` | a real process that does not exit |
//! | `months.rs` | whole months: clocks that are changed, restarts, work that takes too long |
//! | `turns.rs` | limits, priorities, deadlines, pauses, what is asked for |

mod lingering;
mod months;
mod turns;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backup_control::config::{self, LoadedConfig};
use backup_control::machine::Machine;
use backup_control::schedule::Plan;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::core::{Core, Do, Now};
use super::items::Ending;
use super::memory::Memory;
use super::orders::Orders;

const GRACE: Duration = Duration::from_secs(300);

/// Something that was begun.
#[derive(Debug, Clone)]
struct Begun {
    task: String,
    at: Timestamp,
    ended: Option<Timestamp>,
}

/// Time, a core, and work that takes as long as a test says.
struct World {
    loaded: LoadedConfig,
    core: Core,
    now: Now,
    /// What goes on: which of `begun` it is, and until when by the steady clock.
    going: BTreeMap<String, (usize, Duration)>,
    begun: Vec<Begun>,
    takes: fn(&str) -> Duration,
    /// What does not stop when it is asked to.
    deaf: &'static str,
    said: Vec<String>,
}

fn loaded(text: &str) -> LoadedConfig {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&file, &Default::default()).unwrap();
    LoadedConfig { file: Path::new("/etc/backup/backup.toml").to_path_buf(), ..loaded }
}

fn orders(loaded: &LoadedConfig) -> Orders {
    Orders::new(loaded.config.clone(), loaded.file.clone())
}

fn plan(loaded: &LoadedConfig) -> Plan {
    plan_in(loaded, "")
}

/// The plan of a machine with this value of `TZ`.
fn plan_in(loaded: &LoadedConfig, tz: &str) -> Plan {
    let zone = backup_control::zone::local(&[("TZ", tz)].into_iter().collect()).unwrap();
    Plan::new(&loaded.config, &Machine { host: "h".into(), user: "u".into(), zone })
}

impl World {
    fn new(text: &str, at: &str, takes: fn(&str) -> Duration) -> Self {
        let loaded = loaded(text);
        let now = Now { wall: at.parse().unwrap(), steady: Duration::ZERO };
        let core = Core::new(plan(&loaded), orders(&loaded), Memory::default(), GRACE, now);
        let (going, begun, said) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { loaded, core, now, going, begun, takes, deaf: "-", said }
    }

    /// Lets time pass, and looks every so often.
    fn pass(&mut self, time: Duration, step: Duration) {
        let end = self.now.steady + time;
        self.look();
        while self.now.steady < end {
            self.now.steady += step;
            self.now.wall += SignedDuration::try_from(step).unwrap();
            self.look();
        }
    }

    fn minutes(&mut self, minutes: u64) {
        self.pass(Duration::from_secs(60 * minutes), Duration::from_secs(30));
    }

    fn look(&mut self) {
        let over: Vec<String> = self
            .going
            .iter()
            .filter(|(_, (_, end))| *end <= self.now.steady)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.end(&id, Some(0));
        }
        // What is over makes room.
        loop {
            let todo = self.core.tick(self.now);
            let nothing = todo.is_empty();
            todo.into_iter().for_each(|what| self.act(what));
            if nothing {
                break;
            }
        }
        let (_, lines) = self.core.take_said();
        self.said.extend(
            lines
                .into_iter()
                .map(|line| format!("{}: {}", line.task.unwrap_or_default(), line.message)),
        );
    }

    fn act(&mut self, what: Do) {
        match what {
            Do::Begin { id, .. } => {
                let running =
                    self.core.running().into_iter().find(|running| running.id == id).unwrap();
                let task = running.task.unwrap_or_else(|| format!("by {}", running.by));
                let end = self.now.steady.saturating_add((self.takes)(&task));
                self.going.insert(id, (self.begun.len(), end));
                self.begun.push(Begun { task, at: self.now.wall, ended: None });
            }
            Do::Ask { id, .. } => {
                let (begun, _) = self.going[&id];
                if self.begun[begun].task != self.deaf {
                    self.end(&id, Some(130));
                }
            }
            Do::Kill(id) => self.end(&id, None),
        }
    }

    fn end(&mut self, id: &str, exit_code: Option<u8>) {
        let (begun, _) = self.going.remove(id).unwrap();
        self.begun[begun].ended = Some(self.now.wall);
        self.core.over(id, Ending { exit_code, ..Ending::default() }, self.now);
    }

    /// The daemon and all it has begun are killed, and it is begun again after some time.
    fn killed_for(&mut self, time: Duration) {
        let memory = self.core.changed_memory();
        let memory = memory.or_else(|| {
            self.core.stored(Some(String::new()));
            self.core.changed_memory()
        });
        let text = serde_json::to_vec(&memory).unwrap();
        self.going.clear();
        self.now.steady += time;
        self.now.wall += SignedDuration::try_from(time).unwrap();
        let memory: Memory = serde_json::from_slice(&text).unwrap();
        self.core = Core::new(plan(&self.loaded), orders(&self.loaded), memory, GRACE, self.now);
    }

    /// When a task was begun, by local clocks.
    fn times(&self, task: &str, zone: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let of_task = self.begun.iter().filter(|begun| begun.task == task);
        of_task
            .map(|begun| begun.at.to_zoned(zone.clone()).strftime("%d %H:%M").to_string())
            .collect()
    }
}

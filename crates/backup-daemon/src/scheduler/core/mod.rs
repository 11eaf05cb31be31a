//! What is to be begun and stopped when, without doing it.
//!
//! Who drives it calls [`Core::tick`] every second and whenever something may have changed, stores
//! what is to survive, does what it says, and tells it what became of that.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Core`]: tasks, items, memory |
//! | `tick.rs` | what is due, and whose turn it is |
//! | `endings.rs` | how pieces of work come to their end |
//! | `lingering.rs` | processes that outlive their runs |
//! | `asked.rs` | what the API asks and orders |

mod asked;
mod endings;
mod lingering;
mod tick;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use backup_control::schedule::{CatchUp, Due, Plan, Planned};
use backup_control::zone::Zone;
use jiff::Timestamp;

use self::lingering::Lingerer;
use crate::engine::{Ended, TaskEvent, Work};
use crate::journal::{Level, Line};
use crate::scheduler::follow::Supervised;
use crate::scheduler::items::{Item, Stage, Why};
use crate::scheduler::memory::{Memory, Remembered};
use crate::scheduler::orders::{Order, Orders};

/// So many wait at most: more are refused, or left out.
const MAX_WAITING: usize = 256;
/// So many that are over are remembered.
const MAX_ENDED: usize = 300;
/// Who begins what is scheduled.
pub(crate) const SCHEDULE: &str = "schedule";
/// The trouble that what must survive cannot be stored.
const STATE: &str = "state";

/// The time, by two clocks: that of the calendar, and one that nobody changes.
#[derive(Debug, Clone, Copy)]
pub(in crate::scheduler) struct Now {
    pub(in crate::scheduler) wall: Timestamp,
    pub(in crate::scheduler) steady: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scheduler) enum Do {
    /// Begin a process, with these arguments, on whose behalf.
    Begin { id: String, args: Vec<String>, by: String },
    /// Ask one to stop, perhaps because it takes longer than it may.
    Ask { id: String, is_late: bool },
    /// Kill one.
    Kill(String),
}

/// A task and what is remembered of it.
#[derive(Debug)]
struct Kept {
    planned: Planned,
    order: Order,
    remembered: Remembered,
    supervised: Supervised,
    /// Nothing is due before this, unless the clock is put back.
    next: Option<Timestamp>,
}

/// The state of the scheduler.
#[derive(Debug)]
pub(in crate::scheduler) struct Core {
    plan: Plan,
    orders: Orders,
    tasks: Vec<Kept>,
    items: Vec<Item>,
    lingering: Vec<Lingerer>,
    ended: VecDeque<Ended>,
    troubles: BTreeMap<String, String>,
    looked: Timestamp,
    /// The clock shows a time before this version existed.
    is_clock_wrong: bool,
    grace: Duration,
    stopping: bool,
    hurry: bool,
    changed: bool,
    begun: Timestamp,
    numbers: u64,
    events: Vec<TaskEvent>,
    lines: Vec<Line>,
}

impl Core {
    pub(in crate::scheduler) fn new(
        plan: Plan,
        orders: Orders,
        memory: Memory,
        grace: Duration,
        now: Now,
    ) -> Self {
        let mut core = Self {
            plan: plan.without_tasks(),
            orders,
            tasks: Vec::new(),
            items: Vec::new(),
            lingering: Vec::new(),
            ended: VecDeque::new(),
            troubles: BTreeMap::new(),
            looked: now.wall,
            is_clock_wrong: false,
            grace,
            stopping: false,
            hurry: false,
            changed: true,
            begun: now.wall,
            numbers: 0,
            events: Vec::new(),
            lines: Vec::new(),
        };
        core.take_over(plan.tasks, memory, now);
        core
    }

    /// The time zone of the schedules.
    pub(in crate::scheduler) fn zone(&self) -> &Zone {
        &self.plan.zone
    }

    /// Takes tasks over, with what is remembered of them, and makes up for what they owe.
    fn take_over(&mut self, planned: Vec<Planned>, mut memory: Memory, now: Now) {
        for planned in planned {
            let (schedule, earlier_form) = self.identities(&planned);
            let mut remembered = memory.tasks.remove(&planned.name).unwrap_or_default();
            if earlier_form.is_some_and(|form| form == remembered.schedule) {
                remembered.schedule.clone_from(&schedule);
            }
            if remembered.schedule != schedule {
                // It was due at other times: none of them was missed.
                remembered = Remembered { handled: None, owed: None, schedule, ..remembered };
            }
            if remembered.paused && remembered.paused_since.is_none() {
                // An earlier version did not store the beginning.
                remembered.paused_since = Some(now.wall);
            }
            let order = self.orders.planned(&planned);
            self.tasks.push(Kept {
                planned,
                order,
                remembered,
                supervised: Supervised::default(),
                next: None,
            });
        }
        for at in 0..self.tasks.len() {
            self.make_up(at, now);
        }
    }

    /// The stored text that identifies the times of a task: its expression and its time zone. Then
    /// the text that earlier versions stored for zones without a name in the database.
    fn identities(&self, planned: &Planned) -> (String, Option<String>) {
        let Some(table) = &planned.timetable else { return (String::new(), None) };
        let earlier_form =
            table.zone.iana_name().is_none().then(|| format!("{} local", table.cron));
        (format!("{} {}", table.cron, self.plan.zone.name), earlier_form)
    }

    /// What a task owes since before a restart is due, unless it is too old.
    fn make_up(&mut self, at: usize, now: Now) {
        let kept = &mut self.tasks[at];
        if self.items.iter().any(|item| item.task.as_ref() == Some(&kept.planned.name)) {
            return;
        }
        let (Some(owed), Some(table)) = (kept.remembered.owed.take(), &kept.planned.timetable)
        else {
            return;
        };
        let age = now.wall.duration_since(owed);
        let counts = match table.catch_up {
            CatchUp::Never => false,
            CatchUp::Within(limit) => !age.is_positive() || age.unsigned_abs() <= limit,
        };
        let name = kept.planned.name.clone();
        if counts && !kept.remembered.paused {
            self.due(at, Due { time: owed, late: true }, now);
        } else {
            self.say(
                Level::Warning,
                Some(&name),
                None,
                format!("the run due at {owed} did not finish, and is not caught up"),
                now,
            );
        }
    }

    /// Goes on with another configuration.
    pub(in crate::scheduler) fn replace(&mut self, plan: Plan, orders: Orders, now: Now) {
        let memory = self.memory();
        self.orders = orders;
        self.plan = plan.without_tasks();
        let old = std::mem::take(&mut self.tasks);
        let stays = |item: &Item| {
            plan.tasks.iter().any(|planned| item.task.as_ref() == Some(&planned.name))
        };
        self.items.retain(|item| !item.waits() || item.by != SCHEDULE || stays(item));
        self.take_over(plan.tasks, memory, now);
        for kept in &mut self.tasks {
            if let Some(before) = old.iter().find(|before| before.planned.name == kept.planned.name)
            {
                kept.supervised = before.supervised;
            }
            // What waits for its turn goes on waiting, and is done with the settings of now.
            let of_task =
                |item: &&mut Item| item.waits() && item.task.as_ref() == Some(&kept.planned.name);
            for item in self.items.iter_mut().filter(of_task) {
                item.order = kept.order.clone();
            }
        }
        // What was wrong with those that are gone is wrong no more; of the others it will be seen.
        for before in &old {
            self.troubles.remove(&before.planned.name);
        }
        // Whoever follows a log goes on where it stopped, with the settings of now.
        let follows = |item: &&mut Item| {
            item.task.is_some() && matches!(item.order.work, Work::Follow { .. })
        };
        for item in self.items.iter_mut().filter(follows) {
            stop(item, Why::Anew, now);
        }
        self.changed = true;
    }

    /// What must survive, if it has changed since it was asked for last.
    pub(in crate::scheduler) fn changed_memory(&mut self) -> Option<Memory> {
        std::mem::take(&mut self.changed).then(|| self.memory())
    }

    fn memory(&self) -> Memory {
        Memory {
            tasks: self
                .tasks
                .iter()
                .map(|kept| (kept.planned.name.clone(), kept.remembered.clone()))
                .collect(),
        }
    }

    /// That what must survive could not be stored, or could be again.
    pub(in crate::scheduler) fn stored(&mut self, failure: Option<String>) {
        self.changed |= failure.is_some();
        self.trouble(STATE, failure);
    }

    pub(in crate::scheduler) fn damaged_memory(&mut self, aside: &Path, now: Now) {
        let text = format!("the damaged state of the tasks was moved to {}", aside.display());
        self.say(Level::Warning, None, None, text, now);
    }

    fn push(&mut self, task: Option<String>, by: &str, order: Order, now: Now) -> String {
        self.numbers += 1;
        let id = format!("{:x}-{}", self.begun.as_millisecond(), self.numbers);
        let (by, waits) = (by.to_owned(), now.steady);
        let item = Item {
            id: id.clone(),
            task,
            by,
            order,
            waits,
            said_waiting: false,
            stage: Stage::Waits,
        };
        self.items.push(item);
        id
    }

    pub(in crate::scheduler) fn trouble(&mut self, what: &str, trouble: Option<String>) {
        match trouble {
            Some(trouble) => _ = self.troubles.insert(what.to_owned(), trouble),
            None => _ = self.troubles.remove(what),
        }
    }

    /// What there is to say since it was asked for last.
    pub(in crate::scheduler) fn take_said(&mut self) -> (Vec<TaskEvent>, Vec<Line>) {
        (std::mem::take(&mut self.events), std::mem::take(&mut self.lines))
    }

    pub(in crate::scheduler) fn say(
        &mut self,
        level: Level,
        task: Option<&str>,
        id: Option<&str>,
        message: String,
        now: Now,
    ) {
        let (task, id) = (task.map(str::to_owned), id.map(str::to_owned));
        self.lines.push(Line { time: now.wall, level, task, id, message });
    }
}

/// Has something stopped, at the next look.
fn stop(item: &mut Item, why: Why, now: Now) {
    if let Some(runs) = item.runs_mut()
        && runs.stop.is_none()
    {
        runs.stop = Some((why, now.steady));
    }
}

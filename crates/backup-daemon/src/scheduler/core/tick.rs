//! One tick: which tasks are due, and which items begin.

use std::time::Duration;

use backup_control::schedule::Due;
use jiff::Timestamp;

use super::{Core, Do, Now, SCHEDULE};
use crate::engine::TaskEvent;
use crate::journal::Level;
use crate::scheduler::follow::{Heard, Supervised};
use crate::scheduler::items::{Item, Runs, Stage};
use crate::scheduler::turns;

/// The beginning of 2026. A clock that shows an earlier time is wrong: this program did not exist.
const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);

impl Core {
    /// Looks what is to be done now.
    pub(in crate::scheduler) fn tick(&mut self, now: Now) -> Vec<Do> {
        if self.is_before_release(now) {
            return self.stop_late(now);
        }
        let put_back = now.wall < self.looked;
        self.looked = now.wall;
        if !self.stopping {
            self.resume_long_paused(now);
            for at in 0..self.tasks.len() {
                if put_back || self.tasks[at].next.is_none_or(|next| next <= now.wall) {
                    self.look(at, now);
                }
            }
        }
        let mut todo = self.stop_late(now);
        if !self.stopping {
            todo.extend(self.begin(now));
        }
        todo
    }

    /// True if the clock cannot be right, because this version did not exist yet. A machine without
    /// a clock that runs on begins so. Reported once.
    fn is_before_release(&mut self, now: Now) -> bool {
        let is_before = now.wall < EARLIEST;
        if is_before == self.is_clock_wrong {
            return is_before;
        }
        self.is_clock_wrong = is_before;
        let (level, message) = match is_before {
            true => (Level::Error, "the clock is wrong: nothing begins until it is right"),
            false => (Level::Info, "the clock is no longer wrong: tasks begin"),
        };
        self.say(level, None, None, message.to_owned(), now);
        is_before
    }

    /// Looks whether a task is due.
    fn look(&mut self, at: usize, now: Now) {
        let kept = &mut self.tasks[at];
        let name = kept.planned.name.clone();
        let Some(table) = &kept.planned.timetable else {
            self.look_after(at, now);
            return;
        };
        let Some(handled) = kept.remembered.handled else {
            kept.remembered.handled = Some(table.from_now_on(now.wall));
            kept.remembered.delay = table.delay.as_secs();
            self.changed = true;
            return;
        };
        let look = table.look_again(handled, Duration::from_secs(kept.remembered.delay), now.wall);
        kept.next = table.next(look.handled);
        if look.handled == handled {
            return;
        }
        kept.remembered.handled = Some(look.handled);
        kept.remembered.delay = table.delay.as_secs();
        self.changed = true;
        if look.put_back {
            self.say(
                Level::Warning,
                Some(&name),
                None,
                "the clock was set back: the schedule starts again from the present time".into(),
                now,
            );
        }
        if self.tasks[at].remembered.paused {
            return;
        }
        if let Some(missed) = look.missed {
            self.say(
                Level::Warning,
                Some(&name),
                None,
                format!("the run due at {missed} was missed, and is not caught up"),
                now,
            );
        }
        if let Some(due) = look.due {
            self.due(at, due, now);
        }
    }

    /// Lets a task wait for its turn.
    pub(super) fn due(&mut self, at: usize, due: Due, now: Now) {
        let name = self.tasks[at].planned.name.clone();
        if let Some(item) = self.items.iter().find(|item| item.task.as_ref() == Some(&name)) {
            let how = if item.waits() { "queued" } else { "running" };
            self.say(
                Level::Warning,
                Some(&name),
                None,
                format!("the run due at {} is skipped: the previous one is still {how}", due.time),
                now,
            );
            return;
        }
        if let Some(pid) = self.lingering_of(Some(&name), &self.tasks[at].order) {
            self.say(
                Level::Error,
                Some(&name),
                None,
                format!(
                    "the run due at {} is skipped: process {pid} of an earlier run does not exit",
                    due.time
                ),
                now,
            );
            return;
        }
        if due.late {
            self.say(
                Level::Info,
                Some(&name),
                None,
                format!("catching up the run due at {}", due.time),
                now,
            );
        }
        let order = self.tasks[at].order.clone();
        self.tasks[at].remembered.owed = Some(due.time);
        self.changed = true;
        self.push(Some(name), SCHEDULE, order, now);
    }

    /// Looks after what goes on all the time.
    fn look_after(&mut self, at: usize, now: Now) {
        let kept = &self.tasks[at];
        let name = &kept.planned.name;
        match self.items.iter().find(|item| item.task.as_ref() == Some(name)) {
            Some(item) => {
                if item.runs().is_some_and(|runs| Supervised::is_well(runs.began, now.steady)) {
                    self.troubles.remove(name);
                }
            }
            None if kept.remembered.paused || !kept.supervised.may_begin(now.steady) => {}
            None if self.lingering_of(Some(name), &kept.order).is_some() => {}
            None => {
                let (name, order) = (name.clone(), kept.order.clone());
                self.push(Some(name), SCHEDULE, order, now);
            }
        }
    }

    /// Begins those whose turn has come.
    fn begin(&mut self, now: Now) -> Vec<Do> {
        if !self.items.iter().any(Item::waits) {
            return Vec::new();
        }
        let local = now.wall.to_zoned(self.plan.window_zone.rules.clone());
        let is_open = |item: &Item| item.order.window.is_none_or(|window| window.contains(&local));
        let next = turns::next(&self.items, &self.plan.limits, now.steady, is_open);
        let mut todo = Vec::new();
        for item in &mut self.items {
            if !next.contains(&item.id) {
                continue;
            }
            let (since, began) = (now.wall, now.steady);
            item.stage = Stage::Runs(Runs {
                since,
                began,
                stop: None,
                asked: false,
                killed: false,
                progress: None,
                heard: Heard::default(),
            });
            todo.push(Do::Begin {
                id: item.id.clone(),
                args: item.order.args.clone(),
                by: item.by.clone(),
            });
            self.events.push(TaskEvent::Began(item.shown()));
        }
        for id in next {
            let item = self.items.iter().find(|item| item.id == id);
            let (task, by) =
                item.map(|item| (item.task.clone(), item.by.clone())).unwrap_or_default();
            let by = if by == SCHEDULE { String::new() } else { format!(", requested by {by}") };
            self.say(Level::Info, task.as_deref(), Some(&id), format!("started{by}"), now);
        }
        self.say_who_waits(now);
        todo
    }

    /// Whoever waits for something else than the moment is told of once.
    fn say_who_waits(&mut self, now: Now) {
        let waiting = self.items.iter_mut().filter(|item| item.waits() && !item.said_waiting);
        let said: Vec<_> = waiting
            .map(|item| {
                item.said_waiting = true;
                (item.task.clone(), item.id.clone())
            })
            .collect();
        for (task, id) in said {
            self.say(Level::Info, task.as_deref(), Some(&id), "queued".into(), now);
        }
    }
}

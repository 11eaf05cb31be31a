//! What the API asks and orders.

use backup_control::schedule::MAX_PAUSE;

use super::{Core, Kept, MAX_WAITING, Now, SCHEDULE, stop};
use crate::engine::{Ended, Health, Refusal, Running, Task, TaskEvent, Work};
use crate::journal::Level;
use crate::scheduler::follow::Supervised;
use crate::scheduler::items::{Ending, Item, Why};

impl Core {
    pub(in crate::scheduler) fn tasks(&self) -> Vec<Task> {
        let task = |kept: &Kept| {
            let Kept { planned, order, remembered, .. } = kept;
            let table = planned.timetable.as_ref();
            let next =
                table.zip(remembered.handled).and_then(|(table, handled)| table.next(handled));
            Task {
                name: planned.name.clone(),
                work: order.work.clone(),
                schedule: table.map(|table| table.cron.to_string()),
                next: next.filter(|_| !remembered.paused),
                paused: remembered.paused,
                last: remembered.last.as_ref().map(Ended::from),
            }
        };
        let mut tasks: Vec<Task> = self.tasks.iter().map(task).collect();
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        tasks
    }

    pub(in crate::scheduler) fn running(&self) -> Vec<Running> {
        self.items.iter().map(Item::shown).collect()
    }

    pub(in crate::scheduler) fn ended(&self) -> Vec<Ended> {
        self.ended.iter().cloned().collect()
    }

    pub(in crate::scheduler) fn health(&self) -> Health {
        Health { looked: self.looked, troubles: self.troubles.clone(), stopping: self.stopping }
    }

    pub(in crate::scheduler) fn start(
        &mut self,
        work: Work,
        by: &str,
        now: Now,
    ) -> Result<String, Refusal> {
        if self.stopping {
            return Err(Refusal::Busy("the daemon is stopping".to_owned()));
        }
        if let Work::Follow { job } = &work
            && self.tasks.iter().any(|kept| kept.order.work == work)
        {
            return Err(Refusal::Refused(format!(
                "a task follows the log of job {job}: resume or pause that task"
            )));
        }
        let order = self.orders.asked(work, self.plan.deadline)?;
        let same = |item: &&Item| {
            item.order.work == order.work || !item.order.uses.jobs.is_disjoint(&order.uses.jobs)
        };
        if let Some(item) = self.items.iter().find(same) {
            let how = if item.waits() { "queued" } else { "running" };
            return Err(Refusal::Refused(format!(
                "the same work, or a job of it, is already {how} as {}",
                item.id
            )));
        }
        if let Some(pid) = self.lingering_of(None, &order) {
            return Err(Refusal::Refused(format!(
                "process {pid} of an earlier run of the same work, or of a job of it, does not exit"
            )));
        }
        // Tasks wait once each, and are never left out because of what people ask for.
        if self.items.iter().filter(|item| item.waits() && item.by != SCHEDULE).count()
            >= MAX_WAITING
        {
            return Err(Refusal::Busy(format!("{MAX_WAITING} operations are already queued")));
        }
        Ok(self.push(None, by, order, now))
    }

    pub(in crate::scheduler) fn cancel(&mut self, id: &str, now: Now) -> Result<(), Refusal> {
        let Some(at) = self.items.iter().position(|item| item.id == id) else {
            return Err(Refusal::Unknown(format!("running or queued operation {id}")));
        };
        let item = &mut self.items[at];
        if let (Work::Follow { .. }, Some(task)) = (&item.order.work, &item.task) {
            return Err(Refusal::Refused(format!(
                "the daemon would restart it: pause the task {task}"
            )));
        }
        if item.waits() {
            let ending = Ending::failed("cancelled before the start");
            self.over(id, ending, now);
        } else {
            stop(item, Why::Cancelled, now);
        }
        Ok(())
    }

    pub(in crate::scheduler) fn pause(
        &mut self,
        task: Option<&str>,
        paused: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        if let Some(name) = task
            && !self.tasks.iter().any(|kept| kept.planned.name == name)
        {
            return Err(Refusal::Unknown(format!("task {name}")));
        }
        let mut named = Vec::new();
        for kept in &mut self.tasks {
            // A log that is not captured is lost, and alerts report long pauses: their tasks are
            // paused by name only.
            let is_kept = matches!(kept.order.work, Work::Follow { .. } | Work::Alerts);
            let is_meant = match task {
                Some(task) => task == kept.planned.name,
                None => !(paused && is_kept),
            };
            if is_meant && kept.remembered.paused != paused {
                kept.remembered.paused = paused;
                kept.remembered.paused_since = paused.then_some(now.wall);
                kept.supervised = Supervised::default();
                named.push(kept.planned.name.clone());
            }
        }
        self.changed = true;
        for name in named {
            let text = if paused { "paused for at most 7 days" } else { "resumed" };
            self.say(Level::Info, Some(&name), None, text.into(), now);
            if paused {
                self.troubles.remove(&name);
                self.withdraw(&name, now);
            }
            self.events.push(TaskEvent::Paused { task: name, paused });
        }
        Ok(())
    }

    /// Resumes tasks whose pause has lasted for [`MAX_PAUSE`].
    pub(super) fn resume_long_paused(&mut self, now: Now) {
        let is_over = |kept: &&Kept| {
            let since = kept.remembered.paused_since;
            since.is_some_and(|since| now.wall.duration_since(since) >= MAX_PAUSE)
        };
        let over = self.tasks.iter().filter(is_over);
        for name in over.map(|kept| kept.planned.name.clone()).collect::<Vec<_>>() {
            let text = "the pause has reached its maximum of 7 days".to_owned();
            self.say(Level::Warning, Some(&name), None, text, now);
            // The task exists.
            _ = self.pause(Some(&name), false, now);
        }
    }

    /// Of a paused task, what waits is not begun, and its log is followed no more. A backup that
    /// goes on comes to its end.
    fn withdraw(&mut self, task: &str, now: Now) {
        let Some(item) = self.items.iter_mut().find(|item| item.task.as_deref() == Some(task))
        else {
            return;
        };
        if item.waits() {
            let (id, ending) = (item.id.clone(), Ending::failed("the task was paused"));
            self.over(&id, ending, now);
        } else if matches!(item.order.work, Work::Follow { .. }) {
            stop(item, Why::Cancelled, now);
        }
    }
}

//! Processes that outlive their runs: their jobs do not start again.

use super::{Core, Now};
use crate::engine::Work;
use crate::journal::Level;
use crate::scheduler::items::Item;
use crate::scheduler::orders::Order;

/// A process that reported its final error and has not exited.
#[derive(Debug)]
pub(super) struct Lingerer {
    id: String,
    pid: u32,
    task: Option<String>,
    order: Order,
}

impl Core {
    /// Notes that the process of a run does not exit, before the end of the run.
    pub(in crate::scheduler) fn lingers(&mut self, id: &str, pid: u32, now: Now) {
        let Some(Item { task, order, .. }) = self.items.iter().find(|item| item.id == id) else {
            return;
        };
        let (task, order) = (task.clone(), order.clone());
        let text = format!(
            "process {pid} reported an error and does not exit; its work does not start again \
             while the process exists"
        );
        self.trouble(&place(pid), Some(text.clone()));
        self.say(Level::Error, task.as_deref(), Some(id), text, now);
        self.lingering.push(Lingerer { id: id.to_owned(), pid, task, order });
    }

    /// Notes that the process of a run that has ended exited at last.
    pub(in crate::scheduler) fn exited(&mut self, id: &str, now: Now) {
        let Some(at) = self.lingering.iter().position(|one| one.id == id) else { return };
        let Lingerer { pid, task, .. } = self.lingering.remove(at);
        self.trouble(&place(pid), None);
        let text = format!("process {pid} has exited; its work can start again");
        self.say(Level::Info, task.as_deref(), Some(id), text, now);
    }

    /// The process of an earlier run of the same task, of the same work, or of one of its jobs.
    pub(super) fn lingering_of(&self, task: Option<&str>, order: &Order) -> Option<u32> {
        let is_same = |one: &&Lingerer| {
            task.is_some() && one.task.as_deref() == task
                || one.order.work == order.work
                || !one.order.uses.jobs.is_disjoint(&order.uses.jobs)
                || follows(&one.order.work).is_some_and(|job| follows(&order.work) == Some(job))
        };
        self.lingering.iter().find(is_same).map(|one| one.pid)
    }
}

/// The job whose log is followed.
fn follows(work: &Work) -> Option<&str> {
    match work {
        Work::Follow { job } => Some(job),
        _ => None,
    }
}

/// The name of the trouble with a process.
fn place(pid: u32) -> String {
    format!("process {pid}")
}

//! How pieces of work come to their end.

use super::{Core, Do, MAX_ENDED, Now, SCHEDULE, stop};
use crate::engine::{TaskEvent, Work};
use crate::journal::Level;
use crate::scheduler::items::{Ending, Item, Why};
use crate::scheduler::memory::Last;

/// The exit code of what has warnings only.
const WARNINGS: u8 = 3;

impl Core {
    /// Asks those to stop that take too long, and kills those that do not.
    pub(super) fn stop_late(&mut self, now: Now) -> Vec<Do> {
        let (mut todo, mut late) = (Vec::new(), Vec::new());
        for item in &mut self.items {
            let deadline = item.order.deadline;
            let (id, task) = (item.id.clone(), item.task.clone());
            let Some(runs) = item.runs_mut() else { continue };
            let ran = now.steady.saturating_sub(runs.began);
            if runs.stop.is_none() && deadline.is_some_and(|deadline| ran > deadline) {
                late.push((id.clone(), task));
                runs.stop = Some((Why::Deadline, now.steady));
            }
            match runs.stop {
                Some((_, since))
                    if !runs.killed
                        && (self.hurry || now.steady.saturating_sub(since) > self.grace) =>
                {
                    runs.killed = true;
                    todo.push(Do::Kill(id));
                }
                // Asking once more would end it at once.
                Some((why, _)) if !runs.asked => {
                    runs.asked = true;
                    todo.push(Do::Ask { id, is_late: matches!(why, Why::Deadline) });
                }
                _ => {}
            }
        }
        for (id, task) in late {
            self.say(
                Level::Error,
                task.as_deref(),
                Some(&id),
                "the deadline is exceeded; stopping the process".into(),
                now,
            );
        }
        todo
    }

    /// A process said how far it is.
    pub(in crate::scheduler) fn progress(&mut self, id: &str, progress: serde_json::Value) {
        if let Some(runs) =
            self.items.iter_mut().find(|item| item.id == id).and_then(Item::runs_mut)
        {
            runs.progress = Some(progress.clone());
            self.events.push(TaskEvent::Progress { id: id.to_owned(), progress });
        }
    }

    /// A process printed an event. Of followed logs, which never end, changes become lines at once;
    /// the events of other work are summed up at its end.
    pub(in crate::scheduler) fn heard(&mut self, id: &str, event: &serde_json::Value, now: Now) {
        let Some(item) = self.items.iter_mut().find(|item| item.id == id) else { return };
        if !matches!(item.order.work, Work::Follow { .. }) {
            return;
        }
        let task = item.task.clone();
        let line = item.runs_mut().and_then(|runs| runs.heard.line(event, now.steady));
        if let Some((level, text)) = line {
            self.say(level, task.as_deref(), Some(id), text, now);
        }
    }

    /// A process has ended, or could not be begun.
    pub(in crate::scheduler) fn over(&mut self, id: &str, ending: Ending, now: Now) {
        let Some(at) = self.items.iter().position(|item| item.id == id) else { return };
        let item = self.items.remove(at);
        let why = item.runs().and_then(|runs| runs.stop).map(|(why, _)| why);
        let mut ending = ending;
        if why == Some(Why::Deadline) {
            ending.error =
                format!("the deadline was exceeded, and the process was stopped. {}", ending.error)
                    .trim_end()
                    .to_owned();
        }
        let is_follow = matches!(item.order.work, Work::Follow { .. });
        self.say_ended(&item, &ending, why, now);
        let ended = item.ended(ending.clone(), now.wall);
        if let Some(kept) =
            self.tasks.iter_mut().find(|kept| Some(&kept.planned.name) == item.task.as_ref())
        {
            kept.remembered.last = Some(Last::from(&ended));
            // What was cut off because the daemon ends is made up for when it begins again; not
            // what came to its end all the same.
            if why != Some(Why::Ending) || matches!(ending.exit_code, Some(0 | WARNINGS)) {
                kept.remembered.owed = None;
            }
            if is_follow && why.is_none() {
                let began = item.runs().map_or(now.steady, |runs| runs.began);
                let pause = kept.supervised.failed(began, now.steady);
                let trouble = format!(
                    "ended {}: {}; restart after {} s",
                    code(&ending),
                    ending.error,
                    pause.as_secs()
                );
                self.troubles.insert(kept.planned.name.clone(), trouble);
            } else if is_follow {
                self.troubles.remove(&kept.planned.name);
            }
        }
        self.changed = true;
        self.events.push(TaskEvent::Ended(ended.clone()));
        self.ended.push_front(ended);
        self.ended.truncate(MAX_ENDED);
    }

    fn say_ended(&mut self, item: &Item, ending: &Ending, why: Option<Why>, now: Now) {
        let level = match (ending.exit_code, why) {
            (Some(0), _) | (_, Some(Why::Cancelled | Why::Ending | Why::Anew)) => Level::Info,
            (Some(WARNINGS), None) => Level::Warning,
            _ => Level::Error,
        };
        let took = item.runs().map_or(0, |runs| now.steady.saturating_sub(runs.began).as_secs());
        let why = match why {
            Some(Why::Cancelled) => ", cancelled by request",
            Some(Why::Ending) => ", stopped because the daemon stops",
            Some(Why::Anew) => ", stopped to apply other settings",
            Some(Why::Deadline) | None => "",
        };
        let error =
            if ending.error.is_empty() { String::new() } else { format!(": {}", ending.error) };
        let text = format!("ended {} after {took} s{why}{error}", code(ending));
        self.say(level, item.task.as_deref(), Some(&item.id), text, now);
    }

    /// Begins nothing any more, and asks everything to stop.
    pub(in crate::scheduler) fn stop(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let waiting: Vec<String> =
            self.items.iter().filter(|item| item.waits()).map(|item| item.id.clone()).collect();
        for id in waiting {
            let Some(at) = self.items.iter().position(|item| item.id == id) else { continue };
            let item = self.items.remove(at);
            if item.by != SCHEDULE {
                let ending = Ending::failed("the daemon stopped before the start");
                self.events.push(TaskEvent::Ended(item.ended(ending, now.wall)));
            }
        }
        self.items.iter_mut().for_each(|item| stop(item, Why::Ending, now));
    }

    /// Kills what has been asked to stop.
    pub(in crate::scheduler) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Whether it was told to stop, and nothing goes on any more.
    pub(in crate::scheduler) fn is_over(&self) -> bool {
        self.stopping && self.items.is_empty()
    }
}

fn code(ending: &Ending) -> String {
    match ending.exit_code {
        Some(0) => "successfully".to_owned(),
        Some(code) => format!("with exit code {code}"),
        None => "without an exit code".to_owned(),
    }
}

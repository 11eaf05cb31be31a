//! Reporters: what becomes of the events of long work.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | choosing one |
//! | `human.rs` | bars on a terminal, a line now and then otherwise |
//! | `json.rs` | one JSON object per line |
//! | `once.rs` | each warning once |
//! | `pace.rs` | how fast it goes and how long it will take |
//!
//! To add an event: its variant in `backup_core::event`, its text in `human.rs`. JSON needs
//! nothing.

mod human;
mod json;
mod once;
mod pace;

use std::sync::Arc;

use backup_core::event::{Event, Events, Reporter};

use crate::ui::Ui;
use human::HumanReporter;
use json::JsonReporter;
pub(crate) use once::warnings_once;

/// Which events a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All: the command is long work.
    All,
    /// Under `--json` only one object is printed; for people it makes no difference.
    OneObject,
}

/// The events of a command.
pub(crate) fn events(ui: &Arc<Ui>, detail: Detail) -> Events {
    match (ui.is_json(), detail) {
        (true, Detail::OneObject) => Events::silent(),
        _ => of(ui, None),
    }
}

/// The events of one of several jobs that go on at the same time, in a command that shows all.
pub(crate) fn of_job(ui: &Arc<Ui>, job: &str) -> Events {
    of(ui, Some(job.to_owned()))
}

fn of(ui: &Arc<Ui>, job: Option<String>) -> Events {
    let ui = Arc::clone(ui);
    let reporter: Arc<dyn Reporter> = match ui.is_json() {
        true => Arc::new(JsonReporter::new(ui, job)),
        false if ui.is_quiet() => Arc::new(QuietReporter { ui, job }),
        false => Arc::new(HumanReporter::new(ui, job)),
    };
    Events::to(reporter)
}

/// Shows warnings and nothing else.
struct QuietReporter {
    ui: Arc<Ui>,
    job: Option<String>,
}

impl Reporter for QuietReporter {
    fn report(&self, event: &Event) {
        if let Event::Warning(warning) = event {
            human::show_warning(&self.ui, self.job.as_deref(), warning);
        }
    }
}

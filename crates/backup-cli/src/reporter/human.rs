//! Progress for people: a bar on a terminal, a line now and then otherwise.
//!
//! A stage that is over before [`DELAY`] shows nothing, so that quick commands do not flicker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_core::event::{Event, Progress, Reporter, Stage, Warning};
use indicatif::{ProgressBar, ProgressStyle};

use super::pace::{Pace, thousandths};
use crate::human;
use crate::ui::Ui;

/// How long a stage may take before its bar appears.
const DELAY: Duration = Duration::from_millis(250);
/// Where there is no terminal, at most one line in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows events to people.
pub(super) struct HumanReporter {
    ui: Arc<Ui>,
    /// Of several that go on at the same time.
    job: Option<String>,
    stages: Mutex<Vec<View>>,
}

/// A stage that is going on.
struct View {
    stage: Stage,
    started: Instant,
    pace: Pace,
    bar: Option<ProgressBar>,
    last_line: Instant,
    has_lines: bool,
}

impl HumanReporter {
    pub(super) fn new(ui: Arc<Ui>, job: Option<String>) -> Self {
        Self { ui, job, stages: Mutex::default() }
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, Vec<View>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a stage is called.
    fn label(&self, stage: Stage) -> String {
        of_job(self.job.as_deref(), label(stage))
    }

    fn start(&self, stage: Stage) {
        let now = Instant::now();
        let view = View {
            stage,
            started: now,
            pace: Pace::default(),
            bar: None,
            last_line: now,
            has_lines: false,
        };
        self.stages().push(view);
    }

    fn progress(&self, stage: Stage, progress: &Progress) {
        let mut stages = self.stages();
        let Some(view) = stages.iter_mut().find(|view| view.stage == stage) else {
            return;
        };
        let passed = view.started.elapsed();
        view.pace.update(passed, progress);
        let text = view.pace.describe(progress);
        match self.ui.bars() {
            Some(bars) if passed >= DELAY => {
                let bar = view.bar.get_or_insert_with(|| {
                    let bar = bars.add(ProgressBar::no_length());
                    bar.set_prefix(self.label(stage));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                show(bar, progress, text);
            }
            Some(_) => {}
            None if view.last_line.elapsed() >= LINE_EVERY => {
                view.last_line = Instant::now();
                view.has_lines = true;
                self.ui.status(format_args!("{}: {text}", self.label(stage)));
            }
            None => {}
        }
    }

    fn finish(&self, stage: Stage, progress: &Progress) {
        let mut stages = self.stages();
        let Some(at) = stages.iter().position(|view| view.stage == stage) else {
            return;
        };
        let view = stages.remove(at);
        drop(stages);
        if let Some(bar) = view.bar {
            bar.finish_and_clear();
        }
        if view.has_lines {
            let text = Pace::default().describe(progress);
            let time = human::duration(view.started.elapsed());
            self.ui.status(format_args!("{}: {text} in {time}.", self.label(stage)));
        }
    }
}

impl Reporter for HumanReporter {
    fn report(&self, event: &Event) {
        match event {
            Event::StageStarted { stage } => self.start(*stage),
            Event::Progress { stage, progress } => self.progress(*stage, progress),
            Event::StageFinished { stage, progress } => self.finish(*stage, progress),
            Event::Warning(warning) => show_warning(&self.ui, self.job.as_deref(), warning),
            Event::Note { message } => self.ui.status(of_job(self.job.as_deref(), message)),
            // The summary says it.
            _ => {}
        }
    }
}

impl Drop for HumanReporter {
    /// A command that failed leaves no bar behind.
    fn drop(&mut self) {
        for bar in self.stages().drain(..).filter_map(|view| view.bar) {
            bar.finish_and_clear();
        }
    }
}

pub(super) fn show_warning(ui: &Ui, job: Option<&str>, warning: &Warning) {
    let message = human::text(warning.message.as_bytes());
    if warning.path.is_empty() {
        ui.warning(of_job(job, &message));
    } else {
        ui.warning(of_job(job, &format!("{}: {message}", human::text(warning.path.as_bytes()))));
    }
}

/// What is said of one of several jobs.
fn of_job(job: Option<&str>, text: &str) -> String {
    job.map_or_else(|| text.to_owned(), |job| format!("{}: {text}", human::text(job.as_bytes())))
}

fn show(bar: &ProgressBar, progress: &Progress, text: String) {
    match thousandths(progress) {
        Some(done) => {
            if bar.length().is_none() {
                bar.set_length(1000);
                bar.set_style(template("{spinner} {prefix} [{bar:28}] {msg}", "=> "));
            }
            bar.set_position(done);
        }
        None if bar.length().is_some() => {}
        None => bar.set_style(template("{spinner} {prefix} {msg}", "=> ")),
    }
    bar.set_message(text);
}

fn template(text: &str, bar: &str) -> ProgressStyle {
    // The templates above are constants; a mistake in one shows the default bar instead of failing
    // a backup.
    ProgressStyle::with_template(text)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(bar)
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::LoadIndex => "Loading the index",
        Stage::Backup => "Backing up",
        Stage::Commit => "Committing",
        Stage::Plan => "Planning",
        Stage::Restore => "Restoring",
        Stage::Verify => "Verifying",
        Stage::Check => "Checking",
        Stage::ReadData => "Reading data",
        Stage::Copy => "Copying",
        Stage::Thaw => "Thawing",
        Stage::Reach => "Finding needed data",
        Stage::Repack => "Repacking",
        Stage::Delete => "Deleting",
        _ => "Working",
    }
}

//! What libraries and the API say by `tracing`, as lines of the journal.

use std::fmt::{Debug, Write};
use std::sync::Arc;

use backup_core::clock::SharedClock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use super::{Journal, Level, Line};

/// Hands everything of some weight on to the journal: all warnings and errors, and what this crate
/// says besides.
pub(crate) fn install(journal: Arc<dyn Journal>, clock: SharedClock) {
    let subscriber =
        Registry::default().with(Traced { journal, clock }.with_filter(LevelFilter::INFO));
    // Whoever embeds this has one of their own, and keeps it.
    _ = tracing::subscriber::set_global_default(subscriber);
}

struct Traced {
    journal: Arc<dyn Journal>,
    clock: SharedClock,
}

impl<S: Subscriber> Layer<S> for Traced {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            _ if metadata.target().starts_with(env!("CARGO_CRATE_NAME")) => Level::Info,
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let message = text.message + &text.fields;
        self.journal.line(&Line { time: self.clock.now(), level, task: None, id: None, message });
    }
}

/// The message of an event, and its fields behind it.
#[derive(Debug, Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let (to, name) = match field.name() {
            "message" => (&mut self.message, String::new()),
            name => (&mut self.fields, format!(" {name}=")),
        };
        // Writing into a string does not fail.
        _ = write!(to, "{name}{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use backup_core::clock::SystemClock;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<(Level, String)>>);

    impl Journal for Kept {
        fn line(&self, line: &Line) {
            self.0.lock().unwrap().push((line.level, line.message.clone()));
        }
    }

    #[test]
    fn events_become_lines() {
        let kept = Arc::new(Kept::default());
        let layer = Traced { journal: Arc::clone(&kept) as _, clock: Arc::new(SystemClock) };
        let subscriber = Registry::default().with(layer.with_filter(LevelFilter::INFO));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(status = 200, by = "anna", "request");
            tracing::warn!(target: "elsewhere", "late");
            tracing::info!(target: "elsewhere", "nobody wants to know");
            tracing::debug!("nor this");
        });
        let expected = [
            (Level::Info, "request status=200 by=anna".to_owned()),
            (Level::Warning, "late".to_owned()),
        ];
        assert_eq!(*kept.0.lock().unwrap(), expected);
    }
}

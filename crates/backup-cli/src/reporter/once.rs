//! Events without repeated warnings: a restore plans first, and meets the same things again when it
//! is executed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use backup_core::event::{Event, Events, Reporter};

/// Warnings that are remembered; later ones may be repeated.
const MAX_WARNINGS: usize = 1000;

/// Events that go to `next`, but each warning once.
pub(crate) fn warnings_once(next: Events) -> Events {
    Events::to(std::sync::Arc::new(Once { next, seen: Mutex::default() }))
}

struct Once {
    next: Events,
    /// Paths and messages.
    seen: Mutex<HashSet<(String, String)>>,
}

impl Once {
    fn is_new(&self, path: &str, message: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let warning = (path.to_owned(), message.to_owned());
        if seen.contains(&warning) {
            return false;
        }
        if seen.len() < MAX_WARNINGS {
            seen.insert(warning);
        }
        true
    }
}

impl Reporter for Once {
    fn report(&self, event: &Event) {
        match event {
            Event::Warning(warning) if !self.is_new(&warning.path, &warning.message) => {}
            event => self.next.emit(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backup_core::event::WarningKind;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn report(&self, event: &Event) {
            if let Event::Warning(warning) = event {
                let text = format!("{}: {}", warning.path, warning.message);
                self.0.lock().unwrap().push(text);
            }
        }
    }

    #[test]
    fn each_warning_is_passed_on_once() {
        let heard = Arc::new(Heard::default());
        let events = warnings_once(Events::to(Arc::clone(&heard) as _));
        for (path, message) in [("a", "x"), ("b", "x"), ("a", "x"), ("a", "y")] {
            events.warn(WarningKind::Other, path, message);
        }
        assert_eq!(*heard.0.lock().unwrap(), ["a: x", "b: x", "a: y"]);
    }
}

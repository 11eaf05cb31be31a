//! The notes of an operation.

use std::sync::{Arc, Mutex};

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};

/// Keeps the notes of an operation.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// A context whose notes are kept.
    pub(crate) fn context() -> (Context, Arc<Self>) {
        let notes = Arc::new(Self::default());
        (Context::new(Events::to(Arc::clone(&notes) as _)), notes)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Reporter for Notes {
    fn report(&self, event: &Event) {
        if let Event::Note { message } = event {
            self.0.lock().unwrap().push(message.clone());
        }
    }
}

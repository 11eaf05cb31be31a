//! Watching, while the oplog is captured, whether it is long enough: what it drops before that was
//! captured is a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::WarningKind;
use tokio::task::JoinHandle;

use super::history::{self, OplogWindow};
use super::position::Position;
use super::server::Server;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(60);

/// Looks on, also while nobody asks for more: a store that cannot be reached is what lets an oplog
/// run out.
pub(super) struct Watch {
    stored: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Everything up to `at` is stored.
    pub(super) fn begin(cx: &Context, server: &Server, at: Position) -> Self {
        let stored = Arc::new(AtomicU64::new(at.offset()));
        let task = tokio::spawn(watch(cx.clone(), server.clone(), Arc::clone(&stored)));
        Self { stored, task }
    }

    /// Everything up to `offset` is stored.
    pub(super) fn stored(&self, offset: u64) {
        self.stored.fetch_max(offset, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(cx: Context, server: Server, stored: Arc<AtomicU64>) {
    let (mut oldest, mut told) = (None, false);
    let mut due = tokio::time::interval(PERIOD);
    loop {
        due.tick().await;
        // What is wrong with the server hears whoever reads the log.
        let Ok(Some(window)) = OplogWindow::of(&server).await else { continue };
        // A young oplog is short because it is young. Not everybody may ask how full it is: that it
        // drops something is seen as well.
        let drops =
            *oldest.get_or_insert(window.oldest) < window.oldest || history::is_full(&server).await;
        let at = Position::of_offset(stored.load(Ordering::Relaxed));
        let is_short = drops && window.is_short_for(at);
        if is_short && !told {
            cx.events.warn(WarningKind::Other, "", short(window, at));
        }
        // Once, until it is long enough again.
        told = is_short;
    }
}

fn short(window: OplogWindow, at: Position) -> String {
    format!(
        "the oplog reaches back only {} s, and its capture is {} s behind: entries that it drops \
         before they are stored leave a gap; enlarge it with db.adminCommand({{replSetResizeOplog: \
         1, size: MEGABYTES}})",
        window.seconds(),
        window.newest.seconds.saturating_sub(at.seconds)
    )
}

//! Ctrl-C and requests to terminate: the first stops the work cleanly, the second ends the program
//! at once. SIGUSR2 is such a request too, by a scheduler that lets nothing take longer than it
//! may: what is stopped so has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit_code;
use crate::ui::Ui;

/// What is said at the first signal, if something is to be stopped.
pub(crate) const STOPPING: &str = "Stopping cleanly; a second signal stops at once.";
/// Where what goes on elsewhere goes on.
pub(crate) const LEAVING: &str = "Disconnecting from the daemon.";

/// Of the whole process, as signals are.
static IS_LATE: AtomicBool = AtomicBool::new(false);

/// Whether the work was stopped because it took longer than it may.
pub(crate) fn is_late() -> bool {
    IS_LATE.load(Ordering::Relaxed)
}

/// Watches for signals from now on. Must be called on a tokio runtime.
pub(crate) fn watch(ui: Arc<Ui>, cancel: CancellationToken, notice: &'static str) {
    // Without a handler the default action remains: the program ends at the first signal, and what
    // was stored is reused by the next run all the same.
    let kinds = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::user_defined2()),
    );
    let (Ok(interrupt), Ok(terminate), Ok(late)) = kinds else { return };
    let mut signals = Signals { interrupt, terminate, late };
    tokio::spawn(async move {
        signals.next().await;
        cancel.cancel();
        ui.status(notice);
        signals.next().await;
        abort();
    });
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    late: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.late.recv() => IS_LATE.store(true, Ordering::Relaxed),
        }
    }
}

#[expect(
    clippy::exit,
    reason = "the user insists; every state on disk is safe to leave at any moment"
)]
fn abort() {
    std::process::exit(exit_code::INTERRUPTED.into());
}

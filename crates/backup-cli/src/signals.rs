//! Ctrl-C and requests to terminate: the first stops the work cleanly, the second ends the program at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit_code;
use crate::ui::Ui;

/// What is said at the first signal, if something is to be stopped.
pub(crate) const STOPPING: &str = "Stopping cleanly; the same once more stops at once.";
/// Where what goes on elsewhere goes on.
pub(crate) const LEAVING: &str = "Leaving it to the daemon.";

/// Watches for signals from now on. Must be called on a tokio runtime.
pub(crate) fn watch(ui: Arc<Ui>, cancel: CancellationToken, notice: &'static str) {
    // Without a handler the default action remains: the program ends at the first signal, and what was stored is
    // reused by the next run all the same.
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        cancel.cancel();
        ui.status(notice);
        next(&mut interrupt, &mut terminate).await;
        abort();
    });
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[expect(clippy::exit, reason = "the user insists; every state on disk is safe to leave at any moment")]
fn abort() {
    std::process::exit(exit_code::INTERRUPTED.into());
}

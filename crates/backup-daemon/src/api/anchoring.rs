//! Anchors of the audit log: within a minute after a record, the program stores the head of the
//! chain in the repositories, and announces records to the channels of `[audit] notify`.
//!
//! Commands that open a repository store an anchor themselves. Requests to the API and `backupd
//! token` open none.

use std::time::Duration;

use backup_control::audit::Head;
use backup_control::words::chain;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Reads;

/// Interval of looking for records without an anchor.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Pause before records are anchored, so that several share an anchor.
const SETTLE: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const MIN_RETRY: Duration = Duration::from_secs(30);
const MAX_RETRY: Duration = Duration::from_secs(15 * 60);

/// Anchors records until the server ends. `recorded` is notified of every new record of the API.
pub(super) async fn anchor(reads: &Reads, recorded: &Notify, shutdown: &CancellationToken) {
    let mut state = State::default();
    while !shutdown.is_cancelled() {
        let wait = async {
            tokio::select! {
                () = recorded.notified(), if state.failures == 0 => {
                    tokio::time::sleep(SETTLE).await;
                    true
                }
                () = tokio::time::sleep(pause(state.failures)) => false,
            }
        };
        tokio::select! {
            is_notified = wait => {
                // The end of the server drops this, which kills the program.
                tokio::select! {
                    () = look(reads, &mut state, is_notified) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            () = shutdown.cancelled() => {}
        }
    }
}

#[derive(Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// The head that the program anchored last.
    done: Option<Head>,
    /// There was a record without an anchor at the last look. A running command anchors its own
    /// records.
    is_pending: bool,
}

/// Runs the program if there is a record of the API, or of another command for a while.
async fn look(reads: &Reads, state: &mut State, is_notified: bool) {
    let Some(head) = unanchored(reads).await.filter(|head| state.done.as_ref() != Some(head))
    else {
        *state = State { done: state.done.take(), ..State::default() };
        return;
    };
    if !(is_notified || state.is_pending) {
        state.is_pending = true;
        return;
    }
    match run(reads).await {
        Ok(()) => *state = State { done: Some(head), ..State::default() },
        Err(error) => {
            state.failures += 1;
            tracing::warn!("cannot store an anchor of the audit log: {error}");
        }
    }
}

/// Time until the next look after this many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => LOOK_EVERY,
        more => (MIN_RETRY * 2u32.saturating_pow(more.min(10) - 1)).min(MAX_RETRY),
    }
}

/// The head of the log, if no repository has an anchor of it.
async fn unanchored(reads: &Reads) -> Option<Head> {
    let audit = reads.audit();
    match tokio::task::spawn_blocking(move || audit.unanchored()).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => {
            tracing::warn!("cannot read the audit log: {}", chain(&error));
            None
        }
        Err(_) => None,
    }
}

async fn run(reads: &Reads) -> Result<(), String> {
    let words = ["audit", "anchor", "--json"].map(str::to_owned);
    let spoken = reads.program.ask(&words, "schedule").await.map_err(|error| chain(&error))?;
    match spoken.code {
        Some(0) => Ok(()),
        _ => Err(chain(&spoken.failure())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_below_a_quarter_of_an_hour() {
        assert_eq!(pause(0), Duration::from_secs(20));
        assert_eq!(pause(1), Duration::from_secs(30));
        assert_eq!(pause(3), Duration::from_secs(120));
        assert_eq!((pause(9), pause(1000)), (MAX_RETRY, MAX_RETRY));
    }
}

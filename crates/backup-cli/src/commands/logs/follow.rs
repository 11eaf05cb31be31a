//! `backup logs follow`.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_control::jobs::Job;
use backup_control::logs;
use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::event::{Event, Events, LogEvent, Reporter};
use backup_core::log::{FollowOptions, follow};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::Repository;
use backup_core::source::{BackupKind, Source};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use crate::command_error::{CommandResult, Outcome};
use crate::commands::run::execute::{Reach, execute};
use crate::commands::run::{self, again};
use crate::records::Records;
use crate::session::Session;

/// Time of following behind a gap before a full backup begins.
const SETTLING: Duration = Duration::from_secs(3);
/// Time before a full backup that failed is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// Remedy if another process captures the log.
const WAIT: &str = "run `logs follow --wait` to take over when that process ends";

/// Capture the log of a job's source until Ctrl-C
///
/// Changes in the source reach the repository within seconds, and a snapshot every hour. Capture
/// continues where the last one stopped. Failures are reported and retried. A gap in the log is
/// reported, and a full backup at once begins a new range of moments. If another process captures
/// the same log, on any machine, this one exits with 11 and names it. After a crash on this machine,
/// the next capture starts at once; on another one, the capture is blocked for a minute.
///
/// `[jobs.NAME.logs]` in the configuration has the settings. The exit code after Ctrl-C is 0.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Job of the configuration
    #[arg(value_name = "JOB")]
    job: String,
    /// Stop as after Ctrl-C once standard input is closed, for a supervisor that may die
    #[arg(long)]
    until_eof: bool,
    /// Wait while another process captures the log, and take over when it ends
    #[arg(long)]
    wait: bool,
}

pub(super) async fn follow_job(session: &Session, args: &Args) -> CommandResult {
    if args.until_eof {
        cancel_at_eof(session.cx.cancel.clone());
    }
    let job = super::configured(session, &args.job)?;
    let source = super::source_with_log(session, &job).await?;
    let repository: Repository = session.open(&job.repository).await?;
    run::require_same_cluster(session, &repository, &job, &*source).await?;
    let id = &repository.config().id;
    // One machine may follow the logs of several jobs, and the name is that of one process.
    let since = session.cx.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let process = std::process::id();
    let job_name = &job.options.job;
    let holder = format!("{}, job {job_name}, process {process} since {since}", session.holder());
    let options = logs::follow_options(&job, id, &holder, &session.env)?;
    let options = FollowOptions { waits: args.wait, ..options };
    session.ui.status(format_args!(
        "Following the log of {source} into {}; press Ctrl-C to stop.",
        job.repository
    ));
    let lines = Arc::new(Lines::new(session, &job.options.job));
    let gaps = Arc::new(Gaps {
        events: Events::to(Arc::clone(&lines) as _),
        open: AtomicBool::new(false),
        noted: Notify::new(),
    });
    let cx = Context { events: Events::to(Arc::clone(&gaps) as _), ..session.cx.clone() };
    let renews = job.logs.full_after_gap.unwrap_or(true);
    let full = Job {
        options: BackupOptions { kind: Some(BackupKind::Full), ..job.options.clone() },
        ..job.clone()
    };
    // A backup that has begun comes to its end, and its hooks are run: also after Ctrl-C, which it
    // hears by itself.
    let over = session.cx.cancel.child_token();
    let following = async {
        let followed = Box::pin(follow(&repository, &source, &options, &cx)).await;
        over.cancel();
        followed
    };
    let renewing = async {
        if renews {
            Box::pin(begin_anew(session, &repository, &full, &*source, &gaps, &over)).await;
        }
    };
    let (followed, ()) = tokio::join!(following, renewing);
    lines.end();
    followed.map_err(hint_at_waiting)?;
    Ok(Outcome::Success)
}

/// Names the flag that waits for the process that captures the log.
fn hint_at_waiting(error: CoreError) -> CoreError {
    if error.kind() != ErrorKind::Busy {
        return error;
    }
    let hint = error.hint().map_or_else(|| WAIT.to_owned(), |hint| format!("{hint}; {WAIT}"));
    error.with_hint(hint)
}

/// Cancels once standard input ends, with the process at its other end. A
/// signal on the death of the parent would come when the thread ends that began this process.
fn cancel_at_eof(cancel: CancellationToken) {
    // Not a thread of the runtime, whose end would wait for the read.
    std::thread::spawn(move || {
        let (mut input, mut buffer) = (std::io::stdin(), [0; 256]);
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        cancel.cancel();
    });
}

/// Hears of gaps, and hands everything on.
struct Gaps {
    events: Events,
    /// Something is missing, and the log has not begun again.
    open: AtomicBool,
    noted: Notify,
}

impl Gaps {
    /// Waits until the log is followed behind a gap, and no other gap comes at once: of a lost
    /// slot, one is found at each position from which the log might be followed.
    async fn settled(&self, settling: Duration) {
        self.noted.notified().await;
        while tokio::time::timeout(settling, self.noted.notified()).await.is_ok()
            || self.open.load(Ordering::Relaxed)
        {}
    }
}

impl Reporter for Gaps {
    fn report(&self, event: &Event) {
        self.events.emit(event);
        match event {
            Event::Log(LogEvent::Gap { .. }) => self.open.store(true, Ordering::Relaxed),
            // A backup that was begun earlier would not be one that the log goes on from.
            Event::Log(LogEvent::Following { .. }) if self.open.swap(false, Ordering::Relaxed) => {
                self.noted.notify_one();
            }
            _ => {}
        }
    }
}

/// Makes a full backup whenever something is missing, until it is `over`: no moment behind a gap
/// can be restored without one.
async fn begin_anew(
    session: &Session,
    repository: &Repository,
    job: &Job,
    source: &dyn Source,
    gaps: &Gaps,
    over: &CancellationToken,
) {
    let again = again::of_full(session, job);
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = gaps.settled(SETTLING) => {}
        }
        let records = Records::open(session).await;
        let mut pause = RETRY.0;
        let back_up = async |session: &Session| {
            Box::pin(run::back_up(session, repository, job, source)).await
        };
        let reach = Reach::Opened(repository);
        while let Err(error) =
            execute(session, job, again.clone(), records.as_ref(), back_up, reach).await
        {
            if error.is_cancelled() {
                return;
            }
            let is_lasting = error.is_lasting();
            session.ui.error(&error.context("full backup after a gap"));
            // Or there would be one snapshot after the other that does not hold what is expected.
            if is_lasting {
                break;
            }
            tokio::select! {
                () = over.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gaps_of_one_interruption_make_one_full_backup() {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let gaps = Arc::new(Gaps {
            events: Events::silent(),
            open: AtomicBool::new(false),
            noted: Notify::new(),
        });
        let gap = || gaps.report(&Event::Log(LogEvent::Gap { reason: "gone".to_owned() }));
        let following = || gaps.report(&Event::Log(LogEvent::Following { from: None }));
        let settled = async || tokio::time::timeout(MS(3000), gaps.settled(MS(500))).await.is_ok();
        following();
        assert!(!settled().await, "nothing is missing");
        // The slot is lost at the stored position, and at the one of the last backup.
        gap();
        following();
        let waiting = Arc::clone(&gaps);
        let waiting = tokio::spawn(async move { waiting.settled(MS(500)).await });
        tokio::time::sleep(MS(100)).await;
        gap();
        tokio::time::sleep(MS(2000)).await;
        assert!(!waiting.is_finished(), "the log is not followed");
        following();
        waiting.await.unwrap();
        assert!(!settled().await, "one gap is left");
        gap();
        following();
        assert!(settled().await, "another one");
    }
}

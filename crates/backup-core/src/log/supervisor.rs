//! Capturing for ever: connecting again, taking over, rolling up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::capture::run;
use super::lane::Lane;
use super::roll_up::{RollUpOptions, roll_up};
use super::{CaptureOptions, LogView, Stream};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, LogEvent, WarningKind};
use crate::repository::Repository;
use crate::source::Source;

/// Longest time before the lease of another process is inspected again.
const BUSY_RETRY: Duration = Duration::from_secs(10);
/// The first roll-up comes no later after the start.
const FIRST_ROLL_UP: Duration = Duration::from_secs(60);

/// How to follow a log.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// How to capture.
    pub capture: CaptureOptions,
    /// How to roll up.
    pub roll_up: RollUpOptions,
    /// How often to roll up.
    pub roll_up_every: Duration,
    /// Time before something that failed is tried again, at first and at most.
    pub retry: (Duration, Duration),
    /// Wait if another process captures the log at the start, and take over when it ends. Otherwise
    /// this is an error.
    pub waits: bool,
}

impl Default for FollowOptions {
    /// Rolls up every hour; tries again after one second to one minute; waits for another process.
    fn default() -> Self {
        Self {
            capture: CaptureOptions::default(),
            roll_up: RollUpOptions::default(),
            roll_up_every: Duration::from_secs(3600),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            waits: true,
        }
    }
}

/// Captures the log of `source` and rolls it up until the caller cancels, which is no error.
///
/// # Errors
/// [`ErrorKind::Busy`] if another process captures the log and [`FollowOptions::waits`] is false,
/// unless this one has captured it before: then it waits to take over again.
/// [`ErrorKind::Invalid`] if the source has no log; [`ErrorKind::PermissionDenied`],
/// [`ErrorKind::WrongPassphrase`] and what else does not pass by itself. All other failures are
/// told by events and tried again.
pub async fn follow(
    repository: &Repository,
    source: &Arc<dyn Source>,
    options: &FollowOptions,
    cx: &Context,
) -> Result<()> {
    repository.require_writable()?;
    let capturing = keep_capturing(repository, source, options, cx);
    let rolling = keep_rolling(repository, source, options, cx);
    tokio::select! {
        result = capturing => result,
        never = rolling => never,
    }
}

async fn keep_capturing(
    repository: &Repository,
    source: &Arc<dyn Source>,
    options: &FollowOptions,
    cx: &Context,
) -> Result<()> {
    let mut delay = options.retry.0;
    let has_begun = AtomicBool::new(options.waits);
    loop {
        let since = tokio::time::Instant::now();
        let error = match go_on(repository, &**source, &options.capture, cx, &has_begun).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_cancelled() && cx.cancel.is_cancelled() => return Ok(()),
            Err(error) if is_for_good(&error) => return Err(error),
            Err(error) if error.kind() == ErrorKind::Busy && !has_begun.load(Ordering::Relaxed) => {
                return Err(error);
            }
            Err(error) => error,
        };
        if since.elapsed() > options.retry.1 {
            delay = options.retry.0;
        }
        if error.kind() == ErrorKind::Busy {
            delay = delay.min(BUSY_RETRY);
        }
        let (message, seconds) = (error.chain(), delay.as_secs());
        cx.events.emit(&Event::Log(LogEvent::Reconnecting { message, seconds }));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = cx.cancel.cancelled() => return Ok(()),
        }
        delay = (delay * 2).min(options.retry.1);
    }
}

/// Captures, unless what is stored is of another log.
async fn go_on(
    repository: &Repository,
    source: &dyn Source,
    options: &CaptureOptions,
    cx: &Context,
    has_begun: &AtomicBool,
) -> Result<()> {
    // What slices say of branches is there within the hour, and reading thousands of them takes
    // long.
    let known =
        LogView::of_snapshots(&Lane::new(repository, &Stream::of(&source.identity())), cx).await?;
    source.require_lineage(cx, &known.timeline()).await?;
    run(repository, source, options, cx, has_begun).await.map(|_| ())
}

fn is_for_good(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Invalid
            | ErrorKind::PermissionDenied
            | ErrorKind::WrongPassphrase
            | ErrorKind::UnsupportedVersion
    )
}

/// Ends with the caller's cancellation only.
async fn keep_rolling(
    repository: &Repository,
    source: &Arc<dyn Source>,
    options: &FollowOptions,
    cx: &Context,
) -> Result<()> {
    let stream = Stream::of(&source.identity());
    // Soon after the start: a process that is started again and again shall roll up, too.
    let mut pause = options.roll_up_every.min(FIRST_ROLL_UP);
    loop {
        tokio::time::sleep(pause).await;
        pause = options.roll_up_every;
        match roll_up(repository, &stream, &options.roll_up, cx).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) => {
                let message = format!("cannot roll up the log: {}", error.chain());
                cx.events.warn(WarningKind::Other, "", message);
            }
        }
    }
}

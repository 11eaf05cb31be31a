//! Limits on waits for servers: every wait ends, and long ones are reported.
//!
//! A wait for a stream fails once the server has been silent for the time-out. Statements can take
//! long: a checkpoint, an index build, a lock. A wait for one lasts while the server answers over a
//! second connection.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::event::{Events, WarningKind};
use backup_core::source::{SourceError, SourceErrorKind};
use tokio::time::Instant;

/// Time without progress after which a wait fails, unless a source sets another one.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A wait is reported after this time without progress,
const REPORT_AFTER: Duration = Duration::from_secs(5);
/// and again at this interval. All waits of one source share it.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Interval of the questions over a second connection, and the time before the first; less for
/// short time-outs.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// A timer that fires this late was not polled: its caller was busy, and the server may not have
/// been silent.
const LATE: Duration = Duration::from_secs(2);

/// Remedy for a server that does not answer,
const HINT: &str = "check the server, its disks and the network, or raise `timeout` of the source";
/// and if the limit is fixed.
const FIXED_HINT: &str = "check the server and the network";

/// A question to a server over a second connection: true if the server answers.
pub(crate) type Ask = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Time-out of a source, and where its waits are reported. Clones share the reports.
#[derive(Debug, Clone)]
pub struct Waits {
    timeout: Duration,
    /// Silence of the server before a wait begins.
    silent_for: Duration,
    /// The time-out does not depend on the settings of the source.
    is_fixed: bool,
    events: Events,
    reported: Arc<Mutex<Option<Instant>>>,
    is_warned: Arc<AtomicBool>,
}

impl Default for Waits {
    /// [`DEFAULT_TIMEOUT`], without reports.
    fn default() -> Self {
        Self::new(DEFAULT_TIMEOUT, Events::silent())
    }
}

/// A server was silent for the time-out.
#[derive(Debug, Clone)]
pub(crate) struct Stalled {
    silence: Duration,
    is_fixed: bool,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer for {} seconds", self.silence.as_secs_f32())
    }
}

impl std::error::Error for Stalled {}

impl From<Stalled> for SourceError {
    fn from(stalled: Stalled) -> Self {
        let hint = if stalled.is_fixed { FIXED_HINT } else { HINT };
        Self::new(SourceErrorKind::Unavailable, stalled.to_string()).with_hint(hint)
    }
}

impl Stalled {
    /// The remedy, for errors that are not made from this one.
    pub(crate) fn hint() -> &'static str {
        HINT
    }
}

impl Waits {
    /// Waits fail after `timeout` without progress; after five seconds they are reported to `events`.
    #[must_use]
    pub fn new(timeout: Duration, events: Events) -> Self {
        let (reported, is_warned) = (Arc::default(), Arc::default());
        let silent_for = Duration::ZERO;
        Self { timeout, silent_for, is_fixed: false, events, reported, is_warned }
    }

    /// The time-out.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same time-out, reported to `events`.
    pub(crate) fn reporting_to(&self, events: &Events) -> Self {
        Self { events: events.clone(), ..self.clone() }
    }

    /// Warns once per source, also with several connections.
    pub(crate) fn warn_once(&self, text: impl FnOnce() -> String) {
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            self.events.warn(WarningKind::Other, "", text());
        }
    }

    /// Warns where waits are reported.
    #[cfg(feature = "mongodb")]
    pub(crate) fn warn(&self, text: String) {
        self.events.warn(WarningKind::Other, "", text);
    }

    /// Reports and a longer time-out, if `limit` is longer.
    pub(crate) fn at_least(&self, limit: Duration) -> Self {
        Self { timeout: self.timeout.max(limit), ..self.clone() }
    }

    /// Time-out and reports for a step that never takes longer than `limit`.
    pub(crate) fn at_most(&self, limit: Duration) -> Self {
        let is_fixed = limit < self.timeout;
        Self { timeout: self.timeout.min(limit), is_fixed, ..self.clone() }
    }

    /// The same time-out for a server that has been silent for this long already.
    #[cfg(feature = "mongodb")]
    pub(crate) fn after_silence(&self, silent_for: Duration) -> Self {
        Self { silent_for, ..self.clone() }
    }

    /// Reports that another server takes the place of one.
    #[cfg(feature = "mongodb")]
    pub(crate) fn note_move(&self, text: &str) {
        self.events.note(text);
    }

    /// Waits for `work`, at most for the time-out. With `ask`, an answer of the server is progress.
    pub(crate) async fn limit<T>(
        &self,
        server: &str,
        ask: Option<&Ask>,
        work: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            stalled = self.stalled(server, ask) => Err(stalled),
        }
    }

    /// Ends when `server` has been silent for the time-out.
    pub(crate) async fn stalled(&self, server: &str, ask: Option<&Ask>) -> Stalled {
        let now = Instant::now();
        let begun = now.checked_sub(self.silent_for).unwrap_or(now);
        let ask_every = ASK_EVERY.min(self.timeout / 3);
        let (mut silent_since, mut report_at) = (begun, begun + REPORT_AFTER);
        let mut ask_at = ask.map(|_| now + ask_every);
        let is_silent = !self.silent_for.is_zero();
        let (mut asking, mut answered) = (None, is_silent.then_some(false));
        loop {
            let over_at = silent_since + self.timeout;
            let next = over_at.min(report_at).min(ask_at.unwrap_or(over_at));
            tokio::select! {
                answers = answer(&mut asking) => {
                    (asking, answered) = (None, Some(answers));
                    ask_at = Some(Instant::now() + ask_every);
                    if answers {
                        silent_since = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    if now > next + LATE {
                        silent_since = now;
                        report_at = report_at.max(now + REPORT_AFTER);
                    } else if now >= over_at {
                        return Stalled { silence: self.timeout, is_fixed: self.is_fixed };
                    } else if now >= report_at {
                        report_at += REPORT_EVERY;
                        let answered = if ask.is_none() { Some(false) } else { answered };
                        self.report(server, now - begun, now - silent_since, answered);
                    }
                    if let (Some(ask), true) = (ask, ask_at.is_some_and(|at| now >= at)) {
                        (asking, answered, ask_at) = (Some(ask()), Some(false), None);
                    }
                }
            }
        }
    }

    /// `answered`: whether the last question has an answer; `None` before the first.
    fn report(&self, server: &str, waited: Duration, silence: Duration, answered: Option<bool>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        *reported = Some(Instant::now());
        drop(reported);
        let seconds = waited.as_secs();
        self.events.note(match answered {
            None => format!("waiting for {server} for {seconds} seconds"),
            Some(true) => {
                format!("waiting for {server}: a statement has been running for {seconds} seconds")
            }
            Some(false) => {
                format!("waiting for {server}: no answer for {} seconds", silence.as_secs())
            }
        });
    }
}

/// The answer to a question; pending while there is no question.
async fn answer(asking: &mut Option<Pin<Box<dyn Future<Output = bool> + Send>>>) -> bool {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use backup_core::event::{Event, Reporter};

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Reporter for Notes {
        fn report(&self, event: &Event) {
            if let Event::Note { message } = event {
                self.0.lock().unwrap().push(message.clone());
            }
        }
    }

    fn waits(timeout: u64) -> (Waits, Arc<Notes>) {
        let notes = Arc::new(Notes::default());
        let events = Events::to(Arc::clone(&notes) as _);
        (Waits::new(Duration::from_secs(timeout), events), notes)
    }

    /// Answers the first `count` questions.
    fn answering(count: usize) -> (Ask, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let ask = move || {
            let answers = counted.fetch_add(1, Ordering::SeqCst) < count;
            Box::pin(async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                true
            }) as Pin<Box<dyn Future<Output = bool> + Send>>
        };
        (Arc::new(ask), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_server_is_reported_after_five_seconds_and_given_up_after_the_timeout() {
        let (waits, notes) = waits(60);
        let begun = Instant::now();
        let stalled = waits.limit("db:1", None, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert_eq!(stalled.to_string(), "no answer for 60 seconds");
        assert_eq!(*notes.0.lock().unwrap(), ["waiting for db:1: no answer for 5 seconds"]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_keep_a_statement_alive() {
        let (waits, notes) = waits(60);
        // Questions at 20, 40, 60 and 80 seconds are answered, the next never.
        let (ask, asked) = answering(4);
        let begun = Instant::now();
        let never = std::future::pending::<()>();
        waits.limit("db:1", Some(&ask), never).await.unwrap_err();
        assert_eq!((begun.elapsed().as_secs(), asked.load(Ordering::SeqCst)), (140, 5));
        let expected = [
            "waiting for db:1 for 5 seconds",
            "waiting for db:1: a statement has been running for 65 seconds",
            "waiting for db:1: no answer for 45 seconds",
        ];
        assert_eq!(*notes.0.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn finished_work_is_returned_without_a_report() {
        let (waits, notes) = waits(60);
        let work = tokio::time::sleep(Duration::from_secs(4));
        waits.limit("db:1", None, work).await.unwrap();
        assert!(notes.0.lock().unwrap().is_empty());
    }
}

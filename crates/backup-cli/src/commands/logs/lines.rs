//! What is said while a log is followed: on a terminal one line that changes, elsewhere a line now
//! and then; troubles at once, but not again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backup_control::logs::lsn_of;
use backup_core::clock::SharedClock;
use backup_core::event::{Event, Events, LogEvent, Reporter};
use backup_core::log::Position;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::human;
use crate::session::Session;
use crate::ui::Ui;

/// Where there is no terminal, at most one line about what was stored in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The same trouble is not told again before.
const TROUBLE_EVERY: Duration = Duration::from_secs(60);

/// Shows the events of a log to people; everything else, and all of it as JSON, goes on to the
/// usual reporter.
pub(super) struct Lines {
    ui: Arc<Ui>,
    clock: SharedClock,
    others: Events,
    state: Mutex<State>,
}

struct State {
    words: Words,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Lines {
    pub(super) fn new(session: &Session, job: &str) -> Self {
        let words = Words { zone: session.zone().clone(), job: job.to_owned(), trouble: None };
        Self {
            ui: Arc::clone(&session.ui),
            clock: Arc::clone(&session.cx.clock),
            others: session.cx.events.clone(),
            state: Mutex::new(State { words, bar: None, last_line: None }),
        }
    }

    /// The line that changed is taken away, and what it said last stays.
    pub(super) fn end(&self) {
        if let Some(bar) = self.lock().bar.take() {
            let last = bar.message();
            bar.finish_and_clear();
            self.ui.status(last);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, event: &LogEvent) {
        let mut state = self.lock();
        let line = state.words.of(event, self.clock.now(), Instant::now());
        match line {
            None => {}
            Some(Line::Remark(text)) => self.ui.status(text),
            Some(Line::Trouble(text)) => self.ui.warning(text),
            Some(Line::Stored(text)) => match self.ui.bars() {
                Some(bars) => {
                    let bar = state.bar.get_or_insert_with(|| {
                        let style = ProgressStyle::with_template("{spinner} {msg}");
                        let bar = bars.add(ProgressBar::no_length());
                        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                        bar
                    });
                    bar.set_message(text);
                    bar.tick();
                }
                None if state.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) => {
                    state.last_line = Some(Instant::now());
                    self.ui.status(text);
                }
                None => {}
            },
        }
    }
}

impl Reporter for Lines {
    fn report(&self, event: &Event) {
        match event {
            Event::Log(event) if !self.ui.is_json() => self.show(event),
            other => self.others.emit(other),
        }
    }
}

/// How something is said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Takes the place of the one before.
    Stored(String),
    Remark(String),
    Trouble(String),
}

/// From events to words.
struct Words {
    zone: TimeZone,
    job: String,
    /// What kind of trouble was told last, and when.
    trouble: Option<(&'static str, Instant)>,
}

impl Words {
    /// What is to be said of an event, if anything.
    fn of(&mut self, event: &LogEvent, now: Timestamp, at: Instant) -> Option<Line> {
        let size = |bytes: &u64| human::size(*bytes);
        let clean = |text: &str| human::text(text.as_bytes());
        match event {
            LogEvent::Following { from: Some(from) } => {
                Some(Line::Remark(format!("Following from {}", position(from))))
            }
            LogEvent::Following { from: None } => {
                Some(Line::Remark("Following from now on".to_owned()))
            }
            LogEvent::Stored { position: at, time, waiting_bytes } => {
                let text = self.stored(at, *time, *waiting_bytes, now);
                // That a trouble is over is no line that another one may replace.
                Some(match self.trouble.take() {
                    Some(_) => Line::Remark(format!("Resumed: {text}")),
                    None => Line::Stored(text),
                })
            }
            LogEvent::Delayed { message, waiting_bytes } => {
                let waiting = size(waiting_bytes);
                self.trouble("delayed", at, || {
                    format!("cannot store the log, retrying: {}; {waiting} waiting", clean(message))
                })
            }
            LogEvent::Full { waiting_bytes } => {
                let waiting = size(waiting_bytes);
                self.trouble("full", at, || {
                    format!(
                        "buffer full: {waiting} waiting; the source keeps the rest as long as it \
                         can"
                    )
                })
            }
            LogEvent::Unreachable { message } => self.trouble("unreachable", at, || {
                format!("the server is unreachable: {}; retrying", clean(message))
            }),
            LogEvent::Connected => {
                // The next interruption is another one.
                self.trouble.take_if(|(kind, _)| *kind == "unreachable");
                Some(Line::Remark("Connected again".to_owned()))
            }
            LogEvent::Reconnecting { message, seconds } => self.trouble("reconnecting", at, || {
                format!(
                    "capture interrupted: {}; retrying in {}",
                    clean(message),
                    human::duration(Duration::from_secs(*seconds))
                )
            }),
            LogEvent::Gap { reason } => {
                let (reason, job) = (clean(reason), human::shell(&self.job));
                Some(Line::Trouble(format!(
                    "a part of the log is missing: {reason}; later moments can be restored only \
                     after a new backup with `backup run {job}`"
                )))
            }
            LogEvent::RolledUp { id } => {
                Some(Line::Remark(format!("Rolled up into snapshot {}", id.short())))
            }
            _ => None,
        }
    }

    fn stored(
        &self,
        at: &Position,
        time: Option<Timestamp>,
        waiting: u64,
        now: Timestamp,
    ) -> String {
        let mut text = match time {
            Some(time) => format!(
                "Stored up to {} ({}), {} behind",
                human::full_time(time, &self.zone),
                position(at),
                human::duration(human::between(time, now))
            ),
            None => format!("Stored up to {}", position(at)),
        };
        if waiting > 0 {
            text.push_str(&format!(", {} waiting", human::size(waiting)));
        }
        text
    }

    /// Another trouble is told at once, the same one now and then.
    fn trouble(
        &mut self,
        kind: &'static str,
        at: Instant,
        text: impl FnOnce() -> String,
    ) -> Option<Line> {
        if self
            .trouble
            .is_some_and(|(last, since)| last == kind && at.duration_since(since) < TROUBLE_EVERY)
        {
            return None;
        }
        self.trouble = Some((kind, at));
        Some(Line::Trouble(text()))
    }
}

/// A position, printable: branches are named by servers. Of a replication ID of Redis (40 digits)
/// and the UUID of a replica set of MongoDB (32) the first eight are shown, and positions of
/// PostgreSQL are written as its servers do; `--at` accepts them.
pub(in crate::commands) fn position(position: &Position) -> String {
    let offset = lsn_of(position).unwrap_or_else(|| position.offset.to_string());
    format!("{}@{offset}", branch(&position.branch))
}

/// The name of a branch as [`position`] shows it.
pub(in crate::commands) fn branch(name: &str) -> String {
    let is_id = matches!(name.len(), 32 | 40) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    human::text(if is_id { &name.as_bytes()[..8] } else { name.as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_ids_are_shortened() {
        let id = "a166680e1fb3c23a69270675b69b39fb5d6bf056";
        assert_eq!(position(&Position::new(id, 7)), "a166680e@7");
        assert_eq!(position(&Position::new(&id[..32], 7)), "a166680e@7");
        assert_eq!(position(&Position::new("a\x1b", 7)), human::text(b"a\x1b@7"));
    }

    #[test]
    fn positions_of_postgresql_are_lsns() {
        assert_eq!(position(&Position::new("1", 0x302_E428)), "1@0/302E428");
        assert_eq!(position(&Position::new("12", 0x16_B374_D848)), "12@16/B374D848");
        for other in ["", "main", "12345678901", "+1"] {
            assert_eq!(position(&Position::new(other, 50)), format!("{other}@50"));
        }
    }

    fn words() -> Words {
        Words { zone: TimeZone::UTC, job: "shop".to_owned(), trouble: None }
    }

    fn stored(waiting_bytes: u64) -> LogEvent {
        let time = Some("2026-03-01T12:00:00Z".parse().unwrap());
        LogEvent::Stored { position: Position::new("a", 7), time, waiting_bytes }
    }

    fn delayed() -> LogEvent {
        LogEvent::Delayed { message: "disk\x1b full".to_owned(), waiting_bytes: 2048 }
    }

    #[test]
    fn events_in_words() {
        let (now, at) = ("2026-03-01T12:00:02Z".parse().unwrap(), Instant::now());
        let mut words = words();
        let mut said = |event: LogEvent| match words.of(&event, now, at).unwrap() {
            Line::Stored(text) => format!("~ {text}"),
            Line::Remark(text) => text,
            Line::Trouble(text) => format!("! {text}"),
        };
        assert_eq!(said(LogEvent::Following { from: None }), "Following from now on");
        assert_eq!(
            said(LogEvent::Following { from: Some(Position::new("", 3)) }),
            "Following from @3"
        );
        assert_eq!(said(stored(0)), "~ Stored up to 2026-03-01 12:00:00 UTC (a@7), 2 s behind");
        assert_eq!(
            said(stored(1024)),
            "~ Stored up to 2026-03-01 12:00:00 UTC (a@7), 2 s behind, 1.0 KiB waiting"
        );
        assert_eq!(
            said(delayed()),
            "! cannot store the log, retrying: disk\\u{1b} full; 2.0 KiB waiting"
        );
        assert_eq!(
            said(stored(0)),
            "Resumed: Stored up to 2026-03-01 12:00:00 UTC (a@7), 2 s behind"
        );
        let full = LogEvent::Full { waiting_bytes: 16 << 20 };
        assert!(said(full).starts_with("! buffer full: 16.0 MiB waiting"));
        let lost = LogEvent::Unreachable { message: "connection\x1b reset".to_owned() };
        assert_eq!(said(lost), "! the server is unreachable: connection\\u{1b} reset; retrying");
        assert_eq!(said(LogEvent::Connected), "Connected again");
        let away = LogEvent::Reconnecting { message: "nobody there".to_owned(), seconds: 4 };
        assert_eq!(said(away), "! capture interrupted: nobody there; retrying in 4 s");
        assert!(
            said(LogEvent::Gap { reason: "gone".to_owned() })
                .contains("missing: gone; later moments")
        );
    }

    #[test]
    fn repeated_trouble_is_reported_once_a_minute() {
        let (now, begin) = ("2026-03-01T12:00:02Z".parse().unwrap(), Instant::now());
        let mut words = words();
        let mut is_said = |event: LogEvent, seconds: u64| {
            words.of(&event, now, begin + Duration::from_secs(seconds)).is_some()
        };
        assert!(is_said(delayed(), 0));
        assert!(!is_said(delayed(), 1) && !is_said(delayed(), 59));
        assert!(is_said(delayed(), 60));
        assert!(is_said(LogEvent::Full { waiting_bytes: 1 }, 61), "another one");
        assert!(is_said(stored(0), 62));
        assert!(is_said(delayed(), 63), "it was over");
        let lost = || LogEvent::Unreachable { message: "gone".to_owned() };
        assert!(is_said(lost(), 64) && !is_said(lost(), 65));
        assert!(is_said(LogEvent::Connected, 66) && is_said(lost(), 67), "it was over");
    }
}

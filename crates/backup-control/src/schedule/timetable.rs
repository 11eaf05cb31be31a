//! What is due. All that has to be remembered of a task between two looks, and over a restart, is
//! up to which of its times it was dealt with.
//!
//! ```text
//!    handled          the last of these        now
//! ──────┼────────┼────────────┼─────────────────┼──────▶
//!                 missed      due: once, or missed too, if it is too old
//! ```

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::Cron;

/// Whatever is looked at no later than this after its time is in time.
const IN_TIME: SignedDuration = SignedDuration::from_mins(2);
/// A clock that is put back by no more than this repeats nothing. By more: it was wrong before.
const PUT_BACK: SignedDuration = SignedDuration::from_hours(3);

/// What becomes of times that were missed: nobody looked, or clocks were put forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// They are left out.
    Never,
    /// The last of them is made up for, if it is no older than this.
    Within(Duration),
}

/// The times of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// When.
    pub cron: Cron,
    /// By whose clocks.
    pub zone: TimeZone,
    /// How long after each of its times it begins: always the same.
    pub delay: Duration,
    /// What becomes of missed times.
    pub catch_up: CatchUp,
}

/// What was found by a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Up to which time it is dealt with now.
    pub handled: Timestamp,
    /// What is to be done now.
    pub due: Option<Due>,
    /// The last time that is left out because it was missed.
    pub missed: Option<Timestamp>,
    /// The clock was far ahead before: all starts anew.
    pub put_back: bool,
}

/// Something is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The time it is done for.
    pub time: Timestamp,
    /// It is made up for.
    pub late: bool,
}

impl Timetable {
    /// Looks what is due, when all times up to `handled` were dealt with, each as long after its
    /// time as it begins now.
    #[must_use]
    pub fn look(&self, handled: Timestamp, now: Timestamp) -> Look {
        self.look_again(handled, self.delay, now)
    }

    /// The same, when the last of them was dealt with so long after its time: what it begins later
    /// by is not what a clock was put back by.
    #[must_use]
    pub fn look_again(&self, handled: Timestamp, delayed: Duration, now: Timestamp) -> Look {
        let reached = handled.saturating_add(SignedDuration::try_from(delayed).unwrap_or_default());
        let is_put_back = reached.is_ok_and(|reached| reached.duration_since(now) > PUT_BACK);
        let now = self.delayed(now);
        let nothing = Look { handled, due: None, missed: None, put_back: false };
        if is_put_back {
            return Look { handled: now, put_back: true, ..nothing };
        }
        let Some(time) = self.cron.last(handled, now, &self.zone) else { return nothing };
        let age = now.duration_since(time);
        let late = age > IN_TIME;
        let too_old = match self.catch_up {
            CatchUp::Never => late,
            CatchUp::Within(limit) => late && age.unsigned_abs() > limit,
        };
        let due = (!too_old).then_some(Due { time, late });
        Look { handled: time, due, missed: too_old.then_some(time), put_back: false }
    }

    /// When it begins next, when all times up to `handled` were dealt with. It may be in the past:
    /// then it is due.
    #[must_use]
    pub fn next(&self, handled: Timestamp) -> Option<Timestamp> {
        let time = self.cron.next(handled, &self.zone)?;
        time.checked_add(SignedDuration::try_from(self.delay).ok()?).ok()
    }

    /// What [`Self::look`] takes for a task that begins to be looked at: nothing before it was
    /// missed.
    #[must_use]
    pub fn from_now_on(&self, now: Timestamp) -> Timestamp {
        self.delayed(now)
    }

    fn delayed(&self, now: Timestamp) -> Timestamp {
        let delay = SignedDuration::try_from(self.delay).unwrap_or_default();
        now.checked_sub(delay).unwrap_or(Timestamp::MIN)
    }
}

/// The delay of a task: less than `jitter`, in seconds, the same every time, and another one for
/// another task or host.
#[must_use]
pub fn delay(task: &str, host: &str, jitter: Duration) -> Duration {
    let hash = Sha256::digest(format!("{host}\0{task}"));
    let number = hash[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_secs(number.checked_rem(jitter.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn table(cron: &str, catch_up: CatchUp) -> Timetable {
        Timetable {
            cron: cron.parse().unwrap(),
            zone: TimeZone::UTC,
            delay: Duration::ZERO,
            catch_up,
        }
    }

    #[test]
    fn missed_times_are_made_up_for_once() {
        let hourly = table("0 * * * *", CatchUp::Within(Duration::from_secs(86_400)));
        let look = hourly.look(at("2026-05-01T00:00:00Z"), at("2026-05-09T10:30:00Z"));
        let due = Due { time: at("2026-05-09T10:00:00Z"), late: true };
        assert_eq!((look.due, look.handled), (Some(due), due.time));
        assert_eq!(hourly.look(look.handled, at("2026-05-09T10:59:00Z")).due, None);
        assert_eq!(hourly.next(look.handled), Some(at("2026-05-09T11:00:00Z")));
        let look = hourly.look(look.handled, at("2026-05-09T11:01:59Z"));
        assert_eq!(look.due, Some(Due { time: at("2026-05-09T11:00:00Z"), late: false }));
    }

    #[test]
    fn what_is_too_old_is_left_out() {
        for (catch_up, is_done) in [
            (CatchUp::Never, false),
            (CatchUp::Within(Duration::from_secs(3 * 3600)), false),
            (CatchUp::Within(Duration::from_secs(5 * 3600)), true),
        ] {
            let look = table("0 6 * * *", catch_up)
                .look(at("2026-05-01T06:00:00Z"), at("2026-05-09T10:00:00Z"));
            assert_eq!(
                (look.due.is_some(), look.missed.is_none()),
                (is_done, is_done),
                "{catch_up:?}"
            );
            assert_eq!(look.handled, at("2026-05-09T06:00:00Z"));
        }
    }

    #[test]
    fn a_clock_that_is_put_back() {
        let hourly = table("0 * * * *", CatchUp::Never);
        let handled = at("2026-05-01T12:00:00Z");
        // Two hours: nothing comes twice.
        let look = hourly.look(handled, at("2026-05-01T10:00:01Z"));
        assert_eq!((look.due, look.handled, look.put_back), (None, handled, false));
        // Years: it goes on from now.
        let now = at("2016-05-01T10:00:01Z");
        let look = hourly.look(handled, now);
        assert_eq!((look.due, look.handled, look.put_back), (None, now, true));
        assert!(hourly.look(look.handled, at("2016-05-01T11:00:00Z")).due.is_some());
    }

    #[test]
    fn a_raised_jitter_is_no_clock_that_was_put_back() {
        let of = |hours: u64| Timetable {
            delay: Duration::from_secs(hours * 3600),
            ..table("0 6 * * *", CatchUp::Within(Duration::from_secs(86_400)))
        };
        let handled = at("2026-05-01T06:00:00Z");
        // Dealt with at once, at six; from eight o'clock on it begins twenty hours later.
        let raised = of(20);
        let look = raised.look_again(handled, Duration::ZERO, at("2026-05-01T08:00:00Z"));
        assert_eq!((look.due, look.handled, look.put_back), (None, handled, false));
        // Not a second time for the first of May, and in time for the second.
        let look = raised.look_again(handled, Duration::ZERO, at("2026-05-02T02:01:00Z"));
        assert_eq!((look.due, look.put_back), (None, false));
        let due = Due { time: at("2026-05-02T06:00:00Z"), late: false };
        assert_eq!(
            raised.look_again(handled, Duration::ZERO, at("2026-05-03T02:00:30Z")).due,
            Some(due)
        );
        // And lowered again: dealt with at two in the night, twenty hours after its time.
        let lowered =
            of(0).look_again(handled, Duration::from_secs(20 * 3600), at("2026-05-02T03:00:00Z"));
        assert_eq!((lowered.due, lowered.put_back), (None, false));
        // A clock that was put back is one all the same.
        assert!(raised.look_again(handled, Duration::ZERO, at("2026-05-01T02:00:00Z")).put_back);
    }

    #[test]
    fn delays_are_short_and_stay_the_same() {
        let jitter = Duration::from_secs(600);
        let of = |task, host| delay(task, host, jitter);
        assert_eq!(of("a", "h"), of("a", "h"));
        assert!(
            of("a", "h") < jitter && of("a", "h") != of("b", "h") && of("a", "h") != of("a", "i")
        );
        assert_eq!(delay("a", "h", Duration::ZERO), Duration::ZERO);
        let late =
            Timetable { delay: Duration::from_secs(90), ..table("0 6 * * *", CatchUp::Never) };
        let handled = at("2026-05-01T06:00:00Z");
        assert_eq!(late.next(handled), Some(at("2026-05-02T06:01:30Z")));
        assert_eq!(late.look(handled, at("2026-05-02T06:01:29Z")).due, None);
        let due = Due { time: at("2026-05-02T06:00:00Z"), late: false };
        assert_eq!(late.look(handled, at("2026-05-02T06:01:30Z")).due, Some(due));
        // Begun between a time and its delay: that time still comes.
        assert_eq!(
            late.next(late.from_now_on(at("2026-05-02T06:00:10Z"))),
            Some(at("2026-05-02T06:01:30Z"))
        );
    }
}

//! The present, for decisions that remove or expire something.
//!
//! A store with a clock of its own decides. A disk has none: there the clock of this machine
//! decides, unless it contradicts the latest accepted time, a record in `x-store/seen`. A clock in
//! doubt never moves the record, so that a wrong one stays in doubt however often it is read.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::store_clock::StoreClock;
use super::{Repository, SnapshotInfo, layout};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{open_json, seal_json};
use crate::sink::{SinkErrorKind, SinkOps};

/// A clock that is earlier than the latest accepted time by more than this is in doubt. Machines
/// that share a repository differ by less.
const BEHIND: SignedDuration = SignedDuration::from_hours(24);
/// A clock that is later than the latest accepted time by more than this is in doubt: the longest
/// month and a day.
const AHEAD: SignedDuration = SignedDuration::from_hours(32 * 24);
/// The record moves by at least this, so that many backups in an hour write it once.
const STEP: SignedDuration = SignedDuration::from_hours(1);

/// A contradiction between the clock of this machine and the latest accepted time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockDoubt {
    /// The time by the clock of this machine.
    pub clock: Timestamp,
    /// The latest accepted time.
    pub seen: Timestamp,
}

impl ClockDoubt {
    /// The remedy, as a hint for users.
    pub const REMEDY: &str =
        "correct the clock; if it is right, run the command once with --clock-is-right";

    /// True if the clock is later than expected, false if it is earlier than the accepted time.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.clock > self.seen
    }

    /// The contradiction as a clause, with both times.
    #[must_use]
    pub fn describe(&self) -> String {
        let (clock, seen) = (self.clock, self.seen);
        let side = if self.is_ahead() { "long after" } else { "before" };
        format!(
            "the clock of this machine shows {clock:.0}, {side} {seen:.0}, the latest time that \
             is known of this repository"
        )
    }

    /// The refusal to remove anything: an error of kind [`ErrorKind::Invalid`].
    #[must_use]
    pub fn refusal(&self) -> Error {
        Error::new(ErrorKind::Invalid, format!("nothing is removed: {}", self.describe()))
            .with_hint(Self::REMEDY)
    }
}

/// The present by which snapshots expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    time: Timestamp,
    doubt: Option<ClockDoubt>,
    offset: Option<SignedDuration>,
}

impl Present {
    /// A present without doubt.
    #[must_use]
    pub fn certain(time: Timestamp) -> Self {
        Self { time, doubt: None, offset: None }
    }

    /// The present by the clock of a store, when the clock of this machine showed `here`.
    #[must_use]
    pub fn of_store(store: Timestamp, here: Timestamp) -> Self {
        Self { offset: Some(here.duration_until(store)), ..Self::certain(store) }
    }

    /// The present by the clock of this machine, compared with the latest accepted time.
    #[must_use]
    pub fn of(clock: Timestamp, seen: Option<Timestamp>) -> Self {
        let Some(seen) = seen else { return Self::certain(clock) };
        let since = seen.duration_until(clock);
        if since > AHEAD || since < -BEHIND {
            let doubt = Some(ClockDoubt { clock, seen });
            return Self { time: clock.min(seen), doubt, offset: None };
        }
        Self::certain(clock)
    }

    /// The time that counts. In doubt the earlier one: nothing expires too early.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The time from which durations count. In doubt the later one: no hold ends too early.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.doubt.map_or(self.time, |doubt| doubt.clock.max(doubt.seen))
    }

    /// The contradiction, if there is one. Nothing may be removed then without a person.
    #[must_use]
    pub fn doubt(&self) -> Option<ClockDoubt> {
        self.doubt
    }

    /// Difference between the store's clock and that of this machine, positive if the store's is
    /// later; none if the store has no clock of its own.
    #[must_use]
    pub fn offset(&self) -> Option<SignedDuration> {
        self.offset
    }

    /// The same present if a person vouches for the clock.
    #[must_use]
    pub fn vouched_for(self) -> Self {
        self.doubt.map_or(self, |doubt| Self::certain(doubt.clock))
    }
}

/// The stored record.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    time: Timestamp,
}

impl Repository {
    /// The present. Writes an empty object for a moment, where the store has a clock of its own.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn present(&self, cx: &Context) -> Result<Present> {
        Ok(self.present_and_record(cx).await?.0)
    }

    /// Compares the clock of this machine with the latest accepted time, and records it if it is
    /// plausible. Does nothing where the store has a clock of its own.
    pub(crate) async fn record_present(&self, cx: &Context) -> Result<Option<ClockDoubt>> {
        if self.sink().capabilities().own_clock {
            return Ok(None);
        }
        let (present, recorded) = self.present_and_record(cx).await?;
        let next = present.doubt.map_or(present.time, |doubt| doubt.seen);
        let is_due = recorded.is_none_or(|recorded| recorded.duration_until(next) >= STEP);
        if is_due {
            self.put_seen(next).await?;
        }
        Ok(present.doubt)
    }

    /// Records that a person vouches for the clock of this machine.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn confirm_clock(&self, cx: &Context) -> Result<()> {
        match self.sink().capabilities().own_clock {
            true => Ok(()),
            false => self.put_seen(cx.clock.now()).await,
        }
    }

    /// Fails if the clock is in doubt.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] names both times; those of the sink.
    pub(crate) async fn require_right_clock(&self, cx: &Context) -> Result<()> {
        match self.record_present(cx).await? {
            Some(doubt) => Err(doubt.refusal()),
            None => Ok(()),
        }
    }

    /// The present, and the recorded time.
    async fn present_and_record(&self, cx: &Context) -> Result<(Present, Option<Timestamp>)> {
        if self.sink().capabilities().own_clock {
            // Without the right to write an object the clock is unknown, and nothing can be removed.
            let both = StoreClock::read(self, cx).await?.both();
            let unread = || Present::certain(cx.clock.now());
            let present = both.map_or_else(unread, |(store, here)| Present::of_store(store, here));
            return Ok((present, None));
        }
        let recorded = self.seen().await?;
        let seen = match recorded {
            Some(time) => Some(time),
            // Of a time before the record existed.
            None => latest_before_a_jump(&self.snapshots(cx).await?.snapshots),
        };
        Ok((Present::of(cx.clock.now(), seen), recorded))
    }

    async fn seen(&self) -> Result<Option<Timestamp>> {
        match self.sink().get_bytes(&layout::seen()).await {
            // A damaged record is written again.
            Ok(sealed) => Ok(open_json(self.key(), &sealed).ok().map(|seen: Seen| seen.time)),
            Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_seen(&self, time: Timestamp) -> Result<()> {
        let sealed = seal_json(self.key(), &Seen { time })?;
        self.sink().put_bytes(&layout::seen(), sealed).await?;
        Ok(())
    }
}

/// The time of the newest snapshot. If those of the last month follow a longer pause, the clock may
/// have jumped: then the time of the one before it.
fn latest_before_a_jump(snapshots: &[SnapshotInfo]) -> Option<Timestamp> {
    let newest = snapshots.last()?.time();
    let is_recent = |time: Timestamp| time.duration_until(newest) <= AHEAD;
    let jump = snapshots.windows(2).rev().find_map(|pair| {
        let [before, after] = [pair[0].time(), pair[1].time()];
        (is_recent(after) && before.duration_until(after) > AHEAD).then_some(before)
    });
    Some(jump.unwrap_or(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The clock, the latest accepted time, the time that counts if there is a doubt.
    #[test]
    fn clocks_are_doubted_by_the_latest_time() {
        let cases = [
            ("2026-11-26T12:00:00Z", "-", None),
            ("2026-11-26T12:00:00Z", "2026-11-26T02:00:00Z", None),
            // A month between two backups, and a clock that is a little behind.
            ("2026-12-27T12:00:00Z", "2026-11-26T02:00:00Z", None),
            ("2026-11-25T12:00:00Z", "2026-11-26T02:00:00Z", None),
            ("2026-12-28T12:00:00Z", "2026-11-26T02:00:00Z", Some("2026-11-26T02:00:00Z")),
            ("2034-11-26T12:00:00Z", "2026-11-26T02:00:00Z", Some("2026-11-26T02:00:00Z")),
            ("2026-11-25T01:00:00Z", "2026-11-26T02:00:00Z", Some("2026-11-25T01:00:00Z")),
            ("1970-01-01T00:00:00Z", "2026-11-26T02:00:00Z", Some("1970-01-01T00:00:00Z")),
        ];
        for (clock, seen, counts) in cases {
            let present = Present::of(at(clock), (seen != "-").then(|| at(seen)));
            let doubt = counts.map(|_| ClockDoubt { clock: at(clock), seen: at(seen) });
            assert_eq!(present.doubt(), doubt, "{clock} after {seen}");
            assert_eq!(present.time(), at(counts.unwrap_or(clock)), "{clock} after {seen}");
            let latest = if counts.is_some() { at(clock).max(at(seen)) } else { at(clock) };
            assert_eq!(present.latest(), latest, "{clock} after {seen}");
            assert_eq!(present.vouched_for(), Present::certain(at(clock)));
        }
    }
}

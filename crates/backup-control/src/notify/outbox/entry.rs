//! A message that waits in the outbox, and when it is tried again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::notify::message::{Message, digest};

/// How long to wait after the first try; twice as long after each other one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Nothing is waited for longer, unless the other side asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Nor longer than this, whatever it asks for, and whatever a clock that was wrong has left behind.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);
/// What cannot be sent for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// A message for one channel. No secrets: those of the channel are fetched when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name of the channel.
    pub channel: String,
    /// The message.
    pub message: Message,
    /// How often it was tried to send it.
    pub tries: u32,
    /// When it was tried first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// When it was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// It is not tried before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Why the last try failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Those of several recipients who have it already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<String>,
}

impl Entry {
    pub(super) fn new(channel: &str, message: &Message) -> Self {
        let (channel, message) = (channel.to_owned(), message.clone());
        Self {
            channel,
            message,
            tries: 0,
            first: None,
            last: None,
            next: None,
            error: None,
            reached: Vec::new(),
        }
    }

    /// The name of its file, without what follows the dot.
    pub(super) fn key(&self) -> String {
        key(&self.channel, &self.message.id)
    }

    /// How long it is not tried yet; nothing if it is due.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        let wait = self
            .next
            .and_then(|next| Duration::try_from(next.duration_since(now)).ok())
            .unwrap_or_default();
        if wait > LONGEST_WAIT { Duration::ZERO } else { wait }
    }

    /// A try begins: should this process die in it, the next one is not at once.
    pub(super) fn begin_try(&mut self, now: Timestamp) {
        self.tries = self.tries.saturating_add(1);
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.next = later(now, pause(self.tries, rand::random()));
    }

    /// The try failed; the other side may have said when to try again.
    pub(super) fn failed(&mut self, now: Timestamp, why: &str, after: Option<Duration>) {
        self.error = Some(why.to_owned());
        let asked = after.unwrap_or_default().min(LONGEST_WAIT);
        self.next = later(now, pause(self.tries, rand::random()).max(asked));
    }

    /// Whether there was time enough to send it.
    pub(super) fn is_hopeless(&self, now: Timestamp) -> bool {
        let age = self.first.and_then(|first| Duration::try_from(now.duration_since(first)).ok());
        age.is_some_and(|age| age > PATIENCE)
    }

    /// As if nobody had tried it yet; those who have it keep it.
    pub(super) fn renewed(self) -> Self {
        Self { tries: 0, first: None, last: None, next: None, ..self }
    }
}

/// The name of the file of a message for a channel.
pub(super) fn key(channel: &str, id: &str) -> String {
    digest(&[channel, id])
}

fn later(now: Timestamp, time: Duration) -> Option<Timestamp> {
    now.checked_add(time).ok()
}

/// How long to wait after so many tries: up to a fifth more or less, so that not all come at once.
fn pause(tries: u32, random: u8) -> Duration {
    let factor = 2_u32.saturating_pow(tries.saturating_sub(1));
    let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
    pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::tests::message;

    const NOW: &str = "2026-11-23T08:00:00Z";

    #[test]
    fn pauses_grow_and_end() {
        let seconds = |tries| (pause(tries, 0).as_secs(), pause(tries, 255).as_secs());
        assert_eq!([1, 2, 3, 7].map(seconds), [(4, 6), (8, 12), (16, 24), (256, 384)]);
        assert_eq!([11, 40, u32::MAX].map(seconds), [(2880, 4320); 3]);
    }

    #[test]
    fn an_entry_waits_and_hopes_so_long() {
        let now: Timestamp = NOW.parse().unwrap();
        let mut entry = Entry::new("mail", &message());
        assert_eq!(entry.wait(now), Duration::ZERO);
        entry.begin_try(now);
        assert!((4..=6).contains(&entry.wait(now).as_secs()), "{:?}", entry.wait(now));
        entry.failed(now, "no", Some(Duration::from_secs(600)));
        assert_eq!(entry.wait(now), Duration::from_secs(600));
        entry.failed(now, "no", Some(Duration::from_secs(86_400 * 30)));
        assert_eq!(entry.wait(now), LONGEST_WAIT);
        assert_eq!(
            entry.wait(now - Duration::from_secs(86_400)),
            Duration::ZERO,
            "the clock was wrong"
        );
        assert!(!entry.is_hopeless(now + PATIENCE));
        assert!(entry.is_hopeless(now + PATIENCE + Duration::from_secs(1)));
        let renewed = entry.renewed();
        assert_eq!(
            (renewed.tries, renewed.wait(now), renewed.is_hopeless(now + PATIENCE * 2)),
            (0, Duration::ZERO, false)
        );
    }
}

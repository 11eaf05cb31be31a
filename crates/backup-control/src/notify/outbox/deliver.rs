//! Delivering what waits: all channels at the same time, each in its own order and at its own pace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::time::Duration;

use backup_core::context::Context;
use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::{Entry, Outbox};
use crate::notify::channels::Channels;
use crate::notify::kinds::{Failure, Reached};

/// How often it is asked whether another process still delivers through a channel.
const ASK: Duration = Duration::from_millis(100);

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The name of the channel.
    pub channel: String,
    /// What the message says in one line.
    pub subject: String,
}

/// A message that is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GivenUp {
    /// The name of the channel.
    pub channel: String,
    /// What the message says in one line.
    pub subject: String,
    /// Why, without secrets.
    pub why: String,
}

/// What waits for a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StillWaiting {
    /// So many messages.
    pub messages: usize,
    /// Why the last try failed, without secrets; none if there was none.
    pub error: Option<String>,
    /// When one of them is tried next, if not at once.
    pub next: Option<Timestamp>,
}

/// What came of delivering.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Delivered {
    /// What was sent.
    pub sent: Vec<Sent>,
    /// What waits for another try, by channel.
    pub waiting: BTreeMap<String, StillWaiting>,
    /// What is not tried again: it was refused for good, or could not be sent for 7 days.
    pub given_up: Vec<GivenUp>,
    /// What is wrong with the outbox itself.
    pub trouble: Vec<String>,
}

impl Delivered {
    /// Whether everything is sent.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.given_up.is_empty() && self.trouble.is_empty()
    }

    fn troubled(&mut self, doing: &str, error: &io::Error) {
        self.trouble.push(format!("{doing}: {error}"));
    }

    fn take(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.given_up.extend(other.given_up);
        self.trouble.extend(other.trouble);
    }
}

/// When the last try begins at the latest, if it is not the first.
struct Until {
    time: Instant,
    tried: bool,
}

impl Until {
    /// Whether it is too late for a try, which is made otherwise.
    fn is_over(&mut self) -> bool {
        std::mem::replace(&mut self.tried, true) && Instant::now() >= self.time
    }
}

/// Those that were tried least first, and of each incident what was told of it first: nobody hears
/// that something is over before that it began.
fn in_turn(waiting: Vec<Entry>) -> Vec<Entry> {
    let mut incidents = BTreeMap::<String, Vec<Entry>>::new();
    for entry in waiting {
        incidents.entry(entry.message.incident.clone()).or_default().push(entry);
    }
    let mut incidents: Vec<Vec<Entry>> = incidents.into_values().collect();
    for entries in &mut incidents {
        entries.sort_by_cached_key(|entry| (entry.message.time, entry.key()));
    }
    incidents.sort_by_cached_key(|entries| {
        entries.first().map(|entry| (entry.tries, entry.message.time, entry.key()))
    });
    incidents.into_iter().flatten().collect()
}

impl Outbox {
    /// Sends what waits. Each channel is tried once, also if there is no time; other tries begin
    /// within the time that is given, as far as pauses allow. The last one may take as much longer
    /// as its channel may take. Whatever happens is in what is returned.
    ///
    /// Another process that delivers through a channel is waited for, within that time. Dropping
    /// this, or cancelling it, may leave a message that is sent once more.
    pub async fn deliver(&self, channels: &Channels, cx: &Context, within: Duration) -> Delivered {
        let mut delivered = Delivered::default();
        let until = Instant::now() + within;
        match self.channels_that_wait() {
            Ok((names, newer)) => {
                delivered.trouble = newer;
                let all = names.iter().map(|name| self.serve(name, channels, cx, until));
                join_all(all).await.into_iter().for_each(|of_channel| delivered.take(of_channel));
            }
            Err(error) => delivered.troubled("cannot read the outbox", &error),
        }
        if let Err(error) = self.summarize(cx.clock.now(), &mut delivered) {
            delivered.troubled("cannot read the outbox", &error);
        }
        delivered
    }

    /// The channels with messages, and the messages that a newer program wrote, in words: these
    /// stay for that program.
    fn channels_that_wait(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let _lock = self.files.lock()?;
        let listed = self.files.list_waiting()?;
        listed.unreadable.iter().try_for_each(|path| self.files.put_aside(path))?;
        let mut names: Vec<String> =
            listed.entries.into_iter().map(|entry| entry.channel).collect();
        names.sort_unstable();
        names.dedup();
        let newer = listed
            .newer
            .iter()
            .map(|(path, why)| format!("a message stays in the outbox, {}: {why}", path.display()));
        Ok((names, newer.collect()))
    }

    fn summarize(&self, now: Timestamp, delivered: &mut Delivered) -> io::Result<()> {
        delivered.waiting = self.still_waiting(now)?;
        self.files.tidy(now)
    }

    /// What waits, by channel.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn still_waiting(&self, now: Timestamp) -> io::Result<BTreeMap<String, StillWaiting>> {
        let mut all = BTreeMap::<String, StillWaiting>::new();
        let mut entries = self.files.list_waiting()?.entries;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        for entry in entries {
            let next = entry.next.filter(|_| !entry.wait(now).is_zero());
            let waiting = all
                .entry(entry.channel)
                .or_insert_with(|| StillWaiting { next, ..StillWaiting::default() });
            waiting.messages += 1;
            // Nothing is earlier than at once.
            waiting.next = waiting.next.zip(next).map(|(one, other)| one.min(other));
            waiting.error = waiting.error.take().or(entry.error);
        }
        Ok(all)
    }

    /// Delivers through one channel.
    async fn serve(
        &self,
        channel: &str,
        channels: &Channels,
        cx: &Context,
        until: Instant,
    ) -> Delivered {
        let mut done = Delivered::default();
        let served = async {
            let Some(_lock) = self.take(channel, cx, until).await? else { return Ok(()) };
            let mut may_try = Until { time: until, tried: false };
            while let Some(pause) =
                self.pass(channel, channels, cx, &mut may_try, &mut done).await?
            {
                if cx.cancel.is_cancelled() || Instant::now() + pause >= until {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause.max(ASK)) => {}
                    () = cx.cancel.cancelled() => break,
                }
            }
            Ok(())
        };
        if let Err(error) = served.await {
            done.troubled("cannot use the outbox", &error);
        }
        done
    }

    /// The right to deliver through a channel; none if another process has it all the time.
    async fn take(&self, channel: &str, cx: &Context, until: Instant) -> io::Result<Option<File>> {
        loop {
            if let Some(lock) = self.files.try_lock(channel)? {
                return Ok(Some(lock));
            }
            if cx.cancel.is_cancelled() || Instant::now() + ASK >= until {
                return Ok(None);
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Tries what is due, until one try fails; returns how long to pause before the next pass, or
    /// nothing if nothing waits.
    async fn pass(
        &self,
        channel: &str,
        channels: &Channels,
        cx: &Context,
        may_try: &mut Until,
        done: &mut Delivered,
    ) -> io::Result<Option<Duration>> {
        let mut waiting = self.files.list_waiting()?.entries;
        waiting.retain(|entry| entry.channel == channel);
        let now = cx.clock.now();
        let (mut pause, mut paused) = (None::<Duration>, None::<String>);
        for entry in in_turn(waiting) {
            if paused.as_ref() == Some(&entry.message.incident) {
                continue;
            }
            let wait = entry.wait(now);
            if !wait.is_zero() {
                pause = Some(pause.map_or(wait, |pause| pause.min(wait)));
                paused = Some(entry.message.incident);
                continue;
            }
            if cx.cancel.is_cancelled() || may_try.is_over() {
                return Ok(Some(Duration::ZERO));
            }
            // What ails the channel would ail the next message too.
            if let Some(pause) = self.attempt(entry, channels, cx, done).await? {
                return Ok(Some(pause));
            }
            // There may be more by now.
            pause = Some(Duration::ZERO);
        }
        Ok(pause)
    }

    /// Tries to send a message; returns how long the channel should be left alone, if it could not
    /// be sent now.
    async fn attempt(
        &self,
        mut entry: Entry,
        channels: &Channels,
        cx: &Context,
        done: &mut Delivered,
    ) -> io::Result<Option<Duration>> {
        let key = entry.key();
        {
            let _lock = self.files.lock()?;
            // Whoever sent it died before it was removed.
            if self.files.is_sent(&key) {
                self.files.remove_waiting(&key)?;
                return Ok(None);
            }
            entry.begin_try(cx.clock.now());
            self.files.write(&entry)?;
        }
        let (channel, message) = (entry.channel.clone(), entry.message.clone());
        let outcome = {
            let mut reached = Reached::new(entry.reached.clone(), |all| {
                entry.reached = all.to_vec();
                let _lock = self.files.lock()?;
                self.files.write(&entry)
            });
            channels.send(&channel, &message, &mut reached, cx).await
        };
        let (now, subject) = (cx.clock.now(), message.subject());
        let _lock = self.files.lock()?;
        let why = match outcome {
            Ok(()) => {
                done.sent.push(Sent { channel, subject });
                self.files.record_sent(&key, now)?;
                return Ok(None);
            }
            Err(Failure::Later { why, after }) => {
                entry.failed(now, &why, after);
                if !entry.is_hopeless(now) {
                    self.files.write(&entry)?;
                    return Ok(Some(entry.wait(now)));
                }
                format!("not sent within 7 days: {why}")
            }
            Err(Failure::Refused { why }) => why,
        };
        entry.error = Some(why.clone());
        self.files.record_failed(&entry)?;
        done.given_up.push(GivenUp { channel, subject, why });
        Ok(None)
    }
}

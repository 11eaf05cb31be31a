//! The outbox: messages on their way, in files, so that nothing is lost when a channel is away, a
//! process dies or the power fails.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Outbox`]: putting messages in ([`Put`]), looking at them |
//! | `entry.rs` | [`Entry`]: a message that waits, and when it is tried again |
//! | `files.rs` | the files, their locks, what is remembered of what was sent |
//! | `deliver.rs` | delivering: [`Delivered`] |
//! | `tests.rs` | tests of it |
//!
//! A message is written before anything is sent, and its file goes only after it is recorded as
//! sent. So none is lost; a process that dies between sending and recording leaves one that is sent
//! once more. Several processes may put and deliver at once: one of them at a time delivers through
//! a channel, and the operating system frees the locks of those that die.

mod deliver;
mod entry;
mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use deliver::{Delivered, GivenUp, Sent, StillWaiting};
pub use entry::Entry;

use super::message::Message;
use files::Files;

/// Messages that may wait for one channel, and how many bytes.
const MAX_WAITING: usize = 500;
const MAX_BYTES: usize = 64 << 20;
/// Bytes of one message.
const MAX_MESSAGE: usize = 8 << 20;

/// What came of putting a message in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is known already: it waits, was sent or was given up within the last 30 days.
    Known,
    /// It waits.
    Waits {
        /// What was given up because too much waited, in one line each.
        given_up: Vec<String>,
    },
}

impl Put {
    /// Whether it was not known.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Waits { .. })
    }
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Outbox {
    files: Files,
}

impl Outbox {
    /// The outbox in a state directory. It is made, for this user only.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        Ok(Self { files: Files::open(state_dir)? })
    }

    /// Puts a message in, for a channel. If too much waits for the channel, what matters least and
    /// is oldest is given up, which may be this one.
    ///
    /// # Errors
    /// Those of the file system; the message is too large.
    pub fn put(&self, channel: &str, message: &Message) -> io::Result<Put> {
        let entry = Entry::new(channel, message);
        let size = size(&entry)?;
        if size > MAX_MESSAGE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the message is larger than 8 MiB",
            ));
        }
        let _lock = self.files.lock()?;
        if self.files.knows(&entry.key()) {
            return Ok(Put::Known);
        }
        self.files.write(&entry)?;
        Ok(Put::Waits { given_up: self.make_room(channel)? })
    }

    /// Gives up what is too much for a channel; returns what each of it says in one line.
    fn make_room(&self, channel: &str) -> io::Result<Vec<String>> {
        let mut waiting = self.files.list_waiting()?.entries;
        waiting.retain(|entry| entry.channel == channel);
        waiting.sort_by_cached_key(|entry| {
            std::cmp::Reverse((entry.message.severity, entry.message.time))
        });
        let mut bytes = waiting.iter().map(size).sum::<io::Result<usize>>()?;
        let mut given_up = Vec::new();
        while waiting.len() > MAX_WAITING || bytes > MAX_BYTES {
            let Some(mut victim) = waiting.pop() else { break };
            bytes -= size(&victim)?;
            victim.error = Some("the queue of this channel was full".to_owned());
            self.files.record_failed(&victim)?;
            given_up.push(victim.message.subject());
        }
        Ok(given_up)
    }

    /// What waits, those that are tried next first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn waiting(&self) -> io::Result<Vec<Entry>> {
        Ok(self.files.list_waiting()?.entries)
    }

    /// What was given up, the oldest first, with the reason in [`Entry::error`]; and files that
    /// cannot be understood.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn failed(&self) -> io::Result<(Vec<Entry>, Vec<PathBuf>)> {
        let mut listed = self.files.list_failed()?;
        listed.entries.sort_by_cached_key(|entry| (entry.message.time, entry.key()));
        Ok((listed.entries, listed.unreadable))
    }

    /// Makes everything that waits due at once, whatever pauses it keeps.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn hurry(&self) -> io::Result<()> {
        let _lock = self.files.lock()?;
        for entry in
            self.files.list_waiting()?.entries.into_iter().filter(|entry| entry.next.is_some())
        {
            self.files.write(&Entry { next: None, ..entry })?;
        }
        Ok(())
    }

    /// Lets what was given up wait again; returns how many.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn renew_failed(&self) -> io::Result<usize> {
        let _lock = self.files.lock()?;
        let entries = self.files.list_failed()?.entries;
        let count = entries.len();
        entries.into_iter().try_for_each(|entry| self.files.renew(entry))?;
        Ok(count)
    }

    /// Removes what was given up, for good; returns how many.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn discard_failed(&self) -> io::Result<usize> {
        let _lock = self.files.lock()?;
        let listed = self.files.list_failed()?;
        listed.entries.iter().try_for_each(|entry| self.files.remove_failed(&entry.key()))?;
        listed.unreadable.iter().try_for_each(std::fs::remove_file)?;
        Ok(listed.entries.len() + listed.unreadable.len())
    }
}

fn size(entry: &Entry) -> io::Result<usize> {
    Ok(serde_json::to_vec(entry).map_err(io::Error::other)?.len())
}

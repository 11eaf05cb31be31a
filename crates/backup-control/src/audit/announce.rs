//! Copies of the log outside this machine: the newest anchor, and the records that are announced
//! through notification channels.
//!
//! ```text
//!  STATE/audit-anchored.json     the newest record that a repository holds an anchor of
//!  STATE/audit-announced.json    the newest record that was examined for an announcement
//! ```

use std::io;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::configuration::write;
use super::file::{Audit, Error, Head};
use super::{Class, Record, Status};
use crate::notify::{Kind, Message, Severity};

/// Announced operations: they change rights, schedules and alerts. An operation counts with all that
/// begin with its words.
const ANNOUNCED: [&str; 13] = [
    "token",
    "api pause",
    "api resume",
    "api cancel",
    "api silence",
    "api unsilence",
    "silence",
    "unsilence",
    "key",
    "release",
    "config change",
    "notify discard",
    "audit retain",
];
/// Age up to which records are announced if none was announced before.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// A position in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    chain: String,
    sequence: u64,
}

impl From<&Head> for Position {
    fn from(head: &Head) -> Self {
        Self { chain: head.chain.clone(), sequence: head.sequence }
    }
}

impl Audit {
    /// The head of the chain, if no repository is known to hold an anchor of it. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn unanchored(&self) -> Result<Option<Head>, Error> {
        let Some(head) = self.head()? else { return Ok(None) };
        let is_anchored = self
            .position("anchored")
            .is_some_and(|known| known.chain == head.chain && known.sequence >= head.sequence);
        Ok((!is_anchored).then_some(head))
    }

    /// Notes that a repository holds an anchor of `head`. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn note_anchored(&self, head: &Head) -> Result<(), Error> {
        let _lock = self.lock_of(&self.note("anchored").with_extension("lock"))?;
        let new = Position::from(head);
        match self.position("anchored") {
            Some(known) if known.chain == new.chain && known.sequence >= new.sequence => Ok(()),
            _ => write(&self.note("anchored"), &new).map_err(|error| self.failed(error)),
        }
    }

    /// Calls `put` for the message of each record that is to be announced and was not, and notes
    /// them as announced. Returns the number of messages. Blocks.
    ///
    /// # Errors
    /// [`Error`], also for an error of `put`: the record is announced next time.
    pub fn announce(
        &self,
        now: Timestamp,
        mut put: impl FnMut(&Message) -> io::Result<()>,
    ) -> Result<u64, Error> {
        let _lock = self.lock_of(&self.note("announced").with_extension("lock"))?;
        let Some(head) = self.head()? else { return Ok(0) };
        let known = self.position("announced").filter(|known| known.chain == head.chain);
        let is_new = |sequence: u64, record: &Record| match &known {
            Some(known) => sequence > known.sequence,
            None => now.duration_since(record.timestamp) < RECENT,
        };
        let mut count = 0;
        for line in self.lines()? {
            let Some(line) = line.map_err(|error| self.failed(error))? else { continue };
            let sequence = line.sequence;
            let Some(record) = line.record().filter(|_| sequence <= head.sequence) else {
                continue;
            };
            if is_new(sequence, &record) && is_announced(&record) {
                put(&message(&head.chain, sequence, &record))
                    .map_err(|error| self.failed(error))?;
                count += 1;
            }
        }
        write(&self.note("announced"), &Position::from(&head))
            .map_err(|error| self.failed(error))?;
        Ok(count)
    }

    fn note(&self, name: &str) -> PathBuf {
        self.path().with_file_name(format!("audit-{name}.json"))
    }

    /// An unreadable note counts as none.
    fn position(&self, name: &str) -> Option<Position> {
        serde_json::from_slice(&std::fs::read(self.note(name)).ok()?).ok()
    }
}

fn is_announced(record: &Record) -> bool {
    let begins = |known: &&str| {
        let rest = record.operation.strip_prefix(*known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    record.class != Class::Access && ANNOUNCED.iter().any(begins)
}

fn message(chain: &str, sequence: u64, record: &Record) -> Message {
    let Record { operation, user, host, status, details, .. } = record;
    let done = if *status == Status::Success { "" } else { ", which did not succeed" };
    let about: Vec<String> =
        details.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let id = format!("audit/{chain}/{sequence}");
    Message {
        incident: id.clone(),
        id,
        kind: Kind::Notice,
        severity: Severity::High,
        title: format!("{user} ran `{operation}`{done}"),
        place: format!("audit log of host {host}, record {sequence}"),
        cause: about.join(", "),
        next: "none, if the operation is intended".to_owned(),
        job: details.get("job").cloned(),
        time: record.timestamp,
        details: [("status".to_owned(), status.as_str().to_owned())].into(),
        html: None,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::machine::Machine;

    #[test]
    fn records_are_anchored_and_announced_once() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { host: "h".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let audit = Audit::in_state(dir.path());
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        let append = |operation: &str, minutes: i64| {
            let time = now - SignedDuration::from_mins(minutes);
            let record = Record::new(operation, Class::Compliance, Status::Success, &machine, time);
            audit.append(record.with("token", "ci"), &machine).unwrap().head
        };
        let mut put = Vec::new();
        let mut announce = |fails: bool| {
            let announced = audit.announce(now, |message| {
                put.push(message.title.clone());
                if fails { Err(io::Error::other("full")) } else { Ok(()) }
            });
            (announced.ok(), std::mem::take(&mut put))
        };
        assert_eq!(audit.unanchored().unwrap(), None, "there is no log");
        append("token create", 20);
        append("backup", 1);
        let head = append("tokens", 1);
        append("api pause", 1);
        assert_eq!(announce(true).0, None);
        let new = vec!["me ran `api pause`".to_owned()];
        assert_eq!(announce(false), (Some(1), new), "the oldest is too old, others are not meant");
        assert_eq!(announce(false), (Some(0), Vec::new()));
        append("token revoke", 90);
        assert_eq!(announce(false).0, Some(1), "behind the position, age does not count");
        audit.note_anchored(&head).unwrap();
        let newest = audit.unanchored().unwrap().unwrap();
        assert_eq!(newest.sequence, 6);
        audit.note_anchored(&newest).unwrap();
        audit.note_anchored(&head).unwrap();
        assert_eq!(audit.unanchored().unwrap(), None, "an older anchor does not undo a newer one");
    }
}

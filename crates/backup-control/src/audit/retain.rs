//! Removing what records said whose time is over. Their hashes stay, and so does the chain; a
//! record says what was removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;

use backup_core::repository::Present;
use jiff::{SignedDuration, Timestamp};

use super::file::{Audit, Error};
use super::line::Line;
use super::{Class, Record, Status};
use crate::machine::Machine;

/// The operation that removes what records said.
pub(super) const OPERATION: &str = "audit retain";

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Records whose time was over.
    pub expired: u64,
}

impl Audit {
    /// Removes what records say that are older than the cut-off of their class. Nothing is done if
    /// there are none. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn retain(
        &self,
        cut_offs: &BTreeMap<Class, Timestamp>,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<Retained, Error> {
        let ends = |record: &Record| {
            cut_offs.get(&record.class).is_some_and(|cut_off| record.timestamp < *cut_off)
        };
        let expired = self.count(&ends)?;
        if expired == 0 {
            return Ok(Retained::default());
        }
        // First what is to be removed is said, so that what a crash leaves is allowed.
        let mut record = Record::new(OPERATION, Class::Compliance, Status::Success, machine, now);
        for (class, cut_off) in cut_offs {
            record = record.with(class.as_str(), cut_off.to_string());
        }
        self.append(record.with("records", expired.to_string()), machine)?;
        self.rewrite(&ends)?;
        Ok(Retained { expired })
    }

    /// The same, at most once a day. After a jump of the clock by more than 32 days nothing expires
    /// until the clock has run on for 32 days: it may be wrong. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn retain_daily(
        &self,
        cut_offs: &BTreeMap<Class, Timestamp>,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<Retained, Error> {
        let marker = self.path().with_file_name("audit-retained");
        let mark = |text: String| std::fs::write(&marker, text).map_err(|error| self.failed(error));
        let text = std::fs::read_to_string(&marker).unwrap_or_default();
        let mut times = text.split_whitespace().map_while(|time| time.parse::<Timestamp>().ok());
        // The last time at which records expired, and the time of a jump after it.
        let (last, jump) = (times.next(), times.next());
        if last.is_some_and(|last| {
            last <= now && now.duration_since(last) < SignedDuration::from_hours(24)
        }) {
            return Ok(Retained::default());
        }
        let is_ahead = |since: Timestamp| {
            Present::of(now, Some(since)).doubt().is_some_and(|doubt| doubt.is_ahead())
        };
        if let Some(last) = last.filter(|last| is_ahead(*last))
            && !jump.is_some_and(is_ahead)
        {
            // A jump from which the clock came back does not count.
            let jump = jump.filter(|jump| *jump <= now).unwrap_or(now);
            mark(format!("{last} {jump}"))?;
            return Ok(Retained::default());
        }
        let retained = self.retain(cut_offs, machine, now)?;
        mark(now.to_string())?;
        Ok(retained)
    }

    fn count(&self, ends: &dyn Fn(&Record) -> bool) -> Result<u64, Error> {
        let mut count = 0;
        for line in self.lines()? {
            let line = line.map_err(|error| self.failed(error))?;
            let line = line.filter(|line| line.sequence > 1);
            count += u64::from(line.and_then(Line::record).is_some_and(|record| ends(&record)));
        }
        Ok(count)
    }

    /// Lines that cannot be read stay as they are: they are evidence.
    fn rewrite(&self, ends: &dyn Fn(&Record) -> bool) -> Result<(), Error> {
        let _lock = self.lock()?;
        let failed = |error| self.failed(error);
        let new = self.path().with_extension("new");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        let mut file = BufWriter::new(file);
        let text = std::fs::read(self.path()).map_err(failed)?;
        for bytes in text.split_inclusive(|byte| *byte == b'\n') {
            let line = bytes.strip_suffix(b"\n").and_then(Line::parse);
            // The first line says which chain this is.
            let line = line.filter(|line| {
                line.sequence > 1 && line.clone().record().is_some_and(|record| ends(&record))
            });
            let written = match line {
                None => file.write_all(bytes),
                Some(line) => serde_json::to_writer(&mut file, &line.expire())
                    .map_err(std::io::Error::from)
                    .and_then(|()| file.write_all(b"\n")),
            };
            written.map_err(failed)?;
        }
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, self.path()).map_err(failed)
    }
}

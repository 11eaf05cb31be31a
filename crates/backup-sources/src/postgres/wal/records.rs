//! Records of the log with their checksums, and what they say of transactions (`xlogrecord.h`,
//! `xact.h`). Of a record only its beginning is kept, however long it is.

mod limits;
mod record;
#[cfg(test)]
mod tests;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use jiff::Timestamp;

use super::super::layout::Segments;
use super::super::lsn::Lsn;
use super::pages::{PAGE, Pages, Piece};
pub(in super::super) use limits::{REPLAY_SETTINGS, ServerLimits, is_shutdown};
use record::Record;

const HEADER: usize = 24;
/// Seconds from 1970 to 2000, where the server's clock begins.
pub(super) const EPOCH: i64 = 946_684_800;

/// Resource managers, and kinds of their records.
const XLOG: u8 = 0;
const XACT: u8 = 1;
const SHUTDOWN: u8 = 0;
const SWITCH: u8 = 0x40;
const PARAMETER_CHANGE: u8 = 0x60;
const RESTORE_POINT: u8 = 0x70;

/// A moment that the log notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Moment {
    /// A transaction was committed or rolled back.
    Ended { transaction: u32, time: Timestamp },
    /// Somebody made a restore point.
    RestorePoint { name: String, time: Timestamp },
}

impl Moment {
    pub(in super::super) fn time(&self) -> Timestamp {
        match self {
            Self::Ended { time, .. } | Self::RestorePoint { time, .. } => *time,
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Event {
    /// Where it begins,
    pub(in super::super) from: Lsn,
    /// and ends: the next one begins there, or behind the header of the page.
    pub(in super::super) to: Lsn,
    pub(in super::super) moment: Option<Moment>,
}

/// Finds records in a stream of pages.
#[derive(Debug)]
pub(in super::super) struct Records {
    segments: Segments,
    pages: Pages,
    state: State,
    /// Where the last record begins: the next one says so.
    last: Option<Lsn>,
}

#[derive(Debug)]
enum State {
    /// No record was seen yet: what is left of one that began before is passed over.
    Seeking,
    /// So many bytes are passed over, not counting headers of pages.
    Skipping(u64),
    /// Everything up to here is passed over: behind a switch even headers of pages are zeros.
    Passing(Lsn),
    /// A record begins at the next byte.
    Between,
    /// Within one.
    Inside(Record),
    /// What follows was never written.
    Ended,
}

impl Records {
    /// From the beginning of the page that holds `at`. A record that began before it is passed
    /// over.
    pub(in super::super) fn new(segments: Segments, at: Lsn) -> Self {
        Self { segments, pages: Pages::new(segments, at), state: State::Seeking, last: None }
    }

    /// Where the next byte is expected.
    pub(in super::super) fn at(&self) -> Lsn {
        self.pages.at()
    }

    /// Whether a place without a record was reached: zeros, where log will be written.
    pub(in super::super) fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Where the record begins of which only a part came so far, if there is one.
    pub(in super::super) fn within(&self) -> Option<Lsn> {
        match &self.state {
            State::Inside(record) if record.seen > 0 => Some(record.from),
            _ => None,
        }
    }

    /// Takes more of the log and tells of every record that is complete.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unavailable`] if a checksum is wrong, or a record follows another one
    /// than the one before it.
    pub(in super::super) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Event),
    ) -> SourceResult<()> {
        self.read(bytes, |event, _| each(event))
    }

    /// The same, with the beginning of each record.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub(in super::super) fn read(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Event, &[u8]),
    ) -> SourceResult<()> {
        while !self.ended() {
            if let State::Passing(to) = self.state {
                bytes = self.pages.pass(bytes, to);
                if self.at() < to {
                    break;
                }
                self.state = State::Between;
            }
            match self.pages.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Piece::Page(header))) => self.page(header.continued, header.overwrites)?,
                Ok(Some(Piece::Bytes(at, piece))) => self.bytes(at, piece, &mut each)?,
                // Between records it is where the log ends, within one the log is damaged.
                Err(_) if matches!(self.state, State::Between) => self.state = State::Ended,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn page(&mut self, continued: u32, overwrites: bool) -> SourceResult<()> {
        match &self.state {
            State::Seeking => {
                // As long as a record that began before fills whole pages, the next one says how
                // much is left.
                let room = PAGE - self.pages.at().0 % PAGE;
                let left = aligned(u64::from(continued));
                if left < room {
                    self.state = if left == 0 { State::Between } else { State::Skipping(left) };
                }
            }
            State::Inside(_) if overwrites => self.state = State::Between,
            State::Inside(record) if record.len - record.seen != continued => {
                return Err(damaged(record.from));
            }
            _ => {}
        }
        Ok(())
    }

    fn bytes(
        &mut self,
        mut at: Lsn,
        mut piece: &[u8],
        each: &mut impl FnMut(Event, &[u8]),
    ) -> SourceResult<()> {
        while !piece.is_empty() {
            let taken = match &mut self.state {
                State::Seeking | State::Passing(_) | State::Ended => piece.len(),
                State::Skipping(left) => {
                    let taken = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Between;
                    }
                    taken
                }
                State::Between => {
                    let record =
                        Record { from: at, kept: Vec::with_capacity(256), len: 0, seen: 0, crc: 0 };
                    self.state = State::Inside(record);
                    0
                }
                State::Inside(record) => {
                    let Some(taken) = record.take(piece)? else {
                        self.state = State::Ended;
                        return Ok(());
                    };
                    if record.len != 0 && record.seen == record.len {
                        let end = Lsn(at.0 + taken as u64);
                        self.complete(end, each)?;
                    }
                    taken
                }
            };
            at.0 += taken as u64;
            piece = &piece[taken..];
        }
        Ok(())
    }

    fn complete(&mut self, end: Lsn, each: &mut impl FnMut(Event, &[u8])) -> SourceResult<()> {
        let State::Inside(record) = std::mem::replace(&mut self.state, State::Between) else {
            return Ok(());
        };
        record.check()?;
        if self.last.replace(record.from).is_some_and(|last| last != record.before()) {
            return Err(strange(record.from));
        }
        let padding = aligned(end.0) - end.0;
        let mut to = Lsn(end.0 + padding);
        if padding > 0 {
            self.state = State::Skipping(padding);
        }
        if record.manager() == XLOG && record.kind() == SWITCH {
            // The rest of the segment is empty.
            to = self.segments.start(self.segments.number(Lsn(end.0 - 1)) + 1);
            self.state = State::Passing(to);
        }
        each(Event { from: record.from, to, moment: record.moment() }, &record.kept);
        Ok(())
    }
}

/// Records begin at places that can be divided by eight.
fn aligned(at: u64) -> u64 {
    at.next_multiple_of(8)
}

fn damaged(at: Lsn) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, format!("the WAL record at {at} is damaged"))
        .with_hint(
            "make a full backup if this error persists: the server's disk has damaged the record",
        )
}

/// Two servers may have gone on with timelines of the same number.
fn strange(at: Lsn) -> SourceError {
    let text = format!(
        "the WAL record at {at} does not follow the previous one: it belongs to another history"
    );
    SourceError::new(SourceErrorKind::Unavailable, text)
        .with_hint("make a full backup: WAL of another copy of this cluster may have been mixed in")
}

/// Microseconds since 2000.
pub(super) fn server_time(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros.checked_add(EPOCH * 1_000_000)?).ok()
}

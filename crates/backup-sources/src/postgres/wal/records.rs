//! Records of the log with their checksums, and what they say of transactions (`xlogrecord.h`,
//! `xact.h`). Of a record only its beginning is kept, however long it is.

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use jiff::Timestamp;

use super::super::layout::Segments;
use super::super::lsn::Lsn;
use super::pages::{PAGE, Pages, Piece};

const HEADER: usize = 24;
/// Longest record (`XLogRecordMaxSize`).
const LONGEST: u32 = 1020 << 20;
/// So much of a record is kept: a commit says what we need at its beginning, unless it has
/// thousands of subtransactions.
const KEPT: usize = 64 << 10;
/// Seconds from 1970 to 2000, where the server's clock begins.
const EPOCH: i64 = 946_684_800;

/// Resource managers, and kinds of their records.
const XLOG: u8 = 0;
const XACT: u8 = 1;
const SWITCH: u8 = 0x40;
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

#[derive(Debug)]
struct Record {
    from: Lsn,
    /// Its beginning.
    kept: Vec<u8>,
    len: u32,
    seen: u32,
    /// Of everything behind its header.
    crc: u32,
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
    SourceError::new(
        SourceErrorKind::Unavailable,
        format!("the record of the log at {at} is damaged"),
    )
    .with_hint("if it stays so, the server's disk has damaged it: back up anew")
}

/// Two servers may have gone on with timelines of the same number.
fn strange(at: Lsn) -> SourceError {
    let text = format!(
        "the record of the log at {at} does not follow the one before it: it is of another history"
    );
    SourceError::new(SourceErrorKind::Unavailable, text)
        .with_hint("was the log of another copy of this cluster mixed with it? Back up anew")
}

impl Record {
    /// Takes what belongs to it; `None` if there is no record.
    fn take(&mut self, piece: &[u8]) -> SourceResult<Option<usize>> {
        let mut taken = 0;
        // Its length first, which is never cut by the end of a page.
        if self.kept.len() < HEADER {
            taken = piece.len().min(HEADER - self.kept.len());
            self.kept.extend_from_slice(&piece[..taken]);
            self.seen += u32::try_from(taken).unwrap_or(0);
            if let Some(len) = self.kept.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) {
                if len == 0 {
                    return Ok(None);
                }
                if !(HEADER as u32..=LONGEST).contains(&len) {
                    return Err(damaged(self.from));
                }
                self.len = len;
            }
            if self.kept.len() < HEADER {
                return Ok(Some(taken));
            }
        }
        let rest = piece.len().min(taken + (self.len - self.seen) as usize);
        let data = &piece[taken..rest];
        self.crc = crc32c::crc32c_append(self.crc, data);
        self.kept.extend_from_slice(&data[..data.len().min(KEPT.saturating_sub(self.kept.len()))]);
        self.seen += u32::try_from(data.len()).unwrap_or(0);
        Ok(Some(rest))
    }

    /// The checksum covers what is behind the header, then the header up to the checksum.
    fn check(&self) -> SourceResult<()> {
        let own = self
            .kept
            .get(20..24)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_le_bytes(*bytes));
        let found = crc32c::crc32c_append(self.crc, &self.kept[..20]);
        if own == Some(found) { Ok(()) } else { Err(damaged(self.from)) }
    }

    /// Where the record before it begins.
    fn before(&self) -> Lsn {
        Lsn(self
            .kept
            .get(8..16)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn manager(&self) -> u8 {
        self.kept[17]
    }

    /// The upper half says what kind it is, the lower one belongs to the log itself.
    fn kind(&self) -> u8 {
        self.kept[16] & 0xf0
    }

    fn moment(&self) -> Option<Moment> {
        // Of transactions the highest bit says that there is more to come.
        let kind = if self.manager() == XACT { self.kind() & 0x70 } else { self.kind() };
        match (self.manager(), kind) {
            (XACT, kind @ (0 | 0x20 | 0x30 | 0x40)) => {
                let data = self.main_data()?;
                let own = u32::from_le_bytes(*self.kept.get(4..8)?.first_chunk()?);
                // Of a prepared transaction somebody else says that it has ended.
                let prepared = matches!(kind, 0x30 | 0x40);
                let transaction = if prepared {
                    prepared_transaction(data, self.kept[16] & 0x80 != 0).unwrap_or(0)
                } else {
                    own
                };
                Some(Moment::Ended { transaction, time: time(data)? })
            }
            (XLOG, RESTORE_POINT) => {
                let data = self.main_data()?;
                let name = data.get(8..72)?;
                let name = &name[..name.iter().position(|byte| *byte == 0)?];
                Some(Moment::RestorePoint {
                    name: String::from_utf8_lossy(name).into_owned(),
                    time: time(data)?,
                })
            }
            _ => None,
        }
    }

    /// What the record is about, behind the headers that say what else is in it. These records
    /// refer to no blocks.
    fn main_data(&self) -> Option<&[u8]> {
        let mut rest = &self.kept[HEADER..];
        loop {
            let (&id, behind) = rest.split_first()?;
            match id {
                // Short and long data.
                255 => return behind.get(1..),
                254 => return behind.get(4..),
                // Where it was replicated from; the transaction above.
                253 => rest = behind.get(2..)?,
                252 => rest = behind.get(4..)?,
                _ => return None,
            }
        }
    }
}

/// Microseconds since 2000.
pub(super) fn server_time(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros.checked_add(EPOCH * 1_000_000)?).ok()
}

fn time(data: &[u8]) -> Option<Timestamp> {
    server_time(i64::from_le_bytes(*data.first_chunk()?))
}

/// The transaction that `COMMIT PREPARED` and `ROLLBACK PREPARED` end (`ParseCommitRecord`): behind
/// its database, its subtransactions, files that vanish, statistics that vanish and invalidations,
/// each only if a bit says that it is there.
fn prepared_transaction(data: &[u8], has_bits: bool) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(*data.get(at..at + 4)?.first_chunk()?));
    if !has_bits {
        return None;
    }
    let (bits, mut at) = (word(8)?, 12);
    if bits & 1 != 0 {
        at += 8;
    }
    // Statistics that vanish come with files that do; their size depends on the version, so that
    // such records tell nothing.
    if bits & 1 << 8 != 0 {
        return None;
    }
    for (bit, size) in [(2, 4), (4, 12), (8, 16)] {
        if bits & bit != 0 {
            at += 4 + word(at)? as usize * size;
        }
    }
    if bits & 16 != 0 { word(at) } else { None }
}

#[cfg(test)]
mod tests;

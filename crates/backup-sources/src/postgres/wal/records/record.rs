//! One record: its bytes, its checksum, and the moment that it notes.

use backup_core::source::SourceResult;
use jiff::Timestamp;

use super::{HEADER, Moment, RESTORE_POINT, XACT, XLOG, damaged, server_time};
use crate::postgres::lsn::Lsn;

/// Longest record (`XLogRecordMaxSize`).
const LONGEST: u32 = 1020 << 20;

/// So much of a record is kept: a commit says what we need at its beginning, unless it has
/// thousands of subtransactions.
const KEPT: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Record {
    pub(super) from: Lsn,
    /// Its beginning.
    pub(super) kept: Vec<u8>,
    pub(super) len: u32,
    pub(super) seen: u32,
    /// Of everything behind its header.
    pub(super) crc: u32,
}

impl Record {
    /// Takes what belongs to it; `None` if there is no record.
    pub(super) fn take(&mut self, piece: &[u8]) -> SourceResult<Option<usize>> {
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
    pub(super) fn check(&self) -> SourceResult<()> {
        let own = self
            .kept
            .get(20..24)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_le_bytes(*bytes));
        let found = crc32c::crc32c_append(self.crc, &self.kept[..20]);
        if own == Some(found) { Ok(()) } else { Err(damaged(self.from)) }
    }

    /// Where the record before it begins.
    pub(super) fn before(&self) -> Lsn {
        Lsn(self
            .kept
            .get(8..16)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    pub(super) fn manager(&self) -> u8 {
        self.kept[17]
    }

    /// The upper half says what kind it is, the lower one belongs to the log itself.
    pub(super) fn kind(&self) -> u8 {
        self.kept[16] & 0xf0
    }

    pub(super) fn moment(&self) -> Option<Moment> {
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

    fn main_data(&self) -> Option<&[u8]> {
        main_data(&self.kept)
    }
}

/// The data of a record, behind the headers that list its parts. These records refer to no blocks.
pub(super) fn main_data(record: &[u8]) -> Option<&[u8]> {
    let mut rest = record.get(HEADER..)?;
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

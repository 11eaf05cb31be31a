//! Bytes, lengths and strings out of pieces of any size.

use bytes::Bytes;

use super::crc64::crc64;
use super::{RdbError, damaged, lzf};

/// Where the bytes come from. Called on a thread that may wait.
pub(in super::super) trait Pieces {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// Whatever keeps them from coming.
    fn next(&mut self) -> Result<Option<Bytes>, RdbError>;
}

impl Pieces for std::vec::IntoIter<Bytes> {
    fn next(&mut self) -> Result<Option<Bytes>, RdbError> {
        Ok(Iterator::next(self))
    }
}

/// A length, or that the string is encoded in a special way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Plain(u64),
    /// An integer of so many bytes.
    Integer(usize),
    Compressed,
}

/// What has been read of a file.
#[derive(Debug)]
pub(super) struct Input<P> {
    pieces: P,
    piece: Bytes,
    at: usize,
    /// Bytes of the pieces before this one.
    before: u64,
    /// Of all pieces so far, without the last bytes that may be the checksum itself.
    crc: u64,
    held: Vec<u8>,
    recording: Option<Recording>,
    /// What is recorded of the pieces before this one; the memory is used again.
    recorded: Vec<u8>,
}

/// Bytes that are to be had behind each other when all of them were read.
#[derive(Debug, Clone, Copy)]
struct Recording {
    /// Where they begin in this piece.
    from: usize,
    most: usize,
    too_long: bool,
}

/// The checksum at the end, and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) stored: u64,
    pub(super) computed: u64,
}

/// The marker of the end and the checksum.
const TRAILER: usize = 8;

impl<P: Pieces> Input<P> {
    pub(super) fn new(pieces: P) -> Self {
        let held = Vec::with_capacity(2 * TRAILER);
        Self {
            pieces,
            piece: Bytes::new(),
            at: 0,
            before: 0,
            crc: 0,
            held,
            recording: None,
            recorded: Vec::new(),
        }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    /// Another piece; false at the end.
    fn refill(&mut self) -> Result<bool, RdbError> {
        while self.at == self.piece.len() {
            let Some(next) = self.pieces.next()? else { return Ok(false) };
            self.record();
            self.before += self.piece.len() as u64;
            self.at = 0;
            self.sum(&next);
            self.piece = next;
        }
        Ok(true)
    }

    /// Adds a piece to the checksum, but for the last bytes.
    fn sum(&mut self, piece: &[u8]) {
        let last = piece.len().saturating_sub(TRAILER);
        let (first, end) = piece.split_at(last);
        if !first.is_empty() {
            self.crc = crc64(crc64(self.crc, &self.held), first);
            self.held.clear();
        }
        self.held.extend_from_slice(end);
        let over = self.held.len().saturating_sub(TRAILER);
        self.crc = crc64(self.crc, &self.held[..over]);
        self.held.drain(..over);
    }

    /// Up to `most` bytes as they lie there; at least one.
    fn some(&mut self, most: u64) -> Result<&[u8], RdbError> {
        if !self.refill()? {
            return Err(RdbError::Truncated);
        }
        let there = &self.piece[self.at..];
        let len = usize::try_from(most).map_or(there.len(), |most| most.min(there.len()));
        self.at += len;
        Ok(&there[..len])
    }

    /// From now on what is read can be had as well, as long as that is not more than `most` bytes.
    pub(super) fn begin_recording(&mut self, most: usize) {
        self.recorded.clear();
        self.recording = Some(Recording { from: self.at, most, too_long: false });
    }

    /// Keeps what is recorded of this piece, before the next one comes.
    fn record(&mut self) {
        let Some(recording) = &mut self.recording else { return };
        let bytes = &self.piece[recording.from..self.at];
        recording.from = 0;
        recording.too_long |= bytes.len() > recording.most.saturating_sub(self.recorded.len());
        if recording.too_long {
            self.recorded = Vec::new();
        } else {
            self.recorded.extend_from_slice(bytes);
        }
    }

    /// What was recorded; `None` if it was too much.
    pub(super) fn end_recording(&mut self) -> Option<&[u8]> {
        let recording = self.recording?;
        if self.recorded.is_empty() && !recording.too_long {
            // It lies in one piece, as nearly always.
            self.recording = None;
            return Some(&self.piece[recording.from..self.at])
                .filter(|bytes| bytes.len() <= recording.most);
        }
        self.record();
        let recording = self.recording.take()?;
        (!recording.too_long).then_some(&self.recorded[..])
    }

    pub(super) fn byte(&mut self) -> Result<u8, RdbError> {
        if self.at == self.piece.len() && !self.refill()? {
            return Err(RdbError::Truncated);
        }
        let byte = self.piece[self.at];
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut out = [0; N];
        if let Some(bytes) = self.piece.get(self.at..self.at + N) {
            out.copy_from_slice(bytes);
            self.at += N;
            return Ok(out);
        }
        for byte in &mut out {
            *byte = self.byte()?;
        }
        Ok(out)
    }

    pub(super) fn skip(&mut self, mut len: u64) -> Result<(), RdbError> {
        while len > 0 {
            len -= self.some(len)?.len() as u64;
        }
        Ok(())
    }

    /// `len` bytes behind those in `out`, which grows as they come.
    pub(super) fn take(&mut self, mut len: u64, out: &mut Vec<u8>) -> Result<(), RdbError> {
        while len > 0 {
            let bytes = self.some(len)?;
            out.extend_from_slice(bytes);
            len -= bytes.len() as u64;
        }
        Ok(())
    }

    /// A length or what stands in its place.
    pub(super) fn length(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        Ok(match first >> 6 {
            0 => Length::Plain(low),
            1 => Length::Plain(low << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
            3 if low <= 2 => Length::Integer(1 << low),
            3 if low == 3 => Length::Compressed,
            _ => {
                return Err(damaged(format!(
                    "an invalid length {first:#04x} before byte {}",
                    self.position()
                )));
            }
        })
    }

    /// A length that must be one.
    pub(super) fn number(&mut self) -> Result<u64, RdbError> {
        match self.length()? {
            Length::Plain(number) => Ok(number),
            _ => Err(damaged(format!(
                "a string instead of a length before byte {}",
                self.position()
            ))),
        }
    }

    pub(super) fn skip_string(&mut self) -> Result<(), RdbError> {
        match self.length()? {
            Length::Plain(len) => self.skip(len),
            Length::Integer(len) => self.skip(len as u64),
            Length::Compressed => {
                let len = self.number()?;
                self.number()?;
                self.skip(len)
            }
        }
    }

    /// A string as it is meant, in `out`; of at most `most` bytes.
    pub(super) fn string(&mut self, out: &mut Vec<u8>, most: u64) -> Result<(), RdbError> {
        out.clear();
        let too_long = |len| unknown_length(len, most);
        match self.length()? {
            Length::Plain(len) if len > most => Err(too_long(len)),
            Length::Plain(len) => self.take(len, out),
            Length::Integer(size) => {
                let mut bytes = Vec::with_capacity(size);
                self.take(size as u64, &mut bytes)?;
                out.extend_from_slice(integer(&bytes).to_string().as_bytes());
                Ok(())
            }
            Length::Compressed => {
                let (packed, len) = (self.number()?, self.number()?);
                if len > most || packed > most {
                    return Err(too_long(len.max(packed)));
                }
                let mut bytes = Vec::new();
                self.take(packed, &mut bytes)?;
                *out = lzf::expand(&bytes, len)
                    .ok_or_else(|| damaged("a compressed string is damaged"))?;
                Ok(())
            }
        }
    }

    /// Reads to the end. `None` if there are not even enough bytes for a checksum.
    pub(super) fn finish(&mut self) -> Result<Option<Sums>, RdbError> {
        self.at = self.piece.len();
        while self.refill()? {
            self.at = self.piece.len();
        }
        let stored = <[u8; TRAILER]>::try_from(&self.held[..]).ok();
        Ok(stored.map(|stored| Sums { stored: u64::from_le_bytes(stored), computed: self.crc }))
    }
}

/// Of 1, 2, 4 or 8 bytes, the lowest first.
pub(super) fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(whole)
}

fn unknown_length(len: u64, most: u64) -> RdbError {
    super::unknown(format!("a name or library of {len} bytes, more than the supported {most}"))
}

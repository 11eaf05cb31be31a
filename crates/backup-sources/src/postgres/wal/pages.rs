//! From a stream of pages to the bytes of records: pages of 8 KiB begin with a header, the first
//! one of a segment with a longer one (`xlog_internal.h`). It has not changed from 9.3 to 18.

use backup_core::source::SourceResult;

use super::super::error::malformed;
use super::super::layout::Segments;
use super::super::lsn::Lsn;

/// Size of pages (`XLOG_BLCKSZ`); other sizes need another build of the server.
pub(in super::super) const PAGE: u64 = 8192;
const SHORT: usize = 24;
const LONG: usize = 40;
const FIRST_IS_CONTINUED: u16 = 1;
const IS_LONG: u16 = 2;
const OVERWRITES_CONTINUED: u16 = 8;

/// What a page begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// How many bytes of a record that began on an earlier page are still to come. 0 if a record
    /// begins here.
    pub(super) continued: u32,
    /// The record that was being written is given up.
    pub(super) overwrites: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A page begins.
    Page(Header),
    /// Bytes between headers, the first one at this place.
    Bytes(Lsn, &'a [u8]),
}

/// Takes pages apart.
#[derive(Debug)]
pub(super) struct Pages {
    segments: Segments,
    at: Lsn,
    header: Vec<u8>,
}

impl Pages {
    /// From the beginning of a page on.
    pub(super) fn new(segments: Segments, at: Lsn) -> Self {
        Self { segments, at: Lsn(at.0 - at.0 % PAGE), header: Vec::with_capacity(LONG) }
    }

    /// Where the next byte lies.
    pub(super) fn at(&self) -> Lsn {
        self.at
    }

    /// Leaves `bytes` out up to `to`, the beginning of a page; returns what is left.
    pub(super) fn pass<'a>(&mut self, bytes: &'a [u8], to: Lsn) -> &'a [u8] {
        self.header.clear();
        let len =
            bytes.len().min(usize::try_from(to.0.saturating_sub(self.at.0)).unwrap_or(usize::MAX));
        self.at.0 += len as u64;
        &bytes[len..]
    }

    /// The next piece of `bytes`, at most up to the end of a page; `None` when more are needed.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> SourceResult<Option<Piece<'a>>> {
        let begin = self.at.0.saturating_sub(self.header.len() as u64);
        let header_len = if begin.is_multiple_of(self.segments.size()) { LONG } else { SHORT };
        let in_header =
            self.at.0 % PAGE == self.header.len() as u64 && self.header.len() < header_len;
        if in_header {
            let (head, rest) = bytes.split_at(bytes.len().min(header_len - self.header.len()));
            self.header.extend_from_slice(head);
            self.at.0 += head.len() as u64;
            *bytes = rest;
            if self.header.len() < header_len {
                return Ok(None);
            }
            let header = self.parse(header_len)?;
            return Ok(Some(Piece::Page(header)));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.header.clear();
        let left = usize::try_from(PAGE - self.at.0 % PAGE).unwrap_or(usize::MAX);
        let (piece, rest) = bytes.split_at(bytes.len().min(left));
        let at = self.at;
        self.at.0 += piece.len() as u64;
        *bytes = rest;
        Ok(Some(Piece::Bytes(at, piece)))
    }

    fn parse(&self, len: usize) -> SourceResult<Header> {
        let begin = Lsn(self.at.0 - len as u64);
        let bad = || malformed(format!("WAL page at {begin}"));
        let header = &self.header;
        let short = |at: usize| Some(u16::from_le_bytes([*header.get(at)?, *header.get(at + 1)?]));
        let (magic, info) = (short(0).ok_or_else(bad)?, short(2).ok_or_else(bad)?);
        let address = header
            .get(8..16)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u64::from_le_bytes(*bytes));
        let continued = header
            .get(16..20)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_le_bytes(*bytes));
        // Of all versions: 0xD106 (13) to 0xD118 (18), and what comes next.
        let known = magic >> 8 == 0xd1 && (info & IS_LONG != 0) == (len == LONG);
        match (address, continued) {
            (Some(address), Some(continued)) if known && address == begin.0 => {
                let continued = if info & FIRST_IS_CONTINUED != 0 { continued } else { 0 };
                Ok(Header { continued, overwrites: info & OVERWRITES_CONTINUED != 0 })
            }
            _ => Err(bad()),
        }
    }
}

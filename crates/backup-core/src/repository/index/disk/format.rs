//! The file of a segment: a header of one page, then sections, each in blocks with a checksum.
//!
//! ```text
//!  header │ data records │ tree records │ data fence │ tree fence │ data filter │ tree filter │ packs │ objects │ checksums
//! ```
//!
//! Records are sorted by the blob's name, packs by theirs. A fence says for every value of a name's
//! first bits where its records begin. A filter is a Bloom filter in blocks of 64 bytes, one of
//! which is looked at per name; the block follows from the name's first bits, so that filters, like
//! everything else, are written from front to back. The file is a cache: its form may change with
//! every version, and what is not understood is made anew.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, ID_LEN, IndexId, PackId};
use crate::repository::index::Mark;

/// What a file begins with; changes with the form.
pub(super) const MAGIC: [u8; 8] = *b"bkpidx02";
/// Length of the header.
pub(super) const HEADER: usize = 4096;
/// Bytes behind the header that share a checksum.
pub(super) const BLOCK: usize = 64 << 10;

/// Where a section lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// The sections of one kind of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) records: Section,
    pub(super) fence: Section,
    /// How many of a name's first bits the fence distinguishes.
    pub(super) fence_bits: u32,
    pub(super) filter: Section,
}

impl Table {
    pub(super) fn count(&self) -> u64 {
        self.records.len / Record::LEN as u64
    }
}

/// What the header says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) data: Table,
    pub(super) trees: Table,
    pub(super) packs: Section,
    pub(super) objects: Section,
    pub(super) checksums: Section,
    /// CRC-32 of the checksums.
    pub(super) checksum: u32,
}

impl Header {
    pub(super) fn table(&self, kind: BlobKind) -> &Table {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// The header's page, if it fits.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(self).ok()?;
        let mut page = Vec::with_capacity(HEADER);
        page.extend(MAGIC);
        page.extend(crc32fast::hash(&json).to_le_bytes());
        page.extend(u32::try_from(json.len()).ok()?.to_le_bytes());
        page.extend(json);
        if page.len() > HEADER {
            return None;
        }
        page.resize(HEADER, 0);
        Some(page)
    }

    pub(super) fn decode(page: &[u8]) -> Option<Self> {
        let rest = page.strip_prefix(&MAGIC)?;
        let (sum, len) = (u32_at(rest, 0)?, u32_at(rest, 4)? as usize);
        let json = rest.get(8..8 + len)?;
        if crc32fast::hash(json) != sum {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// One copy of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) id: BlobId,
    /// Number of the pack in the same file.
    pub(super) pack: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
    /// Plain length, 0 if it is not compressed.
    pub(super) plain: u32,
}

impl Record {
    pub(super) const LEN: usize = ID_LEN + 16;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..ID_LEN].copy_from_slice(self.id.as_bytes());
        for (at, number) in [self.pack, self.offset, self.len, self.plain].into_iter().enumerate() {
            out[ID_LEN + 4 * at..ID_LEN + 4 * at + 4].copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: BlobId::from_bytes(*bytes.first_chunk()?),
            pack: u32_at(bytes, ID_LEN)?,
            offset: u32_at(bytes, ID_LEN + 4)?,
            len: u32_at(bytes, ID_LEN + 8)?,
            plain: u32_at(bytes, ID_LEN + 12)?,
        })
    }

    pub(super) fn blob(&self, kind: BlobKind) -> PackedBlob {
        let uncompressed_len = (self.plain != 0).then_some(self.plain);
        PackedBlob { id: self.id, kind, offset: self.offset, len: self.len, uncompressed_len }
    }
}

/// A pack, as an index object lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pack {
    pub(super) id: PackId,
    /// Number of the index object in the same file.
    pub(super) object: u32,
    pub(super) blobs: u32,
    pub(super) end: u32,
    pub(super) size: u32,
    pub(super) mark: Option<Mark>,
    /// Digest of the blobs that the object lists, in any order.
    pub(super) contents: u64,
}

/// Not marked; marked at some time; marked at a time that is noted.
const FLAGS: [u32; 3] = [0, 1, 2];

impl Pack {
    pub(super) const LEN: usize = ID_LEN + 40;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let time = self.mark.and_then(|mark| mark.time);
        let flag = match self.mark {
            None => FLAGS[0],
            Some(Mark { time: None }) => FLAGS[1],
            Some(_) => FLAGS[2],
        };
        let (seconds, nanos) =
            time.map_or((0, 0), |time| (time.as_second(), time.subsec_nanosecond()));
        let mut out = [0; Self::LEN];
        out[..ID_LEN].copy_from_slice(self.id.as_bytes());
        let numbers = [self.object, self.blobs, self.end, self.size, flag, nanos.cast_unsigned()];
        for (at, number) in numbers.into_iter().enumerate() {
            out[ID_LEN + 4 * at..ID_LEN + 4 * at + 4].copy_from_slice(&number.to_le_bytes());
        }
        out[ID_LEN + 24..ID_LEN + 32].copy_from_slice(&seconds.to_le_bytes());
        out[ID_LEN + 32..].copy_from_slice(&self.contents.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| u32_at(bytes, ID_LEN + 4 * at);
        let seconds = i64::from_le_bytes(*bytes.get(ID_LEN + 24..)?.first_chunk()?);
        let nanos = number(5)?.cast_signed();
        let flag = number(4)?;
        let mark = if flag == FLAGS[0] {
            None
        } else if flag == FLAGS[1] {
            Some(Mark { time: None })
        } else {
            Some(Mark { time: Some(Timestamp::new(seconds, nanos).ok()?) })
        };
        Some(Self {
            id: PackId::from_bytes(*bytes.first_chunk()?),
            object: number(0)?,
            blobs: number(1)?,
            end: number(2)?,
            size: number(3)?,
            mark,
            contents: u64::from_le_bytes(*bytes.get(ID_LEN + 32..)?.first_chunk()?),
        })
    }
}

/// The name of an index object.
pub(super) fn object(bytes: &[u8]) -> Option<IndexId> {
    bytes.first_chunk().copied().map(IndexId::from_bytes)
}

/// A fence for so many records distinguishes so many bits: some 64 records for each value.
pub(super) fn fence_bits(records: u64) -> u32 {
    (records / 64).checked_ilog2().unwrap_or(0).min(22)
}

/// The first bits of a name.
pub(super) fn fence_of(id: &[u8; ID_LEN], bits: u32) -> u64 {
    first_bits(id).checked_shr(64 - bits).unwrap_or(0)
}

/// Of so many records with the same first bits that a fence distinguishes, about so many have
/// smaller names.
pub(super) fn place_between_fences(id: &[u8; ID_LEN], bits: u32, records: u64) -> u64 {
    share(first_bits(id) << bits, records)
}

/// The order of names. They are random: nearly always the first bits tell.
pub(super) fn order(a: &[u8; ID_LEN], b: &[u8; ID_LEN]) -> Ordering {
    first_bits(a).cmp(&first_bits(b)).then_with(|| a.cmp(b))
}

/// The same share of a whole as `part` is of all numbers of 64 bits.
fn share(part: u64, whole: u64) -> u64 {
    let scaled = (u128::from(part) * u128::from(whole)) >> 64;
    u64::try_from(scaled).unwrap_or(0)
}

fn first_bits(id: &[u8; ID_LEN]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id[..8]);
    u64::from_be_bytes(first)
}

/// Bytes of a filter's block.
pub(super) const FILTER_BLOCK: usize = 64;
/// Names per block, on average: about 12 bits each.
pub(super) const NAMES_PER_BLOCK: u64 = 42;

/// The block of a filter that a name is looked up in.
pub(super) fn filter_block(id: &[u8; ID_LEN], blocks: u64) -> u64 {
    share(first_bits(id), blocks)
}

/// The bits of a name in its block.
pub(super) fn filter_bits(id: &[u8; ID_LEN]) -> impl Iterator<Item = usize> {
    // Bits of the name that have no part in the choice of the block; 6 are best for 12 bits per
    // name.
    id[16..28]
        .chunks_exact(2)
        .map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])) % (FILTER_BLOCK * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_have_bits_for_what_they_hold() {
        assert_eq!(
            (fence_bits(0), fence_bits(63), fence_bits(128), fence_bits(1 << 40)),
            (0, 0, 1, 22)
        );
        let mut id = [0; ID_LEN];
        id[0] = 0b1010_0000;
        assert_eq!((fence_of(&id, 0), fence_of(&id, 1), fence_of(&id, 3)), (0, 1, 0b101));
        let places = [(0, 1000), (1, 1000), (2, 1000), (3, 1000), (0, 0)];
        assert_eq!(
            places.map(|(bits, records)| place_between_fences(&id, bits, records)),
            [625, 250, 500, 0, 0]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let record = Record { id: BlobId::digest(b"a"), pack: 1, offset: 2, len: 3, plain: 4 };
        assert_eq!(Record::decode(&record.encode()), Some(record));
        for time in [
            None,
            Some(Timestamp::new(1_700_000_000, 123_456_789).unwrap()),
            Some(Timestamp::new(-5, 0).unwrap()),
        ] {
            let pack = Pack {
                id: PackId::digest(b"p"),
                object: 1,
                blobs: 2,
                end: 3,
                size: 4,
                mark: Some(Mark { time }),
                contents: u64::MAX - 5,
            };
            assert_eq!(Pack::decode(&pack.encode()), Some(pack));
            let unmarked = Pack { mark: None, ..pack };
            assert_eq!(Pack::decode(&unmarked.encode()), Some(unmarked));
        }
        let section = Section { at: u64::MAX, len: u64::MAX };
        let table = Table { records: section, fence: section, fence_bits: 22, filter: section };
        let header = Header {
            data: table,
            trees: table,
            packs: section,
            objects: section,
            checksums: section,
            checksum: 7,
        };
        let mut page = header.encode().unwrap();
        assert_eq!(Header::decode(&page), Some(header));
        page[30] ^= 1;
        assert_eq!(Header::decode(&page), None);
    }
}

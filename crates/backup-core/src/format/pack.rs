//! Packs: `sealed blob … ‖ sealed header ‖ header length (u32 LE)`. A pack holds either data or
//! trees.

use crate::crypto::{MasterKey, OVERHEAD};
use crate::error::{Error, Result};
use crate::id::BlobId;

/// What a blob is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// Content of files and streams.
    Data,
    /// A directory.
    Tree,
}

/// One blob as a pack's header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// Its name.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Where it starts in the pack.
    pub offset: u32,
    /// Sealed length.
    pub len: u32,
    /// Plain length, if it is compressed.
    pub uncompressed_len: Option<u32>,
}

impl PackedBlob {
    /// Length of the plain content.
    #[must_use]
    pub fn plain_len(&self) -> u32 {
        self.uncompressed_len.unwrap_or(self.len.saturating_sub(OVERHEAD_U32))
    }
}

const OVERHEAD_U32: u32 = OVERHEAD as u32;
const PLAIN_ENTRY: usize = 1 + 4 + 32;
const COMPRESSED_ENTRY: usize = PLAIN_ENTRY + 4;
const LENGTH_FIELD: usize = 4;
/// Largest header that restic accepts.
const MAX_HEADER: usize = 16 << 20;

/// The table at the end of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackHeader {
    /// The blobs in the order in which they lie in the pack.
    pub blobs: Vec<PackedBlob>,
}

impl PackHeader {
    /// Most blobs in one pack, so that its header stays small.
    pub const MAX_BLOBS: usize = 50_000;

    /// Length of what [`Self::seal`] makes of these blobs.
    #[must_use]
    pub fn sealed_len(blobs: &[PackedBlob]) -> usize {
        let entry = |blob: &PackedBlob| {
            if blob.uncompressed_len.is_some() { COMPRESSED_ENTRY } else { PLAIN_ENTRY }
        };
        blobs.iter().map(entry).sum::<usize>() + OVERHEAD + LENGTH_FIELD
    }

    /// The bytes behind the last blob: sealed header and its length.
    #[must_use]
    pub fn seal(&self, key: &MasterKey) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.blobs.len() * COMPRESSED_ENTRY);
        for blob in &self.blobs {
            let kind = u8::from(blob.kind == BlobKind::Tree)
                | u8::from(blob.uncompressed_len.is_some()) << 1;
            plain.push(kind);
            plain.extend(blob.len.to_le_bytes());
            if let Some(len) = blob.uncompressed_len {
                plain.extend(len.to_le_bytes());
            }
            plain.extend(blob.id.as_bytes());
        }
        let mut sealed = key.seal(&plain);
        // MAX_BLOBS keeps a header far below 4 GiB.
        let len = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        sealed.extend(len.to_le_bytes());
        sealed
    }

    /// Length of the sealed header with its length field, read from the last four bytes of a pack
    /// of `pack_len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if that cannot be right.
    pub fn tail_len(last_four: [u8; 4], pack_len: u64) -> Result<u64> {
        let len = u32::from_le_bytes(last_four) as usize;
        let total = (len + LENGTH_FIELD) as u64;
        if !(OVERHEAD..=MAX_HEADER).contains(&len) || total > pack_len {
            return Err(Error::damaged("pack has an invalid header length"));
        }
        Ok(total)
    }

    /// Opens the tail of a pack of `pack_len` bytes as found by [`Self::tail_len`].
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it was changed or does not
    /// describe the pack.
    pub fn open(tail: &[u8], pack_len: u64, key: &MasterKey) -> Result<Self> {
        let end = tail
            .len()
            .checked_sub(LENGTH_FIELD)
            .ok_or_else(|| Error::damaged("pack header is too short"))?;
        let plain = key
            .open(&tail[..end])
            .map_err(|error| Error::damaged("pack header is damaged").with_source(error))?;
        let blobs = parse(&plain)?;
        let described =
            blobs.iter().map(|blob| u64::from(blob.len)).sum::<u64>() + tail.len() as u64;
        if described != pack_len {
            return Err(Error::damaged(format!(
                "pack header describes {described} bytes, but the pack has {pack_len}"
            )));
        }
        Ok(Self { blobs })
    }

    /// Reads the header of a whole pack.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if there is no valid header.
    pub fn of_pack(pack: &[u8], key: &MasterKey) -> Result<Self> {
        let last_four = pack.last_chunk().ok_or_else(|| Error::damaged("pack is too short"))?;
        let tail = Self::tail_len(*last_four, pack.len() as u64)?;
        let start = pack.len() - usize::try_from(tail).unwrap_or(pack.len());
        Self::open(&pack[start..], pack.len() as u64, key)
    }
}

fn parse(mut plain: &[u8]) -> Result<Vec<PackedBlob>> {
    let mut blobs = Vec::new();
    let mut offset = 0_u32;
    while let Some(&kind) = plain.first() {
        let compressed = kind & 2 != 0;
        let size = if compressed { COMPRESSED_ENTRY } else { PLAIN_ENTRY };
        if kind > 3 || plain.len() < size {
            return Err(Error::damaged("pack header has an unknown or truncated entry"));
        }
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&plain[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let mut id = [0; 32];
        id.copy_from_slice(&plain[size - 32..size]);
        let len = number(1);
        blobs.push(PackedBlob {
            id: BlobId::from_bytes(id),
            kind: if kind & 1 == 1 { BlobKind::Tree } else { BlobKind::Data },
            offset,
            len,
            uncompressed_len: compressed.then(|| number(5)),
        });
        offset = offset
            .checked_add(len)
            .ok_or_else(|| Error::damaged("pack header describes more than 4 GiB"))?;
        plain = &plain[size..];
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let key = MasterKey::generate();
        let header = PackHeader {
            blobs: vec![
                PackedBlob {
                    id: BlobId::digest(b"a"),
                    kind: BlobKind::Data,
                    offset: 0,
                    len: 40,
                    uncompressed_len: None,
                },
                PackedBlob {
                    id: BlobId::digest(b"b"),
                    kind: BlobKind::Tree,
                    offset: 40,
                    len: 60,
                    uncompressed_len: Some(500),
                },
            ],
        };
        let mut pack = vec![0; 100];
        pack.extend(header.seal(&key));
        assert_eq!(pack.len(), 100 + PackHeader::sealed_len(&header.blobs));
        assert_eq!(PackHeader::of_pack(&pack, &key).unwrap(), header);
        assert_eq!(header.blobs[0].plain_len(), 8);
        assert_eq!(header.blobs[1].plain_len(), 500);
        for cut in [1, 4, 50, pack.len() - 1, pack.len()] {
            assert!(PackHeader::of_pack(&pack[cut..], &key).is_err(), "{cut}");
            assert!(PackHeader::of_pack(&pack[..pack.len() - cut], &key).is_err(), "{cut}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(&[4; 37]).is_err());
        assert!(parse(&[0; 36]).is_err());
        assert!(parse(&[2; 40]).is_err());
        assert!(PackHeader::tail_len([255; 4], 1 << 40).is_err());
    }
}

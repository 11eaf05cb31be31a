//! One pack being filled.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::crypto::MasterKey;
use crate::format::{PackHeader, PackedBlob};
use crate::id::PackId;

/// A sealed blob; its offset is set when it gets its place.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) blob: PackedBlob,
    pub(super) bytes: Vec<u8>,
}

/// A pack in memory. The permit stands for its share of the memory.
#[derive(Debug)]
pub(super) struct PackBuilder {
    bytes: Vec<u8>,
    header: PackHeader,
    permit: OwnedSemaphorePermit,
}

/// A closed pack.
#[derive(Debug)]
pub(super) struct FinishedPack {
    pub(super) id: PackId,
    pub(super) bytes: Bytes,
    pub(super) blobs: Vec<PackedBlob>,
    /// Released when the pack is stored.
    pub(super) permit: OwnedSemaphorePermit,
}

impl PackBuilder {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            bytes: Vec::new(),
            header: PackHeader::default(),
            permit,
        }
    }

    pub(super) fn push(&mut self, sealed: &Sealed, pack_size: usize) {
        if self.bytes.capacity() == 0 {
            // One allocation for the pack, the blob that overflows it, and the header. Untouched pages cost nothing.
            self.bytes
                .reserve_exact(pack_size + pack_size / 4 + sealed.bytes.len());
        }
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.header.blobs.push(PackedBlob {
            offset,
            ..sealed.blob
        });
        self.bytes.extend_from_slice(&sealed.bytes);
    }

    pub(super) fn is_full(&self, pack_size: usize) -> bool {
        self.bytes.len() >= pack_size || self.header.blobs.len() >= PackHeader::MAX_BLOBS
    }

    pub(super) fn finish(mut self, key: &MasterKey) -> FinishedPack {
        let tail = self.header.seal(key);
        self.bytes.extend_from_slice(&tail);
        let id = PackId::digest(&self.bytes);
        FinishedPack {
            id,
            bytes: self.bytes.into(),
            blobs: self.header.blobs,
            permit: self.permit,
        }
    }
}

//! One pack being filled.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::crypto::MasterKey;
use crate::format::{PackHeader, PackedBlob};
use crate::id::PackId;

/// Memory for one pack: a permit for its share, and a buffer that an earlier pack has left, if
/// there was one.
#[derive(Debug)]
pub(super) struct PackMemory {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) buffer: Vec<u8>,
}

/// A pack in memory. The permit stands for its share of the memory.
#[derive(Debug)]
pub(super) struct PackBuilder {
    bytes: Vec<u8>,
    header: PackHeader,
    size: usize,
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
    /// An empty pack that is full with `size` bytes.
    pub(super) fn new(memory: PackMemory, size: usize) -> Self {
        Self { bytes: memory.buffer, header: PackHeader::default(), size, permit: memory.permit }
    }

    /// Appends a sealed blob; its offset is set here.
    pub(super) fn push(&mut self, blob: PackedBlob, sealed: &[u8]) {
        if self.bytes.capacity() < self.size {
            // One allocation for the pack, the blob that overflows it, and the header; untouched
            // pages cost nothing.
            self.bytes.reserve_exact(self.size + self.size / 4 + sealed.len());
        }
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.header.blobs.push(PackedBlob { offset, ..blob });
        self.bytes.extend_from_slice(sealed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= self.size || self.header.blobs.len() >= PackHeader::MAX_BLOBS
    }

    pub(super) fn finish(mut self, key: &MasterKey) -> FinishedPack {
        let tail = self.header.seal(key);
        self.bytes.extend_from_slice(&tail);
        let id = PackId::digest(&self.bytes);
        FinishedPack { id, bytes: self.bytes.into(), blobs: self.header.blobs, permit: self.permit }
    }
}

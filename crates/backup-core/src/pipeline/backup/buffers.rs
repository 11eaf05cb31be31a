//! Memory of chunkers and of chunks on their way to another thread. It is used again: megabytes
//! that one thread allocates and another frees would pile up in the allocator's per-thread pools.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::chunker::{Chunk, StreamChunker};

/// Buffers that are not in use. Cheap to clone. There are never more than chunks in flight at one
/// time.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A chunk in borrowed memory, which goes back when this is dropped.
#[derive(Debug)]
pub(super) struct BorrowedChunk {
    chunk: Chunk,
    home: Buffers,
}

impl Buffers {
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn put(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// The chunk that a chunker has, unless it has none; it goes on in other memory.
    pub(super) fn chunk(&self, chunker: &mut StreamChunker<'_>) -> Option<BorrowedChunk> {
        (!chunker.is_empty())
            .then(|| BorrowedChunk { chunk: chunker.take(self.take()), home: self.clone() })
    }
}

impl Deref for BorrowedChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for BorrowedChunk {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.chunk).into_memory());
    }
}

//! Memory of chunkers and of chunks on their way to another thread. It is used again: megabytes that one thread allocates and another
//! frees would pile up in the allocator's per-thread pools.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are not in use. Cheap to clone. There are never more than chunks in flight at one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A chunk in a borrowed buffer, which goes back when this is dropped.
#[derive(Debug)]
pub(super) struct ChunkBuffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn put(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    pub(super) fn copy(&self, chunk: &[u8]) -> ChunkBuffer {
        let mut bytes = self.take();
        bytes.clear();
        bytes.extend_from_slice(chunk);
        ChunkBuffer { bytes, home: self.clone() }
    }
}

impl Deref for ChunkBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ChunkBuffer {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.bytes));
    }
}

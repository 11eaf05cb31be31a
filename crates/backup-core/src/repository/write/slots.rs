//! The packs of one kind that are open at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use tokio::runtime::Handle;

use super::pack_builder::PackBuilder;
use super::upload::Uploader;
use crate::crypto::MasterKey;
use crate::error::Result;
use crate::format::{BlobKind, PackedBlob};

type Slot = Option<PackBuilder>;

#[derive(Debug)]
pub(super) struct Slots {
    kind: BlobKind,
    slots: Vec<Mutex<Slot>>,
    pack_size: usize,
    uploader: Uploader,
}

impl Slots {
    pub(super) fn new(kind: BlobKind, count: usize, pack_size: usize, uploader: Uploader) -> Self {
        let slots = (0..count.max(1)).map(|_| Mutex::new(None)).collect();
        Self { kind, slots, pack_size, uploader }
    }

    /// Puts a blob into a random open pack; hands the pack over when it is full. May wait for
    /// memory.
    pub(super) fn add(
        &self,
        blob: PackedBlob,
        sealed: &[u8],
        key: &MasterKey,
        handle: &Handle,
    ) -> Result<()> {
        debug_assert_eq!(blob.kind, self.kind, "trees and data never share a pack");
        let full = {
            let mut slot = self.choose(handle)?;
            match &mut *slot {
                Some(builder) => {
                    builder.push(blob, sealed);
                    if builder.is_full() { slot.take() } else { None }
                }
                None => None,
            }
        };
        match full {
            Some(builder) => self.uploader.submit_blocking(builder.finish(key)),
            None => Ok(()),
        }
    }

    /// A random slot with an open pack in it; one that is free now is preferred to one that must be
    /// waited for.
    fn choose(&self, handle: &Handle) -> Result<MutexGuard<'_, Slot>> {
        let first =
            if self.slots.len() == 1 { 0 } else { rand::rng().random_range(0..self.slots.len()) };
        for at in 0..self.slots.len() {
            let Ok(mut slot) = self.slots[(first + at) % self.slots.len()].try_lock() else {
                continue;
            };
            if slot.is_none() {
                *slot = self
                    .uploader
                    .try_memory(self.pack_size)
                    .map(|memory| PackBuilder::new(memory, self.pack_size));
            }
            if slot.is_some() {
                return Ok(slot);
            }
        }
        let mut slot = self.slots[first].lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(PackBuilder::new(
                self.uploader.memory(self.pack_size, handle)?,
                self.pack_size,
            ));
        }
        Ok(slot)
    }

    /// Hands over all open packs.
    pub(super) fn flush(&self, key: &MasterKey) -> Result<()> {
        for slot in &self.slots {
            let open = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(builder) = open {
                self.uploader.submit_blocking(builder.finish(key))?;
            }
        }
        Ok(())
    }
}

//! The packs of one kind that are open at a time.

use std::sync::{Mutex, PoisonError};

use rand::RngExt;
use tokio::runtime::Handle;

use super::pack_builder::{PackBuilder, Sealed};
use super::upload::Uploader;
use crate::crypto::MasterKey;
use crate::error::Result;
use crate::format::BlobKind;

#[derive(Debug)]
pub(super) struct Slots {
    kind: BlobKind,
    slots: Vec<Mutex<Option<PackBuilder>>>,
    pack_size: usize,
    uploader: Uploader,
}

impl Slots {
    pub(super) fn new(kind: BlobKind, count: usize, pack_size: usize, uploader: Uploader) -> Self {
        let slots = (0..count.max(1)).map(|_| Mutex::new(None)).collect();
        Self {
            kind,
            slots,
            pack_size,
            uploader,
        }
    }

    /// Puts a blob into a random open pack; hands the pack over when it is full. May wait for memory.
    pub(super) fn add(&self, sealed: &Sealed, key: &MasterKey, handle: &Handle) -> Result<()> {
        debug_assert_eq!(sealed.blob.kind, self.kind, "trees and data never share a pack");
        let at = if self.slots.len() == 1 {
            0
        } else {
            rand::rng().random_range(0..self.slots.len())
        };
        let full = {
            let mut slot = self.slots[at].lock().unwrap_or_else(PoisonError::into_inner);
            let builder = match &mut *slot {
                Some(builder) => builder,
                empty => empty.insert(PackBuilder::new(self.uploader.memory_for_pack(handle)?)),
            };
            builder.push(sealed, self.pack_size);
            if builder.is_full(self.pack_size) {
                slot.take()
            } else {
                None
            }
        };
        match full {
            Some(builder) => self.uploader.submit_blocking(builder.finish(key)),
            None => Ok(()),
        }
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

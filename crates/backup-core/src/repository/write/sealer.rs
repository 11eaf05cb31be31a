//! Compressing and sealing, in memory that is used again for the next blob.

use std::sync::{Mutex, PoisonError};

use rand::RngExt;

use crate::compress::{Compression, Packer};
use crate::crypto::{IV_LEN, MasterKey, OVERHEAD, TAG_LEN};
use crate::error::{Error, Result};
use crate::format::{BlobKind, PackedBlob};
use crate::id::BlobId;
use crate::repository::read::{Buffers, Decoded};

/// Seals blobs. Keeps as many workspaces as there are threads that seal at the same time: large buffers that were
/// allocated and freed by many threads would pile up in the allocator's per-thread pools.
#[derive(Debug)]
pub(super) struct Sealer {
    compression: Compression,
    verify_sample: f64,
    idle: Mutex<Vec<Bench>>,
}

#[derive(Debug, Default)]
struct Bench {
    packer: Packer,
    sealed: Vec<u8>,
    buffers: Buffers,
}

/// A sealed blob and whether it was opened again and compared.
pub(super) struct Sealed<'a> {
    pub(super) blob: PackedBlob,
    pub(super) bytes: &'a [u8],
    pub(super) sampled: bool,
}

impl Sealer {
    pub(super) fn new(compression: Compression, verify_sample: f64) -> Self {
        Self { compression, verify_sample, idle: Mutex::default() }
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Seals `plain` and hands it to `take`.
    pub(super) fn seal<T>(
        &self,
        key: &MasterKey,
        kind: BlobKind,
        id: BlobId,
        plain: &[u8],
        take: impl FnOnce(Sealed<'_>) -> Result<T>,
    ) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bench = idle.unwrap_or_default();
        let Bench { packer, sealed, buffers } = &mut bench;
        let room = IV_LEN + Packer::room_for(plain.len()) + TAG_LEN;
        if sealed.len() < room {
            sealed.resize(room, 0);
        }
        let compressed = packer.pack(plain, self.compression, &mut sealed[IV_LEN..])?;
        if compressed.is_none() {
            sealed[IV_LEN..IV_LEN + plain.len()].copy_from_slice(plain);
        }
        let sealed = &mut sealed[..compressed.unwrap_or(plain.len()) + OVERHEAD];
        key.seal_in_place(sealed);
        let too_long = |_| Error::internal("a blob is longer than 4 GiB");
        let blob = PackedBlob {
            id,
            kind,
            offset: 0,
            len: u32::try_from(sealed.len()).map_err(too_long)?,
            uncompressed_len: compressed.map(|_| u32::try_from(plain.len()).map_err(too_long)).transpose()?,
        };
        let sampled = self.verify_sample > 0.0 && rand::rng().random_bool(self.verify_sample);
        if sampled {
            verify(key, &blob, sealed, plain, buffers)?;
        }
        let result = take(Sealed { blob, bytes: sealed, sampled });
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(bench);
        result
    }
}

impl Sealer {
    /// Seals a blob of another repository under this key, compressed or not as it is there.
    pub(super) fn seal_again<T>(
        &self,
        key: &MasterKey,
        decoded: &Decoded<'_>,
        take: impl FnOnce(Sealed<'_>) -> Result<T>,
    ) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bench = idle.unwrap_or_default();
        let Bench { sealed, buffers, .. } = &mut bench;
        let len = decoded.opened.len() + OVERHEAD;
        if sealed.len() < len {
            sealed.resize(len, 0);
        }
        let sealed = &mut sealed[..len];
        sealed[IV_LEN..len - TAG_LEN].copy_from_slice(decoded.opened);
        key.seal_in_place(sealed);
        let len = u32::try_from(len).map_err(|_| Error::internal("a blob is longer than 4 GiB"))?;
        let blob = PackedBlob { offset: 0, len, ..*decoded.blob };
        let sampled = self.verify_sample > 0.0 && rand::rng().random_bool(self.verify_sample);
        if sampled {
            verify(key, &blob, sealed, decoded.plain, buffers)?;
        }
        let result = take(Sealed { blob, bytes: sealed, sampled });
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(bench);
        result
    }
}

/// Opens and compares what was sealed: bad memory must not become a bad backup.
fn verify(key: &MasterKey, blob: &PackedBlob, sealed: &[u8], plain: &[u8], buffers: &mut Buffers) -> Result<()> {
    if buffers.decode(key, blob, sealed).is_ok_and(|decoded| decoded.plain == plain) {
        return Ok(());
    }
    Err(Error::damaged("a blob could not be opened again right after it was sealed")
        .with_hint("this points to faulty memory or a faulty processor: test this machine before you trust it"))
}

//! Compressing and sealing, in memory that is used again for the next blob.

use std::sync::{Mutex, PoisonError};

use rand::RngExt;

use crate::compress::{Compression, Packer, Verdicts};
use crate::crypto::{IV_LEN, MasterKey, OVERHEAD};
use crate::error::{Error, Result};
use crate::format::{BlobKind, PackedBlob};
use crate::id::BlobId;
use crate::repository::read::{Decoded, decode_with};

/// Seals blobs. Keeps as many workspaces as there are threads that seal at the same time: large
/// buffers that were allocated and freed by many threads would pile up in the allocator's
/// per-thread pools.
#[derive(Debug)]
pub(super) struct Sealer {
    compression: Compression,
    verify_sample: f64,
    verdicts: Verdicts,
    idle: Mutex<Vec<Bench>>,
}

#[derive(Debug, Default)]
struct Bench {
    packer: Packer,
    sealed: Vec<u8>,
}

/// A sealed blob and whether it was opened again and compared.
pub(super) struct Sealed<'a> {
    pub(super) blob: PackedBlob,
    pub(super) bytes: &'a [u8],
    pub(super) sampled: bool,
}

impl Sealer {
    pub(super) fn new(compression: Compression, verify_sample: f64) -> Self {
        Self { compression, verify_sample, verdicts: Verdicts::default(), idle: Mutex::default() }
    }

    /// Directories are names and random hexadecimal digits: level 1 takes half the time that level
    /// 3 does, and is smaller.
    pub(super) fn compression(&self, kind: BlobKind) -> Compression {
        match (self.compression, kind) {
            (Compression::Auto, BlobKind::Tree) => Compression::Fast,
            (compression, _) => compression,
        }
    }

    /// Compresses and seals `plain` and hands it to `take`.
    pub(super) fn seal<T>(
        &self,
        key: &MasterKey,
        kind: BlobKind,
        id: BlobId,
        plain: &[u8],
        take: impl FnOnce(Sealed<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut bench = self.bench();
        let Bench { packer, sealed } = &mut bench;
        let body = body(sealed, Packer::room_for(plain.len()));
        let compressed = packer.pack(plain, self.compression(kind), body)?;
        if compressed.is_none() {
            body[..plain.len()].copy_from_slice(plain);
        }
        let uncompressed_len =
            compressed.map(|_| u32::try_from(plain.len()).map_err(too_long)).transpose()?;
        let blob = PackedBlob { id, kind, offset: 0, len: 0, uncompressed_len };
        self.finish(key, bench, blob, compressed.unwrap_or(plain.len()), Some(plain), take)
    }

    /// Seals a blob of another repository under this key, compressed or not as it is there.
    pub(super) fn seal_again<T>(
        &self,
        key: &MasterKey,
        decoded: &Decoded<'_>,
        take: impl FnOnce(Sealed<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut bench = self.bench();
        let len = decoded.opened.len();
        body(&mut bench.sealed, len).copy_from_slice(decoded.opened);
        let blob = PackedBlob { offset: 0, ..*decoded.blob };
        self.finish(key, bench, blob, len, decoded.whole(), take)
    }

    fn bench(&self) -> Bench {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Bench {
            packer: Packer::sharing(&self.verdicts),
            ..Bench::default()
        })
    }

    /// Seals the `len` bytes that lie on the bench, looks at a sample of what was sealed, and hands
    /// it over.
    fn finish<T>(
        &self,
        key: &MasterKey,
        mut bench: Bench,
        blob: PackedBlob,
        len: usize,
        plain: Option<&[u8]>,
        take: impl FnOnce(Sealed<'_>) -> Result<T>,
    ) -> Result<T> {
        let sealed = &mut bench.sealed[..len + OVERHEAD];
        key.seal_in_place(sealed);
        let blob = PackedBlob { len: u32::try_from(sealed.len()).map_err(too_long)?, ..blob };
        let sampled = self.verify_sample > 0.0 && rand::rng().random_bool(self.verify_sample);
        let sampled = match plain {
            Some(plain) if sampled => {
                verify(key, &blob, sealed, plain)?;
                true
            }
            _ => false,
        };
        let result = take(Sealed { blob, bytes: sealed, sampled });
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(bench);
        result
    }
}

/// Where the content of a sealed blob goes; makes room for it.
fn body(sealed: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if sealed.len() < len + OVERHEAD {
        // Not longer memory with the old content in it: of new memory only what is written to costs
        // anything.
        *sealed = vec![0; (len + OVERHEAD).max(2 * sealed.len())];
    }
    &mut sealed[IV_LEN..IV_LEN + len]
}

fn too_long(_: std::num::TryFromIntError) -> Error {
    Error::internal("a blob is longer than 4 GiB")
}

/// Opens and compares what was sealed: bad memory must not become a bad backup.
fn verify(key: &MasterKey, blob: &PackedBlob, sealed: &[u8], plain: &[u8]) -> Result<()> {
    if decode_with(key, blob, sealed, |decoded| decoded.is_ok_and(|decoded| decoded.plain == plain))
    {
        return Ok(());
    }
    Err(Error::damaged("a blob could not be decrypted correctly right after its encryption")
        .with_hint(
            "test the memory and processor of this machine before you trust it: one of them is \
             probably faulty",
        ))
}

//! Opening sealed blobs.

use std::io::{BufReader, Read};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::compress::{self, Unpacker};
use crate::crypto::MasterKey;
use crate::error::{Error, Result};
use crate::format::{BlobKind, PackedBlob, Tree, unparsable};
use crate::id::BlobId;
use crate::limits::{self, ShortTexts};

/// Memory for decoding one blob after the other.
#[derive(Debug, Default)]
struct Buffers {
    opened: Vec<u8>,
    plain: Vec<u8>,
    unpacker: Unpacker,
}

/// A blob in all its forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoded<'a> {
    pub(crate) blob: &'a PackedBlob,
    /// As it is stored.
    pub(crate) sealed: &'a [u8],
    /// Decrypted, but still compressed if it is stored so.
    pub(crate) opened: &'a [u8],
    /// Its content, which matches its name; empty for a large directory.
    pub(crate) plain: &'a [u8],
}

impl<'a> Decoded<'a> {
    /// The content, unless it was left out.
    pub(crate) fn whole(&self) -> Option<&'a [u8]> {
        (self.plain.len() == self.blob.plain_len() as usize).then_some(self.plain)
    }
}

impl Buffers {
    /// Opens a sealed blob and checks it against its name.
    fn decode<'a>(
        &'a mut self,
        key: &MasterKey,
        blob: &'a PackedBlob,
        sealed: &'a [u8],
    ) -> Result<Decoded<'a>> {
        require_size(blob, limits::MAX_CHUNK)?;
        let Self { opened, plain, unpacker } = self;
        key.open_into(sealed, opened).map_err(|error| damaged(blob).with_source(error))?;
        let opened = &*opened;
        let content: &[u8] = match blob.uncompressed_len {
            None => opened,
            Some(len) => {
                unpacker
                    .unpack(opened, len as usize, plain)
                    .map_err(|error| damaged(blob).with_source(error))?;
                plain
            }
        };
        if BlobId::digest(content) == blob.id {
            Ok(Decoded { blob, sealed, opened, plain: content })
        } else {
            Err(damaged(blob))
        }
    }
}

/// Opens a sealed blob, checks it against its name, and hands it to `take`. The memory for it is
/// used again by the next blob: there is as much as blobs are decoded at the same time, on however
/// many threads.
pub(crate) fn decode_with<T>(
    key: &MasterKey,
    blob: &PackedBlob,
    sealed: &[u8],
    take: impl FnOnce(Result<Decoded<'_>>) -> T,
) -> T {
    static IDLE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());
    // Taken out while in use: `take` may decode another blob.
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut buffers = idle.unwrap_or_default();
    let result = take(buffers.decode(key, blob, sealed));
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    result
}

/// Trees above this plain size are decoded from a stream: the whole text needs far more memory than
/// its nodes.
const LARGE_TREE: u32 = 8 << 20;

pub(super) fn is_large_tree(blob: &PackedBlob) -> bool {
    blob.kind == BlobKind::Tree && blob.plain_len() > LARGE_TREE
}

pub(super) fn open(key: &MasterKey, blob: &PackedBlob, sealed: &[u8]) -> Result<Vec<u8>> {
    key.open(sealed).map_err(|error| damaged(blob).with_source(error))
}

/// Reads a large directory that was decrypted already.
pub(super) fn large_tree(blob: &PackedBlob, opened: &[u8], stored: usize) -> Result<Tree> {
    let mut hashing = Hashing::of(blob, opened)?;
    let texts = BufReader::with_capacity(64 << 10, ShortTexts::new(&mut hashing));
    let tree = match Tree::from_reader(texts, stored) {
        Err(error) if error.is_syntax() => {
            hashing = Hashing::of(blob, opened)?;
            Tree::from_mended(ShortTexts::new(&mut hashing), stored)
        }
        result => result,
    }
    .map_err(unparsable)?;
    hashing.finish(blob)?;
    Ok(tree)
}

/// Checks a sealed blob against its name; a large directory without holding it in memory.
pub(crate) fn verify_blob(key: &MasterKey, blob: &PackedBlob, sealed: &[u8]) -> Result<()> {
    require_size(blob, limits::MAX_CHUNK)?;
    if !is_large_tree(blob) {
        return decode_with(key, blob, sealed, |decoded| decoded.map(drop));
    }
    let opened = open(key, blob, sealed)?;
    let mut hashing = Hashing::of(blob, &opened)?;
    std::io::copy(&mut hashing, &mut std::io::sink())
        .map_err(|error| damaged(blob).with_source(error))?;
    hashing.finish(blob)
}

pub(super) fn require_size(blob: &PackedBlob, max_data: u32) -> Result<()> {
    match limits::blob_fault(blob, max_data) {
        None => Ok(()),
        Some(message) => Err(Error::damaged(format!("blob {} {message}", blob.id.short()))),
    }
}

/// Passes on the plain content of a blob and hashes it.
struct Hashing<'a> {
    plain: Box<dyn Read + 'a>,
    hash: Sha256,
}

impl<'a> Hashing<'a> {
    fn of(blob: &PackedBlob, opened: &'a [u8]) -> Result<Self> {
        let plain: Box<dyn Read> = match blob.uncompressed_len {
            None => Box::new(opened),
            Some(len) => Box::new(compress::decompressing(opened)?.take(u64::from(len) + 1)),
        };
        Ok(Self { plain, hash: Sha256::new() })
    }

    /// Fails unless all that was read has the hash that the blob is named by.
    fn finish(self, blob: &PackedBlob) -> Result<()> {
        if BlobId::from_bytes(self.hash.finalize().into()) == blob.id {
            Ok(())
        } else {
            Err(damaged(blob))
        }
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.plain.read(buffer)?;
        self.hash.update(&buffer[..len]);
        Ok(len)
    }
}

fn damaged(blob: &PackedBlob) -> Error {
    Error::damaged(format!("blob {} is damaged", blob.id.short()))
}

//! Storing a content that is too large to hold in memory as a whole: the tree of a directory with a
//! million entries has 300 MB before compression and 20 MB after it.

use sha2::{Digest, Sha256};

use super::{BlobWriter, Sealed, Stored};
use crate::compress::{self, Produce};
use crate::crypto::{IV_LEN, TAG_LEN};
use crate::error::{Error, Result};
use crate::format::{BlobKind, PackedBlob};
use crate::id::BlobId;

impl BlobWriter {
    /// Like [`Self::store`]. `produce` writes the content piece by piece; it is called twice, once
    /// to name the content and once to store it, and must write the same bytes both times.
    pub(crate) fn store_streamed(&self, kind: BlobKind, produce: Produce<'_>) -> Result<Stored> {
        let inner = &*self.0;
        let (mut hash, mut len) = (Sha256::new(), 0_u64);
        produce(&mut |piece| {
            hash.update(piece);
            len += piece.len() as u64;
            Ok(())
        })?;
        let id = BlobId::from_bytes(hash.finalize().into());
        if !inner.is_wanted(kind, id) {
            return Ok(Stored { id, new: false });
        }
        inner.uploader.check()?;
        let too_long = |_| Error::internal("a blob is longer than 4 GiB");
        let plain_len = u32::try_from(len).map_err(too_long)?;
        let level = inner.sealer.compression(kind).level();
        let mut bytes = match level {
            Some(level) => compress::compress_pieces(vec![0; IV_LEN], len, level, produce)?,
            None => {
                let mut plain = vec![0; IV_LEN];
                produce(&mut |piece| {
                    plain.extend_from_slice(piece);
                    Ok(())
                })?;
                plain
            }
        };
        bytes.resize(bytes.len() + TAG_LEN, 0);
        let key = inner.repository.repository().key();
        key.seal_in_place(&mut bytes);
        let len = u32::try_from(bytes.len()).map_err(too_long)?;
        let blob =
            PackedBlob { id, kind, offset: 0, len, uncompressed_len: level.map(|_| plain_len) };
        self.place(plain_len as usize, &Sealed { blob, bytes: &bytes, sampled: false })?;
        Ok(Stored { id, new: true })
    }
}

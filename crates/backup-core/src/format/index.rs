//! Index objects: which pack holds which blob.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId};

/// An index object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Packs and what they hold.
    #[serde(default)]
    pub packs: Vec<IndexPack>,
    /// Packs that nothing needed when they were marked: they are deleted later, unless something
    /// needs them again. As rustic writes them; stock restic ignores them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs_to_delete: Vec<MarkedPack>,
}

impl IndexFile {
    /// Blobs in all its packs.
    #[must_use]
    pub fn blobs(&self) -> usize {
        let marked = self.packs_to_delete.iter().map(|pack| pack.blobs.len());
        self.packs.iter().map(|pack| pack.blobs.len()).chain(marked).sum()
    }

    /// Replaces the entries of packs whose true contents are known.
    pub(crate) fn correct(&mut self, contents: &HashMap<PackId, Vec<IndexBlob>>) {
        if contents.is_empty() {
            return;
        }
        let listed = self.packs.iter_mut().map(|pack| (pack.id, &mut pack.blobs));
        let marked = self.packs_to_delete.iter_mut().map(|pack| (pack.id, &mut pack.blobs));
        for (id, blobs) in listed.chain(marked) {
            if let Some(true_blobs) = contents.get(&id) {
                blobs.clone_from(true_blobs);
            }
        }
    }
}

/// A pack that is marked for deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedPack {
    /// The pack.
    pub id: PackId,
    /// Its blobs, so that it can be listed again without being read.
    pub blobs: Vec<IndexBlob>,
    /// When it was marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Its size in bytes, where the writer noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// A pack in an index object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPack {
    /// The pack.
    pub id: PackId,
    /// Its blobs.
    pub blobs: Vec<IndexBlob>,
}

/// A blob in an index object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBlob {
    /// Its name.
    pub id: BlobId,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: BlobKind,
    /// Where it starts in the pack.
    pub offset: u32,
    /// Sealed length.
    pub length: u32,
    /// Plain length, if it is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncompressed_length: Option<u32>,
}

impl From<PackedBlob> for IndexBlob {
    fn from(blob: PackedBlob) -> Self {
        Self {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.len,
            uncompressed_length: blob.uncompressed_len,
        }
    }
}

impl From<IndexBlob> for PackedBlob {
    fn from(blob: IndexBlob) -> Self {
        Self {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            len: blob.length,
            uncompressed_len: blob.uncompressed_length.filter(|len| *len != 0),
        }
    }
}

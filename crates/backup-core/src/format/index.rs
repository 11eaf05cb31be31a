//! Index objects: which pack holds which blob.

use serde::{Deserialize, Serialize};

use super::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId};

/// An index object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Packs and what they hold.
    #[serde(default)]
    pub packs: Vec<IndexPack>,
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

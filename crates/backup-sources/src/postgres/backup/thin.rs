//! Of files that the server sends in full, what changed since the earlier backup.

use bytes::Bytes;

use super::super::changed::{Changed, MainFile};
use super::super::delta::Delta;
use super::earlier::Earlier;

/// What says where a backup begins.
const LABEL: &[u8] = b"backup_label";

/// What is left of a backup.
pub(super) struct Thinning {
    changed: Changed,
    earlier: Earlier,
}

impl Thinning {
    /// To what `changed` names, of what `earlier` has.
    pub(super) fn new(changed: Changed, earlier: Earlier) -> Self {
        Self { changed, earlier }
    }

    /// The backup that is built on.
    pub(super) fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// What is stored instead of a file; `listed` is its path in the manifest. `None` if that is
    /// the file itself.
    pub(super) fn instead(&self, listed: &[u8], size: u64) -> Option<Instead> {
        if listed == LABEL {
            return Some(Instead::new(Stored::Longer(self.label().into())));
        }
        Some(Instead::new(Stored::Blocks(self.delta(listed, size)?)))
    }

    /// What changed of a file, if not all of it is wanted.
    pub(super) fn delta(&self, listed: &[u8], size: u64) -> Option<Delta> {
        let file = MainFile::of(listed).filter(|_| self.earlier.has(listed))?;
        self.changed.delta(file, size)
    }

    /// What the label of the backup says besides.
    pub(super) fn label(&self) -> String {
        self.earlier.label()
    }
}

/// What is stored instead of a file, while that comes.
pub(super) struct Instead {
    stored: Stored,
    at: u64,
    crc: u32,
}

enum Stored {
    Blocks(Delta),
    /// With something behind it.
    Longer(Bytes),
}

impl Instead {
    fn new(stored: Stored) -> Self {
        Self { stored, at: 0, crc: 0 }
    }

    /// Whether it is a part of the file, and called so.
    pub(super) fn is_part(&self) -> bool {
        matches!(self.stored, Stored::Blocks(_))
    }

    /// Its bytes, if the file has `size`.
    pub(super) fn size(&self, size: u64) -> u64 {
        match &self.stored {
            Stored::Blocks(delta) => delta.size(),
            Stored::Longer(more) => size + more.len() as u64,
        }
    }

    /// What it begins with.
    pub(super) fn head(&mut self) -> Bytes {
        match &self.stored {
            Stored::Blocks(delta) => {
                let head = Bytes::from(delta.head());
                self.sum(&head);
                head
            }
            Stored::Longer(_) => Bytes::new(),
        }
    }

    /// What more of the file becomes.
    pub(super) fn take(&mut self, data: &Bytes) -> Vec<Bytes> {
        let pieces: Vec<Bytes> = match &self.stored {
            Stored::Blocks(delta) => {
                delta.select(self.at, data.len()).map(|range| data.slice(range)).collect()
            }
            Stored::Longer(_) => vec![data.clone()],
        };
        self.at += data.len() as u64;
        pieces.iter().for_each(|piece| self.sum(piece));
        pieces
    }

    /// What it ends with.
    pub(super) fn tail(&mut self) -> Bytes {
        match &self.stored {
            Stored::Blocks(_) => Bytes::new(),
            Stored::Longer(more) => {
                let more = more.clone();
                self.sum(&more);
                more
            }
        }
    }

    /// Of everything.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    fn sum(&mut self, piece: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, piece);
    }
}

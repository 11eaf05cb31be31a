//! Reading index objects as restic, rustic and this program write them: without white space, and
//! with fields in one order. The index of a large repository is gigabytes of that, and this takes a
//! third of a general parser's time. Whatever looks different is left to one.

use std::io::Read;

use bytes::Bytes;

use super::sealed::{Opened, PIECE, understand};
use super::{BlobKind, IndexBlob, IndexFile, IndexPack, MarkedPack};
use crate::crypto::MasterKey;
use crate::error::Result;
use crate::id::{BlobId, ID_LEN, PackId};
use crate::limits;

impl IndexFile {
    /// Opens and reads an index object.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it is none, or was changed.
    pub fn open(key: &MasterKey, sealed: Bytes) -> Result<Self> {
        Self::read(Opened::new(key, sealed.into())?)
    }

    fn read(opened: Opened) -> Result<Self> {
        let file = usual(opened.reader()?);
        file.map_or_else(|| understand(&opened.text(limits::MAX_INDEX)?), Ok)
    }
}

/// The whole text, if all of it has the usual form.
fn usual(json: impl Read) -> Option<IndexFile> {
    let mut text = Text::of(json);
    text.show_more();
    text.skip(b"{\"packs\":")?;
    let packs = text.list(Text::pack)?;
    let is_marked = text.skip(b",\"packs_to_delete\":").is_some();
    let packs_to_delete = if is_marked { text.list(Text::marked_pack)? } else { Vec::new() };
    text.skip(b"}")?;
    text.show_more();
    (text.has_ended && !text.has_failed && text.rest().is_empty())
        .then_some(IndexFile { packs, packs_to_delete })
}

/// More than any item has before its list begins, and after that has ended.
const AHEAD: usize = 1 << 10;

/// What is still to be read. Only a piece of it is in memory: of an item that begins there at least
/// [`AHEAD`] bytes.
struct Text<R> {
    source: R,
    piece: Box<[u8]>,
    at: usize,
    end: usize,
    /// How much more may be read.
    most: usize,
    /// Whether nothing more is read; for there is nothing, or
    has_ended: bool,
    /// because it could not be read, or is too long. The general parser meets the same, and tells
    /// it.
    has_failed: bool,
}

impl<R: Read> Text<R> {
    fn of(source: R) -> Self {
        Self {
            source,
            piece: vec![0; PIECE].into(),
            at: 0,
            end: 0,
            most: limits::MAX_INDEX,
            has_ended: false,
            has_failed: false,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.piece[self.at..self.end]
    }

    fn show_more(&mut self) {
        if self.end - self.at >= AHEAD || self.has_ended {
            return;
        }
        self.piece.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < self.piece.len() && !self.has_ended {
            match self.source.read(&mut self.piece[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(len) if len <= self.most => {
                    self.end += len;
                    self.most -= len;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => (self.has_ended, self.has_failed) = (true, true),
            }
        }
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.rest().starts_with(expected).then(|| self.at += expected.len())
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.skip(b"[")?;
        if self.skip(b"]").is_some() {
            return Some(items);
        }
        loop {
            self.show_more();
            items.push(item(self)?);
            if self.skip(b",").is_none() {
                self.skip(b"]")?;
                return Some(items);
            }
        }
    }

    fn pack(&mut self) -> Option<IndexPack> {
        let pack = self.listed_pack()?;
        self.skip(b"}")?;
        Some(pack)
    }

    fn marked_pack(&mut self) -> Option<MarkedPack> {
        let IndexPack { id, blobs } = self.listed_pack()?;
        let mut time = None;
        if self.skip(b",\"time\":\"").is_some() {
            let text = self.rest().split(|byte| *byte == b'"').next()?;
            let len = text.len();
            time = Some(std::str::from_utf8(text).ok()?.parse().ok()?);
            self.at += len;
            self.skip(b"\"")?;
        }
        let size = self.optional_number(b",\"size\":")?;
        self.skip(b"}")?;
        Some(MarkedPack { id, blobs, time, size })
    }

    fn listed_pack(&mut self) -> Option<IndexPack> {
        self.skip(b"{\"id\":\"")?;
        let id = PackId::from_digits(self.digits_of_id()?)?;
        self.skip(b"\",\"blobs\":")?;
        Some(IndexPack { id, blobs: self.list(Self::blob)? })
    }

    fn blob(&mut self) -> Option<IndexBlob> {
        self.skip(b"{\"id\":\"")?;
        let id = BlobId::from_digits(self.digits_of_id()?)?;
        let kind = match self.skip(b"\",\"type\":\"data\",\"offset\":") {
            Some(()) => BlobKind::Data,
            None => {
                self.skip(b"\",\"type\":\"tree\",\"offset\":")?;
                BlobKind::Tree
            }
        };
        let offset = self.number()?;
        self.skip(b",\"length\":")?;
        let length = self.number()?;
        let uncompressed_length = self.optional_number(b",\"uncompressed_length\":")?;
        self.skip(b"}")?;
        Some(IndexBlob { id, kind, offset, length, uncompressed_length })
    }

    fn digits_of_id(&mut self) -> Option<&[u8]> {
        let digits = self.piece[..self.end].get(self.at..)?.get(..2 * ID_LEN)?;
        self.at += 2 * ID_LEN;
        Some(digits)
    }

    /// The number that follows this, if it does.
    fn optional_number(&mut self, name: &[u8]) -> Option<Option<u32>> {
        match self.skip(name) {
            Some(()) => self.number().map(Some),
            None => Some(None),
        }
    }

    fn number(&mut self) -> Option<u32> {
        let mut value: u32 = 0;
        let mut digits = 0;
        while let Some(byte @ b'0'..=b'9') = self.rest().get(digits) {
            value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
            digits += 1;
        }
        // Numbers do not begin with zeros.
        if digits == 0 || (digits > 1 && self.piece[self.at] == b'0') {
            return None;
        }
        self.at += digits;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob() -> impl Strategy<Value = IndexBlob> {
        let kind = prop_oneof![Just(BlobKind::Data), Just(BlobKind::Tree)];
        (any::<[u8; ID_LEN]>(), kind, any::<u32>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(id, kind, offset, length, uncompressed_length)| IndexBlob {
                id: BlobId::from_bytes(id),
                kind,
                offset,
                length,
                uncompressed_length,
            },
        )
    }

    fn pack() -> impl Strategy<Value = IndexPack> {
        (any::<[u8; ID_LEN]>(), prop::collection::vec(blob(), 0..4))
            .prop_map(|(id, blobs)| IndexPack { id: PackId::from_bytes(id), blobs })
    }

    fn marked() -> impl Strategy<Value = MarkedPack> {
        let time = prop::option::of((-9_000_000_000_i64..9_000_000_000, 0..1_000_000_000_i32));
        (pack(), time, any::<Option<u32>>()).prop_map(|(IndexPack { id, blobs }, time, size)| {
            let time = time.and_then(|(second, nano)| jiff::Timestamp::new(second, nano).ok());
            MarkedPack { id, blobs, time, size }
        })
    }

    fn file() -> impl Strategy<Value = IndexFile> {
        (prop::collection::vec(pack(), 0..4), prop::collection::vec(marked(), 0..3))
            .prop_map(|(packs, packs_to_delete)| IndexFile { packs, packs_to_delete })
    }

    proptest! {
        #[test]
        fn what_is_written_is_of_the_usual_form(file in file()) {
            prop_assert_eq!(usual(&serde_json::to_vec(&file).unwrap()[..]), Some(file));
        }

        /// Whatever is changed: it says what a general parser says.
        #[test]
        fn changed_text_means_what_it_says(
            file in file(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"0019af,:\"{}[]-.eE \\x"[..]), 0..3), 1..4),
        ) {
            let mut json = serde_json::to_vec(&file).unwrap();
            for (at, byte, how) in changes {
                let at = at.index(json.len());
                match how {
                    0 => json[at] = byte,
                    1 => json.insert(at, byte),
                    _ => _ = json.remove(at),
                }
            }
            let general = serde_json::from_slice::<IndexFile>(&json).ok();
            prop_assert_eq!(IndexFile::read(Opened::of(&json)).ok(), general, "{}", String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn other_forms_are_left_to_a_general_parser() {
        let id = "ab".repeat(ID_LEN);
        let blob = format!(r#"{{"type":"data","id":"{id}","offset":0,"length":5}}"#);
        let text =
            format!(r#"{{ "supersedes": ["{id}"], "packs": [{{"blobs":[{blob}],"id":"{id}"}}] }}"#);
        assert_eq!(usual(text.as_bytes()), None);
        let file = IndexFile::read(Opened::of(text.as_bytes())).unwrap();
        assert_eq!((file.blobs(), file.packs[0].blobs[0].length), (1, 5));
        assert!(IndexFile::read(Opened::of(b"{\"packs\":[]")).unwrap_err().is_damage());
        assert_eq!(usual(&b"{\"packs\":[]}"[..]), Some(IndexFile::default()));
    }

    /// Gives a few bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = self.1.min(buffer.len());
            self.0.read(&mut buffer[..len])
        }
    }

    /// Pieces end anywhere.
    #[test]
    fn what_is_longer_than_a_piece_is_read_whole() {
        let blob = |number: u32, kind| {
            let uncompressed_length = number.is_multiple_of(3).then_some(number * 7);
            let id = BlobId::digest(&number.to_le_bytes());
            IndexBlob { id, kind, offset: number * 1000, length: number, uncompressed_length }
        };
        let id = PackId::digest(b"pack");
        let marked = |number| MarkedPack {
            id,
            blobs: vec![blob(number, BlobKind::Tree)],
            time: Some(jiff::Timestamp::from_second(number.into()).unwrap()),
            size: Some(number),
        };
        for shift in 0..150 {
            let packs = vec![IndexPack {
                id,
                blobs: (0..700 + shift).map(|n| blob(n, BlobKind::Data)).collect(),
            }];
            let file = IndexFile { packs, packs_to_delete: (0..shift).map(marked).collect() };
            let json = serde_json::to_vec(&file).unwrap();
            assert!(json.len() > PIECE);
            assert_eq!(usual(&json[..]).as_ref(), Some(&file));
            assert_eq!(usual(Slowly(&json, 100 + shift as usize)).as_ref(), Some(&file));
            assert_eq!(usual(&json[..json.len() - 1]), None);
            assert_eq!(IndexFile::read(Opened::of(&json)).unwrap(), file);
        }
    }
}

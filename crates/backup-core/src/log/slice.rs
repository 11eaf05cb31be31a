//! Slices: what a capturer stores of a log at once. A slice is a valid pack, so that stock tools
//! can put it back into an index.
//!
//! ```text
//!  data blob … ‖ header blob (JSON, a data blob as well) ‖ table of the pack
//! ```

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::position::Mark;
use super::{Position, Scope, Tick, Watermark};
use crate::compress::{Compression, Packer};
use crate::crypto::{IV_LEN, MasterKey, OVERHEAD};
use crate::error::{Error, Result};
use crate::format::{BlobKind, PackHeader, PackedBlob, SLICE_VERSION, require_known_json};
use crate::id::BlobId;
use crate::repository::decode_with;
use crate::source::LogSegment;

/// Blobs of a slice are cut here.
const MAX_BLOB: usize = 4 << 20;
/// Level of the compression: what is rolled up is compressed anew.
const COMPRESSION: Compression = Compression::Fast;
/// Between two moments that are noted there is at least so much time.
const RESOLUTION_MICROS: i64 = 100_000;

/// What a slice says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceHeader {
    version: u32,
    /// Name of the stream.
    pub stream: String,
    /// Branch that it is a piece of.
    pub branch: String,
    /// Where the branch left another one, if it began in this slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Position>,
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// What happened when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<Tick>,
    /// When it was captured, by the clock of the capturer.
    pub captured: Timestamp,
    /// Where its bytes belong, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// SHA-256 of all its bytes, in hexadecimal.
    pub sha256: String,
    /// Why what comes before it is missing, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// What the source needs, besides the position, to go on behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The first of an epoch: which slice was the last one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<TakeOver>,
}

/// Where a capturer goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// Who captures, for people.
    pub holder: String,
    /// Epoch and sequence of the last slice that was there.
    pub after: Option<(u64, u64)>,
    /// Where that ended,
    pub position: Option<Position>,
    /// and what the source needs besides to go on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Bytes of a file, and the piece of the log that they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where the piece begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// The file's path in snapshots.
    pub path: String,
    /// Place in the file.
    pub at: u64,
    /// How many.
    pub len: u64,
    /// What they are about, if that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// A slice with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// What it says of itself.
    pub header: SliceHeader,
    /// Its bytes, part after part.
    pub data: Bytes,
}

/// A slice that is being filled: segments of one branch.
#[derive(Debug)]
pub(super) struct Filling {
    header: SliceHeader,
    data: Vec<u8>,
}

impl Filling {
    /// Begins with a segment.
    pub(super) fn begin(
        stream: &str,
        segment: LogSegment,
        gap: Option<String>,
        now: Timestamp,
    ) -> Self {
        let header = SliceHeader {
            version: SLICE_VERSION,
            stream: stream.to_owned(),
            branch: segment.branch.clone(),
            parent: segment.parent.clone(),
            from: segment.from,
            to: segment.from,
            ticks: Vec::new(),
            captured: now,
            parts: Vec::new(),
            sha256: String::new(),
            gap,
            state: None,
            takes_over: None,
        };
        let mut filling = Self { header, data: Vec::new() };
        filling.add(segment);
        filling
    }

    /// Whether a segment goes on where this ends.
    pub(super) fn fits(&self, segment: &LogSegment) -> bool {
        segment.parent.is_none()
            && segment.branch == self.header.branch
            && segment.from == self.header.to
    }

    pub(super) fn add(&mut self, segment: LogSegment) {
        self.header.to = segment.to;
        for tick in segment.ticks {
            self.note(tick);
        }
        if segment.data.is_empty() {
            return;
        }
        let (path, len) = (segment.path.display().into_owned(), segment.data.len() as u64);
        self.data.extend_from_slice(&segment.data);
        match self.header.parts.last_mut() {
            Some(last)
                if last.path == path
                    && last.at + last.len == segment.at
                    && last.to == segment.from =>
            {
                last.len += len;
                last.to = segment.to;
                last.scope = Scope::join(last.scope.take(), segment.scope.as_ref());
            }
            _ => {
                let LogSegment { from, to, at, scope, .. } = segment;
                self.header.parts.push(Part {
                    from,
                    to,
                    path,
                    at,
                    len,
                    scope: scope.and_then(Scope::noted),
                });
            }
        }
    }

    /// What the source needs to go on behind what was added last.
    pub(super) fn keep_state(&mut self, state: Option<String>) {
        self.header.state = state;
    }

    /// A moment takes the place of the last one that was noted if both are close to the one before.
    fn note(&mut self, tick: Tick) {
        let ticks = &mut self.header.ticks;
        if let [.., before, last] = &ticks[..]
            && last.time.as_microsecond() - before.time.as_microsecond() < RESOLUTION_MICROS
            && last.time >= before.time
            && tick.time >= last.time
        {
            ticks.pop();
        }
        ticks.push(tick);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn finish(mut self) -> Slice {
        self.header.sha256 = hex::encode(Sha256::digest(&self.data));
        Slice { header: self.header, data: self.data.into() }
    }
}

impl Slice {
    /// A note without bytes: somebody takes over.
    pub(super) fn take_over(stream: &str, note: TakeOver, now: Timestamp) -> Self {
        let at = note.position.clone().unwrap_or_else(|| Position::new("", 0));
        let mut slice = Self::without_bytes(stream, Mark { at, state: None }, now);
        slice.header.takes_over = Some(note);
        slice
    }

    /// A record without bytes: up to which time everything is there, before something is missing.
    pub(super) fn complete(
        stream: &str,
        state: Option<String>,
        watermark: &Watermark,
        now: Timestamp,
    ) -> Self {
        let Watermark { at: Position { branch, offset }, time, .. } = watermark.clone();
        let begin = Mark { at: Position::new(branch, watermark.stored_to()), state };
        let mut slice = Self::without_bytes(stream, begin, now);
        (slice.header.to, slice.header.ticks) = (offset, vec![Tick { offset, time }]);
        slice
    }

    /// A record without bytes: why everything before `end` is missing, and up to which time nothing
    /// has happened behind it.
    pub(super) fn gap(
        stream: &str,
        end: Mark,
        time: Timestamp,
        reason: String,
        now: Timestamp,
    ) -> Self {
        let mut slice = Self::without_bytes(stream, end, now);
        slice.header.ticks = vec![Tick { offset: slice.header.to, time }];
        slice.header.gap = Some(reason);
        slice
    }

    fn without_bytes(stream: &str, Mark { at, state }: Mark, now: Timestamp) -> Self {
        let header = SliceHeader {
            version: SLICE_VERSION,
            stream: stream.to_owned(),
            branch: at.branch,
            parent: None,
            from: at.offset,
            to: at.offset,
            ticks: Vec::new(),
            captured: now,
            parts: Vec::new(),
            sha256: hex::encode(Sha256::digest(b"")),
            gap: None,
            state,
            takes_over: None,
        };
        Self { header, data: Bytes::new() }
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Position {
        self.header.end()
    }

    /// The pack.
    pub(super) fn seal(&self, key: &MasterKey) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(&self.header)
            .map_err(|error| Error::internal("cannot encode a slice").with_source(error))?;
        let mut pack = Vec::with_capacity(self.data.len() / 2 + json.len() + 1024);
        let mut table = PackHeader::default();
        let mut packer = Packer::default();
        for plain in self.data.chunks(MAX_BLOB).chain([&json[..]]) {
            table.blobs.push(seal_blob(key, plain, &mut packer, &mut pack)?);
        }
        pack.extend(table.seal(key));
        Ok(pack)
    }

    /// Opens a pack and checks everything in it.
    pub(super) fn open(pack: &[u8], key: &MasterKey) -> Result<Self> {
        let table = PackHeader::of_pack(pack, key)?;
        let Some((last, data)) = table.blobs.split_last() else {
            return Err(Error::damaged("the slice is empty"));
        };
        let header = SliceHeader::parse(&open_blob(pack, last, key)?)?;
        let mut plain = Vec::new();
        for blob in data {
            plain.extend(open_blob(pack, blob, key)?);
        }
        let described: u64 = header.parts.iter().map(|part| part.len).sum();
        if described != plain.len() as u64 || hex::encode(Sha256::digest(&plain)) != header.sha256 {
            return Err(Error::damaged("the content of the slice does not match its header"));
        }
        Ok(Self { header, data: plain.into() })
    }
}

impl SliceHeader {
    fn parse(json: &[u8]) -> Result<Self> {
        require_known_json("the slice", json, SLICE_VERSION)?;
        serde_json::from_slice(json).map_err(|error| {
            Error::damaged("cannot parse the header of the slice").with_source(error)
        })
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Position {
        Position::new(self.branch.clone(), self.to)
    }

    /// The watermark, if the slice holds nothing else; see
    /// [`Slice::complete`].
    pub(super) fn watermark(&self) -> Option<Watermark> {
        let says_only = self.from == self.to && self.takes_over.is_none();
        let last = self.ticks.last().filter(|_| says_only)?;
        Some(Watermark::new(Position::new(self.branch.clone(), last.offset), last.time))
    }

    /// From where to go on; `None` if that is not known.
    pub(super) fn mark(&self) -> Option<Mark> {
        match &self.takes_over {
            // The note of somebody who has not written anything may know no position.
            Some(note) => Some(Mark { at: note.position.clone()?, state: note.state.clone() }),
            None => Some(Mark { at: self.end(), state: self.state.clone() }),
        }
    }

    /// The header of a pack of which only the end was read; `None` if that is too little.
    pub(super) fn of_tail(tail: &[u8], pack_len: u64, key: &MasterKey) -> Result<Option<Self>> {
        let last_four =
            tail.last_chunk().ok_or_else(|| Error::damaged("the slice is too short"))?;
        let table_len = PackHeader::tail_len(*last_four, pack_len)?;
        let Some(table_at) =
            usize::try_from(table_len).ok().and_then(|len| tail.len().checked_sub(len))
        else {
            return Ok(None);
        };
        let table = PackHeader::open(&tail[table_at..], pack_len, key)?;
        let blob = table.blobs.last().ok_or_else(|| Error::damaged("the slice is empty"))?;
        let Some(at) = table_at.checked_sub(blob.len as usize) else {
            return Ok(None);
        };
        let plain = decode_with(key, blob, &tail[at..table_at], |decoded| {
            decoded.map(|blob| blob.plain.to_vec())
        })?;
        Self::parse(&plain).map(Some)
    }
}

fn seal_blob(
    key: &MasterKey,
    plain: &[u8],
    packer: &mut Packer,
    pack: &mut Vec<u8>,
) -> Result<PackedBlob> {
    let too_long = |_| Error::internal("a slice is longer than 4 GiB");
    let start = pack.len();
    pack.resize(start + OVERHEAD + Packer::room_for(plain.len()), 0);
    let body = &mut pack[start + IV_LEN..];
    let compressed = packer.pack(plain, COMPRESSION, body)?;
    if compressed.is_none() {
        body[..plain.len()].copy_from_slice(plain);
    }
    pack.truncate(start + OVERHEAD + compressed.unwrap_or(plain.len()));
    key.seal_in_place(&mut pack[start..]);
    Ok(PackedBlob {
        id: BlobId::digest(plain),
        kind: BlobKind::Data,
        offset: u32::try_from(start).map_err(too_long)?,
        len: u32::try_from(pack.len() - start).map_err(too_long)?,
        uncompressed_len: compressed
            .map(|_| u32::try_from(plain.len()))
            .transpose()
            .map_err(too_long)?,
    })
}

fn open_blob(pack: &[u8], blob: &PackedBlob, key: &MasterKey) -> Result<Vec<u8>> {
    let start = blob.offset as usize;
    let sealed = pack
        .get(start..start + blob.len as usize)
        .ok_or_else(|| Error::damaged("the slice is truncated"))?;
    decode_with(key, blob, sealed, |decoded| decoded.map(|blob| blob.plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::EntryPath;

    fn tick(offset: u64, micros: i64) -> Tick {
        Tick { offset, time: Timestamp::from_microsecond(micros).unwrap() }
    }

    fn segment(from: u64, to: u64, at: u64, data: &[u8]) -> LogSegment {
        LogSegment {
            branch: "1".into(),
            parent: None,
            from,
            to,
            ticks: vec![tick(to, i64::try_from(to).unwrap() * 30_000)],
            path: EntryPath::new("/log/a").unwrap(),
            at,
            scope: None,
            data: Bytes::copy_from_slice(data),
        }
    }

    fn slice(len: usize) -> Slice {
        let data: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let mut filling =
            Filling::begin("s", segment(5, 6, 0, &data), Some("why".into()), Timestamp::UNIX_EPOCH);
        filling.add(segment(6, 7, data.len() as u64, b"more"));
        filling.finish()
    }

    #[test]
    fn what_is_sealed_is_opened() {
        let key = MasterKey::generate();
        for len in [1, 1000, MAX_BLOB, 2 * MAX_BLOB + 1] {
            let slice = slice(len);
            let pack = slice.seal(&key).unwrap();
            assert_eq!(Slice::open(&pack, &key).unwrap(), slice);
            assert_eq!(slice.header.parts.len(), 1);
            let header = SliceHeader::of_tail(
                &pack[pack.len().saturating_sub(2048)..],
                pack.len() as u64,
                &key,
            );
            assert_eq!(header.unwrap().as_ref(), Some(&slice.header));
            assert_eq!(
                SliceHeader::of_tail(&pack[pack.len() - 100..], pack.len() as u64, &key).unwrap(),
                None
            );
        }
    }

    #[test]
    fn damage_is_noticed() {
        let key = MasterKey::generate();
        let pack = slice(5000).seal(&key).unwrap();
        for at in (0..pack.len()).step_by(7) {
            let mut bad = pack.clone();
            bad[at] ^= 1;
            assert!(Slice::open(&bad, &key).is_err(), "{at}");
        }
        assert!(Slice::open(&pack[..pack.len() - 1], &key).is_err());
        assert!(Slice::open(&pack, &MasterKey::generate()).is_err());
    }

    #[test]
    fn newer_slices_are_refused_and_never_count_as_damaged() {
        let json = serde_json::to_vec(&slice(9).header).unwrap();
        assert!(SliceHeader::parse(&json).is_ok());
        let mut newer: serde_json::Value = serde_json::from_slice(&json).unwrap();
        newer["version"] = (SLICE_VERSION + 1).into();
        // Another form of a field must not hide the version.
        newer["parts"] = "elsewhere".into();
        let error = SliceHeader::parse(newer.to_string().as_bytes()).unwrap_err();
        assert!(!error.is_damage(), "{error}");
        assert!(error.to_string().contains("format 2, this program reads up to 1"), "{error}");
    }

    #[test]
    fn moments_are_thinned_and_the_last_one_stays() {
        let mut filling = Filling::begin("s", segment(0, 1, 0, b"x"), None, Timestamp::UNIX_EPOCH);
        for n in 1..100 {
            filling.add(segment(n, n + 1, n, b"x"));
        }
        let ticks = filling.finish().header.ticks;
        assert_eq!(ticks.last().unwrap().offset, 100);
        assert!((20..60).contains(&ticks.len()), "{}", ticks.len());
        // No moment of a second is left without one that is near.
        assert!(ticks.windows(2).all(|pair| pair[1].offset - pair[0].offset <= 8), "{ticks:?}");
    }
}

//! Reading the log that a plan names, piece after piece, from snapshots and slices alike.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::detail::{DETAIL_DIR, Detail};
use super::gather::LogView;
use super::lane::{Lane, StoredSlice};
use super::log_file::{LogFile, find};
use super::slice::Part;
use super::{Place, Position, Stream, Stretch};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{LogExtent, METADATA_DIR};
use crate::id::BlobId;
use crate::repository::{IndexedRepository, SnapshotInfo, SnapshotReader};

impl LogView {
    /// Reads these pieces of it, which [`Timeline::pieces`](super::Timeline::pieces) names, in
    /// order.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if they are not of this view.
    pub fn tape(
        &self,
        indexed: &IndexedRepository,
        stream: &Stream,
        pieces: &[Stretch],
        cx: &Context,
    ) -> Result<LogTape> {
        LogTape::new(indexed, stream, self, pieces, &[], cx)
    }
}

/// Bytes of the log, and the piece that they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// Branch of the piece.
    pub branch: String,
    /// Where the piece begins. Its bytes may come in several parts.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// If the log goes on with another branch: events behind this offset do not count.
    pub limit: Option<u64>,
    /// The file that the bytes belong to in snapshots.
    pub path: String,
    /// Their place in it.
    pub at: u64,
    /// The bytes.
    pub data: Bytes,
}

/// The log from one position to another, in order. Pieces may overlap: whoever reads it leaves out
/// the events that came already.
pub struct LogTape {
    indexed: IndexedRepository,
    lane: Lane,
    pieces: VecDeque<Piece>,
    turns: Vec<Position>,
    parts: VecDeque<Pending>,
    reading: Option<Reading>,
    /// The file that was read last, and the blob: small parts lie behind each other.
    file: Option<LogFile>,
    blob: Option<(BlobId, Bytes)>,
    only: Option<Only>,
    cx: Context,
}

/// What is left out.
pub(super) struct Only {
    /// If this is known, the piece in which the log ends comes in any case: what is behind that
    /// place tells where to stop.
    pub(super) stop: Option<Position>,
    pub(super) is_wanted: Box<dyn Fn(&Part) -> bool + Send + Sync>,
    pub(super) left_out: u64,
}

impl Only {
    fn takes(&self, branch: &str, part: &Part) -> bool {
        let is_last = |stop: &Position| branch == stop.branch && part.to > stop.offset;
        self.stop.as_ref().is_some_and(is_last) || (self.is_wanted)(part)
    }
}

#[derive(Debug)]
enum Piece {
    /// With what its header says of its parts.
    Slice(StoredSlice, String, Vec<Part>),
    Extent(Box<(SnapshotInfo, LogExtent)>),
}

enum Pending {
    Ready(LogPart),
    File(Box<(SnapshotReader, String, Part)>),
}

/// A part that is being read from a file.
struct Reading {
    next: LogPart,
    left: u64,
    stream: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for LogTape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTape").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl LogTape {
    pub(super) fn new(
        indexed: &IndexedRepository,
        stream: &Stream,
        view: &LogView,
        log: &[Stretch],
        turns: &[Position],
        cx: &Context,
    ) -> Result<Self> {
        let pieces = log.iter().map(|stretch| piece(view, stretch)).collect::<Result<_>>()?;
        Ok(Self {
            lane: Lane::new(indexed.repository(), stream),
            indexed: indexed.clone(),
            pieces,
            turns: turns.to_vec(),
            parts: VecDeque::new(),
            reading: None,
            file: None,
            blob: None,
            only: None,
            cx: cx.clone(),
        })
    }

    pub(super) fn restricted_to(self, only: Only) -> Self {
        Self { only: Some(only), ..self }
    }

    /// How many pieces were left out so far, without being read.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.only.as_ref().map_or(0, |only| only.left_out)
    }

    /// Whether any of these parts is wanted.
    fn takes_any(&mut self, branch: &str, parts: &[Part]) -> bool {
        let Some(only) = &mut self.only else { return true };
        let takes = parts.iter().any(|part| only.takes(branch, part));
        only.left_out += u64::from(!takes && !parts.is_empty());
        takes
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if something of it cannot be read;
    /// those of the sink; cancellation.
    pub async fn next(&mut self) -> Result<Option<LogPart>> {
        loop {
            self.cx.check_cancelled()?;
            if let Some(part) = self.read_on().await? {
                return Ok(Some(part));
            }
            match self.parts.pop_front() {
                Some(Pending::Ready(part)) => return Ok(Some(part)),
                Some(Pending::File(file)) => {
                    let (snapshot, branch, part) = *file;
                    self.open(&snapshot, branch, &part).await?;
                }
                None => match self.pieces.pop_front() {
                    Some(piece) => self.load(piece).await?,
                    None => return Ok(None),
                },
            }
        }
    }

    fn limit(&self, branch: &str) -> Option<u64> {
        self.turns.iter().find(|turn| turn.branch == branch).map(|turn| turn.offset)
    }

    async fn read_on(&mut self) -> Result<Option<LogPart>> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        if reading.left > 0
            && let Some(bytes) = reading.stream.next().await.transpose()?
        {
            let len = bytes.len().min(usize::try_from(reading.left).unwrap_or(usize::MAX));
            let part = LogPart { data: bytes.slice(..len), ..reading.next.clone() };
            reading.left -= len as u64;
            reading.next.at += len as u64;
            return Ok(Some(part));
        }
        let missing = reading.left;
        let path = reading.next.path.clone();
        self.reading = None;
        if missing > 0 {
            Err(Error::damaged(format!("{path} is shorter than the log description states")))
        } else {
            Ok(None)
        }
    }

    async fn load(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Slice(_, branch, parts) if !self.takes_any(&branch, &parts) => {}
            Piece::Slice(stored, ..) => {
                let slice = self.lane.read(&stored).await?.ok_or_else(|| {
                    Error::damaged(format!("slice {} is missing", stored.name())).with_hint(
                        "run the command again: another process may have rolled up the slice",
                    )
                })?;
                let mut data = slice.data;
                for part in slice.header.parts {
                    let len = usize::try_from(part.len).unwrap_or(usize::MAX).min(data.len());
                    self.parts.push_back(Pending::Ready(LogPart {
                        branch: slice.header.branch.clone(),
                        from: part.from,
                        to: part.to,
                        limit: self.limit(&slice.header.branch),
                        path: part.path,
                        at: part.at,
                        data: data.split_to(len),
                    }));
                }
            }
            Piece::Extent(extent) => {
                let (info, extent) = *extent;
                let snapshot = self.indexed.snapshot(&info);
                let detail = read_detail(&snapshot, &extent).await?;
                for part in detail.parts {
                    if self.takes_any(&extent.branch, std::slice::from_ref(&part)) {
                        let file = (snapshot.clone(), extent.branch.clone(), part);
                        self.parts.push_back(Pending::File(Box::new(file)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins to read a part: the blobs that it lies in and, because others are fetched ahead, no
    /// more.
    async fn open(&mut self, snapshot: &SnapshotReader, branch: String, part: &Part) -> Result<()> {
        let file = match self
            .file
            .take_if(|file| file.snapshot == snapshot.id() && file.path == part.path)
        {
            Some(file) => file,
            None => LogFile::open(snapshot, &part.path).await?,
        };
        if part.at >= file.len && part.len > 0 {
            return Err(Error::damaged(format!(
                "{} is shorter than the log description states",
                part.path
            )));
        }
        let (skip, blobs) = file.blobs(part.at, part.len);
        let first = match blobs.first() {
            Some(id) => self.blob(snapshot, *id).await?,
            None => Bytes::new(),
        };
        let first = futures::stream::iter([Ok(first.slice(skip.min(first.len())..))]);
        let stream = match blobs.get(1..) {
            None | Some([]) => first.boxed(),
            Some(rest) => first.chain(snapshot.blobs(rest.to_vec())).boxed(),
        };
        self.file = Some(file);
        let (from, to) = (part.from, part.to);
        let limit = self.limit(&branch);
        let next = LogPart {
            branch,
            from,
            to,
            limit,
            path: part.path.clone(),
            at: part.at,
            data: Bytes::new(),
        };
        self.reading = Some(Reading { next, left: part.len, stream });
        Ok(())
    }

    async fn blob(&mut self, snapshot: &SnapshotReader, id: BlobId) -> Result<Bytes> {
        if let Some((known, bytes)) = &self.blob
            && *known == id
        {
            return Ok(bytes.clone());
        }
        let bytes = snapshot.blobs(vec![id]).next().await.transpose()?.unwrap_or_default();
        self.blob = Some((id, bytes.clone()));
        Ok(bytes)
    }
}

/// What a snapshot says of one of its pieces.
pub(super) async fn read_detail(snapshot: &SnapshotReader, extent: &LogExtent) -> Result<Detail> {
    let path = format!("/{METADATA_DIR}/{DETAIL_DIR}/{}", extent.detail);
    let node = find(snapshot, &path).await?;
    let mut json = Vec::new();
    let mut content = snapshot.content(&node);
    while let Some(bytes) = content.next().await.transpose()? {
        json.extend_from_slice(&bytes);
    }
    serde_json::from_slice(&json)
        .map_err(|error| Error::damaged(format!("cannot parse {path}")).with_source(error))
}

fn piece(view: &LogView, stretch: &Stretch) -> Result<Piece> {
    let unknown = || Error::damaged("the plan names a piece of the log that does not exist");
    match &stretch.place {
        Place::Slice(name) => {
            let slice = view.slices.iter().find(|(slice, _)| slice.name() == *name);
            slice
                .map(|(slice, header)| {
                    Piece::Slice(*slice, header.branch.clone(), header.parts.clone())
                })
                .ok_or_else(unknown)
        }
        Place::Snapshot(id) => {
            let (info, log) =
                view.snapshots.iter().find(|(info, _)| info.id == *id).ok_or_else(unknown)?;
            let same = |extent: &&LogExtent| {
                extent.branch == stretch.branch
                    && extent.from == stretch.from
                    && extent.to == stretch.to
            };
            let extent = log.extents.iter().find(same).ok_or_else(unknown)?;
            Ok(Piece::Extent(Box::new((info.clone(), extent.clone()))))
        }
    }
}

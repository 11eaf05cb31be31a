//! Log that the server hands over as files (`archive_command`), for those who cannot follow it.
//!
//! ```text
//!  segment of timeline 2  ─▶ the end of timeline 1 ▸ where 2 left it, its history ▸ the segment      what is stored already is left out
//!  history of timeline 2  ─▶ the end of timeline 1 ▸ where 2 left it, its history
//! ```
//!
//! The end of a timeline that was left is the beginning of the next one's first segment: its own
//! last one, unfinished, need not be stored.

mod source;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use backup_core::log::{Position, Tick, Timeline};
use backup_core::source::{LogSegment, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use tokio::sync::watch;

use super::super::error::{invalid, malformed};
use super::super::layout::{Layout, Segments};
use super::super::lsn::Lsn;
use super::history::History;
use super::known::Known;
use super::records::Records;

/// Handed on at once.
const PIECE: usize = 1 << 20;
/// The header of a segment: the system identifier, the size of segments.
const SYSTEM_ID: usize = 24;
const SEGMENT_SIZE: usize = 32;

/// The first bytes of a segment, which say whose it is.
const HEADER: usize = 36;

/// A segment of the log as a file, or the history of a timeline: a source that has nothing but this
/// piece of its log.
#[derive(Debug, Clone)]
pub struct WalFile {
    system_id: u64,
    segments: Segments,
    timeline: u32,
    number: u64,
    /// Whether it is a segment. What is handed over with a history ends where the timeline begins.
    is_segment: bool,
    /// How its timeline came to be.
    history: History,
    /// The timelines that were left on the way to it, the oldest first.
    turns: Vec<Turn>,
    /// Where later timelines are known to have left it, by their numbers.
    left: Vec<(u32, Lsn)>,
    data: Bytes,
    /// Whether all of it is stored for good.
    stored: watch::Sender<bool>,
}

/// Where a timeline was left for the next one.
#[derive(Debug, Clone)]
struct Turn {
    before: u32,
    at: Lsn,
    next: u32,
    /// The history of the next one.
    history: Bytes,
    /// Whether that is to be stored.
    is_told: bool,
    /// So many bytes of this segment are to be stored as the end of the timeline that was left.
    tail: usize,
}

impl WalFile {
    /// Reads what `path` names. `None` for files that need not be stored: labels of backups, and
    /// what is left of a segment that goes on on another timeline.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if it cannot be read, is no log, or is damaged.
    pub fn read(path: &Path) -> SourceResult<Option<Self>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if [".backup", ".partial"].iter().any(|end| name.ends_with(end)) {
            return Ok(None);
        }
        let file = match name.strip_suffix(".history") {
            Some(number) => Self::read_history(path, number)?,
            None => Self::read_segment(path, name)?,
        };
        Ok(Some(file))
    }

    fn read_segment(path: &Path, name: &str) -> SourceResult<Self> {
        let data: Bytes = fs::read(path).map_err(|error| unreadable(path, error))?.into();
        let no_log = || invalid(format!("{} is not a WAL segment", path.display()));
        let (system_id, segments) = header(&data, data.len() as u64).ok_or_else(no_log)?;
        let (timeline, number) = segments.parse(name).ok_or_else(no_log)?;
        let file = Self {
            system_id,
            segments,
            timeline,
            number,
            is_segment: true,
            history: History::default(),
            turns: Vec::new(),
            left: Vec::new(),
            data,
            stored: watch::Sender::new(false),
        };
        // Every checksum is verified before anything is stored.
        file.ticks(&mut Records::new(segments, file.start()), &file.data)?;
        if timeline == 1 {
            return Ok(file);
        }
        let beside = path.with_file_name(History::file_name(timeline));
        file.with_history(&fs::read(&beside).map_err(|error| unreadable(&beside, error))?.into())
    }

    /// With what it has of the timeline before, if the first segment is beside it: the server makes
    /// that one first.
    fn read_history(path: &Path, number: &str) -> SourceResult<Self> {
        let text: Bytes = fs::read(path).map_err(|error| unreadable(path, error))?.into();
        let no_history = || malformed(format!("timeline history {}", path.display()));
        let timeline = u32::from_str_radix(number, 16)
            .ok()
            .filter(|_| number.len() == 8)
            .ok_or_else(no_history)?;
        let last = History::parse(&String::from_utf8_lossy(&text))?.0.pop();
        let (_, at) = last.filter(|(before, _)| *before < timeline).ok_or_else(no_history)?;
        let (system_id, segments) = beside(path).ok_or_else(|| {
            invalid(format!(
                "cannot determine the cluster of {}: no WAL segment is beside it",
                path.display()
            ))
            .with_hint("push this file from pg_wal, as archive_command does")
        })?;
        let number = segments.number(at);
        let first = path.with_file_name(segments.name(timeline, number));
        let first = fs::read(first).ok().filter(|data| data.len() as u64 == segments.size());
        let len = usize::try_from(at.0 - segments.start(number).0).unwrap_or(usize::MAX);
        let data = first
            .and_then(|data| Some(Bytes::copy_from_slice(data.get(..len)?)))
            .unwrap_or_default();
        let file = Self {
            system_id,
            segments,
            timeline,
            number,
            is_segment: false,
            history: History::default(),
            turns: Vec::new(),
            left: Vec::new(),
            data,
            stored: watch::Sender::new(false),
        };
        file.with_history(&text)
    }

    /// The identifier of its cluster.
    #[must_use]
    pub fn system_id(&self) -> u64 {
        self.system_id
    }

    /// The piece of the log that it is: where it begins and ends. That of a history is empty.
    #[must_use]
    pub fn range(&self) -> (Position, Position) {
        let position = |at: Lsn| Position::new(self.timeline.to_string(), at.0);
        (position(self.start()), position(if self.is_segment { self.end() } else { self.start() }))
    }

    /// Its bytes; of a history, what its timeline has in common with the one before in the segment
    /// in which it left that.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// What it is called in snapshots.
    #[must_use]
    pub fn path(&self) -> String {
        Layout::of(self.system_id)
            .segment(self.segments, self.timeline, self.number)
            .display()
            .into_owned()
    }

    /// Fails if what is known of its timeline is another one of the same number.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if it began somewhere else.
    pub fn require_lineage(&self, known: &Timeline) -> SourceResult<()> {
        self.history.require(self.timeline, known)
    }

    /// Waits until all of it is stored for good, by a capture of this source.
    pub async fn stored(&self) {
        // The sender lives as long as this.
        _ = self.stored.subscribe().wait_for(|stored| *stored).await;
    }

    /// The same without what is known of how its timeline came to be.
    #[must_use]
    pub fn beyond(&self, known: &Timeline) -> Self {
        let mut file = self.clone();
        let timelines = Known::new(known);
        file.left = timelines.left(self.timeline);
        let last = file.turns.len().saturating_sub(1);
        for (index, turn) in file.turns.iter_mut().enumerate() {
            // What is older than the log need not be told, unless it happens now.
            let is_of_it = timelines.oldest().is_some_and(|oldest| turn.next > oldest);
            let happens = index == last && !self.is_segment || turn.at >= self.start();
            turn.is_told = (is_of_it || happens) && !timelines.has_parent(turn.next);
            if known.reach(&turn.before.to_string(), self.start().0) >= turn.at.0 {
                turn.tail = 0;
            }
        }
        file
    }

    /// Whether it is a segment, and not a history.
    #[must_use]
    pub fn is_segment(&self) -> bool {
        self.is_segment
    }

    /// Whether it says how timelines came to be.
    #[must_use]
    pub fn tells_history(&self) -> bool {
        self.turns.iter().any(|turn| turn.is_told || turn.tail > 0)
    }

    /// Whether it comes late, but belongs, at least with its beginning, to what a later timeline is
    /// known to have come from: servers hand over histories first, and a segment may have been full
    /// before somebody began a timeline within it.
    fn is_before(&self, later: &Position) -> bool {
        let left = self.left.iter().find(|(number, _)| number.to_string() == later.branch);
        !self.is_segment || left.is_some_and(|(_, at)| *at > self.start())
    }

    fn start(&self) -> Lsn {
        self.segments.start(self.number)
    }

    fn end(&self) -> Lsn {
        self.segments.start(self.number + 1)
    }

    /// `text` is the history as the server has it.
    fn with_history(mut self, text: &Bytes) -> SourceResult<Self> {
        let history = History::parse(&String::from_utf8_lossy(text))?;
        let turns = history.0.iter().enumerate().map(|(index, (before, at))| {
            let (next, text) = match history.0.get(index + 1) {
                Some((next, _)) => (*next, History(history.0[..=index].to_vec()).text().into()),
                None => (self.timeline, text.clone()),
            };
            let within = at.0.checked_sub(self.start().0).and_then(|len| usize::try_from(len).ok());
            let tail = within.filter(|len| *len <= self.data.len()).unwrap_or(0);
            Turn { before: *before, at: *at, next, history: text, is_told: true, tail }
        });
        self.turns = turns.collect();
        self.history = history;
        Ok(self)
    }

    /// When what happened in a piece of it, with every checksum verified.
    fn ticks(&self, records: &mut Records, piece: &[u8]) -> SourceResult<Vec<Tick>> {
        let mut ticks = Vec::new();
        records.push(piece, |event| {
            ticks.extend(
                event
                    .moment
                    .as_ref()
                    .map(|moment| Tick { offset: event.to.0, time: moment.time() }),
            );
        })?;
        if records.ended() {
            return Err(malformed(format!("WAL: the segment at {} is incomplete", self.start())));
        }
        Ok(ticks)
    }

    /// A part of it, as a piece of `timeline`.
    fn pieces(&self, timeline: u32, bytes: &Bytes, out: &mut Vec<LogSegment>) -> SourceResult<()> {
        let (layout, mut records) =
            (Layout::of(self.system_id), Records::new(self.segments, self.start()));
        let mut at = 0;
        while at < bytes.len() {
            let data = bytes.slice(at..bytes.len().min(at + PIECE));
            let from = self.start().0 + at as u64;
            out.push(LogSegment {
                branch: timeline.to_string(),
                parent: None,
                from,
                to: from + data.len() as u64,
                ticks: self.ticks(&mut records, &data)?,
                path: layout.segment(self.segments, timeline, self.number),
                at: at as u64,
                scope: None,
                data: data.clone(),
            });
            at += data.len();
        }
        Ok(())
    }

    /// What is stored of it. `back_to` is where the log goes on behind it: what comes late does not
    /// become the newest.
    fn log(&self, back_to: Option<&Position>) -> SourceResult<Vec<LogSegment>> {
        let mut log = Vec::new();
        let last = self.turns.len().saturating_sub(1);
        for (index, turn) in self.turns.iter().enumerate() {
            self.pieces(turn.before, &self.data.slice(..turn.tail), &mut log)?;
            // A history ends on its own timeline.
            if turn.is_told || (index == last && !self.is_segment) {
                let parent = Position::new(turn.before.to_string(), turn.at.0);
                log.push(self.note(
                    &turn.next.to_string(),
                    Some(parent),
                    self.start().0,
                    turn.history.clone(),
                ));
            }
        }
        if self.is_segment {
            self.pieces(self.timeline, &self.data, &mut log)?;
        }
        log.extend(back_to.map(|at| self.note(&at.branch, None, at.offset, Bytes::new())));
        Ok(log)
    }

    /// A piece without log: where a timeline begins, or goes on.
    fn note(&self, branch: &str, parent: Option<Position>, at: u64, history: Bytes) -> LogSegment {
        let number = branch.parse().unwrap_or(self.timeline);
        LogSegment {
            branch: branch.to_owned(),
            parent,
            from: at,
            to: at,
            ticks: Vec::new(),
            path: Layout::of(self.system_id).history(number, &History::file_name(number)),
            at: 0,
            scope: None,
            data: history,
        }
    }
}

/// The identifier of the cluster that a segment of `len` bytes is of, and the size of its segments.
fn header(data: &[u8], len: u64) -> Option<(u64, Segments)> {
    let size = data
        .get(SEGMENT_SIZE..)
        .and_then(|rest| rest.first_chunk())
        .map(|size| u32::from_le_bytes(*size))?;
    let id = data
        .get(SYSTEM_ID..)
        .and_then(|rest| rest.first_chunk())
        .map(|id| u64::from_le_bytes(*id))?;
    Some((id, Segments::of_size(len).filter(|segments| segments.size() == u64::from(size))?))
}

/// The same of the segments that `path` lies with.
fn beside(path: &Path) -> Option<(u64, Segments)> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let is_segment =
            name.len() == 24 && name.to_str()?.bytes().all(|byte| byte.is_ascii_hexdigit());
        let len = entry.metadata().ok().filter(|metadata| is_segment && metadata.is_file())?.len();
        let mut start = [0; HEADER];
        fs::File::open(entry.path()).and_then(|mut file| file.read_exact(&mut start)).ok()?;
        header(&start, len)
    })
}

fn unreadable(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, format!("cannot read {}", path.display()))
        .with_source(error)
}

/// The identifier of the cluster whose data directory this is.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] if it is none.
pub fn system_id_of(data_directory: &Path) -> SourceResult<u64> {
    let path: PathBuf = data_directory.join("global/pg_control");
    let bytes = fs::read(&path).map_err(|error| unreadable(&path, error))?;
    let id = bytes.first_chunk().map(|id| u64::from_le_bytes(*id));
    id.ok_or_else(|| invalid(format!("{} is damaged", path.display())))
}

impl std::fmt::Display for WalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.is_segment {
            true => format!("segment {}", self.segments.name(self.timeline, self.number)),
            false => format!("history {}", History::file_name(self.timeline)),
        };
        write!(f, "{name} of cluster {}", self.system_id)
    }
}

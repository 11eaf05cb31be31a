//! Capturing the oplog: the segments that go to the log lane.
//!
//! An offset is a moment (`seconds << 32 | increment`): everything up to it and at it has happened.
//! A replica set has one branch (`lineage.rs`), because entries of a majority are never taken back;
//! terms need no place in a position, because the reader finds the term of the entry it begins
//! behind at that very entry.
//!
//! Bytes go to files that begin with an entry and end with its hour or at 256 MiB. Which entries a
//! file has follows from its first one alone: whoever captures the same again writes the same, and
//! a capturer that is started again begins another file.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{self, Tick, Watermark};
use backup_core::source::{
    EntryPath, LogReader, LogSegment, SourceError, SourceErrorKind, SourceResult,
};
use bson::RawDocument;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp as Time};
use tokio::time::Instant;

use super::error::malformed;
use super::fold::understand;
use super::history::{entry_at, gap, newest};
use super::layout::Layout;
use super::lineage::{self, Lineage};
use super::namespace::Namespace;
use super::options::MongoOptions;
use super::position::{LogPosition, Position};
use super::raw;
use super::scope::scope_of;
use super::server::{Server, unless_cancelled};
use super::tail::{OplogBatch, OplogTail};
use super::watch::Watch;

/// Segments are cut here, between entries.
const SEGMENT: usize = 1 << 20;
/// Files end here, and with the hour (seconds) of their first entry.
const FILE: u64 = 256 << 20;
const HOUR: u32 = 3600;
/// Interval of storing the position while nothing happens: a capturer that starts again needs an
/// entry that the oplog still has.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A write gets its time before its place in the oplog: an earlier entry may be this much later.
const APART: SignedDuration = SignedDuration::from_secs(1);

/// Follows the oplog from behind `from`, or from now on.
pub(super) async fn open(
    cx: &Context,
    server: &Server,
    layout: Layout,
    options: &MongoOptions,
    from: Option<&log::Position>,
) -> SourceResult<Box<dyn LogReader>> {
    server.refuse_without_oplog()?;
    let lineage = match from {
        None => Lineage::begin(&server.branch),
        Some(from) => Lineage::go_on(&server.branch, from)
            .ok_or_else(|| lineage::another_set(server, from))?,
    };
    let begin = match from {
        None => unless_cancelled(cx, newest(server)).await?,
        Some(from) => {
            let at = Position::of_offset(from.offset);
            match unless_cancelled(cx, entry_at(server, at)).await? {
                Some(entry) => entry.position,
                None if unless_cancelled(cx, newest(server)).await?.at < at => {
                    return Err(ahead(at));
                }
                None => return Err(gap(server, at).await),
            }
        }
    };
    let tail =
        OplogTail::after(server, options, begin).keeping(Box::new(|entry| Ok(is_kept(entry))));
    let cutter = Cutter { layout, lineage, at: begin.at, file: None };
    let watch = Watch::begin(cx, server, begin.at);
    let (ready, told, seen) = (VecDeque::new(), Instant::now(), None);
    let (cx, quiet, unknown) = (cx.clone(), None, None);
    Ok(Box::new(Capture { cx, tail, cutter, ready, quiet, seen, unknown, told, watch }))
}

/// The member that answers lags: that is no gap.
pub(super) fn ahead(at: Position) -> SourceError {
    let text = format!("cannot read the oplog from {at}: no majority has this entry yet");
    SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
        "wait until the member has caught up, or run a full backup if it belongs to another \
             replica set",
    )
}

/// No-ops say that time goes on, and what the server writes for itself belongs to nobody.
fn is_kept(entry: &RawDocument) -> bool {
    let text = |key: &str| entry.get_str(key).unwrap_or_default();
    let own = |namespace: Namespace| matches!(&*namespace.db, "config" | "local");
    text("op") != "n" && !Namespace::parse(text("ns")).is_some_and(own)
}

/// Cuts a batch in front of the first entry that a fold cannot apply, and returns that entry as a gap:
/// no moment behind it is restorable before there is a new full backup.
fn known(mut batch: OplogBatch) -> SourceResult<(OplogBatch, Option<SourceError>)> {
    let wanted =
        |namespace: &Namespace| !namespace.is_internal() || namespace.name == "system.views";
    let mut found = None;
    for (number, entry) in raw::split(&batch.data).enumerate() {
        if let Err(error) = understand(raw::document(entry?)?, wanted) {
            found = Some((number, error));
            break;
        }
    }
    let Some((number, error)) = found else { return Ok((batch, None)) };
    let first = batch.ticks.get(number).ok_or_else(|| malformed("oplog batch"))?;
    batch.data.truncate(first.offset as usize);
    batch.ticks.truncate(number);
    let last = batch.ticks.last();
    batch.wall_millis = last.map(|tick| tick.wall_millis);
    let term = batch.to.term;
    batch.to = last.map_or(batch.from, |tick| LogPosition { at: tick.at, term });
    let gap = SourceError::new(SourceErrorKind::LogGap, error.to_string())
        .with_hint("make a full backup: moments from it on can be restored again");
    Ok((batch, Some(gap)))
}

struct Capture {
    cx: Context,
    tail: OplogTail,
    cutter: Cutter,
    /// Cut, and not asked for yet.
    ready: VecDeque<LogSegment>,
    /// The oplog goes on to here without anything that is kept.
    quiet: Option<(Position, Option<i64>)>,
    /// The last entry that was read, kept or not, with its time (milliseconds since 1970). Members
    /// have no entry, not even a no-op, that the primary has not written.
    seen: Option<(Position, i64)>,
    /// The gap behind the ready segments: an entry that no restore could apply.
    unknown: Option<SourceError>,
    /// When a segment was yielded last.
    told: Instant,
    watch: Watch,
}

#[async_trait]
impl LogReader for Capture {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        loop {
            if let Some(mut segment) = self.ready.pop_front() {
                segment.scope = scope_of(segment.data.clone())?;
                self.told = Instant::now();
                return Ok(segment);
            }
            if let Some(unknown) = self.unknown.take() {
                return Err(unknown);
            }
            let due = self.told + HEARTBEAT;
            if let Some((to, wall)) = self.quiet
                && due <= Instant::now()
            {
                self.quiet = None;
                self.ready.push_back(self.cutter.heartbeat(to, wall)?);
                continue;
            }
            let batch = tokio::select! {
                batch = self.tail.next(&self.cx) => batch?,
                () = tokio::time::sleep_until(due), if self.quiet.is_some() => continue,
            };
            let batch = batch.ok_or_else(|| {
                SourceError::new(SourceErrorKind::Io, "the oplog reader ended unexpectedly")
            })?;
            let (batch, unknown) = known(batch)?;
            self.unknown = unknown;
            self.seen = batch.wall_millis.map(|wall| (batch.to.at, wall));
            if batch.data.is_empty() {
                self.quiet = Some((batch.to.at, batch.wall_millis));
            } else {
                self.quiet = None;
                self.ready.extend(self.cutter.cut(&batch)?);
            }
        }
    }

    /// Primaries write a no-op every ten seconds.
    fn vouched_for(&self) -> Option<Watermark> {
        let (at, wall) = self.seen.filter(|_| self.ready.is_empty())?;
        let stored = self.cutter.at.offset();
        Some(Watermark {
            at: log::Position::new(&*self.cutter.lineage.branch, at.offset()),
            since: (stored < at.offset()).then_some(stored),
            time: Time::from_millisecond(wall).ok()?.checked_sub(APART).ok()?,
        })
    }

    /// The server keeps its oplog as long as it likes: only whether that is long enough can be
    /// watched.
    async fn acknowledge(&mut self, position: &log::Position) -> SourceResult<()> {
        self.watch.stored(position.offset);
        Ok(())
    }
}

/// From batches to segments.
struct Cutter {
    layout: Layout,
    /// Its parent goes to the first segment.
    lineage: Lineage,
    /// Where the last segment ended.
    at: Position,
    file: Option<File>,
}

/// The file that grows.
#[derive(Debug, Clone, Copy)]
struct File {
    first: Position,
    len: u64,
}

impl File {
    fn takes(&self, at: Position) -> bool {
        self.len < FILE && self.first.seconds / HOUR == at.seconds / HOUR
    }
}

fn tick(at: Position, wall_millis: i64) -> SourceResult<Tick> {
    let time =
        Time::from_millisecond(wall_millis).map_err(|_| malformed("time of an oplog entry"))?;
    Ok(Tick { offset: at.offset(), time })
}

impl Cutter {
    fn cut(&mut self, batch: &OplogBatch) -> SourceResult<Vec<LogSegment>> {
        let mut segments = Vec::new();
        let (mut begin, mut ticks) = (0, Vec::new());
        let ends =
            batch.ticks.iter().skip(1).map(|next| next.offset as usize).chain([batch.data.len()]);
        let mut entries = batch.ticks.iter().zip(ends).peekable();
        while let Some((entry, end)) = entries.next() {
            ticks.push(tick(entry.at, entry.wall_millis)?);
            let file = match self.file {
                Some(file) if begin < entry.offset as usize || file.takes(entry.at) => file,
                _ => File { first: entry.at, len: 0 },
            };
            self.file = Some(file);
            let grown = File { len: file.len + (end - begin) as u64, ..file };
            let next = entries.peek().map(|(next, _)| next.at);
            let goes_on = next.is_some_and(|next| grown.takes(next));
            if goes_on && end - begin < SEGMENT {
                continue;
            }
            // Behind the last one, what is not kept has happened as well.
            let to = if next.is_some() { entry.at } else { batch.to.at };
            if let (true, Some(wall)) = (to > entry.at, batch.wall_millis) {
                ticks.push(tick(to, wall)?);
            }
            let data = batch.data.slice(begin..end);
            segments.push(self.segment(to, std::mem::take(&mut ticks), file, data));
            self.file = Some(grown);
            begin = end;
        }
        Ok(segments)
    }

    fn heartbeat(&mut self, to: Position, wall_millis: Option<i64>) -> SourceResult<LogSegment> {
        let ticks = wall_millis.map(|wall| tick(to, wall)).transpose()?.into_iter().collect();
        let file = self.file.unwrap_or(File { first: to, len: 0 });
        Ok(self.segment(to, ticks, file, Bytes::new()))
    }

    fn segment(&mut self, to: Position, ticks: Vec<Tick>, file: File, data: Bytes) -> LogSegment {
        let from = std::mem::replace(&mut self.at, to).offset();
        let Lineage { branch, parent } = &mut self.lineage;
        let path: EntryPath = self.layout.captured(branch, file.first);
        LogSegment {
            branch: branch.clone(),
            parent: parent.take(),
            from,
            to: to.offset(),
            ticks,
            path,
            at: file.len,
            scope: None,
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongodb::position::LogPosition;
    use crate::mongodb::tail;

    fn at(seconds: u32, increment: u32) -> Position {
        Position { seconds, increment }
    }

    fn batch(entries: &[(Position, usize)], from: Position, to: Position) -> OplogBatch {
        let (mut data, mut ticks) = (Vec::new(), Vec::new());
        for (at, len) in entries {
            let offset = u32::try_from(data.len()).unwrap();
            ticks.push(tail::Tick { at: *at, offset, wall_millis: i64::from(at.seconds) * 1000 });
            data.extend(std::iter::repeat_n(u8::try_from(at.increment % 251).unwrap(), *len));
        }
        let entry = |at| LogPosition { at, term: 1 };
        let wall_millis = Some(i64::from(to.seconds) * 1000);
        OplogBatch { from: entry(from), to: entry(to), data: data.into(), ticks, wall_millis }
    }

    fn cutter(begin: Position) -> Cutter {
        let layout = Layout::at(EntryPath::new("/mongodb/rs").unwrap());
        Cutter {
            layout,
            lineage: Lineage::begin("0123456789abcdef0123456789abcdef"),
            at: begin,
            file: None,
        }
    }

    #[test]
    fn segments_follow_each_other_and_files_end_with_the_hour() {
        let begin = at(7100, 1);
        let mut cutter = cutter(begin);
        let entries =
            [(at(7150, 1), 600_000), (at(7151, 1), 600_000), (at(7199, 1), 10), (at(7200, 1), 20)];
        let mut segments = cutter.cut(&batch(&entries, begin, at(7201, 5))).unwrap();
        segments.push(cutter.heartbeat(at(7300, 1), Some(7_300_000)).unwrap());
        segments
            .extend(cutter.cut(&batch(&[(at(7301, 1), 30)], at(7300, 1), at(7301, 1))).unwrap());
        segments.extend(
            cutter.cut(&batch(&[(at(11_000, 1), 40)], at(7301, 1), at(11_000, 1))).unwrap(),
        );
        let mut stands = begin.offset();
        for segment in &segments {
            assert_eq!((segment.from, segment.ticks.last().unwrap().offset), (stands, segment.to));
            stands = segment.to;
        }
        let shown: Vec<_> = segments
            .iter()
            .map(|segment| (segment.path.display().into_owned(), segment.at, segment.data.len()))
            .collect();
        let file = |second: u32| {
            format!(
                "/mongodb/rs/oplog/{second:010}-0000000001-0123456789abcdef0123456789abcdef.bson"
            )
        };
        let expected = [
            (file(7150), 0, 1_200_000),
            (file(7150), 1_200_000, 10),
            (file(7200), 0, 20),
            (file(7200), 20, 0),
            (file(7200), 20, 30),
            (file(11_000), 0, 40),
        ];
        assert_eq!(shown, expected);
        assert_eq!(segments[2].to, at(7201, 5).offset());
    }

    #[test]
    fn what_is_in_a_file_follows_from_its_first_entry() {
        let entries: Vec<_> = (1..2000).map(|n| (at(7000 + n, 1), 1000)).collect();
        let of = |pieces: usize| {
            let mut cutter = cutter(at(7000, 1));
            let (mut files, mut stands) =
                (std::collections::BTreeMap::<String, Vec<u8>>::new(), at(7000, 1));
            for piece in entries.chunks(pieces) {
                let end = piece.last().unwrap().0;
                for segment in cutter.cut(&batch(piece, stands, end)).unwrap() {
                    let file = files.entry(segment.path.display().into_owned()).or_default();
                    assert_eq!(file.len() as u64, segment.at);
                    file.extend_from_slice(&segment.data);
                }
                stands = end;
            }
            files
        };
        let whole = of(5000);
        assert_eq!(whole.len(), 2);
        assert!(whole == of(1) && whole == of(77));
    }
}

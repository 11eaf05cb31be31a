//! Commands since the dump, up to the moment that is asked for: whole events only, none left out and none twice.

use std::collections::VecDeque;

use backup_core::format::Node;
use backup_core::log::{LogPart, LogReplay, LogTape};
use backup_core::repository::SnapshotReader;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::super::cluster::{CLOCKS, Place, Slots, end_of};
use super::super::error::malformed;
use super::super::layout::{of_cluster_log, offset_of};
use super::super::stream::Splitter;
use super::{Job, dumps};

/// Handed on when so many bytes of whole events have come.
const ENOUGH: usize = 256 << 10;

/// The commands, in order.
pub(super) struct Replay {
    snapshot: SnapshotReader,
    /// Files of the snapshot itself: the offset of their first byte.
    files: VecDeque<(u64, Node)>,
    file: Option<(u64, BoxStream<'static, backup_core::error::Result<Bytes>>)>,
    tape: Option<LogTape>,
    /// The piece of the tape that is being read: branch, beginning, path, and its first place in that file.
    piece: Option<(String, u64, String, u64)>,
    /// Which part of the log is wanted, if it is that of a cluster.
    share: Option<Share>,
    order: Order,
    ended: bool,
}

impl Replay {
    /// What follows the dump. Without a log, what the snapshot itself has.
    pub(super) async fn of(job: &Job<'_>) -> SourceResult<Self> {
        let files = dumps::since(job.snapshot, &job.layout).await?;
        let member = job.description.member.as_ref();
        let last_id = files.last().map_or(&job.description.replication_id, |file| &file.id).clone();
        let files: VecDeque<(u64, Node)> = files.into_iter().map(|file| (file.offset, file.node)).collect();
        let log = job.request.log.as_ref();
        // What a cluster has captured up to the snapshot itself is older than its dumps.
        let log = log.filter(|log| member.is_none() || log.plan().stop.offset > log.plan().base.at.offset);
        let own_end = files.iter().map(|(offset, node)| offset.saturating_add(node.metadata.size)).max();
        let stands = own_end.unwrap_or(job.description.offset);
        let share = member.zip(log).map(|(member, log)| Share::of(&member.slots, last_id, stands, log)).transpose()?;
        // Of a cluster the plan does not say where each of the streams ends.
        let stop = log.map(|log| if share.is_some() { u64::MAX } else { log.plan().stop.offset });
        let stop = stop.unwrap_or(stands);
        if stop < job.description.offset {
            return Err(malformed("the plan: it stops before the dump"));
        }
        let tape = log.map(|log| log.tape(job.cx)).transpose()?;
        let order = Order { next: job.description.offset, stop, splitter: Splitter::default() };
        Ok(Self { snapshot: job.snapshot.clone(), files, file: None, tape, piece: None, share, order, ended: false })
    }

    /// Whether there is anything behind the dump.
    pub(super) fn is_empty(&self) -> bool {
        self.order.stop == self.order.next
    }

    /// More whole events; `None` when the moment is reached.
    ///
    /// # Errors
    /// [`SourceErrorKind::Mismatch`] if something is missing before it.
    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        while !self.ended && self.order.splitter.whole() < ENOUGH {
            match self.read().await? {
                Some((offset, bytes)) => self.order.push(offset, &bytes)?,
                None => {
                    self.ended = true;
                    match &self.share {
                        Some(share) => share.require_end()?,
                        None => self.order.require_end()?,
                    }
                }
            }
        }
        Ok(self.order.splitter.take().map(|whole| whole.bytes))
    }

    /// Bytes, and where they belong.
    async fn read(&mut self) -> SourceResult<Option<(u64, Bytes)>> {
        loop {
            if let Some((at, content)) = &mut self.file {
                match content.next().await.transpose()? {
                    Some(bytes) => {
                        let offset = *at;
                        *at = at.saturating_add(bytes.len() as u64);
                        return Ok(Some((offset, bytes)));
                    }
                    None => self.file = None,
                }
            }
            if let Some((offset, node)) = self.files.pop_front() {
                self.file = Some((offset, self.snapshot.content(&node)));
                continue;
            }
            let Some(tape) = &mut self.tape else { return Ok(None) };
            let Some(part) = tape.next().await? else { return Ok(None) };
            if let Some(found) = self.place(&part)? {
                return Ok(Some(found));
            }
        }
    }

    /// Where the bytes of a part belong: a piece has as many bytes as it covers offsets, in one file.
    fn place(&mut self, part: &LogPart) -> SourceResult<Option<(u64, Bytes)>> {
        let same = |(branch, from, path, _): &(String, u64, String, u64)| {
            *branch == part.branch && *from == part.from && *path == part.path
        };
        let first = match &self.piece {
            Some(piece) if same(piece) => piece.3,
            _ => part.at,
        };
        let offset = part.at.checked_sub(first).and_then(|behind| part.from.checked_add(behind));
        let offset = offset.ok_or_else(|| malformed(format!("the places in {}", part.path)))?;
        self.piece = Some((part.branch.clone(), part.from, part.path.clone(), first));
        if let Some(share) = &mut self.share {
            return share.place(part, offset, self.order.next);
        }
        let most = part.limit.map_or(u64::MAX, |limit| limit.saturating_sub(offset));
        let len = part.data.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok((len > 0).then(|| (offset, part.data.slice(..len))))
    }
}

/// What a master has of the log of its cluster.
///
/// A place in that log does not say where each of the masters was: that everything of one has come can only be told at the end of a
/// piece, with which the places of all are stored. So the last piece is followed to its end, and applied up to the moment.
#[derive(Debug)]
struct Share {
    /// The directory of its files.
    slots: String,
    /// The replication id of what came last.
    id: String,
    /// Where the log ends, of all masters.
    stop: u64,
    /// Up to here its stream was seen, without a break,
    seen: u64,
    /// and what came last had this id.
    seen_id: Option<String>,
    /// Here it must be at the end of the last piece.
    end: Place,
    /// The snapshot stands there; it is not to be of a later moment than the log.
    stands: u64,
    is_behind: bool,
    /// What the log has behind the moment, and the snapshot as well.
    ahead: Option<Order>,
}

impl Share {
    /// Of the master of these slots, whose snapshot stands at an offset.
    fn of(slots: &Slots, id: String, stands: u64, log: &LogReplay) -> SourceResult<Self> {
        let plan = log.plan();
        let end = end_of(slots, log.state().ok_or_else(|| malformed("the log: it does not say where masters were"))?)?;
        let behind = plan.stop.offset.saturating_sub(plan.base.at.offset);
        // So close to each other they may be in either order.
        let is_behind = u128::from(behind) > CLOCKS.unsigned_abs().as_nanos();
        if is_behind && stands > end.offset {
            return Err(newer(&slots.name()));
        }
        let (slots, stop) = (slots.name(), plan.stop.offset);
        Ok(Self { slots, id, stop, seen: stands, seen_id: None, end, stands, is_behind, ahead: None })
    }

    fn require_end(&self) -> SourceResult<()> {
        if self.seen < self.end.offset {
            return Err(missing(self.seen, self.end.offset));
        }
        match &self.seen_id {
            Some(id) if *id != self.end.id => Err(another(&self.slots, self.end.offset)),
            _ => Ok(()),
        }
    }

    /// What is behind the moment must not be in the snapshot.
    fn see_ahead(&mut self, offset: u64, bytes: &[u8]) -> SourceResult<()> {
        let stop = self.stands;
        if !self.is_behind || bytes.is_empty() || offset >= stop {
            return Ok(());
        }
        let ahead = self.ahead.get_or_insert_with(|| Order { next: offset, stop, splitter: Splitter::default() });
        // A moment within a command tells nothing.
        let is_read = ahead.push(offset, bytes).is_ok();
        if is_read && ahead.splitter.tells() { Err(newer(&self.slots)) } else { Ok(()) }
    }

    /// Where the bytes of a part belong in the stream of the master, if they are its own; `place` is theirs in the log, `next` what
    /// the stream comes to.
    fn place(&mut self, part: &LogPart, place: u64, next: u64) -> SourceResult<Option<(u64, Bytes)>> {
        let bad = || malformed(format!("the places in {}", part.path));
        let (slots, id) = of_cluster_log(&part.path).ok_or_else(bad)?;
        if slots != self.slots {
            return Ok(None);
        }
        let offset = offset_of(&part.path).and_then(|begin| begin.checked_add(part.at)).ok_or_else(bad)?;
        if offset > self.seen {
            return Err(missing(self.seen, offset));
        }
        self.seen = self.seen.max(offset.saturating_add(part.data.len() as u64));
        self.seen_id = Some(id.to_owned());
        let len = part.data.len().min(usize::try_from(self.stop.saturating_sub(place)).unwrap_or(usize::MAX));
        self.see_ahead(offset.saturating_add(len as u64), &part.data[len..])?;
        if len == 0 {
            return Ok(None);
        }
        if id != self.id && offset.saturating_add(len as u64) > next {
            if offset != next {
                return Err(another(slots, next));
            }
            id.clone_into(&mut self.id);
        }
        Ok(Some((offset, part.data.slice(..len))))
    }
}

/// Bytes from one offset to another, once each.
#[derive(Debug)]
struct Order {
    /// What comes next.
    next: u64,
    stop: u64,
    splitter: Splitter,
}

impl Order {
    fn push(&mut self, offset: u64, bytes: &[u8]) -> SourceResult<()> {
        let end = offset.saturating_add(bytes.len() as u64).min(self.stop);
        if end <= self.next {
            return Ok(());
        }
        if offset > self.next {
            return Err(missing(self.next, offset));
        }
        let range = |at: u64| usize::try_from(at - offset).map_err(|_| malformed("the log"));
        self.splitter.push(&bytes[range(self.next)?..range(end)?])?;
        self.next = end;
        Ok(())
    }

    /// What is left of an event that was not whole at the moment is not applied.
    fn require_end(&self) -> SourceResult<()> {
        if self.next == self.stop { Ok(()) } else { Err(missing(self.next, self.stop)) }
    }
}

fn another(slots: &str, at: u64) -> SourceError {
    let text = format!("the stream of the slots {slots} goes on with another history at offset {at}");
    SourceError::new(SourceErrorKind::Mismatch, text)
}

fn newer(slots: &str) -> SourceError {
    let text = format!(
        "the snapshot of the slots {slots} is newer than what had come by that moment, by the clock of whoever follows"
    );
    SourceError::new(SourceErrorKind::Mismatch, text).with_hint(
        "the clock of the machine that backs up was slow: choose a later moment, the snapshot itself, or one before it",
    )
}

fn missing(from: u64, to: u64) -> SourceError {
    SourceError::new(SourceErrorKind::Mismatch, format!("commands from offset {from} to {to} are missing"))
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::cluster_log_file;
    use super::super::super::wire::command;
    use super::*;

    #[test]
    fn nothing_twice_and_nothing_missing() {
        let stream: Vec<u8> = (0..50).flat_map(|n| command(&["INCRBY", "x", &n.to_string()])).collect();
        let len = stream.len() as u64;
        let ends: Vec<u64> = (0..50)
            .scan(0, |end, n| {
                *end += command(&["INCRBY", "x", &n.to_string()]).len() as u64;
                Some(*end)
            })
            .collect();
        for stop in 0..=len {
            let mut order = Order { next: 1000, stop: 1000 + stop, splitter: Splitter::default() };
            for (from, to) in [(0, 10), (5, 300), (100, 200), (300, stream.len()), (0, stream.len())] {
                order.push(1000 + from as u64, &stream[from..to]).unwrap();
            }
            order.require_end().unwrap();
            let found = order.splitter.take().map(|whole| whole.bytes).unwrap_or_default();
            let expected = ends.iter().copied().filter(|end| *end <= stop).max().unwrap_or(0);
            assert!(found.len() as u64 == expected && stream.starts_with(&found), "{stop}");
        }
        let mut order = Order { next: 1000, stop: 1100, splitter: Splitter::default() };
        assert_eq!(order.push(1001, &stream[1..]).unwrap_err().kind(), SourceErrorKind::Mismatch);
        assert_eq!(order.require_end().unwrap_err().kind(), SourceErrorKind::Mismatch);
    }

    #[test]
    fn what_one_master_lacks_at_the_end_is_noticed() {
        let mut slots = Slots::default();
        assert!(slots.add(0, 99));
        let share = |end| Share {
            slots: slots.name(),
            id: "a".repeat(40),
            stop: 1050,
            seen: 500,
            seen_id: None,
            end: Place { slots: slots.clone(), id: "a".repeat(40), offset: end },
            stands: 500,
            is_behind: true,
            ahead: None,
        };
        let part = |offset: u64, from: u64, len: u64| LogPart {
            branch: "cluster".to_owned(),
            from,
            to: from + len,
            limit: None,
            path: cluster_log_file(&slots.name(), &"a".repeat(40), 400).display().into_owned(),
            at: offset - 400,
            data: vec![b'x'; usize::try_from(len).unwrap()].into(),
        };
        // Applied up to the moment, and followed to the end.
        let mut whole = share(600);
        let (offset, bytes) = whole.place(&part(480, 1000, 60), 1000, 500).unwrap().unwrap();
        assert_eq!((offset, bytes.len()), (480, 50));
        assert_eq!(whole.place(&part(540, 1070, 60), 1070, 530).unwrap(), None);
        whole.require_end().unwrap();
        // Another history has got as far.
        whole.end.id = "b".repeat(40);
        assert_eq!(whole.require_end().unwrap_err().kind(), SourceErrorKind::Mismatch);
        // Its last commands are missing, or some before them.
        let mut cut = share(600);
        cut.place(&part(480, 1000, 60), 1000, 500).unwrap();
        assert_eq!(cut.require_end().unwrap_err().kind(), SourceErrorKind::Mismatch);
        assert_eq!(cut.place(&part(560, 1070, 40), 1070, 530).unwrap_err().kind(), SourceErrorKind::Mismatch);
    }
}

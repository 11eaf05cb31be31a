//! Commands since the dump, up to the moment that is asked for: whole events only, none left out
//! and none twice.

use std::collections::VecDeque;

use backup_core::format::Node;
use backup_core::log::{LogPart, LogTape};
use backup_core::repository::SnapshotReader;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::super::error::malformed;
use super::super::stream::Splitter;
use super::share::Share;
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
    /// The piece of the tape that is being read: branch, beginning, path, and its first place in
    /// that file.
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
        let files: VecDeque<(u64, Node)> =
            files.into_iter().map(|file| (file.offset, file.node)).collect();
        let log = job.request.log.as_ref();
        // What a cluster has captured up to the snapshot itself is older than its dumps.
        let log = log
            .filter(|log| member.is_none() || log.plan().stop.offset > log.plan().base.at.offset);
        let own_end =
            files.iter().map(|(offset, node)| offset.saturating_add(node.metadata.size)).max();
        let stands = own_end.unwrap_or(job.description.offset);
        let share = member
            .zip(log)
            .map(|(member, log)| Share::of(&member.slots, last_id, stands, log))
            .transpose()?;
        // Of a cluster the plan does not say where each of the streams ends.
        let stop = log.map(|log| if share.is_some() { u64::MAX } else { log.plan().stop.offset });
        let stop = stop.unwrap_or(stands);
        if stop < job.description.offset {
            return Err(malformed("plan: it stops before the dump"));
        }
        let tape = match (log, &share) {
            (None, _) => None,
            (Some(log), None) => Some(log.tape(job.cx)?),
            (Some(log), Some(share)) => Some(log.tape_of_files(job.cx, share.files())?),
        };
        let order = Order::new(job.description.offset, stop);
        Ok(Self {
            snapshot: job.snapshot.clone(),
            files,
            file: None,
            tape,
            piece: None,
            share,
            order,
            ended: false,
        })
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

    /// Where the bytes of a part belong: a piece has as many bytes as it covers offsets, in one
    /// file.
    fn place(&mut self, part: &LogPart) -> SourceResult<Option<(u64, Bytes)>> {
        let same = |(branch, from, path, _): &(String, u64, String, u64)| {
            *branch == part.branch && *from == part.from && *path == part.path
        };
        let first = match &self.piece {
            Some(piece) if same(piece) => piece.3,
            _ => part.at,
        };
        let offset = part.at.checked_sub(first).and_then(|behind| part.from.checked_add(behind));
        let offset = offset.ok_or_else(|| malformed(format!("offsets in {}", part.path)))?;
        self.piece = Some((part.branch.clone(), part.from, part.path.clone(), first));
        if let Some(share) = &mut self.share {
            return share.place(part, offset);
        }
        let most = part.limit.map_or(u64::MAX, |limit| limit.saturating_sub(offset));
        let len = part.data.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok((len > 0).then(|| (offset, part.data.slice(..len))))
    }
}

/// Bytes from one offset to another, once each.
#[derive(Debug)]
pub(super) struct Order {
    /// What comes next.
    next: u64,
    stop: u64,
    splitter: Splitter,
}

impl Order {
    pub(super) fn new(next: u64, stop: u64) -> Self {
        Self { next, stop, splitter: Splitter::default() }
    }

    pub(super) fn push(&mut self, offset: u64, bytes: &[u8]) -> SourceResult<()> {
        let end = offset.saturating_add(bytes.len() as u64).min(self.stop);
        if end <= self.next {
            return Ok(());
        }
        if offset > self.next {
            return Err(missing(self.next, offset));
        }
        let range = |at: u64| usize::try_from(at - offset).map_err(|_| malformed("log"));
        self.splitter.push(&bytes[range(self.next)?..range(end)?])?;
        self.next = end;
        Ok(())
    }

    /// Whether any of it changes anything.
    pub(super) fn tells(&self) -> bool {
        self.splitter.tells()
    }

    /// What is left of an event that was not whole at the moment is not applied.
    fn require_end(&self) -> SourceResult<()> {
        if self.next == self.stop { Ok(()) } else { Err(missing(self.next, self.stop)) }
    }
}

pub(super) fn missing(from: u64, to: u64) -> SourceError {
    SourceError::new(
        SourceErrorKind::Mismatch,
        format!("commands from offset {from} to {to} are missing"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn increment(number: u32) -> Vec<u8> {
        redis::cmd("INCRBY").arg("x").arg(number).get_packed_command()
    }

    #[test]
    fn nothing_twice_and_nothing_missing() {
        let stream: Vec<u8> = (0..50).flat_map(increment).collect();
        let len = stream.len() as u64;
        let ends: Vec<u64> = (0..50)
            .scan(0, |end, n| {
                *end += increment(n).len() as u64;
                Some(*end)
            })
            .collect();
        for stop in 0..=len {
            let mut order = Order::new(1000, 1000 + stop);
            for (from, to) in
                [(0, 10), (5, 300), (100, 200), (300, stream.len()), (0, stream.len())]
            {
                order.push(1000 + from as u64, &stream[from..to]).unwrap();
            }
            order.require_end().unwrap();
            let found = order.splitter.take().map(|whole| whole.bytes).unwrap_or_default();
            let expected = ends.iter().copied().filter(|end| *end <= stop).max().unwrap_or(0);
            assert!(found.len() as u64 == expected && stream.starts_with(&found), "{stop}");
        }
        let mut order = Order::new(1000, 1100);
        assert_eq!(order.push(1001, &stream[1..]).unwrap_err().kind(), SourceErrorKind::Mismatch);
        assert_eq!(order.require_end().unwrap_err().kind(), SourceErrorKind::Mismatch);
    }
}

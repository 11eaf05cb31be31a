//! The oplog that is folded into a dump: its own, behind it what later backups added, and behind
//! that what was captured since.

use std::collections::VecDeque;

use backup_core::log::{LogPart, LogTape, Plan};
use backup_core::source::SourceResult;
use bytes::Bytes;

use super::error::malformed;
use super::position::Position;
use super::raw::{self, Documents};
use super::reading::Reading;

/// Entries in the order of the oplog, each of them once.
pub(super) struct Entries {
    own: VecDeque<Reading>,
    captured: Option<Captured>,
}

impl Entries {
    /// `own` are files that follow each other.
    pub(super) fn new(own: VecDeque<Reading>, captured: Option<Captured>) -> Self {
        Self { own, captured }
    }

    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        while let Some(own) = self.own.front_mut() {
            match own.next().await? {
                Some(entry) => return Ok(Some(entry)),
                None => _ = self.own.pop_front(),
            }
        }
        match &mut self.captured {
            Some(captured) => captured.next().await,
            None => Ok(None),
        }
    }

    /// Pieces of the log that are about other things and were not read, if there are any.
    pub(super) fn left_out(&self) -> Option<u64> {
        self.captured
            .as_ref()
            .map(|captured| captured.tape.left_out())
            .filter(|&left_out| left_out > 0)
    }
}

/// What a plan applies to a snapshot.
pub(super) struct Captured {
    tape: LogTape,
    cut: Documents,
    /// The piece that the bytes in `cut` are of: bytes of another one do not go on with them.
    piece: Option<(u64, u64, String)>,
    limit: Option<u64>,
    /// Everything up to here has come, or is in the snapshot.
    stands: u64,
    /// Everything up to here is wanted,
    stop: u64,
    /// and what follows, up to the first entry that was written later than this (milliseconds since
    /// 1970).
    until: Option<i64>,
    ended: bool,
}

impl Captured {
    pub(super) fn new(tape: LogTape, plan: &Plan) -> Self {
        Self {
            tape,
            cut: Documents::default(),
            piece: None,
            limit: None,
            stands: plan.base.needs,
            stop: plan.stop.offset,
            until: plan.until.map(|until| until.as_millisecond()),
            ended: false,
        }
    }

    async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        while !self.ended {
            let Some(entry) = self.cut.next()? else {
                match self.tape.next().await? {
                    Some(part) => self.push(part)?,
                    None => {
                        self.cut.finish()?;
                        self.ended = true;
                    }
                }
                continue;
            };
            if self.is_wanted(&entry)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn push(&mut self, part: LogPart) -> SourceResult<()> {
        let piece = (part.from, part.to, part.path);
        if self.piece.as_ref() != Some(&piece) {
            self.cut.finish()?;
            self.piece = Some(piece);
        }
        self.limit = part.limit;
        self.cut.push(&part.data);
        Ok(())
    }

    /// Pieces may overlap, and they may go on behind the end.
    fn is_wanted(&mut self, entry: &[u8]) -> SourceResult<bool> {
        let entry = raw::document(entry)?;
        let at = entry.get_timestamp("ts").map_err(|_| malformed("oplog entry: no timestamp"))?;
        let at = Position::from(at).offset();
        if at <= self.stands || self.limit.is_some_and(|limit| at > limit) {
            return Ok(false);
        }
        if at > self.stop {
            let wall = entry.get_datetime("wall").ok().map(bson::DateTime::timestamp_millis);
            let in_time = self.until.is_some_and(|until| wall.is_some_and(|wall| wall <= until));
            if !in_time {
                self.ended = true;
                return Ok(false);
            }
        }
        self.stands = at;
        Ok(true)
    }
}

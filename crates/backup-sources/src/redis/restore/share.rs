//! What a master has of the log of its cluster, and whether all of it came.

use backup_core::log::{LogPart, LogReplay};
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use super::super::cluster::{CLOCKS, Place, Slots, end_of};
use super::super::error::malformed;
use super::super::layout::{of_cluster_log, offset_of};
use super::replay::{Order, missing};

/// What a master has of the log of its cluster.
///
/// A place in that log does not say where each of the masters was: that everything of one has come
/// can only be told at the end of a piece, with which the places of all are stored. So the last
/// piece is followed to its end, and applied up to the moment.
#[derive(Debug)]
pub(super) struct Share {
    /// The directory of its files.
    slots: String,
    /// The replication id of what came last.
    id: String,
    /// The dump's id, where the log has an older one at that place: it must come to it, without a
    /// break.
    promised: Option<String>,
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
    pub(super) fn of(
        slots: &Slots,
        id: String,
        stands: u64,
        log: &LogReplay,
    ) -> SourceResult<Self> {
        let plan = log.plan();
        let end =
            end_of(slots, log.state().ok_or_else(|| malformed("log: no offsets of the masters"))?)?;
        let behind = plan.stop.offset.saturating_sub(plan.base.at.offset);
        // So close to each other they may be in either order.
        let is_behind = u128::from(behind) > CLOCKS.unsigned_abs().as_nanos();
        if is_behind && stands > end.offset {
            return Err(newer(&slots.name()));
        }
        let (slots, stop) = (slots.name(), plan.stop.offset);
        Ok(Self {
            slots,
            id,
            promised: None,
            stop,
            seen: stands,
            seen_id: None,
            end,
            stands,
            is_behind,
            ahead: None,
        })
    }

    /// Which files of the log are those of this master.
    pub(super) fn files(&self) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let slots = self.slots.clone();
        // What is no such path is refused where it comes.
        move |path| of_cluster_log(path).is_none_or(|(of, _)| *of == slots)
    }

    pub(super) fn require_end(&self) -> SourceResult<()> {
        if self.seen < self.end.offset {
            return Err(missing(self.seen, self.end.offset));
        }
        match &self.seen_id {
            Some(id) if *id != self.end.id => Err(another(&self.slots, self.end.offset)),
            _ if self.promised.is_some() => Err(another(&self.slots, self.stands)),
            _ => Ok(()),
        }
    }

    /// From `offset` on the log has another id than what came last.
    ///
    /// Where a replica became a master, one id ends and the next begins. And a replica that is
    /// behind when that happens has the new id already, at an offset of the old one: then its dump
    /// does, where the log turns to that id only later.
    fn turn(&mut self, id: &str, offset: u64) -> SourceResult<()> {
        let is_first = self.seen == self.stands;
        if offset != self.seen && !(offset < self.seen && is_first) {
            return Err(another(&self.slots, self.seen));
        }
        let last = std::mem::replace(&mut self.id, id.to_owned());
        if offset < self.seen {
            self.promised = Some(last);
        } else if self.promised.as_deref() == Some(id) {
            self.promised = None;
        }
        Ok(())
    }

    /// What is behind the moment must not be in the snapshot.
    fn see_ahead(&mut self, offset: u64, bytes: &[u8]) -> SourceResult<()> {
        let stop = self.stands;
        if !self.is_behind || bytes.is_empty() || offset >= stop {
            return Ok(());
        }
        let ahead = self.ahead.get_or_insert_with(|| Order::new(offset, stop));
        // A moment within a command tells nothing.
        let is_read = ahead.push(offset, bytes).is_ok();
        if is_read && ahead.tells() { Err(newer(&self.slots)) } else { Ok(()) }
    }

    /// Where the bytes of a part belong in the stream of the master, if they are its own; `place`
    /// is theirs in the log.
    pub(super) fn place(
        &mut self,
        part: &LogPart,
        place: u64,
    ) -> SourceResult<Option<(u64, Bytes)>> {
        let bad = || malformed(format!("offsets in {}", part.path));
        let (slots, id) = of_cluster_log(&part.path).ok_or_else(bad)?;
        if slots != self.slots {
            return Ok(None);
        }
        let offset =
            offset_of(&part.path).and_then(|begin| begin.checked_add(part.at)).ok_or_else(bad)?;
        if offset > self.seen {
            return Err(missing(self.seen, offset));
        }
        let end = offset.saturating_add(part.data.len() as u64);
        let len = part
            .data
            .len()
            .min(usize::try_from(self.stop.saturating_sub(place)).unwrap_or(usize::MAX));
        // Also behind the moment, where nothing is applied any more: what was promised may come
        // there.
        if id != self.id && end > self.seen {
            self.turn(id, offset)?;
        }
        if end >= self.seen {
            (self.seen, self.seen_id) = (end, Some(id.to_owned()));
        }
        self.see_ahead(offset.saturating_add(len as u64), &part.data[len..])?;
        if len == 0 {
            return Ok(None);
        }
        Ok(Some((offset, part.data.slice(..len))))
    }
}

fn another(slots: &str, at: u64) -> SourceError {
    let text =
        format!("the stream of the slots {slots} continues with another history at offset {at}");
    SourceError::new(SourceErrorKind::Mismatch, text)
}

fn newer(slots: &str) -> SourceError {
    let text = format!(
        "the snapshot of the slots {slots} is newer than the commands received by that moment, by \
         the clock of the follower"
    );
    SourceError::new(SourceErrorKind::Mismatch, text).with_hint(
        "choose a later moment, the snapshot itself, or an earlier snapshot: the clock of the \
         backup machine was slow",
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::cluster_log_file;
    use super::*;

    fn share(id: &str, end: (&str, u64)) -> Share {
        let mut slots = Slots::default();
        assert!(slots.add(0, 99));
        Share {
            slots: slots.name(),
            id: id.repeat(40),
            promised: None,
            stop: 1050,
            seen: 500,
            seen_id: None,
            end: Place { slots, id: end.0.repeat(40), offset: end.1 },
            stands: 500,
            is_behind: true,
            ahead: None,
        }
    }

    fn part(id: &str, offset: u64, from: u64, len: u64) -> LogPart {
        let mut slots = Slots::default();
        assert!(slots.add(0, 99));
        LogPart {
            branch: "cluster".to_owned(),
            from,
            to: from + len,
            limit: None,
            path: cluster_log_file(&slots.name(), &id.repeat(40), 400).display().into_owned(),
            at: offset - 400,
            data: vec![b'x'; usize::try_from(len).unwrap()].into(),
        }
    }

    fn is_refused<T>(result: SourceResult<T>) -> bool {
        result.is_err_and(|error| error.kind() == SourceErrorKind::Mismatch)
    }

    #[test]
    fn what_one_master_lacks_at_the_end_is_noticed() {
        // Applied up to the moment, and followed to the end.
        let mut whole = share("a", ("a", 600));
        let (offset, bytes) = whole.place(&part("a", 480, 1000, 60), 1000).unwrap().unwrap();
        assert_eq!((offset, bytes.len()), (480, 50));
        assert_eq!(whole.place(&part("a", 540, 1070, 60), 1070).unwrap(), None);
        whole.require_end().unwrap();
        // Another history has got as far.
        whole.end.id = "b".repeat(40);
        assert!(is_refused(whole.require_end()));
        // Its last commands are missing, or some before them.
        let mut cut = share("a", ("a", 600));
        cut.place(&part("a", 480, 1000, 60), 1000).unwrap();
        assert!(is_refused(cut.require_end()));
        assert!(is_refused(cut.place(&part("a", 560, 1070, 40), 1070)));
    }

    #[test]
    fn ids_change_where_a_replica_became_a_master() {
        // The dump is of the old id, or of a replica that had the new one before it had everything.
        for id in ["a", "b"] {
            let mut turned = share(id, ("b", 600));
            assert!(turned.place(&part("a", 480, 1000, 40), 1000).unwrap().is_some());
            assert!(turned.place(&part("b", 520, 1040, 10), 1040).unwrap().is_some());
            // Something older once more tells nothing.
            assert!(turned.place(&part("a", 480, 1000, 40), 1000).unwrap().is_some());
            assert!(turned.place(&part("b", 530, 1050, 70), 1050).unwrap().is_none());
            turned.require_end().unwrap();
        }
        // The moment is before the new id, which comes all the same.
        let mut before = share("b", ("b", 600));
        before.place(&part("a", 480, 1000, 60), 1000).unwrap();
        before.place(&part("b", 540, 1060, 60), 1060).unwrap();
        before.require_end().unwrap();
        // It never comes, another one does, or it comes where the old one had not ended.
        let mut broken = share("b", ("a", 600));
        broken.place(&part("a", 480, 1000, 120), 1000).unwrap();
        assert!(is_refused(broken.require_end()));
        let mut other = share("b", ("c", 600));
        other.place(&part("a", 480, 1000, 40), 1000).unwrap();
        other.place(&part("c", 520, 1040, 80), 1040).unwrap();
        assert!(is_refused(other.require_end()));
        let mut overlapping = share("b", ("b", 600));
        overlapping.place(&part("a", 480, 1000, 40), 1000).unwrap();
        assert!(is_refused(overlapping.place(&part("b", 510, 1040, 90), 1040)));
    }
}

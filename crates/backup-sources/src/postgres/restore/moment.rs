//! From the moment that is asked for to the record to stop behind. The server is told the place
//! where that record begins (`recovery_target_lsn`, inclusive): it compares beginnings, and stops
//! behind the first record that does not begin earlier.

use std::fs::File;
use std::io::ErrorKind;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use jiff::Timestamp;

use super::super::error::malformed;
use super::super::lsn::Lsn;
use super::super::restore_options::RecoveryTarget;
use super::super::wal::{Event, History, Moment, Records, ServerLimits, is_shutdown};
use super::Job;
use super::target::{Target, failed};

/// Read at once.
const PIECE: usize = 256 << 10;

/// The log from the beginning of the backup to the end of what there is.
#[derive(Debug, Clone)]
pub(super) struct Way {
    start: Lsn,
    /// The backup is consistent from here on.
    consistent: Lsn,
    /// Timelines, and where each is left.
    left: Vec<(u32, Lsn)>,
    /// The last one.
    pub(super) timeline: u32,
    /// Everything up to here is there,
    pub(super) end: Lsn,
    /// and wanted, and what follows up to the first event that happened later than this.
    until: Option<Timestamp>,
}

/// A timeline is left for another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) from: u32,
    pub(super) at: Lsn,
    pub(super) next: u32,
}

/// Where the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Consistent,
    /// Behind the record that begins here.
    Behind(Lsn),
}

/// The place where the server stops, and facts about the log up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) stop: Stop,
    /// Time of the transaction's end or the restore point that was looked for.
    pub(super) time: Option<Timestamp>,
    /// Settings that queries during replay need.
    pub(super) limits: ServerLimits,
}

impl Way {
    pub(super) fn of(job: &Job<'_>) -> SourceResult<Self> {
        let place = |text: &str| text.parse::<Lsn>().map_err(|_| malformed("cluster.json"));
        let (start, consistent) = (place(&job.description.start)?, place(&job.description.end)?);
        let timeline = job.description.timeline;
        let Some(log) = &job.request.log else {
            return Ok(Self {
                start,
                consistent,
                left: Vec::new(),
                timeline,
                end: consistent,
                until: None,
            });
        };
        let plan = log.plan();
        let number =
            |branch: &str| branch.parse::<u32>().map_err(|_| malformed("timeline of the WAL"));
        let left: SourceResult<Vec<_>> =
            plan.turns.iter().map(|turn| Ok((number(&turn.branch)?, Lsn(turn.offset)))).collect();
        Ok(Self {
            start,
            consistent,
            left: left?,
            timeline: number(&plan.stop.branch)?,
            end: Lsn(plan.stop.offset).max(consistent),
            until: plan.until,
        })
    }

    /// Bytes of log that have to be replayed.
    pub(super) fn length(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// The state of a server that stopped there.
    pub(super) fn state(&self, stop: Stop) -> String {
        let timeline = self.timeline;
        match stop {
            Stop::Consistent => format!("as of the end of the backup, on timeline {timeline}"),
            Stop::Behind(at) => {
                format!("as of the WAL record at {at}, from timeline {timeline}")
            }
        }
    }

    pub(super) fn turns(&self) -> impl Iterator<Item = Turn> {
        let next = self.left.iter().skip(1).map(|(timeline, _)| *timeline).chain([self.timeline]);
        self.left.iter().zip(next).map(|((from, at), next)| Turn { from: *from, at: *at, next })
    }

    /// What the history of a timeline must say, as far as it is known.
    pub(super) fn history_of(&self, timeline: u32) -> History {
        History(self.left.iter().take_while(|(one, _)| *one != timeline).copied().collect())
    }

    /// The timeline whose file holds a segment: the newest that has it.
    fn timeline_of(&self, job: &Job<'_>, number: u64) -> u32 {
        let mut timeline = self.left.first().map_or(self.timeline, |(first, _)| *first);
        for turn in self.turns() {
            if job.segments.number(turn.at) <= number {
                timeline = turn.next;
            }
        }
        timeline
    }
}

/// A search for the place to stop at.
pub(super) struct Search<'a> {
    wanted: &'a RecoveryTarget,
    until: Option<Timestamp>,
    /// The backup is consistent from here on.
    consistent: Lsn,
    /// What ended later than wanted and is in every state that can be restored.
    early: Option<Event>,
    /// The last record that is wanted.
    last: Option<Event>,
    limits: ServerLimits,
    time: Option<Timestamp>,
    pub(super) found: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(wanted: &'a RecoveryTarget, way: &Way) -> Self {
        Self {
            wanted,
            until: way.until,
            consistent: way.consistent,
            early: None,
            last: None,
            limits: ServerLimits::default(),
            time: None,
            found: false,
        }
    }

    /// Takes the next record, given by its beginning too.
    pub(super) fn see(&mut self, event: Event, record: &[u8], behind_end: bool) {
        if self.found {
            return;
        }
        self.limits.note(record);
        let later = self
            .until
            .is_some_and(|until| event.moment.as_ref().is_some_and(|moment| moment.time() > until));
        // Clocks that run apart make the backup seem older than it is.
        if later
            && event.to <= self.consistent
            && matches!(event.moment, Some(Moment::Ended { .. }))
        {
            self.early.get_or_insert_with(|| event.clone());
        }
        self.found = match (self.wanted, &event.moment) {
            (RecoveryTarget::Planned, _) if behind_end && later => {
                self.found = true;
                return;
            }
            (
                RecoveryTarget::Transaction(wanted) | RecoveryTarget::BeforeTransaction(wanted),
                Some(Moment::Ended { transaction, .. }),
            ) => wanted == transaction,
            (
                RecoveryTarget::RestorePoint(wanted) | RecoveryTarget::BeforeRestorePoint(wanted),
                Some(Moment::RestorePoint { name, .. }),
            ) => wanted == name,
            _ => false,
        };
        if self.found {
            self.time = event.moment.as_ref().map(Moment::time);
        }
        let is_before = matches!(
            self.wanted,
            RecoveryTarget::BeforeTransaction(_) | RecoveryTarget::BeforeRestorePoint(_)
        );
        if self.found && is_before {
            return;
        }
        // A server that stopped behind a shutdown begins there again, and finds no record to stop
        // behind.
        let has_consistent = self.last.as_ref().is_some_and(|last| last.to >= self.consistent);
        if !(has_consistent && is_shutdown(record)) {
            self.last = Some(event);
        }
    }
}

/// Reads the log that was restored, up to the moment. Nothing may be missing on the way.
pub(super) async fn find(job: &Job<'_>, target: &Target, way: &Way) -> SourceResult<Found> {
    let wanted = &job.options.recovery;
    if *wanted == RecoveryTarget::Immediate {
        return Ok(Found { stop: Stop::Consistent, time: None, limits: ServerLimits::default() });
    }
    let mut search = Search::new(wanted, way);
    let mut records = Records::new(job.segments, way.start);
    let mut buffer = vec![0; PIECE];
    loop {
        job.cx.check_cancelled()?;
        let at = records.at();
        let behind_end = at >= way.end;
        if search.found
            || (behind_end && (way.until.is_none() || *wanted != RecoveryTarget::Planned))
        {
            break;
        }
        let len = read(job, target, way, at, &mut buffer)?;
        // Up to the end everything must be there; what follows is looked at for the time only.
        let len = if behind_end {
            len
        } else {
            len.min(usize::try_from(way.end.0 - at.0).unwrap_or(len))
        };
        let pushed =
            records.read(&buffer[..len], |event, record| search.see(event, record, behind_end));
        match (len == 0 || records.ended(), pushed) {
            (false, Ok(())) => {}
            _ if behind_end => break,
            (_, Err(error)) => return Err(error),
            (true, Ok(())) => return Err(missing(at, way)),
        }
        tokio::task::yield_now().await;
    }
    stop_behind(search, way)
}

/// The result of a search that has seen the whole log.
pub(super) fn stop_behind(search: Search<'_>, way: &Way) -> SourceResult<Found> {
    let what = match search.wanted {
        RecoveryTarget::Transaction(transaction)
        | RecoveryTarget::BeforeTransaction(transaction) => {
            format!("the end of transaction {transaction}")
        }
        RecoveryTarget::RestorePoint(name) | RecoveryTarget::BeforeRestorePoint(name) => {
            format!("the restore point {name:?}")
        }
        _ => String::new(),
    };
    if !what.is_empty() && !search.found {
        let text = format!("{what} is not in the WAL from {} to {}", way.start, way.end);
        return Err(SourceError::new(SourceErrorKind::NotFound, text)
            .with_hint("restore a later moment of the log, such as latest"));
    }
    if let (RecoveryTarget::Planned, Some(early)) = (search.wanted, &search.early) {
        let text = format!(
            "a transaction that ended at {} is later than the wanted time but part of the backup, \
             which ends at {}",
            early.to, way.consistent
        );
        return Err(SourceError::new(SourceErrorKind::Invalid, text)
            .with_hint("begin with an older snapshot"));
    }
    match search.last {
        Some(last) if last.to >= way.consistent => {
            let (time, limits) = (search.time, search.limits);
            Ok(Found { stop: Stop::Behind(last.from), time, limits })
        }
        Some(last) if !what.is_empty() => {
            let text = format!(
                "{what} at {} is before the backup becomes consistent at {}",
                last.to, way.consistent
            );
            Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("begin with an older snapshot"))
        }
        _ => Err(missing(way.start, way)),
    }
}

/// The log from `at` on, at most to the end of its segment. Nothing if there is no such segment.
fn read(
    job: &Job<'_>,
    target: &Target,
    way: &Way,
    at: Lsn,
    buffer: &mut [u8],
) -> SourceResult<usize> {
    use std::os::unix::fs::FileExt as _;
    let number = job.segments.number(at);
    let path = target.log().join(job.segments.name(way.timeline_of(job, number), number));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(&path, error)),
    };
    file.read_at(buffer, at.0 - job.segments.start(number).0).map_err(|error| failed(&path, error))
}

pub(super) fn missing(at: Lsn, way: &Way) -> SourceError {
    let text = format!("the WAL has a gap at {at}, before {}", way.end);
    SourceError::new(SourceErrorKind::Mismatch, text)
        .with_hint("choose an earlier moment, or another snapshot")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found if a transaction ends at `at`, `seconds` later than wanted.
    fn found(at: u64, seconds: i64) -> SourceResult<Found> {
        let (until, consistent) = (Timestamp::UNIX_EPOCH, Lsn(0x500));
        let way = Way {
            start: Lsn(0x100),
            consistent,
            left: Vec::new(),
            timeline: 1,
            end: consistent,
            until: Some(until),
        };
        let wanted = RecoveryTarget::Planned;
        let mut search = Search::new(&wanted, &way);
        let time = Timestamp::from_second(seconds).unwrap();
        let ended = Some(Moment::Ended { transaction: 7, time });
        search.see(Event { from: Lsn(at - 8), to: Lsn(at), moment: ended }, &[], at > consistent.0);
        search.see(Event { from: Lsn(0x600), to: Lsn(0x608), moment: None }, &[], true);
        stop_behind(search, &way)
    }

    #[test]
    fn what_is_later_than_wanted_must_not_be_in_the_backup() {
        assert!(found(0x300, 0).is_ok());
        let error = found(0x300, 1).unwrap_err();
        assert!(
            error.kind() == SourceErrorKind::Invalid
                && error.hint().unwrap().contains("older snapshot")
        );
        assert!(!found(0x580, 1).is_err_and(|error| error.kind() == SourceErrorKind::Invalid));
    }
}

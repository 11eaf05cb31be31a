//! The place where a dry run would stop the replay: moments that only reading the log can find are
//! looked for in the repository, without a data directory.

use backup_core::log::{LogPart, LogReplay};
use backup_core::source::SourceResult;

use super::super::lsn::Lsn;
use super::super::restore_options::RecoveryTarget;
use super::super::wal::{Records, WAL_PAGE};
use super::Job;
use super::log::place_of;
use super::moment::{self, Found, Search, Stop, Way, missing};

/// Finds the transaction or restore point of the restore, and reports where it is.
///
/// # Errors
/// The same as of the restore: the log does not hold the event, holds it before the backup is
/// consistent, or has a gap.
pub(super) async fn announce(job: &Job<'_>, log: &LogReplay) -> SourceResult<()> {
    if matches!(job.options.recovery, RecoveryTarget::Planned | RecoveryTarget::Immediate) {
        return Ok(());
    }
    let way = Way::of(job)?;
    let Found { stop, time, .. } = find(job, log, &way).await?;
    let time = time.map_or_else(String::new, |time| format!(" ({time})"));
    if let Stop::Behind(at) = stop {
        let event = match &job.options.recovery {
            RecoveryTarget::Transaction(id) => format!("behind the end of transaction {id}{time}"),
            RecoveryTarget::BeforeTransaction(id) => {
                format!("before the end of transaction {id}{time}")
            }
            RecoveryTarget::RestorePoint(name) => format!("behind restore point {name:?}{time}"),
            RecoveryTarget::BeforeRestorePoint(name) => {
                format!("before restore point {name:?}{time}")
            }
            RecoveryTarget::Planned | RecoveryTarget::Immediate => String::new(),
        };
        job.cx.events.note(format!("replay stops {event}: its last WAL record is at {at}"));
    }
    Ok(())
}

/// Reads the captured log in its order. The WAL in the backup itself ends where the backup becomes
/// consistent, so that the place to stop at cannot be there.
async fn find(job: &Job<'_>, log: &LogReplay, way: &Way) -> SourceResult<Found> {
    let mut search = Search::new(&job.options.recovery, way);
    let mut records = None;
    let mut tape = log.tape(job.cx)?;
    while let Some(part) = tape.next().await? {
        job.cx.check_cancelled()?;
        let Some((at, data)) = wanted_of(job, &part, way)? else { continue };
        let (at, data) = if records.is_none() { from_page(at, data) } else { (at, data) };
        if data.is_empty() {
            continue;
        }
        let records = records.get_or_insert_with(|| Records::new(job.segments, at));
        let Some(data) = behind(at, data, records.at()) else { return Err(missing(at, way)) };
        records.read(data, |event, record| search.see(event, record, false))?;
        if search.found || records.ended() {
            break;
        }
    }
    moment::stop_behind(search, way)
}

/// The place and the bytes of a part, up to the end of the log that is wanted; `None` for another
/// file than a segment.
fn wanted_of<'a>(
    job: &Job<'_>,
    part: &'a LogPart,
    way: &Way,
) -> SourceResult<Option<(Lsn, &'a [u8])>> {
    let Some((number, at)) = place_of(job, part)? else { return Ok(None) };
    let at = Lsn(job.segments.start(number).0 + at);
    let limit = part.limit.map_or(way.end, |limit| Lsn(limit).min(way.end));
    let len = usize::try_from(limit.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
    Ok(Some((at, &part.data[..part.data.len().min(len)])))
}

/// From the first whole page on.
fn from_page(at: Lsn, data: &[u8]) -> (Lsn, &[u8]) {
    let page = at.0.next_multiple_of(WAL_PAGE);
    let skipped = usize::try_from(page - at.0).unwrap_or(usize::MAX);
    (Lsn(page), data.get(skipped..).unwrap_or_default())
}

/// The bytes of `data`, which begin at `at`, that were not read yet; `None` if some are missing
/// before.
fn behind(at: Lsn, data: &[u8], read: Lsn) -> Option<&[u8]> {
    let known = usize::try_from(read.0.checked_sub(at.0)?).unwrap_or(usize::MAX);
    Some(data.get(known..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_once_and_without_gaps() {
        let data = [1, 2, 3, 4];
        assert_eq!(behind(Lsn(100), &data, Lsn(100)), Some(&data[..]));
        assert_eq!(behind(Lsn(100), &data, Lsn(102)), Some(&data[2..]));
        assert_eq!(behind(Lsn(100), &data, Lsn(110)), Some(&data[4..]));
        assert_eq!(behind(Lsn(100), &data, Lsn(99)), None);
    }

    #[test]
    fn reading_begins_with_a_whole_page() {
        let data = vec![7; 9000];
        assert_eq!(from_page(Lsn(8192), &data), (Lsn(8192), &data[..]));
        assert_eq!(from_page(Lsn(8192 + 192), &data), (Lsn(16384), &data[8000..]));
        assert_eq!(from_page(Lsn(8193), &data[..10]).1, &[] as &[u8]);
    }
}

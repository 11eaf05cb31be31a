//! The newest runs of a job that this machine remembers.

use backup_control::catalog::RunFilter;
use backup_control::runs::{Failure, Run, State};
use backup_core::repository::LARGEST_SKEW;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::human;
use crate::records::{self, Records};
use crate::session::Session;

/// Differences of clocks up to this many seconds are not pointed out.
const SKEW: u64 = LARGEST_SKEW.as_secs().unsigned_abs();

/// The newest run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastRun {
    run: String,
    #[serde(skip)]
    pub(super) snapshot: Option<String>,
    pub(super) state: State,
    pub(super) started: Timestamp,
    pub(super) finished: Option<Timestamp>,
    pub(super) warnings: u64,
    /// True if it backed up a part of the job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_part: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    /// Seconds by which the store's clock was ahead of that of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock_offset_seconds: Option<i64>,
    /// Seconds by which the clock of the server that was backed up was ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_clock_offset_seconds: Option<i64>,
}

/// The newest run that is meant, and the newest one of the whole job.
pub(super) async fn last_runs(
    session: &Session,
    records: Option<&Records>,
    filter: &RunFilter,
) -> Result<[Option<LastRun>; 2], ()> {
    let last = newest(session, records, filter).await?;
    let whole = if last.as_ref().is_some_and(|run| run.evidence.is_part) {
        newest(session, records, &RunFilter { whole: true, ..filter.clone() }).await?
    } else {
        last.clone()
    };
    Ok([last, whole].map(|run| run.map(LastRun::from)))
}

/// The newest run that is meant. That it cannot be had was said, and is in the way of nothing else.
pub(super) async fn newest(
    session: &Session,
    records: Option<&Records>,
    filter: &RunFilter,
) -> Result<Option<Run>, ()> {
    let records = records.ok_or(())?;
    match records.catalog.runs(filter).await {
        Ok(found) => Ok(found.runs.into_iter().next()),
        Err(error) => {
            records::warn(session, "cannot read the results of runs", &error.into());
            Err(())
        }
    }
}

impl LastRun {
    /// Remarks about clocks that differed by more than [`SKEW`], with the time of the run
    /// that measured them.
    pub(super) fn clock_remarks(&self, zone: &TimeZone) -> Vec<String> {
        let offsets = [
            ("store", self.clock_offset_seconds),
            ("database server", self.server_clock_offset_seconds),
        ];
        let remark = |(owner, offset): (&str, Option<i64>)| {
            let offset = offset.filter(|offset| offset.unsigned_abs() > SKEW)?;
            let (seconds, time) = (offset.unsigned_abs(), human::time(self.started, zone));
            let direction = if offset > 0 { "ahead" } else { "behind" };
            Some(format!("the clock of the {owner} was {seconds} s {direction} at {time}"))
        };
        offsets.into_iter().filter_map(remark).collect()
    }
}

impl From<Run> for LastRun {
    fn from(run: Run) -> Self {
        Self {
            run: run.id.to_string(),
            snapshot: run.evidence.snapshot.clone(),
            state: run.state,
            started: run.started,
            finished: run.finished,
            warnings: run.evidence.warnings,
            is_part: run.evidence.is_part,
            failure: run.evidence.failure,
            clock_offset_seconds: run.evidence.clock_offset_seconds,
            server_clock_offset_seconds: run.evidence.server_clock_offset_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use backup_control::machine::Machine;
    use backup_control::runs::What;
    use backup_control::zone::Zone;

    use super::*;

    #[test]
    fn clock_remarks_name_clock_direction_and_time() {
        let started = "2026-07-01T12:00:00Z".parse().unwrap();
        let machine = Machine::in_zone(Zone::UTC);
        let mut run = Run::new(What::Backup, "shop", "/r", &machine, started);
        let remarks = |run: &Run| LastRun::from(run.clone()).clock_remarks(&TimeZone::UTC);
        assert!(remarks(&run).is_empty());
        run.evidence.clock_offset_seconds = Some(-301);
        run.evidence.server_clock_offset_seconds = Some(7200);
        assert_eq!(
            remarks(&run),
            [
                "the clock of the store was 301 s behind at 2026-07-01 12:00",
                "the clock of the database server was 7200 s ahead at 2026-07-01 12:00",
            ]
        );
        run.evidence.clock_offset_seconds = Some(300);
        run.evidence.server_clock_offset_seconds = Some(-300);
        assert!(remarks(&run).is_empty());
    }
}

//! Which snapshots somebody means: by identifier, by moment, by day, by what they are of.

use std::ops::Range;

use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::repository::{SnapshotFilter, SnapshotInfo, SnapshotList};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::address;
use crate::error::{Error, Result};
use crate::moment::Moment;

/// What helps after something that names no snapshot.
const HINT: &str = "use `latest`, the beginning of an identifier as `backup list` shows it, or a \
                    moment such as `yesterday`, `2h ago` or `2026-11-21 14:30`";

/// Which snapshots are meant; without anything, all.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// What they are of.
    pub filter: SnapshotFilter,
    /// When they were made.
    pub within: Option<Range<Timestamp>>,
}

impl Choice {
    /// Whether a snapshot is meant.
    #[must_use]
    pub fn matches(&self, info: &SnapshotInfo) -> bool {
        let within = self.within.as_ref().is_none_or(|within| within.contains(&info.snapshot.time));
        within && self.filter.matches(&info.snapshot)
    }
}

/// What is known when a name is looked up.
#[derive(Debug, Clone)]
pub struct Now<'a> {
    /// The time.
    pub time: Timestamp,
    /// The zone that dates are meant in.
    pub zone: &'a TimeZone,
}

/// The snapshot called `name`, which must be one of `choice`: `latest`, the unique beginning of an
/// identifier, or a moment, which means the newest snapshot of that moment or before (for a day, of
/// its end or before).
///
/// # Errors
/// [`Error::Core`]: not found, ambiguous, damaged; [`Error::Invalid`] for what is no name.
pub fn find<'a>(
    list: &'a SnapshotList,
    name: &str,
    choice: &Choice,
    now: &Now<'_>,
) -> Result<&'a SnapshotInfo> {
    let is_id = !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
    if name == "latest" {
        return newest(list, choice, None).ok_or_else(|| none(choice));
    }
    if is_id {
        let info = list.resolve(name, &choice.filter)?;
        return if choice.matches(info) { Ok(info) } else { Err(not_meant(info)) };
    }
    let moment = Moment::parse(name, now.time, now.zone).map_err(|_| {
        // An address in its place may hold a password.
        let shown = address::without_secrets(name);
        Error::invalid(format!("{shown:?} does not name a snapshot")).with_hint(HINT)
    })?;
    newest(list, choice, Some(moment.end())).ok_or_else(|| {
        let hint = match list.snapshots.iter().find(|info| choice.matches(info)) {
            Some(oldest) => {
                format!("the oldest is {}, of {}", oldest.id.short(), oldest.snapshot.time)
            }
            None => "list the snapshots with `backup list`".to_owned(),
        };
        CoreError::new(ErrorKind::NotFound, format!("there is no snapshot at or before {name}"))
            .with_hint(hint)
            .into()
    })
}

/// The newest one that is meant, not made after `until`.
fn newest<'a>(
    list: &'a SnapshotList,
    choice: &Choice,
    until: Option<Timestamp>,
) -> Option<&'a SnapshotInfo> {
    let fits = |info: &&SnapshotInfo| {
        until.is_none_or(|until| info.snapshot.time <= until) && choice.matches(info)
    };
    list.snapshots.iter().rev().find(fits)
}

fn none(choice: &Choice) -> Error {
    let hint = match choice.within {
        Some(_) => "list all snapshots with `backup list` without --date",
        None => "list all snapshots with `backup list`, or create the first with `backup run`",
    };
    CoreError::new(ErrorKind::NotFound, "there is no such snapshot").with_hint(hint).into()
}

fn not_meant(info: &SnapshotInfo) -> Error {
    let short = info.id.short();
    CoreError::new(ErrorKind::NotFound, format!("snapshot {short} does not match the filters"))
        .with_hint(format!("leave the filters out, or see `backup show {short}`"))
        .into()
}

#[cfg(test)]
mod tests {
    use backup_core::format::Snapshot;
    use backup_core::id::SnapshotId;

    use super::*;

    fn info(id: &str, time: &str, job: &str) -> SnapshotInfo {
        let id: SnapshotId = id.repeat(32).parse().unwrap();
        let json = serde_json::json!({
            "time": time, "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h", "username": "u",
            "tags": [format!("job={job}")],
        });
        let snapshot: Snapshot = serde_json::from_value(json).unwrap();
        SnapshotInfo { id, snapshot }
    }

    fn list() -> SnapshotList {
        let snapshots = vec![
            info("a1", "2026-03-01T12:00:00Z", "x"),
            info("a2", "2026-03-02T12:00:00Z", "y"),
            info("b3", "2026-03-03T12:00:00Z", "x"),
        ];
        SnapshotList { snapshots, damaged: Vec::new() }
    }

    fn found(name: &str, choice: &Choice) -> Result<String> {
        let now = Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &TimeZone::UTC };
        find(&list(), name, choice, &now).map(|info| info.id.short()[..2].to_owned())
    }

    #[test]
    fn by_identifier_and_moment() {
        let all = Choice::default();
        let x = Choice {
            filter: SnapshotFilter { job: Some("x".into()), ..SnapshotFilter::default() },
            within: None,
        };
        for (name, choice, id) in [
            ("latest", &all, "b3"),
            ("a2", &all, "a2"),
            ("yesterday", &all, "a2"),
            ("yesterday", &x, "a1"),
            ("2026-03-02 11:59", &all, "a1"),
            ("2026-03-02T12:00:00Z", &all, "a2"),
            ("2h ago", &all, "a2"),
            ("now", &all, "b3"),
        ] {
            assert_eq!(found(name, choice).unwrap(), id, "{name}");
        }
        let error = found("mongodb://me:hush@db/", &all).unwrap_err();
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        let of_day = Choice {
            within: Some(
                "2026-03-02T00:00:00Z".parse().unwrap().."2026-03-03T00:00:00Z".parse().unwrap(),
            ),
            ..x
        };
        for (name, choice) in [
            ("a", &all),
            ("c", &all),
            ("2025-01-01", &all),
            ("zebra", &all),
            ("a2", &of_day),
            ("latest", &of_day),
        ] {
            assert!(found(name, choice).is_err_and(|error| error.hint().is_some()), "{name}");
        }
    }
}

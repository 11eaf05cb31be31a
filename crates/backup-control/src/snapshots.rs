//! Finding snapshots by name: an identifier, `latest`, or a moment.

use std::ops::Range;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::repository::{
    Repository, SnapshotFilter, SnapshotInfo, SnapshotList, UnavailableSnapshot,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::address;
use crate::error::{Error, Result};
use crate::moment::Moment;

/// Hint after a text that names no snapshot.
const HINT: &str = "use `latest`, the beginning of an identifier as `backup list` shows it, or a \
                    moment such as `yesterday`, `2h ago` or `2026-11-21 14:30`";

/// Conditions on the snapshots that a name can mean; without any, all of them.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Their properties.
    pub filter: SnapshotFilter,
    /// The time in which they were made.
    pub within: Option<Range<Timestamp>>,
    /// Accept an older snapshot although a newer one is damaged or missing.
    pub skip_damaged: bool,
}

impl Choice {
    /// True if the snapshot meets the conditions.
    #[must_use]
    pub fn matches(&self, info: &SnapshotInfo) -> bool {
        let within = self.within.as_ref().is_none_or(|within| within.contains(&info.time()));
        within && self.filter.matches(&info.snapshot)
    }
}

/// The present, as names are understood in it.
#[derive(Debug, Clone)]
pub struct Now<'a> {
    /// The time.
    pub time: Timestamp,
    /// The time zone of dates.
    pub zone: &'a TimeZone,
}

/// A repository and the listing in which names are looked up.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a, 'list> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its snapshots.
    pub list: &'list SnapshotList,
    /// The present.
    pub now: &'a Now<'a>,
    /// Cancellation.
    pub cx: &'a Context,
}

/// A snapshot that was found by its name.
#[derive(Debug)]
pub struct Found<'list> {
    /// The snapshot.
    pub info: &'list SnapshotInfo,
    /// Snapshots that may be newer and cannot be read.
    pub unavailable: Vec<UnavailableSnapshot>,
    /// The newest snapshot that is newer but holds only a part of its job.
    pub part: Option<&'list SnapshotInfo>,
}

impl<'list> Search<'_, 'list> {
    /// Finds the snapshot called `name` among those that meet the conditions of `choice`.
    ///
    /// `latest` means the newest one, a moment the newest one of that moment or before (for a day:
    /// of its end or before). Neither means a snapshot of a part of a job. Any other name is the
    /// unique beginning of an identifier.
    ///
    /// # Errors
    /// [`Error::Core`]: not found, ambiguous, or damaged, also if a snapshot that may be newer than
    /// the found one cannot be read, unless `choice` skips those; [`Error::Invalid`] for a text
    /// that is no name. Those of the sink.
    pub async fn find(&self, name: &str, choice: &Choice) -> Result<Found<'list>> {
        if is_identifier(name) {
            let info = self.list.resolve(name)?;
            return match choice.matches(info) {
                true => Ok(Found { info, unavailable: Vec::new(), part: None }),
                false => Err(not_meant(info)),
            };
        }
        let until = self.until(name)?;
        let candidate = newest(self.list, choice, until, |info| !info.snapshot.is_part());
        let unavailable = self.unavailable(candidate, until).await?;
        if !choice.skip_damaged
            && let Some(first) = unavailable.first()
        {
            return Err(hidden(name, first, unavailable.len(), candidate));
        }
        let part = newest(self.list, choice, until, |info| info.snapshot.is_part());
        match candidate {
            Some(info) => {
                let part = part.filter(|part| part.time() > info.time());
                Ok(Found { info, unavailable, part })
            }
            None => Err(match part {
                Some(part) => only_parts(part),
                None if until.is_none() => none(choice),
                None => self.none_before(name, choice),
            }),
        }
    }

    /// Requires that no snapshot which cannot be read may be newer than `info` and of `until` or
    /// before. `name` is the moment in the error.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] names the first such snapshot; those of the sink.
    pub async fn require_newest(
        &self,
        info: &SnapshotInfo,
        until: Timestamp,
        name: &str,
    ) -> Result<()> {
        let unavailable = self.unavailable(Some(info), Some(until)).await?;
        match unavailable.first() {
            Some(first) => Err(hidden(name, first, unavailable.len(), Some(info))),
            None => Ok(()),
        }
    }

    /// The end of the moment that `name` means; none for `latest`.
    fn until(&self, name: &str) -> Result<Option<Timestamp>> {
        if name == "latest" {
            return Ok(None);
        }
        let moment = Moment::parse(name, self.now.time, self.now.zone).map_err(|_| {
            // An address in its place may hold a password.
            let shown = address::without_secrets(name);
            Error::invalid(format!("{shown:?} does not name a snapshot")).with_hint(HINT)
        })?;
        Ok(Some(moment.end()))
    }

    async fn unavailable(
        &self,
        candidate: Option<&SnapshotInfo>,
        until: Option<Timestamp>,
    ) -> Result<Vec<UnavailableSnapshot>> {
        let all = self.repository.unavailable_snapshots(self.list, self.cx).await?;
        let newer = self.repository.newer_than(&all, candidate, until, self.list).await?;
        Ok(newer.into_iter().cloned().collect())
    }

    fn none_before(&self, name: &str, choice: &Choice) -> Error {
        let hint = match self.list.snapshots.iter().find(|info| choice.matches(info)) {
            Some(oldest) => {
                format!("the oldest is {}, of {}", oldest.id.short(), oldest.time())
            }
            None => "list the snapshots with `backup list`".to_owned(),
        };
        CoreError::new(ErrorKind::NotFound, format!("there is no snapshot at or before {name}"))
            .with_hint(hint)
            .into()
    }
}

/// True if the text is the beginning of an identifier, and no `latest` or moment.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The newest snapshot that meets the conditions and was not made after `until`.
fn newest<'list>(
    list: &'list SnapshotList,
    choice: &Choice,
    until: Option<Timestamp>,
    is_meant: impl Fn(&SnapshotInfo) -> bool,
) -> Option<&'list SnapshotInfo> {
    let fits = |info: &&SnapshotInfo| {
        let is_before = until.is_none_or(|until| info.time() <= until);
        is_before && is_meant(info) && choice.matches(info)
    };
    list.snapshots.iter().rev().find(fits)
}

/// The error for a name that may mean a snapshot that cannot be read.
fn hidden(
    name: &str,
    unavailable: &UnavailableSnapshot,
    number: usize,
    candidate: Option<&SnapshotInfo>,
) -> Error {
    let short = unavailable.id.short();
    let others = match number {
        1 => String::new(),
        _ => format!(" (and {} more)", number - 1),
    };
    let message = format!(
        "`{name}` may mean snapshot {short}{others}, which cannot be read: {}",
        unavailable.reason
    );
    let instead = match candidate {
        Some(info) => {
            format!("name an older snapshot, such as {}, or add --skip-damaged; ", info.id.short())
        }
        None => String::new(),
    };
    CoreError::damaged(message)
        .with_hint(format!(
            "{instead}recover the snapshot with `backup repair --from COPY`, or give it up with \
             `backup repair --accept-loss {short}`"
        ))
        .into()
}

fn only_parts(part: &SnapshotInfo) -> Error {
    let error = "there is no complete snapshot: all that match hold a part of their job";
    CoreError::new(ErrorKind::NotFound, error)
        .with_hint(format!("name a snapshot by its identifier, for instance {}", part.id.short()))
        .into()
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
    use std::sync::Arc;

    use backup_core::crypto::Passphrase;
    use backup_core::format::{Snapshot, SnapshotPart};
    use backup_core::id::SnapshotId;
    use backup_core::repository::InitOptions;
    use backup_core::testing::MemorySink;

    use super::*;

    fn info(id: &str, time: &str, job: &str) -> SnapshotInfo {
        let id: SnapshotId = id.repeat(32).parse().unwrap();
        let json = serde_json::json!({
            "time": time, "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h", "username": "u",
            "tags": [format!("job={job}")],
        });
        let snapshot: Snapshot = serde_json::from_value(json).unwrap();
        SnapshotInfo::new(id, snapshot)
    }

    fn list() -> SnapshotList {
        let snapshots = vec![
            info("a1", "2026-03-01T12:00:00Z", "x"),
            info("a2", "2026-03-02T12:00:00Z", "y"),
            info("b3", "2026-03-03T12:00:00Z", "x"),
        ];
        SnapshotList { snapshots, ..SnapshotList::default() }
    }

    async fn search(list: &SnapshotList, name: &str, choice: &Choice) -> Result<String> {
        let options = InitOptions::default();
        let cx = Context::silent();
        let sink = Arc::new(MemorySink::new());
        let repository =
            Repository::init(sink, &Passphrase::generate(), &options, &cx).await.unwrap();
        let now = Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &TimeZone::UTC };
        let search = Search { repository: &repository, list, now: &now, cx: &cx };
        search.find(name, choice).await.map(|found| found.info.id.short()[..2].to_owned())
    }

    async fn found(name: &str, choice: &Choice) -> Result<String> {
        search(&list(), name, choice).await
    }

    #[tokio::test]
    async fn names_never_mean_an_older_snapshot_than_a_damaged_one() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut list = list();
        let stored = ["2026-03-01T12:01:00Z", "2026-03-02T12:01:00Z", "2026-03-03T12:01:00Z"];
        for (info, stored) in list.snapshots.iter().zip(stored) {
            list.evidence.stored.insert(info.id, at(stored));
        }
        let bad: SnapshotId = "cc".repeat(32).parse().unwrap();
        list.damaged.push((bad, CoreError::damaged("torn")));
        let skip = Choice { skip_damaged: true, ..Choice::default() };
        // Stored when, and the names that may mean it.
        for (stored, hidden) in [
            (Some("2026-03-03T12:30:00Z"), &["latest", "now"][..]),
            (Some("2026-03-02T18:00:00Z"), &["yesterday"]),
            (Some("2026-02-01T00:00:00Z"), &[]),
            (None, &["latest", "now", "yesterday", "2026-03-02 11:59"]),
        ] {
            match stored {
                Some(stored) => list.evidence.stored.insert(bad, at(stored)),
                None => list.evidence.stored.remove(&bad),
            };
            for name in ["latest", "now", "yesterday", "2026-03-02 11:59", "a2a2"] {
                let found = search(&list, name, &Choice::default()).await;
                let is_refused = found.as_ref().is_err_and(|error| {
                    error.to_string().contains("torn")
                        && error.hint().unwrap().contains("--skip-damaged")
                });
                assert_eq!(is_refused, hidden.contains(&name), "{stored:?} {name}: {found:?}");
                assert!(search(&list, name, &skip).await.is_ok(), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn parts_of_jobs_are_found_by_identifier_only() {
        let mut list = list();
        let newest = list.snapshots.last_mut().unwrap();
        std::sync::Arc::make_mut(&mut newest.snapshot).x_part = Some(SnapshotPart::default());
        let all = Choice::default();
        assert_eq!(search(&list, "latest", &all).await.unwrap(), "a2");
        assert_eq!(search(&list, "b3b3", &all).await.unwrap(), "b3");
        list.snapshots.retain(|info| info.snapshot.is_part());
        let error = search(&list, "latest", &all).await.unwrap_err();
        assert!(error.hint().unwrap().contains("b3b3b3b3"), "{error:?}");
    }

    #[tokio::test]
    async fn by_identifier_and_moment() {
        let all = Choice::default();
        let x = Choice {
            filter: SnapshotFilter { job: Some("x".into()), ..SnapshotFilter::default() },
            ..Choice::default()
        };
        for (name, choice, id) in [
            ("latest", &all, "b3"),
            ("a2a2", &all, "a2"),
            ("yesterday", &all, "a2"),
            ("yesterday", &x, "a1"),
            ("2026-03-02 11:59", &all, "a1"),
            ("2026-03-02T12:00:00Z", &all, "a2"),
            ("2h ago", &all, "a2"),
            ("now", &all, "b3"),
        ] {
            assert_eq!(found(name, choice).await.unwrap(), id, "{name}");
        }
        let error = found("mongodb://me:hush@db/", &all).await.unwrap_err();
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
            ("a2a2", &of_day),
            ("a2a", &all),
            ("latest", &of_day),
        ] {
            let found = found(name, choice).await;
            assert!(found.is_err_and(|error| error.hint().is_some()), "{name}");
        }
    }
}

//! What verifications and checks of a repository have come to, taken together: what succeeds with less, or elsewhere, mends nothing.

use std::collections::BTreeSet;

use super::{Record, Status};

/// What a verification looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// These snapshots, all of their content.
    Snapshots(BTreeSet<String>),
    /// Whether everything is there.
    Structure,
    /// That, and some of the data.
    Part(String),
    /// That, and all of the data.
    Everything,
}

impl Scope {
    fn of(record: &Record) -> Option<Self> {
        let detail = |name: &str| record.details.get(name).map(String::as_str);
        match (record.operation.as_str(), detail("data")) {
            ("verify", _) => {
                let snapshots = detail("snapshots").unwrap_or_default();
                Some(Self::Snapshots(snapshots.split_whitespace().map(str::to_owned).collect()))
            }
            ("check", None) => Some(Self::Structure),
            ("check", Some("all")) => Some(Self::Everything),
            ("check", Some(part)) => Some(Self::Part(part.to_owned())),
            _ => None,
        }
    }

    /// What is left of a failure when this has succeeded.
    fn settle(&self, failed: Self) -> Option<Self> {
        match (self, failed) {
            (Self::Everything, _) | (Self::Structure | Self::Part(_), Self::Structure) => None,
            // What is chosen at random is another part each time.
            (Self::Part(part), Self::Part(failed)) if *part == failed && part.contains('/') => None,
            (Self::Snapshots(sound), Self::Snapshots(failed)) => {
                let left: BTreeSet<String> = failed.difference(sound).cloned().collect();
                (!left.is_empty()).then_some(Self::Snapshots(left))
            }
            (_, failed) => Some(failed),
        }
    }
}

/// Of the verifications and checks among the records of a repository, oldest first: the newest that failed and that nothing has settled
/// since, else the newest that succeeded. A failure is settled by a success that looked at the same, or at everything.
#[must_use]
pub fn standing<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<&'a Record> {
    let (mut last, mut failures) = (None, Vec::<(Scope, &Record)>::new());
    for record in records {
        let Some(scope) = Scope::of(record) else { continue };
        match record.status {
            Status::Started | Status::Cancelled => {}
            Status::Failure => {
                failures.retain(|(failed, _)| *failed != scope);
                failures.push((scope, record));
            }
            Status::Success | Status::Warnings => {
                last = Some(record);
                let left = failures.into_iter().filter_map(|(failed, record)| Some((scope.settle(failed)?, record)));
                failures = left.collect();
            }
        }
    }
    failures.pop().map(|(_, record)| record).or(last)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{SignedDuration, Timestamp};

    use super::super::Class;
    use super::*;
    use crate::machine::Machine;

    /// What stands after verifications that are told in a word each: `check`, `check:all!` (failed), `verify:a,b`.
    fn after(told: &str) -> String {
        let machine = Machine { host: "h".into(), user: "me".into(), time_zone: TimeZone::UTC };
        let records: Vec<Record> = told
            .split_whitespace()
            .enumerate()
            .map(|(number, word)| {
                let (word, status) = match word.strip_suffix('!') {
                    Some(word) => (word, Status::Failure),
                    None => (word, Status::Success),
                };
                let (operation, detail) = word.split_once(':').unwrap_or((word, ""));
                let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(number).unwrap());
                let record = Record::new(operation, Class::Operation, status, &machine, now);
                match (operation, detail) {
                    (_, "") => record,
                    ("verify", snapshots) => record.with("snapshots", snapshots.replace(',', " ")),
                    (_, data) => record.with("data", data),
                }
            })
            .collect();
        let stands = standing(&records);
        stands.map_or_else(
            || "nothing".to_owned(),
            |record| {
                format!(
                    "{} {}",
                    record.timestamp.as_second(),
                    if record.status == Status::Failure { "failed" } else { "sound" }
                )
            },
        )
    }

    #[test]
    fn only_what_looked_at_as_much_settles_a_failure() {
        for (told, stands) in [
            ("", "nothing"),
            ("check", "0 sound"),
            ("check check:all!", "1 failed"),
            ("check:all! check", "0 failed"),
            ("check:all! check:5% verify:a", "0 failed"),
            ("check:all! check:all", "1 sound"),
            ("check! check:5%", "1 sound"),
            ("check:5%! check:5%", "0 failed"),
            ("check:1/12! check:2/12", "0 failed"),
            ("check:1/12! check:1/12", "1 sound"),
            ("verify:a! verify:b", "0 failed"),
            ("verify:a,b! verify:b", "0 failed"),
            ("verify:a,b! verify:b verify:a,c", "2 sound"),
            ("verify:a! check:all", "1 sound"),
            ("verify:a! verify:b! verify:b", "0 failed"),
        ] {
            assert_eq!(after(told), stands, "{told}");
        }
    }
}

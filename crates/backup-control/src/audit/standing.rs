//! What verifications and checks of a repository have come to, taken together: what succeeds with
//! less, or elsewhere, mends nothing.

use std::collections::BTreeSet;

use super::{Record, Status};

/// What a verification looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// These snapshots, all of their content, and more of them at higher levels.
    Snapshots(BTreeSet<String>, u8),
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
                let level = match detail("level") {
                    Some("deep") => 2,
                    Some("structure") => 1,
                    _ => 0,
                };
                Some(Self::Snapshots(
                    snapshots.split_whitespace().map(str::to_owned).collect(),
                    level,
                ))
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
            (Self::Everything | Self::Structure | Self::Part(_), Self::Structure)
            | (Self::Everything, Self::Everything | Self::Part(_) | Self::Snapshots(_, 0)) => None,
            // What is chosen at random is another part each time.
            (Self::Part(part), Self::Part(failed)) if *part == failed && part.contains('/') => None,
            (Self::Snapshots(sound, level), Self::Snapshots(failed, at_level))
                if *level >= at_level =>
            {
                let left: BTreeSet<String> = failed.difference(sound).cloned().collect();
                (!left.is_empty()).then_some(Self::Snapshots(left, at_level))
            }
            (_, failed) => Some(failed),
        }
    }
}

/// Whether damage was found; else something else went wrong, and nothing is known.
#[must_use]
pub fn found_damage(record: &Record) -> bool {
    record.details.get(DAMAGE).is_some_and(|found| found == "yes")
}

/// The detail that says so.
pub const DAMAGE: &str = "damage";

/// Of the verifications and checks among the records of a repository, oldest first: the newest that
/// failed and that nothing has settled since, else the newest that succeeded. Where damage was
/// found, it is settled by a success that looked at the same, or at everything; where something
/// else went wrong, by any success of the same operation, too.
#[must_use]
pub fn standing<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<&'a Record> {
    let (mut last, mut failures) = (None, Vec::<(Scope, &Record)>::new());
    for record in records {
        let Some(scope) = Scope::of(record) else { continue };
        match record.status {
            Status::Started | Status::Cancelled | Status::Declined => {}
            // There was nothing to look at.
            Status::Failure
                if !found_damage(record) && scope == Scope::Snapshots(BTreeSet::new(), 0) => {}
            Status::Failure => {
                failures.retain(|(failed, _)| *failed != scope);
                failures.push((scope, record));
            }
            Status::Success | Status::Warnings => {
                last = Some(record);
                let left = failures.into_iter().filter_map(|(failed, before)| {
                    if before.operation == record.operation && !found_damage(before) {
                        return None;
                    }
                    Some((scope.settle(failed)?, before))
                });
                failures = left.collect();
            }
        }
    }
    failures.pop().map(|(_, record)| record).or(last)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::Class;
    use super::*;
    use crate::machine::Machine;

    /// What stands after verifications that are told in a word each: `check`, `check:all!` (found
    /// damage), `check?` (failed), `verify:a,b`, `verify:a/deep`.
    fn after(told: &str) -> String {
        let machine = Machine { host: "h".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let records: Vec<Record> = told
            .split_whitespace()
            .enumerate()
            .map(|(number, word)| {
                let (status, damage) = match word.chars().last() {
                    Some('!') => (Status::Failure, "yes"),
                    Some('?') => (Status::Failure, "no"),
                    _ => (Status::Success, "no"),
                };
                let word = word.trim_end_matches(['!', '?']);
                let (operation, detail) = word.split_once(':').unwrap_or((word, ""));
                let now = Timestamp::UNIX_EPOCH
                    + SignedDuration::from_secs(i64::try_from(number).unwrap());
                let record = Record::new(operation, Class::Operation, status, &machine, now)
                    .with(DAMAGE, damage);
                match (operation, detail) {
                    (_, "") => record,
                    ("verify", detail) => {
                        let (snapshots, level) =
                            detail.split_once('/').unwrap_or((detail, "checksum"));
                        record.with("snapshots", snapshots.replace(',', " ")).with("level", level)
                    }
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
            ("verify:a/deep! check:all verify:a", "0 failed"),
            ("verify:a/deep! verify:a/deep", "1 sound"),
            ("check:5%? check", "1 sound"),
            ("verify:a? check", "0 failed"),
            ("verify:a? verify:b", "1 sound"),
            ("check verify?", "0 sound"),
            ("verify:a! verify:b! verify:b", "0 failed"),
        ] {
            assert_eq!(after(told), stands, "{told}");
        }
    }
}

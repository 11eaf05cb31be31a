//! Where the snapshots of a job lie.

use std::collections::BTreeSet;

use super::by_job::ByJob;
use super::{Given, RepositoryGiven};
use crate::config::JobConfig;
use crate::disk::Medium;

/// Where the snapshots of a job lie: those of the period that its repository holds, else the newest
/// one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// The snapshots.
    pub(super) snapshots: Vec<String>,
    /// Copies of the snapshot with the fewest of them, with the source. Repositories on one disk
    /// count once.
    pub(super) fewest: u64,
    /// Each snapshot is in an object store.
    pub(super) is_offsite: bool,
    /// Repositories that hold each of the snapshots.
    pub(super) held_by: BTreeSet<String>,
    /// Snapshots without three copies, one of them off-site.
    pub(super) lacking: Vec<String>,
    /// Why there may be more copies than are known.
    pub(super) unknown: Option<String>,
}

/// None if the repository of the job could not be read.
pub(super) fn of_job<'a>(
    given: &'a Given<'_>,
    sorted: &ByJob<'a>,
    name: &'a str,
    job: &'a JobConfig,
) -> Option<Copies> {
    given.repositories.get(&job.repository)?.snapshots.as_ref()?;
    let mut meant = sorted.snapshots(&job.repository, name);
    meant.sort_by_key(|snapshot| snapshot.time);
    let newest = meant.last().copied();
    meant.retain(|snapshot| snapshot.time >= given.from && snapshot.time < given.to);
    if meant.is_empty() {
        meant.extend(newest);
    }
    let mut copies = Copies {
        snapshots: meant.iter().map(|snapshot| snapshot.short().to_owned()).collect(),
        fewest: if meant.is_empty() { 1 } else { u64::MAX },
        is_offsite: !meant.is_empty(),
        unknown: sorted.unknown(&job.repository).cloned(),
        ..Copies::default()
    };
    for (at, snapshot) in meant.iter().enumerate() {
        let names = sorted.holders(snapshot);
        let holders: Vec<(&str, &RepositoryGiven)> =
            names.iter().filter_map(|name| Some((*name, given.repositories.get(*name)?))).collect();
        let count = 1 + distinct(holders.iter().map(|(_, known)| *known));
        let is_offsite = holders.iter().any(|(_, known)| known.medium == Medium::Store);
        if count < 3 || !is_offsite {
            copies.lacking.push(snapshot.short().to_owned());
        }
        copies.fewest = copies.fewest.min(count);
        copies.is_offsite &= is_offsite;
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        copies.held_by = match at {
            0 => names,
            _ => copies.held_by.intersection(&names).cloned().collect(),
        };
    }
    Some(copies)
}

/// The number of places that are known to be on disks of their own.
fn distinct<'a>(places: impl Iterator<Item = &'a RepositoryGiven>) -> u64 {
    let mut counted: Vec<&RepositoryGiven> = Vec::new();
    for place in places {
        let is_apart = |other: &&RepositoryGiven| {
            other.place != place.place && other.medium.shares_disk(&place.medium) == Some(false)
        };
        if counted.iter().all(is_apart) {
            counted.push(place);
        }
    }
    counted.len() as u64
}

/// Copies that were made, or may have been, and cannot be seen.
pub(super) fn unknown(given: &Given<'_>, own: &RepositoryGiven) -> Option<String> {
    let unread = given.repositories.iter().find(|(_, known)| known.snapshots.is_none());
    if let Some((name, _)) = unread {
        return Some(format!("repository {name} could not be read"));
    }
    let is_configured =
        |place: &String| given.repositories.values().any(|known| known.place == *place);
    let copied = given.records.iter().filter(|record| {
        matches!(record.operation.as_str(), "copy" | "archive")
            && record.details.get("repository") == Some(&own.place)
    });
    let elsewhere =
        copied.filter_map(|record| record.details.get("to")).find(|to| !is_configured(to));
    elsewhere.map(|to| format!("copies in {to} cannot be counted: the configuration lacks it"))
}

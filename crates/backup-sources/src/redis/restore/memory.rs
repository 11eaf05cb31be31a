//! Memory of a target: too little is refused or warned of, and evicted keys are counted.
//!
//! A server with an eviction policy accepts every key and drops others. Its `maxmemory` is nearly
//! used up all the time, so a snapshot of it needs about as much as an identical server has.

use backup_core::event::WarningKind;
use backup_core::source::{IfExists, RestoreReport, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;

use super::super::options::RedisOptions;
use super::super::server::Info;
use super::Job;

/// Memory of a target and of a snapshot, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Memory {
    /// `used_memory` of the origin at the snapshot, with its buffers.
    needed: u64,
    /// `maxmemory`.
    limit: u64,
    /// Data that the target has now, and whether the restore keeps it beside that of the snapshot.
    used: u64,
    keeps: bool,
    /// Keys of the snapshot may replace those of the target.
    merges: bool,
    /// The eviction policy; `None` if the target evicts nothing.
    policy: Option<String>,
}

/// Result of a comparison of both.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Fits,
    /// The target may evict or refuse keys.
    Doubtful(String),
    Impossible(String),
}

impl Memory {
    fn fit(&self) -> Fit {
        let left = self.limit.saturating_sub(self.used);
        let has = if self.keeps { left } else { self.limit };
        if let Some(policy) = &self.policy {
            // Buffers and fragmentation are no data: only a multiple surely lacks room.
            return if self.needed / 2 > self.limit {
                Fit::Impossible(format!(
                    "the snapshot takes {} MiB of memory, but the maxmemory of the target is {} MiB",
                    self.needed >> 20,
                    self.limit >> 20
                ))
            } else if self.needed > left.min(has) {
                Fit::Doubtful(format!(
                    "{}: its policy {policy} may evict keys",
                    self.compared(left)
                ))
            } else {
                Fit::Fits
            };
        }
        // Buffers of clients and replicas belong to the memory in use, and not to the data.
        if self.needed > has.saturating_add(has / 10) {
            Fit::Impossible(self.compared(has))
        } else if self.needed > has || (self.merges && self.needed > left) {
            Fit::Doubtful(format!("{}: it may refuse keys", self.compared(left.min(has))))
        } else {
            Fit::Fits
        }
    }

    fn compared(&self, has: u64) -> String {
        format!(
            "the snapshot takes {} MiB of memory, but the target has {} MiB left of its maxmemory",
            self.needed >> 20,
            has >> 20
        )
    }
}

/// Warns if a target may lack memory, and refuses if it surely does, unless
/// [`memory_is_forced`](super::super::RestoreOptions::memory_is_forced). The limits of all nodes of
/// a cluster count together.
///
/// # Errors
/// [`SourceErrorKind::Target`] if the snapshot cannot fit.
pub(super) fn require_memory<'a>(
    job: &Job<'_>,
    infos: impl IntoIterator<Item = &'a Info>,
    is_emptied: bool,
) -> SourceResult<()> {
    let dump = &job.description.dump;
    let needed = dump.remarks.get("used-mem").and_then(|bytes| bytes.parse::<u64>().ok());
    let Some(needed) = needed else { return Ok(()) };
    let merges = job.request.if_exists == IfExists::Merge;
    let keeps = !is_emptied && !merges;
    let mut memory = Memory { needed, keeps, merges, ..Memory::default() };
    for info in infos {
        // A node without a limit may take everything.
        let Some(limit) = info.number("maxmemory").filter(|limit| *limit > 0) else {
            return Ok(());
        };
        memory.limit = memory.limit.saturating_add(limit);
        if !is_emptied {
            let number = |name| info.number(name).unwrap_or(0);
            let data = number("used_memory").saturating_sub(number("used_memory_startup"));
            memory.used = memory.used.saturating_add(data);
        }
        let policy = info.get("maxmemory_policy").filter(|policy| *policy != "noeviction");
        memory.policy = memory.policy.or_else(|| policy.map(str::to_owned));
    }
    match memory.fit() {
        Fit::Fits => Ok(()),
        Fit::Impossible(text) if !job.options.memory_is_forced => {
            Err(SourceError::new(SourceErrorKind::Target, text).with_hint(
                "raise maxmemory of the target, select fewer keys, or give --force-memory",
            ))
        }
        Fit::Doubtful(text) | Fit::Impossible(text) => {
            job.cx.events.warn(WarningKind::Other, "", text);
            Ok(())
        }
    }
}

/// Keys that a target has evicted since `before`; 0 if it did not report the number then.
pub(super) async fn evicted(server: &RedisOptions, before: Option<u64>) -> SourceResult<u64> {
    let Some(before) = before else { return Ok(0) };
    let info = Info::of(server)
        .await
        .map_err(|error| error.into_source("cannot inspect the restored data"))?;
    Ok(info.number("evicted_keys").map_or(0, |now| now.saturating_sub(before)))
}

/// Warns of evicted keys. `missing` of the restored ones are known to be gone; `None` if they were
/// not read back.
pub(super) fn tell_evicted(
    job: &Job<'_>,
    evicted: u64,
    missing: Option<u64>,
    report: &mut RestoreReport,
) {
    if evicted == 0 {
        return;
    }
    let mut text = format!(
        "the target has evicted {} during the restore",
        words::count(evicted, "key", "keys")
    );
    match missing {
        Some(missing) => {
            let restored = words::count(missing, "restored key is", "restored keys are");
            text.push_str(&format!(": {restored} gone"));
        }
        None => text.push_str(": --verify counts the restored ones among them"),
    }
    job.cx.events.warn(WarningKind::Other, "", text + "; raise its maxmemory to keep all keys");
    report.warnings += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_caches_are_doubtful_and_only_a_multiple_is_impossible() {
        let cache = |needed, used, keeps| {
            let policy = Some("allkeys-lru".to_owned());
            Memory { needed, limit: 100, used, keeps, merges: false, policy }.fit()
        };
        assert_eq!(cache(60, 0, true), Fit::Fits);
        assert!(matches!(cache(60, 100, true), Fit::Doubtful(_)));
        assert!(matches!(cache(101, 0, false), Fit::Doubtful(_)));
        assert!(matches!(cache(202, 0, false), Fit::Impossible(_)));
    }

    #[test]
    fn servers_without_eviction_refuse_more_than_a_tenth_too_much() {
        let server = |needed, used, keeps| {
            Memory { needed, limit: 100, used, keeps, merges: !keeps, policy: None }.fit()
        };
        assert_eq!(server(100, 0, true), Fit::Fits);
        assert!(matches!(server(110, 90, false), Fit::Doubtful(_)));
        assert!(matches!(server(60, 90, false), Fit::Doubtful(_)));
        assert!(matches!(server(111, 0, false), Fit::Impossible(_)));
        assert!(matches!(server(60, 50, true), Fit::Impossible(_)));
    }
}

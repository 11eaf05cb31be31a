//! The judgement of entries that the snapshot lacks: those that the backup saw to be absent may be
//! removed, and others only on request.
//!
//! An entry at the target that the snapshot lacks may have been there when the backup ran: excluded,
//! unreadable, or on another file system. The backup has recorded every entry that it left out, with
//! the cause, and its rules. An entry that the rules would leave out today counts as left out.

use backup_core::event::WarningKind;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    Delete, EntryPath, IfExists, RestoreRequest, SkipRules, Skipped, SourceResult,
};
use rustix::fs::{FileType, Stat};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::tally::Tally;
use crate::files::filter::{Cover, Filter};
use crate::files::listing::marker_name;

/// Reasons to doubt that the backup saw an entry to be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The backup left it out by choice, or would do so.
    pub(super) excluded: bool,
    /// The backup could not read it, or the snapshot has no record of skipped entries.
    pub(super) unknown: bool,
}

impl Doubt {
    /// The reasons of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { excluded: self.excluded || other.excluded, unknown: self.unknown || other.unknown }
    }
}

/// The record of a backup, and the removals that are requested.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// The requested removal; nothing by default.
    delete: Delete,
    /// `None` if the snapshot has no record.
    record: Option<Record>,
    roots: Vec<EntryPath>,
    filter: Filter,
    rules: SkipRules,
}

/// Hashes of the paths that were left out, 16 bytes each: there may be millions.
#[derive(Debug, Default)]
struct Record {
    chosen: Vec<u128>,
    unread: Vec<u128>,
}

impl Record {
    fn add(&mut self, skipped: &Skipped) {
        let list = if skipped.cause.is_chosen() { &mut self.chosen } else { &mut self.unread };
        list.push(key(&skipped.path));
    }

    fn sort(&mut self) {
        self.chosen.sort_unstable();
        self.unread.sort_unstable();
    }

    fn doubt(&self, path: &EntryPath) -> Doubt {
        let key = key(path);
        Doubt {
            excluded: self.chosen.binary_search(&key).is_ok(),
            unknown: self.unread.binary_search(&key).is_ok(),
        }
    }
}

/// The hash of a path in records and plans.
pub(super) fn key(path: &EntryPath) -> u128 {
    let hash = Sha256::digest(path.as_bytes());
    hash.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

impl Absence {
    /// Reads the record of `snapshot`, if `request` includes a removal.
    pub(super) fn load(
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
        runtime: &Handle,
        tally: &Tally,
    ) -> SourceResult<Self> {
        if request.if_exists != IfExists::Replace || request.delete == Delete::Nothing {
            return Ok(Self::default());
        }
        let mut record = Record::default();
        let read = runtime.block_on(snapshot.skipped(|skipped| record.add(&skipped)));
        let rules = match read {
            Ok(rules) => rules,
            Err(error) if error.is_damage() => {
                tally.warn(WarningKind::Other, "", error.chain());
                None
            }
            Err(error) => return Err(error.into()),
        };
        let is_recorded = rules.is_some();
        let rules = match rules {
            Some(rules) => rules,
            None => patterns_of(snapshot, runtime),
        };
        let filter = Filter::of_rules(&rules);
        record.sort();
        Ok(Self {
            delete: request.delete.clone(),
            record: (is_recorded && filter.is_some()).then_some(record),
            roots: snapshot.paths().iter().filter_map(EntryPath::new).collect(),
            filter: filter.unwrap_or_default(),
            rules,
        })
    }

    /// Returns `true` if a removal is requested.
    pub(super) fn deletes(&self) -> bool {
        self.delete != Delete::Nothing
    }

    /// Returns `true` if an entry with these doubts may be removed.
    pub(super) fn allows(&self, doubt: Doubt) -> bool {
        self.delete.doubtful().is_some_and(|removed| {
            (removed.excluded || !doubt.excluded) && (removed.unknown || !doubt.unknown)
        })
    }

    /// Returns `false` if the removal is limited to the entries of a plan, and the entry at `path` is
    /// none of them. `shown` is the path in messages.
    pub(super) fn is_planned(&self, path: &EntryPath, shown: &str) -> bool {
        match &self.delete {
            Delete::Nothing | Delete::Absent(_) => true,
            Delete::Planned(names) => names.contains(shown),
            Delete::PlannedFiles(paths, _) => paths.contains(key(path)),
        }
    }

    /// Doubts about the entry at `path`, which the snapshot lacks; `stat` describes it.
    pub(super) fn doubt(&self, path: &EntryPath, stat: &Stat) -> Doubt {
        let size = stat.st_size.max(0) as u64;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let too_large = is_file && self.rules.max_file_size.is_some_and(|max| size > max);
        let by_rules = Doubt { excluded: too_large || !self.is_chosen(path), unknown: false };
        self.recorded(path).and(by_rules)
    }

    /// Doubts about everything in the directory `path` that the snapshot lacks; these are the
    /// `names` in it.
    pub(super) fn doubt_of_content(&self, path: &EntryPath, names: &[Vec<u8>]) -> Doubt {
        let is_marker = |name: &Vec<u8>| {
            // The name is enough: entries are kept in doubt.
            let markers = &self.rules.exclude_if_present;
            markers.iter().any(|marker| marker_name(marker).as_bytes() == &**name)
        };
        let by_rules = Doubt { excluded: names.iter().any(is_marker), unknown: false };
        self.recorded(path).and(by_rules)
    }

    fn recorded(&self, path: &EntryPath) -> Doubt {
        let unknown = Doubt { excluded: false, unknown: true };
        self.record.as_ref().map_or(unknown, |record| record.doubt(path))
    }

    /// Returns `true` if the patterns of the backup choose `path`.
    fn is_chosen(&self, path: &EntryPath) -> bool {
        let Some(root) = self.roots.iter().find(|root| path.starts_with(root)) else {
            return false;
        };
        let (mut at, mut cover) = (root.clone(), self.filter.root(root));
        for name in path.segments().skip(root.segments().count()) {
            at = at.join(name);
            cover = self.filter.child(cover, &at);
        }
        cover == Cover::Yes
    }
}

/// The patterns of a snapshot without a record, as far as they can be understood.
fn patterns_of(snapshot: &SnapshotReader, runtime: &Handle) -> SkipRules {
    let (include, exclude) = match runtime.block_on(snapshot.manifest()) {
        Ok(Some(manifest)) => (manifest.include, manifest.exclude),
        Ok(None) | Err(_) => (Vec::new(), snapshot.snapshot().excludes.clone()),
    };
    SkipRules { include, exclude, ..SkipRules::default() }
}

//! Where things lie in a snapshot, below `/postgres/<system id>`; names of segments of the log.
//!
//! ```text
//! base/                         the data directory, with the log that makes it consistent in pg_wal/
//! tablespaces/<oid>/            what lay outside of it
//! incremental/<number>/         base/ and tablespaces/ of each backup since: of relations the pages that changed
//! wal/<timeline>/<log>/<name>   captured log; wal/<timeline>/history/<name>.history
//! config/                       configuration that lies outside of the data directory
//! cluster.json                  what a restore has to know
//! damage.txt                    only if the server found damaged pages
//! ```

use backup_core::source::EntryPath;

use super::lsn::Lsn;

/// The directory of all PostgreSQL data in a snapshot.
pub(super) const TOP: &str = "postgres";

/// Paths of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    cluster: EntryPath,
}

impl Layout {
    pub(super) fn of(system_id: u64) -> Self {
        Self {
            cluster: EntryPath::root().join(TOP.as_bytes()).join(system_id.to_string().as_bytes()),
        }
    }

    pub(super) fn cluster(&self) -> EntryPath {
        self.cluster.clone()
    }

    pub(super) fn base(&self) -> EntryPath {
        self.cluster.join(b"base")
    }

    /// What the backup with this number holds that builds on the ones before it: its data directory
    /// and tablespaces.
    pub(super) fn incremental(&self, number: usize) -> Self {
        Self { cluster: self.cluster.join(b"incremental").join(format!("{number:04}").as_bytes()) }
    }

    /// The full backup and each that builds on it, oldest first, if there are so many of those.
    pub(super) fn layers(&self, increments: usize) -> impl Iterator<Item = Self> {
        std::iter::once(self.clone()).chain((1..=increments).map(|number| self.incremental(number)))
    }

    /// The last of them.
    pub(super) fn newest(&self, increments: usize) -> Self {
        if increments == 0 { self.clone() } else { self.incremental(increments) }
    }

    pub(super) fn tablespaces(&self) -> EntryPath {
        self.cluster.join(b"tablespaces")
    }

    /// What the server lists of a backup.
    pub(super) fn manifest(&self) -> EntryPath {
        self.base().join(b"backup_manifest")
    }

    pub(super) fn tablespace(&self, oid: u32) -> EntryPath {
        self.tablespaces().join(oid.to_string().as_bytes())
    }

    pub(super) fn config(&self) -> EntryPath {
        self.cluster.join(b"config")
    }

    pub(super) fn description(&self) -> EntryPath {
        self.cluster.join(b"cluster.json")
    }

    pub(super) fn damage(&self) -> EntryPath {
        self.cluster.join(b"damage.txt")
    }

    /// A segment of the captured log. `cp …/wal/*/*/%f %p` finds it.
    pub(super) fn segment(&self, segments: Segments, timeline: u32, number: u64) -> EntryPath {
        let name = segments.name(timeline, number);
        self.timeline(timeline).join(&name.as_bytes()[8..16]).join(name.as_bytes())
    }

    pub(super) fn history(&self, timeline: u32, name: &str) -> EntryPath {
        self.timeline(timeline).join(b"history").join(name.as_bytes())
    }

    fn timeline(&self, timeline: u32) -> EntryPath {
        self.cluster.join(b"wal").join(format!("{timeline:08X}").as_bytes())
    }
}

/// How the log is cut into segments: their size in bytes, a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segments(u64);

impl Segments {
    /// `None` if no cluster has this size.
    pub(super) fn of_size(size: u64) -> Option<Self> {
        (size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size)).then_some(Self(size))
    }

    pub(super) fn size(self) -> u64 {
        self.0
    }

    /// The number of the segment that holds a place.
    pub(super) fn number(self, at: Lsn) -> u64 {
        at.0 / self.0
    }

    /// Where a segment begins.
    pub(super) fn start(self, number: u64) -> Lsn {
        Lsn(number * self.0)
    }

    /// The beginning of the segment that holds a place.
    pub(super) fn floor(self, at: Lsn) -> Lsn {
        Lsn(at.0 - at.0 % self.0)
    }

    /// The file's name: timeline, the upper half of the place, the number within 4 GiB.
    pub(super) fn name(self, timeline: u32, number: u64) -> String {
        let per_log = (1 << 32) / self.0;
        format!("{timeline:08X}{:08X}{:08X}", number / per_log, number % per_log)
    }

    /// The opposite of [`Self::name`].
    pub(super) fn parse(self, name: &str) -> Option<(u32, u64)> {
        if name.len() != 24 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(&name[at..at + 8], 16).ok();
        let (per_log, within) = ((1 << 32) / self.0, u64::from(part(16)?));
        (within < per_log).then_some((part(0)?, u64::from(part(8)?) * per_log + within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_as_postgresql_does() {
        let segments = Segments::of_size(16 << 20).unwrap();
        let at: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(segments.name(1, segments.number(at)), "0000000100000016000000B3");
        assert_eq!(segments.parse("0000000100000016000000B3"), Some((1, segments.number(at))));
        assert_eq!(segments.parse("000000010000001600000100"), None);
        let small = Segments::of_size(1 << 20).unwrap();
        assert_eq!(small.name(0xA, small.number(at)), "0000000A0000001600000B37");
        assert_eq!(small.parse("0000000A0000001600000B37"), Some((10, small.number(at))));
        assert!(Segments::of_size(3 << 20).is_none() && Segments::of_size(1 << 31).is_none());
        let path = Layout::of(7).segment(segments, 1, segments.number(at)).display().into_owned();
        assert_eq!(path, "/postgres/7/wal/00000001/00000016/0000000100000016000000B3");
    }
}

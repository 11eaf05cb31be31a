//! Which pages changed, as the log tells it: what 17 and later call summaries, of any version.
//!
//! Only main forks are told apart by pages. Maps of free space and visibility change without the
//! log saying so, and are small: they are always read in full.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::delta::{BLOCK, Delta, MOST};
use super::wal::{Change, MAIN, RelationFile};

/// Pages that share a word.
const WORD: u32 = u64::BITS;
/// OIDs of the tablespaces that every cluster has (`pg_tablespace.dat`).
const DEFAULT: u32 = 1663;
const GLOBAL: u32 = 1664;

/// What changed between two places of the log.
#[derive(Debug, Default)]
pub(super) struct Changed {
    relations: HashMap<RelationFile, Pages>,
    /// Databases that were made, copied or dropped as a whole.
    databases: HashSet<u32>,
}

/// Pages of a relation.
#[derive(Debug, Default)]
struct Pages {
    /// The fewest that it had meanwhile, if it was made or cut off: pages from there on are others
    /// than before.
    fewest: Option<u32>,
    /// 64 pages in each word, by the number of the word.
    words: BTreeMap<u32, u64>,
}

/// A file of a relation's main fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MainFile {
    pub(super) relation: RelationFile,
    /// Which of its files of 1 GiB.
    pub(super) segment: u32,
}

impl MainFile {
    /// That of a path in the data directory, if it is one.
    pub(super) fn of(path: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(path).ok()?.split('/');
        let (tablespace, database) = match parts.next()? {
            "global" => (GLOBAL, 0),
            "base" => (DEFAULT, number(parts.next()?)?),
            "pg_tblspc" => {
                let tablespace = number(parts.next()?)?;
                parts.next().filter(|version| version.starts_with("PG_"))?;
                (tablespace, number(parts.next()?)?)
            }
            _ => return None,
        };
        let name = parts.next().filter(|_| parts.next().is_none())?;
        let (name, segment) = name.split_once('.').unwrap_or((name, "0"));
        let relation = RelationFile { tablespace, database, number: number(name)? };
        Some(Self { relation, segment: number(segment)? })
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Changed {
    /// Notes a change; [`Change::Untold`] is not for it.
    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Block(relation, MAIN, block) => {
                let word = self
                    .relations
                    .entry(relation)
                    .or_default()
                    .words
                    .entry(block / WORD)
                    .or_default();
                *word |= 1 << (block % WORD);
            }
            Change::CutOff(relation, len) => {
                let pages = self.relations.entry(relation).or_default();
                pages.fewest = Some(pages.fewest.map_or(len, |fewest| fewest.min(len)));
            }
            Change::Database(oid) => _ = self.databases.insert(oid),
            Change::Block(..) | Change::Untold => {}
        }
    }

    /// What is to be read of a file of `size` bytes that an earlier backup has already; `None` if
    /// that is all, or nearly.
    pub(super) fn delta(&self, file: MainFile, size: u64) -> Option<Delta> {
        let blocks = u32::try_from(size / BLOCK)
            .ok()
            .filter(|blocks| *blocks <= MOST && size.is_multiple_of(BLOCK))?;
        if self.databases.contains(&file.relation.database) {
            return None;
        }
        let Some(pages) = self.relations.get(&file.relation) else {
            return Some(Delta::new(Vec::new(), blocks));
        };
        let first = file.segment.checked_mul(MOST)?;
        let fewest = pages.fewest.map_or(blocks, |fewest| fewest.saturating_sub(first).min(blocks));
        let mut numbers: Vec<u32> = pages.within(first, fewest).collect();
        numbers.extend(fewest..blocks);
        let is_much = u64::from(blocks) * 9 < numbers.len() as u64 * 10;
        (!is_much).then(|| Delta::new(numbers, fewest))
    }
}

impl Pages {
    /// Those of `len` pages from `first` on that changed, counted from there.
    fn within(&self, first: u32, len: u32) -> impl Iterator<Item = u32> {
        // Files begin where words do.
        let words = self.words.range(first / WORD..first.saturating_add(len).div_ceil(WORD));
        let pages = words.flat_map(|(at, word)| {
            (0..WORD).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at * WORD + bit)
        });
        pages.map(move |page| page - first).take_while(move |page| *page < len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: RelationFile = RelationFile { tablespace: DEFAULT, database: 5, number: 16384 };

    fn delta(changed: &Changed, segment: u32, blocks: u64) -> Option<(Vec<u32>, u32)> {
        let delta = changed.delta(MainFile { relation: TABLE, segment }, blocks * BLOCK)?;
        Some((delta.numbers().to_vec(), delta.truncation()))
    }

    #[test]
    fn paths_of_main_forks() {
        let of = |path: &str| {
            let MainFile { relation, segment } = MainFile::of(path.as_bytes())?;
            Some((relation.tablespace, relation.database, relation.number, segment))
        };
        assert_eq!(of("base/5/16384"), Some((1663, 5, 16384, 0)));
        assert_eq!(of("global/1262.2"), Some((1664, 0, 1262, 2)));
        assert_eq!(of("pg_tblspc/7/PG_13_202007201/5/9"), Some((7, 5, 9, 0)));
        for other in [
            "base/5/16384_vm",
            "base/5/16384_fsm.1",
            "base/5/PG_VERSION",
            "global/pg_control",
            "base/5/t3_16384",
            "base/5/1/2",
            "pg_wal/000000010000000000000001",
            "pg_tblspc/7/5/9",
            "base/5",
            "base/5/",
            "base/5/1.",
            "base/5/+1",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn pages_of_each_file() {
        let mut changed = Changed::default();
        for block in [0, 63, 64, 99, 100, 7000, MOST - 1, MOST, MOST + 64, u32::MAX] {
            changed.note(Change::Block(TABLE, MAIN, block));
        }
        changed.note(Change::Block(TABLE, 2, 5));
        assert_eq!(delta(&changed, 0, 100), Some((vec![0, 63, 64, 99], 100)));
        assert_eq!(delta(&changed, 0, 99), Some((vec![0, 63, 64], 99)));
        assert_eq!(
            delta(&changed, 0, u64::from(MOST)).unwrap().0,
            [0, 63, 64, 99, 100, 7000, MOST - 1]
        );
        assert_eq!(delta(&changed, 1, 70), Some((vec![0, 64], 70)));
        assert_eq!(delta(&changed, 2, 70), Some((vec![], 70)));
        assert_eq!(delta(&changed, 0, 0), Some((vec![], 0)));
        assert_eq!(delta(&changed, 0, 1), None, "everything changed");
        assert_eq!(
            changed.delta(MainFile { relation: TABLE, segment: 0 }, 100 * BLOCK + 1),
            None,
            "half a page"
        );
        assert_eq!(delta(&changed, u32::MAX, 10), None);
    }

    #[test]
    fn what_was_cut_off_comes_anew() {
        let mut changed = Changed::default();
        changed.note(Change::CutOff(TABLE, MOST + 50));
        changed.note(Change::Block(TABLE, MAIN, MOST + 3));
        changed.note(Change::CutOff(TABLE, MOST + 60));
        assert_eq!(delta(&changed, 0, 100), Some((vec![], 100)));
        assert_eq!(delta(&changed, 1, 54), Some((vec![3, 50, 51, 52, 53], 50)));
        assert_eq!(delta(&changed, 1, 40), Some((vec![3], 40)));
        assert_eq!(delta(&changed, 2, 4), None);
        changed.note(Change::CutOff(TABLE, 0));
        assert_eq!(delta(&changed, 0, 100), None);
        let other = RelationFile { number: 1, ..TABLE };
        assert!(changed.delta(MainFile { relation: other, segment: 0 }, 8 * BLOCK).is_some());
        changed.note(Change::Database(5));
        assert!(changed.delta(MainFile { relation: other, segment: 0 }, 8 * BLOCK).is_none());
    }
}

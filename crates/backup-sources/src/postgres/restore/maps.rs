//! Visibility maps, brought in line with what was put together.
//!
//! A map says of each page of a table whether everybody sees all of it. Servers of 17 and 18 up to
//! 17.10 and 18.4 overlooked in their summaries that a change of a table also changes its map: put
//! together, a map may say of pages that changed what was true before, and index-only scans count
//! rows that were deleted. Whichever server it was: wherever a page of the table is newer than the
//! page of the map, the map is told that nothing is known of it, which costs a look at the table
//! until the next VACUUM. What a map says of pages behind the table's end goes, too.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use backup_core::format::Node;
use backup_core::source::SourceResult;

use super::super::delta::{BLOCK, Combined, Delta};
use super::super::page;
use super::target::failed;

/// Bytes before the bits of a page.
const HEADER: u64 = 24;
/// Pages of a table that a page of its map knows: two bits of each.
const KNOWN: u64 = (BLOCK - HEADER) * 4;
/// Pages of a table that are in one file.
const SEGMENT: u64 = (1 << 30) / BLOCK;
/// Pages that share a word.
const WORD: u64 = u64::BITS as u64;
/// What a map's name ends with.
const MAP: &[u8] = b"_vm";

/// What is to be done.
#[derive(Debug, Default)]
pub(in super::super) struct Maps {
    maps: Vec<Map>,
    /// Of the directory that is gone through: its maps by the name of their table,
    here: HashMap<Vec<u8>, usize>,
    /// and tables' files that the newest layer has in full: name, number of the file, pages.
    full: Vec<(Vec<u8>, u64, u64)>,
    newest: u8,
}

#[derive(Debug)]
pub(in super::super) struct Map {
    path: PathBuf,
    /// Which layer each of its pages is from.
    owners: Vec<Option<u8>>,
    /// Pages of the table that nothing is known of: a bit of each, up to the last of them. As many
    /// pages as a large table has may have changed, each by itself.
    stale: Vec<u64>,
    /// Length of the table, pages.
    len: u64,
}

impl Map {
    /// Pages of the table from `first` on, and their layers.
    fn table(&mut self, first: u64, owners: impl Iterator<Item = Option<u8>>) {
        for (at, owner) in (first..).zip(owners) {
            self.len = self.len.max(at + 1);
            let page = usize::try_from(at / KNOWN).unwrap_or(usize::MAX);
            // Pages of the map that are empty say nothing.
            let Some(Some(of_map)) = self.owners.get(page) else { continue };
            if owner.is_some_and(|owner| owner <= *of_map) {
                continue;
            }
            let word = usize::try_from(at / WORD).unwrap_or(usize::MAX);
            if word >= self.stale.len() {
                self.stale.resize(word + 1, 0);
            }
            self.stale[word] |= 1 << (at % WORD);
        }
    }

    /// Bytes that it has at most: it says nothing of pages that are not there.
    pub(in super::super) fn longest(&self) -> u64 {
        self.len.div_ceil(KNOWN) * BLOCK
    }

    /// Clears what page `number` of the map says of pages of the table of which nothing is known,
    /// or which are not there; whether there was anything.
    pub(in super::super) fn mend_page(&self, number: u64, page: &mut [u8; BLOCK as usize]) -> bool {
        let first = number * KNOWN;
        let before = *page;
        for at in (0..KNOWN).filter(|at| first + at >= self.len || self.is_stale(first + at)) {
            let byte = usize::try_from(HEADER + at / 4).unwrap_or(usize::MAX);
            page[byte] &= !(3 << (at % 4 * 2));
        }
        if *page == before {
            return false;
        }
        page::seal(page, u32::try_from(number).unwrap_or(u32::MAX));
        true
    }

    fn is_stale(&self, at: u64) -> bool {
        let word = usize::try_from(at / WORD).ok().and_then(|word| self.stale.get(word));
        word.is_some_and(|word| word >> (at % WORD) & 1 != 0)
    }
}

/// The table that a file is of, and which of its files that is.
fn table(name: &[u8]) -> Option<(Vec<u8>, u64)> {
    let text = std::str::from_utf8(name).ok()?;
    let (table, segment) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = !table.is_empty() && table.bytes().all(|byte| byte.is_ascii_digit());
    Some((table.as_bytes().to_vec(), segment.parse().ok()?)).filter(|_| is_number)
}

impl Maps {
    /// Another directory, whose files in the newest layer are `nodes`.
    pub(in super::super) fn enter<'n>(
        &mut self,
        dir: &Path,
        newest: usize,
        nodes: impl Iterator<Item = &'n Node>,
    ) {
        use std::os::unix::ffi::OsStrExt as _;
        self.leave();
        self.newest = u8::try_from(newest).unwrap_or(u8::MAX);
        for node in nodes {
            // A map that is there in full is right.
            if let Some(name) =
                node.name.strip_prefix(Delta::PREFIX).filter(|name| name.ends_with(MAP))
            {
                let path = dir.join(std::ffi::OsStr::from_bytes(name));
                self.here.insert(name[..name.len() - MAP.len()].to_vec(), self.maps.len());
                self.maps.push(Map { path, owners: Vec::new(), stale: Vec::new(), len: 0 });
            } else if let Some((name, number)) = table(&node.name) {
                self.full.push((name, number, node.metadata.size / BLOCK));
            }
        }
    }

    /// A file of the directory that was put together; maps come before tables.
    pub(in super::super) fn put_together(&mut self, name: &[u8], combined: &Combined) {
        if let Some(table) = name.strip_suffix(MAP) {
            if let Some(map) = self.here.get(table).and_then(|at| self.maps.get_mut(*at)) {
                map.owners = combined.owners().collect();
            }
        } else if let Some((name, number)) = table(name)
            && let Some(map) = self.here.get(&name).and_then(|at| self.maps.get_mut(*at))
        {
            map.table(number * SEGMENT, combined.owners());
        }
    }

    /// The directory is complete.
    pub(in super::super) fn leave(&mut self) {
        for (name, number, pages) in std::mem::take(&mut self.full) {
            if let Some(map) = self.here.get(&name).and_then(|at| self.maps.get_mut(*at)) {
                let pages = usize::try_from(pages).unwrap_or(usize::MAX);
                map.table(number * SEGMENT, std::iter::repeat_n(Some(self.newest), pages));
            }
        }
        for at in std::mem::take(&mut self.here).into_values() {
            if let Some(map) = self.maps.get_mut(at) {
                map.owners = Vec::new();
            }
        }
    }

    /// What is to be done to the map at `path`, if anything has to be.
    pub(in super::super) fn of(&self, path: &Path) -> Option<&Map> {
        self.maps.iter().find(|map| map.path == path)
    }

    /// Does it.
    pub(super) fn mend(mut self) -> SourceResult<()> {
        self.leave();
        self.maps.iter().try_for_each(|map| mend(map).map_err(|error| failed(&map.path, error)))
    }
}

fn mend(map: &Map) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(&map.path)?;
    let len = map.longest();
    if file.metadata()?.len() > len {
        file.set_len(len)?;
    }
    let pages = file.metadata()?.len() / BLOCK;
    (0..pages).try_for_each(|page| forget(&file, page, map))
}

/// Clears the bits of pages of the table of which nothing is known, or which are not there, in a
/// page of the map.
fn forget(file: &File, number: u64, map: &Map) -> std::io::Result<()> {
    let first = number * KNOWN;
    // Most pages need not be read.
    if first + KNOWN <= map.len && !(first..first + KNOWN).any(|at| map.is_stale(at)) {
        return Ok(());
    }
    let mut page = [0; BLOCK as usize];
    file.read_exact_at(&mut page, number * BLOCK)?;
    if map.mend_page(number, &mut page) { file.write_all_at(&page, number * BLOCK) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(dir: &Path, pages: u64) -> PathBuf {
        let path = dir.join("5_vm");
        std::fs::write(&path, vec![0xff; usize::try_from(pages * BLOCK).unwrap()]).unwrap();
        path
    }

    /// What the map says of a page of the table.
    fn bits(path: &Path, at: u64) -> u8 {
        let bytes = std::fs::read(path).unwrap();
        let byte = usize::try_from(at / KNOWN * BLOCK + HEADER + at % KNOWN / 4).unwrap();
        bytes[byte] >> (at % 4 * 2) & 3
    }

    #[test]
    fn nothing_is_known_of_pages_that_are_newer() {
        let dir = tempfile::tempdir().unwrap();
        let path = map(dir.path(), 3);
        let mut one = Map {
            path: path.clone(),
            owners: vec![Some(0), Some(2), None],
            stale: Vec::new(),
            len: 0,
        };
        let layer = |at: u64| if at % 10 == 3 { Some(2) } else { Some(0) };
        one.table(0, (0..2 * KNOWN - 7).map(layer));
        mend(&one).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * BLOCK, "no longer than the table");
        for at in [0, 1, 2, 4, 5, KNOWN - 1, KNOWN, KNOWN + 3, 2 * KNOWN - 8] {
            let is_known = at % 10 != 3 || at >= KNOWN;
            assert_eq!(bits(&path, at), if is_known { 3 } else { 0 }, "{at}");
        }
        assert!(bits(&path, 3) == 0 && bits(&path, 13) == 0 && bits(&path, KNOWN + 1) == 3);
        assert!(
            (2 * KNOWN - 7..2 * KNOWN).all(|at| bits(&path, at) == 0),
            "behind the table's end"
        );
    }

    #[test]
    fn files_of_tables() {
        assert_eq!(table(b"16384"), Some((b"16384".to_vec(), 0)));
        assert_eq!(table(b"16384.2"), Some((b"16384".to_vec(), 2)));
        for name in ["16384_vm", "16384_init", "pg_filenode.map", "PG_VERSION", "t3_16384", ""] {
            assert_eq!(table(name.as_bytes()), None, "{name}");
        }
    }
}

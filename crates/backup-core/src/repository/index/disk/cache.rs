//! Bringing the files up to date with the repository.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::DiskIndex;
use super::build::{Collector, Part, merge};
use super::segment::Segment;
use crate::clock::{Clock, SystemClock};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress, Stage};
use crate::format::BlobKind;
use crate::id::IndexId;
use crate::repository::Repository;
use crate::repository::cpu::panicked;
use crate::repository::index::load::{LoadedIndex, ROUNDS, names, read_all};
use crate::repository::reach::Bits;

/// How a file of the cache is called.
const EXTENSION: &str = "index";
/// The file that marks a directory as a cache, as <https://bford.info/cachedir/> specifies it.
const MARKER: &str = "CACHEDIR.TAG";
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                         # Index of a backup repository. It is rebuilt when it is missing.\n";
/// More files than this become fewer.
pub(super) const MANY: usize = 16;
/// What is older and has no name yet was left behind by a process that was killed.
const LEFT_BEHIND: SignedDuration = SignedDuration::from_hours(24);

/// Why a cache cannot be used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The repository fails, with or without it.
    Repository(Error),
    /// The directory cannot be read or written.
    Cache(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Repository(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error)
    }
}

/// Opens the index of a repository through its cache in `dir`, reading only the index objects that
/// the cache does not know.
pub(crate) async fn open(
    repository: &Repository,
    dir: &Path,
    cx: &Context,
) -> Result<LoadedIndex, Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    blocking(dir, claim).await?;
    cx.events.emit(&Event::StageStarted { stage: Stage::LoadIndex });
    let mut progress = Progress::default();
    let mut damaged = Vec::new();
    let mut listed: HashSet<IndexId> = HashSet::new();
    let mut read = HashSet::new();
    let mut assembled = None;
    for round in 1.. {
        listed = names(repository).await?.into_iter().collect();
        progress.total_items = listed.len() as u64;
        let known = blocking(dir, known_objects).await?;
        let new: Vec<IndexId> = listed.difference(&known).copied().collect();
        progress.done_items = (listed.len() - new.len()) as u64;
        let mut vanished = false;
        let mut collector = Collector::default();
        let mut files = read_all(repository, new, cx);
        while let Some((id, size, file)) = files.try_next().await? {
            match file {
                Ok(file) => {
                    collector.add(id, &file);
                    read.insert(id);
                }
                // Its successors were stored before it went.
                Err(error) if error.kind() == ErrorKind::NotFound && round < ROUNDS => {
                    vanished = true;
                }
                Err(error) => damaged.push((id, error)),
            }
            if collector.is_full() {
                collector = write(dir, collector).await?;
            }
            progress.done_items += 1;
            progress.done_bytes += size;
            cx.events.emit(&Event::Progress { stage: Stage::LoadIndex, progress });
        }
        if !collector.is_empty() {
            write(dir, collector).await?;
        }
        let wanted = listed.clone();
        let (index, known) = blocking(dir, move |dir| assemble(dir, &wanted)).await?;
        // Another process may have removed files in between that it had made others of.
        let is_whole =
            listed.iter().all(|id| known.contains(id) || damaged.iter().any(|(bad, _)| bad == id));
        if is_whole && !vanished {
            assembled = Some(index);
            break;
        }
        if round == ROUNDS {
            return Err(std::io::Error::other("other processes keep changing its files").into());
        }
        damaged.clear();
    }
    let Some(index) = assembled else {
        return Err(std::io::Error::other("it was not built").into());
    };
    let objects = listed;
    cx.events.emit(&Event::StageFinished { stage: Stage::LoadIndex, progress });
    damaged.sort_by_key(|(id, _)| *id);
    Ok(LoadedIndex { index: Box::new(index), damaged, objects, read })
}

async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let dir = dir.to_owned();
    Ok(tokio::task::spawn_blocking(move || work(&dir)).await.map_err(panicked)??)
}

async fn write(dir: &Path, mut collector: Collector) -> Result<Collector, Failure> {
    blocking(dir, move |dir| collector.write(&new_path(dir)).map(|()| collector)).await
}

pub(super) fn new_path(dir: &Path) -> PathBuf {
    dir.join(hex::encode(rand::random::<[u8; 16]>())).with_extension(EXTENSION)
}

/// Makes sure that the directory carries the marker of a cache. A directory without it that holds
/// anything but files of a cache, which earlier versions did not mark, is not used: files are
/// removed in a marked directory only.
fn claim(dir: &Path) -> std::io::Result<()> {
    let marker = dir.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !is_own(&path) && !path.ends_with(MARKER) {
            let message = format!("{} is no file of a cache", path.display());
            return Err(std::io::Error::other(message));
        }
    }
    fs::write(marker, SIGNATURE)
}

/// True for a file that [`new_path`] names, and for its temporary companions. Others are never
/// removed, whatever the directory is.
fn is_own(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The files that can be used, the largest first. What was left behind is removed.
fn segments(dir: &Path) -> std::io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    let now = SystemClock.now();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if !is_own(&path) {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            match Segment::open(&path) {
                Some(segment) => found.push(segment),
                // Of another version, or damaged; or another process has removed it just now.
                None => _ = fs::remove_file(&path),
            }
        } else if is_old(&entry, now) {
            _ = fs::remove_file(&path);
        }
    }
    found.sort_by_key(|segment| std::cmp::Reverse(size(segment)));
    Ok(found)
}

fn size(segment: &Segment) -> u64 {
    segment.count(BlobKind::Data) + segment.count(BlobKind::Tree)
}

fn is_old(entry: &fs::DirEntry, now: Timestamp) -> bool {
    let modified =
        entry.metadata().and_then(|metadata| metadata.modified()).map(Timestamp::try_from);
    modified.is_ok_and(|time| time.is_ok_and(|time| time.duration_until(now) > LEFT_BEHIND))
}

fn known_objects(dir: &Path) -> std::io::Result<HashSet<IndexId>> {
    Ok(segments(dir)?.iter().flat_map(Segment::objects).collect())
}

/// One index of all files that hold something of these objects, and which of them those are; makes
/// few files of many.
pub(super) fn assemble(
    dir: &Path,
    listed: &HashSet<IndexId>,
) -> std::io::Result<(DiskIndex, HashSet<IndexId>)> {
    let mut chosen = choose(segments(dir)?, listed);
    let few = to_merge(&chosen);
    if few > 0 {
        let path = new_path(dir);
        let rest = chosen.len() - few;
        let parts: Vec<Part<'_>> = chosen[rest..].iter().map(Chosen::part).collect();
        merge(&parts, &path)?;
        let merged = if chosen.iter().all(|one| one.segment.is_intact()) {
            Segment::open(&path)
        } else {
            None
        };
        let mut segments = Vec::new();
        if merged.is_some() {
            for old in chosen.drain(rest..) {
                _ = fs::remove_file(old.segment.path());
            }
        } else {
            // What is missing from damaged files would be missing from one that looks sound.
            _ = fs::remove_file(&path);
            chosen.retain(|one| one.segment.is_intact());
        }
        segments.extend(chosen.into_iter().map(|one| one.segment));
        segments.extend(merged);
        chosen = choose(segments, listed);
    }
    let mut index = DiskIndex::default();
    let mut known = HashSet::new();
    for Chosen { segment, dead, counts, .. } in chosen {
        known.extend(
            segment
                .objects()
                .into_iter()
                .zip(&counts)
                .filter(|(_, counts)| **counts)
                .map(|(id, _)| id),
        );
        index.push(segment, dead, counts);
    }
    Ok((index, known))
}

/// A file and what counts of it.
struct Chosen {
    segment: Segment,
    /// Packs that do not count.
    dead: Bits,
    /// How many those are.
    dead_packs: u32,
    /// Whether an object counts.
    counts: Vec<bool>,
}

impl Chosen {
    fn part(&self) -> Part<'_> {
        Part { segment: &self.segment, dead: &self.dead, counts: &self.counts }
    }
}

/// Every index object counts in the first file that holds it. Files that hold nothing are removed.
fn choose(segments: Vec<Segment>, listed: &HashSet<IndexId>) -> Vec<Chosen> {
    let mut taken: HashSet<IndexId> = HashSet::new();
    let mut chosen = Vec::new();
    for segment in segments {
        let counts: Vec<bool> = segment
            .objects()
            .into_iter()
            .map(|id| listed.contains(&id) && taken.insert(id))
            .collect();
        if !counts.contains(&true) {
            _ = fs::remove_file(segment.path());
            continue;
        }
        let mut dead = Bits::below(u64::from(segment.packs()));
        let mut count = 0;
        if counts.contains(&false) {
            for number in 0..segment.packs() {
                let lives = segment
                    .pack(number)
                    .is_some_and(|pack| counts.get(pack.object as usize) == Some(&true));
                if !lives {
                    dead.insert(u64::from(number));
                    count += 1;
                }
            }
        }
        chosen.push(Chosen { segment, dead, dead_packs: count, counts });
    }
    chosen
}

/// How many of the last (smallest) files are to become one: all but those that are much larger than
/// what follows, so that a record is copied a few times only, however many backups there are. All
/// of them, where much is dead.
fn to_merge(chosen: &[Chosen]) -> usize {
    let packs: u64 = chosen.iter().map(|one| u64::from(one.segment.packs())).sum();
    let dead: u64 = chosen.iter().map(|one| u64::from(one.dead_packs)).sum();
    if dead * 3 > packs {
        return chosen.len();
    }
    if chosen.len() <= MANY {
        return 0;
    }
    let mut sum = 0;
    let mut count = 0;
    for one in chosen.iter().rev() {
        if count > 1 && size(&one.segment) > 4 * sum {
            break;
        }
        sum += size(&one.segment);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_a_marked_directory_is_cleaned() {
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("letter.txt"), "dear").unwrap();
        let old = new_path(foreign.path());
        fs::write(&old, "no index").unwrap();
        assert!(claim(foreign.path()).is_err());
        assert_eq!(names(foreign.path()).len(), 2, "no marker, and nothing is removed");

        let own = tempfile::tempdir().unwrap();
        let old = new_path(own.path());
        fs::write(&old, "no index").unwrap();
        claim(own.path()).unwrap();
        fs::write(own.path().join("letter.txt"), "dear").unwrap();
        claim(own.path()).unwrap();
        assert!(segments(own.path()).unwrap().is_empty());
        assert_eq!(names(own.path()), ["CACHEDIR.TAG", "letter.txt"]);
    }
}

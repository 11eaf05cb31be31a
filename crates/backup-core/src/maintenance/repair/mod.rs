//! Mending what can be mended, and naming what cannot.
//!
//! ```text
//!  index entries beside the headers of packs ─▶ list packs that no index lists ─▶ (read all data)
//!    ─▶ move what is sound out of damaged packs ─▶ snapshots, then blobs, from other copies
//!    ─▶ give damaged packs up, renew the index ─▶ snapshots without what is lost for good
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`repair`]: the order of things |
//! | `report.rs` | [`RepairOptions`], [`RepairReport`] |
//! | `objects.rs` | the copy of the config, key files, and the inventory |
//! | `index.rs` | packs that no index lists, or that index objects list with false contents |
//! | `packs.rs` | what is sound in damaged packs |
//! | `blobs.rs` | what is missing, and where else it is |
//! | `snapshots.rs` | snapshot objects: from another copy, or put aside |
//! | `mend.rs` | snapshots without what is lost for good |
//! | `losses.rs` | the entries that a mended snapshot lacks |
//! | `quarantine.rs` | objects that are replaced |
//!
//! No data is thrown away: objects that are replaced go to `x-quarantine/`, damaged packs are marked;
//! both stay for the grace period of a prune.

mod blobs;
mod index;
mod losses;
mod mend;
mod objects;
mod packs;
pub(super) mod quarantine;
mod report;
mod snapshots;

use std::collections::{BTreeSet, HashMap, HashSet};

pub use packs::find_packs;
pub use report::{Repair, RepairOptions, RepairReport};
pub use snapshots::accept_loss;

use blobs::{Missing, Needs};

use super::prune::{Changes, rewrite};
use super::prune_lease;
use crate::check;
use crate::context::Context;
use crate::error::Result;
use crate::format::{BlobKind, IndexBlob};
use crate::id::{BlobId, PackId};
use crate::repository::headers::confirmed_header;
use crate::repository::session::Session;
use crate::repository::{BlobWriter, IndexedRepository, Repository};

/// Mends a repository from what is in it and, where that is not enough, from copies of it.
///
/// # Errors
/// [`ErrorKind::Busy`](crate::error::ErrorKind::Busy) while a prune is at work; those of the sinks;
/// cancellation. It can be repeated at any point. What is lost for good is no error but part of the
/// report.
pub async fn repair(
    repository: &Repository,
    options: &RepairOptions,
    cx: &Context,
) -> Result<RepairReport> {
    // What is stored counts, not what was read of it once.
    let repository = &repository.without_cache();
    if options.dry_run {
        return run(repository, options, cx).await;
    }
    repository.prepare_writing(cx).await?;
    let lease = prune_lease(repository, &options.holder, cx).await?;
    let result = match Session::begin(repository, "repair", cx).await {
        Ok(session) => {
            let result = lease.guard(run(repository, options, cx)).await;
            session.end().await;
            result
        }
        Err(error) => Err(error),
    };
    lease.release_after(result).await
}

async fn run(
    repository: &Repository,
    options: &RepairOptions,
    cx: &Context,
) -> Result<RepairReport> {
    let report = RepairReport { dry_run: options.dry_run, ..RepairReport::default() };
    let indexed = repository.load_index(cx).await?;
    let copies = open_copies(&options.from, cx).await?;
    let (contents, listed) = (HashMap::new(), HashMap::new());
    let mut run =
        Run { indexed, copies, options, cx, report, bad: Bad::default(), contents, listed };
    objects::config_copy(&mut run).await?;
    objects::keys(&mut run).await?;
    objects::inventory(&mut run).await?;
    let snapshots = snapshots::recover(&mut run).await?;
    let roots: Vec<BlobId> = snapshots.iter().map(|info| info.snapshot.tree).collect();
    run.find_damage(&roots).await?;
    let needs = run.fill(&roots).await?;
    run.give_up().await?;
    mend::mend(&mut run, &snapshots, &needs).await?;
    run.report.repaired.sort();
    Ok(run.report)
}

/// What is known to be damaged.
#[derive(Debug, Default)]
struct Bad {
    /// Packs that are gone.
    missing: HashSet<PackId>,
    /// Packs that were marked for deletion and are gone.
    deleted: HashSet<PackId>,
    /// Packs that hold something unreadable.
    damaged: HashSet<PackId>,
    /// Blobs that could be read of them, and were stored again.
    saved: Missing,
}

struct Run<'a> {
    indexed: IndexedRepository,
    copies: Vec<IndexedRepository>,
    options: &'a RepairOptions,
    cx: &'a Context,
    report: RepairReport,
    bad: Bad,
    /// Contents of intact packs that the index lists with other ones.
    contents: HashMap<PackId, Vec<IndexBlob>>,
    /// Packs that a dry run would list again.
    listed: HashMap<PackId, Vec<IndexBlob>>,
}

impl Run<'_> {
    fn repository(&self) -> &Repository {
        self.indexed.repository()
    }

    fn repaired(&mut self, object: impl Into<String>, what: impl Into<String>) {
        self.report.repaired.push(Repair { object: object.into(), what: what.into() });
    }

    /// Finds nothing in packs that are gone or damaged.
    fn hide(&self) {
        let lost = self.bad.missing.iter().chain(&self.bad.damaged).chain(&self.bad.deleted);
        let lost: Vec<PackId> = lost.copied().collect();
        self.indexed.index().hide_packs(&lost);
    }

    /// Finds lost and damaged packs and false index entries; lists again what no index lists, if
    /// anything is missing.
    async fn find_damage(&mut self, roots: &[BlobId]) -> Result<()> {
        let store = self.indexed.compare_packs().await?;
        self.bad.missing.extend(&store.missing);
        self.bad.deleted.extend(&store.deleted);
        self.bad.damaged.extend(store.wrong_size.keys());
        self.bad.damaged.extend(&self.options.packs);
        let mut suspects: BTreeSet<PackId> = store.mislisted.keys().copied().collect();
        suspects.extend(self.indexed.index().disputed_packs());
        index::compare(self, suspects).await?;
        self.hide();
        if !self.indexed.damaged_indexes().is_empty() || self.lacks_any(roots).await? {
            index::list_unlisted(self, &store.unlisted).await?;
            // Before anything is given up, the header of each pack is read.
            if self.lacks_any(roots).await? {
                let packs = index::all_packs(&self.indexed);
                index::compare(self, packs).await?;
            }
        }
        // Walking over the directories has shown which entries led astray.
        _ = self.lacks_any(roots).await?;
        let contradicted = self.indexed.contradicted_packs();
        index::compare(self, contradicted).await?;
        self.judge_packs_of_missing(roots).await?;
        if self.options.read_data {
            let found = check::find_damage(&self.indexed, self.cx).await?;
            index::compare(self, found.mislisted.keys().copied().collect()).await?;
            self.bad.damaged.extend(found.altered.keys());
            let bad = found.blobs.keys().map(|(pack, _)| *pack);
            self.bad.damaged.extend(bad.filter(|pack| !found.mislisted.contains_key(pack)));
        }
        self.bad.damaged.retain(|pack| !self.bad.missing.contains(pack));
        self.hide();
        Ok(())
    }

    async fn lacks_any(&self, roots: &[BlobId]) -> Result<bool> {
        Ok(!self.missing(roots).await?.is_empty())
    }

    async fn missing(&self, roots: &[BlobId]) -> Result<Missing> {
        let has_data = |id: &BlobId| self.indexed.index().find(BlobKind::Data, id).is_some();
        Ok(blobs::needs(&self.indexed, roots, has_data, self.cx).await?.missing)
    }

    /// Packs in which blobs are listed that cannot be read are damaged, unless their content matches
    /// their names.
    async fn judge_packs_of_missing(&mut self, roots: &[BlobId]) -> Result<()> {
        let missing = self.missing(roots).await?;
        let index = self.indexed.index();
        let places = missing.iter().flat_map(|(kind, id)| index.find_all(*kind, id));
        let packs: BTreeSet<PackId> = places.map(|at| at.pack).collect();
        for pack in packs {
            self.cx.check_cancelled()?;
            match confirmed_header(self.repository(), pack).await {
                Ok(_) => {}
                Err(error) if error.is_damage() => _ = self.bad.damaged.insert(pack),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Stores missing blobs again that are found elsewhere; returns the state after that.
    async fn fill(&mut self, roots: &[BlobId]) -> Result<Needs> {
        let writer = self.writer();
        let salvaged = packs::salvage(self, &writer).await;
        writer.close(salvaged).await?;
        let whole = self.indexed.clone();
        if self.options.dry_run && !self.bad.damaged.is_empty() {
            // Directories in damaged packs that would have been moved lead to other missing blobs.
            index::reload(self).await?;
            let gone = self.bad.missing.iter().chain(&self.bad.deleted);
            let gone: Vec<PackId> = gone.copied().collect();
            self.indexed.index().hide_packs(&gone);
        }
        // A directory that was found in another copy shows what else is missing.
        loop {
            let has_data = |id: &BlobId| {
                whole.index().find(BlobKind::Data, id).is_some()
                    || self.bad.saved.contains(&(BlobKind::Data, *id))
            };
            let Needs { missing, has_unfit } =
                blobs::needs(&self.indexed, roots, has_data, self.cx).await?;
            let writer = self.writer();
            let found = blobs::take_from_copies(self, &missing, &writer).await;
            let (found, _) = writer.close(found).await?;
            if found == 0 || self.options.dry_run {
                return Ok(Needs { missing: blobs::still_missing(self, missing), has_unfit });
            }
        }
    }

    fn writer(&self) -> BlobWriter {
        BlobWriter::new(&self.indexed, &self.options.write, self.options.dry_run)
    }

    /// Renews the index: damaged packs are marked, lost ones are listed no more.
    async fn give_up(&mut self) -> Result<()> {
        for pack in self.bad.missing.clone() {
            self.repaired(format!("pack {}", pack.short()), "is missing; removed from the index");
        }
        index::renew(self).await
    }
}

async fn open_copies(from: &[Repository], cx: &Context) -> Result<Vec<IndexedRepository>> {
    let mut copies = Vec::new();
    for repository in from {
        copies.push(repository.load_index(cx).await?);
    }
    Ok(copies)
}

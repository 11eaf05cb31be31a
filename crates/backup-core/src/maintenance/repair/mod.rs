//! Mending what can be mended, and naming what cannot.
//!
//! ```text
//!  index: list packs that no index lists ─▶ (read all data) ─▶ move what is sound out of damaged packs
//!    ─▶ snapshots, then blobs, from other copies ─▶ give damaged packs up ─▶ snapshots without what is lost for good
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`repair`]: the order of things |
//! | `report.rs` | [`RepairOptions`], [`RepairReport`] |
//! | `index.rs` | packs that no index lists, or that index objects list with false contents |
//! | `packs.rs` | what is sound in damaged packs |
//! | `blobs.rs` | what is missing, and where else it is |
//! | `snapshots.rs` | snapshot objects: from another copy, or put aside |
//! | `mend.rs` | snapshots without what is lost for good |
//!
//! Nothing is thrown away: what cannot be read goes to `x-quarantine/`, damaged packs are marked
//! and stay for the grace period of a prune.

mod blobs;
mod index;
mod mend;
mod packs;
mod report;
mod snapshots;

use std::collections::{HashMap, HashSet};

pub use report::{Repair, RepairOptions, RepairReport};
pub use snapshots::accept_loss;

use blobs::Missing;

use super::prune::{Changes, rewrite};
use super::prune_lease;
use crate::check;
use crate::context::Context;
use crate::error::Result;
use crate::id::{BlobId, PackId};
use crate::repository::session::Session;
use crate::repository::{BlobWriter, IndexedRepository, Repository, layout};
use crate::sink::{SinkErrorKind, SinkOps};

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
    let mut report = RepairReport { dry_run: options.dry_run, ..RepairReport::default() };
    config_copy(repository, &mut report).await?;
    let mut indexed = repository.load_index(cx).await?;
    if index::correct(&indexed, &mut report, cx).await? {
        indexed = repository.load_index(cx).await?;
    }
    let copies = open_copies(&options.from, cx).await?;
    let mut run = Run { indexed, copies, options, cx, report, bad: Bad::default() };
    let snapshots = snapshots::recover(&mut run).await?;
    let roots: Vec<BlobId> = snapshots.iter().map(|info| info.snapshot.tree).collect();
    run.find_damage(&roots).await?;
    let missing = run.fill(&roots).await?;
    run.give_up().await?;
    mend::mend(&mut run, &snapshots, &missing).await?;
    run.report.repaired.sort();
    Ok(run.report)
}

/// What is known to be damaged.
#[derive(Debug, Default)]
struct Bad {
    /// Packs that are gone.
    missing: HashSet<PackId>,
    /// Packs that hold something unreadable.
    damaged: HashSet<PackId>,
    /// What cannot be read of them.
    blobs: HashMap<(PackId, BlobId), String>,
    /// What could be read of them, though, and was stored again.
    saved: Missing,
}

struct Run<'a> {
    indexed: IndexedRepository,
    copies: Vec<IndexedRepository>,
    options: &'a RepairOptions,
    cx: &'a Context,
    report: RepairReport,
    bad: Bad,
}

impl Run<'_> {
    fn repository(&self) -> &Repository {
        self.indexed.repository()
    }

    fn repaired(&mut self, object: impl Into<String>, what: impl Into<String>) {
        self.report.repaired.push(Repair { object: object.into(), what: what.into() });
    }

    /// Finds lost and damaged packs; lists again what no index lists, if anything is missing.
    async fn find_damage(&mut self, roots: &[BlobId]) -> Result<()> {
        let store = self.indexed.hide_lost_packs().await?;
        let is_incomplete = !self.indexed.damaged_indexes().is_empty()
            || !blobs::missing(&self.indexed, roots, self.cx).await?.is_empty();
        if is_incomplete {
            index::list_unlisted(self, &store.unlisted).await?;
        }
        self.bad.missing.extend(&store.missing);
        self.bad.damaged.extend(store.wrong_size.keys());
        if self.options.read_data {
            for ((pack, blob), why) in check::find_damaged_blobs(&self.indexed, self.cx).await? {
                self.bad.damaged.insert(pack);
                self.bad.blobs.insert((pack, blob), why);
            }
        }
        let lost: Vec<PackId> = self.bad.damaged.iter().copied().collect();
        self.indexed.index().hide_packs(&lost);
        Ok(())
    }

    /// Stores again what can be had; returns what is still missing.
    async fn fill(&mut self, roots: &[BlobId]) -> Result<Missing> {
        let writer = self.writer();
        let salvaged = packs::salvage(self, &writer).await;
        writer.close(salvaged).await?;
        // A directory that was found in another copy shows what else is missing.
        loop {
            let missing = blobs::missing(&self.indexed, roots, self.cx).await?;
            let writer = self.writer();
            let found = blobs::take_from_copies(self, &missing, &writer).await;
            let (found, _) = writer.close(found).await?;
            if found == 0 || self.options.dry_run {
                return Ok(blobs::still_missing(self, missing));
            }
        }
    }

    fn writer(&self) -> BlobWriter {
        BlobWriter::new(&self.indexed, &self.options.write, self.options.dry_run)
    }

    /// Damaged packs are marked, lost ones are listed no more, and neither are index objects that
    /// cannot be read.
    async fn give_up(&mut self) -> Result<()> {
        let damaged_indexes: Vec<_> =
            self.indexed.damaged_indexes().iter().map(|(id, _)| *id).collect();
        for id in &damaged_indexes {
            self.repaired(
                format!("index {}", id.short()),
                "removed; other index objects list its readable packs",
            );
        }
        for pack in self.bad.missing.clone() {
            self.repaired(format!("pack {}", pack.short()), "is missing; removed from the index");
        }
        for pack in self.bad.damaged.clone() {
            self.repaired(
                format!("pack {}", pack.short()),
                "is damaged; marked for deletion, its intact blobs moved to other packs",
            );
        }
        if self.options.dry_run {
            return Ok(());
        }
        let repository = self.repository().clone();
        let changes = Changes {
            mark: self.bad.damaged.clone(),
            time: self.cx.clock.now(),
            recover: HashSet::new(),
            drop: self.bad.missing.clone(),
            correct: HashMap::new(),
        };
        let mut objects = self.indexed.loaded_objects().clone();
        objects.retain(|id| !damaged_indexes.contains(id));
        let rewritten = rewrite(&self.indexed, &objects, &changes, self.cx).await?;
        for id in rewritten.replaced.iter().chain(&damaged_indexes) {
            repository.sink().delete_one(&layout::index(id)).await?;
        }
        Ok(())
    }
}

async fn open_copies(from: &[Repository], cx: &Context) -> Result<Vec<IndexedRepository>> {
    let mut copies = Vec::new();
    for repository in from {
        copies.push(repository.load_index(cx).await?);
    }
    Ok(copies)
}

/// The copy of the config is what a lost config is recovered from.
async fn config_copy(repository: &Repository, report: &mut RepairReport) -> Result<()> {
    let config = repository.sink().get_bytes(&layout::config()).await?;
    match repository.sink().get_bytes(&layout::config_copy()).await {
        Ok(copy) if copy == config => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == SinkErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if !report.dry_run {
        repository.sink().put_bytes(&layout::config_copy(), config).await?;
    }
    let what = "rewritten from the object config".to_owned();
    report.repaired.push(Repair { object: layout::config_copy().to_string(), what });
    Ok(())
}

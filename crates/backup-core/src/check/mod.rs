//! Verification of a whole repository.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`check`]: the order of things |
//! | `report.rs` | [`CheckOptions`], [`CheckReport`], [`Problem`] |
//! | `objects.rs` | config, keys, receipts, index objects, and whether every pack is there at its size |
//! | `data.rs` | reading packs |
//! | `journal.rs` | which packs were read, so that an interrupted check goes on |
//! | `trees.rs` | every snapshot down to its blobs, and which paths damage affects |
//!
//! Damage is found first (objects, then data), and then followed upwards, so that every problem
//! names the snapshots and paths that need what is damaged.

mod data;
mod journal;
mod objects;
mod report;
mod trees;

use std::collections::{HashMap, HashSet};

pub use report::{CheckOptions, CheckReport, Problem, ReadData};

use journal::Journal;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::id::{BlobId, IndexId, PackId};
use crate::repository::listings::Disputes;
use crate::repository::session::Session;
use crate::repository::{IndexedRepository, Repository};

/// What is known to be damaged.
#[derive(Debug, Default)]
struct Damage {
    /// Packs that are gone.
    missing_packs: HashSet<PackId>,
    /// Packs that are shorter than they must be, with their real size.
    short_packs: HashMap<PackId, u64>,
    /// Blobs that could not be decoded where they are, and why.
    blobs: HashMap<(PackId, BlobId), String>,
}

/// Checks that every snapshot can be restored: objects, index, packs and trees, and with
/// [`CheckOptions::read_data`] the content of packs.
///
/// # Errors
/// Those of the sink, and cancellation. Damage is no error but a [`Problem`] of the report.
pub async fn check(
    repository: &Repository,
    options: &CheckOptions,
    cx: &Context,
) -> Result<CheckReport> {
    let reading = Session::begin_reading(repository, "check", cx).await;
    let report = run(repository, options, cx).await;
    if let Some(reading) = reading {
        reading.end().await;
    }
    report
}

async fn run(repository: &Repository, options: &CheckOptions, cx: &Context) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let snapshots = objects::check_named(repository, &mut report, cx).await?;
    let indexed = repository.load_index(cx).await?;
    report_indexes(&indexed.damaged_objects(cx).await?, &mut report);
    let (mut damage, packs) = objects::check_packs(&indexed, &mut report).await?;
    let mut journal = Journal::open(options.resume.as_deref(), repository)?;
    data::read(&indexed, &packs, options.read_data, &mut journal, &mut damage, &mut report, cx)
        .await?;
    report_disputes(&indexed.disputes(cx).await?, &mut report);
    trees::check(&indexed, &snapshots, damage, &mut report, cx).await?;
    indexed.require_intact()?;
    report.blobs = indexed.index().len() as u64;
    journal.finish()?;
    Ok(report)
}

/// Reads all packs that are in the store; returns what cannot be decoded of them, and why.
pub(crate) async fn find_damaged_blobs(
    indexed: &IndexedRepository,
    cx: &Context,
) -> Result<HashMap<(PackId, BlobId), String>> {
    let mut report = CheckReport::default();
    let (mut damage, packs) = objects::check_packs(indexed, &mut report).await?;
    data::read(indexed, &packs, ReadData::All, &mut Journal::none(), &mut damage, &mut report, cx)
        .await?;
    Ok(damage.blobs)
}

/// Index objects that list packs with false contents.
fn report_disputes(disputes: &Disputes, report: &mut CheckReport) {
    let affects =
        || vec!["no snapshot by itself: entries that can be read are used instead".to_owned()];
    for (object, pack) in &disputes.false_listings {
        let message = format!("lists pack {} with contents that it does not have", pack.short());
        let object = format!("index {}", object.short());
        report.problems.push(Problem { object, message, affects: affects() });
    }
    for (pack, error) in &disputes.unknown {
        let object = format!("pack {}", pack.short());
        let message = format!(
            "is listed with different contents, and its header cannot be read: {}",
            error.chain()
        );
        report.problems.push(Problem { object, message, affects: affects() });
    }
}

fn report_indexes(damaged: &[(IndexId, Error)], report: &mut CheckReport) {
    for (id, error) in damaged {
        report.problems.push(Problem {
            object: format!("index {}", id.short()),
            message: error.chain(),
            affects: vec![
                "every snapshot that needs packs listed only in this index (named below, if any)"
                    .to_owned(),
            ],
        });
    }
}

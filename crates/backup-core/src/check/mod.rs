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

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub use report::{CheckOptions, CheckReport, Problem, ReadData};

use journal::Journal;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::id::{BlobId, IndexId, PackId};
use crate::repository::headers::Mislisted;
use crate::repository::listings::Disputes;
use crate::repository::session::Session;
use crate::repository::{IndexedRepository, Repository};

/// What is known to be damaged.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Packs that are gone.
    missing_packs: HashSet<PackId>,
    /// Packs that are shorter than they must be, with their real size.
    short_packs: HashMap<PackId, u64>,
    /// Blobs that could not be decoded where they are, and why.
    pub(crate) blobs: HashMap<(PackId, BlobId), String>,
    /// Packs that index objects list with other contents than their headers.
    pub(crate) mislisted: BTreeMap<PackId, Mislisted>,
    /// Packs that are not as they were written, though each blob in them may be, and why.
    pub(crate) altered: HashMap<PackId, String>,
}

impl Damage {
    /// The header of a pack contradicts the index: blobs that only the index lists there are lost,
    /// unless other packs have them.
    fn note_mislisted(&mut self, pack: PackId, mislisted: Mislisted) {
        for id in &mislisted.absent {
            let message =
                "is listed there by the index only: the header of the pack does not have it";
            self.blobs.insert((pack, *id), message.to_owned());
        }
        self.mislisted.insert(pack, mislisted);
    }
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
    let disputes = indexed.disputes(cx).await?;
    report_disputes(&disputes, &mut report);
    report_mislisted(&damage.mislisted, &mut report);
    let mut named: BTreeSet<PackId> = damage.mislisted.keys().copied().collect();
    named.extend(disputes.false_listings.iter().map(|(_, pack)| *pack));
    trees::check(&indexed, &snapshots, damage, &mut report, cx).await?;
    report_contradicted(&indexed.contradicted_packs(), &named, &mut report);
    indexed.require_intact()?;
    report.blobs = indexed.index().len() as u64;
    journal.finish()?;
    Ok(report)
}

/// Reads all packs that are in the store; returns the damage.
pub(crate) async fn find_damage(indexed: &IndexedRepository, cx: &Context) -> Result<Damage> {
    let mut report = CheckReport::default();
    let (mut damage, packs) = objects::check_packs(indexed, &mut report).await?;
    data::read(indexed, &packs, ReadData::All, &mut Journal::none(), &mut damage, &mut report, cx)
        .await?;
    Ok(damage)
}

/// The consequence of false index entries beside a sound pack.
const READ_BY_HEADER: &str = "no snapshot by itself: the header of the pack, or other entries, \
                              lead to the data; other programs may not find it until `backup \
                              repair` has corrected the index";

/// Index objects that list packs with false contents.
fn report_disputes(disputes: &Disputes, report: &mut CheckReport) {
    for (object, pack) in &disputes.false_listings {
        let message = format!("lists pack {} with contents that it does not have", pack.short());
        let object = format!("index {}", object.short());
        let affects = vec![READ_BY_HEADER.to_owned()];
        report.problems.push(Problem { object, message, affects });
    }
    for pack in &disputes.unknown {
        let object = format!("pack {}", pack.short());
        let message = "is listed with different contents, and its header cannot be read".to_owned();
        let affects =
            vec!["no snapshot by itself: entries that can be read are used instead".to_owned()];
        report.problems.push(Problem { object, message, affects });
    }
}

/// Packs whose headers contradict the index.
fn report_mislisted(mislisted: &BTreeMap<PackId, Mislisted>, report: &mut CheckReport) {
    for (pack, listed) in mislisted {
        let all = listed.header.blobs.len();
        let message = if listed.is_incomplete_only {
            format!("is listed with {} of its {all} blobs", listed.confirmed)
        } else {
            "is listed by the index with contents that its header does not confirm".to_owned()
        };
        let object = format!("pack {}", pack.short());
        let affects = vec![READ_BY_HEADER.to_owned()];
        report.problems.push(Problem { object, message, affects });
    }
}

/// Packs in which blobs were found by the header because the index led elsewhere.
fn report_contradicted(
    packs: &BTreeSet<PackId>,
    known: &BTreeSet<PackId>,
    report: &mut CheckReport,
) {
    for pack in packs.difference(known) {
        let object = format!("pack {}", pack.short());
        let message = "is listed by the index with contents that its header does not confirm";
        let affects = vec![READ_BY_HEADER.to_owned()];
        report.problems.push(Problem { object, message: message.to_owned(), affects });
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

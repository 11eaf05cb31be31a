//! Config, keys, receipts, and whether every pack is there at its size.

use std::collections::HashSet;

use super::{CheckReport, Damage, Problem};
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::event::Stage;
use crate::pipeline::Meter;
use crate::repository::index::PackInfo;
use crate::repository::{IndexedRepository, Repository, SnapshotInfo, guard, layout};
use crate::sink::{Key, SinkErrorKind, SinkOps};
use crate::words;

/// Checks all objects that are not found through the index; returns the readable snapshots.
pub(super) async fn check_named(
    repository: &Repository,
    report: &mut CheckReport,
    cx: &Context,
) -> Result<Vec<SnapshotInfo>> {
    let meter = Meter::start(Stage::Check, &cx.events);
    check_config(repository, report).await?;
    check_keys(repository, report).await?;
    if !guard::is_present(repository).await? {
        report.notes.push("the guard lock is missing: the next backup writes a new one".to_owned());
    }
    // Receipts first: a snapshot that is published meanwhile has none in this list.
    let receipts = repository.snapshot_receipts().await?;
    let list = repository.snapshots(cx).await?;
    report.snapshots = list.snapshots.len() as u64;
    for (id, error) in &list.damaged {
        report.problems.push(Problem {
            object: format!("snapshot {}", id.short()),
            message: error.chain(),
            affects: vec![format!("snapshot {}: all of it; its data may still exist", id.short())],
        });
    }
    let there: HashSet<_> = list.ids().collect();
    for id in &receipts {
        check_receipt(repository, &layout::snapshot_receipt(id), report).await?;
    }
    for id in receipts.into_iter().filter(|id| !there.contains(id)) {
        if !repository.was_lost(&id).await? {
            continue;
        }
        let when = repository.receipt(&id).await.ok().flatten();
        let when = when.map_or_else(String::new, |receipt| format!(" at {}", receipt.received));
        report.problems.push(Problem {
            object: format!("snapshot {}", id.short()),
            message: format!("was stored{when} and is missing, but was never forgotten"),
            affects: vec![format!("snapshot {}: all of it; its data may still exist", id.short())],
        });
    }
    meter.finish();
    Ok(list.snapshots)
}

async fn check_config(repository: &Repository, report: &mut CheckReport) -> Result<()> {
    let sink = repository.sink();
    let config = sink.get_bytes(&layout::config()).await?;
    match sink.get_bytes(&layout::config_copy()).await {
        Ok(copy) if copy == config => {}
        Ok(_) => report.problems.push(Problem {
            object: layout::config_copy().to_string(),
            message: "differs from the object config".to_owned(),
            affects: vec![
                "nothing yet: the object config is intact. Copy config over this copy".to_owned(),
            ],
        }),
        Err(error) if error.kind() == SinkErrorKind::NotFound => {
            report
                .notes
                .push("the object config has no copy yet: the next backup writes one".to_owned());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn check_keys(repository: &Repository, report: &mut CheckReport) -> Result<()> {
    let receipts = repository.key_receipts().await?;
    let keys = repository.keys().await?;
    for (id, info) in &keys {
        if let Err(error) = info {
            report.problems.push(Problem {
                object: format!("key {}", id.short()),
                message: error.chain(),
                affects: vec!["its pass phrase, which no longer opens the repository".to_owned()],
            });
        }
    }
    let there: HashSet<_> = keys.iter().map(|(id, _)| *id).collect();
    for id in &receipts {
        check_receipt(repository, &layout::key_receipt(id), report).await?;
    }
    for id in receipts.into_iter().filter(|id| !there.contains(id)) {
        if !repository.sink().exists(&layout::key_receipt(&id)).await? {
            continue;
        }
        report.problems.push(Problem {
            object: format!("key {}", id.short()),
            message: "is missing, but was never removed".to_owned(),
            affects: vec!["its pass phrase, which no longer opens the repository".to_owned()],
        });
    }
    Ok(())
}

async fn check_receipt(repository: &Repository, key: &Key, report: &mut CheckReport) -> Result<()> {
    match repository.check_receipt(key).await {
        // Forgotten, or removed, since it was listed.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.is_damage() => {
            report.problems.push(Problem {
                object: key.to_string(),
                message: error.chain(),
                affects: vec![
                    "only this inventory entry: delete the object, and the next backup writes a \
                     new one"
                        .to_owned(),
                ],
            });
            Ok(())
        }
        result => result,
    }
}

/// Compares the packs in the index with the packs in the store.
pub(super) async fn check_packs(
    indexed: &IndexedRepository,
    report: &mut CheckReport,
) -> Result<(Damage, Vec<PackInfo>)> {
    let mut packs = Vec::new();
    indexed.index().for_each_pack(&mut |pack| packs.extend((!pack.is_given_up()).then_some(pack)));
    report.packs = packs.len() as u64;
    let found = indexed.compare_packs().await?;
    if !found.unlisted.is_empty() {
        let (packs, bytes) = (found.unlisted.len() as u64, found.unlisted.values().sum::<u64>());
        report.notes.push(format!(
            "{} ({}) in no index: left by interrupted runs, or the index is lost",
            words::count(packs, "pack", "packs"),
            words::count(bytes, "byte", "bytes")
        ));
    }
    let mut damage =
        Damage { missing_packs: found.missing, short_packs: found.wrong_size, ..Damage::default() };
    for (pack, mislisted) in found.mislisted {
        // Entries of several index objects together are all of its blobs.
        if mislisted.is_equal() {
            report.notes.push(format!(
                "pack {} is listed in parts by several index objects: `backup repair` lists it once",
                pack.short()
            ));
        } else {
            damage.note_mislisted(pack, mislisted);
        }
    }
    Ok((damage, packs))
}

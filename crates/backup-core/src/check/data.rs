//! Reading packs: their hash, their header, every blob in them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::journal::Journal;
use super::{CheckReport, Damage, ReadData};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::format::{PackHeader, PackedBlob};
use crate::id::{BlobId, PackId};
use crate::pipeline::Meter;
use crate::repository::headers::Mislisted;
use crate::repository::index::PackInfo;
use crate::repository::{IndexedRepository, layout, verify_blob};
use crate::sink::SinkOps;

fn select(packs: &[PackInfo], which: ReadData) -> Vec<PackInfo> {
    match which {
        ReadData::None => Vec::new(),
        ReadData::All => packs.to_vec(),
        ReadData::Percent(percent) => {
            let mut rng = rand::rng();
            packs
                .iter()
                .filter(|_| rng.random_bool((percent / 100.0).clamp(0.0, 1.0)))
                .copied()
                .collect()
        }
        ReadData::Part { index, of } => {
            // By the pack's own digits: a pack keeps its part when others come and go.
            let part = |pack: &&PackInfo| {
                let bytes = pack.id.as_bytes();
                u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % of == index - 1
            };
            packs.iter().filter(part).copied().collect()
        }
        ReadData::Bytes(bytes) => {
            let mut shuffled = packs.to_vec();
            shuffled.shuffle(&mut rand::rng());
            let mut left = bytes;
            shuffled.retain(|pack| {
                let fits = left > 0;
                left = left.saturating_sub(pack.size);
                fits
            });
            shuffled
        }
    }
}

/// Reads the selected packs and notes every blob that cannot be decoded.
pub(super) async fn read(
    indexed: &IndexedRepository,
    packs: &[PackInfo],
    which: ReadData,
    journal: &mut Journal,
    damage: &mut Damage,
    report: &mut CheckReport,
    cx: &Context,
) -> Result<()> {
    let mut selected = select(packs, which);
    selected.retain(|pack| !damage.missing_packs.contains(&pack.id));
    let before = selected.len();
    selected.retain(|pack| !journal.contains(&pack.id));
    report.read_before = (before - selected.len()) as u64;
    if selected.is_empty() {
        return Ok(());
    }
    let meter = Meter::start(Stage::ReadData, &cx.events);
    meter.expect(selected.len() as u64, selected.iter().map(|pack| pack.size).sum());
    let ticking = meter.ticking();
    let repository = indexed.repository();
    let concurrency = repository.cpu().threads();
    // More than one listing of these was compared with the header already.
    let disputed: HashSet<PackId> = indexed.index().disputed_packs().into_iter().collect();
    let mut by_index = ByIndex::default();
    let mut results = futures::stream::iter(selected)
        .map(|pack| {
            let (meter, is_disputed) = (meter.clone(), disputed.contains(&pack.id));
            async move {
                cx.check_cancelled()?;
                let bad = read_pack(indexed, &pack, is_disputed).await?;
                meter.add_items(1);
                meter.add_bytes(pack.size);
                Ok::<_, Error>((pack, bad))
            }
        })
        .buffer_unordered(concurrency);
    while let Some((pack, bad)) = results.try_next().await? {
        report.read_packs += 1;
        report.read_bytes += pack.size;
        if matches!(bad, PackState::Sound) {
            journal.note(&pack.id);
        }
        note_damage(&pack, bad, damage, report, &mut by_index);
    }
    drop(results);
    by_index.compare(indexed, damage, report).await?;
    drop(ticking);
    meter.finish();
    Ok(())
}

/// What was found in one pack.
enum PackState {
    Sound,
    /// The header is readable; these blobs are not.
    BadBlobs(Vec<(BlobId, String)>),
    /// The pack as a whole is not what was written, though every blob in it may be.
    Altered(Vec<(BlobId, String)>, String),
    /// Sound blobs, of which the index states other ones or other places.
    Mislisted(PackHeader),
    /// It has no readable header.
    Unreadable(String),
}

async fn read_pack(
    indexed: &IndexedRepository,
    pack: &PackInfo,
    is_disputed: bool,
) -> Result<PackState> {
    let (id, repository) = (pack.id, indexed.repository());
    let bytes = match repository.sink().get_expected(&layout::pack(&id), pack.size).await {
        Ok(bytes) => bytes,
        Err(error) => {
            let error = Error::from(error);
            return if error.is_damage() {
                Ok(PackState::Unreadable(error.chain()))
            } else {
                Err(error)
            };
        }
    };
    let (key, indexed, pack) = (Arc::clone(repository.key()), indexed.clone(), *pack);
    repository
        .cpu()
        .run(move || {
            let intact = PackId::digest(&bytes) == id;
            let header = match PackHeader::of_pack(&bytes, &key) {
                Ok(header) => header,
                Err(error) => return Ok(PackState::Unreadable(error.chain())),
            };
            let bad: Vec<_> = header
                .blobs
                .iter()
                .filter_map(|blob| {
                    let start = blob.offset as usize;
                    let sealed = &bytes[start..start + blob.len as usize];
                    let failed = verify_blob(&key, blob, sealed).err();
                    failed.map(|error| (blob.id, error.chain()))
                })
                .collect();
            // The index may lack blobs of the pack; it must not have others.
            let is_listed =
                is_disputed || indexed.listed_of(&id, &header.blobs) == pack.blobs as usize;
            Ok(match (intact, bad.is_empty()) {
                (true, true) if !is_listed => PackState::Mislisted(header),
                (true, true) => PackState::Sound,
                (true, false) => PackState::BadBlobs(bad),
                (false, _) => PackState::Altered(
                    bad,
                    "the SHA-256 of its content does not match its name".to_owned(),
                ),
            })
        })
        .await
}

/// Packs that are compared with their index entries after all packs were read: that takes a walk over
/// the whole index.
#[derive(Default)]
struct ByIndex {
    mislisted: Vec<(PackId, PackHeader)>,
    /// Restoring needs the index only, not the header: the blobs that the index describes may be
    /// sound.
    unreadable: Vec<(PackId, String)>,
}

impl ByIndex {
    async fn compare(
        self,
        indexed: &IndexedRepository,
        damage: &mut Damage,
        report: &mut CheckReport,
    ) -> Result<()> {
        let mislisted = self.mislisted.iter().map(|(pack, _)| *pack);
        let unreadable = self.unreadable.iter().map(|(pack, _)| *pack);
        let mut entries = indexed.entries_of(mislisted.chain(unreadable));
        for (pack, header) in self.mislisted {
            let entries = entries.remove(&pack).unwrap_or_default();
            damage.note_mislisted(pack, Mislisted::new(Arc::new(header), &entries));
        }
        for (pack, message) in self.unreadable {
            let entries = entries.remove(&pack).unwrap_or_default();
            let bad = bad_blobs(indexed, pack, entries).await?;
            note_bad(pack, bad, Some(message), damage, report);
        }
        Ok(())
    }
}

fn note_damage(
    pack: &PackInfo,
    state: PackState,
    damage: &mut Damage,
    report: &mut CheckReport,
    by_index: &mut ByIndex,
) {
    match state {
        PackState::Sound => {}
        PackState::Mislisted(header) => by_index.mislisted.push((pack.id, header)),
        PackState::BadBlobs(bad) => note_bad(pack.id, bad, None, damage, report),
        PackState::Altered(bad, message) => {
            note_bad(pack.id, bad, Some(message), damage, report);
        }
        PackState::Unreadable(message) => by_index.unreadable.push((pack.id, message)),
    }
}

/// Notes blobs that cannot be decoded, and the fault of a pack as a whole.
fn note_bad(
    pack: PackId,
    bad: Vec<(BlobId, String)>,
    message: Option<String>,
    damage: &mut Damage,
    report: &mut CheckReport,
) {
    if let Some(message) = message {
        if bad.is_empty() {
            let affects = vec!["no snapshot yet: all blobs in the pack are intact".to_owned()];
            let object = format!("pack {}", pack.short());
            report.problems.push(super::Problem { object, message: message.clone(), affects });
        }
        damage.altered.insert(pack, message);
    }
    damage.blobs.extend(bad.into_iter().map(|(id, why)| ((pack, id), why)));
}

/// Reads the blobs of a pack at the places in the index; returns those that cannot be decoded.
async fn bad_blobs(
    indexed: &IndexedRepository,
    pack: PackId,
    blobs: Vec<PackedBlob>,
) -> Result<Vec<(BlobId, String)>> {
    let reader = indexed.reader();
    let mut bad = Vec::new();
    for blob in blobs {
        let start = u64::from(blob.offset);
        let decoded = match reader.range(&pack, start..start + u64::from(blob.len)).await {
            Ok(sealed) => verify_blob(indexed.repository().key(), &blob, &sealed),
            Err(error) => Err(error),
        };
        match decoded {
            Ok(()) => {}
            Err(error) if error.is_damage() => bad.push((blob.id, error.chain())),
            Err(error) => return Err(error),
        }
    }
    Ok(bad)
}

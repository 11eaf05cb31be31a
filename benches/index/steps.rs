//! What is measured, each in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_benches::Result;
use backup_benches::synthetic::{blob_id, kind_of, pack_of};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::format::BlobKind;
use backup_core::id::{BlobId, PackId};
use backup_core::repository::index::BlobIndex;
use backup_core::repository::{IndexedRepository, Repository};
use backup_storage::LocalSink;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::measure::{Cost, Step, Watch};

pub(crate) const PHRASE: &str = "bench";
/// Look-ups of each sort.
const LOOKUPS: u32 = 1_000_000;
/// Names are computed for so many look-ups in advance, outside the measured time.
const TOGETHER: u32 = 10_000;
/// Blobs with larger numbers are in no repository.
const UNKNOWN: u64 = 1 << 40;

/// Opens the index, which must have so many blobs.
pub(crate) async fn open(repository: &Path, cache: &Path, blobs: u64) -> Result<Cost> {
    let watch = Watch::start();
    let (loaded, step) = load(repository, cache).await?;
    let cost = watch.end(&step)?;
    expect(&loaded, blobs)?;
    Ok(cost)
}

/// Opens the index and looks blobs up. Nanoseconds for each that is not there, each that is, and
/// each that is when most blocks of the files were looked at before.
pub(crate) async fn lookups(
    repository: &Path,
    cache: &Path,
    blobs: u64,
) -> Result<(Cost, [f64; 3])> {
    let watch = Watch::start();
    let (loaded, _) = load(repository, cache).await?;
    let step = Step::begin();
    let index = &**loaded.index();
    let mut rng = StdRng::seed_from_u64(2026);
    let unknown = look_up(index, || UNKNOWN + rng.random_range(0..blobs), |_| None)?;
    let known = look_up(index, || rng.random_range(0..blobs), |blob| Some(pack_of(blob)))?;
    let again = look_up(index, || rng.random_range(0..blobs), |blob| Some(pack_of(blob)))?;
    let cost = watch.end(&step)?;
    expect(&loaded, blobs)?;
    Ok((cost, [unknown, known, again]))
}

async fn load(repository: &Path, cache: &Path) -> Result<(IndexedRepository, Step)> {
    let repository =
        Repository::open(Arc::new(LocalSink::open(repository)?), &Passphrase::new(PHRASE))
            .await?
            .with_cache(cache);
    let step = Step::begin();
    Ok((repository.load_index(&Context::silent()).await?, step))
}

/// Whether it is the index that it must be: the one that was written to the cache, and whole.
fn expect(loaded: &IndexedRepository, blobs: u64) -> Result<()> {
    let index = loaded.index();
    if index.len() as u64 != blobs || !index.is_intact() || !loaded.damaged_indexes().is_empty() {
        return Err(format!(
            "the index has {} blobs, not {blobs}; intact: {}",
            index.len(),
            index.is_intact()
        )
        .into());
    }
    for blob in [0, blobs / 2, blobs - 1] {
        let found = index.find_lasting(kind_of(blob), &blob_id(blob));
        if found.map(|at| at.pack) != Some(pack_of(blob)) {
            return Err(format!("blob {blob} has the unexpected location {found:?}").into());
        }
    }
    Ok(())
}

/// Nanoseconds for each of many blobs that `choose` chooses; each must be in the pack that
/// `expected` says.
fn look_up(
    index: &dyn BlobIndex,
    mut choose: impl FnMut() -> u64,
    expected: impl Fn(u64) -> Option<PackId>,
) -> Result<f64> {
    let mut time = Duration::ZERO;
    for _ in 0..LOOKUPS / TOGETHER {
        let numbers: Vec<u64> = (0..TOGETHER).map(|_| choose()).collect();
        let wanted: Vec<(BlobKind, BlobId)> =
            numbers.iter().map(|blob| (kind_of(*blob), blob_id(*blob))).collect();
        let begun = Instant::now();
        let found: Vec<_> = wanted.iter().map(|(kind, id)| index.find_lasting(*kind, id)).collect();
        time += begun.elapsed();
        for (blob, found) in numbers.iter().zip(found) {
            if found.map(|at| at.pack) != expected(*blob) {
                return Err(format!("blob {blob} has the unexpected location {found:?}").into());
            }
        }
    }
    Ok(time.as_secs_f64() * 1e9 / f64::from(LOOKUPS))
}

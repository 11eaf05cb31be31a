//! What is sound in damaged packs moves into new ones.

use std::collections::HashMap;

use super::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::format::PackedBlob;
use crate::id::PackId;
use crate::repository::{BlobWriter, Repository, decode_with, layout};
use crate::words;

/// Fewest digits by which a pack can be named.
const MIN_DIGITS: usize = 4;

/// The packs in the store whose names begin with these digits, one for each.
///
/// # Errors
/// [`ErrorKind::Invalid`] for digits that are no beginning of exactly one pack; errors of the sink.
pub async fn find_packs(repository: &Repository, names: &[String]) -> Result<Vec<PackId>> {
    let stored = repository.list(&layout::packs()).await?;
    let stored: Vec<PackId> =
        stored.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect();
    let mut packs = Vec::new();
    for name in names {
        let digits = name.to_ascii_lowercase();
        let invalid = |message: String| {
            Err(Error::new(ErrorKind::Invalid, message)
                .with_hint("`backup check --read-data` names damaged packs"))
        };
        if digits.len() < MIN_DIGITS {
            return invalid(format!("{name:?} names no pack: at least {MIN_DIGITS} digits do"));
        }
        let mut found = stored.iter().filter(|pack| pack.to_hex().starts_with(&digits));
        match (found.next(), found.next()) {
            (Some(pack), None) => packs.push(*pack),
            (Some(_), Some(_)) => return invalid(format!("several packs begin with {digits}")),
            (None, _) => return invalid(format!("no stored pack begins with {name:?}")),
        }
    }
    Ok(packs)
}

/// Moves every blob that can be read and is nowhere else. The index and, if it can be read, the
/// header of the pack lead to them; each blob is compared with its name.
pub(super) async fn salvage(run: &mut Run<'_>, writer: &BlobWriter) -> Result<()> {
    let mut blobs = run.indexed.entries_of(run.bad.damaged.iter().copied());
    for (pack, known) in &mut blobs {
        if let Some(header) = run.indexed.header_of(pack).await? {
            known.extend(header.blobs.iter().copied());
            known.sort_unstable_by_key(|blob| (blob.offset, blob.id, blob.kind, blob.len));
            known.dedup();
        }
    }
    let moved = move_all(run, blobs, writer).await?;
    for (pack, moved) in moved {
        let moved = words::count(moved, "intact blob", "intact blobs");
        let what = format!("{moved} moved into new packs; marked for deletion by a prune");
        run.repaired(format!("pack {}", pack.short()), what);
    }
    Ok(())
}

async fn move_all(
    run: &mut Run<'_>,
    blobs: HashMap<PackId, Vec<PackedBlob>>,
    writer: &BlobWriter,
) -> Result<HashMap<PackId, u64>> {
    let reader = run.indexed.reader();
    let mut moved = HashMap::new();
    for (pack, blobs) in blobs {
        let count = moved.entry(pack).or_default();
        for blob in blobs {
            run.cx.check_cancelled()?;
            // The damaged pack is hidden: what is found is somewhere else.
            if run.indexed.index().find_lasting(blob.kind, &blob.id).is_some()
                || run.bad.saved.contains(&(blob.kind, blob.id))
            {
                continue;
            }
            let start = u64::from(blob.offset);
            let sealed = match reader.range(&pack, start..start + u64::from(blob.len)).await {
                Ok(sealed) => sealed,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            let (key, writer) = (run.repository().key().clone(), writer.clone());
            let work = move || {
                decode_with(&key, &blob, &sealed, |decoded| match decoded {
                    Ok(decoded) => writer.move_sealed(&blob, decoded.sealed).map(|()| true),
                    Err(_) => Ok(false),
                })
            };
            if run.repository().cpu().run(work).await? {
                *count += 1;
                run.bad.saved.insert((blob.kind, blob.id));
            }
        }
    }
    Ok(moved)
}

//! What is sound in damaged packs moves into new ones.

use std::collections::HashMap;

use super::Run;
use crate::error::Result;
use crate::format::PackedBlob;
use crate::id::PackId;
use crate::repository::{BlobWriter, decode_with};
use crate::words;

/// Moves every blob that can be read and is nowhere else.
pub(super) async fn salvage(run: &mut Run<'_>, writer: &BlobWriter) -> Result<()> {
    if run.bad.damaged.is_empty() {
        return Ok(());
    }
    let mut blobs: HashMap<PackId, Vec<PackedBlob>> = HashMap::new();
    run.indexed.index().for_each_blob(&mut |at| {
        if run.bad.damaged.contains(&at.pack) && !run.bad.blobs.contains_key(&(at.pack, at.blob.id))
        {
            blobs.entry(at.pack).or_default().push(at.blob);
        }
    });
    let reader = run.indexed.reader();
    for (pack, blobs) in blobs {
        let mut moved = 0_u64;
        for blob in blobs {
            run.cx.check_cancelled()?;
            // The damaged pack is hidden: what is found is somewhere else.
            if run.indexed.index().find_lasting(blob.kind, &blob.id).is_some() {
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
                moved += 1;
                run.bad.saved.insert((blob.kind, blob.id));
            }
        }
        run.repaired(
            format!("pack {}", pack.short()),
            format!("{} moved into new packs", words::count(moved, "intact blob", "intact blobs")),
        );
    }
    Ok(())
}

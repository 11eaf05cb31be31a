//! The packs of a run are still in the store when the run ends.
//!
//! A pack is verified after its upload. Something else may delete or truncate it before the run
//! ends: a lifecycle rule, a second program, a failing disk. Nothing may then be published that
//! needs it.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;

use super::upload::stored_size;
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::limits;
use crate::repository::listing::endless;
use crate::repository::{IndexedRepository, layout};
use crate::sink::Prefix;

/// Objects in one answer to a listing of S3, of Google Cloud Storage, and at least as many of
/// Azure.
const OBJECTS_PER_REQUEST: u64 = 1000;

/// Fails unless each of these packs is in the store with this size in bytes.
///
/// Lists the folders of the packs, or all packs if that takes fewer requests. Reads no pack, so a
/// role that may only list them suffices.
///
/// # Errors
/// [`ErrorKind::Damaged`] if a pack is missing or has another size; those of the sink.
pub(super) async fn require_packs(
    indexed: &IndexedRepository,
    packs: &HashMap<PackId, u64>,
) -> Result<()> {
    let mut folders: BTreeMap<String, Prefix> = BTreeMap::new();
    for id in packs.keys() {
        let folder = layout::packs_beside(&layout::pack(id));
        folders.insert(folder.to_string(), folder);
    }
    let mut known = 0;
    indexed.index().for_each_pack(&mut |_| known += 1);
    let prefixes: Vec<Prefix> = if folders.len() as u64 <= known / OBJECTS_PER_REQUEST + 1 {
        folders.into_values().collect()
    } else {
        vec![layout::packs()]
    };
    let mut unconfirmed = packs.clone();
    for prefix in prefixes {
        let mut listing = indexed.repository().sink().list(&prefix);
        let mut seen = 0;
        while let Some(meta) = listing.try_next().await? {
            if seen == limits::MAX_PACKS {
                return Err(endless(&prefix, limits::MAX_PACKS));
            }
            seen += 1;
            let Ok(id) = meta.key.file_name().parse::<PackId>() else { continue };
            if packs.get(&id) == Some(&meta.size) {
                unconfirmed.remove(&id);
            }
        }
    }
    // Listings of some stores lag behind.
    for (id, size) in unconfirmed {
        let key = layout::pack(&id);
        match stored_size(indexed.repository(), &key).await {
            Ok(found) if found == size => {}
            Ok(found) => {
                return Err(changed(&format!("{key} has {found} instead of {size} bytes")));
            }
            Err(error) if error.is_damage() || error.kind() == ErrorKind::NotFound => {
                return Err(changed(&format!("{key} is missing")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn changed(text: &str) -> Error {
    Error::damaged(format!("the store changed while it was written to: {text}")).with_hint(
        "look for another program or a lifecycle rule that deletes objects, then repeat the command",
    )
}

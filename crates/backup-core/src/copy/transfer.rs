//! Moving data blobs.

use std::sync::{Arc, Mutex, PoisonError};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::pipeline::Meter;
use crate::repository::{BlobReader, BlobWriter};

/// Reads data blobs in the order in which they are stored, checks them, and stores them in the
/// target.
///
/// # Errors
/// Damage of the source only after everything else was moved: what else is sound helps other
/// snapshots.
pub(super) async fn transfer(
    reader: &BlobReader,
    blobs: Vec<BlobId>,
    writer: &BlobWriter,
    same_key: bool,
    meter: &Meter,
    cx: &Context,
) -> Result<()> {
    let damage: Arc<Mutex<Option<Error>>> = Arc::default();
    let (first, writer, meter) = (Arc::clone(&damage), writer.clone(), meter.clone());
    let moved = reader
        .fetch_decoded(cx, &blobs, move |_, decoded| {
            match decoded {
                Ok(decoded) => {
                    writer.store_copy(&decoded, same_key)?;
                    meter.add_bytes(u64::from(decoded.blob.len));
                }
                Err(error) => {
                    _ = first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
            Ok(())
        })
        .await;
    moved.map_err(Error::from)?;
    match damage.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

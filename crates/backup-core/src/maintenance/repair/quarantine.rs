//! Objects that a repair replaces go to `x-quarantine/`, under their own names, until a prune
//! deletes them.

use bytes::Bytes;

use super::Run;
use crate::error::Result;
use crate::id::BlobId;
use crate::repository::{Repository, layout};
use crate::sink::{Key, SinkErrorKind, SinkOps};

/// Copies an object there; returns false if the storage cannot read it. A dry run only reads it.
///
/// # Errors
/// Errors of the sink.
pub(super) async fn put(run: &Run<'_>, key: &Key) -> Result<bool> {
    let sink = run.repository().sink();
    let bytes = match sink.get_bytes(key).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == SinkErrorKind::Unreadable => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !run.options.dry_run {
        keep(run.repository(), key, bytes).await?;
    }
    Ok(true)
}

/// Stores the bytes of an object there. Other bytes of the same name stay beside it.
///
/// # Errors
/// Errors of the sink.
pub(crate) async fn keep(repository: &Repository, key: &Key, bytes: Bytes) -> Result<()> {
    let sink = repository.sink();
    let mut place = layout::quarantined(key, None);
    match sink.get_bytes(&place).await {
        Ok(known) if known == bytes => return Ok(()),
        Ok(_) => place = layout::quarantined(key, Some(&BlobId::digest(&bytes))),
        Err(error) if error.kind() == SinkErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    sink.put_bytes(&place, bytes).await?;
    Ok(())
}

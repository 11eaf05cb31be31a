//! The guard lock: see [`Lock::guard`]. Its bytes, and so its name, are the same whenever it is
//! written.

use super::{Repository, layout};
use crate::crypto::MasterKey;
use crate::error::{Error, Result};
use crate::format::{Config, Lock};
use crate::sink::{Key, Sink, SinkOps};

fn object(master: &MasterKey, config: &Config) -> Result<(Key, Vec<u8>)> {
    let json = serde_json::to_vec(&Lock::guard())
        .map_err(|error| Error::internal("cannot encode a lock").with_source(error))?;
    let sealed = master.seal_with_iv(&json, config.guard_iv(master));
    let name = hex::encode(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&sealed)));
    Ok((layout::lock(&name), sealed))
}

/// Writes the guard.
pub(crate) async fn put(sink: &dyn Sink, master: &MasterKey, config: &Config) -> Result<()> {
    let (key, bytes) = object(master, config)?;
    sink.put_bytes(&key, bytes).await?;
    Ok(())
}

/// Removes the guard of an `init` that lost against another.
pub(crate) async fn remove(sink: &dyn Sink, master: &MasterKey, config: &Config) -> Result<()> {
    let (key, _) = object(master, config)?;
    sink.delete_one(&key).await?;
    Ok(())
}

/// Writes the guard if it is missing; says whether it was.
pub(crate) async fn ensure(repository: &Repository) -> Result<bool> {
    let (key, bytes) = object(repository.key(), repository.config())?;
    if repository.sink().exists(&key).await? {
        return Ok(false);
    }
    repository.sink().put_bytes(&key, bytes).await?;
    Ok(true)
}

/// Where the guard is.
pub(crate) fn key(repository: &Repository) -> Result<Key> {
    object(repository.key(), repository.config()).map(|(key, _)| key)
}

/// Whether the guard is in its place.
pub(crate) async fn is_present(repository: &Repository) -> Result<bool> {
    let (key, _) = object(repository.key(), repository.config())?;
    Ok(repository.sink().exists(&key).await?)
}

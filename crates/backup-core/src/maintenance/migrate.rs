//! Format 1 becomes format 2 in place: the object `config` states another version, and all other
//! objects stay as they are, because format 2 reads them. Nothing else is read, so that damage does
//! not stand in the way.

use serde::Serialize;
use serde_json::Value;

use super::prune::foreign_locks;
use super::prune_lease;
use super::repair::quarantine;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{Config, WRITE_VERSION};
use crate::repository::store_clock::StoreClock;
use crate::repository::{Repository, layout};
use crate::sink::SinkOps;

/// The format of a repository before and after [`migrate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Version before.
    pub from: u32,
    /// Version after; equal if there is nothing to do.
    pub to: u32,
    /// True if nothing was changed.
    pub dry_run: bool,
}

/// Upgrades a repository to the format that is written. The old config goes to `x-quarantine/`.
/// `repository` itself keeps the old version: it has to be opened again.
///
/// # Errors
/// [`ErrorKind::Busy`](crate::error::ErrorKind::Busy) while a maintainer is at work, also one of
/// another program; those of the sink. It can be repeated at any point.
pub async fn migrate(
    repository: &Repository,
    holder: &str,
    dry_run: bool,
    cx: &Context,
) -> Result<Migration> {
    let migration = Migration { from: repository.config().version, to: WRITE_VERSION, dry_run };
    if dry_run || migration.from == migration.to {
        return Ok(migration);
    }
    foreign_locks(repository, &StoreClock::read(repository, cx).await?).await?;
    let lease = prune_lease(repository, holder, cx).await?;
    let result = lease.guard(replace_config(repository)).await;
    lease.release_after(result).await?;
    Ok(migration)
}

async fn replace_config(repository: &Repository) -> Result<()> {
    let (sink, key) = (repository.sink(), repository.key());
    let old = sink.get_bytes(&layout::config()).await?;
    let plain = key
        .open(&old)
        .map_err(|error| Error::damaged("the config object is damaged").with_source(error))?;
    let new = key.seal(&upgraded(&plain)?);
    Config::open(&new, key)?;
    quarantine::keep(repository, &layout::config(), old).await?;
    // The copy first: a repair makes it equal to a config that was not replaced yet.
    for object in [layout::config_copy(), layout::config()] {
        sink.put_bytes(&object, new.clone()).await?;
        let stored = sink.get_bytes(&object).await?;
        if *stored != *new {
            let message = format!("{object}: the bytes read back differ from the bytes written");
            return Err(Error::damaged(message)
                .with_hint("check the storage; the old config is in x-quarantine/config"));
        }
    }
    Ok(())
}

/// The text of a config with the new version. Fields of other programs stay.
fn upgraded(json: &[u8]) -> Result<Vec<u8>> {
    let invalid = |error: serde_json::Error| {
        Error::damaged("cannot parse the config object").with_source(error)
    };
    let mut config: serde_json::Map<String, Value> =
        serde_json::from_slice(json).map_err(invalid)?;
    config.insert("version".to_owned(), WRITE_VERSION.into());
    serde_json::to_vec(&config).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgraded_config_keeps_other_fields() {
        let new =
            upgraded(br#"{"version":1,"id":"ab","chunker_polynomial":"3d","z":[1]}"#).unwrap();
        let new: Value = serde_json::from_slice(&new).unwrap();
        let expected = serde_json::json!({"version":2,"id":"ab","chunker_polynomial":"3d","z":[1]});
        assert_eq!(new, expected);
        assert!(upgraded(b"[]").unwrap_err().is_damage());
    }
}

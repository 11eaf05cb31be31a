//! The stored object of a lease: its key, body and tokens.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LeaseOptions;
use crate::error::{Error, Result};
use crate::format::open_json;
use crate::repository::{Repository, layout};
use crate::sink::{Key, SinkErrorKind, SinkOps};

/// No process gets this far by counting; whoever may put objects could block a lease with a higher
/// one.
const MAX_TOKEN: u64 = u64::MAX / 2;

/// What a lease object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) holder: String,
    /// Tells this process from all others.
    pub(super) owner: String,
    pub(super) period_seconds: u64,
    pub(super) renewed: Timestamp,
    #[serde(default)]
    pub(super) released: bool,
    /// The holder's note for readers; see [`LeaseNote`](super::LeaseNote).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<serde_json::Value>,
}

impl Repository {
    /// Removes the tokens of leases that have served, but for the last ones: holders that may not
    /// delete leave them. Returns how many.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn thin_out_leases(&self) -> Result<usize> {
        let mut names: BTreeMap<String, Vec<(u64, Key)>> = BTreeMap::new();
        for meta in self.list(&layout::leases()).await? {
            let Some((name, token)) = meta.key.as_str().rsplit_once('/') else { continue };
            if let Ok(token) = token.parse() {
                names.entry(name.to_owned()).or_default().push((token, meta.key));
            }
        }
        let mut removed = 0;
        for tokens in names.values() {
            let highest = tokens
                .iter()
                .map(|(token, _)| *token)
                .filter(|token| *token < MAX_TOKEN)
                .max()
                .unwrap_or(0);
            for (_, key) in tokens.iter().filter(|(token, _)| token + 1 < highest) {
                self.sink().delete_one(key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

pub(super) fn key(name: &str, token: u64) -> Result<Key> {
    Key::new(format!("{}/{token:020}", layout::lease(name)?))
        .map_err(|error| Error::internal(error.to_string()))
}

pub(super) async fn tokens(repository: &Repository, name: &str) -> Result<Vec<u64>> {
    let objects = repository.list(&layout::lease(name)?).await?;
    let tokens = objects.iter().filter_map(|meta| meta.key.file_name().parse().ok());
    Ok(tokens.filter(|token| *token < MAX_TOKEN).collect())
}

pub(super) async fn highest(repository: &Repository, name: &str) -> Result<Option<u64>> {
    Ok(tokens(repository, name).await?.into_iter().max())
}

/// What a lease object says, and when the store wrote it; `None` if it has vanished. A damaged one
/// counts by its age alone.
pub(super) async fn read(
    repository: &Repository,
    name: &str,
    token: u64,
) -> Result<Option<(Body, Option<Timestamp>)>> {
    let key = key(name, token)?;
    let gone = |error: &crate::sink::SinkError| error.kind() == SinkErrorKind::NotFound;
    let meta = match repository.sink().head(&key).await {
        Ok(meta) => meta,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let sealed = match repository.sink().get_bytes(&key).await {
        Ok(sealed) => sealed,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let body = open_json(repository.key(), &sealed).unwrap_or_else(|_| Body {
        holder: "unknown".to_owned(),
        owner: String::new(),
        period_seconds: LeaseOptions::default().period.as_secs(),
        renewed: meta.last_modified.unwrap_or_default(),
        released: false,
        note: None,
    });
    Ok(Some((body, meta.last_modified)))
}

/// The owner that a lease object names; `None` if the object has vanished or is damaged.
pub(super) async fn owner(
    repository: &Repository,
    name: &str,
    token: u64,
) -> Result<Option<String>> {
    let sealed = match repository.sink().get_bytes(&key(name, token)?).await {
        Ok(sealed) => sealed,
        Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(open_json::<Body>(repository.key(), &sealed).ok().map(|body| body.owner))
}

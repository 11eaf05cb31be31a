//! Listings of the objects of a repository: an empty one is not believed alone, and an endless one
//! ends at a limit.

use std::collections::HashMap;

use futures::TryStreamExt;

use super::{Repository, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::limits;
use crate::sink::{ObjectMeta, Prefix, SinkOps};

impl Repository {
    /// All objects under a prefix of the repository. An empty listing alone proves nothing (a
    /// proxy's error page reads like one): it is believed if the same store still lists the key
    /// files, of which every repository has one.
    pub(crate) async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>> {
        let mut listing = self.sink().list(prefix);
        let mut objects = Vec::new();
        while let Some(meta) = listing.try_next().await? {
            if objects.len() == limits::MAX_LISTED {
                return Err(endless(prefix, limits::MAX_LISTED));
            }
            objects.push(meta);
        }
        if objects.is_empty() {
            self.require_key_files().await?;
        }
        Ok(objects)
    }

    async fn require_key_files(&self) -> Result<()> {
        if self.sink().list_all(&layout::keys()).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the storage lists no objects, not even \
                 the key files",
            )
            .with_hint(
                "check for a proxy that answers in place of the storage, and whether the key files \
                 are lost",
            ));
        }
        Ok(())
    }

    /// All packs that are there, each with what `of` takes from it: the list itself would take more
    /// memory than all that is known of the packs. An empty listing is believed as in
    /// [`Self::list`].
    pub(crate) async fn stored_packs<T>(
        &self,
        of: impl Fn(&ObjectMeta) -> T,
    ) -> Result<HashMap<PackId, T>> {
        let mut listing = self.sink().list(&layout::packs());
        let mut packs = HashMap::new();
        while let Some(meta) = listing.try_next().await? {
            if let Ok(id) = meta.key.file_name().parse() {
                packs.insert(id, of(&meta));
            }
            if packs.len() > limits::MAX_PACKS {
                return Err(endless(&layout::packs(), limits::MAX_PACKS));
            }
        }
        if packs.is_empty() {
            self.require_key_files().await?;
        }
        Ok(packs)
    }
}

/// The error for a storage that lists more objects than a repository has.
fn endless(prefix: &Prefix, most: usize) -> Error {
    let text = format!("the storage lists more than {most} objects below {prefix}");
    Error::new(ErrorKind::Unavailable, text)
        .with_hint("check for another program that answers in place of the storage")
}

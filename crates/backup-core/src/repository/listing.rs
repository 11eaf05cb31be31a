//! Listings of the objects of a repository: an empty one is not believed alone, and an endless one
//! ends at a limit.

use std::collections::HashMap;

use futures::{Stream, TryStreamExt};

use super::{Repository, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::limits;
use crate::sink::{ObjectMeta, Prefix, SinkOps, SinkResult};

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

    /// All packs that are there and of which `of` takes something: the list itself would take more
    /// memory than all that is known of the packs. The listing is refused if it has far more packs
    /// than the `known` ones of the index. An empty listing is checked as in [`Self::list`].
    pub(crate) async fn stored_packs<T>(
        &self,
        known: usize,
        of: impl Fn(&ObjectMeta) -> Option<T>,
    ) -> Result<HashMap<PackId, T>> {
        let most = known.saturating_add(limits::MAX_UNLISTED).min(limits::MAX_PACKS);
        let (seen, packs) = collect(self.sink().list(&layout::packs()), most, of).await?;
        if seen == 0 {
            self.require_key_files().await?;
        }
        Ok(packs)
    }
}

/// Reads a listing of packs to its end; returns the number of its objects as well.
async fn collect<T>(
    mut listing: impl Stream<Item = SinkResult<ObjectMeta>> + Unpin,
    most: usize,
    of: impl Fn(&ObjectMeta) -> Option<T>,
) -> Result<(usize, HashMap<PackId, T>)> {
    let mut packs = HashMap::new();
    let mut seen = 0;
    while let Some(meta) = listing.try_next().await? {
        if seen == most {
            return Err(endless(&layout::packs(), most));
        }
        seen += 1;
        if let (Ok(id), Some(taken)) = (meta.key.file_name().parse(), of(&meta)) {
            packs.insert(id, taken);
        }
    }
    Ok((seen, packs))
}

/// The error for a storage that lists more objects than a repository has.
pub(super) fn endless(prefix: &Prefix, most: usize) -> Error {
    let text = format!("the storage lists more than {most} objects below {prefix}");
    Error::new(ErrorKind::Unavailable, text)
        .with_hint("check for another program that answers in place of the storage")
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// Ever new packs, as a false store can list them.
    fn packs() -> impl Iterator<Item = SinkResult<ObjectMeta>> {
        (0_u64..).map(|number| {
            let key = layout::pack(&PackId::digest(&number.to_le_bytes()));
            Ok(ObjectMeta { key, size: 1, last_modified: None, etag: None })
        })
    }

    #[tokio::test]
    async fn endless_listing_of_packs_is_refused_at_the_limit() {
        let mut read = 0;
        let listing = packs().inspect(|_| read += 1);
        let refused = collect(stream::iter(listing), 1000, |meta| Some(meta.size)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("more than 1000 objects"), "{error}");
        assert_eq!(read, 1001);
    }

    #[tokio::test]
    async fn listing_counts_packs_that_are_left_out() {
        let refused = collect(stream::iter(packs()), 1000, |_| None::<()>).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        let (seen, taken) =
            collect(stream::iter(packs().take(1000)), 1000, |_| None::<()>).await.unwrap();
        assert_eq!((seen, taken.len()), (1000, 0));
    }
}

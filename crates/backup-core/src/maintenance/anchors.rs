//! Notes of how far chains of audit records had got: whoever shortens or rewrites a chain on its
//! host cannot change these.

use std::collections::BTreeMap;

use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::format::seal_json;
use crate::repository::{Repository, layout};
use crate::sink::{Key, SinkOps};

/// Anchors of a chain that are kept: the newest vouches for everything before it, the others for
/// what the newest may have lost.
const KEPT: usize = 32;

/// How far a chain of audit records had got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The name of the chain: letters and digits.
    pub chain: String,
    /// The number of its last record.
    pub sequence: u64,
    /// The hash of that record.
    pub hash: String,
    /// When it was noted.
    pub time: Timestamp,
    /// The host that the chain lies on.
    pub host: String,
    /// Where it lies there.
    pub place: String,
}

impl Repository {
    /// Notes how far a chain has got.
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Invalid`] for a chain with another name.
    pub async fn anchor(&self, anchor: &Anchor) -> Result<()> {
        let key = layout::anchor(&anchor.chain, anchor.sequence, &anchor.hash)?;
        self.sink().put_bytes(&key, seal_json(self.key(), anchor)?).await?;
        // Not every time: that would double what an anchor costs. A command adds no more records
        // than that.
        if anchor.sequence % (KEPT as u64) < 8 {
            self.thin_out_anchors(&anchor.chain).await?;
        }
        Ok(())
    }

    async fn thin_out_anchors(&self, chain: &str) -> Result<()> {
        let keys = self.anchor_keys().await?.remove(chain).unwrap_or_default();
        for key in &keys[..keys.len().saturating_sub(KEPT)] {
            self.sink().delete_one(key).await?;
        }
        Ok(())
    }

    /// By chain, in their order.
    async fn anchor_keys(&self) -> Result<BTreeMap<String, Vec<Key>>> {
        let mut chains = BTreeMap::<String, Vec<Key>>::new();
        for meta in self.sink().list_all(&layout::anchors()).await? {
            if let Some(chain) = meta.key.as_str().split('/').nth(1) {
                chains.entry(chain.to_owned()).or_default().push(meta.key);
            }
        }
        chains.values_mut().for_each(|keys| keys.sort_by(|a, b| a.as_str().cmp(b.as_str())));
        Ok(chains)
    }

    /// The anchors of all chains, at most so many of the newest of each, and why others cannot be
    /// read.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn anchors(&self) -> Result<(Vec<Anchor>, Vec<Error>)> {
        let keys = self.anchor_keys().await?.into_values();
        let newest = keys.flat_map(|mut keys| keys.split_off(keys.len().saturating_sub(KEPT)));
        let read = |key: Key| async move { self.read_note::<Anchor>(&key).await };
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let (mut anchors, mut damaged) = (Vec::new(), Vec::new());
        let mut reading = futures::stream::iter(newest).map(read).buffered(concurrency);
        while let Some(read) = reading.next().await {
            match read {
                Ok(anchor) => anchors.extend(anchor),
                Err(error) if error.kind() == ErrorKind::Damaged => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((anchors, damaged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::crypto::Passphrase;
    use crate::repository::InitOptions;
    use crate::testing::MemorySink;

    fn anchor(chain: &str, sequence: u64) -> Anchor {
        let (host, place) = ("host".to_owned(), "/state/audit.jsonl".to_owned());
        Anchor {
            chain: chain.to_owned(),
            sequence,
            hash: "ab".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            host,
            place,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_newest_of_each_chain_are_kept_in_order() {
        let (sink, cx) = (std::sync::Arc::new(MemorySink::new()), Context::silent());
        let repository =
            Repository::init(sink, &Passphrase::generate(), &InitOptions::default(), &cx)
                .await
                .unwrap();
        for sequence in 1..=100 {
            repository.anchor(&anchor("a1", sequence)).await.unwrap();
        }
        repository.anchor(&anchor("b2", 7)).await.unwrap();
        let (found, damaged) = repository.anchors().await.unwrap();
        assert!(damaged.is_empty());
        let of = |chain: &'static str| {
            found.iter().filter(move |anchor| anchor.chain == chain).map(|anchor| anchor.sequence)
        };
        assert!(of("a1").eq(69..=100));
        assert!(of("b2").eq([7]));
        let kept = repository.sink().list_all(&layout::anchors()).await.unwrap().len();
        assert_eq!(
            kept,
            32 + 1,
            "thinned out at the last of them, and before the one of the other chain"
        );
        // A chain that was cut off and goes on replaces nothing.
        repository.anchor(&Anchor { hash: "cd".to_owned(), ..anchor("b2", 7) }).await.unwrap();
        let (found, _) = repository.anchors().await.unwrap();
        assert_eq!(found.iter().filter(|anchor| anchor.chain == "b2").count(), 2);
        let refused = repository.anchor(&anchor("../x", 1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

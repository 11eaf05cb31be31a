//! What a store really does. Some that call themselves compatible ignore the conditions of a
//! request without a word; what relies on conditions asks the verdict of this probe first.

use std::ops::Range;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Repository, layout};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{open_json, seal_json};
use crate::sink::{Key, Payload, Prefix, PutMode, Sink, SinkErrorKind, SinkOps};

/// Rivals of the race.
const RIVALS: usize = 8;
/// Clocks may differ by this much before it is reported: stores refuse signatures from 15 minutes on.
pub const LARGEST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a probe found out about a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreVerdict {
    /// Which store it is about: a repository that was moved is probed anew.
    pub store: String,
    /// When it was probed.
    pub probed: Timestamp,
    /// Creating what exists is refused.
    pub refuses_second_create: bool,
    /// Of rivals that create the same object at the same moment exactly one is told that it
    /// succeeded.
    pub one_winner: bool,
    /// What was put is in the next listing, and what was deleted is not.
    pub lists_at_once: bool,
    /// Ranges are what was asked for.
    pub ranges: bool,
    /// Objects can be deleted; `None` if these credentials may not.
    pub deletes: Option<bool>,
    /// By how many seconds the store's clock is ahead of this machine's; `None` if it does not say.
    pub clock_ahead_seconds: Option<i64>,
    /// Until when the config is locked, where objects are to be locked.
    pub config_locked_until: Option<Timestamp>,
}

impl StoreVerdict {
    /// Whether conditions hold, so that several maintainers and capturers can be told apart.
    #[must_use]
    pub fn creates_atomically(&self) -> bool {
        self.refuses_second_create && self.one_winner
    }

    /// What users should know, as sentences; empty if all is well.
    #[must_use]
    pub fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if !self.creates_atomically() {
            concerns.push(
                "This store ignores conditional requests. Backups may still run side by side. Run \
                 only one prune or repair, and only one log capture, at a time: the store does not \
                 prevent a second one."
                    .to_owned(),
            );
        }
        if !self.lists_at_once {
            concerns.push(
                "Listings of this store lag behind: a run may miss objects that another run has \
                 just stored."
                    .to_owned(),
            );
        }
        if !self.ranges {
            concerns.push(
                "This store returns other byte ranges than requested: restores will fail."
                    .to_owned(),
            );
        }
        if self.deletes == Some(false) {
            concerns.push("This store does not delete objects on request.".to_owned());
        }
        if let Some(ahead) =
            self.clock_ahead_seconds.filter(|ahead| ahead.abs() > LARGEST_SKEW.as_secs())
        {
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            concerns.push(format!(
                "The store's clock is {} seconds {direction} the clock of this machine: correct \
                 the wrong one.",
                ahead.abs()
            ));
        }
        concerns
    }
}

impl Repository {
    /// Tries out what the store does, with small objects under `x-probe/` that are deleted again,
    /// and keeps the verdict in the repository.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn probe_store(&self, cx: &Context) -> Result<StoreVerdict> {
        let mut verdict = probe(&**self.sink(), cx).await?;
        if let Some(custody) = self.sink().custody()
            && custody.lock_period().is_some()
        {
            verdict.config_locked_until = custody.locked_until(&layout::config()).await?;
        }
        self.sink().put_bytes(&layout::verdict(), seal_json(self.key(), &verdict)?).await?;
        Ok(verdict)
    }

    /// The verdict of an earlier probe of this very store.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn store_verdict(&self) -> Result<Option<StoreVerdict>> {
        let sealed = match self.sink().get_bytes(&layout::verdict()).await {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let verdict: Option<StoreVerdict> = open_json(self.key(), &sealed).ok();
        Ok(verdict.filter(|verdict| verdict.store == self.sink().to_string()))
    }

    /// Whether creating is atomic here: the sink claims it, and a probe agrees.
    pub(super) async fn creates_atomically(&self, cx: &Context) -> Result<bool> {
        if !self.sink().capabilities().conditional_put {
            return Ok(false);
        }
        match self.store_verdict().await? {
            Some(verdict) => Ok(verdict.creates_atomically()),
            None => Ok(self.probe_store(cx).await?.creates_atomically()),
        }
    }
}

async fn probe(sink: &dyn Sink, cx: &Context) -> Result<StoreVerdict> {
    let place = format!("x-probe/{}", hex::encode(rand::random::<[u8; 8]>()));
    let key = |name: &str| {
        Key::new(format!("{place}-{name}")).map_err(|error| Error::internal(error.to_string()))
    };
    let (once, race) = (key("once")?, key("race")?);
    let content: Vec<u8> = (0..=255).collect();
    sink.create(&once, content.clone()).await?;
    let refuses_second_create =
        !sink.create(&once, b"second".to_vec()).await? && sink.get_bytes(&once).await? == content;
    let before = cx.clock.now();
    sink.put_bytes(&once, content.clone()).await?;
    let after = cx.clock.now();
    let one_winner = winners(sink, &race).await? == 1;
    let prefix = Prefix::new("x-probe").map_err(|error| Error::internal(error.to_string()))?;
    let listed = sink.list_all(&prefix).await?;
    let seen = listed.iter().any(|meta| meta.key == once && meta.size == content.len() as u64);
    let ranges = has_ranges(sink, &once, &content).await?;
    // Somewhere between the two the store wrote it, if its clock is right.
    let ahead = |there: Timestamp| there.clamp(before, after).duration_until(there).as_secs();
    let clock_ahead_seconds = sink.head(&once).await?.last_modified.map(ahead);
    let deletes = delete(sink, &[once, race], &prefix).await?;
    Ok(StoreVerdict {
        store: sink.to_string(),
        probed: cx.clock.now(),
        refuses_second_create,
        one_winner,
        lists_at_once: seen,
        ranges,
        deletes,
        clock_ahead_seconds,
        config_locked_until: None,
    })
}

/// How many of several rivals are told that they created the object.
async fn winners(sink: &dyn Sink, key: &Key) -> Result<usize> {
    let rivals = (0..RIVALS).map(|rival| async move {
        // Different bytes: a rival whose answer was lost recognises its own.
        let payload = Payload::from(format!("rival {rival}").into_bytes());
        match sink.put(key, payload, PutMode::Create).await {
            Ok(_) => Ok(1),
            Err(error) if error.kind() == SinkErrorKind::AlreadyExists => Ok(0),
            Err(error) => Err(Error::from(error)),
        }
    });
    let mut sum = 0;
    for won in futures::future::join_all(rivals).await {
        sum += won?;
    }
    Ok(sum)
}

async fn has_ranges(sink: &dyn Sink, key: &Key, content: &[u8]) -> Result<bool> {
    let end = content.len() as u64;
    let mut all = true;
    for range in [0..1, 100..200, end - 1..end] {
        let Range { start, end } = range;
        let expected = content.iter().copied().skip(start as usize).take((end - start) as usize);
        match sink.get_range(key, start..end).await {
            Ok(bytes) => all &= bytes.iter().copied().eq(expected),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => all = false,
        }
    }
    Ok(all)
}

async fn delete(sink: &dyn Sink, keys: &[Key], prefix: &Prefix) -> Result<Option<bool>> {
    let mut answers = sink.delete(futures::stream::iter(keys.to_vec()).boxed());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) => {}
            Err(error) if error.kind() == SinkErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(!sink.list_all(prefix).await?.iter().any(|meta| keys.contains(&meta.key))))
}

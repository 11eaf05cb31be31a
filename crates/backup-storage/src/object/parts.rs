//! Uploads in parts: several at a time, each tried again by itself, and a completion whose response
//! was lost is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use backup_core::sink::{Key, Operation, PutOutcome, SinkError, SinkErrorKind, SinkResult};
use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, MultipartId, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use super::put::{attributes, lock_headers};
use super::{Kind, Parts};
use crate::retry::repeat;
use crate::wire::WireError;

/// Parts that are under way at a time; so much memory an upload takes besides what fills up.
const AT_A_TIME: usize = 4;

/// Size of parts. All but the last have the same, which some stores demand, until there would be
/// too many of them.
const PART: usize = 16 << 20;

/// Stores take 10 000 parts. After so many they grow, so that an object can have more than a
/// terabyte.
const SMALL_PARTS: usize = 2000;
const LARGE_PART: usize = 128 << 20;

/// Metadata by which an object is recognised as the one that this upload made.
const WRITE_ID: &str = "backup-write-id";

/// An upload that begins with its first part.
#[derive(Debug)]
pub(super) struct PartedUpload {
    parts: Arc<Parts>,
    key: Key,
    operation: Operation,
    cold: bool,
    write_id: String,
    begun: Option<(Path, MultipartId)>,
    under_way: JoinSet<(usize, SinkResult<PartId>)>,
    done: BTreeMap<usize, PartId>,
    /// Parts that were handed over. If one of them did not get as far as having a number, there
    /// would be a hole.
    taken: usize,
    next: usize,
    failed: bool,
    size: u64,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartedUpload {
    pub(super) fn new(parts: Arc<Parts>, key: Key, operation: Operation, cold: bool) -> Self {
        Self {
            parts,
            key,
            operation,
            cold,
            write_id: hex::encode(rand::random::<[u8; 16]>()),
            begun: None,
            under_way: JoinSet::new(),
            done: BTreeMap::new(),
            taken: 0,
            next: 0,
            failed: false,
            size: 0,
        }
    }

    /// How large the next part is to be, but for the last.
    pub(super) fn part_size(&self) -> usize {
        if self.next < SMALL_PARTS { PART } else { LARGE_PART }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// After a part has failed, or was given up while it was handed over, there is nothing to be
    /// continued.
    pub(super) fn check(&self) -> SinkResult<()> {
        if self.failed || self.taken != self.next {
            return Err(self.incomplete());
        }
        Ok(())
    }

    fn incomplete(&self) -> SinkError {
        SinkError::new(SinkErrorKind::Other, self.operation, &self.key)
            .with_source("a part of the object was not sent")
    }

    /// Sends a part as soon as one of the others is done. After an error, nothing else can be done
    /// than to abort.
    pub(super) async fn send(&mut self, part: Vec<Bytes>) -> SinkResult<()> {
        self.check()?;
        self.taken += 1;
        let (path, id) = self.begin().await?;
        while self.under_way.len() >= AT_A_TIME.min(self.parts.gate.most()) {
            self.join_one().await?;
        }
        let payload: PutPayload = part.into_iter().collect();
        let (parts, key, operation, number) =
            (Arc::clone(&self.parts), self.key.clone(), self.operation, self.next);
        self.next += 1;
        self.size += payload.content_length() as u64;
        self.under_way.spawn(async move {
            let result = repeat(parts.policy, || async {
                let sent = parts.store.put_part(&path, &id, number, payload.clone()).await;
                sent.map_err(|error| parts.error(&error, operation, &key))
            })
            .await;
            (number, result)
        });
        Ok(())
    }

    async fn begin(&mut self) -> SinkResult<(Path, MultipartId)> {
        if let Some(begun) = &self.begun {
            return Ok(begun.clone());
        }
        let path = self.parts.path(&self.key, self.operation)?;
        let begun = repeat(self.parts.policy, || async {
            let made = if self.parts.kind == Kind::Azure {
                self.parts.store.create_multipart(&path).await
            } else {
                self.parts.store.create_multipart_opts(&path, self.options()).await
            };
            made.map_err(|error| self.parts.error(&error, self.operation, &self.key))
        })
        .await?;
        Ok(self.begun.insert((path, begun)).clone())
    }

    fn options(&self) -> PutMultipartOptions {
        let mut attributes = attributes(&self.parts, self.cold);
        attributes.insert(Attribute::Metadata(WRITE_ID.into()), self.write_id.clone().into());
        let mut options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        if let Some(headers) = lock_headers(&self.parts, &self.key) {
            options.extensions.insert(headers);
        }
        options
    }

    async fn join_one(&mut self) -> SinkResult<()> {
        let error = match self.under_way.join_next().await {
            None => return Ok(()),
            Some(Ok((number, Ok(part)))) => {
                self.done.insert(number, part);
                return Ok(());
            }
            // This is one after all retries.
            Some(Ok((_, Err(error)))) => error,
            Some(Err(ended)) => {
                SinkError::new(SinkErrorKind::Other, self.operation, &self.key).with_source(ended)
            }
        };
        self.failed = true;
        Err(error)
    }

    /// Waits for the parts and makes the object visible.
    pub(super) async fn complete(&mut self) -> SinkResult<PutOutcome> {
        self.check()?;
        let (path, id) = self.begin().await?;
        while !self.under_way.is_empty() {
            self.join_one().await?;
        }
        // The store would put together whatever it is told to.
        if self.done.len() != self.taken {
            return Err(self.incomplete());
        }
        let done: Vec<PartId> = self.done.values().cloned().collect();
        let outcome =
            repeat(self.parts.policy, || self.complete_once(&path, &id, done.clone())).await?;
        self.begun = None;
        Ok(outcome)
    }

    /// Asks for completion. Whatever the answer: if the object is the one of this upload, it is
    /// complete.
    async fn complete_once(
        &self,
        path: &Path,
        id: &MultipartId,
        done: Vec<PartId>,
    ) -> SinkResult<PutOutcome> {
        let error = match self.parts.store.complete_multipart(path, id, done).await {
            Ok(result) => return Ok(PutOutcome { sha256: None, etag: result.e_tag }),
            Err(error) => error,
        };
        let options = GetOptions { head: true, ..GetOptions::default() };
        if let Ok(found) = self.parts.store.get_opts(path, options).await
            && found.meta.size == self.size
            && found
                .attributes
                .get(&Attribute::Metadata(WRITE_ID.into()))
                .is_some_and(|id| **id == *self.write_id)
        {
            return Ok(PutOutcome { sha256: None, etag: found.meta.e_tag });
        }
        let mapped = self.parts.error(&error, self.operation, &self.key);
        if mapped.kind() == SinkErrorKind::NotFound {
            // Of the upload, not of the object; the caller begins again.
            return Err(SinkError::new(SinkErrorKind::Other, self.operation, &self.key)
                .with_source(WireError::words_of(&error)));
        }
        Err(mapped)
    }

    /// Whether the store told the checksum of every part, which are compared with what was sent
    /// (`wire/extras.rs`).
    pub(super) fn is_confirmed(&self) -> bool {
        !self.done.is_empty()
            && self.done.values().all(|part| part.content_id.contains("<checksum_sha256>"))
    }

    /// Throws away what was sent.
    pub(super) async fn abort(&mut self) -> SinkResult<()> {
        self.under_way.shutdown().await;
        let Some((path, id)) = self.begun.take() else { return Ok(()) };
        abort(&self.parts, &self.key, &path, &id).await
    }
}

async fn abort(parts: &Parts, key: &Key, path: &Path, id: &MultipartId) -> SinkResult<()> {
    match parts
        .store
        .abort_multipart(path, id)
        .await
        .map_err(|error| parts.error(&error, Operation::Upload, key))
    {
        Err(error)
            if !matches!(error.kind(), SinkErrorKind::NotFound | SinkErrorKind::Unsupported) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

impl Drop for PartedUpload {
    /// Without a runtime the store keeps the parts until they are
    /// [cleared](backup_core::sink::Custody::clear_unfinished).
    fn drop(&mut self) {
        let Some((path, id)) = self.begun.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (parts, key) = (Arc::clone(&self.parts), self.key.clone());
        let mut under_way = std::mem::take(&mut self.under_way);
        runtime.spawn(async move {
            under_way.shutdown().await;
            abort(&parts, &key, &path, &id).await.ok();
        });
    }
}

//! Uploads of unknown length.

use std::sync::Arc;

use async_trait::async_trait;
use backup_core::sink::{
    Effect, Key, Operation, Payload, PutMode, PutOutcome, SinkError, SinkResult, Upload,
};
use bytes::Bytes;

use super::parts::PartedUpload;
use super::{Parts, put};
use crate::retry::repeat;

/// Collects what it is given until it is a part of the size that stores want. What never fills one
/// is put at once.
///
/// After an error it is of no use any more: what was handed over may be lost or half taken.
#[derive(Debug)]
pub(super) struct ObjectUpload {
    parts: Arc<Parts>,
    key: Key,
    upload: PartedUpload,
    held: Vec<Bytes>,
    len: usize,
}

impl ObjectUpload {
    pub(super) fn new(parts: Arc<Parts>, key: Key) -> Self {
        let upload = PartedUpload::new(Arc::clone(&parts), key.clone(), Operation::Upload, false);
        Self { parts, key, upload, held: Vec::new(), len: 0 }
    }
}

/// Some of the part was taken: whoever sent it again would have that twice in the object.
fn for_good(error: SinkError, key: &Key) -> SinkError {
    if error.effect() == Effect::Unknown {
        return error;
    }
    SinkError::new(error.kind(), error.operation(), key).with_source(error)
}

#[async_trait]
impl Upload for ObjectUpload {
    async fn put_part(&mut self, mut part: Bytes) -> SinkResult<()> {
        self.upload.check()?;
        while !part.is_empty() {
            let room = self.upload.part_size() - self.len;
            let piece = part.split_to(part.len().min(room));
            self.len += piece.len();
            self.held.push(piece);
            if self.len == self.upload.part_size() {
                self.len = 0;
                let sent = self.upload.send(std::mem::take(&mut self.held)).await;
                sent.map_err(|error| for_good(error, &self.key))?;
            }
        }
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> SinkResult<PutOutcome> {
        self.upload.check()?;
        let held = std::mem::take(&mut self.held);
        if self.upload.has_begun() {
            if !held.is_empty() {
                self.upload.send(held).await?;
            }
            return self.upload.complete().await;
        }
        // The layer above repeats nothing of an upload's end; this end can be repeated.
        let payload = Payload::from_segments(held);
        repeat(self.parts.policy, || {
            put::put(&self.parts, &self.key, payload.clone(), PutMode::Overwrite)
        })
        .await
    }

    async fn abort(mut self: Box<Self>) -> SinkResult<()> {
        self.upload.abort().await
    }
}

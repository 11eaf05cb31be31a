//! Storing objects, in one request or in parts.

use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::sink::{
    Key, Operation, Payload, PutMode, PutOutcome, SinkError, SinkErrorKind, SinkResult,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use md5::Md5;
use object_store::{Attribute, Attributes, PutOptions, PutPayload};
use sha2::{Digest, Sha256};

use super::{Kind, Parts, parts::PartedUpload, proof::is_believed, read};
use crate::settings::LockMode;
use crate::wire::{Confirmed, Digests, Headers, WireError};

/// Payloads above this are put in parts, so that several go at a time and a failure does not cost
/// everything.
const LARGE: usize = 64 << 20;

/// Most that the stores take in one request.
const LARGEST: usize = 5_000_000_000;

/// Prefixes whose objects are locked: what a repository cannot do without. Side-cars and leases
/// must be deletable.
const LOCKED: [&str; 4] = ["data/", "index/", "snapshots/", "keys/"];

pub(super) async fn put(
    parts: &Arc<Parts>,
    key: &Key,
    payload: Payload,
    mode: PutMode,
) -> SinkResult<PutOutcome> {
    // A condition cannot be put on the end of an upload in parts.
    if mode == PutMode::Overwrite && payload.len() > LARGE {
        return put_large(parts, key, &payload).await;
    }
    if payload.len() > LARGEST {
        return Err(SinkError::new(SinkErrorKind::Invalid, Operation::Put, key)
            .with_source("the object is too large to be created in one request")
            .without_effect());
    }
    let path = parts.path(key, Operation::Put)?;
    let mut options = PutOptions {
        mode: match mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Overwrite => object_store::PutMode::Overwrite,
        },
        attributes: attributes(parts, payload.is_cold()),
        ..PutOptions::default()
    };
    if let Some(mut headers) = lock_headers(parts, key) {
        // Besides the checksum itself, locks demand its name.
        headers.0.push((
            HeaderName::from_static("x-amz-sdk-checksum-algorithm"),
            HeaderValue::from_static("SHA256"),
        ));
        options.extensions.insert(headers);
    }
    if parts.kind != Kind::S3 {
        options.extensions.insert(digests(&payload, parts.kind == Kind::Gcs).await);
    }
    let body: PutPayload = payload.segments().iter().cloned().collect();
    match parts.store.put_opts(&path, body, options).await {
        Ok(result) => {
            let mut sha256 = result.extensions.get::<Confirmed>().map(|confirmed| confirmed.sha256);
            if sha256.is_some() && !is_believed(parts).await {
                sha256 = None;
            }
            Ok(PutOutcome { sha256, etag: result.e_tag })
        }
        Err(error) if mode == PutMode::Create && is_conflict(&error).is_some() => {
            Err(conflict(parts, key, &error).await)
        }
        Err(error) => Err(parts.error(&error, Operation::Put, key)),
    }
}

/// The status with which a condition was refused.
fn is_conflict(error: &object_store::Error) -> Option<u16> {
    match WireError::find(error) {
        // Azure also says 409 about archives and leases.
        Some(WireError::Refused(refusal)) if matches!(refusal.status, 304 | 409 | 412) => {
            let other =
                matches!(&*refusal.code, "BlobArchived" | "OperationAborted" | "NoSuchBucket")
                    || refusal.code.starts_with("ExistingObject");
            (!other).then_some(refusal.status)
        }
        Some(_) => None,
        None => matches!(error, object_store::Error::AlreadyExists { .. }).then_some(412),
    }
}

/// Whether it really exists: some stores answer rivals with a conflict before any of them has won.
async fn conflict(parts: &Parts, key: &Key, error: &object_store::Error) -> SinkError {
    let exists = SinkError::new(SinkErrorKind::AlreadyExists, Operation::Put, key).without_effect();
    let again = |why: &str| {
        SinkError::new(SinkErrorKind::Unavailable, Operation::Put, key)
            .with_source(why.to_owned())
            .without_effect()
    };
    match read::head(parts, key, Operation::Put).await {
        Ok(_) => exists,
        Err(error) if error.kind() == SinkErrorKind::NotFound => {
            again("the store reported a conflict, but the object does not exist")
        }
        // Who may write but not look must believe a definite answer.
        Err(_) if is_conflict(error) == Some(412) => exists,
        Err(_) => again("the store reported a conflict, and the object cannot be inspected"),
    }
}

/// Parts of a payload that is in memory share it.
async fn put_large(parts: &Arc<Parts>, key: &Key, payload: &Payload) -> SinkResult<PutOutcome> {
    let mut upload =
        PartedUpload::new(Arc::clone(parts), key.clone(), Operation::Put, payload.is_cold());
    let size = upload.part_size();
    let mut part = Vec::new();
    let mut len = 0;
    let outcome = async {
        for segment in payload.segments() {
            let mut rest = segment.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(size - len));
                len += piece.len();
                part.push(piece);
                if len == size {
                    upload.send(std::mem::take(&mut part)).await?;
                    len = 0;
                }
            }
        }
        if !part.is_empty() {
            upload.send(part).await?;
        }
        upload.complete().await
    }
    .await;
    let mut outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            upload.abort().await.ok();
            return Err(error);
        }
    };
    // The store confirmed every part, which together are the object.
    if upload.is_confirmed() && is_believed(parts).await {
        let payload = payload.clone();
        outcome.sha256 = tokio::task::spawn_blocking(move || sha256(payload.segments())).await.ok();
    }
    Ok(outcome)
}

fn sha256(segments: &[Bytes]) -> [u8; 32] {
    let mut sha256 = Sha256::new();
    for segment in segments {
        sha256.update(segment);
    }
    sha256.finalize().into()
}

/// Storage class: what is read only by restores may be in a cheaper one.
pub(super) fn attributes(parts: &Parts, cold: bool) -> Attributes {
    let mut attributes = Attributes::new();
    if let (Some(class), true) = (&parts.storage_class, cold) {
        attributes.insert(Attribute::StorageClass, class.clone().into());
    }
    attributes
}

/// The headers that lock a new object, where it is to be locked.
pub(super) fn lock_headers(parts: &Parts, key: &Key) -> Option<Headers> {
    let lock = parts.lock?;
    let name = key.as_str();
    if name != "config" && !LOCKED.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let until = SystemClock.now().checked_add(lock.period()).ok()?;
    let until = HeaderValue::from_str(&until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).ok()?;
    let mode = HeaderValue::from_static(mode_name(lock.mode));
    Some(Headers(vec![
        (HeaderName::from_static("x-amz-object-lock-mode"), mode),
        (HeaderName::from_static("x-amz-object-lock-retain-until-date"), until),
    ]))
}

pub(super) fn mode_name(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

/// Digests of a payload, computed where they do not hold others up.
async fn digests(payload: &Payload, send: bool) -> Digests {
    let segments: Vec<Bytes> = payload.segments().to_vec();
    let compute = move || {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        for segment in &segments {
            sha256.update(segment);
            md5.update(segment);
        }
        Digests { sha256: sha256.finalize().into(), md5: md5.finalize().into(), send }
    };
    match payload.len() {
        0..=65_536 => compute(),
        _ => match tokio::task::spawn_blocking(compute.clone()).await {
            Ok(digests) => digests,
            // Only when the runtime is ending.
            Err(_) => compute(),
        },
    }
}

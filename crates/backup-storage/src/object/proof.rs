//! Whether a store that tells the checksum of what it received has looked at what it received.
//!
//! Some only send back the header that came with the request. What they say proves nothing, and a
//! put must not count as verified because of it. So before the first such word is believed, the
//! store is put to the test: it gets a small object, `x-probe/checksum`, with the checksum of other
//! bytes. Only a store that refuses it (or tells another checksum than it was given) computes them
//! itself. That is one request for every sink that is opened and writes (one more to delete the
//! object, where it was accepted).

use std::sync::atomic::{AtomicUsize, Ordering};

use backup_core::sink::{Key, Operation};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue};
use md5::Md5;
use object_store::path::Path;
use object_store::{PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::delete::delete_one;
use super::{Kind, Parts};
use crate::wire::{Digests, Headers, Refusal, WireError};

const NAME: &str = "x-probe/checksum";
const CONTENT: &[u8] = b"the checksum of this object is wrong";
const OTHER: &[u8] = b"another content";

/// So often an answer that is neither is asked for again (with a later put), before the store is
/// not believed.
const MOST: usize = 3;

/// What is known of a store's checksums.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    believed: OnceCell<bool>,
    tried: AtomicUsize,
}

/// The test was neither passed nor failed.
struct Undecided;

/// Whether the store checks what it confirms.
pub(super) async fn is_believed(parts: &Parts) -> bool {
    // Azure is sent no checksum that it could send back.
    if parts.kind == Kind::Azure {
        return true;
    }
    let proof = &parts.proof;
    let test = async || match test(parts).await {
        Err(Undecided) if proof.tried.fetch_add(1, Ordering::Relaxed) + 1 < MOST => Err(Undecided),
        decided => Ok(decided.unwrap_or(false)),
    };
    proof.believed.get_or_try_init(test).await.is_ok_and(|believed| *believed)
}

async fn test(parts: &Parts) -> Result<bool, Undecided> {
    let Some(path) = Key::new(NAME).ok().and_then(|key| parts.path(&key, Operation::Put).ok())
    else {
        return Ok(false);
    };
    let mut options = PutOptions::default();
    let sha256 = Sha256::digest(OTHER);
    if parts.kind == Kind::S3 {
        let Ok(wrong) = HeaderValue::from_str(&BASE64_STANDARD.encode(sha256)) else {
            return Ok(false);
        };
        options
            .extensions
            .insert(Headers(vec![(HeaderName::from_static("x-amz-checksum-sha256"), wrong)]));
    } else {
        let md5 = Md5::digest(OTHER).into();
        options.extensions.insert(Digests { sha256: sha256.into(), md5, send: true });
    }
    let Err(error) = parts.store.put_opts(&path, PutPayload::from_static(CONTENT), options).await
    else {
        remove(parts, path).await;
        return Ok(false);
    };
    match WireError::find(&error) {
        Some(WireError::Refused(refusal)) => judge(refusal),
        // It accepted the object and told the checksum of what it received, and not what it was
        // given.
        Some(WireError::Checksum) => {
            remove(parts, path).await;
            Ok(true)
        }
        _ => Err(Undecided),
    }
}

/// Only a refusal because of the checksum is one that counts.
fn judge(refusal: &Refusal) -> Result<bool, Undecided> {
    let message = refusal.message.to_ascii_lowercase();
    match (&*refusal.code, refusal.status) {
        (
            "BadDigest"
            | "InvalidDigest"
            | "InvalidChecksum"
            | "ChecksumMismatch"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch",
            _,
        ) => Ok(true),
        // Of many things that may be wrong with a request; the message tells which.
        ("InvalidRequest" | "InvalidArgument", _)
            if ["checksum", "digest", "sha256", "content-md5"]
                .iter()
                .any(|word| message.contains(word)) =>
        {
            Ok(true)
        }
        (_, 408 | 429 | 500..=599) => Err(Undecided),
        _ => Ok(false),
    }
}

/// Who may not delete leaves one small object there, always the same one.
async fn remove(parts: &Parts, path: Path) {
    if let Err(error) = delete_one(&*parts.one_by_one, path).await {
        tracing::debug!("cannot delete {NAME}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_because_of_the_checksum_counts() {
        let refusal = |status, code: &str, message: &str| Refusal {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            ..Refusal::default()
        };
        for (refusal, verdict) in [
            (refusal(400, "BadDigest", ""), Some(true)),
            (refusal(400, "XAmzContentSHA256Mismatch", ""), Some(true)),
            (
                refusal(
                    400,
                    "InvalidRequest",
                    "Value for x-amz-checksum-sha256 header is invalid.",
                ),
                Some(true),
            ),
            (refusal(400, "InvalidRequest", "Missing required header"), Some(false)),
            (refusal(403, "AccessDenied", ""), Some(false)),
            (refusal(400, "", ""), Some(false)),
            (refusal(503, "SlowDown", ""), None),
        ] {
            assert_eq!(judge(&refusal).ok(), verdict, "{refusal}");
        }
    }
}

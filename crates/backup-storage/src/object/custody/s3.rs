//! S3: object lock, Glacier.

use std::time::Duration;

use async_trait::async_trait;
use backup_core::sink::{
    Availability, Custody, Key, Operation, SinkError, SinkErrorKind, SinkResult, ThawSpeed,
};
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;

use super::{Raw, unfinished};
use crate::object::Lock;
use crate::object::put::mode_name;
use crate::settings::LockMode;
use crate::wire::{Refusal, WireError, tag};

/// Locks, archives and unfinished uploads of S3.
#[derive(Debug)]
pub(in crate::object) struct S3Custody {
    pub(in crate::object) raw: Raw,
    pub(in crate::object) lock: Option<Lock>,
}

/// What the store tells of an object's lock.
enum Retention {
    Locked {
        mode: String,
        until: Timestamp,
    },
    /// It could be locked.
    Free,
    /// There are no locks here.
    Unknown(String),
}

impl S3Custody {
    async fn send(
        &self,
        method: Method,
        key: &Key,
        query: &str,
        body: String,
    ) -> Result<object_store::client::HttpResponse, WireError> {
        self.raw.send(method, &self.raw.name(key), query, Bytes::from(body)).await
    }

    /// Stores that do not know this request may answer with the object itself, and would replace it
    /// by a description of a lock. Hence the answer must be such a description before anything else
    /// is asked for.
    async fn retention(&self, key: &Key) -> SinkResult<Retention> {
        let failed = |error: &WireError| self.raw.error(error, Operation::Head, key.as_str());
        let response = match self.send(Method::GET, key, "retention=", String::new()).await {
            Ok(response) => response,
            Err(WireError::Refused(refusal)) if is_no_lock(&refusal) => {
                // Only of what is there.
                self.head(key).await?;
                // Both are said of an object, in a bucket that may have locks. If it has none, the
                // next request is refused.
                let free = refusal.code.ends_with("ObjectLockConfiguration")
                    || refusal.code == "ObjectLockConfigurationNotFoundError";
                return Ok(if free {
                    Retention::Free
                } else {
                    Retention::Unknown(refusal.to_string())
                });
            }
            Err(error) => return Err(failed(&error)),
        };
        let length = response
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_RETENTION) {
            return self.retention_by_head(key).await;
        }
        let Ok(text) = Raw::text(response).await else { return self.retention_by_head(key).await };
        let until = tag(&text, "RetainUntilDate").map(str::parse);
        match (text.contains("<Retention"), tag(&text, "Mode"), until) {
            (true, Some(mode), Some(Ok(until))) => {
                Ok(Retention::Locked { mode: mode.to_owned(), until })
            }
            (true, None, None) => Ok(Retention::Free),
            _ => self.retention_by_head(key).await,
        }
    }

    /// Some stores know locks and not this way to ask for them; what is locked shows in the headers
    /// of the object.
    async fn retention_by_head(&self, key: &Key) -> SinkResult<Retention> {
        let headers = self.head(key).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let until = text("x-amz-object-lock-retain-until-date").map(str::parse);
        Ok(match (text("x-amz-object-lock-mode"), until) {
            (Some(mode), Some(Ok(until))) => Retention::Locked { mode: mode.to_owned(), until },
            _ => Retention::Unknown("the store answered without a valid object lock".to_owned()),
        })
    }

    async fn head(&self, key: &Key) -> SinkResult<HeaderMap> {
        match self.send(Method::HEAD, key, "", String::new()).await {
            Ok(response) => Ok(response.headers().clone()),
            Err(error) => Err(self.raw.error(&error, Operation::Head, key.as_str())),
        }
    }
}

/// A description of a lock is not longer than this.
const MAX_RETENTION: u64 = 4096;

/// Answers about objects without a lock, and about those of buckets that have no locks.
fn is_no_lock(refusal: &Refusal) -> bool {
    matches!(
        &*refusal.code,
        "NoSuchObjectLockConfiguration"
            | "ObjectLockConfigurationNotFoundError"
            | "InvalidRequest"
            | "NotImplemented"
    ) || matches!(refusal.status, 405 | 501)
        || (refusal.status == 404 && refusal.code != "NoSuchKey" && refusal.code != "NoSuchBucket")
}

fn no_locks(key: &Key, why: String) -> SinkError {
    SinkError::new(SinkErrorKind::Unsupported, Operation::Put, key)
        .with_source(why)
        .with_hint("enable object lock for the bucket")
        .without_effect()
}

fn availability(headers: &HeaderMap) -> Availability {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let restore = text("x-amz-restore");
    if restore.contains("ongoing-request=\"true\"") {
        return Availability::Thawing;
    }
    let expiry = restore.split_once("expiry-date=\"").and_then(|(_, rest)| rest.split('"').next());
    if let Some(until) = expiry.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
        return Availability::Thawed { until: until.timestamp() };
    }
    let is_archived = matches!(text("x-amz-storage-class"), "GLACIER" | "DEEP_ARCHIVE")
        || !text("x-amz-archive-status").is_empty();
    if is_archived { Availability::Archived } else { Availability::Ready }
}

#[async_trait]
impl Custody for S3Custody {
    fn lock_period(&self) -> Option<Duration> {
        self.lock.map(Lock::period)
    }

    async fn locked_until(&self, key: &Key) -> SinkResult<Option<Timestamp>> {
        match self.retention(key).await? {
            Retention::Locked { until, .. } => Ok(Some(until)),
            Retention::Free | Retention::Unknown(_) => Ok(None),
        }
    }

    async fn lock_until(&self, key: &Key, until: Timestamp) -> SinkResult<()> {
        let wanted = mode_name(self.lock.map_or(LockMode::Governance, |lock| lock.mode));
        let mode = match self.retention(key).await? {
            Retention::Unknown(why) => return Err(no_locks(key, why)),
            Retention::Locked { until: already, .. } if already >= until => return Ok(()),
            // A lock is never weakened.
            Retention::Locked { mode, .. } if mode == "COMPLIANCE" => "COMPLIANCE",
            Retention::Locked { .. } | Retention::Free => wanted,
        };
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        match self.send(Method::PUT, key, "retention=", body).await {
            Ok(_) => Ok(()),
            Err(WireError::Refused(refusal)) if is_no_lock(&refusal) => {
                Err(no_locks(key, refusal.to_string()))
            }
            Err(error) => Err(self.raw.error(&error, Operation::Put, key.as_str())),
        }
    }

    async fn availability(&self, key: &Key) -> SinkResult<Availability> {
        Ok(availability(&self.head(key).await?))
    }

    async fn thaw(&self, key: &Key, days: u32, speed: ThawSpeed) -> SinkResult<()> {
        let headers = self.head(key).await?;
        if matches!(availability(&headers), Availability::Ready | Availability::Thawing) {
            return Ok(());
        }
        let tier = match speed {
            ThawSpeed::Expedited => "Expedited",
            ThawSpeed::Standard => "Standard",
            ThawSpeed::Bulk => "Bulk",
        };
        // Objects that move between tiers by themselves come back for good.
        let days = match headers.contains_key("x-amz-archive-status") {
            true => String::new(),
            false => format!("<Days>{}</Days>", days.max(1)),
        };
        let body = format!(
            "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{days}<GlacierJobParameters>\
             <Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
        );
        match self.send(Method::POST, key, "restore=", body).await {
            Ok(_) => Ok(()),
            Err(WireError::Refused(refusal)) if refusal.code == "RestoreAlreadyInProgress" => {
                Ok(())
            }
            Err(error) => Err(self.raw.error(&error, Operation::Put, key.as_str())),
        }
    }

    async fn clear_unfinished(&self, before: Timestamp) -> SinkResult<u64> {
        unfinished::clear(&self.raw, before).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_whether_an_object_can_be_read() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            availability(
                &pairs
                    .iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect(),
            )
        };
        assert_eq!(of(&[]), Availability::Ready);
        assert_eq!(of(&[("x-amz-storage-class", "GLACIER_IR")]), Availability::Ready);
        let cold = ("x-amz-storage-class", "DEEP_ARCHIVE");
        assert_eq!(of(&[cold]), Availability::Archived);
        assert_eq!(
            of(&[cold, ("x-amz-restore", "ongoing-request=\"true\"")]),
            Availability::Thawing
        );
        let thawed = (
            "x-amz-restore",
            "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"",
        );
        let until = "2012-12-21T00:00:00Z".parse().unwrap();
        assert_eq!(of(&[cold, thawed]), Availability::Thawed { until });
        assert_eq!(of(&[("x-amz-archive-status", "ARCHIVE_ACCESS")]), Availability::Archived);
    }
}

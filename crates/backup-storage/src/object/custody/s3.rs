//! S3: object lock, Glacier.

use std::time::Duration;

use async_trait::async_trait;
use backup_core::sink::{Availability, Custody, Key, Operation, SinkResult, ThawSpeed};
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;

use super::{Raw, unfinished};
use crate::object::Lock;
use crate::object::put::mode_name;
use crate::settings::LockMode;
use crate::wire::{WireError, tag};

/// Locks, archives and unfinished uploads of S3.
#[derive(Debug)]
pub(in crate::object) struct S3Custody {
    pub(in crate::object) raw: Raw,
    pub(in crate::object) lock: Option<Lock>,
}

/// A lock as the store tells it.
struct Retention {
    mode: String,
    until: Timestamp,
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

    async fn retention(&self, key: &Key) -> SinkResult<Option<Retention>> {
        let failed = |error: &WireError| self.raw.error(error, Operation::Head, key.as_str());
        let text = match self.send(Method::GET, key, "retention=", String::new()).await {
            Ok(response) => Raw::text(response).await.map_err(|error| failed(&error))?,
            Err(WireError::Refused(refusal)) if is_no_lock(&refusal.code, refusal.status) => {
                // Only of what is there.
                self.head(key).await?;
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        let until = tag(&text, "RetainUntilDate").map(str::parse);
        match (tag(&text, "Mode"), until) {
            (Some(mode), Some(Ok(until))) => Ok(Some(Retention { mode: mode.to_owned(), until })),
            (None, None) => Ok(None),
            _ => Err(failed(&WireError::Response("it is no description of a lock".to_owned()))),
        }
    }

    async fn head(&self, key: &Key) -> SinkResult<HeaderMap> {
        match self.send(Method::HEAD, key, "", String::new()).await {
            Ok(response) => Ok(response.headers().clone()),
            Err(error) => Err(self.raw.error(&error, Operation::Head, key.as_str())),
        }
    }
}

/// Objects without a lock, and those of buckets that have no locks.
fn is_no_lock(code: &str, status: u16) -> bool {
    matches!(
        code,
        "NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError" | "InvalidRequest" | "NotImplemented"
    ) || status == 501
        || (status == 404 && code != "NoSuchKey" && code != "NoSuchBucket")
}

fn availability(headers: &HeaderMap) -> Availability {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let restore = text("x-amz-restore");
    if restore.contains("ongoing-request=\"true\"") {
        return Availability::Thawing;
    }
    let expiry = restore.split_once("expiry-date=\"").and_then(|(_, rest)| rest.split('"').next());
    if let Some(until) = expiry.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
        return Availability::Thawed { until: until.timestamp() };
    }
    let is_archived =
        matches!(text("x-amz-storage-class"), "GLACIER" | "DEEP_ARCHIVE") || !text("x-amz-archive-status").is_empty();
    if is_archived { Availability::Archived } else { Availability::Ready }
}

#[async_trait]
impl Custody for S3Custody {
    fn lock_period(&self) -> Option<Duration> {
        self.lock.map(Lock::period)
    }

    async fn locked_until(&self, key: &Key) -> SinkResult<Option<Timestamp>> {
        Ok(self.retention(key).await?.map(|retention| retention.until))
    }

    async fn lock_until(&self, key: &Key, until: Timestamp) -> SinkResult<()> {
        let now = self.retention(key).await?;
        if now.as_ref().is_some_and(|retention| retention.until >= until) {
            return Ok(());
        }
        let wanted = mode_name(self.lock.map_or(LockMode::Governance, |lock| lock.mode));
        // A lock is never weakened.
        let mode = match &now {
            Some(retention) if retention.mode == "COMPLIANCE" => "COMPLIANCE",
            _ => wanted,
        };
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        match self.send(Method::PUT, key, "retention=", body).await {
            Ok(_) => Ok(()),
            Err(WireError::Refused(refusal)) if is_no_lock(&refusal.code, refusal.status) => {
                use backup_core::sink::{SinkError, SinkErrorKind};
                Err(SinkError::new(SinkErrorKind::Unsupported, Operation::Put, key)
                    .with_source(refusal.to_string())
                    .with_hint("object lock has to be switched on for the bucket")
                    .without_effect())
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
            Err(WireError::Refused(refusal)) if refusal.code == "RestoreAlreadyInProgress" => Ok(()),
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
            availability(&pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
        };
        assert_eq!(of(&[]), Availability::Ready);
        assert_eq!(of(&[("x-amz-storage-class", "GLACIER_IR")]), Availability::Ready);
        let cold = ("x-amz-storage-class", "DEEP_ARCHIVE");
        assert_eq!(of(&[cold]), Availability::Archived);
        assert_eq!(of(&[cold, ("x-amz-restore", "ongoing-request=\"true\"")]), Availability::Thawing);
        let thawed = ("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"");
        let until = "2012-12-21T00:00:00Z".parse().unwrap();
        assert_eq!(of(&[cold, thawed]), Availability::Thawed { until });
        assert_eq!(of(&[("x-amz-archive-status", "ARCHIVE_ACCESS")]), Availability::Archived);
    }
}

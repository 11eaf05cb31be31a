//! Finding and aborting unfinished uploads. S3 and Google speak the same language here.

use backup_core::sink::{Operation, SinkResult};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Raw, encoded};
use crate::wire::WireError;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default)]
    upload: Vec<Unfinished>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    key: String,
    upload_id: String,
    initiated: Timestamp,
}

/// Beginnings of the names that a repository gives to its objects, besides `config`.
const OURS: [&str; 6] = ["data/", "index/", "snapshots/", "keys/", "locks/", "x-"];

/// Whether an object of that name is one of a repository at `ours`, which ends with a slash or is
/// empty. A bucket may be shared, and a prefix may be empty or hold other things as well.
fn is_ours(name: &str, ours: &str) -> bool {
    name.strip_prefix(ours).is_some_and(|name| {
        name == "config" || OURS.iter().any(|beginning| name.starts_with(beginning))
    })
}

/// Aborts what was begun before that time and is ours; says how much there was.
pub(super) async fn clear(raw: &Raw, before: Timestamp) -> SinkResult<u64> {
    let ours = if raw.prefix.is_empty() { String::new() } else { format!("{}/", raw.prefix) };
    let mut old = Vec::new();
    let mut markers = (String::new(), String::new());
    loop {
        let page = page(raw, &ours, &markers)
            .await
            .map_err(|error| raw.error(&error, Operation::List, ""))?;
        // A store that ignores the prefix must not cost others their uploads.
        old.extend(
            page.upload
                .into_iter()
                .filter(|upload| is_ours(&upload.key, &ours) && upload.initiated < before),
        );
        let next = (page.next_key_marker, page.next_upload_id_marker);
        if !page.is_truncated || next == markers {
            break;
        }
        markers = next;
    }
    let mut count = 0;
    for upload in old {
        let query = format!("uploadId={}", encoded(&upload.upload_id));
        match raw.send(Method::DELETE, &upload.key, &query, bytes::Bytes::new()).await {
            Ok(_) => count += 1,
            // Somebody else has finished or aborted it.
            Err(WireError::Refused(refusal)) if refusal.status == 404 => {}
            Err(error) => return Err(raw.error(&error, Operation::Delete, &upload.key)),
        }
    }
    Ok(count)
}

async fn page(raw: &Raw, ours: &str, markers: &(String, String)) -> Result<Page, WireError> {
    // In the order in which they are signed.
    let mut query = String::new();
    if !markers.0.is_empty() {
        query.push_str(&format!("key-marker={}&", encoded(&markers.0)));
    }
    query.push_str(&format!("prefix={}", encoded(ours)));
    if !markers.1.is_empty() {
        query.push_str(&format!("&upload-id-marker={}", encoded(&markers.1)));
    }
    query.push_str("&uploads=");
    let response = raw.send(Method::GET, "", &query, bytes::Bytes::new()).await?;
    let text = Raw::text(response).await?;
    quick_xml::de::from_str(&text).map_err(|error| WireError::Response(error.to_string()))
}

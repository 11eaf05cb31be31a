//! Locks, archives, unfinished uploads: what is no part of `object_store`'s interface.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Raw`]: requests by hand, over the same wire |
//! | `s3.rs` | [`S3Custody`]: object lock, Glacier |
//! | `gcs.rs` | [`GcsCustody`]: unfinished uploads only |
//! | `unfinished.rs` | finding and aborting unfinished uploads |

mod gcs;
mod s3;
mod unfinished;

use std::fmt;

use backup_core::sink::{Key, Operation, SinkError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::Method;
use md5::{Digest as _, Md5};
use object_store::client::{HttpRequestBody, HttpResponse};
use object_store::gcp::GcpCredentialProvider;
use sha2::Sha256;

use super::error::Place;
use super::{Kind, error};
use crate::settings::Secret;
use crate::wire::{Wire, WireError};

pub(super) use gcs::GcsCustody;
pub(super) use s3::S3Custody;

/// Requests by hand, over the same wire as all others.
pub(super) struct Raw {
    pub(super) wire: Wire,
    /// Address of the bucket, without a slash at its end.
    pub(super) address: String,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) kind: Kind,
    /// Google's credentials; those of S3 are the wire's business.
    pub(super) bearer: Option<GcpCredentialProvider>,
    /// Base64 form of the key of SSE-C.
    pub(super) customer_key: Option<Secret>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({})", self.address)
    }
}

impl Raw {
    /// The full name of an object.
    fn name(&self, key: &Key) -> String {
        if self.prefix.is_empty() { key.to_string() } else { format!("{}/{key}", self.prefix) }
    }

    /// Sends a request about an object (`""` for the bucket). The query is as it goes into the
    /// address.
    async fn send(
        &self,
        method: Method,
        name: &str,
        query: &str,
        body: Bytes,
    ) -> Result<HttpResponse, WireError> {
        let mut uri = self.address.clone();
        if !name.is_empty() {
            for segment in name.split('/') {
                uri.push('/');
                uri.push_str(&encoded(segment));
            }
        }
        if !query.is_empty() {
            uri.push('?');
            uri.push_str(query);
        }
        let mut request = http::Request::builder().method(&method).uri(uri);
        if !body.is_empty() {
            request = request
                .header("content-type", "application/xml")
                .header("content-length", body.len())
                .header("content-md5", BASE64_STANDARD.encode(Md5::digest(&body)));
            if self.kind == Kind::S3 {
                request = request
                    .header("x-amz-checksum-sha256", BASE64_STANDARD.encode(Sha256::digest(&body)));
            }
        }
        if let (Some(key), &Method::HEAD) = (&self.customer_key, &method) {
            let md5 = BASE64_STANDARD
                .decode(key.reveal())
                .map(|key| BASE64_STANDARD.encode(Md5::digest(key)));
            request = request
                .header("x-amz-server-side-encryption-customer-algorithm", "AES256")
                .header("x-amz-server-side-encryption-customer-key", key.reveal())
                .header("x-amz-server-side-encryption-customer-key-md5", md5.unwrap_or_default());
        }
        if let Some(bearer) = &self.bearer {
            let credential = bearer.get_credential().await;
            let credential =
                credential.map_err(|error| WireError::Credentials(error.to_string()))?;
            request = request.header("authorization", format!("Bearer {}", credential.bearer));
        }
        let request = request.body(HttpRequestBody::from(body));
        // The error would repeat a header.
        let request = request
            .map_err(|_| WireError::Request("it has an invalid address or header".to_owned()))?;
        self.wire.send(request).await
    }

    /// The body of a response, as text.
    async fn text(response: HttpResponse) -> Result<String, WireError> {
        let bytes =
            response.into_body().bytes().await.map_err(|error| WireError::of_http(&error))?;
        String::from_utf8(bytes.into())
            .map_err(|_| WireError::Response("it is not valid UTF-8".to_owned()))
    }

    fn error(&self, error: &WireError, operation: Operation, what: &str) -> SinkError {
        let place = Place {
            bucket: &self.bucket,
            kind: self.kind,
            customer_key: self.customer_key.is_some(),
            locks: false,
        };
        error::map_wire(place, error, operation, what)
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

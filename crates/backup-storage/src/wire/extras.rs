//! What the sink wants on a request, and what it learns from the response. Both travel as
//! extensions of the request and the response, which `object_store` hands through.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use object_store::client::{HttpRequest, HttpResponse};

use super::{WireError, deletion};

pub(super) const SHA256: &str = "x-amz-checksum-sha256";

/// Headers to add to a request before it is signed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(pub(crate) Vec<(HeaderName, HeaderValue)>);

/// Digests of the body of a request, for stores that tell what they received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digests {
    pub(crate) sha256: [u8; 32],
    pub(crate) md5: [u8; 16],
    /// The store checks `Content-MD5` (and the header is not part of a signature that was made
    /// already).
    pub(crate) send: bool,
}

/// The store said that it received exactly these bytes. Whether it is to be believed is another
/// question, see `object/proof.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confirmed {
    pub(crate) sha256: [u8; 32],
}

/// Adds what the sink wants.
pub(super) fn apply(request: &mut HttpRequest) {
    if let Some(Headers(headers)) = request.extensions().get::<Headers>().cloned() {
        for (name, value) in headers {
            request.headers_mut().insert(name, value);
        }
    }
    if let Some(Digests { md5, send: true, .. }) = request.extensions().get::<Digests>().copied()
        && let Ok(value) = HeaderValue::from_str(&BASE64_STANDARD.encode(md5))
    {
        request.headers_mut().insert("content-md5", value);
    }
}

/// What a response must confirm, or be about.
#[derive(Debug)]
pub(super) struct Expected {
    sha256: Option<[u8; 32]>,
    md5: Option<[u8; 16]>,
    range: Option<HeaderValue>,
    /// What is to be deleted, in the words of the request.
    pub(super) deletion: Option<Bytes>,
}

impl Expected {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let digests = request.extensions().get::<Digests>();
        let header = request.headers().get(SHA256).and_then(|value| decode::<32>(value.as_bytes()));
        let is_deletion = request.method() == Method::POST
            && request.uri().query().is_some_and(deletion::is_deletion);
        Self {
            sha256: header.or(digests.map(|digests| digests.sha256)),
            md5: digests.map(|digests| digests.md5),
            range: request.headers().get(RANGE).cloned(),
            deletion: if is_deletion { request.body().as_bytes().cloned() } else { None },
        }
    }
}

pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// Some stores answer with a range and call it the whole: status 200 where it should be 206. It is
/// taken for a range only if its headers say that it is one, of what was asked for, and just as
/// many bytes follow; `object_store` compares it with the request once more.
pub(super) fn mark_partial(expected: &Expected, response: &mut HttpResponse) {
    let Some(asked) =
        expected.range.as_ref().and_then(|range| range.to_str().ok()?.strip_prefix("bytes="))
    else {
        return;
    };
    if response.status() != StatusCode::OK {
        return;
    }
    let text =
        |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let parse = |range: &str| {
        let (first, last) = range.split_once('-')?;
        Some((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?))
    };
    let said = text(CONTENT_RANGE)
        .and_then(|range| parse(range.trim().strip_prefix("bytes ")?.split_once('/')?.0));
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let (Some((first, last)), Some((from, to)), Some(length)) = (said, parse(asked), length) else {
        return;
    };
    if first == from
        && last <= to
        && last.checked_sub(first).and_then(|len| len.checked_add(1)) == Some(length)
    {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
}

/// Compares what the store says it received with what was sent.
pub(super) fn confirm(
    expected: &Expected,
    mut response: HttpResponse,
) -> Result<HttpResponse, WireError> {
    let Some(sha256) = expected.sha256 else {
        return Ok(response);
    };
    let headers = response.headers();
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let mut confirmed = None;
    if let Some(stored) = said(SHA256).and_then(decode::<32>) {
        confirmed = Some(stored == sha256);
    } else if let Some(md5) = expected.md5 {
        let google = headers
            .get_all("x-goog-hash")
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .find_map(|hash| hash.trim_ascii().strip_prefix(b"md5="));
        confirmed = google
            .or_else(|| said("content-md5"))
            .and_then(decode::<16>)
            .map(|stored| stored == md5);
    }
    match confirmed {
        Some(false) => Err(WireError::Checksum),
        Some(true) => {
            response.extensions_mut().insert(Confirmed { sha256 });
            Ok(response)
        }
        None => Ok(response),
    }
}

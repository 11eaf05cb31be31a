//! What went wrong on the way to the store, in the store's own words. Nothing of a request is in
//! here, so that no secret is.

use std::error::Error;
use std::time::Duration;

use http::response::Parts;
use jiff::Timestamp;
use object_store::client::{HttpError, HttpResponse};

/// What is wrong with the store's TLS, if that is what `error` is about. I/O errors hide the error
/// inside them from the chain of causes, and there may be several around one another.
fn bad_tls(error: &(dyn Error + 'static)) -> Option<WireError> {
    match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(why)) => {
            Some(WireError::Certificate(why.to_string()))
        }
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            Some(WireError::NoTls)
        }
        _ => bad_tls(error.downcast_ref::<std::io::Error>()?.get_ref()?),
    }
}

/// An answer of a store that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The store's name for it, for instance `NoSuchKey`; empty if it gave none.
    pub(crate) code: String,
    pub(crate) message: String,
    /// The region where the bucket is, where the store says that it is another one.
    pub(crate) region: Option<String>,
    /// The store's clock.
    pub(crate) server_time: Option<Timestamp>,
    /// The settings, variables or service that the refused credentials come from.
    pub(crate) credentials: Option<String>,
}

/// Longest explanation of a store that is repeated.
const MAX_MESSAGE: usize = 300;

impl Refusal {
    pub(crate) fn new(parts: &Parts, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let header = |name: &str| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
        };
        let from_xml = |name: &str| tag(&text, name).map(ToOwned::to_owned);
        let code = from_xml("Code").or_else(|| header("x-ms-error-code")).unwrap_or_default();
        // Who stands before a store, or in its place, answers with a page, or in plain words.
        let plain = || {
            let is_plain = header("content-type").is_none_or(|kind| kind.starts_with("text/plain"));
            (is_plain && !text.trim_start().starts_with(['<', '{'])).then(|| text.trim().to_owned())
        };
        let message =
            from_xml("Message").or_else(|| from_xml("title")).or_else(plain).unwrap_or_default();
        // Azure appends the time and an id on lines of their own.
        let message =
            message.lines().next().unwrap_or_default().chars().take(MAX_MESSAGE).collect();
        let date = header("date").and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        Self {
            status: parts.status.as_u16(),
            code,
            message,
            region: header("x-amz-bucket-region").or_else(|| from_xml("Region")),
            server_time: date.map(|date| date.timestamp()),
            credentials: None,
        }
    }

    /// Whether other credentials could help: those that were used have expired, or were replaced.
    pub(crate) fn is_about_credentials(&self) -> bool {
        matches!(
            &*self.code,
            "ExpiredToken"
                | "ExpiredTokenException"
                | "TokenRefreshRequired"
                | "InvalidToken"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
        ) || self.status == 401
    }

    /// Whether it may be about credentials and does not say: answers to HEAD have no body.
    pub(crate) fn may_be_about_credentials(&self) -> bool {
        self.code.is_empty() && matches!(self.status, 400 | 403)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the store answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("no data was transferred for {} seconds", .0.as_secs_f32())]
    Stalled(Duration),
    #[error("the address uses plain http, which can be read and changed in transit")]
    PlainHttp,
    /// A page for people in place of an object or a listing, with its status and title.
    #[error("a page for web browsers came in place of the store's answer ({0})")]
    Page(String),
    #[error("the answer is not a listing: {0}")]
    Listing(String),
    #[error("the store received other bytes than were sent")]
    Checksum,
    #[error("cannot make the request: {0}")]
    Request(String),
    #[error("the answer is invalid: {0}")]
    Response(String),
    #[error("{0}")]
    Credentials(String),
    #[error("cannot resolve the host name: {0}")]
    UnknownHost(String),
    #[error("the server's certificate is not trusted: {0}")]
    Certificate(String),
    #[error("the server does not answer with TLS, which https:// requires")]
    NoTls,
    /// The request was certainly not sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl WireError {
    /// The page that a proxy or a captive portal answered with.
    pub(super) fn page(parts: &Parts, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let title = tag(&text, "title").unwrap_or_default().lines().next().unwrap_or_default();
        let title: String = title.chars().take(MAX_MESSAGE).collect();
        let colon = if title.is_empty() { "" } else { ": " };
        Self::Page(format!("{}{colon}{title}", parts.status.as_u16()))
    }

    pub(super) fn transport(error: &reqwest::Error) -> Self {
        let mut causes = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> = error.source();
        while let Some(cause) = next {
            if let Some(why) = bad_tls(cause) {
                return why;
            }
            causes.push(cause.to_string());
            next = cause.source();
        }
        // What is wrong stands in the innermost cause; those around it say where.
        let why =
            causes.last().cloned().unwrap_or_else(|| "the HTTP client gave no reason".to_owned());
        if causes.iter().any(|cause| cause.contains("dns error")) {
            Self::UnknownHost(why)
        } else if error.is_connect() {
            Self::Connect(why)
        } else {
            Self::Broken(why)
        }
    }

    /// Finds the error of this module in one of `object_store`'s client.
    pub(crate) fn of_http(error: &HttpError) -> Self {
        match Self::find(error) {
            Some(Self::Stalled(time)) => Self::Stalled(*time),
            _ => Self::Broken(Self::words_of(error)),
        }
    }

    /// What another error is about: the words of this module's one among its causes, else its own.
    pub(crate) fn words_of(error: &(dyn Error + 'static)) -> String {
        Self::find(error).map_or_else(|| error.to_string(), ToString::to_string)
    }

    /// Finds the error of this module among the causes of another one.
    pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// True for an answer of a proxy or a captive portal: a page for people, which no store sends. Some
/// stores name this type for an empty answer, and objects may have it: both have headers of a store.
pub(super) fn is_page(response: &HttpResponse) -> bool {
    let status = response.status();
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_html = kind.to_ascii_lowercase().starts_with("text/html");
    let is_sign_in = status.as_u16() == 511;
    let is_page = status.is_redirection() || (status.is_success() && !is_of_store(response));
    is_sign_in || is_html && is_page
}

/// True for an answer with an entity tag or another header of an object store, or without a body.
fn is_of_store(response: &HttpResponse) -> bool {
    let headers = response.headers();
    let is_store_header = |name: &http::HeaderName| {
        ["x-amz", "x-goog-", "x-ms-"].iter().any(|start| name.as_str().starts_with(start))
    };
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|len| len.to_str().ok());
    headers.contains_key(http::header::ETAG)
        || headers.keys().any(is_store_header)
        || length == Some("0")
        || response.status() == http::StatusCode::NO_CONTENT
}

/// True if a body is a page for people.
pub(super) fn is_html(body: &[u8]) -> bool {
    let head = body.trim_ascii_start();
    let starts = |text: &str| {
        head.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text.as_bytes()))
    };
    starts("<!doctype html") || starts("<html")
}

/// Whether an answer's body is an error, whatever its status says.
pub(super) fn is_error(body: &[u8]) -> bool {
    let head = &body[..body.len().min(200)];
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let head = head.trim_start_matches('\u{feff}').trim_start();
    let head = if head.starts_with("<?") {
        head.split_once("?>").map_or("", |(_, rest)| rest).trim_start()
    } else {
        head
    };
    head.starts_with("<Error>") || head.starts_with("<Error ")
}

/// Text of the first element of that name.
pub(crate) fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_from_body_and_headers() {
        let response = http::Response::builder()
            .status(400)
            .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .body(())
            .unwrap();
        let (parts, ()) = response.into_parts();
        let body = b"<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region \
                     'a' is wrong; expecting 'b'\nTime:x</Message><Region>b</Region></Error>";
        assert!(is_error(body) && !is_error(b"<CompleteMultipartUploadResult/>"));
        let refusal = Refusal::new(&parts, body);
        assert_eq!(refusal.region.as_deref(), Some("b"));
        assert_eq!(refusal.server_time.unwrap().to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(
            refusal.to_string(),
            "the store answered 400 AuthorizationHeaderMalformed: the region 'a' is wrong; \
             expecting 'b'"
        );
    }

    #[test]
    fn what_is_no_store_is_quoted() {
        for (kind, body, said) in [
            (
                "text/html",
                "<html><head><title>502 Bad Gateway</title></head></html>",
                ": 502 Bad Gateway",
            ),
            (
                "text/plain; charset=utf-8",
                "Client sent it to an HTTPS server.\nBye",
                ": Client sent it to an HTTPS server.",
            ),
            ("text/html", "<html>", ""),
            ("", "Client sent it to an HTTPS server.\n", ": Client sent it to an HTTPS server."),
            ("", "{}", ""),
            ("application/octet-stream", "bytes", ""),
        ] {
            let mut response = http::Response::builder().status(502);
            if !kind.is_empty() {
                response = response.header("content-type", kind);
            }
            let refusal = Refusal::new(&response.body(()).unwrap().into_parts().0, body.as_bytes());
            assert_eq!(refusal.to_string(), format!("the store answered 502{said}"));
        }
    }
}

//! The errors of S3, and answers that lie.

/// An answer that no server gave.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    kind: &'static str,
    pub(crate) body: String,
    /// In seconds, for `Retry-After`.
    retry_after: Option<u64>,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind, body: body.into(), retry_after: None }
    }

    /// An error as S3 writes it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>0</RequestId></Error>"#
        );
        Self::new(status, "application/xml", body)
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn slow_down() -> Self {
        Self::error(503, "SlowDown", "Please reduce your request rate.")
    }

    pub(crate) fn internal_error() -> Self {
        Self::error(500, "InternalError", "We encountered an internal error. Please try again.")
    }

    pub(crate) fn too_many_requests() -> Self {
        Self::error(429, "TooManyRequests", "Too many requests.")
    }

    /// What S3 says to one of two simultaneous conditional writes: neither stored nor refused.
    pub(crate) fn conflict() -> Self {
        Self::error(
            409,
            "ConditionalRequestConflict",
            "A conflicting conditional operation is in progress.",
        )
    }

    /// Of temporary credentials (STS).
    pub(crate) fn expired_token() -> Self {
        Self::error(400, "ExpiredToken", "The provided token has expired.")
    }

    /// The same from stores that call it a matter of rights.
    pub(crate) fn expired_token_forbidden() -> Self {
        Self::error(403, "ExpiredToken", "The provided token has expired.")
    }

    pub(crate) fn access_denied() -> Self {
        Self::error(403, "AccessDenied", "Access Denied")
    }

    pub(crate) fn clock_skew() -> Self {
        let message = "The difference between the request time and the current time is too large.";
        Self::error(403, "RequestTimeTooSkewed", message)
    }

    pub(crate) fn wrong_region() -> Self {
        let message = "The authorization header is malformed; the region 'us-east-1' is wrong; \
                       expecting 'eu-central-1'";
        let mut answer = Self::error(400, "AuthorizationHeaderMalformed", message);
        answer.body = answer.body.replace("</Error>", "<Region>eu-central-1</Region></Error>");
        answer
    }

    /// What captive portals and misconfigured balancers answer to everything.
    pub(crate) fn html() -> Self {
        Self::new(
            200,
            "text/html",
            "<!DOCTYPE html><html><body><h1>Welcome</h1><p>Please log in.</p></body></html>",
        )
    }

    /// A listing of nothing.
    pub(crate) fn empty_xml() -> Self {
        let body = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult></ListBucketResult>"#;
        Self::new(200, "application/xml", body)
    }

    /// Success that is none, for bulk deletions.
    pub(crate) fn not_deleted(key: &str) -> Self {
        let body = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><DeleteResult><Error><Key>{key}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>"#
        );
        Self::new(200, "application/xml", body)
    }

    /// Success that is none: completions and copies send their status before they know.
    pub(crate) fn late(error: Self) -> Self {
        Self { status: 200, ..error }
    }

    pub(super) fn to_bytes(&self, to: &str) -> Vec<u8> {
        let Self { status, kind, body, .. } = self;
        let retry = self
            .retry_after
            .map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} Injected\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let body = if to == "HEAD" { "" } else { body };
        format!("{head}{retry}\r\n{body}").into_bytes()
    }
}

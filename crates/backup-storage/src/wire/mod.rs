//! The way to the store: every request and every response of an object store passes here.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Wire`]: what is done to every request and response |
//! | `client.rs` | the HTTP client: certificates, proxy, time to connect |
//! | `body.rs` | bodies that are paced, and whose standstill is noticed |
//! | `gate.rs` | [`Gate`]: how many requests at a time |
//! | `sign.rs` | [`Signer`]: signatures of S3, made last, so that they cover all headers |
//! | `extras.rs` | what the sink wants on a request, and what it learns from the response |
//! | `deletion.rs` | whether an answer to a bulk deletion is one |
//! | `listing.rs` | whether a listing is one |
//! | `token.rs` | whether the answer of a service that gives tokens can be used |
//! | `error.rs` | [`WireError`]: what went wrong, in the store's own words |
//!
//! It is given to `object_store` as its [`HttpConnector`]; that crate's own retries are switched
//! off, and its requests arrive here unsigned (S3). Requests that are no part of `object_store`'s
//! interface (locks, archives) are sent through the same [`Wire`].

mod body;
mod client;
mod deletion;
mod error;
mod extras;
mod gate;
mod listing;
mod sign;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};

use crate::limit::Pace;

pub(crate) use client::{
    ClientSettings, Clients, build as build_clients, build_one as build_client,
};
pub(crate) use error::{Refusal, WireError, tag};
pub(crate) use extras::{Confirmed, Digests, Headers};
pub(crate) use gate::Gate;
pub(crate) use sign::Signer;

use body::{Incoming, Outgoing, Progress};
use extras::Expected;

/// Largest response that is read as a whole: a page of a listing has up to 1000 keys of up to 1
/// KiB, and some markup.
const MAX_WHOLE: usize = 16 << 20;
/// Most pages of listings without objects in a row.
const MAX_EMPTY_PAGES: u32 = 1000;

/// Everything between `object_store` and the network. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Arc<Inner>);

/// What a [`Wire`] is made of.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) clients: Clients,
    /// Host (and port) of the store. Requests to others are for credentials.
    pub(crate) host: String,
    pub(crate) allow_http: bool,
    pub(crate) stall: Duration,
    pub(crate) upload: Option<Arc<Pace>>,
    pub(crate) download: Option<Arc<Pace>>,
    pub(crate) gate: Arc<Gate>,
    /// S3 only; the others' requests arrive with their authorization.
    pub(crate) signer: Option<Signer>,
    /// Pages of listings without objects since the last one with some.
    pub(crate) empty_pages: AtomicU32,
}

impl Wire {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Sends a request to the store, signed where it is to be; a response other than success is an
    /// error.
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, WireError> {
        let mut refreshed = false;
        loop {
            let mut attempt = request.clone();
            extras::apply(&mut attempt);
            let used = match &self.0.signer {
                Some(signer) => Some(signer.sign(&mut attempt).await?),
                None => None,
            };
            let error = match self.attempt(attempt).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // Credentials that expired before their time or were replaced are fetched again, once,
            // and used if they are others. That is no retry: it is another request.
            if let (WireError::Refused(refusal), Some(signer), Some(used), false) =
                (&error, &self.0.signer, used, refreshed)
            {
                let is_certain = refusal.is_about_credentials();
                let is_likely =
                    request.method() == Method::HEAD && refusal.may_be_about_credentials();
                if (is_certain || is_likely) && signer.renew(&used, is_certain).await {
                    refreshed = true;
                    continue;
                }
            }
            return Err(self.naming_credentials(error));
        }
    }

    /// Adds the origin of the credentials to a refusal of them.
    fn naming_credentials(&self, error: WireError) -> WireError {
        match (error, &self.0.signer) {
            (WireError::Refused(mut refusal), Some(signer)) if refusal.is_about_credentials() => {
                refusal.credentials = Some(signer.names());
                WireError::Refused(refusal)
            }
            (error, _) => error,
        }
    }

    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, WireError> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let expected = Expected::of(&request);
        let permit = self.0.gate.enter().await;
        let mut response = self.transfer(request).await?;
        extras::mark_partial(&expected, &mut response);
        let status = response.status();
        // The bodies of listings and POST requests are read below.
        let is_read = method == Method::POST || listing::is_list(uri.query().unwrap_or_default());
        if error::is_page(&response) && !(is_read && status.is_success()) {
            let (parts, body) = response.into_parts();
            return Err(WireError::page(&parts, &whole(body).await.unwrap_or_default()));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            self.0.gate.slow();
        }
        if !status.is_success() {
            let (parts, body) = response.into_parts();
            // What cannot be read of an explanation is not worth another error.
            let text = whole(body).await.unwrap_or_default();
            return Err(Refusal::new(&parts, &text).into());
        }
        self.0.gate.fine();
        drop(permit);
        self.examine(&method, &uri, &expected, response).await
    }

    /// What a success must look like.
    async fn examine(
        &self,
        method: &Method,
        uri: &Uri,
        expected: &Expected,
        response: HttpResponse,
    ) -> Result<HttpResponse, WireError> {
        let query = uri.query().unwrap_or_default();
        let is_list = method == Method::GET && listing::is_list(query);
        if !is_list && method != Method::POST {
            return extras::confirm(expected, response);
        }
        let (parts, body) = response.into_parts();
        let bytes = whole(body).await?;
        if error::is_html(&bytes) {
            return Err(WireError::page(&parts, &bytes));
        } else if is_list {
            listing::check(&bytes, query).map_err(WireError::Listing)?;
            self.limit_empty_pages(&bytes)?;
        } else if bytes.trim_ascii_start().starts_with(b"<") && error::is_error(&bytes) {
            // Some requests are answered before they are done: the status says success, the body
            // says what came of it.
            return Err(Refusal::new(&parts, &bytes).into());
        } else if let Some(asked) = &expected.deletion {
            deletion::check(asked, &bytes).map_err(WireError::Response)?;
        }
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }

    /// Fails after too many pages without objects in a row: a listing of them may have no end.
    fn limit_empty_pages(&self, page: &[u8]) -> Result<(), WireError> {
        if !listing::is_empty_page(page) {
            self.0.empty_pages.store(0, Ordering::Relaxed);
            return Ok(());
        }
        if self.0.empty_pages.fetch_add(1, Ordering::Relaxed) < MAX_EMPTY_PAGES {
            return Ok(());
        }
        self.0.empty_pages.store(0, Ordering::Relaxed);
        Err(WireError::Listing(format!("more than {MAX_EMPTY_PAGES} pages are empty")))
    }

    /// Sends a request as it is.
    async fn transfer(&self, request: HttpRequest) -> Result<HttpResponse, WireError> {
        let inner = &*self.0;
        let progress = Arc::new(Progress::new(inner.stall));
        let (parts, body) = request.into_parts();
        let client = if self.is_of_the_machine(&parts.uri) {
            &inner.clients.machine
        } else {
            &inner.clients.network
        };
        let url = parts
            .uri
            .to_string()
            .parse()
            .map_err(|_| WireError::Request("its URL is invalid".to_owned()))?;
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        if body.content_length() > 0 {
            let body = Outgoing::new(body, Arc::clone(&progress), inner.upload.clone());
            *outgoing.body_mut() = Some(reqwest::Body::wrap(body));
        }
        let response = tokio::select! {
            response = client.execute(outgoing) => response.map_err(|error| WireError::transport(&error))?,
            () = progress.stalled() => return Err(WireError::Stalled(inner.stall)),
        };
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let body = Incoming::new(body, inner.stall, inner.download.clone());
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }

    /// Sends a request to a service that gives tokens.
    async fn fetch_token(&self, request: HttpRequest) -> Result<HttpResponse, WireError> {
        let (parts, body) = self.transfer(request).await?.into_parts();
        let bytes = whole(body).await?;
        if parts.status.is_success() {
            if error::is_html(&bytes) {
                return Err(WireError::page(&parts, &bytes));
            }
            token::check(&bytes).map_err(WireError::Response)?;
        }
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }

    /// Asks a service for credentials, whose address was looked at by the caller. Nothing is
    /// signed: what would be signed with is what is asked for.
    pub(crate) async fn ask(&self, request: HttpRequest) -> Result<(StatusCode, Bytes), WireError> {
        let (parts, body) = self.transfer(request).await?.into_parts();
        Ok((parts.status, whole(body).await?))
    }

    fn is_store(&self, uri: &Uri) -> bool {
        uri.authority()
            .is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(&self.0.host))
    }

    fn check_scheme(&self, uri: &Uri) -> Result<(), WireError> {
        if uri.scheme_str() == Some("https") || (self.is_store(uri) && self.0.allow_http) {
            return Ok(());
        }
        if self.is_of_the_machine(uri) { Ok(()) } else { Err(WireError::PlainHttp) }
    }

    /// Whether it is a service of the machine's own provider, which answers on the machine itself.
    fn is_of_the_machine(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        !self.is_store(uri)
            && (host == "localhost"
                || host == "metadata.google.internal"
                || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(
                    |ip| match ip {
                        std::net::IpAddr::V4(ip) => ip.is_link_local() || ip.is_loopback(),
                        std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
                    },
                ))
    }
}

async fn whole(body: HttpResponseBody) -> Result<Bytes, WireError> {
    use futures::TryStreamExt;
    let mut pieces = body.bytes_stream();
    let mut all = Vec::new();
    while let Some(piece) = pieces.try_next().await.map_err(|error| WireError::of_http(&error))? {
        if all.len() + piece.len() > MAX_WHOLE {
            return Err(WireError::Response(
                "it is larger than any valid answer to such a request".to_owned(),
            ));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let result = match self.check_scheme(request.uri()) {
            Err(error) => Err(error),
            Ok(()) if self.is_store(request.uri()) => self.send(request).await,
            Ok(()) => self.fetch_token(request).await,
        };
        result.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

//! What every request goes through: whose it is, what they may do, how much of it, and what is
//! recorded of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use super::document::Need;
use super::limits::{Counted, patience};
use super::peer::Peer;
use super::problem::{Answer, Problem, Said};
use super::{Shared, hosts, told};
use crate::tokens::Role;

/// Bytes of a body, at most.
const MAX_BODY: usize = 64 << 10;
/// Bytes of a message of the framework, at most.
const MAX_MESSAGE: usize = 4 << 10;

/// Whose request it is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// The name of the token, or of the user at the socket.
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether they have a token.
    pub(super) has_token: bool,
}

/// Counts as going on until the last of it is dropped.
pub(super) type GoingOn = Arc<Counted<String>>;

/// Lets a request through, or answers why not.
pub(super) async fn guard(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let who = hosts(&api, &request).and_then(|()| identify(&api, &request, route.as_deref()));
    let name = who
        .as_ref()
        .map(|who| who.as_ref().map_or("", |who| &who.name).to_owned())
        .unwrap_or_default();
    let mut response = match who {
        Ok(who) => {
            let work =
                answered(Arc::clone(&api), who, method.clone(), route.clone(), request, next);
            match is_safe(&method) {
                true => work.await,
                // To its end, also if nobody waits for the answer any more: it is recorded.
                false => tokio::spawn(work).await.unwrap_or_else(|_| mistake()),
            }
        }
        Err(problem) => problem.into_response(),
    };
    response = in_one_form(response).await;
    harden(response.headers_mut());
    if is_chunked {
        // Its end was not followed, so that nothing behind it was inspected: see `line_ends.rs`.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let shown = route.as_deref().unwrap_or("none");
    api.metrics.counters().answered(shown, status, took);
    // Whoever asks all the time does not fill the log.
    if matches!(shown, "/healthz" | "/readyz" | "/metrics") && status < 500 {
        tracing::debug!(%method, route = shown, status, by = name, "request");
        return response;
    }
    // Neither what was asked for nor by which token: the template of the path, and whose it was.
    let millis = took.as_millis() as u64;
    // Whoever looks does so every few seconds.
    match is_safe(&method) && response.status().is_success() {
        true => tracing::debug!(%method, route = shown, status, by = name, millis, "request"),
        false => tracing::info!(%method, route = shown, status, by = name, millis, "request"),
    }
    response
}

/// What is answered, and recorded if it changes something.
async fn answered(
    api: Shared,
    who: Option<Who>,
    method: Method,
    route: Option<String>,
    request: Request,
    next: Next,
) -> Response {
    let answered = through(&api, who.clone(), route.as_deref(), request, next).await;
    // Whoever asks too often cannot fill the audit log.
    let is_recorded = !is_safe(&method) && answered.status() != StatusCode::TOO_MANY_REQUESTS;
    match who.filter(|_| is_recorded) {
        Some(who) => told::record(&api, &who, &method, route.as_deref(), answered).await,
        None => answered,
    }
}

fn mistake() -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error of the daemon")
        .hint("see the log of the daemon")
        .into_response()
}

/// Whether a method changes nothing.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Refuses requests for another host.
fn hosts(api: &Shared, request: &Request) -> Answer<()> {
    hosts::check(request, &api.reads.config().config.api.hosts).map_err(|problem| {
        let peer = request.extensions().get::<Peer>().map(Peer::key).unwrap_or_default();
        // As strangers are, so that they do not fill the log.
        api.limits.stranger(&peer).err().unwrap_or(problem)
    })
}

/// Whose request it is; nobody's, where anybody may ask.
fn identify(api: &Shared, request: &Request, route: Option<&str>) -> Answer<Option<Who>> {
    let need = api.document.need(request.method(), route);
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the origin of this request is unknown",
        ));
    };
    if need == Need::Nothing {
        return Ok(None);
    }
    let given = request.headers().get(header::AUTHORIZATION);
    if let (None, Peer::Socket { user }) = (given, peer) {
        return Ok(Some(Who { name: user.clone(), role: Role::Admin, has_token: false }));
    }
    let token = given.and_then(|value| value.to_str().ok()).and_then(bearer);
    let known = match token.map(|token| api.checker.check(token, api.reads.now())) {
        Some(Ok(known)) => known,
        Some(Err(error)) => {
            tracing::error!("cannot read the tokens: {}", backup_control::words::chain(&error));
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "cannot read the tokens")
                .hint("see the log of the daemon"));
        }
        None => None,
    };
    let Some(known) = known else {
        api.limits.stranger(&peer.key())?;
        let error = if given.is_some() { "the token is not valid" } else { "a token is required" };
        return Err(Problem::new(StatusCode::UNAUTHORIZED, error).hint(
            "send `Authorization: Bearer TOKEN`; create a token with `backupd token create`",
        ));
    };
    Ok(Some(Who { name: known.name, role: known.role, has_token: true }))
}

/// The token of a header. The scheme may be written in any letters.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Lets somebody through, within what they may do.
async fn through(
    api: &Shared,
    who: Option<Who>,
    route: Option<&str>,
    request: Request,
    next: Next,
) -> Response {
    let key = match (&who, request.extensions().get::<Peer>()) {
        (Some(who), _) if who.has_token => format!("token {}", who.name),
        (Some(who), _) => format!("user {}", who.name),
        (None, Some(peer)) => format!("client at {}", peer.key()),
        (None, None) => "anybody".to_owned(),
    };
    let going_on = match api.limits.known(&key) {
        Ok(counted) => GoingOn::new(counted),
        Err(problem) => return problem.into_response(),
    };
    if let (Need::Role(needed), Some(who)) = (api.document.need(request.method(), route), &who)
        && !who.role.may(needed)
    {
        return Problem::forbidden(format!(
            "the role {needed} is required, but {} has the role {}",
            who.name, who.role
        ))
        .hint("get a token with this role from an admin (`backupd token create`)")
        .into_response();
    }
    let mut request = match whole(request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(Arc::clone(&going_on));
    if let Some(who) = who {
        request.extensions_mut().insert(who);
    }
    let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(patience::ANSWER, answering).await {
        Ok(Ok(response)) => response,
        // What the panic said is in the log of the daemon.
        Ok(Err(_)) => mistake(),
        Err(_) => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "the request took too long").into_response()
        }
    }
}

/// The request with all of its body: nobody waits for one that comes slowly, or does not end.
async fn whole(request: Request) -> Answer<Request> {
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {MAX_BODY} bytes"),
        )
    };
    if announced.is_some_and(|bytes| bytes > MAX_BODY as u64) {
        return Err(too_large());
    }
    let bytes =
        match tokio::time::timeout(patience::BODY, axum::body::to_bytes(body, MAX_BODY)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => return Err(too_large()),
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body of the request did not arrive in time",
                ));
            }
        };
    // The decoder would take the values of an array for those of an object, in the order of its fields.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is not a JSON object"));
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Every error has the form of a [`Problem`], also those of the framework.
async fn in_one_form(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<Said>().is_some() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, MAX_MESSAGE).await.unwrap_or_else(|_| Bytes::new());
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let said = match (text.is_empty(), status) {
        (false, _) => text,
        (true, StatusCode::METHOD_NOT_ALLOWED) => {
            "this path does not support the method".to_owned()
        }
        (true, _) => status.canonical_reason().unwrap_or("the request failed").to_owned(),
    };
    // A body that cannot be understood is one mistake, whatever the framework calls it.
    let status =
        if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    let mut response =
        Problem::new(status, said).hint("see docs/api.md for valid requests").into_response();
    if let Some(allowed) = parts.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    response
}

/// Nothing is kept by whoever stands between, nothing is taken for something else, and no page of
/// it does anything.
fn harden(headers: &mut HeaderMap) {
    const POLICY: &str =
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_headers() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for other in ["", "abc", "Basic abc", "Bearer"] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}

//! Sending a request, and what its answer means.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use super::{Failure, Task};
use crate::environment::Environment;
use crate::notify::check;
use crate::notify::message::{cut, one_line};

/// Letters of an answer that are shown.
const SHOWN: usize = 200;
/// Bytes of an answer that are read.
const READ: usize = 16 << 10;

/// A client that is made when it is needed: that takes a while, for it reads the authorities of the
/// system.
#[derive(Debug, Default)]
pub(in crate::notify) struct Client {
    ca_file: Option<PathBuf>,
    made: OnceLock<Result<reqwest::Client, String>>,
}

impl Client {
    pub(in crate::notify) fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, made: OnceLock::new() }
    }

    fn get(&self, env: &Environment) -> &Result<reqwest::Client, String> {
        let make = || backup_storage::http::client(self.ca_file.as_deref(), &env.texts().collect());
        self.made.get_or_init(make)
    }
}

/// What a service answered.
pub(super) struct Answer {
    status: StatusCode,
    after: Option<Duration>,
    pub(super) text: String,
}

/// The address of a service: that of the configuration, else the provider's; and the path to what
/// is wanted of it.
pub(super) fn address(task: &Task<'_>, usual: &str, path: &str) -> Result<Url, Failure> {
    let base = task.config.url.as_ref().map_or(usual, |url| url.reveal());
    understood(&format!("{}{path}", base.trim_end_matches('/')), task)
}

/// An address, checked when it is needed: one that is a secret is not known before.
pub(super) fn understood(text: &str, task: &Task<'_>) -> Result<Url, Failure> {
    check::address(text.trim(), task.config).map_err(|error| Failure::later(error.to_string()))
}

/// The client.
pub(super) fn client<'a>(task: &Task<'a>) -> Result<&'a reqwest::Client, Failure> {
    task.client.get(task.env).as_ref().map_err(|why| Failure::later(why.clone()))
}

/// Sends a request with a JSON body.
pub(super) async fn post_json(
    task: &Task<'_>,
    request: RequestBuilder,
    body: &serde_json::Value,
) -> Result<Answer, Failure> {
    send(task, request.header("Content-Type", "application/json").body(body.to_string())).await
}

/// Sends a request. No answer is an error here but none at all.
pub(super) async fn send(task: &Task<'_>, request: RequestBuilder) -> Result<Answer, Failure> {
    let mut response = request.send().await.map_err(|error| Failure::later(words(error)))?;
    let (status, after) = (response.status(), retry_after(response.headers(), task.now));
    let mut body = Vec::new();
    // What cannot be read of an explanation is not worth another error.
    while let (true, Ok(Some(piece))) = (body.len() < READ, response.chunk().await) {
        body.extend_from_slice(&piece);
    }
    // Before it is cut: of a secret that is cut, the rest would not be known again.
    Ok(Answer { status, after, text: task.secret.hide(&String::from_utf8_lossy(&body)) })
}

impl Answer {
    /// What it means: success, that it is too early, or that it would never do.
    pub(super) fn judge(self) -> Result<(), Failure> {
        let status = self.status;
        if status.is_success() {
            return Ok(());
        }
        let mut why = format!("the service answers {status}");
        let text: String = one_line(&self.text).chars().filter(|c| !c.is_control()).collect();
        if !text.is_empty() {
            why.push_str(&format!(": {}", cut(&text, SHOWN)));
        }
        match status.as_u16() {
            408 | 425 | 429 | 500.. => Err(Failure::Later { why, after: self.after }),
            300..400 => Err(Failure::refused(format!(
                "{why}; redirects are not followed: set the final address"
            ))),
            _ => Err(Failure::refused(why)),
        }
    }

    /// The same, but another try may help whatever the status.
    pub(super) fn judge_again(self) -> Result<(), Failure> {
        let after = self.after;
        self.judge().map_err(|failure| Failure::Later { why: failure.why().to_owned(), after })
    }
}

/// How long to wait, if that is said: seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(then.duration_since(now)).ok()
}

/// What went wrong, without the address.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut words, mut last, mut next) = (Vec::new(), String::new(), error.source());
    while let Some(cause) = next {
        let text = cause.to_string();
        if text != last {
            words.push(text.clone());
        }
        (last, next) = (text, cause.source());
    }
    let what = if error.is_connect() { "cannot connect" } else { "the service cannot be reached" };
    if words.is_empty() { what.to_owned() } else { format!("{what}: {}", words.join(": ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16) -> Result<(), Failure> {
        let status = StatusCode::from_u16(status).unwrap();
        Answer {
            status,
            after: Some(Duration::from_secs(7)),
            text: " no\n such\u{1b} thing ".into(),
        }
        .judge()
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        for status in [200, 201, 202, 204] {
            judged(status).unwrap();
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            let failure = judged(status).unwrap_err();
            assert!(matches!(&failure, Failure::Later { after: Some(_), .. }), "{failure:?}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 422] {
            let failure = judged(status).unwrap_err();
            assert!(
                matches!(&failure, Failure::Refused { why } if why.contains("no such thing")),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn the_other_side_may_ask_for_time() {
        let now = "2026-11-23T08:00:00Z".parse().unwrap();
        let after = |text: &str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers, now).map(|time| time.as_secs())
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Mon, 23 Nov 2026 08:01:30 GMT"), Some(90));
        assert_eq!(after("Mon, 23 Nov 2026 07:00:00 GMT"), None);
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}

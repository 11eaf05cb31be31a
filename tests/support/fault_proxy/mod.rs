//! A reverse proxy that misbehaves as it is told to. It changes nothing else of what passes, so
//! that a signature made for the proxy's address stays valid: servers check it against the `Host`
//! that the request carries.
//!
//! | module    | what |
//! |-----------|------|
//! | `rules`   | which requests are meant, and what happens to them |
//! | `answers` | the errors of S3, and answers that lie |
//! | `forward` | one request: forwarding it, with damage on the way |
//! | `seen`    | what passed: for assertions and rates |

pub(crate) mod answers;
mod forward;
pub(crate) mod rules;
pub(crate) mod seen;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::rules::{Fault, Hits, Rule, When};
use self::seen::{Seen, Traffic};
use crate::support::http::Background;

/// See the module documentation. A stalled request stays so until its client leaves or this is
/// dropped.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    shared: Arc<Shared>,
    background: Background,
}

#[derive(Debug)]
struct Shared {
    /// Host and port.
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    seen: Seen,
    /// How many requests are at the server at a time.
    at_a_time: Semaphore,
}

impl FaultProxy {
    /// In front of `http://HOST:PORT`.
    pub(crate) fn start(upstream: &str) -> Self {
        Self::with(upstream, Semaphore::MAX_PERMITS)
    }

    /// The same, and a request waits until the one before it is answered.
    pub(crate) fn one_at_a_time(upstream: &str) -> Self {
        Self::with(upstream, 1)
    }

    fn with(upstream: &str, at_a_time: usize) -> Self {
        let upstream = upstream.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let at_a_time = Semaphore::new(at_a_time);
        let shared = Arc::new(Shared {
            upstream,
            rules: Mutex::default(),
            seen: Seen::default(),
            at_a_time,
        });
        let serving = Arc::clone(&shared);
        Self { shared, background: Background::start(|listener| serve(listener, serving)) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.background.port)
    }

    /// From now on. Of several rules that match, the oldest that is not used up counts.
    pub(crate) fn inject(&self, when: When, fault: Fault) -> Hits {
        let hits = Hits::default();
        let rule = Rule::new(when, fault, hits.clone());
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
        hits
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many requests of a method, with that text in their path or query, came so far.
    pub(crate) fn count(&self, method: &str, target: &str) -> usize {
        let requests = self.shared.seen.requests();
        requests
            .iter()
            .filter(|request| request.method == method && request.target.contains(target))
            .count()
    }

    /// Every request so far, for messages.
    pub(crate) fn requests(&self) -> Vec<seen::Request> {
        self.shared.seen.requests()
    }

    /// Payload that came from clients.
    pub(crate) fn uploaded(&self) -> Traffic {
        self.shared.seen.uploaded()
    }

    /// Payload that went to clients.
    pub(crate) fn downloaded(&self) -> Traffic {
        self.shared.seen.downloaded()
    }

    /// Forgets what passed.
    pub(crate) fn forget(&self) {
        self.shared.seen.forget();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                let shared = Arc::clone(&shared);
                // A connection that breaks is nothing that a proxy could tell anybody.
                connections.spawn(async move { drop(forward::connection(client, &shared).await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

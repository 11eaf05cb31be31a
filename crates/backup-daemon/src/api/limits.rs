//! How much is answered: to one token or user, to those who have no token, and at the same time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::{Answer, Problem};

/// Requests that one token or user may have going on at the same time; listening to events is one
/// too.
const AT_THE_SAME_TIME: usize = 16;
/// Event streams of one token or user, so that an event stream never takes the last request.
const STREAMS: usize = 8;
/// Connections of one network at the same time.
const CONNECTIONS: usize = 64;
/// Requests without a good token that are answered to a network, a second; ten seconds' worth at
/// once.
const STRANGERS: u32 = 2;
/// Keys that are remembered; beyond them, all others share one.
const MAX_KEYS: usize = 4096;

/// The limits of a server.
pub(super) struct Limits {
    known: DefaultKeyedRateLimiter<String>,
    strangers: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
    going_on: Counts<String>,
    streams: Counts<String>,
    connections: Counts<IpAddr>,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    /// So many requests a second for each who is known.
    pub(super) fn new(rate: u32) -> Self {
        let quota = |rate: u32, seconds: u32| {
            let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(rate)
                .allow_burst(rate.saturating_mul(NonZeroU32::new(seconds).unwrap_or(rate)))
        };
        Self {
            known: RateLimiter::keyed(quota(rate, 4)),
            strangers: RateLimiter::keyed(quota(STRANGERS, 10)),
            clock: DefaultClock::default(),
            going_on: Counts::new(AT_THE_SAME_TIME),
            streams: Counts::new(STREAMS),
            connections: Counts::new(CONNECTIONS),
        }
    }

    /// A request of somebody who is known.
    pub(super) fn known(&self, key: &str) -> Answer<Counted<String>> {
        self.check(&self.known, key)?;
        self.going_on.begin(key.to_owned()).ok_or_else(|| {
            Problem::later(
                format!("{AT_THE_SAME_TIME} of your requests are already in progress"),
                1,
            )
            .hint("wait until one of them has finished")
        })
    }

    /// An event stream of the one whose request is in progress.
    pub(super) fn stream(&self, request: &Counted<String>) -> Answer<Counted<String>> {
        self.streams.begin(request.key.clone()).ok_or_else(|| {
            Problem::later(format!("{STREAMS} of your event streams are already open"), 1)
                .hint("close one of them")
        })
    }

    /// A request without a good token.
    pub(super) fn stranger(&self, key: &str) -> Answer<()> {
        self.check(&self.strangers, key)
    }

    /// A connection from a network; none if it has too many.
    pub(super) fn connection(&self, network: IpAddr) -> Option<Counted<IpAddr>> {
        self.connections.begin(network)
    }

    fn check(&self, limiter: &DefaultKeyedRateLimiter<String>, key: &str) -> Answer<()> {
        if limiter.len() >= MAX_KEYS {
            limiter.retain_recent();
        }
        let key = if limiter.len() >= MAX_KEYS { "others" } else { key };
        limiter.check_key(&key.to_owned()).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Problem::later("too many requests", seconds).hint("wait for the time in `Retry-After`")
        })
    }
}

/// How many of each go on.
struct Counts<K> {
    most: usize,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + std::hash::Hash> Counts<K> {
    fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    fn begin(&self, key: K) -> Option<Counted<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted { key, counts: Arc::clone(&self.counts) })
    }
}

/// Something that goes on, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted<K: Eq + std::hash::Hash> {
    key: K,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + std::hash::Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// How long is waited for this or that.
pub(super) mod patience {
    use super::Duration;

    /// For the whole head of a request, and for the next one on a connection.
    pub(in crate::api) const HEAD: Duration = Duration::from_secs(10);
    /// For the body of a request.
    pub(in crate::api) const BODY: Duration = Duration::from_secs(10);
    /// For agreeing on TLS.
    pub(in crate::api) const HANDSHAKE: Duration = Duration::from_secs(10);
    /// For somebody to read what is answered.
    pub(in crate::api) const WRITE: Duration = Duration::from_secs(30);
    /// For an answer.
    pub(in crate::api) const ANSWER: Duration = Duration::from_secs(150);
    /// For what goes on when the server ends.
    pub(in crate::api) const END: Duration = Duration::from_secs(10);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_no_more_than_that() {
        let limits = Limits::new(1);
        let going_on: Vec<_> = (0..4).map(|_| limits.known("anna").unwrap()).collect();
        let problem = limits.known("anna").unwrap_err();
        assert_eq!(problem.status.as_u16(), 429);
        assert!(limits.known("bob").is_ok());
        drop(going_on);
        assert!((0..20).all(|_| limits.stranger("x").is_ok()) && limits.stranger("x").is_err());
    }

    #[test]
    fn what_goes_on_is_counted_and_forgotten() {
        let counts = Counts::new(2);
        let (one, two) = (counts.begin("a"), counts.begin("a"));
        assert!(
            one.is_some()
                && two.is_some()
                && counts.begin("a").is_none()
                && counts.begin("b").is_some()
        );
        drop(one);
        assert!(counts.begin("a").is_some());
        drop(two);
        assert!(counts.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn strangers_fill_no_memory() {
        let limits = Limits::new(1);
        for number in 0..3 * MAX_KEYS {
            _ = limits.stranger(&number.to_string());
        }
        assert!(limits.strangers.len() <= MAX_KEYS + 1, "{}", limits.strangers.len());
    }
}

//! Which requests are meant, and what happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::answers::Answer;
use crate::support::http::Head;

/// Which requests: all that satisfy every condition.
#[derive(Clone, Debug)]
pub(crate) struct When {
    method: Option<&'static str>,
    contains: Vec<String>,
    lacks: Vec<String>,
    field: Option<&'static str>,
    credential: Option<&'static str>,
    /// Matching requests that pass first, and how many are hit then.
    skip: usize,
    times: usize,
    share: Option<(f64, u64)>,
}

impl When {
    pub(crate) fn any() -> Self {
        let (contains, lacks) = (Vec::new(), Vec::new());
        Self {
            method: None,
            contains,
            lacks,
            field: None,
            credential: None,
            skip: 0,
            times: usize::MAX,
            share: None,
        }
    }

    /// `PUT`, `GET`, ...
    pub(crate) fn method(method: &'static str) -> Self {
        Self { method: Some(method), ..Self::any() }
    }

    /// Path and query, as they are sent, contain this.
    pub(crate) fn target(mut self, text: &str) -> Self {
        self.contains.push(text.to_owned());
        self
    }

    /// They do not contain this.
    pub(crate) fn without(mut self, text: &str) -> Self {
        self.lacks.push(text.to_owned());
        self
    }

    /// A header is there, such as `if-none-match`.
    pub(crate) fn header(mut self, name: &'static str) -> Self {
        self.field = Some(name);
        self
    }

    /// `Authorization` contains this.
    pub(crate) fn credential(mut self, text: &'static str) -> Self {
        self.credential = Some(text);
        self
    }

    /// Not the first `count` of them.
    pub(crate) fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Only so many.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    pub(crate) fn once(self) -> Self {
        self.times(1)
    }

    /// Each with that probability; the same ones for the same seed and order.
    pub(crate) fn share(mut self, share: f64, seed: u64) -> Self {
        self.share = Some((share, seed));
        self
    }

    /// Listings of S3 and GCS.
    pub(crate) fn listing() -> Self {
        Self::method("GET").target("list-type=2")
    }

    /// Puts of whole objects.
    pub(crate) fn put() -> Self {
        Self::method("PUT").without("partNumber=")
    }

    /// Puts that must not overwrite, with S3.
    pub(crate) fn create() -> Self {
        Self::put().header("if-none-match")
    }

    /// Parts of multipart uploads.
    pub(crate) fn part() -> Self {
        Self::method("PUT").target("partNumber=")
    }

    /// Ends of multipart uploads.
    pub(crate) fn completion() -> Self {
        Self::method("POST").target("uploadId=")
    }

    /// Deletions of many objects, which is how `object_store` deletes one as well.
    pub(crate) fn bulk_deletion() -> Self {
        Self::method("POST").target("?delete")
    }

    fn matches(&self, head: &Head) -> bool {
        self.method.is_none_or(|method| method == head.method())
            && self.contains.iter().all(|text| head.target().contains(text))
            && !self.lacks.iter().any(|text| head.target().contains(text))
            && self.field.is_none_or(|name| head.field(name).is_some())
            && self.credential.is_none_or(|text| {
                head.field("authorization").is_some_and(|value| value.contains(text))
            })
    }
}

/// What happens. Offsets are bytes of payload.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answered here; the server never hears of it.
    Answer(Answer),
    /// The server has done it, and the client is told this instead.
    AnswerAfter(Answer),
    /// The connection is reset, and the server never hears of it.
    ResetBefore,
    /// The server has done it, and its answer is lost with the connection.
    ResetAfter,
    /// The answer ends with the connection after so many bytes, short of what it announced.
    Truncate(u64),
    /// Bytes a second, of request and response alike.
    Slow(u64),
    /// The request is read so far and no further.
    StallRequest(u64),
    /// The answer comes so far and no further.
    StallResponse(u64),
    /// One bit of what the client sends is another for the server.
    FlipRequest(u64),
    /// One bit of what the server sends is another for the client.
    FlipResponse(u64),
}

/// How often a rule was applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hits(Arc<AtomicUsize>);

impl Hits {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(super) struct Rule {
    when: When,
    fault: Fault,
    matched: usize,
    dice: Option<(f64, StdRng)>,
    hits: Hits,
}

impl Rule {
    pub(super) fn new(when: When, fault: Fault, hits: Hits) -> Self {
        let dice = when.share.map(|(share, seed)| (share, StdRng::seed_from_u64(seed)));
        Self { when, fault, matched: 0, dice, hits }
    }

    /// What it does to a request, if anything.
    pub(super) fn apply(&mut self, head: &Head) -> Option<Fault> {
        if !self.when.matches(head) {
            return None;
        }
        self.matched += 1;
        let is_due = self.matched > self.when.skip && self.hits.count() < self.when.times;
        if !is_due || self.dice.as_mut().is_some_and(|(share, dice)| !dice.random_bool(*share)) {
            return None;
        }
        self.hits.0.fetch_add(1, Ordering::SeqCst);
        Some(self.fault.clone())
    }
}

//! What a check is given.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::SinkDifferences;
use crate::sink::{
    Effect, Key, Payload, Prefix, PutMode, PutOutcome, Sink, SinkError, SinkErrorKind, SinkOps,
    SinkResult,
};

/// Two handles on one place, and ways to fail with the name of the check.
pub(super) struct Place {
    check: &'static str,
    pub(super) one: Arc<dyn Sink>,
    pub(super) two: Arc<dyn Sink>,
    pub(super) differences: SinkDifferences,
}

/// # Panics
/// If the suite itself uses an invalid name.
#[track_caller]
pub(super) fn key(text: impl Into<String>) -> Key {
    match Key::new(text) {
        Ok(key) => key,
        Err(error) => panic!("the suite is wrong: {error}"),
    }
}

/// # Panics
/// If the suite itself uses an invalid prefix.
#[track_caller]
pub(super) fn prefix(text: &str) -> Prefix {
    match Prefix::new(text) {
        Ok(prefix) => prefix,
        Err(error) => panic!("the suite is wrong: {error}"),
    }
}

/// `len` bytes that differ from place to place and from seed to seed.
pub(super) fn noise(len: usize, seed: u64) -> Bytes {
    crate::testing::Data::generated(len as u64, seed).to_bytes()
}

impl Place {
    pub(super) fn new(
        check: &'static str,
        one: Arc<dyn Sink>,
        two: Arc<dyn Sink>,
        differences: SinkDifferences,
    ) -> Self {
        Self { check, one, two, differences }
    }

    #[track_caller]
    pub(super) fn fail(&self, what: impl std::fmt::Display) -> ! {
        panic!("sink conformance of {}, {}: {what}", self.one, self.check)
    }

    /// What must succeed.
    #[track_caller]
    pub(super) fn ok<T>(&self, result: SinkResult<T>, doing: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(format_args!("{doing} failed: {}", chain(&error))),
        }
    }

    /// What must fail in this way, certainly without an effect.
    #[track_caller]
    pub(super) fn refused<T>(&self, result: SinkResult<T>, kind: SinkErrorKind, doing: &str) {
        match result {
            Ok(_) => self.fail(format_args!("{doing} succeeded; {kind:?} was expected")),
            Err(error) => {
                self.equal(
                    &error.kind(),
                    &kind,
                    &format!("kind of the error of {doing} ({})", chain(&error)),
                );
                self.equal(
                    &error.effect(),
                    &Effect::None,
                    &format!("effect of the error of {doing}"),
                );
            }
        }
    }

    #[track_caller]
    pub(super) fn equal<T: PartialEq + Debug>(&self, is: &T, should: &T, what: &str) {
        if is != should {
            self.fail(format_args!("{what} is {is:?}, not {should:?}"));
        }
    }

    /// Compares contents without printing megabytes.
    #[track_caller]
    pub(super) fn same_bytes(&self, is: &[u8], should: &[u8], what: &str) {
        if is == should {
            return;
        }
        let common = is.iter().zip(should).take_while(|(a, b)| a == b).count();
        self.fail(format_args!(
            "{what} has {} bytes of {} and differs from byte {common} on",
            is.len(),
            should.len()
        ));
    }

    /// Compares lists without printing a thousand lines.
    #[track_caller]
    pub(super) fn same_list(&self, is: &[(String, u64)], should: &[(String, u64)], what: &str) {
        let only = |a: &[(String, u64)], b: &[(String, u64)]| {
            let b: BTreeSet<_> = b.iter().collect();
            a.iter().filter(|object| !b.contains(object)).cloned().collect::<Vec<_>>()
        };
        let (missing, extra) = (only(should, is), only(is, should));
        if missing.is_empty() && extra.is_empty() && is.len() == should.len() {
            return;
        }
        self.fail(format_args!(
            "{what} has {} objects of {}; {} are missing: {:?}…; {} should not be there: {:?}…",
            is.len(),
            should.len(),
            missing.len(),
            &missing[..missing.len().min(5)],
            extra.len(),
            &extra[..extra.len().min(5)],
        ));
    }

    pub(super) async fn put(&self, text: &str, bytes: impl Into<Bytes>) {
        let result = self.one.put_bytes(&key(text), bytes).await;
        self.ok(result, &format!("putting {text}"));
    }

    pub(super) async fn create(
        &self,
        sink: &Arc<dyn Sink>,
        text: &str,
        bytes: Bytes,
    ) -> SinkResult<PutOutcome> {
        sink.put(&key(text), Payload::from(bytes), PutMode::Create).await
    }

    /// Both handles must read these bytes, and know their number.
    pub(super) async fn holds(&self, text: &str, bytes: &[u8]) {
        for sink in [&self.one, &self.two] {
            let is = self.ok(sink.get_bytes(&key(text)).await, &format!("reading {text}"));
            self.same_bytes(&is, bytes, text);
            let meta = self.ok(sink.head(&key(text)).await, &format!("looking at {text}"));
            self.equal(&meta.size, &(bytes.len() as u64), &format!("size of {text}"));
            self.equal(&meta.key, &key(text), "key in the answer to head");
        }
    }

    /// Neither handle may see anything of this name.
    pub(super) async fn lacks(&self, text: &str) {
        for sink in [&self.one, &self.two] {
            self.refused(
                sink.get_bytes(&key(text)).await,
                SinkErrorKind::NotFound,
                &format!("reading {text}"),
            );
            self.refused(
                sink.head(&key(text)).await,
                SinkErrorKind::NotFound,
                &format!("looking at {text}"),
            );
        }
        let listed = self.list(&self.two, "").await;
        if listed.iter().any(|(key, _)| key == text) {
            self.fail(format_args!("{text} is listed"));
        }
    }

    /// Keys and sizes, sorted. Fails if a key comes twice.
    pub(super) async fn list(&self, sink: &Arc<dyn Sink>, under: &str) -> Vec<(String, u64)> {
        let list: Vec<_> = sink.list(&prefix(under)).collect().await;
        let mut found = Vec::with_capacity(list.len());
        for meta in list {
            let meta = self.ok(meta, &format!("listing {under:?}"));
            found.push((meta.key.to_string(), meta.size));
        }
        found.sort();
        if let Some(twice) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            self.fail(format_args!("{} is listed twice under {under:?}", twice[0].0));
        }
        found
    }
}

pub(super) fn chain(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

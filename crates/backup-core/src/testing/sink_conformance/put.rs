//! Storing, overwriting, creating, odd keys.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::place::{Place, key, noise};
use crate::sink::{Payload, PutMode, SinkErrorKind, SinkOps};

pub(super) async fn an_object_is_what_was_put(place: Place) {
    let bytes = noise(100_000, 1);
    place.put("data/00/object", bytes.clone()).await;
    place.holds("data/00/object", &bytes).await;
    place.put("top", Bytes::from_static(b"x")).await;
    place.holds("top", b"x").await;
}

pub(super) async fn an_empty_object_is_an_object(place: Place) {
    place.put("empty", Bytes::new()).await;
    place.holds("empty", b"").await;
    let none =
        place.one.put(&key("none"), Payload::from_segments(Vec::new()), PutMode::Create).await;
    place.ok(none, "creating an object of no segments");
    place.holds("none", b"").await;
    place.same_list(
        &place.list(&place.two, "").await,
        &[("empty".to_owned(), 0), ("none".to_owned(), 0)],
        "the list",
    );
}

pub(super) async fn segments_are_joined_in_order(place: Place) {
    let bytes = noise(5 << 20, 2);
    let cuts = [0, 0, 1, 4096, 4096, 100_001, 3 << 20, bytes.len(), bytes.len()];
    let segments = cuts.windows(2).map(|cut| bytes.slice(cut[0]..cut[1])).collect();
    let payload = Payload::from_segments(segments);
    place.ok(
        place.one.put(&key("segments"), payload.clone(), PutMode::Overwrite).await,
        "putting segments",
    );
    place.holds("segments", &bytes).await;
    // More segments than the system takes in one call.
    let tiny = (0..5000).map(|at| bytes.slice(at..=at)).collect();
    place.ok(
        place.one.put(&key("tiny"), Payload::from_segments(tiny), PutMode::Create).await,
        "creating an object of 5000 segments",
    );
    place.holds("tiny", &bytes[..5000]).await;
}

pub(super) async fn a_put_replaces_everything(place: Place) {
    for (len, seed) in [(10_000, 3), (20, 4), (0, 5), (300_000, 6)] {
        let bytes = noise(len, seed);
        place.put("a/b", bytes.clone()).await;
        place.holds("a/b", &bytes).await;
    }
}

pub(super) async fn what_one_handle_writes_the_other_sees(place: Place) {
    // The other handle has looked before, so that it cannot have known.
    place.lacks("x/y/z").await;
    place.put("x/y/z", noise(1000, 7)).await;
    place.holds("x/y/z", &noise(1000, 7)).await;
    place.same_list(
        &place.list(&place.two, "x/y").await,
        &[("x/y/z".to_owned(), 1000)],
        "the list",
    );
    place.ok(place.two.delete_one(&key("x/y/z")).await, "deleting");
    place.lacks("x/y/z").await;
    place.put("x/y/z", noise(10, 8)).await;
    place.holds("x/y/z", &noise(10, 8)).await;
}

pub(super) async fn create_leaves_what_exists(place: Place) {
    let first = noise(500, 9);
    place.ok(place.create(&place.one, "lease/gc", first.clone()).await, "creating");
    for sink in [&place.one, &place.two] {
        let again = place.create(sink, "lease/gc", noise(700, 10)).await;
        place.refused(again, SinkErrorKind::AlreadyExists, "creating what exists");
        let same = place.create(sink, "lease/gc", first.clone()).await;
        place.refused(same, SinkErrorKind::AlreadyExists, "creating the same bytes again");
    }
    place.holds("lease/gc", &first).await;
    place.ok(place.one.delete_one(&key("lease/gc")).await, "deleting");
    place.ok(place.create(&place.two, "lease/gc", noise(3, 11)).await, "creating after deleting");
    place.holds("lease/gc", &noise(3, 11)).await;
}

pub(super) async fn of_many_rivals_one_wins(place: Place) {
    if !place.one.capabilities().conditional_put {
        // Then nothing is promised about rivals, and callers know.
        return;
    }
    for round in 0..8 {
        let name = format!("race/{round}");
        let rivals: FuturesUnordered<_> = (0..16_u64)
            .map(|rival| {
                let sink = Arc::clone(if rival % 2 == 0 { &place.one } else { &place.two });
                let name = key(&*name);
                tokio::spawn(async move {
                    let payload = Payload::from(noise(2000, 100 + rival));
                    (rival, sink.put(&name, payload, PutMode::Create).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (rival, result) in rivals.map(|ended| joined(&place, ended)).collect::<Vec<_>>().await {
            match result {
                Ok(_) => winners.push(rival),
                Err(error) => {
                    place.refused::<()>(
                        Err(error),
                        SinkErrorKind::AlreadyExists,
                        "creating as a rival",
                    );
                }
            }
        }
        place.equal(&winners.len(), &1, "the number of winners");
        place.holds(&name, &noise(2000, 100 + winners[0])).await;
    }
}

/// The result of a task of the suite.
#[track_caller]
pub(super) fn joined<T>(place: &Place, ended: Result<T, tokio::task::JoinError>) -> T {
    match ended {
        Ok(value) => value,
        Err(error) => place.fail(format_args!("a task ended badly: {error}")),
    }
}

pub(super) async fn odd_names_are_names(place: Place) {
    let long_segment = "s".repeat(200);
    let names = [
        ".hidden",
        "..twice",
        "...",
        "a..b",
        "-dash",
        "--",
        "_",
        "0",
        "name.",
        "x-lane/s1/0/00000001.pack",
        "UPPER/Mixed.Case-1_2",
        "tmp/x",
        "x-tmp2/x",
        "index.json/..x/.y",
        &format!("{long_segment}/{long_segment}"),
        &format!("deep{}", "/d".repeat(200)),
    ]
    .map(ToOwned::to_owned);
    for (seed, name) in (0..).zip(&names) {
        place.put(name, noise(100 + seed, seed as u64)).await;
    }
    for (seed, name) in (0..).zip(&names) {
        place.holds(name, &noise(100 + seed, seed as u64)).await;
    }
    let mut expected: Vec<_> =
        names.iter().zip(100..).map(|(name, size)| (name.clone(), size)).collect();
    expected.sort();
    place.same_list(&place.list(&place.two, "").await, &expected, "the list");
    for name in &names {
        place.ok(place.one.delete_one(&key(name)).await, "deleting");
        place.lacks(name).await;
    }
}

pub(super) async fn names_within_names(place: Place) {
    place.put("a", noise(10, 1)).await;
    place.put("b/c", noise(20, 2)).await;
    let below = place.one.put_bytes(&key("a/below"), noise(30, 3)).await;
    let above = place.one.put_bytes(&key("b"), noise(40, 4)).await;
    if place.differences.nested_keys {
        place.ok(below, "putting a/below beside a");
        place.ok(above, "putting b beside b/c");
        place.holds("a/below", &noise(30, 3)).await;
        place.holds("b", &noise(40, 4)).await;
    } else {
        place.refused(below, SinkErrorKind::Invalid, "putting a/below beside a");
        place.refused(above, SinkErrorKind::Invalid, "putting b beside b/c");
        place.lacks("a/below").await;
        place.lacks("b").await;
    }
    place.holds("a", &noise(10, 1)).await;
    place.holds("b/c", &noise(20, 2)).await;
    // Neither is the other: deleting one leaves the other.
    place.ok(place.two.delete_one(&key("b")).await, "deleting b beside b/c");
    place.ok(place.two.delete_one(&key("a/below")).await, "deleting a/below beside a");
    place.holds("a", &noise(10, 1)).await;
    place.holds("b/c", &noise(20, 2)).await;
    place.lacks("a/below").await;
}

pub(super) async fn many_puts_at_a_time(place: Place) {
    let concurrency = place.one.capabilities().concurrency;
    if concurrency == 0 {
        place.fail("the capabilities say that no request at a time suits this sink");
    }
    let count = concurrency.min(64) * 4;
    let name = |n: usize| format!("data/{:02x}/{n}", n % 16);
    let puts = (0..count).map(|n| {
        let sink = Arc::clone(if n % 2 == 0 { &place.one } else { &place.two });
        let key = key(name(n));
        tokio::spawn(async move { sink.put_bytes(&key, noise(70_000 + n, n as u64)).await })
    });
    for put in futures::future::join_all(puts).await {
        place.ok(joined(&place, put), "putting beside others");
    }
    for n in 0..count {
        place.holds(&name(n), &noise(70_000 + n, n as u64)).await;
    }
    place.equal(&place.list(&place.one, "data").await.len(), &count, "the number of objects");
}

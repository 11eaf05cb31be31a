//! Listing and deleting.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::place::{Place, key, noise, prefix};
use super::put::joined;
use crate::sink::SinkOps;

/// Puts objects with small contents, several at a time.
async fn put_all(place: &Place, names: &[(String, u64)]) {
    let concurrency = place.one.capabilities().concurrency.clamp(1, 16) * 2;
    let mut puts = stream::iter(names)
        .map(|(name, size)| async move {
            let bytes = noise(*size as usize, *size);
            place.one.put_bytes(&key(name), bytes).await
        })
        .buffer_unordered(concurrency);
    while let Some(put) = puts.next().await {
        place.ok(put, "putting");
    }
}

pub(super) async fn a_list_has_every_object_once(place: Place) {
    let count = place.differences.list_objects;
    let mut expected: Vec<_> =
        (0..count).map(|n| (format!("data/{:02x}/{n:05}", n % 40), n as u64 % 100)).collect();
    expected.push(("data/flat".to_owned(), 3));
    expected.push(("index/a".to_owned(), 4));
    expected.push(("config".to_owned(), 5));
    put_all(&place, &expected).await;
    expected.sort();
    for sink in [&place.one, &place.two] {
        place.same_list(&place.list(sink, "").await, &expected, "the list of everything");
    }
    for under in ["data", "data/00", "data/27", "index"] {
        let below = format!("{under}/");
        let part: Vec<_> =
            expected.iter().filter(|(name, _)| name.starts_with(&below)).cloned().collect();
        place.same_list(
            &place.list(&place.two, under).await,
            &part,
            &format!("the list of {under}"),
        );
    }
}

pub(super) async fn a_prefix_ends_at_a_slash(place: Place) {
    for name in ["data/a", "database/a", "data-2/a", "dat/a", "x/data/a"] {
        place.put(name, noise(1, 1)).await;
    }
    place.same_list(
        &place.list(&place.two, "data").await,
        &[("data/a".to_owned(), 1)],
        "the list of data",
    );
    // An object is not below itself.
    place.same_list(&place.list(&place.two, "data/a").await, &[], "the list of data/a");
    place.equal(&place.list(&place.two, "").await.len(), &5, "the number of objects");
}

pub(super) async fn a_prefix_without_objects_is_empty(place: Place) {
    for under in ["", "data", "data/00/x"] {
        place.same_list(
            &place.list(&place.one, under).await,
            &[],
            &format!("the list of {under:?}"),
        );
    }
    place.put("data/00/x", noise(1, 1)).await;
    place.ok(place.one.delete_one(&key("data/00/x")).await, "deleting");
    for under in ["", "data", "data/00", "data/00/x", "other"] {
        place.same_list(
            &place.list(&place.two, under).await,
            &[],
            &format!("the list of {under:?}"),
        );
    }
}

pub(super) async fn a_list_has_what_was_there_before(place: Place) {
    let before: Vec<_> = (0..300).map(|n| (format!("data/{:02x}/{n}", n % 10), n % 50)).collect();
    put_all(&place, &before).await;
    let sink = Arc::clone(&place.one);
    let writer = tokio::spawn(async move {
        for n in 0..100 {
            sink.put_bytes(&key(format!("data/{:02x}/late-{n}", n % 10)), Bytes::from_static(b"x"))
                .await?;
        }
        Ok(())
    });
    loop {
        let finished = writer.is_finished();
        let listed = place.list(&place.two, "data").await;
        let early = listed.into_iter().filter(|(name, _)| !name.contains("late"));
        let mut expected = before.clone();
        expected.sort();
        place.same_list(
            &early.collect::<Vec<_>>(),
            &expected,
            "what was there before the list began",
        );
        if finished {
            break;
        }
    }
    place.ok(joined(&place, writer.await), "putting beside a list");
    place.equal(&place.list(&place.two, "data").await.len(), &400, "the number of objects");
}

pub(super) async fn deleted_is_gone(place: Place) {
    for name in ["a/1", "a/2", "b/1"] {
        place.put(name, noise(10, 1)).await;
    }
    place.ok(place.one.delete_one(&key("a/1")).await, "deleting");
    place.lacks("a/1").await;
    place.holds("a/2", &noise(10, 1)).await;
    place.holds("b/1", &noise(10, 1)).await;
    // Deleting what others lie below does not touch those.
    place.ok(place.one.delete_one(&key("a")).await, "deleting a beside a/2");
    place.holds("a/2", &noise(10, 1)).await;
}

pub(super) async fn deleting_what_is_missing_succeeds(place: Place) {
    place.ok(place.one.delete_one(&key("no/such/object")).await, "deleting what is missing");
    place.put("object", noise(10, 2)).await;
    for _ in 0..2 {
        place.ok(place.one.delete_one(&key("object")).await, "deleting twice");
    }
    place.ok(place.one.delete_one(&key("object/below")).await, "deleting below what is missing");
    place.lacks("object").await;
}

pub(super) async fn every_deletion_has_its_answer(place: Place) {
    let mut names: Vec<_> = (0..600).map(|n| (format!("data/{:02x}/{n}", n % 16), 1)).collect();
    put_all(&place, &names[..300]).await;
    place.put("kept", noise(1, 1)).await;
    names.push(names[0].clone());
    // A stream that is not ready at once, as when the keys come from a list.
    let keys: Vec<_> = names.iter().map(|(name, _)| key(name)).collect();
    let slow = stream::iter(keys).then(|key| async move {
        tokio::task::yield_now().await;
        key
    });
    let answers: Vec<_> = place.one.delete(slow.boxed()).collect().await;
    let mut answered: Vec<_> = answers
        .into_iter()
        .map(|answer| (place.ok(answer, "deleting a stream").to_string(), 1))
        .collect();
    answered.sort();
    names.sort();
    place.same_list(&answered, &names, "the list of answers");
    place.same_list(&place.list(&place.two, "").await, &[("kept".to_owned(), 1)], "the list");
    let none: Vec<_> = place.one.delete(stream::empty().boxed()).collect().await;
    place.equal(&none.len(), &0, "the number of answers to no deletions");
    place.equal(&place.one.list(&prefix("kept")).count().await, &0, "the list of kept");
}

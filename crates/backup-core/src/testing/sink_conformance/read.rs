//! Contents, ranges, what is missing.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::place::{Place, key, noise, prefix};
use crate::sink::{SinkErrorKind, SinkOps};

async fn check_ranges(place: &Place, name: &str, bytes: &Bytes, ranges: &[Range<usize>]) {
    for range in ranges {
        let asked = range.start as u64..range.end as u64;
        let is = place.two.get_range(&key(name), asked).await;
        let is = place.ok(is, &format!("reading {range:?} of {name}"));
        place.same_bytes(&is, &bytes[range.clone()], &format!("{range:?} of {name}"));
    }
}

pub(super) async fn ranges_are_exact(place: Place) {
    let bytes = noise(1000, 1);
    place.put("object", bytes.clone()).await;
    let ranges = [0..1, 0..1000, 999..1000, 1..999, 500..500, 0..0, 1000..1000, 17..18];
    check_ranges(&place, "object", &bytes, &ranges).await;
    place.put("empty", Bytes::new()).await;
    check_ranges(&place, "empty", &Bytes::new(), std::slice::from_ref(&(0..0))).await;
}

pub(super) async fn ranges_of_large_objects_are_exact(place: Place) {
    const MIB: usize = 1 << 20;
    let bytes = noise(20 * MIB + 3, 2);
    place.put("large", bytes.clone()).await;
    let end = bytes.len();
    let ranges = [
        0..end,
        1..end,
        0..8 * MIB,
        0..8 * MIB + 1,
        3..9 * MIB + 5,
        4 * MIB - 1..12 * MIB + 1,
        end - 1..end,
    ];
    check_ranges(&place, "large", &bytes, &ranges).await;
    place.holds("large", &bytes).await;
}

pub(super) async fn a_range_outside_is_invalid(place: Place) {
    place.put("object", noise(1000, 3)).await;
    place.put("empty", Bytes::new()).await;
    for (name, start, end) in [
        ("object", 0, 1001),
        ("object", 999, 1001),
        ("object", 1000, 1001),
        ("object", 1001, 1001),
        ("object", 5000, 6000),
        ("object", 10, 9),
        ("object", 1000, 0),
        ("object", 0, u64::MAX),
        ("object", u64::MAX, u64::MAX),
        ("empty", 0, 1),
        ("empty", 1, 1),
    ] {
        let result = place.one.get_range(&key(name), Range { start, end }).await;
        place.refused(result, SinkErrorKind::Invalid, &format!("reading {start}..{end} of {name}"));
    }
}

pub(super) async fn what_is_missing_is_not_found(place: Place) {
    place.put("there/object", noise(10, 4)).await;
    // Below nothing, beside something, above something, below an object.
    for name in ["no/such/object", "there/other", "there", "there/object/below"] {
        place.lacks(name).await;
        place.refused(
            place.one.get_range(&key(name), 0..1).await,
            SinkErrorKind::NotFound,
            &format!("reading a range of {name}"),
        );
        let exists = place.ok(place.one.exists(&key(name)).await, &format!("asking for {name}"));
        place.equal(&exists, &false, &format!("whether {name} exists"));
    }
}

pub(super) async fn streams_outlive_their_sink(place: Place) {
    let bytes = noise(20 << 20, 5);
    place.put("object", bytes.clone()).await;
    let content = place.ok(place.one.get(&key("object"), None).await, "reading");
    let list = place.one.list(&prefix(""));
    let keys = futures::stream::iter([key("other")]).boxed();
    let deleting = place.one.delete(keys);
    let Place { one, two, .. } = place;
    drop(one);
    let place = Place::new("read::streams_outlive_their_sink", two.clone(), two, place.differences);
    let pieces: Vec<Bytes> = place.ok(content.try_collect().await, "reading on");
    place.same_bytes(&pieces.concat(), &bytes, "the content");
    let listed: Vec<_> = place.ok(list.try_collect().await, "listing on");
    place.equal(&listed.len(), &1, "the number of objects");
    let deleted: Vec<_> = place.ok(deleting.try_collect().await, "deleting on");
    place.equal(&deleted, &vec![key("other")], "what was deleted");
}

pub(super) async fn a_dropped_stream_harms_nothing(place: Place) {
    let bytes = noise(20 << 20, 6);
    place.put("large", bytes.clone()).await;
    for n in 0..20 {
        place.put(&format!("small/{n}"), noise(n, 7)).await;
    }
    for polled in 0..3 {
        let mut content = place.ok(place.one.get(&key("large"), None).await, "reading");
        let mut list = place.one.list(&prefix(""));
        let keys = futures::stream::iter((0..polled).map(|n| key(format!("none/{n}"))));
        let mut deleting = place.one.delete(keys.boxed());
        for _ in 0..polled {
            place.ok(content.next().await.transpose(), "reading a piece");
            place.ok(list.next().await.transpose(), "listing an object");
            place.ok(deleting.next().await.transpose(), "deleting an object");
        }
    }
    place.holds("large", &bytes).await;
    place.equal(&place.list(&place.one, "").await.len(), &21, "the number of objects");
}

//! Nobody ever sees a part: dropped puts, uploads, readers beside writers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::place::{Place, key, noise};
use super::put::joined;
use crate::sink::{SinkErrorKind, SinkOps, Upload};

/// What a dropped operation may go on with behind the scenes is over after this time, at the
/// latest.
const SETTLED: Duration = Duration::from_millis(100);

/// Runs a future for a while and drops it: after so many turns of the other tasks, or after so many
/// microseconds.
async fn drop_after<T>(future: impl Future<Output = T>, step: u64) -> Option<T> {
    let moment = async {
        if step < 4 {
            for _ in 0..step {
                tokio::task::yield_now().await;
            }
        } else {
            tokio::time::sleep(Duration::from_micros(step * step * 10)).await;
        }
    };
    tokio::select! {
        biased;
        done = future => Some(done),
        () = moment => None,
    }
}

/// Whether the object is there; if it is, it must be one of these, and whole.
async fn version(place: &Place, name: &str, versions: &[Bytes]) -> Option<usize> {
    let bytes = match place.two.get_bytes(&key(name)).await {
        Ok(bytes) => bytes,
        Err(error) => {
            place.refused::<()>(Err(error), SinkErrorKind::NotFound, "reading");
            return None;
        }
    };
    let found = versions.iter().position(|version| *version == bytes);
    if found.is_none() {
        place.fail(format_args!(
            "{name} is none of its versions but {} bytes of something else",
            bytes.len()
        ));
    }
    found
}

pub(super) async fn a_dropped_put_is_done_or_not_done(place: Place) {
    let bytes = noise(2 << 20, 1);
    for step in 0..16 {
        let name = format!("dropped/{step}");
        let done = drop_after(place.one.put_bytes(&key(&*name), bytes.clone()), step).await;
        let seen = version(&place, &name, std::slice::from_ref(&bytes)).await;
        if done.is_some() && seen.is_none() {
            place.fail("a put that succeeded is not seen");
        }
    }
    tokio::time::sleep(SETTLED).await;
    for (name, size) in place.list(&place.two, "").await {
        place.equal(&size, &(bytes.len() as u64), &format!("size of {name}"));
        place.holds(&name, &bytes).await;
    }
}

pub(super) async fn a_dropped_overwrite_is_done_or_not_done(place: Place) {
    let versions = [noise(300_000, 2), noise(2 << 20, 3)];
    let name = |step: u64| format!("replaced/{step}");
    for step in 0..16 {
        place.put(&name(step), versions[0].clone()).await;
        drop_after(place.one.put_bytes(&key(name(step)), versions[1].clone()), step).await;
        if version(&place, &name(step), &versions).await.is_none() {
            place.fail("an object vanished while it was replaced");
        }
    }
    tokio::time::sleep(SETTLED).await;
    for step in 0..16 {
        if version(&place, &name(step), &versions).await.is_none() {
            place.fail("an object vanished after it was replaced");
        }
    }
}

async fn begin(place: &Place, name: &str, parts: &[Bytes]) -> Box<dyn Upload> {
    let mut upload = place.ok(place.one.upload(&key(name)).await, "beginning an upload");
    for part in parts {
        place.ok(upload.put_part(part.clone()).await, "uploading a part");
    }
    upload
}

fn parts() -> Vec<Bytes> {
    let sizes = [5 << 20, 1, 0, 6_000_001, 100];
    sizes.into_iter().zip(20..).map(|(size, seed)| noise(size, seed)).collect()
}

pub(super) async fn an_upload_is_visible_when_complete(place: Place) {
    let upload = begin(&place, "large/object", &parts()).await;
    place.lacks("large/object").await;
    place.same_list(&place.list(&place.two, "").await, &[], "the list during an upload");
    place.ok(upload.complete().await, "completing an upload");
    place.holds("large/object", &parts().concat()).await;
    place.equal(
        &place.list(&place.two, "").await.len(),
        &1,
        "the number of objects after an upload",
    );
}

pub(super) async fn an_upload_without_parts_is_empty(place: Place) {
    let upload = begin(&place, "nothing", &[]).await;
    place.ok(upload.complete().await, "completing an upload without parts");
    place.holds("nothing", b"").await;
}

pub(super) async fn an_upload_replaces_everything(place: Place) {
    let before = noise(9_000, 30);
    place.put("object", before.clone()).await;
    let upload = begin(&place, "object", &[noise(10, 31)]).await;
    place.holds("object", &before).await;
    place.ok(upload.complete().await, "completing an upload");
    place.holds("object", &noise(10, 31)).await;
}

pub(super) async fn a_dropped_upload_leaves_nothing(place: Place) {
    place.put("old", noise(50, 32)).await;
    drop(begin(&place, "new", &parts()).await);
    drop(begin(&place, "old", &parts()).await);
    drop(begin(&place, "begun", &[]).await);
    let mut upload = begin(&place, "part", &[]).await;
    drop_after(upload.put_part(noise(6 << 20, 33)), 1).await;
    drop(upload);
    tokio::time::sleep(SETTLED).await;
    place.same_list(&place.list(&place.two, "").await, &[("old".to_owned(), 50)], "the list");
    place.holds("old", &noise(50, 32)).await;
    for name in ["new", "begun", "part"] {
        place.lacks(name).await;
    }
}

pub(super) async fn an_aborted_upload_leaves_nothing(place: Place) {
    place.put("old", noise(50, 34)).await;
    for name in ["old", "new"] {
        let upload = begin(&place, name, &parts()).await;
        place.ok(upload.abort().await, "aborting an upload");
    }
    place.lacks("new").await;
    place.holds("old", &noise(50, 34)).await;
}

pub(super) async fn a_reader_sees_one_version(place: Place) {
    let versions = [noise(200_000, 40), noise(70_000, 41), noise(1, 42)];
    place.put("busy", versions[0].clone()).await;
    let (sink, written) = (Arc::clone(&place.one), versions.clone());
    let writer = tokio::spawn(async move {
        for round in 0..60 {
            sink.put_bytes(&key("busy"), written[round % 3].clone()).await?;
        }
        Ok(())
    });
    while !writer.is_finished() {
        if version(&place, "busy", &versions).await.is_none() {
            place.fail("an object vanished while it was replaced");
        }
        tokio::task::yield_now().await;
    }
    place.ok(joined(&place, writer.await), "overwriting");
    place.holds("busy", &versions[2]).await;
}

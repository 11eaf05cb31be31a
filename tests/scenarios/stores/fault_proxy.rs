//! The faults do what they say.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::gcp::GoogleCloudStorage;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};

use crate::support::fault_proxy::FaultProxy;
use crate::support::fault_proxy::answers::Answer;
use crate::support::fault_proxy::rules::{Fault, When};
use crate::support::gcs_double::GcsDouble;
use crate::support::plain::Plain;

/// A store behind a proxy, and a client that tries everything once and waits no more than two
/// seconds.
struct Room {
    double: GcsDouble,
    proxy: FaultProxy,
    store: GoogleCloudStorage,
}

fn room() -> Room {
    let double = GcsDouble::start();
    double.create_bucket("bucket");
    let proxy = FaultProxy::start(&double.endpoint());
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let builder = double.builder_at(&proxy.endpoint(), "bucket");
    let store = builder
        .with_http_connector(Plain::within(Duration::from_secs(2)))
        .with_retry(retry)
        .build()
        .unwrap();
    Room { double, proxy, store }
}

impl Room {
    async fn put(&self, key: &str, content: &'static [u8]) -> object_store::Result<()> {
        self.store.put(&Key::from(key), PutPayload::from_static(content)).await.map(drop)
    }

    async fn get(&self, key: &str) -> object_store::Result<bytes::Bytes> {
        self.store.get(&Key::from(key)).await?.bytes().await
    }

    fn holds(&self, key: &str) -> bool {
        self.double.content("bucket", key).is_some()
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(|error| format!("{error}: "))
        .collect()
}

#[tokio::test]
async fn answers_instead_and_after() {
    let room = room();
    for (at, answer) in [
        Answer::slow_down().retry_after(1),
        Answer::internal_error(),
        Answer::too_many_requests(),
        Answer::expired_token(),
        Answer::expired_token_forbidden(),
        Answer::clock_skew(),
        Answer::access_denied(),
        Answer::wrong_region(),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key {at}");
        let code =
            answer.body.split("<Code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let hits = room.proxy.inject(When::put().once(), Fault::Answer(answer.clone()));
        let error = chain(&room.put(&key, b"x").await.unwrap_err());
        assert!(error.contains(&code), "{error}");
        assert!(hits.count() == 1 && !room.holds(&key));
        room.proxy.inject(When::put().once(), Fault::AnswerAfter(answer));
        room.put(&key, b"x").await.unwrap_err();
        assert!(room.holds(&key));
        room.put(&key, b"x").await.unwrap();
    }
}

#[tokio::test]
async fn resets_before_and_after() {
    let room = room();
    room.proxy.inject(When::put().target("before").once(), Fault::ResetBefore);
    room.proxy.inject(When::put().target("after").once(), Fault::ResetAfter);
    room.put("before", b"x").await.unwrap_err();
    assert!(!room.holds("before"));
    room.put("after", b"x").await.unwrap_err();
    assert!(room.holds("after"));
    room.put("before", b"x").await.unwrap();
}

#[tokio::test]
async fn conflicts() {
    let room = room();
    room.proxy.inject(
        When::put().header("x-goog-if-generation-match"),
        Fault::Answer(Answer::conflict()),
    );
    let key = Key::from("key");
    let created = room.store.put_opts(&key, PutPayload::new(), PutMode::Create.into()).await;
    // What the client makes of it, and it is wrong: there is nothing.
    assert!(matches!(created, Err(Error::AlreadyExists { .. })), "{created:?}");
    assert!(!room.holds("key"));
    room.put("key", b"an overwrite is not hit").await.unwrap();
    room.proxy.heal();
    assert!(room.proxy.requests().iter().filter(|request| request.hit).count() == 1);
}

#[tokio::test]
async fn damaged_bodies() {
    let room = room();
    room.put("key", b"0123456789").await.unwrap();
    room.proxy.inject(When::method("GET").once(), Fault::FlipResponse(3));
    assert_eq!(room.get("key").await.unwrap(), "0122456789");
    room.proxy.inject(When::method("GET"), Fault::Truncate(4));
    room.get("key").await.unwrap_err();
    room.proxy.heal();
    room.proxy.inject(When::put().once(), Fault::FlipRequest(0));
    room.put("key", b"0123456789").await.unwrap();
    assert_eq!(room.get("key").await.unwrap(), "1123456789");
}

#[tokio::test]
async fn stalls() {
    let room = room();
    room.put("key", b"0123456789").await.unwrap();
    room.proxy.inject(When::method("GET").once(), Fault::StallResponse(4));
    room.proxy.inject(When::put().once(), Fault::StallRequest(4));
    let started = Instant::now();
    room.get("key").await.unwrap_err();
    room.put("other", b"0123456789").await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!room.holds("other"));
    assert_eq!(room.get("key").await.unwrap(), "0123456789");
}

#[tokio::test]
async fn slow_links() {
    static CONTENT: [u8; 300_000] = [7; 300_000];
    let room = room();
    room.proxy.inject(When::any(), Fault::Slow(300_000));
    room.put("key", &CONTENT).await.unwrap();
    assert_eq!(room.get("key").await.unwrap(), CONTENT.as_slice());
    for traffic in [room.proxy.uploaded(), room.proxy.downloaded()] {
        let rate = traffic.bytes_per_second();
        assert!(
            (250_000.0..350_000.0).contains(&rate),
            "{rate} bytes/s for {} in {:?}",
            traffic.bytes,
            traffic.lasted()
        );
    }
    room.proxy.forget();
    assert_eq!((room.proxy.uploaded().bytes, room.proxy.requests().len()), (0, 0));
}

#[tokio::test]
async fn listings_that_lie() {
    let room = room();
    room.put("key", b"x").await.unwrap();
    for answer in [Answer::html(), Answer::empty_xml()] {
        room.proxy.inject(When::listing().once(), Fault::Answer(answer));
        let listed: Vec<_> = room.store.list(None).try_collect().await.unwrap();
        // What the client makes of it.
        assert_eq!(listed, []);
    }
    assert_eq!(room.store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert_eq!(room.proxy.count("GET", "list-type=2"), 3);
}

#[tokio::test]
async fn counts_and_shares() {
    let room = room();
    room.put("key", b"x").await.unwrap();
    // The third and fourth only.
    let rule = When::method("GET").target("key").without("uploads").after(2).times(2);
    let hits = room.proxy.inject(rule, Fault::Answer(Answer::internal_error()));
    let mut failed = Vec::new();
    for at in 0..6 {
        if room.get("key").await.is_err() {
            failed.push(at);
        }
    }
    assert_eq!((failed, hits.count()), (vec![2, 3], 2));
    room.proxy.heal();
    let hits = room.proxy.inject(When::any().share(0.3, 5), Fault::ResetBefore);
    for _ in 0..50 {
        room.get("key").await.ok();
    }
    assert!((5..30).contains(&hits.count()), "{}", hits.count());
}

mod needs_weed {
    use object_store::aws::Checksum;

    use super::*;
    use crate::support::servers::weed::SeaweedFs;

    #[tokio::test]
    async fn signatures_stay_valid() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket("bucket", false);
        let proxy = FaultProxy::start(&weed.s3.endpoint);
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let store =
            weed.s3.at(&proxy.endpoint()).builder("bucket").with_retry(retry).build().unwrap();
        let key = Key::from("a b/ö");
        let create =
            || store.put_opts(&key, PutPayload::from_static(b"content"), PutMode::Create.into());
        proxy.inject(When::create().once(), Fault::Answer(Answer::conflict()));
        assert!(matches!(create().await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
        create().await.unwrap();
        assert!(matches!(create().await, Err(Error::AlreadyExists { .. })));
        proxy
            .inject(When::bulk_deletion().once(), Fault::Answer(Answer::not_deleted(key.as_ref())));
        store.delete(&key).await.unwrap_err();
        assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "content");
        let mut upload = store.put_multipart(&key).await.unwrap();
        upload.put_part(vec![1; 6 << 20].into()).await.unwrap();
        proxy.inject(When::part().once(), Fault::ResetAfter);
        upload.put_part(vec![2; 10].into()).await.unwrap_err();
        upload.abort().await.unwrap();
        let mut upload = store.put_multipart(&key).await.unwrap();
        upload.put_part(vec![1; 10].into()).await.unwrap();
        proxy.inject(When::completion().once(), Fault::Answer(Answer::late(Answer::slow_down())));
        upload.complete().await.unwrap_err();
        assert!(
            proxy
                .requests()
                .iter()
                .all(|request| request.authorization.starts_with("AWS4-HMAC-SHA256"))
        );
    }

    #[tokio::test]
    async fn checksums_find_a_flipped_bit() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket("bucket", false);
        let proxy = FaultProxy::start(&weed.s3.endpoint);
        proxy.inject(When::put(), Fault::FlipRequest(0));
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let builder = || weed.s3.at(&proxy.endpoint()).builder("bucket").with_retry(retry.clone());
        let put = async |store: object_store::aws::AmazonS3| {
            store.put(&Key::from("key"), PutPayload::from_static(b"content")).await.map(drop)
        };
        // The signature covers a digest of the content, which this server does not compare with the
        // content.
        put(builder().build().unwrap()).await.unwrap();
        put(builder().with_checksum_algorithm(Checksum::SHA256).build().unwrap())
            .await
            .unwrap_err();
    }
}

//! The servers do what our tests rely on, and nothing is left of them.

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::support::servers::process::Server;

/// Puts, gets, lists and deletes.
async fn works(store: &impl ObjectStore) {
    let keys = ["a/1", "a/2", "b/1"].map(Key::from);
    for key in &keys {
        store.put(key, PutPayload::from(key.to_string())).await.unwrap();
    }
    assert_eq!(store.get(&keys[1]).await.unwrap().bytes().await.unwrap(), "a/2");
    let listed: Vec<_> =
        store.list(Some(&Key::from("a"))).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(listed, keys[..2]);
    store.delete(&keys[0]).await.unwrap();
    assert!(matches!(store.head(&keys[0]).await, Err(Error::NotFound { .. })));
}

/// Whether a part of an object can be had.
async fn reads_ranges(store: &impl ObjectStore) -> bool {
    let key = Key::from("ranges");
    store.put(&key, PutPayload::from_static(b"0123456789")).await.unwrap();
    let read = store.get_range(&key, 2..5).await;
    assert!(read.as_ref().map_or(true, |bytes| bytes == "234"), "{read:?}");
    read.is_ok()
}

/// The second creation of one object: refused, or silently an overwrite?
async fn creates_once(store: &impl ObjectStore) -> bool {
    let key = Key::from("once");
    let create = |content: &'static str| {
        store.put_opts(&key, PutPayload::from(content), PutMode::Create.into())
    };
    create("first").await.unwrap();
    let second = create("second").await;
    assert!(matches!(second, Ok(_) | Err(Error::AlreadyExists { .. })), "{second:?}");
    let content = store.get(&key).await.unwrap().bytes().await.unwrap();
    assert_eq!(content, if second.is_ok() { "second" } else { "first" });
    second.is_err()
}

#[expect(clippy::print_stdout, reason = "for whoever asks for the output")]
fn report(name: &str, server: &Server) {
    println!("{name}: ready after {:?}, {} MB", server.took, server.memory() >> 20);
}

/// Fails if a server outlives its value, or its data do.
fn assert_gone(id: u32, data: &Path) {
    assert!(!Path::new(&format!("/proc/{id}")).exists(), "process {id} still runs");
    assert!(!data.exists(), "{} is still there", data.display());
}

mod needs_weed {
    use http::Method;

    use super::*;
    use crate::support::servers::weed::{SeaweedFs, User};

    #[tokio::test]
    async fn stores_and_honours_conditions() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket("bucket", false);
        let store = weed.s3.store("bucket");
        works(&store).await;
        assert!(creates_once(&store).await && reads_ranges(&store).await);
        report("SeaweedFS", &weed.server);
        let wrong = weed.s3.with_key("test", "wrong").send(Method::GET, "/bucket/b/1", &[], b"");
        assert_eq!((wrong.status, wrong.text().contains("SignatureDoesNotMatch")), (403, true));
        let missing = weed.s3.send(Method::PUT, "/no-such-bucket/x", &[], b"x");
        assert_eq!(
            (missing.status, missing.text().contains("NoSuchBucket")),
            (404, true),
            "{}",
            missing.text()
        );
    }

    #[test]
    fn two_at_once_and_nothing_left() {
        let (one, two) = (SeaweedFs::start(), SeaweedFs::start());
        let [first, second] = [&one, &two].map(|weed| (weed.server.id(), weed.server.data()));
        one.s3.create_bucket("only-here", false);
        assert_eq!(two.s3.send(Method::GET, "/only-here", &[], b"").status, 404);
        drop(one);
        assert_gone(first.0, &first.1);
        two.s3.create_bucket("still-alive", false);
        drop(two);
        assert_gone(second.0, &second.1);
    }

    #[test]
    fn locks_objects() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket("locked", true);
        let until = jiff::Timestamp::from_second(4_000_000_000).unwrap().to_string();
        let lock = [
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", &until),
        ];
        let put = weed.s3.send(Method::PUT, "/locked/pack", &lock, b"content").succeeded();
        let version = put.header("x-amz-version-id").to_owned();
        let target = format!("/locked/pack?versionId={version}");
        let head = weed.s3.send(Method::HEAD, &target, &[], b"").succeeded();
        assert_eq!(head.header("x-amz-object-lock-mode"), "GOVERNANCE");
        assert_eq!(weed.s3.send(Method::DELETE, &target, &[], b"").status, 403);
    }

    #[test]
    fn confines_users() {
        let writer = User {
            key: "writer",
            secret: "secret",
            actions: &["Write:bucket/ours/*", "List:bucket"],
        };
        let weed = SeaweedFs::with_users(&[writer]);
        weed.s3.create_bucket("bucket", false);
        let writer = weed.s3.with_key("writer", "secret");
        writer.send(Method::PUT, "/bucket/ours/a", &[], b"a").succeeded();
        for (method, target) in [(Method::PUT, "/bucket/theirs"), (Method::GET, "/bucket/ours/a")] {
            let denied = writer.send(method, target, &[], b"");
            assert_eq!(
                (denied.status, denied.text().contains("AccessDenied")),
                (403, true),
                "{}",
                denied.text()
            );
        }
    }
}

mod needs_moto_server {
    use http::Method;

    use super::*;
    use crate::support::servers::moto::Moto;

    #[tokio::test]
    async fn stores_and_thaws() {
        let moto = Moto::start();
        moto.s3.create_bucket("bucket", false);
        let store = moto.s3.store("bucket");
        works(&store).await;
        assert!(creates_once(&store).await && reads_ranges(&store).await);
        report("moto", &moto.server);
        let s3 = &moto.s3;
        s3.send(Method::PUT, "/bucket/cold", &[("x-amz-storage-class", "GLACIER")], b"ice")
            .succeeded();
        assert_eq!(s3.send(Method::GET, "/bucket/cold", &[], b"").status, 403);
        let restore = b"<RestoreRequest><Days>1</Days></RestoreRequest>";
        assert_eq!(s3.send(Method::POST, "/bucket/cold?restore", &[], restore).status, 202);
        assert_eq!(s3.send(Method::GET, "/bucket/cold", &[], b"").succeeded().text(), "ice");
        moto.reset();
        assert_eq!(s3.send(Method::GET, "/bucket", &[], b"").status, 404);
        let (id, data) = (moto.server.id(), moto.server.data());
        drop(moto);
        assert_gone(id, &data);
    }
}

mod needs_rclone {
    use super::*;
    use crate::support::servers::rclone::Rclone;

    #[tokio::test]
    async fn stores_and_ignores_conditions() {
        let rclone = Rclone::start();
        rclone.s3.create_bucket("bucket", false);
        let store = rclone.s3.store("bucket");
        works(&store).await;
        assert!(!creates_once(&store).await);
        // It sends the right bytes, but with status 200 for 206, which `object_store` does not
        // take.
        assert!(!reads_ranges(&store).await);
        report("rclone", &rclone.server);
        let (id, data) = (rclone.server.id(), rclone.server.data());
        drop(rclone);
        assert_gone(id, &data);
    }
}

mod needs_azurite_blob {
    use super::*;
    use crate::support::servers::azurite::Azurite;

    #[tokio::test]
    async fn stores_and_honours_conditions() {
        let azurite = Azurite::start();
        azurite.create_bucket("container");
        let store = azurite.builder("container").build().unwrap();
        works(&store).await;
        assert!(creates_once(&store).await && reads_ranges(&store).await);
        report("Azurite", &azurite.server);
        let (id, data) = (azurite.server.id(), azurite.server.data());
        drop(azurite);
        // Node ends its children itself; nothing else is started.
        std::thread::sleep(Duration::from_millis(10));
        assert_gone(id, &data);
    }
}

//! The double of Google's API does what the client needs.

use futures::TryStreamExt;
use http::Method;
use object_store::gcp::GoogleCloudStorage;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, UpdateVersion,
};

use crate::support::gcs_double::GcsDouble;
use crate::support::servers::s3::S3;

fn double() -> (GcsDouble, GoogleCloudStorage) {
    let double = GcsDouble::start();
    double.create_bucket("bucket");
    let store = double.builder("bucket").build().unwrap();
    (double, store)
}

#[tokio::test]
async fn objects_and_ranges() {
    let (double, store) = double();
    let odd = Key::parse("a b/é+%?#&<x>").unwrap();
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::StorageClass, "COLDLINE".into());
    attributes.insert(Attribute::Metadata("owner".into()), "me".into());
    let options = PutOptions { attributes, ..PutOptions::default() };
    store.put_opts(&odd, PutPayload::from_static(b"0123456789"), options).await.unwrap();
    assert_eq!(double.content("bucket", odd.as_ref()).unwrap(), b"0123456789");
    let read = |range: GetRange| {
        store.get_opts(&odd, GetOptions { range: Some(range), ..GetOptions::default() })
    };
    for (range, expected) in
        [((2..5).into(), "234"), (GetRange::Offset(7), "789"), (GetRange::Suffix(2), "89")]
    {
        assert_eq!(read(range).await.unwrap().bytes().await.unwrap(), expected);
    }
    let got = store.get(&odd).await.unwrap();
    assert_eq!(got.attributes.get(&Attribute::Metadata("owner".into())).unwrap().as_ref(), "me");
    let tag = got.meta.e_tag.clone();
    let unchanged = GetOptions { if_none_match: tag, ..GetOptions::default() };
    assert!(matches!(store.get_opts(&odd, unchanged).await, Err(Error::NotModified { .. })));
    let changed = GetOptions { if_match: Some("\"other\"".to_owned()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&odd, changed).await, Err(Error::Precondition { .. })));
    store.copy(&odd, &Key::from("copy")).await.unwrap();
    let again = store.copy_if_not_exists(&odd, &Key::from("copy")).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    store.delete(&odd).await.unwrap();
    assert!(matches!(store.delete(&odd).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.head(&odd).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn generations() {
    let (_double, store) = double();
    let key = Key::from("counter");
    let put = |mode| {
        store.put_opts(
            &key,
            PutPayload::from_static(b"x"),
            PutOptions { mode, ..PutOptions::default() },
        )
    };
    let first: UpdateVersion = put(PutMode::Create).await.unwrap().into();
    assert!(matches!(put(PutMode::Create).await, Err(Error::AlreadyExists { .. })));
    let second: UpdateVersion = put(PutMode::Update(first.clone())).await.unwrap().into();
    assert!(matches!(put(PutMode::Update(first)).await, Err(Error::Precondition { .. })));
    put(PutMode::Update(second)).await.unwrap();
    let racers = (0..16).map(|_| {
        let (store, key) = (store.clone(), Key::from("race"));
        async move { store.put_opts(&key, PutPayload::new(), PutMode::Create.into()).await.is_ok() }
    });
    let won = futures::future::join_all(racers).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn listings() {
    let (_double, store) = double();
    for at in 0..1203 {
        store.put(&Key::from(format!("many/{at:04}")), PutPayload::new()).await.unwrap();
    }
    store.put(&Key::from("other/deep/one"), PutPayload::new()).await.unwrap();
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(all.len(), 1204);
    let many = Key::from("many");
    let after: Vec<_> =
        store.list_with_offset(Some(&many), &Key::from("many/1199")).try_collect().await.unwrap();
    assert_eq!(after.len(), 3);
    let top = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(top.common_prefixes, [many, Key::from("other")]);
    let options = PaginatedListOptions { max_keys: Some(7), ..PaginatedListOptions::default() };
    let page = store.list_paginated(Some("many/"), options).await.unwrap();
    assert_eq!((page.result.objects.len(), page.page_token.is_some()), (7, true));
}

#[tokio::test]
async fn uploads_in_parts() {
    let (double, store) = double();
    let key = Key::from("large");
    let id = store.create_multipart(&key).await.unwrap();
    let second = store.put_part(&key, &id, 1, PutPayload::from_static(b"second")).await.unwrap();
    let first = store.put_part(&key, &id, 0, PutPayload::from_static(b"first ")).await.unwrap();
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    assert_eq!(double.unfinished("bucket"), 1);
    store.complete_multipart(&key, &id, vec![first, second]).await.unwrap();
    assert_eq!(double.content("bucket", "large").unwrap(), b"first second");
    let id = store.create_multipart(&key).await.unwrap();
    store.abort_multipart(&key, &id).await.unwrap();
    assert!(store.put_part(&key, &id, 0, PutPayload::from_static(b"late")).await.is_err());
    assert_eq!(double.unfinished("bucket"), 0);
}

#[tokio::test]
async fn refusals() {
    let double = GcsDouble::start();
    // Not a bearer token.
    let answer = S3::new(&double.endpoint()).send(Method::GET, "/bucket?list-type=2", &[], b"");
    assert_eq!((answer.status, answer.text().contains("AuthenticationRequired")), (401, true));
    let missing = double.builder("missing").build().unwrap().list(None).try_next().await;
    assert!(format!("{missing:?}").contains("NoSuchBucket"), "{missing:?}");
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("account.json");
    double.write_service_account(&double.endpoint(), &file);
    assert!(std::fs::read_to_string(file).unwrap().contains("PRIVATE KEY"));
}

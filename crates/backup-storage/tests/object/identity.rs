//! Which store it is, where that is said, and with what credentials it is talked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backup_core::sink::{SinkErrorKind, SinkOps};
use backup_storage::settings::{Environment, Rate};
use backup_storage::{Location, StoreSettings, resolver};

use super::server::{Reply, Server, xml};
use super::{is_put, key, open_with, settings};

async fn shown(place: &str, settings: &StoreSettings) -> String {
    let place: Location = place.parse().unwrap();
    let shown = resolver::open(&place, settings).await.unwrap().to_string();
    assert_eq!(shown.parse::<Location>().unwrap().to_string(), shown);
    shown
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_sink_names_the_store_that_is_talked_to() {
    let server = Server::start(|_, _| None).await;
    let endpoint = &server.endpoint;
    let expected = format!("s3://bkt/repo?endpoint={endpoint}");
    let mut set = settings(&server);
    set.limit_upload = Rate::new(1 << 30);
    set.endpoint = Some(format!("{endpoint}/"));
    assert_eq!(shown("s3://bkt/repo", &set).await, expected);
    let url =
        format!("s3://bkt/repo/?connections=3&region=eu-1&allow_http=true&endpoint={endpoint}");
    set.endpoint = Some("https://elsewhere.example".to_owned());
    assert_eq!(shown(&url, &set).await, expected);
    // Variables of the environment, the special one before the general one.
    let keys = [("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    let nowhere = "https://nowhere.invalid";
    for more in [
        vec![("AWS_ENDPOINT_URL_S3", &**endpoint), ("AWS_ENDPOINT_URL", nowhere)],
        vec![("AWS_ENDPOINT_URL", &**endpoint)],
    ] {
        set.endpoint = None;
        set.environment = environment(&[&keys[..], &more[..]].concat());
        assert_eq!(shown("s3://bkt/repo", &set).await, expected);
    }
    set.endpoint = Some(endpoint.clone());
    set.environment = environment(&[&keys[..], &[("AWS_ENDPOINT_URL_S3", nowhere)]].concat());
    assert_eq!(shown("s3://bkt/repo", &set).await, expected);
}

/// A store behind a proxy, which our server is, so that hosts can have any name.
async fn behind_proxy(place: &str, endpoint: &str) -> String {
    let server = Server::start(|_, _| Some(xml(404, "NoSuchKey"))).await;
    let dir = tempfile::tempdir().unwrap();
    let account = dir.path().join("account.json");
    let text = r#"{"type":"service_account","client_email":"","private_key":"","private_key_id":"","disable_oauth":true}"#;
    std::fs::write(&account, text).unwrap();
    let mut set = StoreSettings { proxy: Some(server.endpoint.clone()), ..settings(&server) };
    set.endpoint = (!endpoint.is_empty()).then(|| endpoint.to_owned());
    if place.starts_with("gs://") {
        set.service_account = Some(account);
    }
    if place.starts_with("az://") {
        set.environment = environment(&[("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaA==")]);
    }
    shown(place, &set).await
}

#[tokio::test]
async fn an_endpoint_with_the_usual_port_is_the_one_without_it() {
    // If the wire did not know these requests as its own, it would refuse them as plain http to a
    // stranger.
    for (place, expected) in [
        ("s3://bkt/repo", "s3://bkt/repo?endpoint=http://store.example"),
        ("gs://bkt/repo", "gs://bkt/repo?endpoint=http://store.example"),
        ("az://bkt/repo?account=me", "az://bkt/repo?account=me&endpoint=http://store.example"),
    ] {
        for endpoint in
            ["http://store.example:80", "http://STORE.example:80/", "http://store.example"]
        {
            assert_eq!(behind_proxy(place, endpoint).await, expected, "{endpoint}");
        }
    }
}

/// A store that stops accepting the key `k1` when told to. `HEAD` says nothing of the reason.
async fn rotating(code: &'static str) -> (Server, Arc<AtomicBool>) {
    let rotated = Arc::new(AtomicBool::new(false));
    let copy = Arc::clone(&rotated);
    let server = Server::start(move |seen, _| {
        let refused =
            copy.load(Ordering::SeqCst) && seen.header("authorization").contains("Credential=k1/");
        match (refused, &*seen.method) {
            (false, _) => None,
            (true, "HEAD") => Some(Reply::Answer(403, Vec::new(), Vec::new())),
            (true, _) => Some(xml(403, code)),
        }
    })
    .await;
    (server, rotated)
}

#[tokio::test]
async fn keys_that_were_replaced_in_their_file_are_read_again() {
    for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch"] {
        for heads in [false, true] {
            let (server, rotated) = rotating(code).await;
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("credentials");
            let write = |key: &str| {
                let text =
                    format!("[p]\naws_access_key_id = {key}\naws_secret_access_key = hush\n");
                std::fs::write(&file, text).unwrap();
            };
            write("k1");
            let variables = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
            let set = StoreSettings {
                profile: Some("p".to_owned()),
                environment: environment(&variables),
                ..settings(&server)
            };
            let sink = open_with(&set).await;
            sink.put_bytes(&key("data/x"), "hello").await.unwrap();
            rotated.store(true, Ordering::SeqCst);
            write("k2");
            if heads {
                assert_eq!(sink.head(&key("data/x")).await.unwrap().size, 5);
            } else {
                sink.put_bytes(&key("data/y"), "hello").await.unwrap();
                assert_eq!(server.seen("PUT", "data/y").len(), 2, "{code}");
            }
        }
    }
}

#[tokio::test]
async fn without_other_keys_nothing_is_sent_again() {
    let server = Server::start(|seen, _| match &*seen.method {
        "HEAD" => Some(Reply::Answer(403, Vec::new(), Vec::new())),
        _ => is_put(seen).then(|| xml(403, "SignatureDoesNotMatch")),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "hush").unwrap();
    let set = StoreSettings {
        access_key_id: Some("me".to_owned()),
        secret_access_key_file: Some(file),
        ..settings(&server)
    };
    let sink = open_with(&set).await;
    let error = sink.put_bytes(&key("data/x"), "hello").await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    assert_eq!(server.seen("PUT", "data/x").len(), 1);
    assert_eq!(
        sink.head(&key("data/x")).await.unwrap_err().kind(),
        SinkErrorKind::PermissionDenied
    );
    assert_eq!(server.seen("HEAD", "data/x").len(), 1);
}

//! Object stores that misbehave: what the sink makes of it, over the whole way from the resolver to
//! the socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod any;
mod container;
mod identity;
mod lies;
mod multipart;
mod server;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use any::AnySink;
use backup_core::sink::{Effect, Key, Payload, Prefix, PutMode, Sink, SinkErrorKind, SinkOps};
use backup_core::testing::{SinkDifferences, SinkHandles, sink_conformance};
use backup_storage::settings::{Environment, Rate, Seconds};
use backup_storage::{RefusedCredentials, StoreSettings, resolver};
use server::{Reply, Seen, Server, xml};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn settings(server: &Server) -> StoreSettings {
    let keys = [("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    StoreSettings {
        endpoint: Some(server.endpoint.clone()),
        allow_http: Some(true),
        stall_timeout: Seconds::new(1),
        retry_deadline: Seconds::new(3),
        environment: keys
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..StoreSettings::default()
    }
}

async fn open(server: &Server) -> Arc<dyn Sink> {
    open_with(&settings(server)).await
}

async fn open_with(settings: &StoreSettings) -> Arc<dyn Sink> {
    resolver::open(&"s3://bkt/repo".parse().unwrap(), settings).await.unwrap()
}

/// A twist that comes so many times, for requests of that kind.
fn times(
    count: usize,
    wanted: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static {
    let left = AtomicUsize::new(count);
    move |seen| {
        let comes = wanted(seen)
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        comes.then(&reply)
    }
}

fn is_put(seen: &Seen) -> bool {
    seen.method == "PUT"
}

#[tokio::test]
async fn a_stalled_request_fails_in_time() {
    let server = Server::start(|seen, _| seen.path.ends_with("stuck").then_some(Reply::Hang)).await;
    let sink = open(&server).await;
    let start = Instant::now();
    let error = sink.get_bytes(&key("stuck")).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let error = sink.put_bytes(&key("stuck"), "x").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (SinkErrorKind::Unavailable, Effect::Unknown));
}

#[tokio::test]
async fn a_stalled_content_fails_in_time() {
    let drip = || Reply::Drip {
        body: vec![7; 2 << 20],
        announced: 3 << 20,
        at_a_time: 1 << 20,
        pause: Duration::ZERO,
    };
    let server = Server::start(move |seen, _| seen.path.ends_with("stuck").then(drip)).await;
    let start = Instant::now();
    assert!(open(&server).await.get_bytes(&key("stuck")).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slow_link_is_no_stall() {
    // Every pause is shorter than the time-out, all together are longer.
    let (at_a_time, pause) = (64 << 10, Duration::from_millis(100));
    let body = vec![7; 2 << 20];
    let content = body.clone();
    let server = Server::start_slow(pause, move |seen, _| {
        let drip =
            || Reply::Drip { body: content.clone(), announced: content.len(), at_a_time, pause };
        (seen.method == "GET" && seen.path.ends_with("slow")).then(drip)
    })
    .await;
    let sink = open(&server).await;
    assert_eq!(sink.get_bytes(&key("slow")).await.unwrap().len(), body.len());
    // More than the buffers of a connection hold.
    let large = vec![7; 8 << 20];
    sink.put_bytes(&key("slow"), large.clone()).await.unwrap();
    assert_eq!(server.objects.lock().unwrap()["repo/slow"], large);
    assert_eq!(server.seen("PUT", "slow").len(), 1);
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_empty_listing() {
    for body in ["", "<ListBucketResult/>"] {
        let page = move || Reply::Answer(200, Vec::new(), body.into());
        let server =
            Server::start(move |seen, _| seen.query.contains("list-type").then(page)).await;
        let error = open(&server).await.list_all(&Prefix::root()).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{body:?}");
        // If it passes, the listing comes.
        let once = times(1, |seen| seen.query.contains("list-type"), page);
        let server = Server::start(move |seen, _| once(seen)).await;
        let sink = open(&server).await;
        sink.put_bytes(&key("data/x"), "x").await.unwrap();
        assert_eq!(sink.list_all(&Prefix::root()).await.unwrap().len(), 1, "{body:?}");
    }
}

#[tokio::test]
async fn captive_portal_is_named_and_not_tried_again() {
    let html = ("content-type", "Text/HTML; charset=utf-8".to_owned());
    let moved = ("location", "http://portal.example/".to_owned());
    let body = "<!DOCTYPE html>\n<html><head><title>Sign in to Hotel</title></head></html>";
    for (status, headers, requests) in [
        (200, vec![html.clone()], ["GET", "PUT", "LIST"].as_slice()),
        (302, vec![html.clone(), moved], &["GET", "PUT", "LIST"]),
        (511, vec![], &["GET", "PUT", "LIST"]),
        // Without a content type, a listing is still seen to be none.
        (200, vec![], &["LIST"]),
    ] {
        let answer = move |seen: &Seen| {
            let is_later = seen.path.ends_with("data/x") || seen.query.contains("list-type");
            is_later.then(|| Reply::Answer(status, headers.clone(), body.into()))
        };
        let server = Server::start(move |seen, _| answer(seen)).await;
        let sink = open(&server).await;
        for request in requests {
            let error = match *request {
                "GET" => sink.get_bytes(&key("data/x")).await.unwrap_err(),
                "PUT" => sink.put_bytes(&key("data/x"), "x").await.unwrap_err(),
                _ => sink.list_all(&Prefix::root()).await.unwrap_err(),
            };
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(!error.is_retryable() && error.effect() == Effect::None, "{error:?}");
            assert!(cause.contains(&format!("{status}: Sign in to Hotel")), "{cause}");
            assert!(error.hint().unwrap().contains("sign-in page"), "{error:?}");
        }
        assert!(server.seen("GET", "data/x").len() <= 1, "{status}: tried again");
        assert!(server.seen("PUT", "data/x").len() <= 1, "{status}: tried again");
    }
}

#[tokio::test]
async fn refused_credentials_name_their_settings() {
    for (status, code) in [
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (401, "Unauthorized"),
        (403, "AccessDenied"),
    ] {
        let server = Server::start(move |seen, _| {
            (code != "AccessDenied" || is_put(seen)).then(|| xml(status, code))
        })
        .await;
        let place = "s3://bkt/repo".parse().unwrap();
        let of_settings = StoreSettings {
            access_key_id: Some("me".to_owned()),
            secret_access_key_env: Some("MY_SECRET".to_owned()),
            environment: Environment::from_iter([("MY_SECRET".to_owned(), "hush".to_owned())]),
            ..settings(&server)
        };
        for (settings, names) in [
            (settings(&server), "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            (of_settings, "access_key_id and MY_SECRET"),
        ] {
            let opened = resolver::open(&place, &settings).await;
            let error = match opened {
                Err(error) => error,
                Ok(sink) => sink.put_bytes(&key("data/x"), "x").await.unwrap_err(),
            };
            let (is_known, hint) = (RefusedCredentials::caused(&error), error.hint().unwrap());
            assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{code}");
            // A right that is missing is no fault of the keys.
            assert_eq!(is_known, code != "AccessDenied", "{code}");
            assert_eq!(hint.contains(names), is_known, "{code}: {hint}");
            assert!(!format!("{error:?} {hint}").contains("hush"));
        }
    }
}

#[tokio::test]
async fn pages_make_one_list() {
    let server = Server::start(|_, _| None).await;
    let sink = open(&server).await;
    for n in 0..250 {
        sink.put_bytes(&key(&format!("data/{n}")), "x").await.unwrap();
    }
    assert_eq!(sink.list_all(&Prefix::new("data").unwrap()).await.unwrap().len(), 250);
    assert!(sink.list_all(&Prefix::new("index").unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_conflict_without_an_object_is_tried_again() {
    let once = times(1, is_put, || xml(409, "ConditionalRequestConflict"));
    let server = Server::start(move |seen, _| once(seen)).await;
    let sink = open(&server).await;
    assert!(sink.create(&key("lease"), "mine").await.unwrap());
    assert_eq!(server.objects.lock().unwrap()["repo/lease"], b"mine");
    assert!(!sink.create(&key("lease"), "other").await.unwrap());
}

#[tokio::test]
async fn a_create_whose_response_was_lost_has_succeeded() {
    for lost in [|| Reply::Close, || xml(500, "InternalError")] {
        let once = times(1, is_put, lost);
        let server = Server::start(move |seen, objects| {
            let reply = once(seen)?;
            objects.lock().unwrap().insert("repo/lease".to_owned(), seen.body.clone());
            Some(reply)
        })
        .await;
        let sink = open(&server).await;
        assert!(sink.create(&key("lease"), "mine").await.unwrap());
        assert!(!sink.create(&key("lease"), "other").await.unwrap());
    }
}

#[tokio::test]
async fn what_the_store_confirms_is_verified_and_what_it_received_wrongly_is_sent_again() {
    let wrong = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned();
    let headers = vec![("etag", "e".to_owned()), ("x-amz-checksum-sha256", wrong)];
    let once = times(1, is_put, move || Reply::Answer(200, headers.clone(), Vec::new()));
    let server = Server::start(move |seen, _| once(seen)).await;
    let sink = open(&server).await;
    let outcome = sink.put_bytes(&key("data/x"), "hello").await.unwrap();
    let sum: String = outcome.sha256.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(sum.starts_with("2cf24dba5fb0a30e"), "{sum}");
    assert_eq!(server.seen("PUT", "data/x").len(), 2);
    // A store that says nothing has confirmed nothing.
    let silent = || Reply::Answer(200, vec![("etag", "e".to_owned())], Vec::new());
    let server = Server::start(move |seen, _| is_put(seen).then(silent)).await;
    assert_eq!(open(&server).await.put_bytes(&key("data/x"), "hello").await.unwrap().sha256, None);
}

#[tokio::test]
async fn locks_and_classes_are_signed_headers_of_what_they_are_for() {
    let server = Server::start(|_, _| None).await;
    let settings = StoreSettings {
        lock_days: Some(30),
        storage_class: Some("GLACIER".to_owned()),
        ..settings(&server)
    };
    let sink = open_with(&settings).await;
    assert!(sink.capabilities().retention_locks && sink.capabilities().storage_classes);
    for name in ["data/00/x", "index/x", "snapshots/x", "keys/x", "config", "locks/x", "x-lane/x"] {
        sink.put(&key(name), Payload::from("x").cold(), PutMode::Create).await.unwrap();
        let seen = server.seen("PUT", name).pop().unwrap();
        let locked = !name.starts_with("locks/") && !name.starts_with("x-");
        assert_eq!(seen.header("x-amz-object-lock-mode") == "GOVERNANCE", locked, "{name}");
        assert_eq!(
            seen.header("x-amz-object-lock-retain-until-date").ends_with('Z'),
            locked,
            "{name}"
        );
        assert_eq!(
            seen.header("authorization").contains("x-amz-object-lock-mode"),
            locked,
            "{name}"
        );
        assert_eq!(seen.header("x-amz-storage-class"), "GLACIER", "{name}");
        assert!(!seen.header("x-amz-checksum-sha256").is_empty(), "{name}");
        assert!(!format!("{seen:?}").contains("hush"));
    }
    sink.put_bytes(&key("index/hot"), "x").await.unwrap();
    assert_eq!(server.seen("PUT", "index/hot")[0].header("x-amz-storage-class"), "");
}

#[tokio::test]
async fn a_store_that_answers_with_the_object_is_not_asked_to_lock_it() {
    let server = Server::start(|_, _| None).await;
    let sink = open(&server).await;
    sink.put_bytes(&key("data/x"), "content").await.unwrap();
    let custody = sink.custody().unwrap();
    assert_eq!(custody.locked_until(&key("data/x")).await.unwrap(), None);
    let until = "2100-01-01T00:00:00Z".parse().unwrap();
    let error = custody.lock_until(&key("data/x"), until).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unsupported);
    assert_eq!(server.objects.lock().unwrap()["repo/data/x"], b"content");
    // Not even tried: such a store would replace the object.
    assert!(server.seen("PUT", "data/x").iter().all(|seen| !seen.query.contains("retention")));
}

#[tokio::test]
async fn credentials_that_expire_are_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("give");
    // Every run gives another key.
    let text = "echo x >> \"$0.count\"\nn=$(wc -l < \"$0.count\")\n\
                echo \"{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"k$((n))\\\",\\\"SecretAccessKey\\\":\\\"hush\\\"}\"\n";
    std::fs::write(&script, text).unwrap();
    let config = dir.path().join("config");
    std::fs::write(&config, format!("[profile p]\ncredential_process = sh {}\n", script.display()))
        .unwrap();
    let server = Server::start(|seen, _| {
        let expired = is_put(seen) && seen.header("authorization").contains("Credential=k1/");
        expired.then(|| xml(400, "ExpiredToken"))
    })
    .await;
    let variables = [("AWS_CONFIG_FILE".to_owned(), config.display().to_string())];
    let settings = StoreSettings {
        profile: Some("p".to_owned()),
        environment: Environment::from_iter(variables),
        ..settings(&server)
    };
    let sink = open_with(&settings).await;
    sink.put_bytes(&key("data/x"), "hello").await.unwrap();
    assert_eq!(server.seen("PUT", "data/x").len(), 2);
    // If there are no others, it is said at once.
    let server = Server::start(|seen, _| is_put(seen).then(|| xml(400, "ExpiredToken"))).await;
    let start = Instant::now();
    let error = open(&server).await.put_bytes(&key("data/x"), "hello").await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    assert!(error.hint().unwrap().contains("expired") && start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn rates_are_kept() {
    let server = Server::start(|_, _| None).await;
    let rate = 2 << 20;
    let settings = StoreSettings {
        limit_upload: Rate::new(rate),
        limit_download: Rate::new(rate),
        ..settings(&server)
    };
    let sink = open_with(&settings).await;
    let seconds =
        |start: Instant, bytes: u64| (start.elapsed().as_secs_f64(), bytes as f64 / rate as f64);
    // Never faster; slower only where the machine has other things to do.
    let within = |(is, should): (f64, f64)| {
        assert!((0.95..1.2).contains(&(is / should)), "{is} s instead of {should} s");
    };
    let bytes = vec![7; 3 << 20];
    let start = Instant::now();
    let puts = [key("data/a"), key("data/b")].map(|key| {
        let (sink, bytes) = (Arc::clone(&sink), bytes.clone());
        async move { sink.put_bytes(&key, bytes).await }
    });
    futures::future::try_join_all(puts).await.unwrap();
    within(seconds(start, 6 << 20));
    let start = Instant::now();
    for name in ["data/a", "data/b"] {
        assert_eq!(sink.get_bytes(&key(name)).await.unwrap().len(), bytes.len());
    }
    within(seconds(start, 6 << 20));
}

/// Google's interface differs in conditions, checksums and the deletion of what is missing. The
/// server is made from what the client needs, so that this proves our use of it and nothing about
/// Google.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_keeps_the_contract_with_a_double() {
    let dir = tempfile::tempdir().unwrap();
    let account = dir.path().join("account.json");
    let text = r#"{"type":"service_account","client_email":"","private_key":"","private_key_id":"","disable_oauth":true}"#;
    std::fs::write(&account, text).unwrap();
    let server = Server::start(|_, _| None).await;
    let settings = StoreSettings { service_account: Some(account), ..settings(&server) };
    let places = AtomicUsize::new(0);
    let make = async || {
        let place = format!("gs://bkt/{}", places.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let one = AnySink(resolver::open(&place, &settings).await.unwrap());
        SinkHandles::new(one, AnySink(resolver::open(&place, &settings).await.unwrap()))
    };
    sink_conformance(make, SinkDifferences::default()).await;
    let sink = resolver::open(&"gs://bkt/x".parse().unwrap(), &settings).await.unwrap();
    assert!(sink.put_bytes(&key("data/x"), "hello").await.unwrap().sha256.is_some());
    assert!(!server.seen("PUT", "x%2Fdata%2Fx")[0].header("content-md5").is_empty());
}

#[tokio::test]
async fn a_busy_store_is_given_time() {
    let busy = times(3, is_put, || xml(503, "SlowDown"));
    let server = Server::start(move |seen, _| busy(seen)).await;
    let sink = open(&server).await;
    sink.put_bytes(&key("data/x"), "hello").await.unwrap();
    assert_eq!(server.seen("PUT", "data/x").len(), 4);
}

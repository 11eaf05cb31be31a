//! Answers that are not to be believed, and odd ones that are.

use backup_core::sink::{Key, SinkErrorKind, SinkOps};
use futures::StreamExt;

use super::server::{Reply, Server, xml};
use super::{is_put, key, open, settings};

/// What a store answers that sends the header back and looks at nothing.
fn echo(sum: &str) -> Reply {
    Reply::Answer(
        200,
        vec![("etag", "e".to_owned()), ("x-amz-checksum-sha256", sum.to_owned())],
        Vec::new(),
    )
}

const PROBE: &str = "x-probe/checksum";

#[tokio::test]
async fn a_store_is_believed_only_after_it_refused_a_wrong_checksum() {
    let server = Server::start(|_, _| None).await;
    let sink = open(&server).await;
    for name in ["data/a", "data/b"] {
        assert!(sink.put_bytes(&key(name), "hello").await.unwrap().sha256.is_some());
    }
    assert_eq!(server.seen("PUT", PROBE).len(), 1, "once is enough");
    assert!(!server.objects.lock().unwrap().contains_key("repo/x-probe/checksum"));
}

#[tokio::test]
async fn a_store_that_only_echoes_proves_nothing() {
    let server = Server::start(|seen, objects| {
        is_put(seen).then(|| {
            let name = seen.path.strip_prefix("/bkt/").unwrap().to_owned();
            objects.lock().unwrap().insert(name, seen.body.clone());
            echo(seen.header("x-amz-checksum-sha256"))
        })
    })
    .await;
    let sink = open(&server).await;
    for name in ["data/a", "data/b"] {
        assert_eq!(sink.put_bytes(&key(name), "hello").await.unwrap().sha256, None);
    }
    assert_eq!((server.seen("PUT", PROBE).len(), server.seen("DELETE", PROBE).len()), (1, 1));
    assert_eq!(
        server.objects.lock().unwrap().keys().collect::<Vec<_>>(),
        ["repo/data/a", "repo/data/b"]
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_tested_proves_nothing() {
    for (status, code, probes) in
        [(403, "AccessDenied", 1), (503, "SlowDown", 3), (500, "InternalError", 3)]
    {
        let server =
            Server::start(move |seen, _| seen.path.ends_with(PROBE).then(|| xml(status, code)))
                .await;
        let sink = open(&server).await;
        for n in 0..5 {
            assert_eq!(
                sink.put_bytes(&key(&format!("data/{n}")), "hello").await.unwrap().sha256,
                None,
                "{code}"
            );
        }
        assert_eq!(server.seen("PUT", PROBE).len(), probes, "{code}");
    }
}

fn deletion(errors: &str) -> Reply {
    Reply::Answer(200, Vec::new(), format!("<DeleteResult>{errors}</DeleteResult>").into_bytes())
}

#[tokio::test]
async fn an_answer_about_what_was_not_to_be_deleted_is_survived() {
    for name in ["repo/data/never", "repo//x", "", "repo/data/0x"] {
        let server = Server::start(move |seen, _| {
            let error = format!(
                "<Error><Key>{name}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            );
            (seen.method == "POST" && seen.query.contains("delete")).then(|| deletion(&error))
        })
        .await;
        let sink = open(&server).await;
        let keys: Vec<Key> = (0..3).map(|n| key(&format!("data/{n}"))).collect();
        for key in &keys {
            sink.put_bytes(key, "x").await.unwrap();
        }
        let answers: Vec<_> = sink.delete(futures::stream::iter(keys).boxed()).collect().await;
        assert_eq!(server.seen("POST", "bkt").len(), 1, "{name:?}");
        // The answer is not believed, and every key is deleted by itself.
        assert!(answers.len() == 3 && answers.iter().all(Result::is_ok), "{name:?}: {answers:?}");
        assert!(server.objects.lock().unwrap().is_empty(), "{name:?}");
    }
}

#[tokio::test]
async fn a_refused_deletion_is_that_of_its_key() {
    let server = Server::start(|seen, _| {
        let error =
            "<Error><Key>repo/data/1</Key><Code>AccessDenied</Code><Message>no</Message></Error>";
        match &*seen.method {
            "POST" => Some(deletion(&format!("<Deleted><Key>repo/data/0</Key></Deleted>{error}"))),
            "DELETE" => Some(xml(403, "AccessDenied")),
            _ => None,
        }
    })
    .await;
    let keys = futures::stream::iter((0..2).map(|n| key(&format!("data/{n}"))));
    let answers: Vec<_> = open(&server).await.delete(keys.boxed()).collect().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.len(), 2);
}

#[tokio::test]
async fn a_range_with_the_status_of_a_whole_is_a_range_if_it_says_so() {
    let content: Vec<u8> = (0..100).collect();
    let cases = [
        (Some("bytes 10-19/100"), 10..20, true),
        (None, 0..100, false),
        (None, 10..20, false),
        (Some("bytes 10-19/100"), 0..100, false),
        (Some("bytes 0-9/100"), 0..10, false),
        (Some("bytes 10-29/100"), 10..30, false),
        (Some("nonsense"), 10..20, false),
    ];
    for (header, sent, taken) in cases {
        let body = content[sent.clone()].to_vec();
        let server = Server::start(move |seen, _| {
            let mut headers = vec![
                ("etag", "e".to_owned()),
                ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
            ];
            headers.extend(header.map(|header| ("content-range", header.to_owned())));
            (seen.method == "GET" && !seen.header("range").is_empty())
                .then(|| Reply::Answer(200, headers, body.clone()))
        })
        .await;
        let sink = open(&server).await;
        sink.put_bytes(&key("data/x"), content.clone()).await.unwrap();
        let range = sink.get_range(&key("data/x"), 10..20).await;
        match taken {
            true => assert_eq!(range.unwrap(), content[10..20]),
            false => assert_eq!(
                range.unwrap_err().kind(),
                SinkErrorKind::Unavailable,
                "{header:?} {sent:?}"
            ),
        }
    }
    // The settings have a deadline, or the refusals would be asked for again for minutes.
    assert!(settings(&Server::start(|_, _| None).await).retry_deadline.is_some());
}

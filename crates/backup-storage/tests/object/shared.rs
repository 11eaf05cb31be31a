//! What belongs to others in the same bucket, and objects that must not come into being.

use std::sync::Arc;

use backup_core::sink::{Effect, Sink, SinkErrorKind, SinkOps};
use backup_storage::settings::Seconds;
use backup_storage::{StoreSettings, resolver};

use super::multipart::multipart;
use super::server::{Reply, Server, xml};
use super::{key, open_with, settings};

/// A page of unfinished uploads with these names.
fn unfinished(names: &[&str]) -> Reply {
    let uploads: String = names
        .iter()
        .map(|name| {
            format!(
                "<Upload><Key>{name}</Key><UploadId>u</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>"
            )
        })
        .collect();
    let body = format!(
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
    );
    Reply::Answer(200, Vec::new(), body.into_bytes())
}

#[tokio::test]
async fn uploads_of_others_are_left_alone() {
    let ours = ["config", "data/00/x", "index/x", "snapshots/x", "keys/x", "locks/x", "x-probe/x"];
    let others = ["film.mkv", "config.bak", "other/data/x", "repo2/data/x", "data"];
    for prefix in ["", "repo/"] {
        let mut names: Vec<String> =
            ours.iter().chain(&others).map(|name| format!("{prefix}{name}")).collect();
        if !prefix.is_empty() {
            // A store that ignores the prefix.
            names.extend(ours.map(ToOwned::to_owned));
        }
        let server = Server::start(move |seen, _| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match &*seen.method {
                "GET" if seen.query.contains("uploads") => Some(unfinished(&names)),
                "DELETE" => Some(Reply::Answer(204, Vec::new(), Vec::new())),
                _ => None,
            }
        })
        .await;
        let place = format!("s3://bkt/{prefix}").parse().unwrap();
        let sink = resolver::open(&place, &settings(&server)).await.unwrap();
        let before = "2021-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(
            sink.custody().unwrap().clear_unfinished(before).await.unwrap(),
            ours.len() as u64
        );
        let aborted: Vec<_> = server.seen("DELETE", "").into_iter().map(|seen| seen.path).collect();
        assert_eq!(aborted, ours.map(|name| format!("/bkt/{prefix}{name}")));
    }
}

const PART: usize = 16 << 20;

#[tokio::test]
async fn an_upload_in_parts_is_whole_or_is_not() {
    // The store refuses the beginning, or one of the parts, or nothing.
    for refused in ["uploads", "partNumber=1&", "partNumber=2&", "nothing"] {
        let store = multipart();
        let server = Server::start(move |seen, objects| {
            let refuse = matches!(&*seen.method, "POST" | "PUT")
                && format!("{}&", seen.query).contains(refused);
            if refuse { Some(xml(403, "AccessDenied")) } else { store(seen, objects) }
        })
        .await;
        // Large bodies need their time in tests that are not optimised.
        let settings = StoreSettings { stall_timeout: Seconds::new(60), ..settings(&server) };
        let sink: Arc<dyn Sink> = open_with(&settings).await;
        let mut upload = sink.upload(&key("data/large")).await.unwrap();
        let mut failed = false;
        for n in 0..2_u8 {
            let result = upload.put_part(vec![n; PART].into()).await;
            if let (true, Err(error)) = (failed, &result) {
                assert_eq!(
                    (error.kind(), error.effect()),
                    (SinkErrorKind::Other, Effect::Unknown),
                    "{refused}"
                );
            }
            assert!(!failed || result.is_err(), "{refused}: it goes on after a failure");
            failed |= result.is_err();
        }
        let completed = upload.complete().await;
        assert_eq!(completed.is_ok(), refused == "nothing", "{refused}: {completed:?}");
        match completed {
            Ok(_) => assert_eq!(sink.get_bytes(&key("data/large")).await.unwrap().len(), 2 * PART),
            Err(error) => {
                // A caller that does not look gets no object without a part.
                assert!(
                    failed || error.kind() == SinkErrorKind::PermissionDenied,
                    "{refused}: {error}"
                );
                assert!(server.objects.lock().unwrap().is_empty(), "{refused}");
            }
        }
    }
}

#[tokio::test]
async fn an_upload_whose_part_was_given_up_is_not_completed() {
    let store = multipart();
    let server = Server::start(move |seen, objects| {
        let slow = seen.query.contains("uploads");
        if slow { Some(Reply::Hang) } else { store(seen, objects) }
    })
    .await;
    let sink = open_with(&settings(&server)).await;
    let mut upload = sink.upload(&key("data/large")).await.unwrap();
    let part = upload.put_part(vec![7; PART].into());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), part).await.is_err());
    assert_eq!(upload.complete().await.unwrap_err().effect(), Effect::Unknown);
    assert!(server.objects.lock().unwrap().is_empty());
}

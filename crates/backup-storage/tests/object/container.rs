//! Keys of a container's service: whom it gives them to, when they are asked for again, and that
//! nothing of them shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicUsize, Ordering};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::sink::{SinkError, SinkErrorKind, SinkOps};
use backup_storage::{StoreSettings, resolver};
use jiff::SignedDuration;

use super::server::{Reply, Server, xml};
use super::{key, settings};

const TOKEN: &str = "hush-token";

/// A service that gives another key each time.
struct Service {
    server: Server,
    /// What it answers.
    status: Arc<AtomicU16>,
    /// Seconds for which a key is good.
    lasts: Arc<AtomicI64>,
}

impl Service {
    async fn start() -> Self {
        let (status, lasts, given) =
            (Arc::new(AtomicU16::new(200)), Arc::new(AtomicI64::new(3600)), AtomicUsize::new(1));
        let copies = (Arc::clone(&status), Arc::clone(&lasts));
        let server = Server::start(move |seen, _| {
            let status = match seen.header("authorization") {
                TOKEN => copies.0.load(Ordering::SeqCst),
                _ => 401,
            };
            let number = given.fetch_add(usize::from(status == 200), Ordering::SeqCst);
            let expires = SystemClock.now() + SignedDuration::from_secs(copies.1.load(Ordering::SeqCst));
            let body = match status {
                200 => format!(
                    r#"{{"RoleArn":"r","AccessKeyId":"k{number}","SecretAccessKey":"hush-secret","Token":"hush-session",
                         "Expiration":"{expires}"}}"#
                ),
                _ => r#"{"code":"hush-code","message":"hush-message"}"#.to_owned(),
            };
            Some(Reply::Answer(status, vec![("content-type", "application/json".to_owned())], body.into_bytes()))
        })
        .await;
        Self { server, status, lasts }
    }

    fn asked(&self) -> usize {
        self.server.seen("GET", "/keys").len()
    }

    fn address(&self) -> String {
        format!("{}/keys?id=hush-id", self.server.endpoint)
    }
}

fn with(store: &Server, variables: &[(&str, &str)]) -> StoreSettings {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    StoreSettings { environment, ..settings(store) }
}

const ADDRESS: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const VALUE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

async fn refused(settings: &StoreSettings) -> SinkError {
    resolver::open(&"s3://bkt/repo".parse().unwrap(), settings).await.err().unwrap()
}

#[track_caller]
fn assert_told(error: &SinkError, words: &[&str]) {
    let told =
        format!("{error} {error:?} {:?} {:?}", std::error::Error::source(error), error.hint());
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{told}");
    assert!(words.iter().all(|word| told.contains(word)) && !told.contains("hush"), "{told}");
}

/// The ids of the keys that requests about an object were signed with.
fn signed_by(store: &Server, name: &str) -> Vec<String> {
    let id = |header: &str| {
        header
            .split("Credential=")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .map(str::to_owned)
    };
    store.seen("PUT", name).iter().map(|seen| id(seen.header("authorization")).unwrap()).collect()
}

#[tokio::test]
async fn the_token_comes_from_a_variable_or_from_a_file_that_goes_first() {
    let (store, service, dir) =
        (Server::start(|_, _| None).await, Service::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("token");
    let (address, file) = (service.address(), path.to_str().unwrap());
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    for variables in
        [vec![(VALUE, TOKEN)], vec![(FILE, file)], vec![(FILE, file), (VALUE, "another")]]
    {
        let sink =
            super::open_with(&with(&store, &[&[(ADDRESS, &*address)], &*variables].concat())).await;
        sink.put_bytes(&key("data/x"), "x").await.unwrap();
    }
    assert_eq!(signed_by(&store, "data/x"), ["k1", "k2", "k3"]);
    assert!(
        store
            .seen("PUT", "data/x")
            .iter()
            .all(|seen| seen.header("x-amz-security-token") == "hush-session")
    );

    assert_told(
        &refused(&with(&store, &[(ADDRESS, &address)])).await,
        &["401", "without", VALUE, FILE],
    );
    assert_told(
        &refused(&with(&store, &[(ADDRESS, &address), (VALUE, "hush")])).await,
        &["401", "with "],
    );
    assert_told(
        &refused(&with(&store, &[(ADDRESS, &address), (VALUE, "hush\nX: y")])).await,
        &["one line"],
    );
    std::fs::write(&path, "\n").unwrap();
    assert_told(&refused(&with(&store, &[(ADDRESS, &address), (FILE, file)])).await, &["one line"]);
    std::fs::remove_file(&path).unwrap();
    assert_told(
        &refused(&with(&store, &[(ADDRESS, &address), (FILE, file)])).await,
        &["cannot read", FILE, "token"],
    );
    assert_told(
        &refused(&with(&store, &[(ADDRESS, "http://192.0.2.1/hush")])).await,
        &[ADDRESS, "plain http"],
    );
    let (page, nonsense) =
        (Server::start(|_, _| Some(xml(200, "hush"))).await, "does not answer with credentials");
    assert_told(&refused(&with(&store, &[(ADDRESS, &page.endpoint)])).await, &[nonsense]);
}

#[tokio::test]
async fn keys_are_renewed_before_they_expire_and_when_they_are_refused() {
    let store = Server::start(|seen, _| {
        let old = ["k2", "k3"]
            .iter()
            .any(|key| seen.header("authorization").contains(&format!("Credential={key}/")));
        (old && seen.path.ends_with("refused")).then(|| xml(400, "ExpiredToken"))
    })
    .await;
    let service = Service::start().await;
    // Less than is left when they are renewed.
    service.lasts.store(60, Ordering::SeqCst);
    let sink =
        super::open_with(&with(&store, &[(ADDRESS, &service.address()), (VALUE, TOKEN)])).await;
    let put = async |name: &str| sink.put_bytes(&key(name), "x").await;
    put("data/a").await.unwrap();
    put("data/a").await.unwrap();
    assert_eq!(service.asked(), 1, "what expires soon anyhow is not fetched for each request");
    tokio::time::sleep(std::time::Duration::from_millis(10_100)).await;
    service.lasts.store(3600, Ordering::SeqCst);
    put("data/b").await.unwrap();
    assert_eq!((signed_by(&store, "data/b"), service.asked()), (vec!["k2".to_owned()], 2));
    put("data/b").await.unwrap();
    assert_eq!(service.asked(), 2, "they are kept");
    // Refused twice: k3 is no better, and there it ends.
    assert_eq!(put("data/refused").await.unwrap_err().kind(), SinkErrorKind::PermissionDenied);
    assert_eq!(signed_by(&store, "data/refused"), ["k2", "k3"]);
    put("data/refused").await.unwrap();
    assert_eq!(signed_by(&store, "data/refused").last().unwrap(), "k4");
}

#[tokio::test]
async fn a_service_that_is_away_costs_nothing_while_the_keys_are_good() {
    let (store, service) = (Server::start(|_, _| None).await, Service::start().await);
    service.lasts.store(60, Ordering::SeqCst);
    let sink =
        super::open_with(&with(&store, &[(ADDRESS, &service.address()), (VALUE, TOKEN)])).await;
    service.status.store(503, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(10_100)).await;
    sink.put_bytes(&key("data/a"), "x").await.unwrap();
    assert_eq!(
        (signed_by(&store, "data/a"), service.asked()),
        (vec!["k1".to_owned()], 4),
        "it was asked three times"
    );
    sink.put_bytes(&key("data/a"), "x").await.unwrap();
    assert_eq!(service.asked(), 4, "and not for each request");
    let variables = [(ADDRESS, &*service.address()), (VALUE, TOKEN)];
    assert_told(&refused(&with(&store, &variables)).await, &["503", "127.0.0.1"]);
}

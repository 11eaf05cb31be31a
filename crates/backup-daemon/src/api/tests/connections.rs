//! The socket, TLS, events, the end.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{Error, Settings, TlsFiles};
use crate::engine::TaskEvent;
use crate::testing::{Reply, ScriptedEngine, Server, Wanted};
use crate::tokens::Role;

#[tokio::test]
async fn the_socket_is_for_its_user_alone() {
    let server = Server::start().await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(server.socket()), mode(&server.state())), (0o600, 0o700));
    let again = super::super::server::bind_socket(server.socket()).await.unwrap_err();
    assert!(
        matches!(&again, Error::Listen(..)) && again.hint().contains("another `backupd`"),
        "{again:?}"
    );
    let path = server.socket().to_path_buf();
    assert_eq!(server.local().get("/healthz").await.status, 200, "trying took nothing away");
    let dir = server.stop().await;
    assert!(!path.exists(), "it goes with the server");
    // One that a dead process left is replaced; what is no socket is not.
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    assert!(super::super::server::bind_socket(&path).await.is_ok());
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(super::super::server::bind_socket(&file).await.is_err());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let server = Server::start().await;
    let operator = server.remote(Role::Operator);
    let before = server.engine.listeners();
    let mut connection = operator.connect().await;
    connection.write_all(operator.request("GET", "/api/v1/events", None).as_bytes()).await.unwrap();
    while server.engine.listeners() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.engine.tell(TaskEvent::Paused { task: "docs/daily".into(), paused: true });
    server.engine.tell(TaskEvent::Ended(ScriptedEngine::ended_backup("b7")));
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("b7") {
        let read = tokio::time::timeout(Duration::from_secs(20), connection.read(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(text.contains("text/event-stream") && text.contains("event: paused"), "{text}");
    assert!(
        text.contains(r#"data: {"event":"paused","task":"docs/daily","paused":true}"#),
        "{text}"
    );
    assert!(text.contains("event: ended"), "{text}");
    // Whoever listens does not keep the server from ending.
    let since = Instant::now();
    server.stop().await;
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test]
async fn whoever_listens_too_slowly_is_told() {
    let server = Server::start().await;
    let before = server.engine.listeners();
    let mut connection = server.local().connect().await;
    connection
        .write_all(server.local().request("GET", "/api/v1/events", None).as_bytes())
        .await
        .unwrap();
    while server.engine.listeners() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // More at once than the engine keeps for a listener.
    for number in 0..20 {
        server.engine.tell(TaskEvent::Progress {
            id: number.to_string(),
            progress: serde_json::Value::Null,
        });
    }
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains("event: missed") {
        let read = tokio::time::timeout(Duration::from_secs(20), connection.read(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(text.contains(r#"data: {"missed":"#), "{text}");
}

/// A certificate for this machine, in files.
fn certificate(dir: &std::path::Path) -> (TlsFiles, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.pem())
}

async fn over_tls(
    server: &Server,
    certificate: &str,
    request: &str,
) -> Result<Reply, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(Reply::read(stream).await)
}

#[tokio::test]
async fn tls_is_spoken_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (files, first) = certificate(dir.path());
    let server = Server::with(Wanted { tls: Some(files), ..Wanted::default() }).await;
    let request = server.remote(Role::Auditor).request("GET", "/api/v1/health", None);
    assert_eq!(over_tls(&server, &first, &request).await.unwrap().status, 200);
    let mut plain = server.remote(Role::Auditor).connect().await;
    plain.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(plain).await.status, 0, "whoever speaks plainly is not heard");
    // A certificate that was renewed is used by the next connection; one that is none is not.
    let (_, second) = certificate(dir.path());
    let later = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let touched = std::fs::File::options().write(true).open(dir.path().join("cert.pem")).unwrap();
    touched.set_modified(later).unwrap();
    assert!(over_tls(&server, &first, &request).await.is_err());
    assert_eq!(over_tls(&server, &second, &request).await.unwrap().status, 200);
    std::fs::write(dir.path().join("key.pem"), "nonsense").unwrap();
    assert_eq!(over_tls(&server, &second, &request).await.unwrap().status, 200);
    // Whoever connects and says nothing is let go.
    let silent = TcpStream::connect(server.address()).await.unwrap();
    let since = Instant::now();
    assert_eq!(Reply::read(silent).await.status, 0);
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn an_address_takes_tokens_and_tls() {
    let server = Server::start().await;
    let reads = {
        let (_, config) = tokio::sync::watch::channel(Arc::clone(&server.loaded));
        let clock = Arc::new(backup_core::clock::SystemClock);
        super::super::Reads::open(
            config,
            Default::default(),
            server.state(),
            clock,
            server.program.clone(),
        )
        .await
        .unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = |listen: &str| Settings {
        listen: Some(listen.parse().unwrap()),
        ..Settings::of(&Default::default(), dir.path())
    };
    let serve = async |settings: Settings| {
        let engine = Arc::new(ScriptedEngine::new());
        super::super::serve(settings, engine, reads.clone(), Default::default(), |_| {
            panic!("it must not begin")
        })
        .await
    };
    assert!(matches!(serve(settings("0.0.0.0:0")).await, Err(Error::Open(_))));
    let error = serve(settings("127.0.0.1:0")).await.unwrap_err();
    assert!(
        matches!(error, Error::NoTokens(_)) && error.hint().contains("token create"),
        "{error:?}"
    );
    let tls = Some(TlsFiles { cert: dir.path().join("none"), key: dir.path().join("none") });
    assert!(matches!(
        serve(Settings { tls, ..settings("127.0.0.1:0") }).await,
        Err(Error::Tls(..))
    ));
}

/// Neither the file, nor the audit log, nor answers, nor what is logged, hold a token.
#[tokio::test]
async fn tokens_are_nowhere() {
    let logged = Logged::default();
    let subscriber = logged.clone();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start().await;
    let planted: Vec<String> =
        Role::ALL.iter().map(|role| server.token(*role).to_owned()).collect();
    let mut seen = String::new();
    for token in &planted {
        let client = server.stranger().with_token(token);
        for (method, path, body) in [
            ("GET", "/api/v1/status".to_owned(), None),
            ("GET", format!("/api/v1/jobs/{token}"), None),
            ("GET", format!("/api/v1/{token}"), None),
            ("GET", "/metrics".to_owned(), None),
            ("GET", "/api/v1/audit".to_owned(), None),
            (
                "POST",
                "/api/v1/running".to_owned(),
                Some("{\"kind\":\"backup\",\"job\":\"docs\"}".to_owned()),
            ),
            ("POST", "/api/v1/tasks/pause".to_owned(), Some("{\"task\":\"none\"}".to_owned())),
        ] {
            let reply = client.ask(method, &path, body.as_deref()).await;
            seen.push_str(&format!("{}{}", reply.head, reply.body));
        }
    }
    let dir = server.stop().await;
    for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            seen.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    let logged = logged.text();
    assert!(logged.contains("/api/v1/status") && logged.contains("operator-anna"), "{logged}");
    seen.push_str(&logged);
    for token in &planted {
        assert!(!seen.contains(token.as_str()) && !seen.contains(&token[5..]), "{token}");
    }
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<String>>);

impl Logged {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            self.add(field, value);
        });
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            self.add(field, value);
        });
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            self.add(field, value);
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Logged {
    fn add(&self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push_str(&format!("{field}={value:?}\n"));
    }
}

//! Malformed, huge, slow and many requests: refused, in bounded time, and nobody else waits for it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::{Reply, Server, Wanted};
use crate::tokens::Role;

/// What a server that waits for ten seconds takes on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn malformed_requests_are_refused() {
    let server = Server::start().await;
    let admin = server.remote(Role::Admin);
    for (method, path, body, expected) in [
        ("GET", "/none", None, 404),
        ("GET", "/api/v2/jobs", None, 404),
        ("GET", "/api/v1/jobs/%ff", None, 400),
        ("PUT", "/api/v1/jobs", None, 405),
        ("DELETE", "/metrics", None, 405),
        ("POST", "/api/v1/running", None, 415),
        ("POST", "/api/v1/running", Some(""), 400),
        ("POST", "/api/v1/running", Some("{"), 400),
        ("POST", "/api/v1/running", Some("[1,2]"), 400),
        ("POST", "/api/v1/running", Some("\"\\ud800\""), 400),
        // An array in place of an object.
        ("POST", "/api/v1/tasks/resume", Some("[null]"), 400),
        ("POST", "/api/v1/tasks/pause", Some(" [\"docs/daily\"]"), 400),
    ] {
        let reply = admin.ask(method, path, body).await;
        assert_eq!(reply.status, expected, "{method} {path} {body:?}: {reply:?}");
        assert!(reply.is_problem(), "{reply:?}");
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(admin.ask("POST", "/api/v1/running", Some(&deep)).await.status, 400);
    for nonsense in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    ] {
        let mut connection = admin.connect().await;
        connection.write_all(nonsense.as_bytes()).await.unwrap();
        assert!(matches!(Reply::read(connection).await.status, 0 | 400), "{nonsense:?}");
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn huge_requests_are_refused() {
    let server = Server::start().await;
    let admin = server.remote(Role::Admin);
    let huge = "x".repeat(100_000);
    let reply = admin.ask("POST", "/api/v1/running", Some(&format!("\"{huge}\""))).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    // Announced only: it is refused before it comes.
    let mut connection = admin.connect().await;
    let head = admin
        .request("POST", "/api/v1/running", Some(""))
        .replace("Length: 0", "Length: 99999999999");
    connection.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(connection).await.status, 413);
    // Not announced.
    let mut connection = admin.connect().await;
    let head = admin
        .request("POST", "/api/v1/running", Some(""))
        .replace("Content-Length: 0", "Transfer-Encoding: chunked");
    connection.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for _ in 0..4 {
        // It need not take all of it.
        _ = connection.write_all(chunk.as_bytes()).await;
    }
    assert_eq!(Reply::read(connection).await.status, 413);
    for (path, header) in
        [(format!("/{huge}"), "X: y".to_owned()), ("/healthz".to_owned(), format!("X: {huge}"))]
    {
        let mut connection = admin.connect().await;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n"
        );
        _ = connection.write_all(request.as_bytes()).await;
        let status = Reply::read(connection).await.status;
        assert!(matches!(status, 0 | 400 | 414 | 431), "{status}");
    }
    let many: String = (0..200).map(|number| format!("X{number}: y\r\n")).collect();
    let mut connection = admin.connect().await;
    connection
        .write_all(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").as_bytes())
        .await
        .unwrap();
    assert!(matches!(Reply::read(connection).await.status, 0 | 431));
    assert_eq!(server.engine.asked().started, []);
}

#[tokio::test]
async fn slow_requests_do_not_last() {
    let server = Server::start().await;
    let admin = server.remote(Role::Admin);
    let since = Instant::now();
    let silent = admin.connect().await;
    let mut half_a_head = admin.connect().await;
    half_a_head.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    let mut half_a_body = admin.connect().await;
    let head =
        admin.request("POST", "/api/v1/running", Some("")).replace("Length: 0", "Length: 100");
    half_a_body.write_all(head.as_bytes()).await.unwrap();
    half_a_body.write_all(b"{").await.unwrap();
    let mut dripping = admin.connect().await;
    let dripped = tokio::spawn(async move {
        for byte in b"GET /healthz HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x')).take(300)
        {
            if dripping.write_all(&[*byte]).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    });
    // Nobody waits for them.
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert!(matches!(Reply::read(silent).await.status, 0 | 408));
    assert!(matches!(Reply::read(half_a_head).await.status, 0 | 408));
    assert_eq!(Reply::read(half_a_body).await.status, 408);
    assert!(dripped.await.unwrap(), "byte by byte is too slow too");
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_connection_is_not_kept_for_nothing() {
    let server = Server::start().await;
    let mut connection = server.stranger().connect().await;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let since = Instant::now();
    let reply = Reply::read(&mut connection).await;
    assert_eq!(reply.status, 200);
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_again() {
    let server = Server::with(Wanted { rate: 1, ..Wanted::default() }).await;
    let (one, other) = (server.remote(Role::Admin), server.remote(Role::Operator));
    let mut refused = None;
    for _ in 0..6 {
        let reply = one.get("/api/v1/health").await;
        if reply.status == 429 {
            refused = Some(reply);
        }
    }
    let refused = refused.expect("a rate of one a second, and four at once");
    assert!(refused.is_problem() && refused.head.contains("retry-after: "), "{refused:?}");
    assert_eq!(other.get("/api/v1/health").await.status, 200, "others do not wait for it");
    let guesses = async |number: usize| {
        let client =
            server.stranger().with_token("bkpd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        for _ in 0..number {
            if client.get("/api/v1/health").await.status == 429 {
                return true;
            }
        }
        false
    };
    assert!(guesses(60).await, "whoever guesses is slowed down");
    assert_eq!(other.get("/api/v1/health").await.status, 200, "also from the same address");
}

#[tokio::test]
async fn few_go_on_at_the_same_time() {
    let server = Server::start().await;
    let operator = server.remote(Role::Operator);
    let mut listening = Vec::new();
    for _ in 0..8 {
        let mut connection = operator.connect().await;
        connection
            .write_all(operator.request("GET", "/api/v1/events", None).as_bytes())
            .await
            .unwrap();
        assert!(connection.read_u8().await.is_ok());
        listening.push(connection);
    }
    // Event streams leave room for other requests.
    let refused = operator.get("/api/v1/events").await;
    assert!(refused.status == 429 && refused.is_problem(), "{refused:?}");
    assert_eq!(operator.get("/api/v1/jobs").await.status, 200);
    // Requests whose bodies do not come fill the rest.
    let head =
        operator.request("POST", "/api/v1/running", Some("")).replace("Length: 0", "Length: 9");
    for _ in 0..8 {
        let mut connection = operator.connect().await;
        connection.write_all(head.as_bytes()).await.unwrap();
        listening.push(connection);
    }
    let since = Instant::now();
    while operator.get("/api/v1/jobs").await.status != 429 {
        assert!(since.elapsed() < Duration::from_secs(8), "16 requests are in progress");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.remote(Role::Admin).get("/api/v1/jobs").await.status, 200);
    drop(listening);
    let since = Instant::now();
    while operator.get("/api/v1/jobs").await.status == 429 {
        assert!(since.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_mistake_of_the_program_ends_one_request() {
    let server = Server::start().await;
    server.engine.change(|asked| asked.panics = true);
    let reply = server.local().get("/api/v1/tasks").await;
    assert_eq!(reply.status, 500);
    assert!(reply.is_problem() && !reply.body.contains("hush"), "{reply:?}");
    server.engine.change(|asked| asked.panics = false);
    assert_eq!(server.local().get("/api/v1/tasks").await.status, 200);
}

/// The status of a request in these bytes; 0 if the connection ended without an answer.
async fn status(server: &Server, request: &str) -> u16 {
    let mut connection = server.stranger().connect().await;
    connection.write_all(request.as_bytes()).await.unwrap();
    Reply::read(connection).await.status
}

#[tokio::test]
async fn requests_need_a_host_of_this_daemon() {
    let server = Server::start().await;
    let request = |host: &str| format!("GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    for host in ["127.0.0.1", "localhost:80", "[::1]", "backup1.example.com"] {
        assert_eq!(status(&server, &request(&format!("Host: {host}\r\n"))).await, 200, "{host}");
    }
    for (host, expected) in [
        ("", 400),
        ("Host: \r\n", 400),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
        ("Host: evil.example\r\n", 421),
    ] {
        assert_eq!(status(&server, &request(host)).await, expected, "{host:?}");
    }
    assert_eq!(status(&server, "GET /healthz HTTP/1.0\r\n\r\n").await, 400);
    // A token does not help.
    let admin = server.remote(Role::Admin);
    let text = admin.request("GET", "/api/v1/jobs", None).replace("localhost", "evil.example");
    assert_eq!(status(&server, &text).await, 421);
}

#[tokio::test]
async fn bare_line_feeds_are_refused() {
    let server = Server::start().await;
    let sound = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for bare in [
        "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: y\nZ: a\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\n\n",
        "\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        assert_eq!(status(&server, bare).await, 400, "{bare:?}");
        // Also behind a request that is answered, on the same connection.
        let mut connection = server.stranger().connect().await;
        connection.write_all(format!("{sound}{bare}").as_bytes()).await.unwrap();
        let both = Reply::read(connection).await;
        assert_eq!(both.status, 200, "{bare:?}");
        assert_eq!(both.body.matches("HTTP/1.1 400").count(), 1, "{bare:?}: {both:?}");
    }
    // Line feeds of a body are none of a head, and chunks end the connection.
    let local = server.local();
    let pause = "{\n\n\"task\": \"docs/daily\"\n}";
    assert_eq!(local.ask("POST", "/api/v1/tasks/pause", Some(pause)).await.status, 200);
    let chunked = format!(
        "POST /api/v1/tasks/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
         application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{pause}\r\n0\r\n\r\n{sound}",
        pause.len()
    );
    let mut connection = local.connect().await;
    connection.write_all(chunked.as_bytes()).await.unwrap();
    let reply = Reply::read(connection).await;
    assert!(reply.status == 200 && reply.head.contains("connection: close"), "{reply:?}");
    assert!(!reply.body.contains("HTTP/1.1"), "{reply:?}");
}

#[tokio::test]
async fn readers_that_never_read_are_let_go() {
    let server = Server::start().await;
    let before = server.engine.listeners();
    let operator = server.remote(Role::Operator);
    let mut connection = operator.connect().await;
    let request = operator.request("GET", "/api/v1/events", None);
    connection.write_all(request.as_bytes()).await.unwrap();
    let since = Instant::now();
    while server.engine.listeners() == before {
        assert!(since.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // More than the buffers of the system hold, until the connection is closed for not reading.
    let progress = serde_json::Value::from("x".repeat(64 << 10));
    let since = Instant::now();
    while server.engine.listeners() > before {
        assert!(since.elapsed() < 3 * BOUND, "the stream is still open");
        server.engine.tell(crate::engine::TaskEvent::Progress {
            id: "r1".to_owned(),
            progress: progress.clone(),
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(20), "a short pause is allowed");
    assert_eq!(operator.get("/api/v1/jobs").await.status, 200);
    drop(connection);
}

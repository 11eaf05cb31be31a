//! Every route, with every role, and without a token. The document says which routes there are:
//! none is forgotten.

use serde_json::Value;

use crate::testing::{Client, Reply, Server};
use crate::tokens::Role;

/// A request that a route understands.
struct Request {
    method: String,
    path: String,
    body: Option<String>,
    /// Who may; none: anybody.
    role: Option<Role>,
}

/// A request for every operation of the document.
fn requests(document: &Value) -> Vec<Request> {
    let mut requests = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let role = operation["security"][0]["token"][0].as_str();
            let filled = [
                ("{job}", "docs"),
                ("{id}", "r1"),
                ("{run}", "latest"),
                ("{snapshot}", "1a2b"),
                ("{silence}", "x"),
                ("{verb}", "audit"),
            ];
            let path =
                filled.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
            assert!(!path.contains('{'), "{path}: the test has no value for its parameter");
            let body = match operation["operationId"].as_str().unwrap() {
                "start" => Some(r#"{"kind":"backup","job":"docs"}"#),
                "pause" | "resume" => Some("{}"),
                "plan_restore" => Some(r#"{"what":"latest","target":"/does/not/exist"}"#),
                "start_restore" => {
                    Some(r#"{"what":"latest","target":"/does/not/exist","dry_run":true}"#)
                }
                "silence" => Some(r#"{"rule":"stale","for":"1h","reason":"test"}"#),
                _ if method == "get" => None,
                "cancel" | "unsilence" => None,
                other => panic!("{other}: the test has no body for it"),
            };
            let role = role.map(|role| Role::named(role).unwrap());
            requests.push(Request {
                method: method.to_uppercase(),
                path,
                body: body.map(str::to_owned),
                role,
            });
        }
    }
    requests
}

async fn ask(client: &Client, request: &Request) -> Reply {
    let Request { method, path, body, .. } = request;
    if path.ends_with("/events") {
        // Events have no end: the head is enough.
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = client.connect().await;
        connection.write_all(client.request(method, path, None).as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let read = connection.read(&mut head).await.unwrap();
        return Reply::read(&head[..read]).await;
    }
    client.ask(method, path, body.as_deref()).await
}

#[tokio::test]
async fn every_route_with_every_role_and_without_a_token() {
    let server = Server::start().await;
    server.remember().await;
    let document = server.remote(Role::Auditor).get("/api/v1/openapi.json").await.json();
    let requests = requests(&document);
    assert!(requests.len() >= 30, "{}", requests.len());
    for request in &requests {
        let shown = format!("{} {}", request.method, request.path);
        let of_stranger = ask(&server.stranger(), request).await;
        // Strangers are answered twice a second: they are told to wait, or to have a token.
        let is_kept_out = matches!(of_stranger.status, 401 | 429) && of_stranger.is_problem();
        assert_eq!(is_kept_out, request.role.is_some(), "{shown} without a token: {of_stranger:?}");
        for role in Role::ALL {
            let reply = ask(&server.remote(role), request).await;
            let may = request.role.is_none_or(|needed| role >= needed);
            assert_eq!(reply.status == 403, !may, "{shown} as {role}: {reply:?}");
            if may {
                // What is not there is not there for anybody; all else is done.
                let is_absent =
                    request.path.contains("silences/x") || request.path.ends_with("/log");
                assert_eq!(
                    reply.status,
                    if is_absent { 404 } else { reply.status.clamp(200, 299) },
                    "{shown}: {reply:?}"
                );
            } else {
                assert!(reply.is_problem(), "{shown} as {role}: {reply:?}");
            }
        }
        let of_socket = ask(&server.local(), request).await;
        assert!(
            !matches!(of_socket.status, 401 | 403),
            "{shown} through the socket: {of_socket:?}"
        );
    }
}

/// What an auditor may do is what the contract says, and not what somebody wrote beside a new
/// route.
#[tokio::test]
async fn auditors_read_logs_reports_metrics_and_health_alone() {
    let server = Server::start().await;
    let document = server.local().get("/api/v1/openapi.json").await.json();
    let mut for_auditors = Vec::new();
    let mut for_anybody = Vec::new();
    for request in requests(&document) {
        match request.role {
            Some(Role::Auditor) => {
                for_auditors.push(format!("{} {}", request.method, request.path));
            }
            None => for_anybody.push(format!("{} {}", request.method, request.path)),
            _ => {}
        }
    }
    assert_eq!(
        for_auditors,
        [
            "GET /api/v1/audit",
            "GET /api/v1/audit/verdict",
            "GET /api/v1/health",
            "GET /api/v1/openapi.json",
            "GET /api/v1/reports",
            "GET /api/v1/verbs/audit",
            "GET /metrics",
        ]
    );
    assert_eq!(for_anybody, ["GET /healthz", "GET /readyz"]);
}

#[tokio::test]
async fn some_of_it_takes_an_admin() {
    let server = Server::start().await;
    let root = server.dir.path().join("restores");
    let (full, empty, outside) =
        (root.join("full"), root.join("empty"), server.dir.path().join("outside"));
    for dir in [&full, &empty, &outside] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(full.join("a"), "a").unwrap();
    let cleanup = serde_json::json!({ "kind": "cleanup" });
    let restore =
        |target: &std::path::Path| serde_json::json!({ "what": "latest", "target": target });
    let operator = server.remote(Role::Operator);
    assert_eq!(operator.post("/api/v1/running", cleanup.clone()).await.status, 403);
    assert_eq!(operator.post("/api/v1/restores", restore(&full)).await.status, 403);
    assert_eq!(operator.post("/api/v1/restores", restore(&full.join("a"))).await.status, 403);
    assert_eq!(operator.post("/api/v1/restores", restore("standby".as_ref())).await.status, 403);
    let refused = operator.post("/api/v1/restores", restore(&outside)).await;
    assert!(refused.status == 403 && refused.body.contains("restore_roots"), "{refused:?}");
    assert_eq!(operator.post("/api/v1/restores", restore(&root)).await.status, 403);
    assert_eq!(server.engine.asked().started, [], "nothing was begun");
    assert_eq!(operator.post("/api/v1/restores", restore(&empty)).await.status, 202);
    let admin = server.remote(Role::Admin);
    assert_eq!(admin.post("/api/v1/running", cleanup).await.status, 202);
    assert_eq!(
        admin.post("/api/v1/restores", restore(&full)).await.status,
        202,
        "the program will refuse it"
    );
    assert_eq!(admin.post("/api/v1/restores", restore("standby".as_ref())).await.status, 202);
    assert_eq!(admin.post("/api/v1/restores", restore(&outside)).await.status, 202);
    assert!(
        server
            .engine
            .asked()
            .started
            .iter()
            .all(|(_, by)| by == "operator-anna" || by == "admin-anna")
    );
}

#[tokio::test]
async fn tokens_that_are_not_good_are_none() {
    let server = Server::start().await;
    let tokens = crate::tokens::Tokens::at(server.state().join("tokens.json"));
    let path = "/api/v1/health";
    let admin = server.remote(Role::Admin);
    assert_eq!(admin.get(path).await.status, 200);
    let wrong = server
        .stranger()
        .with_token("bkpd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        .get(path)
        .await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.head.contains("www-authenticate: bearer"), "{}", wrong.head);
    // Whoever gives a wrong token at the socket is not an admin instead.
    assert_eq!(server.local().with_token("bkpd_wrong").get(path).await.status, 401);
    assert_eq!(
        server.local().with_token(server.token(Role::Auditor)).get("/api/v1/status").await.status,
        403
    );
    tokens.revoke("admin-anna").unwrap();
    assert_eq!(admin.get(path).await.status, 401, "at once");
    std::fs::write(server.state().join("tokens.json"), "nonsense").unwrap();
    assert_eq!(server.remote(Role::Operator).get(path).await.status, 503);
    assert_eq!(server.local().get(path).await.status, 200, "the socket needs no tokens");
}

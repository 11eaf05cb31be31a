//! What routes answer, and what they ask for.

use serde_json::json;

use crate::engine::{RestoreOrder, Work};
use crate::testing::Server;
use crate::tokens::Role;

#[tokio::test]
async fn jobs_tasks_and_what_goes_on() {
    let server = Server::start().await;
    server.remember().await;
    let operator = server.remote(Role::Operator);
    let jobs = operator.get("/api/v1/jobs").await.json();
    assert_eq!(
        (&jobs["jobs"][0]["name"], &jobs["jobs"][1]["name"]),
        (&json!("docs"), &json!("new"))
    );
    assert_eq!(jobs["jobs"][0]["last_run"]["state"], "verified");
    assert_eq!(
        (&jobs["jobs"][0]["rpo_seconds"], &jobs["groups"][0]["jobs"]),
        (&json!(86_400), &json!(["docs", "new"]))
    );
    let docs = operator.get("/api/v1/jobs/docs").await.json();
    assert_eq!(docs, jobs["jobs"][0]);
    assert_eq!(operator.get("/api/v1/jobs/none").await.status, 404);
    assert_eq!(operator.get("/api/v1/tasks").await.json()["tasks"][0]["name"], "docs/daily");
    let running = operator.get("/api/v1/running").await.json();
    assert_eq!(running["running"][0]["work"]["kind"], "restore");
    assert_eq!(operator.get("/api/v1/running/w1").await.json(), running["running"][1]);
    assert_eq!(operator.get("/api/v1/running/none").await.status, 404);
    assert_eq!(operator.get("/api/v1/ended").await.json()["ended"][0]["id"], "b0");
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!(
        (&status["running"], &status["waiting"], &status["role"]),
        (&json!(1), &json!(1), &json!("operator"))
    );
    assert_eq!(operator.get("/api/v1/health").await.json()["healthy"], true);
}

#[tokio::test]
async fn work_is_begun_stopped_and_paused_and_recorded() {
    let server = Server::start().await;
    let operator = server.remote(Role::Operator);
    let reply = operator
        .post("/api/v1/running", json!({ "kind": "backup", "job": "docs", "type": "full" }))
        .await;
    assert_eq!((reply.status, reply.json()), (202, json!({ "id": "s1" })));
    let work = Work::Backup { job: "docs".into(), kind: Some("full".into()), tier: None };
    assert_eq!(server.engine.asked().started, [(work, "operator-anna".to_owned())]);
    for (body, status) in [
        (json!({ "kind": "backup", "job": "none" }), 404),
        (json!({ "kind": "backup", "job": "twice" }), 409),
        (json!({ "kind": "backup", "job": "busy" }), 503),
        (json!({ "kind": "backup", "job": "--config=/x" }), 400),
        (json!({ "kind": "backup", "job": "docs", "type": "magical" }), 400),
        (json!({ "kind": "backup", "job": "docs", "typ": "full" }), 400),
        (json!({ "kind": "restore", "what": "latest", "target": "/x" }), 400),
        (json!({ "kind": "report", "since": "yesterday" }), 400),
        (json!({ "kind": "dance" }), 400),
        (json!({ "kind": "prune", "repository": "main" }), 403),
        (
            json!({ "kind": "archive", "from": "main", "to": "x", "older_than": "90d", "remove": true }),
            403,
        ),
        (json!({ "kind": "archive", "from": "main", "to": "x", "older_than": "long" }), 400),
        (json!({ "kind": "copy", "from": "main", "to": "s3://me:hush@x/" }), 400),
    ] {
        let reply = operator.post("/api/v1/running", body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.is_problem(), "{reply:?}");
    }
    assert_eq!(server.engine.asked().started.len(), 1);
    assert_eq!(operator.ask("POST", "/api/v1/running/r1/cancel", None).await.status, 202);
    assert_eq!(operator.ask("POST", "/api/v1/running/none/cancel", None).await.status, 404);
    assert_eq!(
        operator.post("/api/v1/tasks/pause", json!({ "task": "docs/daily" })).await.status,
        200
    );
    assert_eq!(
        operator.post("/api/v1/tasks/resume", json!({})).await.json(),
        json!({ "task": null, "paused": false })
    );
    assert_eq!(operator.post("/api/v1/tasks/pause", json!({ "task": "none" })).await.status, 404);
    let asked = server.engine.asked();
    assert_eq!(asked.cancelled, ["r1"]);
    assert_eq!(asked.paused, [(Some("docs/daily".to_owned()), true), (None, false)]);
    let told: Vec<String> = server
        .audit("api")
        .iter()
        .map(|record| format!("{} {}", record.operation, record.status.as_str()))
        .collect();
    assert_eq!(told[0], "api start success");
    assert_eq!(told.iter().filter(|told| *told == "api start failure").count(), 13, "{told:?}");
    assert_eq!(
        told[14..],
        [
            "api cancel success",
            "api cancel failure",
            "api pause success",
            "api resume success",
            "api pause failure"
        ]
    );
    let first = &server.audit("api start")[0];
    assert_eq!(
        (first.user.as_str(), first.details["job"].as_str(), first.details["by"].as_str()),
        ("operator-anna", "docs", "token")
    );
    assert!(first.details.contains_key("process_user"));
    // What only reads is not recorded.
    operator.get("/api/v1/tasks").await;
    assert_eq!(server.audit("api").len(), told.len());
}

#[tokio::test]
async fn runs_and_their_messages() {
    let server = Server::start().await;
    let last = server.remember().await;
    let operator = server.remote(Role::Operator);
    let runs = operator.get("/api/v1/runs").await.json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3);
    assert_eq!(
        operator.get("/api/v1/runs?state=failed").await.json()["runs"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        operator.get("/api/v1/runs?what=restore&job=docs").await.json()["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        operator.get("/api/v1/runs?since=30min%20ago").await.json()["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(operator.get(&format!("/api/v1/runs/{}", last.id)).await.json(), runs["runs"][0]);
    for wrong in ["?limit=0", "?limit=1001", "?limit=x", "?state=odd", "?since=when", "?unknown=1"]
    {
        let reply = operator.get(&format!("/api/v1/runs{wrong}")).await;
        assert!(reply.status == 400 && reply.is_problem(), "{wrong}: {reply:?}");
    }
    assert_eq!(operator.get("/api/v1/runs/nothing-like-it").await.status, 404);
    assert_eq!(operator.get("/api/v1/runs/latest/log").await.status, 404);
    std::fs::create_dir_all(server.state().join("runs")).unwrap();
    std::fs::write(server.state().join(format!("runs/{}.log", last.id)), "2026 said\n").unwrap();
    std::fs::write(server.state().join("secret.log"), "hush").unwrap();
    assert_eq!(operator.get("/api/v1/runs/latest/log").await.body, "2026 said\n");
    for path in ["..%2Fsecret", "%2e%2e%2fsecret", "../secret"] {
        let reply = operator.get(&format!("/api/v1/runs/{path}/log")).await;
        assert!(reply.status == 404 && !reply.body.contains("hush"), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn the_program_is_asked_on_behalf_of_whoever_asks() {
    let server = Server::start().await;
    let operator = server.remote(Role::Operator);
    assert_eq!(
        operator
            .get("/api/v1/snapshots?job=docs&repository=main&days=7&before=2h%20ago")
            .await
            .status,
        200
    );
    assert_eq!(
        operator.get("/api/v1/snapshots/1a2b?job=docs").await.json()["snapshot"]["id"],
        "1a2b"
    );
    assert_eq!(operator.get("/api/v1/jobs/docs/timeline").await.status, 200);
    let plan = operator
        .post(
            "/api/v1/restores/plan",
            json!({ "what": "docs", "at": "2h ago", "target": "/srv/x" }),
        )
        .await;
    assert_eq!(plan.json()["plan"][1]["files"], 3);
    for (what, target) in
        [("all", "/srv/x"), ("all", "all"), ("docs:latest", "standby"), ("1a2b", "/srv/x")]
    {
        let order = json!({ "what": what, "target": target, "format": "text" });
        let plan = operator.post("/api/v1/restores/plan", order).await;
        assert!(
            plan.json()["text"].as_str().is_some_and(|text| text.contains("summary")),
            "{plan:?}"
        );
    }
    let order = json!({ "what": "1a2b", "repository": "main", "target": "/srv/x" });
    operator.post("/api/v1/restores/plan", order).await;
    for (what, repository) in [("1a2b", "nosuch"), ("nosuch:latest", "main"), ("all", "main")] {
        let order = json!({ "what": what, "repository": repository, "target": "/srv/x" });
        let reply = operator.post("/api/v1/restores/plan", order.clone()).await;
        assert!(matches!(reply.status, 404 | 409) && reply.is_problem(), "{order}: {reply:?}");
    }
    let auditor = server.remote(Role::Auditor);
    assert_eq!(auditor.get("/api/v1/audit/verdict").await.json()["sound"], true);
    assert_eq!(auditor.get("/api/v1/reports?since=30d").await.json()["schema_version"], 1);
    let html = auditor.get("/api/v1/reports?format=html").await;
    assert!(
        html.head.contains("text/html")
            && html.head.contains("content-security-policy: default-src 'none'")
    );
    let calls: Vec<String> =
        server.program.calls().into_iter().map(|(words, by)| format!("{by}: {words}")).collect();
    insta::assert_snapshot!(calls.join("\n"), @r"
    operator-anna: list --json --repo=main --job=docs --before=2h ago --days=7
    operator-anna: show --json --job=docs -- 1a2b
    operator-anna: timeline --json -- docs
    operator-anna: restore --json --target=/srv/x --at=2h ago --dry-run --job=docs --repo=main
    operator-anna: restore --target=docs=/srv/x/docs --target=new=/srv/x/new --dry-run -- all
    operator-anna: restore --dry-run -- all
    operator-anna: restore --target=standby --dry-run --job=docs --repo=main -- latest
    operator-anna: restore --target=/srv/x --dry-run -- 1a2b
    operator-anna: restore --json --target=/srv/x --dry-run --repo=main -- 1a2b
    auditor-anna: audit verify --json
    auditor-anna: report --since=30d --format=json
    auditor-anna: report --since=7d --format=html
    ");
    assert_eq!(operator.get("/api/v1/snapshots/gone").await.status, 404);
    let asked = server.program.calls().len();
    for wrong in [
        "snapshots/--help",
        "snapshots/-r?x=1",
        "snapshots?job=--config=x",
        "snapshots?repository=s3://elsewhere",
        "snapshots?days=0",
        "snapshots?days=1&after=today",
        "snapshots/a%0Ab",
        "verbs/restore",
        "verbs/list?words=--job",
        "verbs/list?words=%5B%22--config%3D/x%22%5D",
        "verbs/show?words=%5B%22--%22%2C%22--help%22%5D",
        "verbs/list?words=%5B%22--repo%3Ds3://elsewhere%22%5D",
        "reports?since=--help",
        "reports?format=pdf",
    ] {
        let reply = operator.get(&format!("/api/v1/{wrong}")).await;
        assert!(matches!(reply.status, 400 | 404) && reply.is_problem(), "{wrong}: {reply:?}");
    }
    assert_eq!(server.program.calls().len(), asked, "none of them came so far");
}

#[tokio::test]
async fn verbs_are_asked_for_by_who_may() {
    let server = Server::start().await;
    let (operator, auditor) = (server.remote(Role::Operator), server.remote(Role::Auditor));
    let said = operator
        .get("/api/v1/verbs/list?words=%5B%22--job%3Ddocs%22%5D&json=true&quiet=true")
        .await
        .json();
    assert_eq!((&said["exit_code"], &said["err"]), (&json!(0), &json!("")));
    assert!(said["out"].as_str().unwrap().contains("snapshots"));
    // What the program says when it fails is an answer.
    let gone = operator.get("/api/v1/verbs/show?words=%5B%22--%22%2C%22gone%22%5D").await.json();
    assert!(
        gone["exit_code"] == 1 && gone["out"].as_str().unwrap().contains("no snapshot"),
        "{gone}"
    );
    auditor.get("/api/v1/verbs/audit-verify").await.json();
    for verb in super::super::verbs::VERBS.iter().filter(|verb| verb.role > Role::Auditor) {
        let reply = auditor.get(&format!("/api/v1/verbs/{}", verb.name)).await;
        assert!(reply.status == 403 && reply.is_problem(), "{}: {reply:?}", verb.name);
    }
    let calls: Vec<String> =
        server.program.calls().into_iter().map(|(words, by)| format!("{by}: {words}")).collect();
    insta::assert_snapshot!(calls.join("\n"), @r"
    operator-anna: list --quiet --json --job=docs
    operator-anna: show -- gone
    auditor-anna: audit verify
    ");
}

#[tokio::test]
async fn restores_go_where_they_may() {
    let server = Server::start().await;
    let admin = server.remote(Role::Admin);
    let order = json!({ "what": "docs", "at": "latest", "target": "standby", "dry_run": true });
    assert_eq!(admin.post("/api/v1/restores", order).await.status, 202);
    let order = RestoreOrder {
        what: "docs".into(),
        repository: None,
        at: Some("latest".into()),
        target: "standby".into(),
        dry_run: true,
    };
    assert_eq!(server.engine.asked().started[0].0, Work::Restore(order));
    for target in ["postgres://me:hush@db/x", "relative", "/a/../b", "-x", ""] {
        for path in ["/api/v1/restores", "/api/v1/restores/plan"] {
            let reply = admin.post(path, json!({ "what": "latest", "target": target })).await;
            // It may be the name of a target.
            assert!(reply.status == 400 || target == "relative", "{target}: {reply:?}");
            assert!(!reply.body.contains("hush"), "{reply:?}");
        }
    }
    let log = std::fs::read_to_string(server.state().join("audit.jsonl")).unwrap();
    assert!(!log.contains("hush"), "{log}");
}

#[tokio::test]
async fn alerts_are_silenced_and_heard_again() {
    let server = Server::start().await;
    server.alert();
    let operator = server.remote(Role::Operator);
    let alerts = operator.get("/api/v1/alerts").await.json();
    assert_eq!(
        (&alerts["alerts"][0]["phase"], &alerts["alerts"][0]["silenced"]),
        (&json!("firing"), &json!(false))
    );
    let order = json!({ "rule": "stale", "subject": "docs", "for": "2h", "reason": "db1 moves" });
    let made = operator.post("/api/v1/alerts/silences", order.clone()).await;
    assert_eq!((made.status, &made.json()["user"]), (201, &json!("operator-anna")));
    let alerts = operator.get("/api/v1/alerts").await.json();
    assert_eq!(
        (&alerts["alerts"][0]["silenced"], &alerts["silences"][0]),
        (&json!(true), &made.json())
    );
    for (key, value) in [
        ("rule", json!("none")),
        ("subject", json!("none")),
        ("for", json!("-2h")),
        ("for", json!("32d")),
        ("rule", json!("suppressed")),
        ("for", json!(null)),
        ("until", json!("tomorrow")),
        ("reason", json!(" ")),
    ] {
        let mut wrong = order.clone();
        wrong[key] = value;
        let reply = operator.post("/api/v1/alerts/silences", wrong.clone()).await;
        assert!(matches!(reply.status, 400 | 404), "{wrong}: {reply:?}");
    }
    let path = format!("/api/v1/alerts/silences/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(operator.ask("DELETE", &path, None).await.json(), made.json());
    assert_eq!(operator.ask("DELETE", &path, None).await.status, 404);
    assert_eq!(operator.get("/api/v1/alerts").await.json()["alerts"][0]["silenced"], false);
    let record = &server.audit("api silence")[0];
    assert_eq!(
        (record.class.as_str(), record.details["reason"].as_str()),
        ("compliance", "db1 moves")
    );
}

#[tokio::test]
async fn recorded_requests_are_anchored_at_once() {
    let server = Server::start().await;
    let operator = server.remote(Role::Operator);
    operator.get("/api/v1/tasks").await;
    for (path, body) in [
        ("tasks/pause", json!({})),
        ("running/r1/cancel", json!({})),
        ("running/x/cancel", json!({})),
    ] {
        let before = server.program.anchors();
        operator.post(&format!("/api/v1/{path}"), body).await;
        let since = std::time::Instant::now();
        while server.program.anchors() == before {
            assert!(since.elapsed() < std::time::Duration::from_secs(15), "{path}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn auditors_see_who_did_what() {
    let server = Server::start().await;
    server.remote(Role::Operator).post("/api/v1/tasks/pause", json!({})).await;
    let auditor = server.remote(Role::Auditor);
    let found = auditor
        .get("/api/v1/audit?user=operator-anna&operation=api%20pause&status=success&since=1h%20ago")
        .await
        .json();
    assert_eq!(found["records"].as_array().unwrap().len(), 1);
    assert_eq!(found["records"][0]["details"]["task"], "all");
    assert_eq!(auditor.get("/api/v1/audit?until=1h%20ago").await.json()["records"], json!([]));
    assert_eq!(auditor.get("/api/v1/audit?limit=99999").await.status, 400);
}

#[tokio::test]
async fn whether_it_lives_and_is_ready() {
    let server = Server::start().await;
    let stranger = server.stranger();
    assert_eq!(
        (stranger.get("/healthz").await.body, stranger.get("/readyz").await.status),
        ("ok\n".to_owned(), 200)
    );
    server.engine.change(|asked| asked.is_stopping = true);
    assert_eq!(
        (stranger.get("/healthz").await.status, stranger.get("/readyz").await.status),
        (200, 503)
    );
    server.engine.change(|asked| asked.is_dead = true);
    assert_eq!(stranger.get("/healthz").await.status, 503);
    assert_eq!(server.local().get("/api/v1/health").await.json()["healthy"], false);
}

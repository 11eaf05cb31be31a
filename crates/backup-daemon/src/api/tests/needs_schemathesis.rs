//! Whatever the document allows, and much that it does not, is asked: nothing of it makes the
//! server fail, and every answer is one that the document knows.

use std::process::Stdio;
use std::time::Duration;

use backup_core::testing::tool;
use tokio::process::Command;

use crate::testing::Server;
use crate::tokens::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_to_its_document() {
    let server = Server::start().await;
    server.remember().await;
    let (token, base) = (server.token(Role::Admin), format!("http://{}", server.address()));
    let long = std::env::var_os("BACKUP_TEST_LONG").is_some();
    let (examples, seconds) = if long { ("200", 3600) } else { ("20", 420) };
    // Whether tokens are needed is not among them: strangers are told to come again later, which it
    // takes for a mistake.
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                  negative_data_rejection,unsupported_method";
    let running = Command::new(tool("schemathesis"))
        .args(["run", &format!("{base}/api/v1/openapi.json"), "--url", &base])
        .args(["--header", &format!("Authorization: Bearer {token}"), "--checks", checks])
        .args([
            "--max-examples",
            examples,
            "--seed",
            "1",
            "--phases",
            "examples,coverage,fuzzing",
            "--request-timeout",
            "30",
        ])
        // It has no end.
        .args([
            "--exclude-path",
            "/api/v1/events",
            "--no-color",
            "--warnings",
            "off",
            "--continue-on-failure",
        ])
        .current_dir(server.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let out =
        tokio::time::timeout(Duration::from_secs(seconds), running).await.expect("an end").unwrap();
    let said =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("No issues found") && !said.contains(" 0 generated"), "it asked: {said}");
    assert!(server.engine.asked().started.len() > 5, "also what is to be done: {said}");
    assert_eq!(server.local().get("/healthz").await.status, 200);
}

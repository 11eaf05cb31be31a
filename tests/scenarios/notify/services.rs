//! What each service is sent.

use backup_control::notify::{Kind, Message, Severity};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{LONG, Place, message};
use crate::support::receiver::{Receiver, Reply};

fn receiver() -> Receiver {
    Receiver::start(|_| Reply::status(200))
}

/// A place with one channel, whose secret is `hush`.
fn place(receiver: &Receiver, kind: &str, more: &str) -> Place {
    let url =
        if kind == "slack" { String::new() } else { format!("url = \"{}{more}", receiver.url()) };
    let more = if kind == "slack" { more } else { "" };
    let config = format!(
        "[notify.x]\nkind = \"{kind}\"\nallow_http = true\nsecret_env = \"SECRET\"\n{url}{more}\n"
    );
    let secret = if kind == "slack" {
        format!("{}/services/T1/B1/hush", receiver.url())
    } else {
        "hush".to_owned()
    };
    Place::new(config, &[("SECRET", &secret)])
}

#[tokio::test]
async fn resend() {
    let service = receiver();
    let place = place(
        &service,
        "resend",
        "\"\nfrom = \"Backup <b@example.com>\"\nto = [\"ops@example.com\"]",
    );
    let report = Message { html: Some("<h1>Report</h1>".into()), ..message(1) };
    place.send("x", &report).await.unwrap();
    let got = service.only();
    assert_eq!((got.head.method(), got.head.target()), ("POST", "/emails"));
    assert_eq!(got.header("authorization"), "Bearer hush");
    assert_eq!(got.header("idempotency-key"), "x/shop/failure/1");
    assert_eq!(got.header("content-type"), "application/json");
    let text = "[critical] The backup of shop failed\n\nWhere: job shop, host db1\nWhy:   \"db1\" \
                says <no> & höhö\n       and more\nNext:  start the server\nWhen:  2026-11-23 \
                08:00:00 UTC\n\nDetails:\n  run: 20261123-080000-abc123\n";
    assert_eq!(
        got.json(),
        json!({
            "from": "Backup <b@example.com>",
            "to": ["ops@example.com"],
            "subject": "[critical] The backup of shop failed",
            "text": text,
            "html": "<h1>Report</h1>",
            "headers": { "Auto-Submitted": "auto-generated" },
        })
    );
    // The same request goes on elsewhere: it is asked again what came of it. Another one of that
    // name is a mistake.
    for (name, word) in
        [("concurrent_idempotent_requests", "later: "), ("invalid_idempotent_request", "never: ")]
    {
        service.answer(move |_| Reply::Status(409, "", format!("{{\"name\":\"{name}\"}}")));
        assert!(place.send("x", &report).await.unwrap_err().starts_with(word), "{name}");
    }
}

#[tokio::test]
async fn slack() {
    let service = receiver();
    let place = place(&service, "slack", "");
    place.send("x", &message(1)).await.unwrap();
    let got = service.only();
    assert_eq!((got.head.method(), got.head.target()), ("POST", "/services/T1/B1/hush"));
    assert_eq!(
        got.json(),
        json!({
            "text": "[critical] The backup of shop failed @ job shop, host db1: \"db1\" says \
                     &lt;no&gt; &amp; höhö and more -&gt; start the server",
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": "🔴 [critical] The \
                                                                             backup of shop \
                                                                             failed" } },
                { "type": "section", "text": { "type": "mrkdwn", "text":
                    "*Where:* job shop, host db1\n*Why:* \"db1\" says &lt;no&gt; &amp; höhö\nand \
                     more\n*Next:* start the server\n*When:* 2026-11-23 08:00:00 UTC" } },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": "run: 20261123-080000-abc123" }] },
            ],
        })
    );
}

#[tokio::test]
async fn webhook() {
    let service = receiver();
    let place = place(&service, "webhook", "/hook?a=b\"\nheaders = { X-Team = \"ops\" }");
    place.send("x", &message(1)).await.unwrap();
    let got = service.only();
    assert_eq!((got.head.method(), got.head.target()), ("POST", "/hook?a=b"));
    assert_eq!(
        (got.header("x-backup-id"), got.header("x-backup-channel")),
        ("shop/failure/1", "x")
    );
    assert_eq!((got.header("content-type"), got.header("x-team")), ("application/json", "ops"));
    // As another program computes it.
    let time: i64 = got.header("x-backup-timestamp").parse().unwrap();
    let signed = format!("{time}.{}", got.body);
    let script =
        "import hmac,sys; print(hmac.new(b'hush', sys.stdin.buffer.read(), 'sha256').hexdigest())";
    let expected = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(file_with(&signed))
        .output()
        .map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        .unwrap();
    assert_eq!(got.header("x-backup-signature"), format!("sha256={expected}"));
    assert_eq!(
        got.json(),
        json!({
            "schema_version": 1,
            "id": "shop/failure/1",
            "incident": "shop/failure",
            "kind": "firing",
            "severity": "critical",
            "title": "The backup of shop failed",
            "subject": "[critical] The backup of shop failed",
            "place": "job shop, host db1",
            "cause": "\"db1\" says <no> & höhö\nand more",
            "next": "start the server",
            "job": "shop",
            "time": "2026-11-23T08:00:00Z",
            "details": { "run": "20261123-080000-abc123" },
        })
    );
}

/// A file that a program can read as its standard input.
fn file_with(text: &str) -> std::fs::File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

#[tokio::test]
async fn webhook_of_the_users_own() {
    let service = receiver();
    let more = "/{{secret}}\"\nheaders = { Authorization = \"Bearer {{secret}}\" }\n\
                template = '{\"text\": \"{{severity}}: {{cause}}\", \"run\": \"{{details.run}}\"}'";
    place(&service, "webhook", more).send("x", &message(1)).await.unwrap();
    let got = service.only();
    assert_eq!((got.head.target(), got.header("authorization")), ("/hush", "Bearer hush"));
    assert_eq!(got.head.field("x-backup-signature"), None, "a secret that is shown signs nothing");
    let text = "critical: \"db1\" says <no> & höhö\nand more";
    assert_eq!(got.json(), json!({ "text": text, "run": "20261123-080000-abc123" }));
    let plain = receiver();
    place(&plain, "webhook", "\"\ntemplate = \"{{kind}} {{job}}\"")
        .send("x", &message(1))
        .await
        .unwrap();
    assert_eq!(
        (plain.only().header("content-type"), &*plain.only().body),
        ("text/plain; charset=utf-8", "firing shop")
    );
}

#[tokio::test]
async fn pagerduty() {
    let service = Receiver::start(|_| Reply::Status(202, "", "{\"status\":\"success\"}".into()));
    let place = place(&service, "pagerduty", "\"");
    let over = Message { kind: Kind::Resolved, ..message(2) };
    let success = Message { kind: Kind::Notice, severity: Severity::Info, ..message(3) };
    let started = Message { kind: Kind::Notice, severity: Severity::High, ..message(4) };
    for message in [&message(1), &over, &success, &started] {
        place.send("x", message).await.unwrap();
    }
    let got = service.received();
    let targets: Vec<_> = got.iter().map(|got| got.head.target()).collect();
    assert_eq!(targets, ["/v2/enqueue", "/v2/enqueue", "/v2/change/enqueue", "/v2/enqueue"]);
    let event = |action: &str, key: &str, severity: &str| {
        json!({
            "routing_key": "hush",
            "event_action": action,
            "dedup_key": key,
            "client": "backup",
            "payload": {
                "summary": "The backup of shop failed: \"db1\" says <no> & höhö and more",
                "source": "job shop, host db1",
                "severity": severity,
                "timestamp": "2026-11-23T08:00:00Z",
                "component": "shop",
                "class": "backup",
                "custom_details": {
                    "run": "20261123-080000-abc123",
                    "where": "job shop, host db1",
                    "why": "\"db1\" says <no> & höhö\nand more",
                    "next": "start the server",
                },
            },
        })
    };
    assert_eq!(got[0].json(), event("trigger", "shop/failure", "critical"));
    assert_eq!(got[1].json(), event("resolve", "shop/failure", "critical"));
    assert_eq!(got[3].json(), event("trigger", "shop/failure/4", "error"));
    let mut change = event("", "", "");
    change["payload"] = json!({
        "summary": change["payload"]["summary"], "source": change["payload"]["source"],
        "timestamp": change["payload"]["timestamp"], "custom_details": change["payload"]["custom_details"],
    });
    assert_eq!(got[2].json(), json!({ "routing_key": "hush", "payload": change["payload"] }));
}

#[tokio::test]
async fn sms() {
    let wrong = "{\"code\":21211,\"message\":\"invalid To\"}";
    let service = Receiver::start(move |got| match got.body.contains("To=%2B1555002") {
        true => Reply::Status(400, "", wrong.into()),
        false => Reply::Status(201, "", "{\"sid\":\"SM1\"}".into()),
    });
    let numbers = "\"\naccount = \"AC1\"\nfrom = \"+1555000\"\nto = [\"+1555001\", \"+1555002\", \
                   \"+1555003\"]";
    let place = place(&service, "sms", numbers);
    place.put("x", &message(1));
    let delivered = place.deliver(LONG).await;
    let why = &delivered.given_up[0].why;
    assert!(
        why.contains("+1555002: the service answers 400") && why.contains("invalid To"),
        "{delivered:?}"
    );
    let got = service.received();
    assert_eq!(got.len(), 3, "a wrong number keeps nothing from the others");
    assert_eq!(got[0].head.target(), "/2010-04-01/Accounts/AC1/Messages.json");
    assert_eq!(got[0].header("authorization"), format!("Basic {}", STANDARD.encode("AC1:hush")));
    assert_eq!(got[0].header("content-type"), "application/x-www-form-urlencoded");
    let text = "%5Bcritical%5D+The+backup+of+shop+failed+%40+job+shop%2C+host+db1%3A+%22db1%22+says+%3Cno%3E+%26+h%C3%B6h%C3%B6\
                +and+more+-%3E+start+the+server";
    assert_eq!(got[0].body, format!("To=%2B1555001&From=%2B1555000&Body={text}"));
    // Whoever has it does not get it again.
    service.answer(|_| Reply::status(201));
    assert_eq!(place.outbox.renew_failed().unwrap(), 1);
    assert!(place.deliver(LONG).await.is_complete());
    let again: Vec<_> =
        service.received().iter().skip(3).map(|got| got.body.contains("To=%2B1555002")).collect();
    assert_eq!(again, [true]);
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let stranger = receiver();
    let to: &'static str = format!("Location: {}/x\r\n", stranger.url()).leak();
    let service = Receiver::start(move |_| Reply::Status(307, to, String::new()));
    let why = place(&service, "pagerduty", "\"").send("x", &message(1)).await.unwrap_err();
    assert!(
        why.starts_with("never: ") && why.contains("307") && why.contains("not followed"),
        "{why}"
    );
    assert!(stranger.received().is_empty() && service.received().len() == 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_when_the_service_wants_it() {
    let service = receiver();
    let mut count = 0;
    service.answer(move |_| {
        count += 1;
        if count == 1 {
            Reply::Status(429, "Retry-After: 7\r\n", "too many".into())
        } else {
            Reply::status(200)
        }
    });
    let place = place(&service, "webhook", "\"");
    place.put("x", &message(1));
    let started = std::time::Instant::now();
    let delivered = place.deliver(LONG).await;
    assert!(delivered.is_complete() && service.received().len() == 2, "{delivered:?}");
    assert!(started.elapsed().as_secs() >= 7, "{:?}", started.elapsed());
    assert_eq!(service.received()[0].body, service.received()[1].body);
}

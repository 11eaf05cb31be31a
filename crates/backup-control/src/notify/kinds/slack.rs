//! Slack, by an incoming webhook, whose address is the secret. Texts have limits there: 150 letters
//! of a header, 3000 of a section.

use serde_json::{Value, json};

use super::{Failure, Task, http};
use crate::notify::message::{Kind, Severity, cut};

const HEADER: usize = 150;
const SECTION: usize = 2900;

pub(in crate::notify) async fn send(task: &Task<'_>) -> Result<(), Failure> {
    let url = http::understood(task.secret()?, task)?;
    let request = http::client(task)?.post(url);
    http::post_json(task, request, &body(task)).await?.judge()
}

/// The text is what is shown where blocks are not: in notifications of telephones.
fn body(task: &Task<'_>) -> Value {
    let message = task.message;
    let title = format!("{} {}", sign(message.kind, message.severity), message.subject());
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, HEADER) } }),
    ];
    let facts: Vec<String> = message
        .facts(task.zone)
        .iter()
        .map(|(name, value)| format!("*{name}:* {}", escaped(value)))
        .collect();
    blocks.push(section(&facts.join("\n")));
    if !message.details.is_empty() {
        let details = message
            .details
            .iter()
            .map(|(name, value)| format!("{}: {}", escaped(name), escaped(value)));
        let text = cut(&details.collect::<Vec<_>>().join("\n"), SECTION);
        blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": text }] }));
    }
    json!({ "text": escaped(&message.short(SECTION)), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, SECTION) } })
}

fn sign(kind: Kind, severity: Severity) -> &'static str {
    match (kind, severity) {
        (Kind::Resolved, _) | (Kind::Notice, Severity::Info) => "✅",
        (_, Severity::Info) => "ℹ️",
        (_, Severity::Warning) => "⚠️",
        (_, Severity::High) => "🔶",
        (_, Severity::Critical) => "🔴",
    }
}

/// The three letters that mean something to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

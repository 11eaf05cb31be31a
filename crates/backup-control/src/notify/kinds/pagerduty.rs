//! PagerDuty, by its Events API v2: incidents are triggered and resolved by their key; what is good
//! news only is a change event, which opens no incident.

use serde_json::{Value, json};

use super::{Failure, Task, http};
use crate::notify::message::{Kind, Message, Severity, cut, name_for_services, one_line};

const SERVICE: &str = "https://events.pagerduty.com";
/// Letters of a summary.
const SUMMARY: usize = 1024;
/// Letters of a key, and of a source.
const KEY: usize = 255;

pub(in crate::notify) async fn send(task: &Task<'_>) -> Result<(), Failure> {
    let message = task.message;
    let is_news = message.kind == Kind::Notice && message.severity == Severity::Info;
    let (path, body) = match is_news {
        true => ("/v2/change/enqueue", change(task)?),
        false => ("/v2/enqueue", event(task)?),
    };
    let request = http::client(task)?.post(http::address(task, SERVICE, path)?);
    http::post_json(task, request, &body).await?.judge()
}

fn event(task: &Task<'_>) -> Result<Value, Failure> {
    let message = task.message;
    let (action, key) = match message.kind {
        Kind::Firing => ("trigger", &message.incident),
        Kind::Resolved => ("resolve", &message.incident),
        // Nothing resolves it, so it shares no incident with others.
        Kind::Notice => ("trigger", &message.id),
    };
    Ok(json!({
        "routing_key": task.secret()?,
        "event_action": action,
        "dedup_key": name_for_services(key, KEY),
        "client": "backup",
        "payload": {
            "summary": summary(message),
            "source": source(task),
            "severity": severity(message.severity),
            "timestamp": message.time.to_string(),
            "component": message.job,
            "class": "backup",
            "custom_details": details(message),
        },
    }))
}

fn change(task: &Task<'_>) -> Result<Value, Failure> {
    let message = task.message;
    Ok(json!({
        "routing_key": task.secret()?,
        "payload": {
            "summary": summary(message),
            "source": source(task),
            "timestamp": message.time.to_string(),
            "custom_details": details(message),
        },
    }))
}

fn summary(message: &Message) -> String {
    let summary = match message.cause.trim() {
        "" => one_line(&message.title),
        cause => one_line(&format!("{}: {cause}", message.title)),
    };
    cut(&summary, SUMMARY)
}

fn source(task: &Task<'_>) -> String {
    let place =
        if task.message.place.trim().is_empty() { task.host } else { task.message.place.trim() };
    cut(place, KEY)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::High => "error",
        Severity::Critical => "critical",
    }
}

fn details(message: &Message) -> Value {
    let mut details = json!(message.details);
    for (name, value) in
        [("where", &message.place), ("why", &message.cause), ("next", &message.next)]
    {
        if !value.trim().is_empty() {
            details[name] = value.as_str().into();
        }
    }
    details
}

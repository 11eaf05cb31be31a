//! Mail by Resend: `POST /emails`. Keys of idempotency are remembered there for 24 hours.

use serde_json::json;

use super::{Failure, Task, http};
use crate::notify::message::name_for_services;

const SERVICE: &str = "https://api.resend.com";
/// The longest key of idempotency.
const LONGEST_KEY: usize = 256;
/// Another request with this key goes on: whoever asks again later learns what came of it.
const IN_PROGRESS: &str = "concurrent_idempotent_requests";

pub(in crate::notify) async fn send(task: &Task<'_>) -> Result<(), Failure> {
    let mut body = json!({
        "from": task.config.from,
        "to": task.config.to,
        "subject": task.message.subject(),
        "text": task.text(),
        "headers": { "Auto-Submitted": "auto-generated" },
    });
    if let Some(html) = &task.message.html {
        body["html"] = html.as_str().into();
    }
    // With the channel's name: another one with the same key of the API may have other recipients.
    let key = name_for_services(&format!("{}/{}", task.channel, task.message.id), LONGEST_KEY);
    let url = http::address(task, SERVICE, "/emails")?;
    let request =
        http::client(task)?.post(url).bearer_auth(task.secret()?).header("Idempotency-Key", key);
    let answer = http::post_json(task, request, &body).await?;
    if answer.text.contains(IN_PROGRESS) { answer.judge_again() } else { answer.judge() }
}

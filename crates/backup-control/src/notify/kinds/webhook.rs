//! Any service that takes a POST: the message as JSON, or a body of the user's own, signed if there
//! is a key.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;

use super::{Failure, Task, http};
use crate::notify::check::SECRET;
use crate::notify::message::name_for_services;
use crate::notify::template::Template;

/// Version of the JSON. Fields are added without changing it.
const SCHEMA_VERSION: u32 = 1;
const LONGEST_ID: usize = 256;

pub(in crate::notify) async fn send(task: &Task<'_>) -> Result<(), Failure> {
    let (body, kind) = body(task)?;
    let url = task.config.url.as_ref().map(|url| url.reveal()).unwrap_or_default();
    let url = http::understood(&filled(url, task), task)?;
    let mut request = http::client(task)?
        .post(url)
        .header("X-Backup-Id", name_for_services(&task.message.id, LONGEST_ID))
        .header("X-Backup-Channel", name_for_services(task.channel, LONGEST_ID));
    if !task.config.headers.keys().any(|name| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str())) {
        request = request.header(CONTENT_TYPE, kind);
    }
    for (name, value) in &task.config.headers {
        request = request.header(name, filled(value, task));
    }
    http::send(task, signed(request, task, &body)?.body(body)).await?.judge()
}

/// The body and its type.
fn body(task: &Task<'_>) -> Result<(String, &'static str), Failure> {
    const JSON: &str = "application/json";
    if let Some(template) = &task.config.template {
        let template =
            Template::parse(template).map_err(|error| Failure::later(error.to_string()))?;
        let kind = if template.is_json() { JSON } else { "text/plain; charset=utf-8" };
        return Ok((template.render(task.message, task.zone), kind));
    }
    let failed = |error: serde_json::Error| {
        Failure::refused(format!("cannot encode the message as JSON: {error}"))
    };
    let mut body = serde_json::to_value(task.message).map_err(failed)?;
    body["schema_version"] = SCHEMA_VERSION.into();
    body["subject"] = task.message.subject().into();
    Ok((body.to_string(), JSON))
}

/// A text of the configuration with the secret in its place.
fn filled(text: &str, task: &Task<'_>) -> String {
    text.replace(SECRET, task.secret.reveal().unwrap_or_default())
}

/// Whether the secret is shown to the other side, and so is no key for signatures.
fn is_shown(task: &Task<'_>) -> bool {
    let has = |text: &str| text.contains(SECRET);
    task.config.url.as_ref().is_some_and(|url| has(url.reveal()))
        || task.config.headers.values().any(|text| has(text))
}

/// Over the time and the body, so that nobody can send it again later.
fn signed(request: RequestBuilder, task: &Task<'_>, body: &str) -> Result<RequestBuilder, Failure> {
    let Some(key) = task.secret.reveal().filter(|_| !is_shown(task)) else { return Ok(request) };
    let time = task.now.as_second().to_string();
    let signature = signature(key, &time, body)?;
    Ok(request
        .header("X-Backup-Timestamp", time)
        .header("X-Backup-Signature", format!("sha256={signature}")))
}

/// HMAC-SHA-256 of the time, a dot and the body, in hexadecimal digits.
fn signature(key: &str, time: &str, body: &str) -> Result<String, Failure> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    let mut mac =
        mac.map_err(|error| Failure::refused(format!("cannot sign with the key: {error}")))?;
    mac.update(format!("{time}.{body}").as_bytes());
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_other_programs() {
        // printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature("key", "1700000000", "{\"a\":1}").unwrap(), expected);
    }
}

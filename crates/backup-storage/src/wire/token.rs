//! Checks answers of services that give tokens.
//!
//! `object_store` adds the lifetime of a token to the clock, and makes a header of the token,
//! without a check: an impossible value would end the program.

use serde_json::Value;

/// Latest time of expiry and longest lifetime, in seconds: that of the last second of the year 9999.
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Refuses a token that is no token of RFC 6750, and an impossible time of expiry. Other answers
/// are judged by their reader.
///
/// # Errors
/// The reason, without the token.
pub(super) fn check(answer: &[u8]) -> Result<(), String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(answer) else {
        return Ok(());
    };
    for name in ["expires_in", "expires_on", "ext_expires_in"] {
        let seconds = match fields.get(name) {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        if seconds.is_some_and(|seconds: f64| !(0.0..=MAX_SECONDS).contains(&seconds)) {
            return Err(format!("its field {name} is no time"));
        }
    }
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    match fields.get("access_token").and_then(Value::as_str) {
        Some(text) if !is_token(text) => Err("its token has invalid characters".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_tokens_are_refused() {
        for bad in [
            r#"{"access_token":"a","expires_on":"18446744073709551615"}"#,
            r#"{"access_token":"a","expires_in":18446744073709551615}"#,
            r#"{"access_token":"a","expires_in":-1}"#,
            r#"{"access_token":"a\r\nhost: b","expires_in":60}"#,
            r#"{"access_token":"","expires_in":60}"#,
            r#"{"access_token":"\u0000","expires_in":60}"#,
        ] {
            let why = check(bad.as_bytes()).unwrap_err();
            assert!(!why.contains("host"), "{why}");
        }
    }

    #[test]
    fn tokens_of_real_services_pass() {
        for good in [
            r#"{"access_token":"ya29.c.b0Ab_-+/=~","expires_in":3599,"token_type":"Bearer"}"#,
            r#"{"access_token":"eyJ0.eyJh.-_x","expires_on":"1893456000","resource":"r"}"#,
            "project-id",
            "{",
            "",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }
}

//! Heartbeats: an address is asked for whenever a backup has succeeded, so that whoever listens
//! there notices when it does not.

use std::time::Duration;

use backup_core::context::Context;
use backup_storage::http;

use crate::config::WebAddress;
use crate::environment::Environment;

/// How long one try may take, and how often it is tried.
const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;
/// How long to wait between tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks for an address until it answers with success.
///
/// # Errors
/// Why it did not, without the address: that is a secret.
pub async fn send(address: &WebAddress, env: &Environment, cx: &Context) -> Result<(), String> {
    let client = http::client(None, &env.texts().collect())?;
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = cx.cancel.cancelled() => return Err(last),
            }
        }
        last = match client.get(address.reveal()).timeout(TIMEOUT).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("the service answered {}", answer.status()),
            Err(error) => crate::words::chain(&error.without_url()),
        };
    }
    Err(last)
}

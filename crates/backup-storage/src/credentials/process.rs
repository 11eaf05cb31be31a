//! Programs that give credentials (`credential_process`).

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use backup_process::{Failure, LIMIT_VARIABLE};
use object_store::aws::AwsCredential;
use serde::Deserialize;
use tokio::process::Command;

use super::Lease;
use crate::wire::WireError;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

/// Runs the program. Its output is secret, and is in no error.
pub(super) async fn run(command: &str, limit: Duration) -> Result<Lease, WireError> {
    let wrong = |why: &str| WireError::Credentials(format!("credential_process {why}"));
    // As the vendor's own tools do, and with it quoting.
    let mut child = Command::new("/bin/sh");
    child.arg("-c").arg(command).stdin(Stdio::null());
    let output =
        backup_process::run(&mut child, limit).await.map_err(|failure| match &failure {
            Failure::Late(_) => wrong(&format!("{failure} ({LIMIT_VARIABLE})")),
            Failure::Start(cause) | Failure::Wait(cause) => wrong(&format!("{failure}: {cause}")),
            _ => wrong(&failure.to_string()),
        })?;
    if !output.status.success() {
        return Err(wrong(&format!("failed ({})", output.status)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| wrong("did not print credentials as JSON"))?;
    if answer.version != 1 {
        return Err(wrong("printed credentials of an unknown version"));
    }
    let credential = AwsCredential {
        key_id: answer.access_key_id,
        secret_key: answer.secret_access_key,
        token: answer.session_token,
    };
    Ok(Lease { credential: Arc::new(credential), expires: answer.expiration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gives_credentials() {
        let json = r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":"hush","SessionToken":"t",
                       "Expiration":"2030-01-01T00:00:00Z"}"#;
        // A process in the background holds the output open.
        let command = format!("echo '{json}'; sleep 90 &");
        let lease = run(&command, Duration::from_secs(30)).await.unwrap();
        assert_eq!(
            (&*lease.credential.key_id, lease.credential.token.as_deref()),
            ("a", Some("t"))
        );
        assert_eq!(lease.expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
        for (command, words) in
            [("exit 3", "failed"), ("echo hush", "JSON"), ("echo hush >&2; exit 1", "failed")]
        {
            let error = run(command, Duration::from_secs(30)).await.err().unwrap().to_string();
            assert!(error.contains(words) && !error.contains("hush"), "{error}");
        }
        let error = run("sleep 60", Duration::from_millis(300)).await.err().unwrap().to_string();
        let expected = "credential_process did not exit within 0.3 seconds (BACKUP_HELPER_TIMEOUT)";
        assert!(error.contains(expected), "{error}");
    }
}

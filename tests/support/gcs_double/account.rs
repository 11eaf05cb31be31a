//! A service account that everybody knows: its key was made for these tests and opens nothing.

use serde_json::json;

/// A fixed one: making an RSA key takes seconds, and a provider of cryptography that is in here for
/// nothing else.
const KEY: &str = include_str!("throwaway.pem");

#[derive(Clone, Copy, Debug)]
pub(crate) struct Account;

impl Account {
    /// The file that Google would hand out, but for the base URL.
    pub(crate) fn json(self, endpoint: &str) -> String {
        let account = json!({
            "type": "service_account",
            "project_id": "a-project-of-tests",
            "client_email": "backup@tests.invalid",
            "private_key_id": "0",
            "private_key": KEY,
            "gcs_base_url": endpoint,
        });
        account.to_string()
    }
}

//! A service account that only this test knows.

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Account {
    key: String,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem() }
    }

    /// The file that Google would hand out, but for the base URL.
    pub(crate) fn json(&self, endpoint: &str) -> String {
        let account = json!({
            "type": "service_account",
            "project_id": "a-project-of-tests",
            "client_email": "backup@tests.invalid",
            "private_key_id": "0",
            "private_key": self.key,
            "gcs_base_url": endpoint,
        });
        account.to_string()
    }
}

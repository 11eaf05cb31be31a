//! How a store is reached.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`StoreSettings`]: all settings of one repository's store |
//! | `precedence.rs` | the one precedence: URL, then settings, then environment |
//! | `secret.rs` | [`Secret`] and [`Environment`]: values that are never shown |
//! | `units.rs` | [`Rate`] and [`Seconds`] as people write them |

mod precedence;
mod secret;
mod units;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use precedence::{URL_KEYS, overlay};
pub use secret::{Environment, Secret};
pub use units::{Rate, Seconds};

/// Encryption by the store, beneath our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// SSE-S3: the store's own keys.
    #[serde(rename = "AES256")]
    Aes256,
    /// SSE-KMS: a key of the provider's key service; see [`StoreSettings::kms_key_id`].
    #[serde(rename = "aws:kms")]
    Kms,
    /// SSE-C: a key that is sent with every request; see [`StoreSettings::customer_key_file`].
    #[serde(rename = "customer")]
    Customer,
}

/// How strong a lock against deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Somebody with a special permission can lift it.
    Governance,
    /// Nobody can lift it before its time.
    Compliance,
}

/// Settings of a repository's store, all optional. In a configuration file they stand in
/// `[repositories.NAME.store]`.
///
/// What is set in the repository's URL goes before these, and these go before the
/// [environment](Self::environment) (`AWS_*`, `GOOGLE_*`, `AZURE_*`). A directory ignores all but
/// the two rate limits.
///
/// Secrets are given by reference only: the name of a file or of an environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Address of the service, for stores other than the provider's own:
    /// `https://minio.example:9000`. For S3, the environment's `AWS_ENDPOINT_URL_S3` if not set,
    /// then its `AWS_ENDPOINT_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of an S3 bucket; `us-east-1` if nothing says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether the bucket stands in the path (`https://host/bucket`) and not in the host's name. By
    /// default it does if there is an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// PEM file of certificate authorities to trust besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Address of an HTTP proxy, without a password; `HTTPS_PROXY` and `NO_PROXY` of the
    /// environment if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Allows `http://` endpoints, which anybody on the way can read and change. Refused if not
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
    /// How many requests are under way at most; 8 if not set. A store that asks to slow down gets
    /// fewer for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<NonZeroUsize>,
    /// Most bytes per second to the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_upload: Option<Rate>,
    /// Most bytes per second from the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_download: Option<Rate>,
    /// Access key of S3. Its secret is given by one of the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// File that holds the secret of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key_file: Option<PathBuf>,
    /// Environment variable that holds the secret of the access key; `AWS_SECRET_ACCESS_KEY` if
    /// neither is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key_env: Option<String>,
    /// Environment variable that holds the session token of a temporary access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_env: Option<String>,
    /// Profile of `~/.aws/config` and `~/.aws/credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Google service account (a JSON file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<PathBuf>,
    /// Azure storage account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Environment variable that holds the key of the Azure storage account;
    /// `AZURE_STORAGE_ACCOUNT_KEY` if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_key_env: Option<String>,
    /// Encryption by the store (S3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<Encryption>,
    /// Key for `sse = "aws:kms"`; the bucket's default key if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// File that holds the key for `sse = "customer"`: 32 bytes, or their Base64 form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_key_file: Option<PathBuf>,
    /// Storage class of what is read only by restores (S3 and Google). Everything else is in the
    /// default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// How strong the locks of new objects are; `governance` if only `lock_days` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_mode: Option<LockMode>,
    /// For how many days new objects are locked against deletion. Needs an S3 bucket with object
    /// lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_days: Option<u32>,
    /// A request that does not move a byte for so long has failed; 60 seconds if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<Seconds>,
    /// How long making a connection may take; 15 seconds if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Seconds>,
    /// For how long a failing operation is tried again; 5 minutes if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_deadline: Option<Seconds>,
    /// Variables that stand behind the settings. This crate never looks at those of the process by
    /// itself.
    #[serde(skip)]
    pub environment: Environment,
}

//! A double of Google Cloud Storage's XML API, in memory: what `object_store` asks of it. Written
//! from the client's needs and Google's documentation, it proves how we use the API and nothing
//! about Google's servers.
//!
//! | module    | what |
//! |-----------|------|
//! | `bucket`  | objects, generations, uploads: what is stored and under which conditions |
//! | `serve`   | requests and answers: which operation is meant, ranges, headers |
//! | `xml`     | the documents |
//! | `account` | a service account whose key everybody knows |

pub(crate) mod account;
mod bucket;
mod serve;
mod xml;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use object_store::gcp::GoogleCloudStorageBuilder;

use self::account::Account;
use self::bucket::Bucket;
use crate::support::http::Background;
use crate::support::plain::Plain;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct GcsDouble {
    buckets: Buckets,
    background: Background,
    account: Account,
}

type Buckets = Arc<Mutex<BTreeMap<String, Bucket>>>;

impl GcsDouble {
    pub(crate) fn start() -> Self {
        let buckets = Buckets::default();
        let serving = Arc::clone(&buckets);
        let background = Background::start(|listener| serve::serve(listener, serving));
        Self { buckets, background, account: Account }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.background.port)
    }

    pub(crate) fn create_bucket(&self, name: &str) {
        self.buckets.lock().unwrap().insert(name.to_owned(), Bucket::default());
    }

    /// The key file of a service account, with `endpoint` (of this, or of a `FaultProxy` before it)
    /// as `gcs_base_url`.
    pub(crate) fn service_account(&self, endpoint: &str) -> String {
        self.account.json(endpoint)
    }

    /// The same in a file, for `GOOGLE_APPLICATION_CREDENTIALS` and the like.
    pub(crate) fn write_service_account(&self, endpoint: &str, path: &Path) {
        std::fs::write(path, self.service_account(endpoint)).unwrap();
    }

    /// For `object_store`.
    pub(crate) fn builder(&self, bucket: &str) -> GoogleCloudStorageBuilder {
        self.builder_at(&self.endpoint(), bucket)
    }

    /// The same through something in between, such as a `FaultProxy`.
    pub(crate) fn builder_at(&self, endpoint: &str, bucket: &str) -> GoogleCloudStorageBuilder {
        let account = self.service_account(endpoint);
        GoogleCloudStorageBuilder::new()
            .with_http_connector(Plain::patient())
            .with_service_account_key(account)
            .with_bucket_name(bucket)
    }

    /// How many uploads are unfinished.
    pub(crate) fn unfinished(&self, bucket: &str) -> usize {
        self.buckets.lock().unwrap()[bucket].uploads.len()
    }

    /// What is stored under a key.
    pub(crate) fn content(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.buckets.lock().unwrap()[bucket].objects.get(key).map(|object| object.content.clone())
    }
}

//! Our own sinks on the servers of tests, opened as users open them: by an address and settings.
//! Nothing is taken from the environment that the tests run in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::sink::{Key, Prefix, Sink, SinkError, SinkOps, SinkResult};
use backup_storage::settings::{Environment, Seconds};
use backup_storage::{Location, StoreSettings, resolver};
use futures::StreamExt;
use jiff::Timestamp;

use super::cli::Cli;
use super::fault_proxy::FaultProxy;
use super::gcs_double::GcsDouble;
use super::restic::Restic;
use super::servers::azurite::{self, Azurite};
use super::servers::s3::S3;
use super::servers::weed::{SeaweedFs, User};

/// The bucket, or container, that all tests use.
pub(crate) const BUCKET: &str = "bucket";

/// A place in an object store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) address: String,
    /// Variables with the credentials.
    pub(crate) environment: BTreeMap<String, String>,
    settings: StoreSettings,
}

impl Store {
    fn new(address: String, environment: BTreeMap<String, String>) -> Self {
        // Long enough for what is to succeed on a busy machine, short enough for what is to fail.
        let settings =
            StoreSettings { retry_deadline: Seconds::new(20), ..StoreSettings::default() };
        Self { address, environment, settings }
    }

    /// Below a prefix of the bucket.
    pub(crate) fn s3(s3: &S3, prefix: &str) -> Self {
        let S3 { endpoint, region, .. } = s3;
        let mut environment = s3.environment();
        environment.remove("AWS_DEFAULT_REGION");
        let address =
            format!("s3://{BUCKET}/{prefix}?allow_http=true&endpoint={endpoint}&region={region}");
        Self::new(address, environment)
    }

    /// Below a prefix of the bucket of the double, or of what stands at `endpoint` before it;
    /// `room` is for the key file.
    pub(crate) fn gcs(double: &GcsDouble, endpoint: &str, prefix: &str, room: &Path) -> Self {
        let account = room.join("account.json");
        double.write_service_account(endpoint, &account);
        let variable =
            ("GOOGLE_APPLICATION_CREDENTIALS".to_owned(), account.to_str().unwrap().to_owned());
        let address = format!("gs://{BUCKET}/{prefix}?allow_http=true&endpoint={endpoint}");
        Self::new(address, [variable].into())
    }

    pub(crate) fn azure(azurite: &Azurite, prefix: &str) -> Self {
        let account = azurite::ACCOUNT;
        let variable = ("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), azurite::KEY.to_owned());
        let endpoint = azurite.endpoint();
        let address =
            format!("az://{BUCKET}/{prefix}?account={account}&allow_http=true&endpoint={endpoint}");
        Self::new(address, [variable].into())
    }

    /// Below a prefix of the real bucket that the environment names.
    pub(crate) fn real_gcs(prefix: &str) -> Self {
        let variable =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let account = "GOOGLE_APPLICATION_CREDENTIALS";
        let address = format!("gs://{}/{prefix}", variable("BACKUP_TEST_GCS_BUCKET"));
        Self::new(address, [(account.to_owned(), variable(account))].into())
    }

    /// Deletes everything there.
    pub(crate) async fn clear(&self) {
        let sink = self.sink().await;
        let all = sink.list(&Prefix::root()).map(|meta| meta.unwrap().key).boxed();
        sink.delete(all).for_each(async |deleted| assert!(deleted.is_ok(), "{deleted:?}")).await;
    }

    /// With other settings.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut StoreSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) async fn open(&self) -> SinkResult<Arc<dyn Sink>> {
        let location: Location = self.address.parse()?;
        let environment = Environment::from(self.environment.clone());
        resolver::open(&location, &StoreSettings { environment, ..self.settings.clone() }).await
    }

    pub(crate) async fn sink(&self) -> Arc<dyn Sink> {
        self.open().await.unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    /// The `backup` binary on the same place.
    pub(crate) fn cli(&self, password: &str) -> Cli {
        Cli::remote(&self.address, password, self.environment.clone())
    }
}

/// Stock restic on a prefix of the bucket.
pub(crate) fn restic(version: &str, s3: &S3, prefix: &str, password: &str) -> Restic {
    Restic::remote(
        version,
        format!("s3:{}/{BUCKET}/{prefix}", s3.endpoint),
        password,
        s3.environment(),
    )
}

/// The time.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Names of all objects below a prefix, sorted.
pub(crate) async fn names(sink: &dyn Sink, prefix: &str) -> Vec<String> {
    let prefix = if prefix.is_empty() { Prefix::root() } else { Prefix::new(prefix).unwrap() };
    let all = sink.list_all(&prefix).await.unwrap();
    let mut names: Vec<String> = all.into_iter().map(|meta| meta.key.as_str().to_owned()).collect();
    names.sort();
    names
}

/// Everything that an error tells users: what, why, and what to do.
pub(crate) fn told(error: &SinkError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}; {}", error.hint().unwrap_or("no hint"))
}

/// SeaweedFS with the bucket, and a proxy before it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) weed: SeaweedFs,
    pub(crate) proxy: FaultProxy,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with_users(&[])
    }

    pub(crate) fn with_users(users: &[User<'_>]) -> Self {
        let weed = SeaweedFs::with_users(users);
        weed.s3.create_bucket(BUCKET, false);
        let proxy = FaultProxy::start(&weed.s3.endpoint);
        Self { weed, proxy }
    }

    /// Through the proxy.
    pub(crate) fn store(&self, prefix: &str) -> Store {
        Store::s3(&self.weed.s3.at(&self.proxy.endpoint()), prefix)
    }

    /// Past the proxy: what is really there.
    pub(crate) fn truth(&self, prefix: &str) -> Store {
        Store::s3(&self.weed.s3, prefix)
    }
}

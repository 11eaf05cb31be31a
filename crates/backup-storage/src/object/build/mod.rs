//! From settings to a sink.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | what is the same for all: the wire, checks of the settings |
//! | `s3.rs` | S3 |
//! | `gcs.rs` | Google Cloud Storage |
//! | `azure.rs` | Azure Blob Storage |

mod azure;
mod gcs;
mod s3;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use backup_core::sink::{Operation, SinkError, SinkErrorKind, SinkResult};
use object_store::{BackoffConfig, RetryConfig};
use url::Url;

use crate::limit::Pace;
use crate::location::Location;
use crate::object::custody::Raw;
use crate::object::{Kind, Parts, Proof, Store};
use crate::retry::RetryPolicy;
use crate::settings::StoreSettings;
use crate::wire::{ClientSettings, Clients, Gate, Inner, Signer, Wire, build_clients};

pub(crate) use azure::azure;
pub(crate) use gcs::gcs;
pub(crate) use s3::s3;

const CONNECTIONS: usize = 8;
const STALL: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(15);

/// What a sink is to be made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The address, as the user knows it.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    /// With those of the URL and the environment.
    pub(crate) settings: StoreSettings,
}

impl Plan<'_> {
    /// The address that says which store is really talked to: with what identifies it, wherever
    /// that was set, and with nothing else. `None` is the provider's own endpoint.
    fn identity(&self, endpoint: Option<&Url>) -> String {
        let mut query = BTreeMap::new();
        if let Some(endpoint) = endpoint {
            query.insert("endpoint".to_owned(), plain(endpoint).to_owned());
        }
        let (bucket, prefix) = (self.bucket.to_owned(), self.prefix.to_owned());
        let location = match self.kind {
            Kind::S3 => Location::S3 { bucket, prefix, query },
            Kind::Gcs => Location::Gcs { bucket, prefix, query },
            Kind::Azure => {
                if let Some(account) = &self.settings.account {
                    query.insert("account".to_owned(), account.clone());
                }
                Location::Azure { container: bucket, prefix, query }
            }
        };
        location.to_string()
    }

    fn invalid(&self, message: impl Into<String>) -> SinkError {
        let message: String = message.into();
        SinkError::on(SinkErrorKind::Invalid, Operation::Head, &*self.name)
            .with_source(message)
            .without_effect()
    }

    /// Settings that would not do what they promise.
    fn refuse(&self, store: &str, set: &[(&str, bool)]) -> SinkResult<()> {
        match set.iter().find(|(_, set)| *set) {
            None => Ok(()),
            Some((setting, _)) => Err(self
                .invalid(format!("{store} does not support the setting {setting}"))
                .with_hint(format!(
                    "remove {setting} from the configuration, the address and the options of the \
                     command"
                ))),
        }
    }

    /// The endpoint of the settings, checked.
    fn endpoint(&self, text: &str) -> SinkResult<Url> {
        let url = Url::parse(text).map_err(|error| {
            self.invalid(format!("the endpoint is not a URL: {error}"))
                .with_hint("write https://host or https://host:port")
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.invalid("an endpoint must not contain a user name or password"));
        }
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
            return Err(
                self.invalid("an endpoint must have the form https://host or https://host:port")
            );
        }
        if url.scheme() == "http" && self.settings.allow_http != Some(true) {
            return Err(self
                .invalid("the endpoint uses plain http, which can be read and changed in transit")
                .with_hint(
                    "use an https:// endpoint, or set allow_http = true if the network is trusted",
                ));
        }
        Ok(url)
    }

    fn clients(&self) -> SinkResult<Clients> {
        let settings = &self.settings;
        if settings.proxy.as_ref().is_some_and(|proxy| proxy.contains('@')) {
            return Err(self
                .invalid("the proxy address must not contain a user name or password")
                .with_hint("set the proxy in the environment variable HTTPS_PROXY"));
        }
        let environment = |names: &[&str]| settings.environment.first(names).map(ToOwned::to_owned);
        let client = ClientSettings {
            ca_file: settings.ca_file.clone(),
            proxy: settings.proxy.clone().or_else(|| environment(&["HTTPS_PROXY", "https_proxy"])),
            no_proxy: environment(&["NO_PROXY", "no_proxy"]),
            stall: self.stall(),
            connect_timeout: settings.connect_timeout.map_or(CONNECT, |time| time.duration()),
        };
        build_clients(&client).map_err(|error| self.invalid(error))
    }

    fn wire(&self, clients: Clients, base: &Url, signer: Option<Signer>, gate: &Arc<Gate>) -> Wire {
        let settings = &self.settings;
        Wire::new(Inner {
            clients,
            host: authority(base),
            allow_http: settings.allow_http == Some(true),
            stall: self.stall(),
            upload: settings.limit_upload.map(|rate| Arc::new(Pace::new(rate))),
            download: settings.limit_download.map(|rate| Arc::new(Pace::new(rate))),
            gate: Arc::clone(gate),
            signer,
            empty_pages: AtomicU32::new(0),
        })
    }

    fn stall(&self) -> Duration {
        self.settings.stall_timeout.map_or(STALL, |time| time.duration())
    }

    fn gate(&self) -> Arc<Gate> {
        Arc::new(Gate::new(self.settings.connections.map_or(CONNECTIONS, std::num::NonZero::get)))
    }

    /// What every sink has; what only some have is left out. `endpoint` is `None` for the
    /// provider's own.
    fn parts<S: Store>(&self, store: S, endpoint: Option<&Url>, gate: Arc<Gate>) -> Parts {
        let store = Arc::new(store);
        Parts {
            kind: self.kind,
            store: Arc::clone(&store) as _,
            one_by_one: store,
            name: self.identity(endpoint),
            bucket: self.bucket.to_owned(),
            prefix: self.prefix.to_owned(),
            gate,
            policy: self.policy(),
            proof: Proof::default(),
            storage_class: None,
            lock: None,
            customer_key: false,
            custody: None,
        }
    }

    /// For requests by hand about the bucket at `address`.
    fn raw(&self, wire: Wire, address: String) -> Raw {
        let (bucket, prefix) = (self.bucket.to_owned(), self.prefix.to_owned());
        Raw { wire, address, bucket, prefix, kind: self.kind, bearer: None, customer_key: None }
    }

    /// How operations are tried again.
    pub(crate) fn policy(&self) -> RetryPolicy {
        let mut policy = RetryPolicy { longest_standstill: self.stall(), ..RetryPolicy::default() };
        if let Some(deadline) = self.settings.retry_deadline {
            policy.deadline = deadline.duration();
        }
        policy
    }
}

/// The text of an endpoint, in the form that is the same for equal ones, without a slash at its
/// end.
fn plain(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// Host and port, as they stand in requests' addresses.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `object_store` tries nothing again.
fn once() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO }
}

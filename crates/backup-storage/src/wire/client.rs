//! The HTTP client: certificates, proxy, time to connect.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// What the client is built from.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientSettings {
    /// Authorities to trust besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) proxy: Option<String>,
    /// Hosts that are reached without the proxy, separated by commas.
    pub(crate) no_proxy: Option<String>,
    pub(crate) connect_timeout: Duration,
    /// For how long the other side may leave what was sent without an acknowledgement.
    pub(crate) stall: Duration,
}

impl ClientSettings {
    /// The proxy, unless all hosts are an exception: for the library, `*` covers no host that is an
    /// IP address.
    fn proxy_of_network(&self) -> Option<&str> {
        let mut exceptions = self.no_proxy.as_deref().unwrap_or_default().split(',');
        if exceptions.any(|host| host.trim() == "*") { None } else { self.proxy.as_deref() }
    }
}

/// The clients of one store.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// Through the proxy, if there is one.
    pub(crate) network: reqwest::Client,
    /// For services that answer on the machine itself: their credentials are no proxy's business.
    pub(crate) machine: reqwest::Client,
}

/// Builds them. The error says what is wrong with the settings.
pub(crate) fn build(settings: &ClientSettings) -> Result<Clients, String> {
    let network = build_one(settings, None)?;
    let machine = match settings.proxy_of_network() {
        None => network.clone(),
        Some(_) => build_one(&ClientSettings { proxy: None, ..settings.clone() }, None)?,
    };
    Ok(Clients { network, machine })
}

/// Builds one, which talks to a Unix socket if one is named.
pub(crate) fn build_one(
    settings: &ClientSettings,
    socket: Option<&Path>,
) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls(settings)?)
        .connect_timeout(settings.connect_timeout)
        // A redirection is a wrong region or a stranger, and must be seen.
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .tcp_keepalive(Duration::from_secs(30))
        .tcp_nodelay(true)
        // The user's environment was read by the caller.
        .no_proxy()
        .user_agent(concat!("backup/", env!("CARGO_PKG_VERSION")));
    #[cfg(target_os = "linux")]
    {
        builder = builder.tcp_user_timeout(settings.stall);
    }
    if let Some(socket) = socket {
        builder = builder.unix_socket(socket);
    }
    if let Some(proxy) = settings.proxy_of_network() {
        let excluded = settings.no_proxy.as_deref().unwrap_or_default();
        // Neither the address (it may hold a password) nor the library's error, which repeats it.
        let proxy =
            reqwest::Proxy::all(proxy).map_err(|_| "the proxy address is invalid".to_owned())?;
        builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(excluded)));
    }
    builder.build().map_err(|error| format!("cannot make an HTTP client: {error}"))
}

fn tls(settings: &ClientSettings) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are not trusted, and that is all that is wrong
    // with them.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = &settings.ca_file {
        let shown = path.display();
        let wrong = |error: &dyn std::fmt::Display| {
            format!("cannot read certificates from {shown}: {error}")
        };
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
            any = true;
        }
        if !any {
            return Err(wrong(&"the file contains none"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

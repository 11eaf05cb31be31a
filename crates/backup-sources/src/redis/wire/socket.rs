//! TCP, plain or under TLS, and sockets of this machine.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::error::{WireError, invalid};
use super::super::options::RedisOptions;
use super::mismatch;

/// Longest that a server is waited for.
const CONNECTING: Duration = Duration::from_secs(15);
/// A connection that nothing comes over is looked at so often by the system.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Bytes in both directions.
pub(in super::super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to a server.
pub(super) type Socket = Box<dyn Duplex>;

/// Connects to the server.
pub(super) async fn connect(options: &RedisOptions) -> Result<Socket, WireError> {
    let waits = options.waits.at_most(CONNECTING);
    let opened = waits.limit(&options.label(), None, open(options)).await;
    opened.map_err(SourceError::from)?
}

async fn open(options: &RedisOptions) -> Result<Socket, WireError> {
    if let Some(socket) = &options.socket {
        return Ok(Box::new(UnixStream::connect(socket).await?));
    }
    let tcp = TcpStream::connect((&*options.host, options.port)).await?;
    tcp.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&tcp, true).map_err(io::Error::from)?;
    rustix::net::sockopt::set_tcp_keepidle(&tcp, KEEPALIVE).map_err(io::Error::from)?;
    if !options.tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(options.host.clone())
        .map_err(|_| invalid(format!("{:?} is not a host name", options.host)))?;
    let connector = TlsConnector::from(Arc::new(tls_config(options).await?));
    tokio::select! {
        biased;
        connected = connector.connect(name, tcp) => Ok(Box::new(connected.map_err(tls_failed)?)),
        error = mismatch::plain_port(options) => Err(error),
    }
}

/// What TLS itself finds wrong stays wrong; a way that breaks meanwhile may be whole in a moment.
fn tls_failed(error: io::Error) -> WireError {
    if !error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return error.into();
    }
    if let Some(refused) = mismatch::refused(&error.to_string()) {
        return refused.into();
    }
    let hint = "check the server's certificate, name that of its authority, and check that the \
                port uses TLS";
    invalid(format!("TLS failed: {error}")).with_hint(hint).into()
}

async fn tls_config(options: &RedisOptions) -> SourceResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let trusted = match &options.tls_ca_file {
        Some(file) => certificates(file).await?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.add_parsable_certificates(trusted).0 == 0 {
        return Err(invalid("no certificate of a trusted authority was found"));
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots);
    match (&options.tls_certificate_file, &options.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let (chain, key) = (certificates(certificate).await?, private_key(key).await?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| invalid(format!("the client certificate cannot be used: {error}")))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(invalid("a client certificate needs its key, and a key its certificate")),
    }
}

/// For servers that connect to us, with the certificate that is shown to them; `None` if there is
/// none.
pub(in super::super) async fn acceptor(
    options: &RedisOptions,
) -> SourceResult<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&options.tls_certificate_file, &options.tls_key_file)
    else {
        return Ok(None);
    };
    let (chain, key) = (certificates(certificate).await?, private_key(key).await?);
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(format!("TLS cannot be used: {error}")))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| invalid(format!("the client certificate cannot be used: {error}")))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

async fn private_key(file: &Path) -> SourceResult<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(file).await?)
        .map_err(|_| invalid(format!("{} holds no private key", file.display())))
}

async fn read(file: &Path) -> SourceResult<Vec<u8>> {
    tokio::fs::read(file).await.map_err(|error| {
        SourceError::new(SourceErrorKind::Invalid, format!("cannot read {}", file.display()))
            .with_source(error)
    })
}

async fn certificates(file: &Path) -> SourceResult<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file).await?).collect();
    found.map_err(|_| invalid(format!("{} holds no certificates", file.display())))
}

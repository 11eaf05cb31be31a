//! Mismatches of TLS: an address for TLS with a plain port, a plain address with a TLS port, a
//! missing or refused client certificate.
//!
//! A plain server waits for the end of what it takes for a command, and a TLS server just hangs up.
//! A second connection finds out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backup_core::source::SourceError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::error::{WireError, invalid};
use super::super::options::RedisOptions;

/// A TLS handshake is given this time before the port is asked for a plain answer.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Longest wait for the answer of a port.
const ANSWER: Duration = Duration::from_secs(3);
/// Beginning of the errors of `rustls` if the peer refuses.
const ALERT: &str = "received fatal alert";

/// Ends with an error if the port answers without TLS; else never. Cancel safe.
pub(super) async fn plain_port(options: &RedisOptions) -> WireError {
    tokio::time::sleep(HANDSHAKE).await;
    if timeout(ANSWER, is_plain(options)).await.unwrap_or(false) {
        return invalid("the port of the server answers without TLS")
            .with_hint(
                "write redis:// in place of rediss:// and leave out certificates, or name the port \
                 for TLS",
            )
            .into();
    }
    std::future::pending().await
}

async fn is_plain(options: &RedisOptions) -> bool {
    let asking = async {
        let mut tcp = TcpStream::connect((&*options.host, options.port)).await?;
        tcp.write_all(b"PING\r\n").await?;
        let mut first = [0];
        tcp.read_exact(&mut first).await?;
        io::Result::Ok(first)
    };
    // A status, or the refusal of a server that requires a login.
    asking.await.is_ok_and(|first| matches!(first, [b'+' | b'-']))
}

/// The error in place of `error` if the first request to a server has failed because its port
/// requires TLS.
pub(super) async fn tls_port(options: &RedisOptions, error: WireError) -> WireError {
    if options.tls || options.socket.is_some() || matches!(error, WireError::Server(_)) {
        return error;
    }
    if !timeout(ANSWER, is_tls(options)).await.unwrap_or(false) {
        return error;
    }
    invalid("the port of the server requires TLS")
        .with_hint("write rediss:// in place of redis://, or name the port without TLS")
        .into()
}

async fn is_tls(options: &RedisOptions) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let Ok(builder) = builder else { return false };
    // Trusts nobody: a refused certificate is an answer as well.
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(options.host.clone());
    let Ok(name) = name.or_else(|_| ServerName::try_from("localhost")) else { return false };
    let Ok(tcp) = TcpStream::connect((&*options.host, options.port)).await else { return false };
    let Err(error) = TlsConnector::from(Arc::new(config)).connect(name, tcp).await else {
        return true;
    };
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    error.is_some_and(|error| {
        matches!(
            error,
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::AlertReceived(_)
                | rustls::Error::PeerIncompatible(_)
        )
    })
}

/// The error for an alert that the peer has sent behind the handshake: with TLS 1.3 a client
/// certificate is refused that late.
pub(super) fn refused(text: &str) -> Option<SourceError> {
    if !text.contains(ALERT) {
        return None;
    }
    Some(if text.contains("CertificateRequired") {
        invalid("TLS failed: the server requires a client certificate")
            .with_hint("set tls_certificate_file and tls_key_file of the source")
    } else {
        invalid(format!("TLS failed: {text}")).with_hint(
            "check tls_certificate_file and tls_key_file of the source: the server must trust the \
             certificate",
        )
    })
}

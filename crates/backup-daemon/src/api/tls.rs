//! TLS: the certificate and its key, which are read again when their files are others.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Error;

/// When files were changed.
type Stamp = [Option<SystemTime>; 2];

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead to its authority (PEM).
    pub cert: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
}

/// Agrees on TLS with those who connect.
pub(super) struct Tls {
    files: TlsFiles,
    read: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(files: TlsFiles) -> Result<Self, Error> {
        let stamp = stamp(&files);
        let config = read(&files)?;
        Ok(Self { files, read: Mutex::new((stamp, config)) })
    }

    /// Who agrees on TLS now. Files that cannot be used leave everything as it was. Blocks while
    /// they are read.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.files);
        if known.0 != stamp {
            match read(&self.files) {
                Ok(config) => known.1 = config,
                Err(error) => {
                    tracing::error!(
                        "cannot load the new certificate, the old one stays in use: {}",
                        backup_control::words::chain(&error)
                    );
                }
            }
            known.0 = stamp;
        }
        TlsAcceptor::from(Arc::clone(&known.1))
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.cert, &files.key]
        .map(|file| std::fs::metadata(file).and_then(|known| known.modified()).ok())
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, Error> {
    let failed = |file: &Path, error: io::Error| Error::Tls(file.to_path_buf(), error);
    let pem = |file: &Path| std::fs::read(file).map_err(|error| failed(file, error));
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(&files.cert)?).collect();
    let certs = certs.map_err(|error| failed(&files.cert, io::Error::other(error.to_string())))?;
    // What stands in a key file is never part of an error.
    let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(pem(&files.key)?)).map_err(
        |_| failed(&files.key, io::Error::other("the file contains no private key in PEM format")),
    )?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certs, key))
        .map_err(|error| failed(&files.cert, io::Error::other(error)))?;
    Ok(Arc::new(config))
}

//! What `sslmode` asks for, and what SCRAM binds to.

use std::path::Path;
use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::super::error::invalid;
use super::super::options::{PostgresOptions, TlsMode};

/// The configuration, and whether it checks who the server is.
pub(super) async fn config(options: &PostgresOptions) -> SourceResult<(ClientConfig, bool)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // As libpq: whoever names an authority wants it to be asked.
    let mode = match options.tls {
        TlsMode::Require if options.tls_ca_file.is_some() => TlsMode::VerifyCa,
        mode => mode,
    };
    // As libpq: with the system's authorities, which sign for everybody, and any name, this would
    // check nothing.
    if mode == TlsMode::VerifyCa && options.tls_ca_file.is_none() {
        let error = invalid("sslmode=verify-ca needs the certificate of a certificate authority");
        return Err(error.with_hint(
            "name the certificate's file with sslrootcert, or use sslmode=verify-full",
        ));
    }
    let checked = mode >= TlsMode::VerifyCa;
    let verifier: Arc<dyn ServerCertVerifier> = if checked {
        let roots = Arc::new(roots(options).await?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| invalid(format!("no usable certificate of an authority: {error}")))?;
        if mode == TlsMode::VerifyFull { inner } else { Arc::new(AnyName(inner)) }
    } else {
        Arc::new(Anybody(Arc::clone(&provider)))
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS cannot be used: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&options.tls_certificate_file, &options.tls_key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate).await?;
            let key = PrivateKeyDer::from_pem_slice(&read(key).await?)
                .map_err(|_| invalid(format!("{} holds no private key", key.display())))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                invalid(format!("the client certificate cannot be used: {error}"))
            })?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(invalid("a client certificate needs its key, and a key its certificate")),
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok((config, checked))
}

async fn roots(options: &PostgresOptions) -> SourceResult<RootCertStore> {
    let mut store = RootCertStore::empty();
    let certificates = match &options.tls_ca_file {
        Some(file) => certificates(file).await?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(invalid("no certificate of a trusted authority was found")
            .with_hint("name a file with sslrootcert"));
    }
    Ok(store)
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

/// Takes every certificate, but whoever shows it must have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes certificates of a trusted authority, for whatever host they are.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end, intermediates, name, ocsp, now) {
            // The name is looked at last: everything else has been found right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the function that it is signed
/// with; SHA-256 in place of MD5 and SHA-1. `None` if that is not known, as for Ed25519: then
/// nothing is bound.
pub(super) fn binding(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm
    // OBJECT IDENTIFIER, … }, … }
    let (inside, _) = element(certificate, 0x30)?;
    let (_, rest) = element(inside, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    // 1.2.840.113549.1.1.x (RSA), 1.2.840.10045.4.x (ECDSA)
    let sha256 = || Some(Sha256::digest(certificate).to_vec());
    match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, kind] => match kind {
            4 | 5 | 11 => sha256(),
            12 => Some(Sha384::digest(certificate).to_vec()),
            13 => Some(Sha512::digest(certificate).to_vec()),
            _ => None,
        },
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => sha256(),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => Some(Sha384::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The content of a DER element, and what stands behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_name_needs_an_authority_of_ones_own() {
        let options = PostgresOptions { tls: TlsMode::VerifyCa, ..PostgresOptions::default() };
        let error = config(&options).await.unwrap_err();
        assert!(
            error.kind() == SourceErrorKind::Invalid && error.chain().contains("verify-ca"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn nothing_is_made_of_what_is_no_certificate() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x84, 0xff],
            &[0x30, 0x85, 0, 0, 0, 0, 1],
            &[0x30, 2, 0x30, 5],
        ] {
            assert_eq!(binding(bad), None);
        }
    }
}

//! What `sslmode` asks for, and what SCRAM binds to.

use std::path::Path;
use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::super::error::invalid;
use super::super::options::{PostgresOptions, TlsMode, TlsVersions};

/// PostgreSQL's name in the handshake (ALPN).
pub(super) const PROTOCOL: &[u8] = b"postgresql";

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
        let listed = listed(options).await?;
        let roots = Arc::new(roots(&listed)?);
        let revoked = revoked(options).await?;
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .with_crls(revoked)
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| invalid(format!("no usable certificate of an authority: {error}")))?;
        Arc::new(Trusting { inner, listed, any_name: mode != TlsMode::VerifyFull })
    } else {
        Arc::new(Anybody(Arc::clone(&provider)))
    };
    let versions: &[&SupportedProtocolVersion] = match options.connection.tls_versions {
        TlsVersions::All => &[&TLS12, &TLS13],
        TlsVersions::Only12 => &[&TLS12],
        TlsVersions::Only13 => &[&TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
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
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.enable_sni = options.connection.server_name;
    Ok((config, checked))
}

/// Certificates that are trusted.
async fn listed(options: &PostgresOptions) -> SourceResult<Vec<CertificateDer<'static>>> {
    match &options.tls_ca_file {
        Some(file) => certificates(file).await,
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

async fn revoked(
    options: &PostgresOptions,
) -> SourceResult<Vec<CertificateRevocationListDer<'static>>> {
    let Some(file) = &options.connection.tls_crl_file else { return Ok(Vec::new()) };
    let found: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_slice_iter(&read(file).await?).collect();
    let lists = found.ok().filter(|lists| !lists.is_empty());
    lists.ok_or_else(|| {
        invalid(format!("{} holds no list of revoked certificates (PEM)", file.display()))
    })
}

fn roots(listed: &[CertificateDer<'static>]) -> SourceResult<RootCertStore> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(listed.iter().cloned());
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

/// Takes certificates of a trusted authority, and those that are trusted themselves.
#[derive(Debug)]
struct Trusting {
    inner: Arc<WebPkiServerVerifier>,
    /// Trusted certificates.
    listed: Vec<CertificateDer<'static>>,
    /// The name in the certificate does not matter.
    any_name: bool,
}

impl Trusting {
    /// Returns `true` for a certificate that signs itself and is trusted, as libpq takes it. One of
    /// an authority may have been revoked.
    fn is_listed(&self, end: &CertificateDer<'_>) -> bool {
        let signs_itself = dated(end).is_some_and(|certificate| certificate.signs_itself);
        signs_itself && self.listed.iter().any(|one| one == end)
    }

    /// A certificate that is listed needs no authority, but must be valid now and for this host.
    fn verify_listed(
        &self,
        end: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end)?;
        let Dated { begin, expiry, .. } = dated(end).ok_or(CertificateError::BadEncoding)?;
        if now.as_secs() < begin {
            return Err(CertificateError::NotValidYet.into());
        }
        if now.as_secs() > expiry {
            return Err(CertificateError::Expired.into());
        }
        if !self.any_name {
            verify_server_name(&certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end, intermediates, name, ocsp, now) {
            // The name is looked at last: everything else has been found right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            // No authority, or it is one itself.
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if self.is_listed(end) => self.verify_listed(end, name, now),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
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

/// Fields of a certificate.
struct Dated {
    /// Times from which and to which it is valid, seconds since 1970.
    begin: u64,
    expiry: u64,
    /// Its subject is its issuer.
    signs_itself: bool,
}

fn dated(certificate: &[u8]) -> Option<Dated> {
    // TBSCertificate ::= SEQUENCE { version [0], serialNumber INTEGER, signature SEQUENCE, issuer
    // SEQUENCE, validity SEQUENCE { notBefore Time, notAfter Time }, subject SEQUENCE, … }
    let (inside, _) = element(certificate, 0x30)?;
    let (fields, _) = element(inside, 0x30)?;
    let fields = element(fields, 0xa0).map_or(fields, |(_, rest)| rest);
    let (_, fields) = element(fields, 0x02)?;
    let (_, fields) = element(fields, 0x30)?;
    let (issuer, fields) = element(fields, 0x30)?;
    let (times, fields) = element(fields, 0x30)?;
    let (subject, _) = element(fields, 0x30)?;
    let (begin, times) = time(times)?;
    let (expiry, _) = time(times)?;
    Some(Dated { begin, expiry, signs_itself: issuer == subject })
}

/// A time in seconds since 1970, and the bytes behind it. (RFC 5280, section 4.1.2.5.)
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (text, century, rest) = match element(bytes, 0x17) {
        // Two digits of a year from 1950 on.
        Some((text, rest)) => {
            let century = if text.first()? < &b'5' { "20" } else { "19" };
            (text, century, rest)
        }
        None => element(bytes, 0x18).map(|(text, rest)| (text, "", rest))?,
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    let seconds = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    // Before 1970 it was valid already.
    Some((u64::try_from(seconds).unwrap_or(0), rest))
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

//! Causes for which a member of a deployment cannot be used, from the errors of the driver.

use std::fmt;
use std::io;

use ::mongodb::error::{Error, ErrorKind};
use rustls::{AlertDescription, CertificateError};

/// Members that an error names.
const MAX_NAMED: usize = 5;

/// TLS of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientTls {
    /// The client has a certificate.
    pub(super) has_certificate: bool,
}

/// Cause for which a member cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing listens on the port.
    Refused,
    /// The host name has no address.
    Unresolved,
    /// Nothing has come back yet.
    Silent,
    /// The authority that signed the server's certificate is not trusted.
    UnknownIssuer,
    /// The certificate is for these names, and not for that of the address.
    OtherName(Vec<String>),
    /// The certificate is no longer valid.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate has another fault.
    BadCertificate(String),
    /// The server requires a certificate of the client.
    NeedsCertificate,
    /// The server does not accept the certificate of the client.
    CertificateRefused,
    /// The server speaks without TLS.
    NotTls,
    /// The connection ends while TLS begins; whether the client has a certificate.
    ClosedInTls {
        /// The client has shown one.
        has_certificate: bool,
    },
    /// The connection is closed at the first message, and TLS is off.
    ClosedAtOnce,
    /// The member belongs to this set, or to none; the address names another one.
    OtherSet {
        /// The set of the member.
        found: Option<String>,
        /// The set of the address.
        wanted: String,
    },
    /// The credentials are refused.
    Credentials,
    /// Another failure of the connection.
    Other(String),
}

impl Cause {
    /// The cause of a failed connection, with or without TLS.
    pub(super) fn of(error: &Error, tls: Option<ClientTls>) -> Self {
        match error.kind.as_ref() {
            ErrorKind::Io(io) => Self::of_io(io, tls),
            ErrorKind::DnsResolve { .. } => Self::Unresolved,
            ErrorKind::Authentication { .. } => Self::Credentials,
            ErrorKind::Command(command) => {
                Self::Other(format!("{} (code {})", command.message, command.code))
            }
            // An answer that is no message of MongoDB.
            ErrorKind::InvalidResponse { .. } => {
                Self::Other("the server does not speak the protocol of MongoDB".to_owned())
            }
            _ => Self::Other("the connection failed".to_owned()),
        }
    }

    fn of_io(io: &io::Error, tls: Option<ClientTls>) -> Self {
        let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner {
            return Self::of_tls(error);
        }
        match io.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => match tls {
                Some(ClientTls { has_certificate }) => Self::ClosedInTls { has_certificate },
                None => Self::ClosedAtOnce,
            },
            // The standard library has no kind for it.
            _ if io.to_string().starts_with("failed to lookup address") => Self::Unresolved,
            _ => Self::Other(io.to_string()),
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                    Self::NeedsCertificate
                }
                // Before TLS 1.3 there is no alert of its own for a missing certificate.
                AlertDescription::HandshakeFailure => Self::NeedsCertificate,
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied => Self::CertificateRefused,
                _ => Self::Other(format!("TLS failed: {error}")),
            },
            _ => Self::Other(format!("TLS failed: {error}")),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::OtherName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::OtherName(presented.iter().map(|name| plain(name)).collect())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            other => Self::BadCertificate(other.to_string()),
        }
    }

    /// The remedy; `is_seed` if the member is named by the address.
    fn hint(&self, is_seed: bool) -> String {
        const CONFIGURED: &str = "the name is from the configuration of the replica set: make it \
                                  reachable from here, or add directConnection=true to the \
                                  address to use one member alone";
        match self {
            Self::Refused | Self::Unresolved | Self::Silent if !is_seed => CONFIGURED.to_owned(),
            Self::Refused => "check the port of the address, and that the server runs and listens \
                              on this interface (net.bindIp)"
                .to_owned(),
            Self::Unresolved => {
                "correct the host name of the address, or check the DNS of this machine".to_owned()
            }
            Self::Silent => "check the server, the network and its firewalls".to_owned(),
            Self::UnknownIssuer => "name the PEM file of the authority: `tls_ca_file` of the \
                                    source, or tlsCAFile in the address"
                .to_owned(),
            Self::OtherName(_) => {
                "use a host name of the server's certificate in the address".to_owned()
            }
            Self::Expired => "renew the certificate of the server".to_owned(),
            Self::NotYetValid => "check the clocks of the server and of this machine".to_owned(),
            Self::BadCertificate(_) => "replace the certificate of the server".to_owned(),
            Self::NeedsCertificate | Self::ClosedInTls { has_certificate: false } => {
                "name the PEM file with the certificate and key of the client: \
                 `tls_certificate_key_file` of the source, or tlsCertificateKeyFile in the address"
                    .to_owned()
            }
            Self::CertificateRefused | Self::ClosedInTls { has_certificate: true } => {
                "use a client certificate that is valid and signed by an \
                                         authority of the server (net.tls.CAFile)"
                    .to_owned()
            }
            Self::NotTls => "leave TLS out (tls=true, `tls_ca_file`, `tls_certificate_key_file`; \
                             tls=false with mongodb+srv)"
                .to_owned(),
            Self::ClosedAtOnce => {
                "add tls=true to the address if the server requires TLS".to_owned()
            }
            Self::OtherSet { found: Some(found), .. } => {
                format!("write replicaSet={found} in the address")
            }
            Self::OtherSet { found: None, .. } => {
                "leave replicaSet out of the address, or start the server with --replSet".to_owned()
            }
            Self::Credentials => {
                "check user, password, authSource and authMechanism of the address".to_owned()
            }
            Self::Other(_) => "check host, port and options of the address".to_owned(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unresolved => f.write_str("the host name cannot be resolved"),
            Self::Silent => f.write_str("no answer"),
            Self::UnknownIssuer => {
                f.write_str("the certificate of the server is signed by an unknown authority")
            }
            Self::OtherName(names) if names.is_empty() => {
                f.write_str("the certificate of the server is for another host name")
            }
            Self::OtherName(names) => {
                let names = names.join(", ");
                write!(f, "the certificate of the server is for other host names ({names})")
            }
            Self::Expired => f.write_str("the certificate of the server has expired"),
            Self::NotYetValid => f.write_str("the certificate of the server is not valid yet"),
            Self::BadCertificate(error) => {
                write!(f, "the certificate of the server is not usable: {error}")
            }
            Self::NeedsCertificate => f.write_str("the server requires a client certificate"),
            Self::CertificateRefused => f.write_str("the server refuses the client certificate"),
            Self::NotTls => f.write_str("the server does not use TLS"),
            Self::ClosedInTls { has_certificate: false } => f.write_str(
                "the server closes the TLS connection, as servers that require a client \
                 certificate do",
            ),
            Self::ClosedInTls { has_certificate: true } => f.write_str(
                "the server closes the TLS connection, as servers that refuse the client \
                 certificate do",
            ),
            Self::ClosedAtOnce => f.write_str(
                "the server closes the connection at once, as servers that require TLS do",
            ),
            Self::OtherSet { found: Some(found), wanted } => {
                write!(f, "a member of the replica set {found}, not of {wanted}")
            }
            Self::OtherSet { found: None, wanted } => {
                write!(f, "not a member of the replica set {wanted}")
            }
            Self::Credentials => f.write_str("the server refuses the credentials"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The name alone of a subject alternative name as rustls shows it: `DnsName("db1")`.
fn plain(name: &str) -> String {
    match name.split('"').nth(1) {
        Some(inner) => inner.to_owned(),
        None => {
            name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')')).to_owned()
        }
    }
}

/// State of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The member cannot be used.
    Failed(Cause),
    /// The member answers; its role.
    Answers(&'static str),
}

/// A deployment of which no member can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreachable {
    text: String,
    hint: String,
}

impl Unreachable {
    /// The error for members with their findings, and whether the address names them.
    pub(super) fn of(members: &[(String, bool, Finding)]) -> Self {
        let shown = members.iter().take(MAX_NAMED).map(|(host, _, finding)| match finding {
            Finding::Failed(cause) => format!("{host}: {cause}"),
            Finding::Answers(role) => format!("{host} is {role}"),
        });
        let mut shown: Vec<String> = shown.collect();
        if members.len() > MAX_NAMED {
            shown.push(format!("{} more", members.len() - MAX_NAMED));
        }
        let failed = members.iter().filter_map(|(_, is_seed, finding)| match finding {
            Finding::Failed(cause) => Some((cause, *is_seed)),
            Finding::Answers(_) => None,
        });
        let answers = members.iter().any(|(.., finding)| matches!(finding, Finding::Answers(_)));
        // A fault of the settings is a better remedy than a member that is down.
        let is_down = |cause: &Cause| matches!(cause, Cause::Refused | Cause::Silent);
        let worst = failed.min_by_key(|(cause, is_seed)| (is_down(cause), !is_seed));
        let hint = match worst {
            Some((cause, is_seed)) if !answers || !is_down(cause) => cause.hint(is_seed),
            _ => "wait until the replica set has elected a primary, or choose a readPreference \
                  that fits its members"
                .to_owned(),
        };
        Self { text: shown.join("; "), hint }
    }

    /// The remedy.
    pub(super) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TLS: Option<ClientTls> = Some(ClientTls { has_certificate: false });

    fn of_io(error: io::Error, tls: Option<ClientTls>) -> Cause {
        Cause::of(&ErrorKind::Io(Arc::new(error)).into(), tls)
    }

    #[test]
    fn causes_are_found_in_errors_of_the_driver() {
        let kind = |kind: io::ErrorKind| io::Error::from(kind);
        assert_eq!(of_io(kind(io::ErrorKind::ConnectionRefused), TLS), Cause::Refused);
        let closed = Cause::ClosedInTls { has_certificate: false };
        assert_eq!(of_io(kind(io::ErrorKind::UnexpectedEof), TLS), closed);
        assert_eq!(of_io(kind(io::ErrorKind::ConnectionReset), None), Cause::ClosedAtOnce);
        let tls = |error: rustls::Error| of_io(io::Error::other(error), TLS);
        let unknown = CertificateError::UnknownIssuer;
        assert_eq!(tls(rustls::Error::InvalidCertificate(unknown)), Cause::UnknownIssuer);
        let expired = CertificateError::Expired;
        assert_eq!(tls(rustls::Error::InvalidCertificate(expired)), Cause::Expired);
        let alert = AlertDescription::CertificateRequired;
        assert_eq!(tls(rustls::Error::AlertReceived(alert)), Cause::NeedsCertificate);
        assert_eq!(plain("DnsName(\"db1.example\")"), "db1.example");
        assert_eq!(plain("IpAddress(127.0.0.1)"), "127.0.0.1");
    }

    #[test]
    fn members_are_named_with_their_causes() {
        let failed =
            |host: &str, is_seed, cause| (host.to_owned(), is_seed, Finding::Failed(cause));
        let one = Unreachable::of(&[
            failed("a:1", true, Cause::Refused),
            failed("b:1", true, Cause::UnknownIssuer),
        ]);
        assert_eq!(
            one.to_string(),
            "a:1: connection refused; b:1: the certificate of the server is signed by an unknown \
             authority"
        );
        assert!(one.hint().contains("tls_ca_file"), "{}", one.hint());
        let inner = Unreachable::of(&[failed("inner:1", false, Cause::Unresolved)]);
        assert!(inner.hint().contains("directConnection=true"), "{}", inner.hint());
        let down = [
            ("a:1".to_owned(), true, Finding::Answers("a secondary")),
            failed("b:1", true, Cause::Refused),
        ];
        let no_primary = Unreachable::of(&down);
        assert_eq!(no_primary.to_string(), "a:1 is a secondary; b:1: connection refused");
        assert!(no_primary.hint().contains("elected a primary"), "{}", no_primary.hint());
        let many: Vec<_> = (0..7).map(|n| failed(&format!("h:{n}"), true, Cause::Silent)).collect();
        assert!(Unreachable::of(&many).to_string().ends_with("h:4: no answer; 2 more"));
    }
}

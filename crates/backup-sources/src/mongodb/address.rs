//! Options of connection strings, as applications write them.
//!
//! The driver rejects an address with unknown options, and with some of features that it was built
//! without. Here, such options are left out and named, unless they protect the connection or change its way: those
//! are refused. Options:
//! <https://github.com/mongodb/specifications/blob/master/source/uri-options/uri-options.md>.

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

/// Options that the driver applies, and options whose effect this program has without them: it
/// sends interrupted commands again, and waits for a majority.
const APPLIED: [&str; 28] = [
    "appname",
    "authmechanism",
    "authmechanismproperties",
    "authsource",
    "connecttimeoutms",
    "directconnection",
    "heartbeatfrequencyms",
    "loadbalanced",
    "localthresholdms",
    "maxconnecting",
    "maxidletimems",
    "maxpoolsize",
    "maxstalenessseconds",
    "minpoolsize",
    "readpreference",
    "readpreferencetags",
    "replicaset",
    "retryreads",
    "retrywrites",
    "servermonitoringmode",
    "serverselectiontimeoutms",
    "srvmaxhosts",
    "srvservicename",
    "ssl",
    "tls",
    "tlscafile",
    "tlscertificatekeyfile",
    "tlsinsecure",
];

/// Treatment of an option.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Applied,
    /// Has no effect here, and needs none.
    Fulfilled,
    Ignored,
    Refused(&'static str),
}

/// An address that the driver accepts.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) uri: String,
    /// Names of the options that are left out without the effect that they have elsewhere.
    pub(super) ignored: Vec<String>,
}

impl Address {
    /// Sorts the options of a connection string.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] for an option of authentication, TLS or routing that this
    /// program does not support. The error names the option, never its value.
    pub(super) fn new(uri: &str) -> SourceResult<Self> {
        let as_is = |uri: &str| Self { uri: uri.to_owned(), ignored: Vec::new() };
        let Some((head, options)) = uri.split_once('?') else { return Ok(as_is(uri)) };
        let pairs: Vec<(&str, &str)> =
            options.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let is_name = |(key, _): &(&str, &str)| {
            key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        // With a `?` in the password, these are no options: the driver refuses the address, and
        // nothing of it may be shown.
        if options.contains('@')
            || pairs.len() != options.split('&').count()
            || !pairs.iter().all(is_name)
        {
            return Ok(as_is(uri));
        }
        let mut kept = Vec::with_capacity(pairs.len());
        let mut ignored = Vec::new();
        for (key, value) in pairs {
            match fate(&key.to_ascii_lowercase(), &value.to_ascii_lowercase()) {
                Fate::Applied => kept.push(format!("{key}={value}")),
                Fate::Fulfilled => {}
                Fate::Ignored => ignored.push(key.to_owned()),
                Fate::Refused(hint) => return Err(unsupported(key, hint)),
            }
        }
        let uri =
            if kept.is_empty() { head.to_owned() } else { format!("{head}?{}", kept.join("&")) };
        Ok(Self { uri, ignored })
    }

    /// A warning that names the ignored options.
    pub(super) fn warning(&self) -> Option<String> {
        let names = self.ignored.join(", ");
        let text = format!("the address has options that have no effect and are ignored: {names}");
        (!self.ignored.is_empty()).then_some(text)
    }
}

/// The error for an option that must not be ignored.
pub(super) fn unsupported(option: &str, hint: &str) -> SourceError {
    let text = format!("the address has an option that is not supported: {option}");
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint)
}

/// Name and value are in lower case.
fn fate(name: &str, value: &str) -> Fate {
    match (name, value) {
        ("authmechanism", "default") => Fate::Fulfilled,
        ("authmechanism", "gssapi" | "mongodb-aws") | ("gssapiservicename", _) => Fate::Refused(
            "use a user with SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 or PLAIN authentication",
        ),
        ("loadbalanced", "true") => Fate::Refused(BALANCED),
        ("tlsallowinvalidhostnames" | "sslallowinvalidhostnames", "false") => Fate::Fulfilled,
        ("tlsallowinvalidhostnames" | "sslallowinvalidhostnames", _) => {
            Fate::Refused("use a host name of the server's certificate")
        }
        // The driver checks no revocations.
        ("tlsdisableocspendpointcheck" | "tlsdisablecertificaterevocationcheck", _) => {
            Fate::Fulfilled
        }
        ("tlscertificatekeyfilepassword", _) => {
            Fate::Refused("decrypt the key file, and let only the user of the backup read it")
        }
        ("proxyhost" | "proxyport" | "proxyusername" | "proxypassword", _) => {
            Fate::Refused("leave the proxy out, or forward a local port through it")
        }
        // The end of every restore waits for a majority and its journals.
        ("w", "majority" | "1") | ("journal", _) | ("readconcernlevel", "majority" | "local") => {
            Fate::Fulfilled
        }
        ("tlsallowinvalidcertificates", _) => Fate::Applied,
        _ if APPLIED.contains(&name) => Fate::Applied,
        _ if ["tls", "ssl", "auth", "gssapi", "aws"].iter().any(|of| name.starts_with(of)) => {
            Fate::Refused("leave the option out if the connection is safe without it")
        }
        _ => Fate::Ignored,
    }
}

/// Remedy for a load balancer in front of the servers.
pub(super) const BALANCED: &str = "name the members of the replica set instead of a load balancer";

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(options: &str) -> (String, String) {
        let address = Address::new(&format!("mongodb://u:p@h/db?{options}")).unwrap();
        let rest = address.uri.strip_prefix("mongodb://u:p@h/db").unwrap().to_owned();
        (rest, address.ignored.join(","))
    }

    #[test]
    fn addresses_of_applications_are_accepted() {
        let atlas = taken("retryWrites=true&w=majority&appName=Cluster0");
        assert_eq!(atlas, ("?retryWrites=true&appName=Cluster0".to_owned(), String::new()));
        let tags = "readPreference=secondary&readPreferenceTags=dc:a&readPreferenceTags=";
        assert_eq!(taken(tags), (format!("?{tags}"), String::new()));
        let ignored = "compressors=zstd,zlib&zlibCompressionLevel=9&socketTimeoutMS=5&timeoutMS=1\
                       &wtimeoutMS=5&w=3&readConcernLevel=linearizable&waitQueueTimeoutMS=5\
                       &uuidRepresentation=standard&noSuchOption=x";
        let names: Vec<&str> =
            ignored.split('&').map(|pair| pair.split_once('=').unwrap().0).collect();
        assert_eq!(taken(ignored), (String::new(), names.join(",")));
        assert_eq!(taken("authMechanism=DEFAULT&journal=true"), (String::new(), String::new()));
        let warning = Address::new("mongodb://h/?compressors=zstd&x=1").unwrap().warning().unwrap();
        assert!(warning.ends_with("ignored: compressors, x"), "{warning}");
        assert_eq!(Address::new("mongodb://h/").unwrap().warning(), None);
    }

    #[test]
    fn options_that_protect_the_connection_are_never_ignored() {
        for option in [
            "authMechanism=GSSAPI",
            "authMechanism=MONGODB-AWS",
            "authNewThing=hush",
            "gssapiServiceName=hush",
            "loadBalanced=true",
            "tlsAllowInvalidHostnames=true",
            "tlsCertificateKeyFilePassword=hush",
            "tlsCRLFile=/hush",
            "ssl_crlfile=/hush",
            "proxyHost=hush",
        ] {
            let (name, value) = option.split_once('=').unwrap();
            let error = Address::new(&format!("mongodb://h/?{option}")).unwrap_err();
            assert!(error.chain().contains(name) && error.hint().is_some(), "{}", error.chain());
            assert!(!error.chain().contains(value), "{}", error.chain());
            assert_eq!(error.kind(), SourceErrorKind::Invalid);
        }
        for kept in [
            "tls=true",
            "ssl=false",
            "tlsCAFile=/ca.pem",
            "tlsInsecure=true",
            "authSource=admin",
            "authMechanism=SCRAM-SHA-256",
            "tlsAllowInvalidCertificates=true",
        ] {
            assert_eq!(taken(kept), (format!("?{kept}"), String::new()));
        }
    }

    /// The driver refuses these without showing them.
    #[test]
    fn passwords_are_taken_for_no_options() {
        for odd in ["mongodb://u:pa?hush=x@h/", "mongodb://u:pa?hush@h/?x=1", "mongodb://h/?hush"] {
            let address = Address::new(odd).unwrap();
            assert_eq!((&*address.uri, address.warning()), (odd, None));
        }
    }
}

//! Addresses that lead to no server: the error names the host and the cause, in ten seconds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup_core::source::SourceErrorKind;
use backup_sources::mongodb::{MongoOptions, MongoSource};

use crate::support::mongod::{Mongod, Version};
use crate::support::tls::Authority;

/// Limit for every cause.
const LIMIT: Duration = Duration::from_secs(10);

/// The error for these options, which must come in time and have a remedy.
async fn failing(options: MongoOptions) -> (String, String, SourceErrorKind, Duration) {
    let begun = Instant::now();
    let error = MongoSource::connect(options).await.unwrap_err();
    let passed = begun.elapsed();
    let (text, hint) = (error.chain(), error.hint().unwrap_or_default().to_owned());
    assert!(passed < LIMIT, "{passed:?}: {text}");
    assert!(!hint.is_empty() && !text.contains("hush"), "{text}");
    (text, hint, error.kind(), passed)
}

/// The error names the host, the cause and the remedy.
async fn names(uri: &str, host: &str, cause: &str, remedy: &str) {
    let (text, hint, kind, _) = failing(MongoOptions::new(uri)).await;
    assert!(text.contains(&format!("{host}: {cause}")) && hint.contains(remedy), "{text}: {hint}");
    assert_eq!(kind, SourceErrorKind::Unavailable);
}

/// A certificate and its key in one file.
fn both(authority: &Authority, dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let (certificate, key) = authority.issue(dir);
    let both = [std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()].concat();
    let path = dir.join("both.pem");
    std::fs::write(&path, both).unwrap();
    path
}

pub(super) async fn unreachable_server_is_named_with_the_cause(version: Version) {
    let server = Mongod::start(version).await;
    let (port, alone) = (server.port(), Mongod::standalone(version).await);
    let host = format!("127.0.0.1:{port}");
    names(
        "mongodb://127.0.0.1:1/?directConnection=true",
        "127.0.0.1:1",
        "connection refused",
        "check the port",
    )
    .await;
    names(
        "mongodb://u:hush@127.0.0.1:1,no-host.invalid:7/?replicaSet=rs",
        "no-host.invalid:7",
        "the host name cannot be resolved",
        "host name",
    )
    .await;
    for options in ["replicaSet=other", "replicaSet=other&directConnection=true"] {
        let uri = format!("mongodb://{host}/?{options}");
        names(&uri, &host, "a member of the replica set rs, not of other", "replicaSet=rs").await;
    }
    let lone = format!("127.0.0.1:{}", alone.port());
    names(
        &format!("mongodb://{lone}/?replicaSet=rs"),
        &lone,
        "not a member of the replica set rs",
        "leave replicaSet out",
    )
    .await;
    for options in ["tls=true", "tls=true&directConnection=true", "tlsInsecure=true"] {
        let uri = format!("mongodb://{host}/?{options}");
        names(&uri, &host, "the server does not use TLS", "leave TLS").await;
    }
    server.pause(true);
    names(&format!("mongodb://{host}/"), &host, "no answer", "firewalls").await;
    server.pause(false);
    // Names without an address in the DNS.
    let (text, hint, ..) =
        failing(MongoOptions::new("mongodb+srv://u:hush@cluster.invalid/")).await;
    assert!(text.contains("cannot look up the DNS records of cluster.invalid: "), "{text}");
    assert!(hint.contains("mongodb+srv"), "{hint}");
}

/// Credentials are refused at once, on whichever way.
pub(super) async fn refused_credentials_are_reported_at_once(version: Version) {
    let server = Mongod::with_users(version).await;
    let host = format!("127.0.0.1:{}", server.port());
    for (user, options) in [
        ("admin:hush", ""),
        ("nobody:hush", ""),
        ("admin:hush", "directConnection=true"),
        ("admin:pass%20word", "authSource=other"),
        ("admin:hush", "readPreference=primary"),
        ("admin:hush", "authMechanism=SCRAM-SHA-1"),
    ] {
        let (text, hint, kind, passed) =
            failing(MongoOptions::new(format!("mongodb://{user}@{host}/?{options}"))).await;
        let expected = format!("cannot connect to {host}: the server refuses the credentials");
        assert!(text.contains(&expected) && hint.contains("authSource"), "{text}: {hint}");
        assert_eq!(kind, SourceErrorKind::Invalid);
        assert!(passed < Duration::from_secs(3), "{options}: {passed:?}");
    }
}

pub(super) async fn tls_failure_is_named_with_the_cause(version: Version) {
    let room = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.write(room.path());
    let pem = both(&authority, &room.path().join("server"));
    let server = Mongod::with_tls(version, &ca, &pem).await;
    let host = format!("127.0.0.1:{}", server.port());
    let user = "mongodb://admin:pass%20word";
    let file = |path: &Path| path.display().to_string();
    names(
        &format!("{user}@{host}/?tls=true"),
        &host,
        "the certificate of the server is signed by an unknown authority",
        "tls_ca_file",
    )
    .await;
    // Another spelling of 127.0.0.1.
    let odd = format!("0x7f000001:{}", server.port());
    names(
        &format!("{user}@{odd}/?directConnection=true&tlsCAFile={}&tls=true", file(&ca)),
        &odd,
        "the certificate of the server is for other host names (localhost",
        "host name of the server's certificate",
    )
    .await;
    names(
        &format!("{user}@{host}/"),
        &host,
        "the server closes the connection at once, as servers that require TLS do",
        "tls=true",
    )
    .await;

    let strict = Mongod::with_client_certificates(version, &ca, &pem).await;
    let host = format!("127.0.0.1:{}", strict.port());
    let trusting = format!("{user}@{host}/?tls=true&tlsCAFile={}", file(&ca));
    // The alert of the server may be lost when it closes the connection.
    let refused = async |options: String, verb: &str, remedy: &str| {
        let (text, hint, ..) = failing(MongoOptions::new(options)).await;
        assert!(text.contains(&format!("{host}: the server ")) && text.contains(verb), "{text}");
        assert!(text.contains("client certificate") && hint.contains(remedy), "{text}: {hint}");
    };
    refused(trusting.clone(), "require", "tls_certificate_key_file").await;
    let foreign = both(&other, &room.path().join("foreign"));
    let foreign = format!("{trusting}&tlsCertificateKeyFile={}", file(&foreign));
    refused(foreign, "refuse", "signed by an authority of the server").await;
    let missing = format!("{trusting}&tlsCertificateKeyFile=/nowhere/client.pem");
    let (text, hint, kind, _) = failing(MongoOptions::new(missing)).await;
    assert!(text.contains("cannot read the certificate and key of the client"), "{text}");
    assert!(hint.contains("tls_certificate_key_file"), "{hint}");
    assert_eq!(kind, SourceErrorKind::Invalid);
    let client = both(&authority, &room.path().join("client"));
    let fitting = format!("{trusting}&tlsCertificateKeyFile={}", file(&client));
    MongoSource::connect(MongoOptions::new(fitting)).await.unwrap();
}

//! Addresses whose TLS does not fit the port of the server.

use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::source::SourceErrorKind;
use backup_sources::redis::{RedisOptions, RedisSource};

use super::source_with;
use crate::support::redis::{Redis, Version};
use crate::support::tls::Authority;

/// Most of the time that a mismatch takes to be named.
const SOON: Duration = Duration::from_secs(5);

async fn assert_named(options: RedisOptions, text: &str, hint: &str) {
    let begun = Instant::now();
    let error = RedisSource::connect(options).await.unwrap_err();
    let (chain, hinted) = (error.chain(), error.hint().unwrap_or_default());
    assert!(begun.elapsed() < SOON, "{:?}: {chain}", begun.elapsed());
    assert!(chain.contains(text) && hinted.contains(hint), "{chain} ({hinted})");
    assert_eq!(error.kind(), SourceErrorKind::Invalid, "{chain}");
}

/// A plain port named for TLS, a TLS port named without, and a missing or refused client certificate
/// are named at once.
pub(super) async fn tls_mismatches_are_named_at_once(version: Version) {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue(room.path());
    let server = Redis::start(version);
    server.run(&["ACL", "SETUSER", "backup", "on", ">secret", "+ping", "+info"]);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca_text, port) = (text(&ca), server.second_port());
    let setting = |name: &str, value: &str| _ = server.run(&["CONFIG", "SET", name, value]);
    server.run(&[
        "CONFIG",
        "SET",
        "tls-ca-cert-file",
        &ca_text,
        "tls-cert-file",
        &text(&certificate),
        "tls-key-file",
        &text(&key),
        "tls-auth-clients",
        "no",
        "tls-port",
        &port.to_string(),
    ]);
    let parsed = |scheme: &str, login: &str, port: u16| RedisOptions {
        tls_ca_file: Some(ca.clone()),
        ..RedisOptions::parse(&format!("{scheme}://{login}127.0.0.1:{port}")).unwrap()
    };
    for login in ["", "backup:secret@"] {
        source_with(parsed("rediss", login, port)).await;
        let plain = parsed("rediss", login, server.port());
        assert_named(plain, "answers without TLS", "redis:// in place of rediss://").await;
        let tls = parsed("redis", login, port);
        assert_named(tls, "requires TLS", "rediss:// in place of redis://").await;
    }
    setting("tls-auth-clients", "yes");
    let without = parsed("rediss", "backup:secret@", port);
    assert_named(without.clone(), "requires a client certificate", "tls_certificate_file").await;
    let other = tempfile::tempdir().unwrap();
    let (strange, strange_key) = Authority::new().issue(other.path());
    let with = |certificate, key| RedisOptions {
        tls_certificate_file: Some(certificate),
        tls_key_file: Some(key),
        ..without.clone()
    };
    assert_named(with(strange, strange_key), "TLS failed", "must trust the certificate").await;
    source_with(with(certificate, key)).await;
}

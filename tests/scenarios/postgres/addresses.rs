//! Addresses as libpq takes them, on real servers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::source::{RestoreRequest, Selection, Source as _, SourceErrorKind, SourceResult};
use backup_core::testing::MemorySink;
use backup_sources::postgres::{PostgresOptions, PostgresSession, PostgresSource};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyPair, RevokedCertParams, date_time_ymd,
};

use super::base::last_snapshot;
use super::failures::{SECRET, with_password};
use super::place::{self, Place};
use super::{back_up, restored, room, source};
use crate::support::postgres::{Postgres, Version, hand_over};
use crate::support::process::run;
use crate::support::repo::Repo;

/// The value that a session has of an SQL expression.
async fn value(address: &str, sql: &str) -> SourceResult<String> {
    let options = PostgresOptions::parse(address)?;
    let session = PostgresSession::open(&options, Duration::from_secs(10)).await?;
    let row = session.client().query_one(&format!("SELECT ({sql})::text"), &[]).await.unwrap();
    Ok(row.get(0))
}

/// Fails as the address deserves: the same for SQL and for replication.
async fn refused(address: &str, text: &str) {
    let by_sql = value(address, "1").await.unwrap_err();
    let options = PostgresOptions::parse(address).unwrap();
    let by_wal = PostgresSource::connect(options).await.unwrap_err();
    for error in [by_sql, by_wal] {
        assert_eq!(error.kind(), SourceErrorKind::Invalid, "{}", error.chain());
        assert!(error.chain().contains(text), "{}", error.chain());
    }
}

pub(super) async fn parameters_reach_the_server(version: Version) {
    let server = Postgres::start(version).await;
    let port = server.port();
    let address = format!(
        "host=no.such.host hostaddr=127.0.0.1 port={port} user=postgres application_name='my app' \
         options='-c statement_timeout=77s -c geqo=off' keepalives_idle=5 keepalives_interval=6 \
         keepalives_count=7 tcp_user_timeout=8000 connect_timeout=5"
    );
    let shown = "concat_ws(' ', current_setting('application_name'), \
                 current_setting('statement_timeout'), current_setting('geqo'))";
    assert_eq!(value(&address, shown).await.unwrap(), "my app 77s off");
    let source = PostgresSource::connect(PostgresOptions::parse(&address).unwrap()).await.unwrap();
    let log = source.slot_health(&super::talking()).await.unwrap();
    assert!(log.is_none());
    let other = format!("host=127.0.0.1,127.0.0.1 port=1,{port} user=postgres");
    assert_eq!(value(&other, "1").await.unwrap(), "1");
}

/// A server that demands no password, and one that demands it.
pub(super) async fn methods_of_login_are_demanded(version: Version) {
    let server = with_password(version, "scram-sha-256", &[]).await;
    let port = server.port();
    let of = |user: &str, more: &str| {
        format!(
            "host=127.0.0.1 port={port} user={user} dbname=postgres password='hunter2 \\'x' {more}"
        )
    };
    for (user, methods, is_allowed) in [
        ("postgres", "none", true),
        ("postgres", "!none", false),
        ("postgres", "scram-sha-256", false),
        ("backup", "scram-sha-256", true),
        ("backup", "md5,password", false),
        ("backup", "!password,!md5,!none", true),
    ] {
        let address = of(user, &format!("require_auth={methods}"));
        if is_allowed {
            assert_eq!(value(&address, "1").await.unwrap(), "1", "{user} {methods}");
            PostgresSource::connect(PostgresOptions::parse(&address).unwrap()).await.unwrap();
        } else {
            refused(&address, "require_auth").await;
        }
    }
    assert_eq!(SECRET, "hunter2 'x");
}

/// TLS without a request for it, and a certificate that is itself the trusted one.
pub(super) async fn certificates_are_trusted_themselves(version: Version) {
    let room = room();
    let (certificate, key) = self_signed(room.path());
    for file in [&certificate, &key] {
        hand_over(file);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Postgres::with(version, &[], &settings).await;
    let own = certificate.clone();
    let (_other_room, other) = other_certificate();
    let address = |name: &str, trusted: &Path, more: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={} user=postgres sslrootcert={} {more}",
            server.port(),
            trusted.display()
        )
    };
    let tls = "SELECT concat_ws(' ', ssl, version) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut allowed = vec![
        ("db.example", "sslmode=verify-full", "TLSv1.3"),
        ("other.example", "sslmode=verify-ca", "TLSv1.3"),
        ("db.example", "sslmode=verify-full ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
    ];
    if version >= Version::V17 {
        allowed.push(("db.example", "sslmode=verify-full sslnegotiation=direct", "TLSv1.3"));
    }
    for (name, more, expected) in allowed {
        let found = value(&address(name, &own, more), tls).await;
        let found = found.unwrap_or_else(|error| panic!("{name} {more}: {}", error.chain()));
        assert_eq!(found, format!("t {expected}"), "{name} {more}");
    }
    refused(&address("other.example", &own, "sslmode=verify-full"), "TLS failed").await;
    refused(&address("db.example", &other, "sslmode=verify-ca"), "TLS failed").await;
}

/// A certificate that its authority has revoked is refused, and so is a list that has expired.
pub(super) async fn revoked_certificates_are_refused(version: Version) {
    let room = room();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut parameters = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
    parameters.serial_number = Some(77_u64.into());
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        let path = room.path().join(name);
        std::fs::write(&path, text).unwrap();
        hand_over(&path);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let list = |name: &str, serial: u64, year: i32| {
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        file(name, list.signed_by(&authority).unwrap().pem().unwrap())
    };
    let settings = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", file("server.pem", certificate.pem())),
        format!("ssl_key_file={}", file("server-key.pem", key.serialize_pem())),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Postgres::with(version, &[], &settings).await;
    let trusted = file("authority.pem", authority.pem());
    let address = |list: &str| {
        format!(
            "host=db.example hostaddr=127.0.0.1 port={} user=postgres sslmode=verify-full \
             sslrootcert={trusted} sslcrl={list}",
            server.port()
        )
    };
    assert_eq!(value(&address(&list("other.crl", 78, 2999)), "1").await.unwrap(), "1");
    for (name, serial, year) in [("revoked.crl", 77, 2999), ("expired.crl", 78, 2021)] {
        refused(&address(&list(name, serial, year)), "TLS failed").await;
    }
}

/// Files of a certificate for `db.example` that signs itself, and of its key.
fn self_signed(dir: &Path) -> (PathBuf, PathBuf) {
    let parameters = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let paths = (dir.join("own.pem"), dir.join("own-key.pem"));
    std::fs::write(&paths.0, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

/// Another certificate for the same name.
fn other_certificate() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let (certificate, _) = self_signed(room.path());
    (room, certificate)
}

/// Each kind of server among a primary and its standby. The one that is chosen runs the most
/// statements of the session, by its own log.
pub(super) async fn servers_are_chosen_by_their_role(version: Version) {
    let settings = ["log_statement=all", "log_line_prefix=[%a] "];
    let primary = Postgres::with(version, &[], &settings).await;
    primary.run("CREATE TABLE t (id int)").await;
    let room = room();
    let data = room.path().join("standby");
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &source(&primary).await).await;
    let snapshot = last_snapshot(&repo).await;
    restored(&snapshot, &source(&primary).await, &data, RestoreRequest::default()).await;
    std::fs::rename(data.join("recovery.signal"), data.join("standby.signal")).unwrap();
    let from = format!("primary_conninfo=host=127.0.0.1 port={} user=postgres", primary.port());
    let as_standby =
        ["recovery_target_lsn=", "recovery_target_timeline=latest", "hot_standby=on", &*from];
    let settings = [&settings[..], &as_standby].concat();
    let standby = Postgres::on(version, &data, &settings).await;
    let session = AtomicUsize::new(0);
    let chosen = async |servers: [&Postgres; 2], wanted: &str| {
        let name = format!("session {}", session.fetch_add(1, Ordering::Relaxed));
        let [first, second] = servers.map(Postgres::port);
        let address = format!(
            "host=127.0.0.1,127.0.0.1 port={first},{second} user=postgres \
             application_name='{name}' target_session_attrs={wanted}"
        );
        let source = PostgresSource::connect(PostgresOptions::parse(&address)?).await?;
        source.digest(&super::talking(), &Selection::all()).await?;
        let statements =
            |server: &Postgres| server.log().matches(&format!("[{name}] LOG:  ")).count();
        let counts = servers.map(statements);
        SourceResult::Ok(if counts[0] > counts[1] { first } else { second })
    };
    let (one, other) = (primary.port(), standby.port());
    for servers in [[&primary, &standby], [&standby, &primary]] {
        assert_eq!(chosen(servers, "any").await.unwrap(), servers[0].port());
        for wanted in ["read-write", "primary"] {
            assert_eq!(chosen(servers, wanted).await.unwrap(), one, "{wanted}");
        }
        for wanted in ["read-only", "standby", "prefer-standby"] {
            assert_eq!(chosen(servers, wanted).await.unwrap(), other, "{wanted}");
        }
    }
    chosen([&primary, &primary], "prefer-standby").await.unwrap();
    let error = chosen([&primary, &primary], "standby").await.unwrap_err();
    assert!(error.chain().contains("target_session_attrs=standby"), "{}", error.chain());
    for (wanted, follows, other) in
        [("any", &primary, &standby), ("prefer-standby", &standby, &primary)]
    {
        let ports = [primary.port(), standby.port()];
        one_is_followed(ports, wanted, follows, other).await;
    }
    primary.run("ALTER SYSTEM SET default_transaction_read_only = on").await;
    primary.run("SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(chosen([&primary, &standby], "read-only").await.unwrap(), one);
    assert!(chosen([&primary, &standby], "read-write").await.is_err());
}

/// Events as text.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn report(&self, event: &Event) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// The log comes from the server that the address means, which gets the slot, although another host
/// is dead; the slot is found there.
async fn one_is_followed(ports: [u16; 2], wanted: &str, follows: &Postgres, other: &Postgres) {
    let [first, second] = ports;
    let address = format!(
        "host=127.0.0.1,127.0.0.1,127.0.0.1 port=1,{first},{second} user=postgres \
         application_name=follower target_session_attrs={wanted}"
    );
    let options = PostgresOptions::parse(&address).unwrap();
    let options = PostgresOptions { slot: Some("kept".to_owned()), ..options };
    let source = PostgresSource::connect(options).await.unwrap();
    let heard = Arc::new(Heard::default());
    let context = Context::new(Events::to(Arc::clone(&heard) as _));
    let log = source.open_log(&context, None).await.unwrap();
    let senders =
        "SELECT count(*)::text FROM pg_stat_replication WHERE application_name = 'follower'";
    assert_eq!(follows.value(senders).await, "1", "{wanted}");
    assert_eq!(other.value(senders).await, "0", "{wanted}");
    let health = source.slot_health(&context).await.unwrap().expect("the slot is found");
    assert!(health.active, "{health:?}");
    drop(log);
    let heard = heard.0.lock().unwrap();
    assert!(heard.iter().all(|event| !event.contains("nreachable")), "{heard:?}");
}

/// The address of an application, completed by files and variables, through the program.
pub(super) async fn applications_share_their_addresses(version: Version) {
    let server = place::with_role(version, &[], &[]).await;
    let place = Place::new(&server, "");
    let port = server.port();
    let pass = place.path("pass");
    std::fs::write(&pass, format!("127.0.0.1:{port}:*:backup:{}\n", place::SECRET)).unwrap();
    std::fs::set_permissions(&pass, std::fs::Permissions::from_mode(0o600)).unwrap();
    let services = place.path("services");
    let service = format!("[crm]\nhost=127.0.0.1\nport={port}\nuser=backup\n");
    std::fs::write(&services, service).unwrap();
    let run_with = |address: &str, variables: &[(&str, &str)]| {
        let mut command = place.command(&["doctor", "--source", address]);
        command.envs(variables.iter().copied());
        run(&mut command)
    };
    let url = format!("postgresql+psycopg://backup@127.0.0.1:{port}/postgres?pool_size=5");
    let port = port.to_string();
    for (address, variables) in [
        (&*url, &[("PGPASSFILE", &*pass)][..]),
        ("service=crm", &[("PGSERVICEFILE", &*services), ("PGPASSWORD", place::SECRET)]),
        ("host=127.0.0.1", &[("PGPORT", &*port), ("PGUSER", "backup"), ("PGPASSFILE", &*pass)]),
    ] {
        let said = run_with(address, variables);
        let text = said.text() + &said.stderr;
        assert_eq!(said.code, 0, "{address}: {text}");
        assert!(!text.contains(place::SECRET), "{text}");
        assert_eq!(text.contains("without effect: pool_size"), address.contains("pool"), "{text}");
    }
    std::fs::set_permissions(&pass, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = run_with(&url, &[("PGPASSFILE", &pass)]);
    let text = said.text() + &said.stderr;
    assert!(said.code != 0 && text.contains("chmod 600"), "{text}");
}

/// PgBouncer refuses a parameter of replication, by its own words.
pub(super) async fn poolers_are_named(_version: Version) {
    let refusal = b"SFATAL\0C08P01\0Munsupported startup parameter: replication=true\0\0";
    let mut error = vec![b'E'];
    error.extend((refusal.len() as u32 + 4).to_be_bytes());
    error.extend(refusal);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            _ = stream.read(&mut [0; 1024]);
            _ = stream.write_all(&error);
        }
    });
    let address = format!("postgres://u@127.0.0.1:{port}/?sslmode=disable");
    let error =
        PostgresSource::connect(PostgresOptions::parse(&address).unwrap()).await.unwrap_err();
    assert!(error.chain().contains("PgBouncer"), "{}", error.chain());
    assert!(error.hint().is_some_and(|hint| hint.contains("server itself")), "{:?}", error.hint());
}

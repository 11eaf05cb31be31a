use super::*;

fn hosts(options: &PostgresOptions) -> String {
    options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn addresses_are_understood() {
    let url =
        "postgres://me:se%2Fcret@a,b:5433,[::1]:7/shop?sslmode=verify-full&sslrootcert=/ca.pem";
    let options = PostgresOptions::parse(url).unwrap();
    assert_eq!(hosts(&options), "a:5432 b:5433 [::1]:7");
    assert_eq!((&*options.user, &*options.database), ("me", "shop"));
    assert_eq!(options.password.as_deref(), Some("se/cret"));
    assert_eq!((options.tls, options.tls_ca_file), (TlsMode::VerifyFull, Some("/ca.pem".into())));
    let options = PostgresOptions::parse(r"host=a,b port = 7 user='o''k' ").unwrap_err();
    assert_eq!(options.kind(), SourceErrorKind::Invalid);
    let options =
        PostgresOptions::parse(r"host=/run,b port=7 user='o\'k' password = 'a b' ").unwrap();
    assert_eq!(hosts(&options), "/run:7 b:7");
    assert_eq!((&*options.user, options.password.as_deref()), ("o'k", Some("a b")));
    assert_eq!(
        hosts(&PostgresOptions::parse("postgresql://u@%2Fvar%2Frun:99/").unwrap()),
        "/var/run:99"
    );
}

#[test]
fn what_is_wrong_is_said_without_the_address() {
    for bad in [
        "postgres://me:hunter2@h:x/",
        "postgres://me:hunter2@h/?sslmode=maybe",
        "postgres://me:hunter2@h/?bad",
        "postgres://me:hunter2%zz@h/",
        "postgres://h/",
        "password=hunter2",
        "user=u password=hunter2 pasword=hunter2",
        "user=u password=hunter2 pool=5",
        "user=u password=hunter2 requirepeer=root",
        "postgres://me:hunter2@h/?sslaccept=strict",
        "postgres://me:hunter2@h/?ssl=maybe",
        "postgres://me:hunter2@h/?sslcertmode=require",
        "postgres://me:hunter2@h/?ssl_mode=verify-full",
        "postgres://me:hunter2@h/?gssencmode=require",
        "postgres://me:hunter2@h/?sslnegotiation=direct",
        "postgres://me:hunter2@h/?require_auth=md5,!none",
        "postgres://me:hunter2@h/?ssl_max_protocol_version=TLSv1.1",
        "postgres://me:hunter2@h/?keepalives_idle=soon",
        "user=u password=hunter2 host=a,b hostaddr=127.0.0.1",
        "user=u password=hunter2 host=a hostaddr=a",
        "user=u password=hunter2 service=missing",
        "user=u password='hunter2",
        "user=u password=hunter2 port=1,2,3 host=a,b",
        "hunter2",
    ] {
        let error = PostgresOptions::parse(bad).unwrap_err();
        assert!(!error.chain().contains("hunter2"), "{bad}");
    }
}

#[test]
fn roots_of_the_system_need_the_name_checked() {
    for query in [
        "sslrootcert=system",
        "sslrootcert=system&sslmode=verify-full",
        "sslmode=verify-full&sslrootcert=system",
    ] {
        let options = PostgresOptions::parse(&format!("postgres://u@h/?{query}")).unwrap();
        assert_eq!((options.tls, options.tls_ca_file), (TlsMode::VerifyFull, None), "{query}");
    }
    for mode in ["disable", "prefer", "require", "verify-ca"] {
        for query in [
            format!("sslrootcert=system&sslmode={mode}"),
            format!("sslmode={mode}&sslrootcert=system"),
        ] {
            let error = PostgresOptions::parse(&format!("postgres://u@h/?{query}")).unwrap_err();
            assert!(error.chain().contains("verify-full"), "{query}");
        }
    }
}

#[test]
fn binding_to_the_channel_is_understood() {
    let required = |value: &str| {
        let options = PostgresOptions::parse(&format!("postgres://u@h/?channel_binding={value}"));
        options.map(|options| options.channel_binding).ok()
    };
    assert_eq!(
        ["require", "prefer", "disable", "maybe"].map(required),
        [Some(true), Some(false), Some(false), None]
    );
}

#[test]
fn debug_hides_secrets() {
    let options = PostgresOptions::parse("postgres://u:hunter2@h/").unwrap();
    assert!(!format!("{options:?}").contains("hunter2"));
}

/// Examples of PostgreSQL's documentation, section "Connection Strings".
#[test]
fn documented_examples_are_understood() {
    for (address, expected) in [
        ("postgresql://u@", "localhost:5432 postgres"),
        ("postgresql://u@localhost", "localhost:5432 postgres"),
        ("postgresql://u@localhost:5433", "localhost:5433 postgres"),
        ("postgresql://u@localhost/mydb", "localhost:5432 mydb"),
        (
            "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
            "localhost:5432 otherdb",
        ),
        (
            "postgresql://u@host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp",
            "host1:123 host2:456 somedb",
        ),
        ("postgresql:///mydb?host=localhost&port=5433&user=u", "localhost:5433 mydb"),
        ("postgresql://u@[2001:db8::1234]/database", "[2001:db8::1234]:5432 database"),
        ("postgresql:///dbname?host=/var/lib/postgresql&user=u", "/var/lib/postgresql:5432 dbname"),
        ("postgresql://u@%2Fvar%2Flib%2Fpostgresql/dbname", "/var/lib/postgresql:5432 dbname"),
        ("host=localhost port=5432 dbname=mydb connect_timeout=10 user=u", "localhost:5432 mydb"),
    ] {
        let options = PostgresOptions::parse(address).unwrap();
        assert_eq!(format!("{} {}", hosts(&options), options.database), expected, "{address}");
    }
}

#[test]
fn every_parameter_is_used() {
    let address = "postgresql+psycopg://u@db1,db2/?hostaddr=10.0.0.1,::1&port=7&options=-c%20geqo%3Doff&\
                   application_name=me&connect_timeout=1&keepalives=0&keepalives_idle=7&\
                   keepalives_interval=8&keepalives_count=9&tcp_user_timeout=1500&\
                   target_session_attrs=prefer-standby&load_balance_hosts=random&sslmode=require&\
                   sslnegotiation=direct&sslsni=0&sslcrl=/crl&ssl_min_protocol_version=TLSv1.3&\
                   sslcert=/c&sslkey=/k&sslcertmode=disable&require_auth=scram-sha-256&\
                   channel_binding=disable&passfile=/p&client_encoding=auto&gssencmode=prefer&schema=app&pool_size=5";
    let mut options = PostgresOptions::parse(address).unwrap();
    assert!(options.connection.random_order.take().is_some());
    let address = |at: usize| options.hosts[at].address.map(|address| address.to_string());
    assert_eq!(hosts(&options), "db1:7 db2:7");
    assert_eq!((address(0).as_deref(), address(1).as_deref()), (Some("10.0.0.1"), Some("::1")));
    assert_eq!(options.passfile, Some("/p".into()));
    assert_eq!((options.tls_certificate_file, options.tls_key_file), (None, None));
    let seconds = |count| Some(Duration::from_secs(count));
    let keepalive = Keepalive {
        enabled: false,
        idle: seconds(7),
        interval: seconds(8),
        count: Some(9),
        user_timeout: Some(Duration::from_millis(1500)),
    };
    let expected = ConnectionOptions {
        connect_timeout: seconds(2),
        application_name: "me".to_owned(),
        server_options: Some("-c geqo=off".to_owned()),
        role: ServerRole::PreferStandby,
        random_order: None,
        keepalive,
        direct_tls: true,
        server_name: false,
        tls_versions: TlsVersions::Only13,
        tls_crl_file: Some("/crl".into()),
        no_channel_binding: true,
        methods: Methods::parse("scram-sha-256").unwrap(),
        ignored: vec!["pool_size".to_owned(), "schema".to_owned()],
    };
    assert_eq!(options.connection, expected);
    let ssl = PostgresOptions::parse("postgres://u@h/?ssl=true").unwrap();
    assert_eq!(ssl.tls, TlsMode::Require);
}

#[test]
fn variables_services_and_files_complete_an_address() {
    let home = tempfile::tempdir().unwrap();
    let services = "# all\n[other]\nhost=no\n[shop]\nhost = no\n";
    std::fs::write(home.path().join(".pg_service.conf"), services).unwrap();
    let own = home.path().join("services");
    let text = "[shop]\nhost=db9\nport=9\nuser=of service\nsslmode=require\n\n[next]\nhost=no\n";
    std::fs::write(&own, text).unwrap();
    std::fs::write(home.path().join(".pgpass"), "*:*:*:*:x").unwrap();
    let client = |variables: &[(&str, &str)]| {
        let all = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let home = ("HOME".to_owned(), home.path().to_str().unwrap().to_owned());
        ClientEnvironment::new(all.chain([home]), Some("me".to_owned()))
    };
    let shown = |address: &str, variables: &[(&str, &str)]| {
        let options = PostgresOptions::parse_in(address, &client(variables)).unwrap();
        format!("{}@{}/{} {:?}", options.user, hosts(&options), options.database, options.tls)
    };
    assert_eq!(shown("postgres://h/", &[]), "me@h:5432/postgres Prefer");
    assert_eq!(shown("postgres:///", &[]), "me@localhost:5432/postgres Prefer");
    let weaker = [("PGSSLMODE", "disable")];
    assert_eq!(shown("postgres://h/?ssl=true", &weaker), "me@h:5432/postgres Require");
    let all = [
        ("PGHOST", "v"),
        ("PGPORT", "7"),
        ("PGUSER", "u"),
        ("PGDATABASE", "d"),
        ("PGSSLMODE", "disable"),
    ];
    assert_eq!(shown("postgres:///", &all), "u@v:7/d Disable");
    assert_eq!(shown("postgres://a@h:8/x?sslmode=require", &all), "a@h:8/x Require");
    let file = own.to_str().unwrap().to_owned();
    let service = [&all[..], &[("PGSERVICEFILE", &*file)]].concat();
    assert_eq!(shown("service=shop user=me2", &service), "me2@db9:9/d Require");
    let by_variable = [("PGSERVICE", "shop"), ("PGSERVICEFILE", &*file)];
    assert_eq!(shown("postgres:///x", &by_variable), "of service@db9:9/x Require");
    // Spaces belong to the name, as for libpq.
    let error = PostgresOptions::parse_in("service=shop", &client(&[])).unwrap_err();
    assert!(error.chain().contains("host "), "{}", error.chain());
    let options = PostgresOptions::parse_in("host=h", &client(&[])).unwrap();
    assert_eq!(options.passfile, Some(home.path().join(".pgpass")));
}

#[tokio::test]
async fn password_files_of_others_are_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pass");
    std::fs::write(&file, "h:5432:d:u:word\nh:5432:replication:u:other").unwrap();
    let address = format!("host=h user=u passfile={}", file.display());
    let options = PostgresOptions::parse(&address).unwrap();
    for (mode, expected) in [(0o600, Some("word")), (0o640, None)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = options.password(&options.hosts[0], "d").await.unwrap();
        assert_eq!(found.as_deref(), expected);
        assert_eq!(options.password_hint().contains("chmod 600"), expected.is_none());
    }
}

#[test]
fn random_orders_have_all_hosts_and_differ() {
    let address = "host=a,a,b hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 user=u load_balance_hosts=random";
    let orders: std::collections::HashSet<String> = (0..64)
        .map(|_| {
            let options = PostgresOptions::parse(address).unwrap();
            let order = options.hosts_in_order();
            assert_eq!(order, options.hosts_in_order(), "one order for one operation");
            let addresses = order.iter().filter_map(|host| host.address);
            addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert!(orders.len() > 2 && orders.iter().all(|order| order.len() == 26), "{orders:?}");
}

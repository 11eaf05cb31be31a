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

//! By TLS, with tokens of each role and with wrong ones.

use super::{Elsewhere, config, started};
use crate::common::{Daemon, Place};

/// A daemon that answers by TLS, and tokens of all roles for it.
struct Secured {
    place: Place,
    _daemon: Daemon,
    url: String,
    tokens: [String; 3],
}

impl Secured {
    fn start() -> Self {
        let api =
            "[api]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n";
        let place = Place::new(&config(api));
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        place.write("cert.pem", &own.cert.pem());
        place.write("key.pem", &own.signing_key.serialize_pem());
        place.write(
            "elsewhere/other.pem",
            &rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem(),
        );
        let token = |role: &str| {
            let mut create = place.prepare(env!("CARGO_BIN_EXE_backupd").as_ref());
            let output = create
                .args(["token", "create", &format!("{role}-anna"), "--role", role])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let tokens = ["auditor", "operator", "admin"].map(token);
        let daemon = started(&place);
        let lines = daemon.lines();
        let ready = lines
            .iter()
            .find_map(|line| line["message"].as_str()?.split_once(" and 127.0.0.1:"))
            .unwrap();
        let url = format!("https://localhost:{}", ready.1);
        Self { place, _daemon: daemon, url, tokens }
    }

    fn by(&self, token: &str) -> Elsewhere<'_> {
        let ca = self.place.path("cert.pem").display().to_string();
        self.place.write("elsewhere/token", token);
        self.place.write(
            "elsewhere/backup.toml",
            &format!(
                "[servers.prod]\nurl = \"{}\"\ntoken_file = \"token\"\nca_file = \"{ca}\"\n",
                self.url
            ),
        );
        Elsewhere { place: &self.place, env: vec![("BACKUP_SERVER", "prod".to_owned())] }
    }
}

#[test]
fn by_tls_with_a_token_of_each_role() {
    let secured = Secured::start();
    let [auditor, operator, admin] = &secured.tokens;
    let ca = secured.place.path("cert.pem").display().to_string();
    // (a line, and how it ends for an auditor, an operator, and an admin)
    for (line, codes) in [
        ("audit --limit 5", [0, 0, 0]),
        ("audit verify --offline", [0, 0, 0]),
        ("report", [0, 0, 0]),
        ("list -r main", [5, 0, 0]),
        ("status", [5, 0, 0]),
        ("schedule", [5, 0, 0]),
        ("alerts", [5, 0, 0]),
        ("run docs", [5, 0, 0]),
        ("running", [5, 0, 0]),
        ("schedule pause", [5, 0, 0]),
        ("schedule resume", [5, 0, 0]),
        ("alerts silence stale --for 1h --reason x", [5, 0, 0]),
        ("verify latest --job docs", [5, 0, 0]),
        ("prune -r main --yes", [5, 5, 0]),
        ("cleanup --all --yes", [5, 5, 0]),
    ] {
        for (token, code) in [auditor, operator, admin].into_iter().zip(codes) {
            let said = secured.by(token).run(&line.split(' ').collect::<Vec<_>>());
            let text = format!("{line}: {said:?}");
            assert_eq!(said.code, Some(code), "{text}");
            assert!(
                code == 0
                    || said.err.contains("Error: ") && said.err.contains("role")
                    || said.err.contains("admin"),
                "{text}"
            );
            assert!(!text.contains(token.as_str()) && !text.contains("bkpd_"), "{text}");
        }
    }
    let records =
        secured.by(auditor).run(&["audit", "--operation", "backup", "--json"]).ended(0).json();
    let users: Vec<&str> = records["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["user"].as_str())
        .collect();
    assert!(users.contains(&"operator-anna") && users.contains(&"admin-anna"), "{records}");

    let wrong =
        secured.by("bkpd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").run(&["list"]).ended(2);
    assert!(
        wrong.err.contains("the token is not valid") && wrong.err.contains("BACKUP_TOKEN"),
        "{wrong:?}"
    );
    let with = |env: &[(&'static str, &str)], args: &[&str]| {
        let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Elsewhere { place: &secured.place, env }.run(args)
    };
    let url = secured.url.as_str();
    // By flags and variables alone.
    with(&[("BACKUP_TOKEN", operator)], &["--server", url, "--ca-file", &ca, "status"]).ended(0);
    with(&[("BACKUP_TOKEN_FILE", "token")], &["--server", url, "--ca-file", &ca, "list"]).ended(2);
    with(&[], &["--server", url, "--ca-file", &ca, "status"]).ended(2);
    // An authority that nobody knows, and one that vouches for somebody else.
    let unknown = with(&[("BACKUP_TOKEN", operator)], &["--server", url, "status"]).ended(1);
    assert!(
        unknown.err.contains("--ca-file") && unknown.err.contains("certificate"),
        "{unknown:?}"
    );
    let other =
        with(&[("BACKUP_TOKEN", operator)], &["--server", url, "--ca-file", "other.pem", "status"])
            .ended(1);
    assert!(other.err.contains("certificate"), "{other:?}");
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let host =
        with(&[("BACKUP_TOKEN", operator)], &["--server", &elsewhere, "--ca-file", &ca, "status"])
            .ended(1);
    assert!(host.err.contains("certificate"), "{host:?}");
    // Without TLS it is not spoken to, and nothing is said that a redirection could take elsewhere.
    let plain =
        with(&[("BACKUP_TOKEN", operator)], &["--server", &url.replace("https", "http"), "status"])
            .ended(1);
    assert!(!plain.err.contains("bkpd_"), "{plain:?}");
}

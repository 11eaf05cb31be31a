//! Secrets of channels are seen by nobody but the services that they are for, also if these repeat
//! what they were told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Place, message};
use crate::support::receiver::{Receiver, Reply};

const KINDS: [(&str, &str); 5] = [
    ("resend", "from = \"b@example.com\"\nto = [\"ops@example.com\"]"),
    ("slack", ""),
    ("webhook", "headers = { Authorization = \"Bearer {{secret}}\" }"),
    ("pagerduty", ""),
    ("sms", "account = \"AC1\"\nfrom = \"+1555000\"\nto = [\"+1555001\"]"),
];

#[test]
fn planted_secrets_never_appear() {
    // It repeats everything it is told.
    let receiver = Receiver::start(|got| {
        let told = String::from_utf8_lossy(&got.head.raw).into_owned();
        let secrets: Vec<&str> =
            told.lines().filter(|line| line.contains("POST") || line.contains("uthori")).collect();
        let body: String = got
            .body
            .find("planted")
            .map(|at| got.body[at..].chars().take(40).collect())
            .unwrap_or_default();
        Reply::Status(500, "", format!("{} {body}", secrets.join(" ")))
    });
    let url = receiver.url();
    let (mut config, mut variables) = (String::new(), Vec::new());
    for (kind, more) in KINDS {
        let address = if kind == "slack" { String::new() } else { format!("url = \"{url}\"\n") };
        let name = format!("SECRET_OF_{kind}").to_uppercase();
        config.push_str(&format!(
            "[notify.{kind}]\nkind = \"{kind}\"\nallow_http = true\nsecret_env = \
             \"{name}\"\n{address}{more}\n"
        ));
        let secret = format!("planted-{kind}-secret");
        let secret = if kind == "slack" { format!("{url}/services/{secret}") } else { secret };
        variables.push((name, secret));
    }
    config.push_str(
        "[notify.shell]\nkind = \"command\"\ncommand = \"echo planted-command \
         >/dev/null; exit 1\"\n",
    );
    config.push_str(
        "[notify.asked]\nkind = \"slack\"\nsecret_command = \"echo planted-asked; exit 1\"\n",
    );
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    let place = Place::new(config, &variables);
    for channel in ["resend", "slack", "webhook", "pagerduty", "sms", "shell", "asked"] {
        place.put(channel, &message(1));
    }
    let mut seen = String::new();
    for arguments in [
        &["notify", "send", "--within", "1s"][..],
        &["notify", "send", "--within", "1s", "--json"],
        &["notify", "status"],
        &["notify", "status", "--json"],
        &["notify", "list"],
        &["notify", "list", "--json"],
        &["notify", "test"],
        &["notify", "test", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "check"],
    ] {
        let run = place.cli().run(arguments);
        seen.push_str(&format!("{}{}\n", run.text(), run.stderr));
    }
    seen.push_str(&place.stored());
    assert_eq!(receiver.received().len(), 20, "each of five was told four times: {seen}");
    assert!(seen.contains("the service answers 500") && seen.contains("Bearer …"), "{seen}");
    let basic = STANDARD.encode("AC1:planted-sms-secret");
    for secret in ["planted", &basic, &STANDARD.encode("planted-sms-secret")] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
}

//! report: what came of backups, written, shown and sent.

use std::fs;

use crate::common::Env;

const CONFIG: &str = r#"
[repositories.main]
url = "repo"
passphrase_file = "key"

[sources.data]
kind = "files"
paths = ["data"]

[jobs.docs]
source = "data"
repository = "main"
keep = { last = 3 }
rpo = "1h"

[notify.file]
kind = "command"
command = "cat > sent.json"

[report]
currency = "EUR"
prices = { main = 100.0 }
"#;

#[test]
fn of_what_was_done() {
    let env = Env::configured(CONFIG);
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    env.run(&["check", "-q"]).ok();
    env.run(&["restore", "-q", "latest", "--target", "out"]).ok();
    let json = env.run(&["report", "--format", "json"]).ok().json();
    let docs = &json["jobs"][0];
    assert_eq!((&docs["succeeded"], &docs["failed"]), (&2.into(), &1.into()));
    assert!(docs["last_failure"].as_str().unwrap().contains("No such file"), "{docs}");
    assert!(json["totals"]["cost_per_month"].as_f64().unwrap() > 0.0);
    assert!(json["repositories"][0]["verified"].is_string(), "{json}");
    assert_eq!(json["restores"][0]["state"], "completed");
    let met = |demand: &str| {
        let checks = json["checklist"].as_array().unwrap();
        checks.iter().find(|check| check["demand"] == demand).unwrap()["met"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(met("Every job is backed up"), "yes");
    assert_eq!(met("Access is logged"), "yes");
    assert_eq!(met("Restores are tested"), "yes");
    assert_eq!(met("Retention policies are enforced"), "no");
    let text = env.run(&["report", "--since", "1d"]).ok().stdout;
    assert!(
        text.starts_with("# Backup report") && text.contains("| docs | 3 | 1 | 66.7% |"),
        "{text}"
    );
    env.run(&["report", "--format", "html", "--output", "report.html"]).ok();
    assert!(fs::read_to_string(env.path("report.html")).unwrap().contains("<svg"));
    env.run(&["report", "--send", "file"]).ok();
    let sent: serde_json::Value =
        serde_json::from_slice(&fs::read(env.path("sent.json")).unwrap()).unwrap();
    assert!(sent["details"]["report"].as_str().unwrap().starts_with("# Backup report"));
    let unknown = env.run(&["report", "--send", "flie"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("did you mean `file`"),
        "{}",
        unknown.text()
    );
}

#[test]
fn a_repository_that_is_away_hides_nothing_else() {
    let env = Env::configured(CONFIG);
    env.run(&["run", "-q", "docs"]).ok();
    fs::rename(env.path("repo"), env.path("gone")).unwrap();
    let report = env.run(&["report"]);
    assert_eq!(report.code, 3, "{}", report.text());
    assert!(
        report.stdout.contains("| docs | 1 | 0 | 100.0% |")
            && report.stderr.contains("cannot read repository")
    );
}

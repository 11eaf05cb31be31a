//! report: what came of backups, written, shown and sent.

use std::fs;

use crate::common::{Env, docs_config};

const CONFIG: &str = docs_config!(
    r#"keep = { last = 3 }
rpo = "1h"

[notify.file]
kind = "command"
command = "cat > sent.json"

[report]
currency = "EUR"
prices = { main = 100.0 }
"#
);

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
    // The log is younger than the period.
    assert_eq!(met("Access is logged"), "not_known");
    // The pass phrase lies beside the repository.
    assert_eq!(met("Keys are kept apart"), "no");
    assert_eq!(met("Backups are encrypted"), "yes");
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

/// Two jobs, of which only the first was verified, restored, cleaned up and copied.
#[test]
fn evidence_of_one_job_does_not_count_for_another() {
    let config = format!(
        "{CONFIG}\n[repositories.second]\nurl = \"second\"\npassphrase_file = \"key\"\n\
         [sources.photos]\nkind = \"files\"\npaths = [\"data/photos\"]\n\
         [jobs.photos]\nsource = \"photos\"\nrepository = \"main\"\nkeep.last = 1\n"
    );
    let env = Env::configured(&config);
    env.run(&["init", "-q", "-r", "second"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    let docs = env.latest();
    env.run(&["run", "-q", "photos"]).ok();
    env.run(&["verify", "-q", &docs]).ok();
    env.run(&["restore", "-q", &docs, "--target", "out", "--verify"]).ok();
    env.run(&["cleanup", "docs", "--yes"]).ok();
    env.run(&["copy", "-q", &docs, "-r", "main", "--to", "second"]).ok();
    let json = env.run(&["report", "--format", "json"]).ok().json();
    let found = |demand: &str, job: &str| {
        let checks = json["checklist"].as_array().unwrap();
        let check = checks.iter().find(|check| check["demand"] == demand).unwrap();
        let subjects = check["subjects"].as_array().unwrap();
        subjects.iter().find(|known| known["subject"] == job).unwrap().clone()
    };
    for demand in ["Backups are verified", "Restores are tested", "Retention policies are enforced"]
    {
        assert_eq!(found(demand, "docs")["met"], "yes", "{demand}: {}", found(demand, "docs"));
        assert_eq!(found(demand, "photos")["met"], "no", "{demand}: {}", found(demand, "photos"));
    }
    for demand in ["Backups are verified", "Restores are tested"] {
        let evidence = found(demand, "docs")["evidence"].as_str().unwrap().to_owned();
        assert!(evidence.contains(&docs[..8]), "{demand}: {evidence}");
    }
    assert_eq!(found("Every job is backed up", "photos")["met"], "yes");
    // A copy on the disk of the repository is no third copy.
    let copies = "Three copies, one of them off-site (3-2-1)";
    assert_eq!(found(copies, "docs")["met"], "no");
    assert_eq!(json["jobs"][0]["copies"], 2);
}

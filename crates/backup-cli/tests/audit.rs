//! audit: what is recorded of what was done, and what is found if somebody changes that.

use std::fs;

use crate::common::{Env, docs_config};

const STATE: &str = "home/.local/state/backup/audit.jsonl";

const CONFIG: &str = docs_config!(
    r#"keep = { last = 1 }

[audit.keep]
operation = "90d"
"#
);

fn configured() -> Env {
    Env::configured(CONFIG)
}

/// Operation and status of all records.
fn recorded(env: &Env) -> Vec<(String, String)> {
    let json = env.run(&["audit", "--json"]).ok().json();
    let text = |record: &serde_json::Value, name: &str| record[name].as_str().unwrap().to_owned();
    json["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (text(record, "operation"), text(record, "status")))
        .collect()
}

fn last(env: &Env) -> serde_json::Value {
    env.run(&["audit", "--json", "--limit", "1"]).ok().json()["records"][0].clone()
}

#[test]
fn whatever_changes_something_or_gives_data_out_is_recorded() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["run", "-q", "docs", "--tier", "daily"]).ok();
    env.run(&["hold", "latest", "--reason", "case 4711"]).ok();
    assert_eq!(last(&env)["details"]["reason"], "case 4711");
    assert_eq!(last(&env)["details"]["snapshots"], env.latest()[..8]);
    env.run(&["release", "latest"]).ok();
    env.run(&["restore", "latest", "--target", "out"]).ok();
    assert!(last(&env)["details"]["target"].as_str().unwrap().contains("out"), "{}", last(&env));
    env.run(&["verify", "-q", "latest"]).ok();
    env.run(&["check", "-q"]).ok();
    env.run(&["cleanup", "--all", "--yes"]).ok();
    env.run(&["key", "generate", "--label", "second", "--key-file", "key2"]).ok();
    env.run(&["export", "latest", "-o", "out.tar"]).ok();
    // Looking changes nothing, nor does what is only tried.
    env.run(&["list"]).ok();
    env.run(&["run", "docs", "--dry-run"]).ok();
    env.run(&["cleanup", "--all", "--dry-run"]).ok();
    let operations: Vec<String> =
        recorded(&env).into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(
        operations,
        [
            "audit begin",
            "init",
            "config change",
            "backup",
            "backup",
            "hold",
            "release",
            // That it begins, and what came of it.
            "restore",
            "restore",
            "verify",
            "check",
            "cleanup",
            "key generate",
            "export",
            "export"
        ]
    );
    env.run(&["audit", "verify"]).ok().snapshot("audit_verify");
    env.run(&["audit", "verify", "--json"]).ok().snapshot_json("audit_verify_json");
}

#[test]
fn failures_are_recorded_with_their_reasons() {
    let env = configured();
    env.write("backup.toml", &CONFIG.replace("\"data\"]", "\"nowhere\"]"));
    assert_ne!(env.run(&["run", "docs"]).code, 0);
    let failed = last(&env);
    assert_eq!(
        (failed["operation"].as_str(), failed["status"].as_str()),
        (Some("backup"), Some("failure"))
    );
    assert!(failed["details"]["error"].as_str().unwrap().contains("nowhere"), "{failed}");
    assert_eq!(failed["details"]["job"], "docs");
    // Before there is a run, too.
    let wrong = [("BACKUP_PASSWORD_FILE", "backup.toml")];
    assert_eq!(env.run_with(&["restore", "latest", "--target", "out"], &wrong).code, 12);
    assert_eq!(last(&env)["operation"], "restore");
    assert_eq!(last(&env)["status"], "failure");
    env.run(&["audit", "--status", "failure"]).ok().snapshot_table("audit_failures");
}

#[test]
fn changes_of_the_log_and_of_the_configuration_are_found() {
    let env = configured();
    for _ in 0..3 {
        env.run(&["run", "-q", "docs"]).ok();
    }
    let whole = fs::read_to_string(env.path(STATE)).unwrap();
    fs::write(
        env.path(STATE),
        whole.replacen(
            "\"status\":\"success\",\"details\":{\"bytes\"",
            "\"status\":\"failure\",\"details\":{\"bytes\"",
            1,
        ),
    )
    .unwrap();
    let found = env.run(&["audit", "verify"]);
    assert_eq!(found.code, 4, "{}", found.text());
    assert!(found.stdout.contains("was changed"), "{}", found.text());
    // Two records less at the end: the file alone does not tell, the repository does.
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(env.path(STATE), lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    env.run(&["audit", "verify", "--offline"]).ok();
    let found = env.run(&["audit", "verify"]);
    assert_eq!(found.code, 4, "{}", found.text());
    assert!(found.stdout.contains("are missing"), "{}", found.text());
    fs::write(env.path(STATE), &whole).unwrap();
    env.run(&["audit", "verify"]).ok();
    env.write("backup.toml", &CONFIG.replace("last = 1", "last = 2"));
    env.run(&["run", "-q", "docs"]).ok();
    let changes =
        recorded(&env).into_iter().filter(|(operation, _)| operation == "config change").count();
    assert_eq!(changes, 2);
}

/// A repository that is read and holds no anchor of the log confirms nothing.
#[test]
fn verify_counts_repositories_that_hold_an_anchor() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    // Another machine's repository: its anchors belong to another log.
    let elsewhere = [("BACKUP_STATE_DIR", "elsewhere"), ("BACKUP_REPO", "other")];
    env.run_with(&["init", "-q", "-r", "other"], &elsewhere).ok();
    let other = "[repositories.other]\nurl = \"other\"\npassphrase_file = \"key\"\n";
    env.write("backup.toml", &format!("{CONFIG}\n{other}"));
    let verdict = env.run(&["audit", "verify"]).ok();
    assert!(
        verdict.stdout.contains("confirmed by 1 repository up to record"),
        "{}",
        verdict.text()
    );
    let json = env.run(&["audit", "verify", "--json"]).ok().json();
    assert_eq!(json["repositories"].as_array().unwrap().len(), 2);
    assert_eq!(json["anchored_repositories"].as_array().unwrap().len(), 1);
    assert!(json["newest_anchor_age_seconds"].as_u64().unwrap() < 3600, "{json}");
    let offline = env.run(&["audit", "verify", "--offline"]).ok();
    assert!(offline.stdout.contains("no repository confirms its end"), "{}", offline.text());
}

/// Also if commands have gone on since, and as many records are there again.
#[test]
fn what_was_cut_off_is_missed_for_good() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["hold", "latest", "--reason", "case 4711"]).ok();
    env.run(&["audit", "verify"]).ok();
    let text = fs::read_to_string(env.path(STATE)).unwrap();
    let shorter: Vec<&str> = text.lines().collect();
    env.write(
        STATE,
        &shorter[..shorter.len() - 1].iter().map(|line| format!("{line}\n")).collect::<String>(),
    );
    assert_eq!(env.run(&["audit", "verify"]).code, 4);
    for _ in 0..3 {
        env.run(&["check", "-q"]).ok();
        let verdict = env.run(&["audit", "verify"]);
        assert!(
            verdict.code == 4 && verdict.stdout.contains("was changed after"),
            "{}",
            verdict.stdout
        );
    }
}

#[test]
fn secrets_are_not_recorded() {
    let env = configured();
    let command = "cat key; : hush-command";
    env.run(&["run", "-q", "docs", "--password-command", command]).ok();
    let address =
        "mongodb://me:hush-mongo@127.0.0.1:1/?connectTimeoutMS=200&serverSelectionTimeoutMS=200";
    assert_ne!(env.run(&["run", "--source", address, "--job", "shop"]).code, 0);
    let text = fs::read_to_string(env.path(STATE)).unwrap();
    assert!(text.contains("shop") && !text.contains("hush"), "{text}");
}

#[test]
fn one_that_cannot_be_written_stops_nothing() {
    let env = configured().unprivileged();
    env.write("state/audit.lock/in-the-way", "");
    let state = env.path("state");
    let variables = [("BACKUP_STATE_DIR", state.to_str().unwrap())];
    let run = env.run_with(&["run", "-q", "docs"], &variables);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("the operation is not recorded in the audit log"),
        "{}",
        run.text()
    );
}

#[test]
fn anchor_stores_the_head_in_every_repository() {
    let other = "[repositories.other]\nurl = \"other\"\npassphrase_file = \"key\"\n";
    let env = Env::configured(&format!("{CONFIG}{other}"));
    env.run(&["run", "-q", "docs"]).ok();
    // The other repository does not exist yet: it has no anchors.
    let anchored = |expected: u64| {
        let json = env.run(&["audit", "anchor", "--json"]).ok().json();
        assert_eq!(json["repositories"], expected, "{json}");
    };
    anchored(1);
    env.run(&["init", "-q", "-r", "other"]).ok();
    anchored(2);
    let verdict = env.run(&["audit", "verify", "--json"]).ok().json();
    assert_eq!(verdict["anchored_repositories"].as_array().unwrap().len(), 2, "{verdict}");
    // One that cannot be opened does not keep the others from it.
    fs::remove_dir_all(env.path("other/keys")).unwrap();
    let partly = env.run(&["audit", "anchor"]);
    assert_eq!(partly.code, 3, "{}", partly.stderr);
    assert!(partly.stderr.contains("other"), "{}", partly.stderr);
}

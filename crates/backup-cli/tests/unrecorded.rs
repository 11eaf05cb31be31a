//! Commands that did their work and cannot record it end with exit code 3.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Env, docs_config};

/// A repository with one snapshot, and a read-only state directory.
fn read_only() -> Env {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    let mut env = env.unprivileged();
    env.write("state/present", "");
    let mode = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(env.path("state"), mode).unwrap();
    let state = env.path("state").to_str().unwrap().to_owned();
    env.set("BACKUP_STATE_DIR", &state);
    env
}

#[test]
fn read_only_state_directory_is_a_warning_of_every_recorded_command() {
    let env = read_only();
    let id = env.latest();
    let commands: [&[&str]; 10] = [
        &["run", "-q", "docs"],
        &["verify", "latest"],
        &["check"],
        &["hold", &id, "--reason", "case 4711"],
        &["release", &id],
        &["restore", &id, "--target", "restored"],
        &["export", &id, "-o", "exported.tar"],
        &["key", "generate", "--key-file", "another"],
        &["prune", "--yes"],
        &["init", "-r", "other", "--generate-key", "--key-file", "other-key"],
    ];
    for command in commands {
        let run = env.run(command);
        assert_eq!(run.code, 3, "{command:?}: {}", run.text());
        assert!(run.stderr.contains("not recorded"), "{command:?}: {}", run.text());
    }
    // Everything was done.
    let text = std::fs::read_to_string(env.path("restored/data/letter.txt"));
    let text = text.or_else(|_| {
        let below = env.path("restored").join(env.path("data").strip_prefix("/").unwrap());
        std::fs::read_to_string(below.join("letter.txt"))
    });
    assert_eq!(text.unwrap(), "Dear reader\n");
    assert!(env.path("exported.tar").exists() && env.path("other/config").exists());
    assert_eq!(env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len(), 2);
    env.run(&["list", "-q", "--password-file", "another"]).ok();
    // Commands that only read have nothing to record.
    for command in [&["list"][..], &["show", "latest"], &["ls", "latest"], &["status"]] {
        env.run(command).ok();
    }
}

#[test]
fn newer_catalog_is_a_warning_of_runs() {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    let catalog = env.path("home/.local/state/backup/catalog.db");
    let database = rusqlite::Connection::open(&catalog).unwrap();
    database.pragma_update(None, "user_version", 1_000_000).unwrap();
    drop(database);
    let run = env.run(&["run", "-q", "docs"]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stderr.contains("this program reads up to"), "{}", run.text());
    assert_eq!(env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len(), 2);
    let restored = env.run(&["restore", "latest", "--target", "restored"]);
    assert_eq!(restored.code, 3, "{}", restored.text());
    // The audit log is intact, and a hold is recorded nowhere else.
    env.run(&["hold", "latest", "--reason", "case 4711"]).ok();
}

#[test]
fn refused_record_of_a_verification_is_a_warning() {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    let env = env.unprivileged();
    for dir in ["repo", "repo/x-proofs"] {
        std::fs::create_dir_all(env.path(dir)).unwrap();
        let mode = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(env.path(dir), mode).unwrap();
    }
    let verified = env.run(&["verify", "latest"]);
    assert_eq!(verified.code, 3, "{}", verified.text());
    assert!(verified.stderr.contains("cannot record the verification"), "{}", verified.text());
}

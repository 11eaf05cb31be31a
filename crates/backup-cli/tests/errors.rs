//! Mistakes: what is said, what is suggested, the exit code, and that nothing is left behind.

use std::os::unix::fs::PermissionsExt;

use crate::common::Env;

#[test]
fn command_lines_that_make_no_sense() {
    let env = Env::new();
    env.run(&["lst"]).snapshot("error_unknown_verb");
    env.run(&["list", "--jsn"]).snapshot("error_unknown_flag");
    env.run(&["list", "--jsn", "--json"]).snapshot_json("error_unknown_flag_json");
    env.run(&["restore", "latest"]).snapshot("error_restore_without_target");
    env.run(&["run", "--source", "x", "--compression", "zip"]).snapshot("error_compression");
    env.run(&["run", "--source", "x", "--max-file-size", "3 apples"]).snapshot("error_size");
    env.run(&["check", "--read-data-subset", "7/3"]).snapshot("error_subset");
}

#[test]
fn no_repository() {
    let env = Env::new();
    env.run(&["list"]).snapshot("error_no_repository_given");
    env.run(&["list", "-r", "nowhere"]).snapshot("error_no_repository");
    env.run(&["list", "-r", "nowhere", "--json"]).snapshot_json("error_no_repository_json");
    env.write_tree();
    env.run(&["run", "-r", "nowhere", "--source", "data"]).snapshot("error_run_no_repository");
    assert!(!env.path("nowhere").exists(), "a typing mistake must not make a repository");
    env.run_with(&["list", "-r", "data"], &[("BACKUP_PASSWORD", "x")])
        .snapshot("error_not_a_repository");
    env.run(&["list", "-r", "data/letter.txt"]).snapshot("error_repository_is_a_file");
    env.run(&["list", "-r", "sftp://host/x"]).snapshot("error_unknown_storage");
}

#[test]
fn pass_phrases() {
    let env = Env::new();
    env.run(&["init", "-r", "repo"]).snapshot("error_init_without_passphrase");
    assert!(!env.path("repo").exists());
    env.run_with(&["init", "-r", "repo"], &[("BACKUP_PASSWORD", "right")]).ok();
    env.run(&["list", "-r", "repo"]).snapshot("error_no_passphrase");
    env.run_with(&["list", "-r", "repo"], &[("BACKUP_PASSWORD", "wrong")])
        .snapshot("error_wrong_passphrase");
    env.run(&["list", "-r", "repo", "--password-file", "none"])
        .snapshot("error_no_passphrase_file");
    let failing = "echo right; echo 'the vault is locked for right' >&2; exit 7";
    env.run(&["list", "-r", "repo", "--password-command", failing])
        .snapshot("error_passphrase_command");
    env.run(&["list", "-r", "repo", "--password-command", "echo right; echo more"]).ok();
    env.run_with(&["list", "-r", "repo"], &[("BACKUP_PASSWORD_COMMAND", "echo right")]).ok();
}

#[test]
fn globs() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "--source", "data", "--exclude", "a["]).snapshot("error_glob");
    env.write("excludes", "*.tmp\n{a\n");
    env.run(&["run", "--source", "data", "--exclude-file", "excludes"])
        .snapshot("error_glob_in_file");
    env.run(&["run", "--source", "data", "--exclude-file", "none"])
        .snapshot("error_no_exclude_file");
    assert_eq!(env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn sources() {
    let env = Env::with_repository();
    env.run(&["run"]).snapshot("error_nothing_to_back_up");
    env.run(&["run", "documents"]).snapshot("error_job_without_configuration");
    env.run(&["run", "--source", "none"]).snapshot("error_source_does_not_exist");
    env.run(&["run", "--source", "mysql://db/x"]).snapshot("error_unknown_source");
    env.run(&["run", "--source", "none", "--job", "a,b"]).snapshot("error_job_name");
    env.run(&["run", "--source", "none", "--tag", "job=x"]).snapshot("error_reserved_tag");
}

#[test]
fn snapshots() {
    let env = Env::with_repository();
    env.run(&["show", "latest"]).snapshot("error_no_snapshots");
    env.run(&["show", "zebra"]).snapshot("error_snapshot_name");
    env.run(&["show", "00000000"]).snapshot("error_no_such_snapshot");
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["ls", "latest", "/none"]).snapshot("error_no_such_path");
    env.run(&["ls", "latest", "../x"]).snapshot("error_path");
    env.run(&["show", "latest", "--host", "elsewhere"]).snapshot("error_filter");
    env.run(&["show", &env.latest(), "--host", "elsewhere"])
        .snapshot("error_filter_excludes_named");
}

#[test]
fn a_repository_is_not_created_twice() {
    let env = Env::with_repository();
    env.run(&["init"]).snapshot("error_repository_exists");
    env.run(&["init", "--generate-key", "--key-file", "key"]).snapshot("error_key_file_exists");
    env.run(&["init", "--generate-key", "--key-file", "key2"])
        .snapshot("error_repository_exists_generate");
    assert!(!env.path("key2").exists(), "a key that opens nothing is not left behind");
}

#[test]
fn read_only_directories() {
    let env = Env::with_repository();
    env.write_tree();
    let env = env.unprivileged();
    std::fs::create_dir(env.path("locked")).unwrap();
    std::fs::set_permissions(env.path("locked"), std::fs::Permissions::from_mode(0o555)).unwrap();
    env.run_with(&["init", "-r", "locked/repo"], &[("BACKUP_PASSWORD", "x")])
        .snapshot("error_init_read_only");
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["restore", "latest", "--target", "locked/restored"])
        .snapshot("error_restore_read_only");
    assert_eq!(std::fs::read_dir(env.path("locked")).unwrap().count(), 0);
}

#[test]
fn addresses_of_other_programs_are_no_directories() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    let addresses = ["sftp:me@host:/x", "s3:bucket/x", "rclone:remote:x"];
    for address in addresses {
        let config = format!("[repositories.off]\nurl = {address:?}\n");
        env.write("backup.toml", &config);
        for args in [
            &["config", "check"][..],
            &["init", "--repo", "off", "--generate-key", "--key-file", "new"],
            &["init", "--repo", address, "--generate-key", "--key-file", "new"],
        ] {
            assert_eq!(env.run(args).code, 2, "{args:?}");
        }
        let restored = env.run(&["restore", "latest", "-r", "./repo", "--target", address]);
        assert_eq!(restored.code, 2, "{}", restored.text());
        let made = std::fs::read_dir(env.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let made: Vec<_> = made.filter(|name| name.to_string_lossy().contains(':')).collect();
        assert!(made.is_empty(), "{address}: {made:?}");
        std::fs::remove_file(env.path("backup.toml")).unwrap();
    }
}

/// An unset variable in a script must not select everything.
#[test]
fn empty_patterns_and_contradictory_places_are_refused() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    for pattern in ["", " ", ",", " , "] {
        for flag in ["--only", "--include", "--exclude"] {
            let restored = env.run(&["restore", "latest", "--target", "new", flag, pattern]);
            assert_eq!(restored.code, 2, "{}", restored.text());
            assert!(restored.text().contains("an empty pattern selects nothing"));
        }
        assert_eq!(env.run(&["run", "--source", "data", "--only", pattern]).code, 2);
    }
    let places = env.run(&["restore", "latest", "--in-place", "--target", "new"]);
    assert_eq!(places.code, 2, "{}", places.text());
    assert!(!env.path("new").exists());
}

//! copy, archive, doctor, and repositories that are like another.

use crate::common::Env;

/// Two snapshots in `repo`, and an empty repository `other` that is like it.
fn two_repositories() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.write("data/new.txt", "new");
    env.run(&["run", "-q", "--source", "data", "--job", "second"]).ok();
    env.run(&["init", "-r", "other", "--like", "repo"]).ok().snapshot("copy_init_like");
    env
}

fn snapshots(env: &Env, repository: &str) -> usize {
    env.run(&["list", "-r", repository, "--json"]).ok().json()["snapshots"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn copies_what_is_missing_and_nothing_twice() {
    let env = two_repositories();
    env.run(&["copy", "--all", "--to", "other", "--dry-run"]).ok().snapshot("copy_dry_run");
    assert_eq!(snapshots(&env, "other"), 0);
    env.run(&["copy", "latest", "--to", "other"]).ok().snapshot("copy_latest");
    env.run(&["copy", "--all", "--to", "other"]).ok().snapshot("copy_all");
    env.run(&["copy", "--all", "--to", "other"]).ok().snapshot("copy_again");
    env.run(&["copy", "--from", "other", "--all", "--to", "repo", "--json"])
        .ok()
        .snapshot_json("copy_back_json");
    assert_eq!((snapshots(&env, "repo"), snapshots(&env, "other")), (2, 2));
    env.run(&["check", "-r", "other", "--read-data"]).ok();
    env.run(&["restore", "latest", "-r", "other", "--target", "out", "-q"]).ok();
    let restored = env.path("out").join(env.path("data").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(restored.join("new.txt")).unwrap(), "new");
}

#[test]
fn a_shared_key_and_different_pass_phrases() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    // The new repository's own pass phrase is generated; the other's is the one that everybody
    // knows.
    let init = [
        "init",
        "-r",
        "other",
        "--like",
        "repo",
        "--share-key",
        "--generate-key",
        "--key-file",
        "other.key",
    ];
    env.run(&init).ok();
    let wrong = env.run(&["copy", "--all", "--to", "other"]);
    assert_eq!(wrong.code, 12, "{}", wrong.stderr);
    env.run(&["copy", "--all", "--to", "other", "--to-password-file", "other.key"]).ok();
    let id = |repository, key| {
        let list =
            env.run(&["list", "-r", repository, "--password-file", key, "--json"]).ok().json();
        list["snapshots"][0]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id("repo", "key"), id("other", "other.key"), "sealed under the same key");
}

#[test]
fn mistakes_are_explained() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["copy", "--all", "--to", "nowhere"]).snapshot("copy_to_nowhere");
    assert!(!env.path("nowhere").exists());
    env.run(&["copy", "--all", "--to", "repo"]).snapshot("copy_to_itself");
    env.run(&["copy", "--to", "repo"]).snapshot("copy_of_nothing");
    env.run(&["archive", "--older-than", "soon", "--to", "repo"]).snapshot("archive_no_age");
    env.run(&["init", "-r", "other", "--like", "nowhere"]).snapshot("init_like_nowhere");
    assert!(!env.path("other").exists());
    env.run(&["init", "-r", "other", "--like", "repo"]).ok();
    env.run(&["archive", "--older-than", "1d", "--to", "other", "--storage-class", "GLACIER"])
        .snapshot("archive_class_of_a_directory");
}

#[test]
fn archives_old_snapshots_and_removes_them_only_when_told() {
    let env = two_repositories();
    env.run(&["run", "-q", "--source", "data", "--job", "second"]).ok();
    let archive = ["archive", "--older-than", "0s", "--to", "other"];
    let with = |more: &[&'static str]| [&archive[..], more].concat();
    env.run(&["archive", "--older-than", "1d", "--to", "other"])
        .ok()
        .snapshot("archive_nothing_is_old");
    // Nobody to ask, and not told: that is said before anything is copied.
    let refused = env.run(&with(&["--remove"])).snapshot("archive_remove_unconfirmed");
    assert_eq!(refused.code, 5);
    assert_eq!((snapshots(&env, "repo"), snapshots(&env, "other")), (3, 0));
    env.run(&with(&["--job", "second"])).ok().snapshot("archive_one");
    assert_eq!((snapshots(&env, "repo"), snapshots(&env, "other")), (3, 2));
    // The newest of each job stays here too.
    env.run(&with(&["--remove", "--yes"])).ok().snapshot_table("archive_remove");
    assert_eq!((snapshots(&env, "repo"), snapshots(&env, "other")), (2, 3));
    env.run(&["check", "--read-data"]).ok();
    env.run(&["verify", "--all", "-r", "other"]).ok();
}

/// What must be kept stays, is named before anything is done, and keeps nothing else from being
/// removed.
#[test]
fn archives_remove_what_is_not_held() {
    let env = two_repositories();
    for _ in 0..2 {
        env.run(&["run", "-q", "--source", "data"]).ok();
    }
    // Oldest first: two of `manual` that are not the newest, and the only one of `second` between
    // them.
    let first =
        env.run(&["list", "--json"]).ok().json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    env.run(&["hold", &first, "--reason", "case 4711", "-q"]).ok();
    let archive = ["archive", "--older-than", "0s", "--to", "other", "--remove"];
    let dry =
        env.run(&[&archive[..], &["--dry-run"]].concat()).snapshot_table("archive_held_dry_run");
    assert_eq!((dry.code, snapshots(&env, "repo"), snapshots(&env, "other")), (3, 4, 0));
    let done = env.run(&[&archive[..], &["--yes"]].concat()).snapshot_table("archive_held");
    assert_eq!((done.code, snapshots(&env, "repo"), snapshots(&env, "other")), (3, 3, 4));
    env.run(&["show", &first]).ok();
    let events = env.run(&[&archive[..], &["--dry-run", "--json"]].concat()).events();
    let plan = events.iter().find(|event| event["event"] == "plan").unwrap();
    assert_eq!(plan["snapshots"][0]["stays"], "held: case 4711");
}

/// What a hint shows can be pasted into a shell.
#[test]
fn addresses_in_hints_are_quoted() {
    let env = Env::with_repository();
    let run = env.run(&["copy", "--all", "--to", "no where&x"]);
    assert!(run.stderr.contains("init -r 'no where&x' --like "), "{}", run.text());
}

/// What is in the archive by name only is not removed here.
#[test]
fn removes_nothing_of_which_the_copy_is_not_complete() {
    let env = two_repositories();
    env.run(&["run", "-q", "--source", "data", "--job", "second"]).ok();
    env.run(&["copy", "--all", "--to", "other"]).ok();
    for index in std::fs::read_dir(env.path("other/index")).unwrap() {
        std::fs::remove_file(index.unwrap().path()).unwrap();
    }
    let archive = ["archive", "--older-than", "0s", "--to", "other", "--remove", "--yes"];
    env.run(&archive).ok();
    // It was copied again, and only then removed here.
    env.run(&["verify", "--all", "-r", "other"]).ok();
    assert_eq!((snapshots(&env, "repo"), snapshots(&env, "other")), (2, 3));
}

#[test]
fn doctor_examines_the_storage() {
    let env = Env::with_repository();
    env.run(&["doctor"]).ok().snapshot("doctor");
    env.run(&["doctor", "--json"]).ok().snapshot_json("doctor_json");
    env.run(&["doctor", "--renew-locks", "--clear-unfinished", "-q"])
        .ok()
        .snapshot("doctor_no_locks");
    assert_eq!(std::fs::read_dir(env.path("repo/x-probe")).unwrap().count(), 0, "nothing stays");
}

#[test]
fn thawing_what_is_not_archived_just_restores() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["restore", "latest", "--target", "out", "--thaw", "-q"]).ok();
    env.run(&["restore", "latest", "--target", "out2", "--no-wait"])
        .snapshot("restore_no_wait_alone");
}

#[test]
fn doctor_examines_everything_that_is_configured() {
    let env = Env::new();
    env.write_tree();
    env.write(
        "backup.toml",
        "[repositories.main]\nurl = \"main\"\npassphrase_file = \"key\"\n[repositories.none]\nurl \
         = \"none\"\npassphrase_file = \"key\"\n[sources.data]\nkind = \"files\"\npaths = \
         [\"data\"]\n[sources.shop]\nkind = \"redis\"\nurl = \
         \"redis://127.0.0.1:1\"\n[jobs.data]\nsource = \"data\"\nrepository = \
         \"main\"\n[jobs.shop]\nsource = \"shop\"\nrepository = \"main\"\n",
    );
    env.run(&["init", "-r", "main", "--generate-key", "--key-file", "key"]).ok();
    let run = env.run(&["doctor"]);
    let lines: Vec<&str> = run.stdout.lines().filter(|line| !line.contains("room:")).collect();
    run.compare(
        "doctor_everything",
        &format!("exit code {}\n{}\n{}", run.code, lines.join("\n"), run.stderr),
    );
    let json = env.run(&["doctor", "--json"]).json();
    let crosses: Vec<_> =
        json["checks"].as_array().unwrap().iter().filter(|check| check["well"] == false).collect();
    let of: Vec<&str> = crosses.iter().map(|check| check["of"].as_str().unwrap()).collect();
    assert_eq!(of, ["repository none", "job shop"]);
    assert!(crosses.iter().all(|check| check["fix"].is_string()), "{json}");
    env.run(&["doctor", "-r", "main"]).ok();
}

#[test]
fn doctor_separates_findings_from_remedies() {
    let env = Env::new();
    env.write_tree();
    env.write(
        "backup.toml",
        "[repositories.main]\nurl = \"main\"\npassphrase_file = \"key\"\n[sources.data]\nkind = \
         \"files\"\npaths = [\"gone\"]\n[jobs.data]\nsource = \"data\"\nrepository = \"main\"\n",
    );
    env.run(&["init", "-r", "main", "--generate-key", "--key-file", "key"]).ok();
    let path = env.path("gone").display().to_string();
    let json = env.run(&["doctor", "--json"]).json();
    let checks = json["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["well"] == false).unwrap();
    // The system's own words have a colon.
    let found = check["found"].as_str().unwrap();
    assert!(found.contains(&path) && found.contains("No such file or directory"), "{json}");
    assert_eq!(check["fix"], "correct the path, or remove it from the source's paths");
    let json = env.run(&["doctor", "data", "--json"]).json();
    let problem = &json["sources"][0]["problems"][0];
    assert_eq!((&problem["finding"], &problem["remedy"]), (&check["found"], &check["fix"]));
}

#[test]
fn doctor_lists_the_selection_of_a_job() {
    let env = Env::new();
    for path in ["data/a.txt", "data/sub/b.txt", "data/c.log"] {
        env.write(path, "x");
    }
    let config = "[repositories.main]\nurl = \"main\"\npassphrase_file = \"key\"\n[sources.data]\nkind = \
                  \"files\"\npaths = [\"data\"]\n[jobs.texts]\nsource = \"data\"\nrepository = \
                  \"main\"\ninclude = [\"*.txt\"]\n[jobs.none]\nsource = \"data\"\nrepository = \
                  \"main\"\ninclude = [\"*.doc\"]\n[jobs.all]\nsource = \"data\"\nrepository = \"main\"\n";
    env.write("backup.toml", config);
    env.run(&["init", "-r", "main", "--generate-key", "--key-file", "key"]).ok();
    let sources = env.run(&["doctor", "texts", "none", "all", "--json"]).json();
    let selected = |at: usize| &sources["sources"][at]["selected"][0];
    assert_eq!(selected(0)["name"], env.path("data").to_str().unwrap());
    assert_eq!((&selected(0)["objects"], &selected(2)["objects"]), (&2.into(), &3.into()));
    let problem = &sources["sources"][1]["problems"][0];
    assert_eq!(problem["finding"], "nothing is selected: include [*.doc], exclude []");
    assert_eq!(problem["remedy"], "correct `include` and `exclude` of the job");
    let run = env.run(&["doctor"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("✗ job none: selection: nothing is selected"), "{}", run.stdout);
    assert!(run.stdout.contains("job texts: selection: ") && run.stdout.contains("(2 files)"));
}

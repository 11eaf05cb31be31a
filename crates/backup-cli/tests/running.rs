//! init, run, verify, check.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::Env;

/// That nothing was verified is no success.
#[test]
fn a_day_without_snapshots_is_not_verified() {
    let env = Env::with_repository();
    env.run(&["verify", "--all"]).ok();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["verify", "--date", "2020-02-02"]).snapshot("verify_of_no_day");
    assert_eq!(env.run(&["verify", "--all", "--job", "nosuch", "--json"]).code, 2);
}

#[test]
fn creates_repositories() {
    let env = Env::new();
    env.run_with(&["init", "-r", "a"], &[("BACKUP_PASSWORD", "secret")]).ok().snapshot("init");
    env.run(&["init", "-r", "b", "--generate-key", "--key-file", "key"])
        .ok()
        .snapshot("init_key_file");
    assert_eq!(std::fs::metadata(env.path("key")).unwrap().mode() & 0o777, 0o600);
    env.run(&["list", "-r", "b", "--password-file", "key"]).ok();

    let run = env
        .run(&["init", "-r", "c", "--generate-key", "--recovery-key"])
        .ok()
        .snapshot("init_printed");
    for key in run.stdout.lines() {
        env.run_with(&["list", "-r", "c"], &[("BACKUP_PASSWORD", key)]).ok();
    }
    let run = env
        .run(&["init", "-r", "d", "--generate-key", "--recovery-key", "--json"])
        .ok()
        .snapshot_json("init_json");
    let key = run.json()["recovery_key"].as_str().unwrap().to_owned();
    env.run_with(&["list", "-r", "d"], &[("BACKUP_PASSWORD", &key)]).ok();
}

#[test]
fn backs_up() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "--source", "data"]).ok().snapshot("run_first");
    env.run(&["run", "--source", "data"]).ok().snapshot("run_unchanged");
    env.write("data/new", "new");
    env.run(&["run", "--source", "data", "--dry-run"]).ok().snapshot("run_dry");
    env.run(&["run", "--source", "data", "--json"]).ok().snapshot_json("run_json");
    let quiet = env.run(&["run", "-q", "--source", "data"]).ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(env.run(&["list", "--json"]).json()["snapshots"].as_array().unwrap().len(), 4);
}

#[test]
fn selects() {
    let env = Env::with_repository();
    env.write_tree();
    env.write("data/cache/x", "x");
    env.write("data/cache/.nobackup", "");
    env.write("data/build/CACHEDIR.TAG", "");
    env.write("data/build/y", "y");
    env.write("data/large.bin", &"0".repeat(3000));
    env.write("excludes", "# comment\nlink\n");
    let flags = [
        "run",
        "-q",
        "--source",
        "data",
        "--include",
        "**/data/*",
        "--exclude",
        "*.jpg",
        "--exclude-file",
        "excludes",
        "--exclude-if-present",
        "CACHEDIR.TAG",
        "--max-file-size",
        "2K",
        "--compression",
        "max",
        "--verify-sample",
        "100%",
        "--one-file-system",
    ];
    env.run(&flags).ok();
    env.run(&["ls", "latest", env.path("data").to_str().unwrap(), "-R"])
        .ok()
        .snapshot("run_selection");
}

#[test]
fn selection_without_a_match_is_no_backup() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    let snapshots =
        || env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len();
    let only_typos = env.run(&["run", "--source", "data", "--include", "lettre.txt"]);
    assert_eq!(only_typos.code, 1, "{}", only_typos.text());
    assert!(only_typos.stderr.contains("nothing in the source matches \"lettre.txt\""));
    let list = env.run(&["run", "--source", "data", "--include", "letter.txt,photo.jpg"]);
    assert!(list.code == 1 && list.stderr.contains("not as a list with commas"), "{}", list.text());
    assert_eq!(snapshots(), 1, "nothing becomes the latest snapshot");
    let one_typo =
        ["run", "--source", "data", "--include", "letter.txt", "--include", "lettre.txt"];
    let one_typo = env.run(&one_typo);
    assert_eq!(one_typo.code, 3, "{}", one_typo.text());
    let text = "the include pattern \"lettre.txt\" matches nothing in the source";
    assert!(one_typo.stderr.contains(text) && !one_typo.stderr.contains("\"letter.txt\""));
    assert_eq!(snapshots(), 2);
    // A pattern for a file in a directory that another pattern includes.
    let nested =
        ["run", "-q", "--source", "data", "--include", "**/data/*", "--include", "letter.txt"];
    env.run(&nested).ok();
    // Excludes need no match.
    env.run(&["run", "-q", "--source", "data", "--exclude", "nothing*"]).ok();
    let before = snapshots();
    let nothing = env.run(&["run", "--source", "data", "--exclude", "*"]);
    assert_eq!(nothing.code, 1, "{}", nothing.text());
    assert!(nothing.stderr.contains("nothing in the source is left by --exclude *"));
    assert_eq!(snapshots(), before);
    // A source that is empty anyway is backed up.
    std::fs::create_dir(env.path("empty")).unwrap();
    env.run(&["run", "-q", "--source", "empty", "--exclude", "*"]).ok();
}

#[test]
fn restore_names_patterns_without_a_match() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    let restore = |target: &str, only: &[&str]| {
        let flags: Vec<&str> = only.iter().flat_map(|pattern| ["--only", pattern]).collect();
        env.run(&[&["restore", "latest", "--target", target], &flags[..]].concat())
    };
    let none = restore("one", &["lettre.txt"]);
    assert!(none.code == 1 && !env.path("one").exists(), "{}", none.text());
    let some = restore("two", &["letter.txt", "lettre.txt"]);
    assert_eq!(some.code, 3, "{}", some.text());
    assert!(some.stderr.contains("the pattern \"lettre.txt\" matches nothing in the snapshot"));
    restore("three", &["letter.txt"]).ok();
}

#[test]
fn what_cannot_be_read_is_named_and_has_its_exit_code() {
    let env = Env::with_repository();
    env.write_tree();
    let env = env.unprivileged();
    std::fs::set_permissions(env.path("data/letter.txt"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    let run = env.run(&["run", "--source", "data"]).snapshot("run_warnings");
    assert_eq!(run.code, 3);
    let run = env.run(&["run", "--source", "data", "-q"]);
    assert!(run.code == 3 && run.stderr.contains("letter.txt"), "{}", run.text());
    let run = env.run(&["run", "--source", "data", "--json"]);
    assert_eq!(run.code, 3);
    let warning = run.events().into_iter().find(|event| event["event"] == "warning").unwrap();
    assert_eq!(warning["kind"], "unreadable");
    env.run(&["list"]).ok().snapshot_table("list_incomplete");
    env.run(&["show", "latest"]).ok().snapshot("show_incomplete");
}

#[test]
fn verifies_and_checks() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["verify", "latest"]).ok().snapshot("verify");
    env.run(&["verify", "--all", "--json"]).ok().snapshot_json("verify_json");
    env.run(&["check"]).ok().snapshot("check");
    env.run(&["check", "--read-data", "--json"]).ok().snapshot_json("check_json");
    env.run(&["check", "--read-data-subset", "100%", "-q"]).ok();
}

#[test]
fn damage_is_found_and_what_it_affects_is_named() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    for pack in walk(&env.path("repo/data")) {
        let mut bytes = std::fs::read(&pack).unwrap();
        bytes[20] ^= 1;
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    for args in
        [&["check", "--read-data"][..], &["verify", "latest"], &["verify", "latest", "--json"]]
    {
        let run = env.run(args);
        assert_eq!(run.code, 4, "{args:?}: {}", run.text());
        assert!(run.stdout.contains("snapshot"), "{}", run.text());
    }
    let run = env.run(&["restore", "latest", "--target", "out"]);
    assert_eq!(run.code, 4, "{}", run.text());
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_signal_stops_it_cleanly() {
    let env = Env::with_repository();
    // A pass phrase command that takes its time: the signal comes while the program is surely
    // running.
    let args = ["list", "--password-command", "echo started >&2; touch started; sleep 30"];
    let mut command = env.command(&args);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !env.path("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Stopping cleanly") && text.contains("Stopped: cancelled"), "{text}");
}

#[test]
fn nobody_reading_does_not_stop_a_backup() {
    let env = Env::with_repository();
    env.write_tree();
    let mut command = env.command(&["run", "--source", "data", "--json"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn a_verification_leaves_a_report() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    let verify = ["verify", "--date", "today", "--report", "report.json"];
    env.run(&verify).ok().snapshot("verify_report");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(env.path("report.json")).unwrap()).unwrap();
    assert_eq!(
        (&report["sound"], &report["snapshots"][0]["snapshot"]),
        (&true.into(), &env.latest().into())
    );
    for pack in std::fs::read_dir(env.path("repo/data")).unwrap() {
        for pack in std::fs::read_dir(pack.unwrap().path()).unwrap() {
            std::fs::remove_file(pack.unwrap().path()).unwrap();
        }
    }
    assert_eq!(env.run(&verify).code, 4);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(env.path("report.json")).unwrap()).unwrap();
    assert_eq!(report["sound"], false);
    env.run(&["verify", "latest", "--report", "none/report.json"])
        .snapshot("verify_report_nowhere");
}

#[test]
fn an_interrupted_check_goes_on() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["check", "--resume"]).snapshot("check_resume_nothing");
    env.run(&["check", "--resume", "--read-data-subset", "5%"]).snapshot("check_resume_random");
    let check = ["check", "--resume", "--read-data", "-q"];
    let without = [("HOME", ""), ("XDG_CACHE_HOME", "")];
    env.run_with(&check, &without).snapshot("check_resume_nowhere");
    let cache = env.path("cache");
    let with = [("BACKUP_CACHE_DIR", cache.to_str().unwrap())];
    env.run_with(&check, &with).ok();
    assert_eq!(std::fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
    let of_repository = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    assert!(!of_repository.join("check-all").exists(), "nothing is left of a check that ended");

    // As if all packs had been read before.
    let title = format!(
        "packs read in repository {}\n",
        of_repository.file_name().unwrap().to_str().unwrap()
    );
    let mut notes = title;
    let mut packs = Vec::new();
    for dir in std::fs::read_dir(env.path("repo/data")).unwrap() {
        packs.extend(
            std::fs::read_dir(dir.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()),
        );
    }
    for pack in &packs {
        notes.push_str(&format!("{}\n", pack.file_name().unwrap().to_str().unwrap()));
    }
    std::fs::write(of_repository.join("check-all"), notes).unwrap();
    let events = env.run_with(&["check", "--resume", "--read-data", "--json"], &with).ok().events();
    assert_eq!(events.last().unwrap()["read_packs"], 0, "they are not read again");
    let events = env.run_with(&["check", "--resume", "--read-data", "--json"], &with).ok().events();
    assert_eq!(events.last().unwrap()["read_packs"], packs.len(), "and the next check begins anew");
}

#[test]
fn the_cache_is_where_it_is_wanted_and_can_be_lost() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data", "--no-cache"]).ok();
    assert!(!env.path("home/.cache").exists());
    env.run(&["run", "-q", "--source", "data"]).ok();
    let default = env.path("home/.cache/backup");
    assert_eq!(std::fs::metadata(&default).unwrap().mode() & 0o777, 0o700);
    let cache = env.path("cache");
    let with = [("BACKUP_CACHE_DIR", cache.to_str().unwrap())];
    env.run_with(&["verify", "latest", "-q"], &with).ok();
    // Whatever is in there, what is in the repository counts.
    for file in walk(&cache) {
        std::fs::write(file, "damaged").unwrap();
    }
    env.run_with(&["verify", "latest", "-q"], &with).ok();
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&cache, "in the way").unwrap();
    env.run_with(&["verify", "latest", "-q"], &with).ok();
}

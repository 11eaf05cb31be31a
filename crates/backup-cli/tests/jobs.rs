//! What jobs say of when they run, what is done around them, and what must come of them.

use backup_core::clock::{Clock, SystemClock};

use crate::common::Env;

/// A configuration whose job `docs` has these keys besides.
fn env(keys: &str) -> Env {
    let env = Env::new();
    env.write_tree();
    env.write("key", "secret");
    let text = format!(
        "[repositories.main]\nurl = \"repo\"\npassphrase_file = \"key\"\n[sources.data]\nkind = \
         \"files\"\npaths = [\"data\"]\n[jobs.docs]\nsource = \"data\"\nrepository = \
         \"main\"\n{keys}"
    );
    env.write("backup.toml", &text);
    env.run(&["init", "-q"]).ok();
    env
}

fn snapshots(env: &Env) -> usize {
    env.run(&["list", "--json"]).ok().json()["snapshots"].as_array().unwrap().len()
}

fn log(env: &Env) -> String {
    env.run(&["logs", "run", "latest"]).ok().stdout
}

#[test]
fn hooks_surround_a_backup() {
    let env = env(r#"[jobs.docs.hooks]
before = "echo first $BACKUP_HOOK_JOB > before; echo token $TOKEN"
after = "echo $BACKUP_HOOK_RESULT $BACKUP_HOOK_SNAPSHOT > after"
on_failure = "echo $BACKUP_HOOK_RESULT $BACKUP_HOOK_ERROR > failure"
env = { TOKEN = "hush-hush" }
"#);
    let read = |name: &str| std::fs::read_to_string(env.path(name)).unwrap_or_default();
    env.run(&["run", "-q", "docs", "--dry-run"]).ok();
    assert_eq!(read("before"), "", "nothing is done for a dry run");
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!((read("before"), read("failure")), ("first docs\n".to_owned(), String::new()));
    assert_eq!(read("after"), format!("success {}\n", env.latest()));
    let log = log(&env);
    assert!(log.contains("before: token …") && !log.contains("hush"), "{log}");
    let shown = env.run(&["config", "show"]).ok().stdout;
    assert!(shown.contains("TOKEN") && !shown.contains("hush"), "{shown}");
    // What snapshots record of a job holds no commands.
    let dump = env.run(&["restore", "-q", "latest", "--target", "out", "--only", "/.backup"]);
    assert!(!read("out/.backup/manifest.json").contains("BACKUP_HOOK"), "{}", dump.text());

    std::fs::remove_dir_all(env.path("data")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    assert!(
        read("failure").starts_with("failed cannot ") && read("after") == "failed\n",
        "{}",
        read("failure")
    );
}

#[test]
fn without_what_comes_before_there_is_no_backup() {
    let env = env(
        "hooks = { before = \"echo no way; exit 7\", after = \"exit 8\", on_failure = \"touch \
         failed\" }\n",
    );
    let run = env.run(&["run", "docs"]).snapshot("job_before_fails");
    assert_eq!((run.code, snapshots(&env), env.path("failed").exists()), (1, 0, true));
    let log = log(&env);
    assert!(
        log.contains("before: no way") && log.contains("`after` failed (exit status: 8)"),
        "{log}"
    );
}

#[test]
fn what_comes_after_and_fails_is_a_warning() {
    let env = env("hooks.after = \"exit 8\"\n");
    assert_eq!((env.run(&["run", "-q", "docs"]).code, snapshots(&env)), (3, 1));
}

#[test]
fn too_much_is_no_backup() {
    let env = env("max_size = \"5000\"\n");
    let run = env.run(&["run", "-q", "docs"]).snapshot("job_too_large");
    assert_eq!((run.code, snapshots(&env)), (1, 0));
    assert_eq!(env.run(&["run", "-q", "docs", "--dry-run"]).code, 1);
    env.run(&["run", "-q", "docs", "--max-size", "10K"]).ok();
    // Unchanged files count as well.
    assert_eq!(env.run(&["run", "-q", "docs"]).code, 1);
    env.run(&["run", "-q", "docs", "--force"]).ok();
    assert_eq!(snapshots(&env), 2);
}

#[test]
fn outside_its_window_a_job_takes_force() {
    let now = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC);
    let at = |hours: i64| {
        now.checked_add(jiff::Span::new().hours(hours)).unwrap().strftime("%H:%M").to_string()
    };
    let env = env(&format!("window = \"{}-{}\"\n", at(2), at(4)));
    let refused = env.run(&["run", "-q", "docs"]);
    assert!(
        refused.code == 5
            && refused.stderr.contains("may start only within ")
            && refused.stderr.contains(" in UTC (from TZ)"),
        "{}",
        refused.text()
    );
    assert!(env.run(&["status", "--runs"]).ok().stdout.is_empty(), "what was refused is no run");
    env.run(&["run", "-q", "docs", "--force"]).ok();
    let text = std::fs::read_to_string(env.path("backup.toml")).unwrap();
    env.write(
        "backup.toml",
        &text.replace(&format!("{}-{}", at(2), at(4)), &format!("{}-{}", at(-2), at(2))),
    );
    env.run(&["run", "-q", "docs"]).ok();
}

#[test]
fn less_than_expected_is_a_failure_that_names_the_snapshot() {
    let env = env(
        "expect = [{ min = 3 }]\nhooks.after = \"echo $BACKUP_HOOK_RESULT $BACKUP_HOOK_SNAPSHOT > \
         after\"\n",
    );
    env.run(&["run", "-q", "docs"]).ok();
    let good = env.latest();
    std::fs::remove_file(env.path("data/letter.txt")).unwrap();
    let run = env.run(&["run", "-q", "docs"]).snapshot("job_less_than_expected");
    assert_eq!((run.code, snapshots(&env)), (1, 2));
    let status = env.run(&["status", "--runs", "--json"]).ok().json();
    assert_eq!(
        (&status["runs"][0]["state"], &status["runs"][0]["snapshot"]),
        (&"failed".into(), &env.latest().into())
    );
    let after = std::fs::read_to_string(env.path("after")).unwrap();
    assert_eq!(after, format!("failed {}\n", env.latest()));
    // The last one that has it stays, whatever policies say; and no other is held the next day.
    assert_eq!(env.run(&["run", "-q", "docs"]).code, 1);
    let list = env.run(&["list", "--json"]).ok().json();
    let all = list["snapshots"].as_array().unwrap().iter();
    let held: Vec<_> = all
        .filter(|snapshot| !snapshot["hold"].is_null())
        .map(|snapshot| &snapshot["id"])
        .collect();
    assert_eq!(held, [&serde_json::Value::from(good)], "{list}");
}

#[test]
fn what_is_away_is_tried_again() {
    let env = env("retry = { times = 2, pause = \"100ms\" }\n");
    let text = std::fs::read_to_string(env.path("backup.toml")).unwrap();
    env.write(
        "backup.toml",
        &text.replace("\"files\"\npaths = [\"data\"]", "\"redis\"\nurl = \"redis://127.0.0.1:1\""),
    );
    let run = env.run(&["run", "-q", "docs"]);
    assert_eq!(
        (run.code, log(&env).matches("failed, retrying in ").count()),
        (1, 2),
        "{}{}",
        run.text(),
        log(&env)
    );
    // What does not pass by itself is not.
    env.write("backup.toml", &text.replace("retry =", "max_size = 1\nretry ="));
    let run = env.run(&["run", "-q", "docs"]);
    assert_eq!(
        (run.code, log(&env).matches("failed, retrying in ").count()),
        (1, 0),
        "{}{}",
        run.text(),
        log(&env)
    );
}

#[test]
fn hooks_surround_a_restore_to_where_it_came_from() {
    let env = env(r#"[jobs.docs.hooks]
before_restore = "test ! -e locked && echo to $BACKUP_HOOK_TARGET > before"
after_restore = "echo $BACKUP_HOOK_JOB $BACKUP_HOOK_RESULT > after"
"#);
    let read = |name: &str| std::fs::read_to_string(env.path(name)).unwrap_or_default();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["restore", "latest", "--target", "out"]).ok();
    assert_eq!((read("before"), read("after")), (String::new(), String::new()), "another place");
    env.write("data/letter.txt", "another");
    let in_place =
        ["restore", "latest", "--in-place", "--if-exists", "merge", "--only", "letter.txt"];
    env.run(&[&in_place[..], &["--dry-run"]].concat()).ok();
    assert_eq!(read("before"), "", "nothing is done for a dry run");
    env.run(&[&in_place[..], &["--yes"]].concat()).ok();
    assert_eq!(read("after"), "docs success\n");
    assert!(read("before").starts_with("to the original location"), "{}", read("before"));
    assert_ne!(read("data/letter.txt"), "another");
    // If the first fails nothing is restored.
    env.write("data/letter.txt", "another");
    env.write("locked", "");
    let run = env.run(&[&in_place[..], &["--yes"]].concat());
    assert_eq!(
        (run.code, read("data/letter.txt"), read("after")),
        (1, "another".into(), "docs failed\n".into())
    );
    assert!(log(&env).contains("`before_restore` failed"), "{}", log(&env));
}

#[test]
fn run_accepts_optional_patterns_without_a_match() {
    let both = "include = [\"letter.txt\"]\ninclude_optional = [\"later.txt\"]\n";
    let env = env(both);
    env.run(&["run", "-q", "docs"]).ok();
    env.write("data/later.txt", "It is here now");
    env.run(&["run", "-q", "docs"]).ok();
    let listed = env.run(&["ls", "latest", "--recursive"]).ok().stdout;
    assert!(listed.contains("letter.txt") && listed.contains("later.txt"), "{listed}");
    assert!(!listed.contains("photo"), "{listed}");

    let none = self::env("include_optional = [\"later.txt\"]\n");
    let run = none.run(&["run", "docs"]);
    assert_eq!((run.code, snapshots(&none)), (1, 0), "{}", run.text());
}

#[test]
fn the_last_exclude_pattern_that_matches_decides() {
    let env = env("exclude = [\"*.txt\", \"!letter.txt\"]\n");
    env.write("data/other.txt", "Not wanted");
    env.run(&["run", "-q", "docs"]).ok();
    let listed = env.run(&["ls", "latest", "--recursive"]).ok().stdout;
    assert!(listed.contains("letter.txt") && !listed.contains("other.txt"), "{listed}");
}

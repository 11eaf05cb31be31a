//! repair.

use crate::common::Env;

/// A snapshot in `repo`, and a copy of it in `other`.
fn two_repositories() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["init", "-q", "-r", "other", "--like", "repo"]).ok();
    env.run(&["copy", "-q", "--all", "--to", "other"]).ok();
    env
}

fn remove_below(env: &Env, dir: &str) {
    for entry in std::fs::read_dir(env.path(dir)).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => {
                std::fs::remove_dir_all(&path).and_then(|()| std::fs::create_dir(&path)).unwrap();
            }
            false => std::fs::remove_file(&path).unwrap(),
        }
    }
}

fn summary(env: &Env, args: &[&str]) -> serde_json::Value {
    let events = env.run(&[&["repair", "--json"], args].concat()).events();
    events.into_iter().rfind(|event| event["event"] == "summary").unwrap()
}

#[test]
fn what_is_whole_is_left_alone() {
    let env = two_repositories();
    env.run(&["repair", "--yes"]).ok().snapshot("repair_nothing");
    assert_eq!(env.run(&["repair"]).snapshot("repair_unconfirmed").code, 5);
    env.run(&["repair", "--dry-run", "--json", "--read-data", "-q"]).ok();
}

#[test]
fn a_lost_index_is_made_again() {
    let env = two_repositories();
    remove_below(&env, "repo/index");
    let planned = summary(&env, &["--dry-run"]);
    assert_eq!(
        std::fs::read_dir(env.path("repo/index")).unwrap().count(),
        0,
        "a plan changes nothing"
    );
    let done = summary(&env, &["--yes"]);
    assert_eq!(planned["repaired"], done["repaired"]);
    env.run(&["check", "--read-data", "-q"]).ok();
    env.run(&["verify", "latest", "-q"]).ok();
}

#[test]
fn lost_data_is_taken_from_a_copy() {
    let env = two_repositories();
    remove_below(&env, "repo/data");
    let plan = env.run(&["repair", "--dry-run"]);
    assert_eq!(plan.code, 4, "without the copy it is lost: {}", plan.stdout);
    assert!(plan.stdout.contains("cannot be recovered"), "{}", plan.stdout);
    env.run(&["repair", "--yes", "-q", "--from", "other"]).ok();
    env.run(&["check", "--read-data", "-q"]).ok();
    env.run(&["restore", "latest", "--target", "out", "-q"]).ok();
    let restored = env.path("out").join(env.path("data").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(restored.join("letter.txt")).unwrap(), "Dear reader\n");
}

/// A snapshot whose largest pack is lost.
fn with_a_lost_pack() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.write("data/big.bin", &(0..40_000).map(|at| format!("{at} ")).collect::<String>());
    env.run(&["run", "-q", "--source", "data"]).ok();
    std::fs::remove_file(env.largest_pack()).unwrap();
    env
}

/// What is left of it restores, and nobody takes it for all there was.
#[test]
fn a_repaired_snapshot_says_that_it_is_not_whole() {
    let env = with_a_lost_pack();
    assert_eq!(env.run(&["repair", "--yes", "-q"]).code, 4);
    for args in [&["--dry-run"][..], &["--target", "out"], &["--target", "out2", "--json"]] {
        let target: &[&str] = if args.contains(&"--target") { &[] } else { &["--target", "out"] };
        let run = env.run(&[&["restore", "latest"], args, target].concat());
        assert_eq!(run.code, 3, "{}", run.text());
        assert!(run.text().contains("was repaired and lacks lost data"), "{}", run.text());
    }
}

#[test]
fn a_backup_that_finds_losses_says_what_to_do() {
    let env = with_a_lost_pack();
    let run = env.run(&["run", "--source", "data"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(
        run.stdout.contains("Damage") && run.stdout.contains("repair them with `backup repair`"),
        "{}",
        run.text()
    );
    let run = env.run(&["run", "--source", "data"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stdout.contains("Damage"), "as long as it lasts: {}", run.text());
    // What was not stored again, if it was in that pack, is lost for good.
    let repaired = env.run(&["repair", "--yes", "-q"]);
    assert!(matches!(repaired.code, 0 | 4), "{}", repaired.text());
    let run = env.run(&["run", "--source", "data"]).ok();
    assert!(!run.stdout.contains("Damage"), "{}", run.text());
}

#[test]
fn a_snapshot_that_cannot_be_read_is_put_aside() {
    let env = two_repositories();
    let id = env.latest();
    std::fs::write(env.path("repo/snapshots").join(id), "damaged").unwrap();
    env.run(&["repair", "--dry-run"]).snapshot("repair_snapshot_dry_run");
    env.run(&["repair", "--yes"]).snapshot("repair_snapshot");
    env.run(&["check", "-q"]).ok();
}

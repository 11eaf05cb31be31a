//! hold, release, forget, undo-forget, cleanup, prune.

use crate::common::{Env, docs_config};

const CONFIG: &str = docs_config!(
    r#"tier = "daily"
keep = { last = 2 }

[jobs.ledger]
source = "data"
repository = "main"
keep = { last = 1, compliance = "7y" }

[jobs.other]
source = "data"
repository = "main"
"#
);

/// Four snapshots of `docs`, each with data of its own.
fn configured() -> Env {
    let env = Env::configured(CONFIG);
    for at in 0..4 {
        env.write("data/log.txt", &format!("line {at} ").repeat(3000));
        env.run(&["run", "-q", "docs"]).ok();
    }
    env
}

fn ids(env: &Env) -> Vec<String> {
    of(&env.run(&["list", "--json"]).ok().json(), "snapshots")
}

fn of(json: &serde_json::Value, list: &str) -> Vec<String> {
    json[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn held_snapshots_stay() {
    let env = configured();
    env.run(&["hold", "latest", "--reason", "case 4711", "--for", "30d"])
        .ok()
        .snapshot_table("hold");
    env.run(&["list"]).ok().snapshot_table("list_held");
    assert_eq!(
        env.run(&["list", "--json"]).ok().json()["snapshots"][3]["hold"]["reason"],
        "case 4711"
    );
    assert!(env.run(&["show", "latest"]).ok().stdout.contains("held until"));
    env.run(&["forget", "latest", "--yes"]).snapshot_table("forget_held");
    assert_eq!(ids(&env).len(), 4);
    env.run(&["hold", "latest", "--reason", "case 4712", "--json"])
        .ok()
        .snapshot_json("hold_again_json");
    env.run(&["release", "latest"]).ok().snapshot("release");
    env.run(&["release", "latest", "--json"]).ok().snapshot_json("release_again_json");
    env.run(&["forget", "latest", "--yes", "-q"]).ok();
    assert_eq!(ids(&env).len(), 3);
}

/// Nobody knows what a hold says that cannot be read: nothing is dropped, but everything is still
/// listed.
#[test]
fn a_damaged_hold_drops_nothing_and_hides_nothing() {
    let env = configured();
    env.run(&["hold", "latest", "--reason", "case 4711", "-q"]).ok();
    let hold = env.path("repo/x-holds").join(env.latest());
    std::fs::write(&hold, "damaged").unwrap();
    let list = env.run(&["list"]).snapshot_table("list_damaged_hold");
    assert_eq!(list.code, 4);
    assert_eq!(env.run(&["list", "--json"]).json()["snapshots"].as_array().unwrap().len(), 4);
    assert_eq!(env.run(&["cleanup", "--all", "--yes"]).code, 4);
    assert_eq!(env.run(&["forget", "yesterday", "--yes"]).code, 1);
    env.run(&["hold", "latest", "--reason", "case 4711, again", "-q"]).ok();
    env.run(&["list", "-q"]).ok();
}

#[test]
fn holds_that_make_no_sense() {
    let env = configured();
    env.run(&["hold", "latest"]).snapshot("hold_without_reason");
    env.run(&["hold", "latest", "--reason", " "]).snapshot("hold_empty_reason");
    env.run(&["hold", "latest", "--reason", "x", "--until", "yesterday"])
        .snapshot("hold_in_the_past");
    env.run(&["hold", "latest", "--reason", "x", "--until", "some day"]).snapshot("hold_no_time");
    env.run(&["hold", "latest", "--reason", "x", "--for", "6m"]).snapshot("hold_no_age");
    let until = env
        .run(&["hold", "latest", "--reason", "x", "--until", "2050-12-31", "--json"])
        .ok()
        .json();
    assert_eq!(until["hold"]["until"], "2050-12-31T23:59:59.999999999Z");
}

#[test]
fn forgotten_snapshots_come_back() {
    let env = configured();
    let before = ids(&env);
    let plan =
        env.run(&["forget", &before[0], &before[1][..10], "--dry-run", "--json"]).ok().json();
    assert_eq!((of(&plan, "snapshots"), &plan["dry_run"]), (before[..2].to_vec(), &true.into()));
    assert_eq!(ids(&env), before);
    let unconfirmed = env.run(&["forget", "latest"]).snapshot_table("forget_unconfirmed");
    assert_eq!((unconfirmed.code, ids(&env)), (5, before.clone()));

    env.run(&["undo-forget", "--list"]).ok().snapshot("undo_forget_nothing");
    let args = ["forget", &before[0], &before[1], &before[0], "--yes"];
    env.run(&args).ok().snapshot_table("forget");
    assert_eq!(ids(&env), before[2..]);
    env.run(&["undo-forget", "--list"]).ok().snapshot_table("undo_forget_list");
    let listed = env.run(&["undo-forget", "--list", "--json"]).ok().json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2);
    env.run(&["undo-forget"]).snapshot("undo_forget_of_nothing");
    env.run(&["undo-forget", &before[3]]).snapshot("undo_forget_not_forgotten");
    env.run(&["undo-forget", &before[0]]).ok().snapshot("undo_forget");
    env.run(&["undo-forget", "latest", "--json"]).ok().snapshot_json("undo_forget_json");
    assert_eq!(ids(&env), before);
    env.run(&["check", "--read-data", "-q"]).ok();
}

/// A promise is kept by `archive` too.
#[test]
fn archives_remove_nothing_that_is_promised() {
    let env = configured();
    env.run(&["run", "-q", "ledger"]).ok();
    env.run(&["run", "-q", "ledger"]).ok();
    env.run(&["init", "-q", "-r", "other", "--like", "main"]).ok();
    let run = env.run(&[
        "archive",
        "-r",
        "main",
        "--job",
        "ledger",
        "--older-than",
        "0s",
        "--to",
        "other",
        "--remove",
        "--yes",
    ]);
    assert_eq!((run.code, ids(&env).len()), (3, 6), "{}", run.text());
    assert!(
        run.stdout.contains("younger than the minimum age that job ledger guarantees"),
        "{}",
        run.text()
    );
}

/// Nobody is asked about a repository that he cannot open.
#[test]
fn a_wrong_pass_phrase_is_noticed_first() {
    let env = configured();
    std::fs::write(env.path("key"), "wrong").unwrap();
    env.run(&["init", "-q", "-r", "other"]).ok();
    for args in [
        &["cleanup", "--all"][..],
        &["forget", "latest"],
        &["repair"],
        &["archive", "--older-than", "0s", "--to", "other", "--remove"],
        &["key", "rotate"],
        &["key", "remove", "1a"],
    ] {
        let run = env.run(args);
        assert_eq!(run.code, 12, "{args:?}: {}", run.text());
    }
}

#[test]
fn a_cleanup_does_what_its_plan_says() {
    let env = configured();
    env.run(&["run", "-q", "ledger", "other"]).ok();
    let before = ids(&env);
    env.run(&["cleanup", "docs", "--dry-run"]).ok().snapshot_table("cleanup_dry_run");
    env.run(&["cleanup", "--all", "--dry-run"]).ok().snapshot_table("cleanup_all_dry_run");
    let plan = env
        .run(&["cleanup", "--all", "--dry-run", "--json"])
        .ok()
        .snapshot_json("cleanup_dry_run_json")
        .events();
    let unconfirmed = env.run(&["cleanup", "--all"]).snapshot_table("cleanup_unconfirmed");
    assert_eq!((unconfirmed.code, ids(&env)), (5, before.clone()));

    let done = env.run(&["cleanup", "--all", "--yes", "--no-prune", "--json"]).ok().events();
    let goes = |snapshot: &&serde_json::Value| snapshot["keep"] == false;
    let planned =
        plan[0]["snapshots"].as_array().unwrap().iter().filter(goes).map(|one| one["id"].clone());
    let summary = done.iter().find(|event| event["event"] == "summary").unwrap();
    assert_eq!(summary["forgotten"], planned.collect::<serde_json::Value>());
    assert_eq!(ids(&env), before[2..], "other jobs and the rest of this one are untouched");
    env.run(&["cleanup", "docs", "--yes", "--no-prune"]).ok().snapshot_table("cleanup_again");
}

/// A size that collapses stops a cleanup with --yes, until the snapshot is adopted.
#[test]
fn cleanup_stops_at_a_size_that_collapses() {
    let env = Env::configured(CONFIG);
    for at in 0..3 {
        env.write("data/log.txt", &format!("line {at} ").repeat(300_000));
        env.run(&["run", "-q", "docs", "--type", "full"]).ok();
    }
    env.write("data/log.txt", "encrypted");
    env.run(&["run", "-q", "docs", "--type", "full"]).ok();
    let stopped = env.run(&["cleanup", "--all", "--yes", "--json"]);
    assert_eq!((stopped.code, ids(&env).len()), (5, 4), "{}", stopped.text());
    let events = stopped.events();
    let plan = events.iter().find(|event| event["event"] == "plan").unwrap();
    assert_eq!(plan["anomalies"][0]["anomaly"], "small_size");
    let error = events.iter().find(|event| event["event"] == "error").unwrap();
    assert!(error["message"].as_str().unwrap().contains("job docs: size fell to"), "{error}");
    let before = &ids(&env)[2];
    let kept = plan["snapshots"].as_array().unwrap();
    let kept = kept.iter().find(|one| one["id"] == before.as_str()).unwrap();
    let reasons = kept["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["rule"] == "before_anomaly"), "{kept}");
    env.run(&["cleanup", "docs", "--adopt", "--yes", "--no-prune"]).ok();
    assert_eq!(ids(&env).len(), 2);
}

#[test]
fn a_cleanup_also_removes_data() {
    let env = configured();
    env.write(
        "backup.toml",
        &CONFIG.replace("passphrase_file", "prune.grace = \"0s\"\npassphrase_file"),
    );
    let run = env.run(&["cleanup", "docs", "--yes"]).ok();
    assert!(
        run.stdout.contains("2 snapshots forgotten") && run.stdout.contains("Marked now"),
        "{}",
        run.stdout
    );
    assert_eq!(
        of(&env.run(&["undo-forget", "--list", "--json"]).ok().json(), "snapshots").len(),
        2
    );
    let run = env.run(&["prune", "-r", "main"]).ok();
    assert!(run.stdout.contains("Removed"), "{}", run.stdout);
    assert_eq!(env.run(&["undo-forget", "latest"]).snapshot("undo_forget_too_late").code, 1);
    env.run(&["check", "--read-data", "-q"]).ok();
    env.run(&["verify", "--all", "-q"]).ok();
}

#[test]
fn what_was_promised_is_kept_by_every_command() {
    let env = configured();
    env.run(&["run", "-q", "ledger"]).ok();
    env.run(&["run", "-q", "ledger"]).ok();
    assert_eq!(env.run(&["forget", "latest", "--yes"]).snapshot_table("forget_protected").code, 5);
    assert_eq!(
        env.run(&["forget", "latest", "--dry-run"]).snapshot_table("forget_protected_dry_run").code,
        5
    );
    // Whoever shortens it in the configuration shortens nothing.
    env.write("backup.toml", &CONFIG.replace("compliance = \"7y\"", "compliance = \"1s\""));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    env.run(&["cleanup", "--job", "ledger", "--yes", "--no-prune"])
        .ok()
        .snapshot_table("cleanup_protected");
    assert_eq!(ids(&env).len(), 6);
    // Those of other jobs promise nothing.
    env.run(&["forget", "latest", "--job", "docs", "--yes", "-q"]).ok();
}

#[test]
fn cleanups_that_make_no_sense() {
    let env = configured();
    env.run(&["cleanup"]).snapshot_table("cleanup_of_nothing");
    env.run(&["cleanup", "dosc", "--yes"]).snapshot_table("cleanup_unknown_job");
    env.run(&["cleanup", "other", "--yes"]).snapshot_table("cleanup_no_policy");
    std::fs::remove_file(env.path("backup.toml")).unwrap();
    env.run(&["cleanup", "--all", "--yes"]).snapshot_table("cleanup_no_configuration");
    assert_eq!(ids(&env).len(), 4);
}

#[test]
fn prunes_only_what_nothing_needs() {
    let env = configured();
    env.run(&["prune", "--dry-run"]).ok().snapshot("prune_dry_run");
    let summary = |args: &[&str]| {
        let events = env.run(&[&["prune", "--json"], args].concat()).ok().events();
        events.into_iter().find(|event| event["event"] == "summary").unwrap()
    };
    env.run(&["forget", "latest", "--yes", "-q"]).ok();
    let planned = summary(&["--dry-run", "--grace", "1h"]);
    assert_eq!(planned["dry_run"], true);
    let marked = summary(&["--grace", "1h"]);
    assert!(marked["marked_packs"].as_u64() > Some(0), "{marked}");
    assert_eq!(
        (&planned["marked_packs"], &planned["unused_bytes"]),
        (&marked["marked_packs"], &marked["unused_bytes"])
    );
    let waiting = summary(&["--grace", "1h"]);
    assert_eq!(
        (&waiting["deleted_packs"], &waiting["waiting_packs"]),
        (&0.into(), &marked["marked_packs"])
    );
    // Until it is removed it can come back.
    env.run(&["undo-forget", "latest", "-q"]).ok();
    env.run(&["check", "--read-data", "-q"]).ok();
    env.run(&["prune", "--grace", "1mo"]).snapshot("prune_no_time");
    env.run(&["prune", "--max-unused", "some"]).snapshot("prune_no_limit");
}

#[test]
fn snapshots_by_day_and_moment() {
    let env = configured();
    assert_eq!(env.run(&["show", "now", "--json"]).ok().json()["snapshot"]["id"], *env.latest());
    env.run(&["show", "yesterday"]).snapshot("error_no_snapshot_before");
    env.run(&["list", "--date", "yesterday"]).ok().snapshot("list_yesterday");
    env.run(&["list", "--date", "some day"]).snapshot("error_no_day");
    let of_today = of(&env.run(&["list", "--date", "today", "--json"]).ok().json(), "snapshots");
    assert_eq!(of_today, ids(&env));
    env.run(&["show", "latest", "--date", "yesterday"]).snapshot("error_latest_of_yesterday");
}

#[test]
fn prune_removes_the_evidence_of_forgotten_snapshots() {
    let env = Env::configured(CONFIG);
    env.run(&["run", "-q", "docs"]).ok();
    let old = env.latest();
    env.write("data/letter.txt", "A later letter\n");
    env.run(&["run", "-q", "docs"]).ok();
    let new = env.latest();
    env.run(&["verify", "-q", "--all"]).ok();
    let evidence = |kind: &str| {
        let names = std::fs::read_dir(env.path("repo").join(kind)).unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    env.run(&["forget", &old, "--yes"]).ok();
    // As left by a verification that began before the snapshot was forgotten.
    for kind in ["x-proofs", "x-damage"] {
        std::fs::create_dir_all(env.path("repo").join(kind)).unwrap();
        std::fs::write(env.path("repo").join(kind).join(&old), "evidence").unwrap();
    }
    env.run(&["prune"]).ok();
    assert_eq!((evidence("x-proofs").len(), evidence("x-damage").len()), (2, 1), "to be undone");
    env.run(&["prune", "--grace", "0s"]).ok();
    env.run(&["prune", "--grace", "0s"]).ok();
    env.run(&["prune", "--grace", "0s"]).ok();
    assert_eq!((evidence("x-proofs"), evidence("x-damage").len()), (vec![new], 0));
}

#[test]
fn commands_that_write_remove_leftovers_of_killed_ones() {
    let env = configured();
    // Numbers of processes end at 2^22.
    let names = ["2147483646-00000000000000aa-0", "2147483646-00000000000000aa-1"];
    let [old, young] = names.map(|name| env.path("repo/x-tmp").join(name));
    let commands: [&[&str]; 3] =
        [&["run", "docs", "-q"], &["cleanup", "--all", "--yes", "-q"], &["prune", "-q"]];
    for command in commands {
        for (path, hours) in [(&old, 25), (&young, 23)] {
            let file = std::fs::File::create(path).unwrap();
            let ago = std::time::Duration::from_secs(hours * 3600);
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - ago).unwrap();
        }
        env.run(&["list"]).ok();
        assert!(old.exists(), "reading removes nothing");
        env.run(command).ok();
        assert_eq!((old.exists(), young.exists()), (false, true), "{command:?}");
    }
}

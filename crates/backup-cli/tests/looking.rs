//! list, show, ls, diff, stats, storage.

use crate::common::Env;

/// Two snapshots of the same tree, the second with changes, and one of another job.
fn history() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data", "--tag", "first", "--tier", "daily"]).ok();
    env.write("data/letter.txt", "Dear reader, and all others\n");
    env.write("data/new\x1b[31m.txt", "new\n");
    std::fs::remove_file(env.path("data/photos/sky.jpg")).unwrap();
    env.run(&["run", "-q", "--source", "data", "--type", "incremental"]).ok();
    env.run(&["run", "-q", "--source", "data/photos", "--job", "photos", "--type", "full"]).ok();
    env
}

fn ids(env: &Env) -> Vec<String> {
    let list = env.run(&["list", "--json"]).ok().json();
    let snapshots = list["snapshots"].as_array().unwrap();
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists() {
    let env = history();
    env.run(&["list"]).ok().snapshot_table("list");
    env.run(&["list", "--job", "photos"]).ok().snapshot_table("list_job");
    env.run(&["list", "--tier", "daily", "--tag", "first"]).ok().snapshot_table("list_tier");
    env.run(&["list", "--tier", "daily", "--tag", "other"]).ok().snapshot("list_nothing");
    env.run(&["list", "--json", "--job", "photos"]).ok().snapshot_json("list_json");
}

#[test]
fn an_empty_repository_says_so() {
    let env = Env::with_repository();
    env.run(&["list"]).ok().snapshot("list_empty");
    env.run(&["list", "--json"]).ok().snapshot_json("list_empty_json");
    env.run(&["stats"]).ok().snapshot("stats_empty");
    env.run(&["verify", "--all"]).ok().snapshot("verify_nothing");
}

#[test]
fn shows() {
    let env = history();
    let ids = ids(&env);
    env.run(&["show", &ids[1][..10]]).ok().snapshot("show");
    env.run(&["show", "latest", "--job", "photos", "--json"]).ok().snapshot_json("show_json");
}

#[test]
fn lists_content() {
    let env = history();
    let data = env.path("data");
    let data = data.to_str().unwrap();
    env.run(&["ls", "latest", data, "--job", "manual"]).ok().snapshot("ls");
    env.run(&["ls", "latest", data, "--job", "manual", "-lR"]).ok().snapshot("ls_long");
    env.run(&["ls", "latest", &format!("{data}/photos/sea.jpg"), "-l"]).ok().snapshot("ls_file");
    env.run(&["ls", "latest", data, "-R", "--json"]).ok().snapshot_json("ls_json");
    assert!(env.run(&["ls", "latest"]).ok().stdout.starts_with("/.backup\n"));
}

#[test]
fn compares() {
    let env = history();
    let ids = ids(&env);
    env.run(&["diff", &ids[0], &ids[1]]).ok().snapshot_below("diff");
    env.run(&["diff", &ids[0], &ids[1], "--json"]).ok().snapshot_json("diff_json");
    env.run(&["diff", &ids[0], &ids[0]]).ok().snapshot("diff_same");
}

#[test]
fn sums_up() {
    let env = history();
    env.run(&["stats"]).ok().snapshot_table("stats");
    env.run(&["stats", "--json"]).ok().snapshot_json("stats_json");
    // The backups are seconds apart.
    let growth = "Growth per day       unknown: the backups span less than one day";
    let stats = env.run(&["stats"]).ok();
    assert!(stats.stdout.contains(growth), "{}", stats.text());
}

#[test]
fn tells_how_much_room_is_left() {
    let env = history();
    let json = env.run(&["storage", "--json"]).ok().json();
    assert_eq!(json["by_job"]["manual"]["snapshots"], 2);
    assert!(json["room_bytes"].as_u64() > Some(0) && json["quota_bytes"].is_null(), "{json}");
    assert!(json["total"]["bytes"].as_u64() >= json["objects"]["data"]["bytes"].as_u64(), "{json}");

    let quota = |size: u64| {
        let config = format!(
            "[repositories.main]\nurl = \"repo\"\npassphrase_file = \"key\"\nquota = {size}\n"
        );
        env.write("backup.toml", &config);
    };
    let used = json["total"]["bytes"].as_u64().unwrap();
    quota(used * 10);
    let json = env.run(&["storage", "-r", "main", "--json"]).ok().json();
    assert_eq!(json["room_bytes"], used * 9);
    // Two backups of one moment say nothing about how it goes on.
    assert_eq!(
        (&json["days_left"], &json["full_on"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!(json["growth_is_known"], false);
    let run = env.run(&["storage", "-r", "main"]).ok();
    assert!(run.stdout.contains(", 10% used") && run.stderr.is_empty(), "{}", run.text());
    assert!(
        run.stdout.contains("unknown: the backups span") && run.stdout.contains("a forecast needs"),
        "{}",
        run.text()
    );
    quota(used / 2);
    let run = env.run(&["storage", "-r", "main"]).ok();
    assert!(run.stderr.contains("Warning: 200% of the quota"), "{}", run.text());
    assert_eq!(env.run(&["storage", "-r", "main", "--json"]).ok().json()["days_left"], 0);
}

#[test]
fn a_damaged_snapshot_is_never_hidden() {
    let env = history();
    let id = &ids(&env)[0];
    std::fs::write(env.path("repo/snapshots").join(id), "damaged").unwrap();
    let run = env.run(&["list"]).snapshot_table("list_damaged");
    assert_eq!(run.code, 4);
    let json = env.run(&["list", "--json"]).snapshot_json("list_damaged_json").json();
    assert_eq!(json["damaged"][0]["id"], **id);
    env.run(&["show", id]).snapshot("show_damaged");
}

#[test]
fn nobody_reading_ends_quietly() {
    let env = Env::with_repository();
    for at in 0..3000 {
        env.write(&format!("data/{}-{at}", "long".repeat(30)), "");
    }
    env.run(&["run", "-q", "--source", "data"]).ok();
    let mut command = env.command(&["ls", "latest", "-R"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn finds_in_all_snapshots() {
    let env = history();
    let all = ids(&env);
    let found = |args: &[&str]| -> Vec<(String, String)> {
        let out = env.run(&[&["find", "--json"], args].concat()).ok().stdout;
        let lines =
            out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let found = lines.filter(|line| line["event"] == "found");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        found.map(|line| (text(&line["snapshot"]), text(&line["path"]))).collect()
    };
    let letter = env.path("data/letter.txt").display().to_string();
    assert_eq!(
        found(&["letter.*"]),
        [(all[1].clone(), letter.clone()), (all[0].clone(), letter.clone())],
        "newest first"
    );
    assert_eq!(found(&["sky.jpg"]).len(), 1, "it is gone later");
    assert_eq!(found(&["photos", "--job", "manual"]).len(), 2, "and not what is below");
    assert_eq!(found(&["letter.*", "--limit", "1"]), [(all[1].clone(), letter)]);
    let run = env.run(&["find", "nothing.*"]);
    assert!(run.code == 1 && run.stderr.contains("Hint:"), "{}", run.stderr);
    assert_eq!(env.run(&["find", "a["]).code, 2);
    let text = env.run(&["find", "letter.*"]).ok();
    assert!(
        text.stdout.contains("letter.txt") && text.stderr.contains("2 matches in 2 snapshots"),
        "{}",
        text.stderr
    );
}

#[test]
fn finds_snapshots_by_what_they_are() {
    let env = history();
    let all = ids(&env);
    let found = |args: &[&str]| -> Vec<String> {
        let out = env.run(&[&["find", "--json"], args].concat()).ok().stdout;
        let lines =
            out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter_map(|line| line["id"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(found(&[]).len(), 3);
    assert_eq!(found(&["--before", "tomorrow", "--status", "completed", "--limit", "1"]), all[2..]);
    assert_eq!(found(&["--job", "manual", "--days", "1", "--limit", "1"]), all[1..2]);
    assert_eq!(env.run(&["find", "--before", "today"]).code, 1);
    assert_eq!(env.run(&["find", "--status", "incomplete"]).code, 1);
    assert_eq!(env.run(&["find", "--after", "tomorrow"]).code, 1);
    let listed = env.run(&["list", "--days", "7", "--json"]).ok().json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 3);
    let listed = env.run(&["list", "--before", "2020-01-01", "--json"]).ok().json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 0);
}

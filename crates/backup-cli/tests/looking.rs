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
}

#[test]
fn tells_how_much_room_is_left() {
    let env = history();
    let json = env.run(&["storage", "--json"]).ok().json();
    assert_eq!(json["by_job"]["manual"]["snapshots"], 2);
    assert!(json["room_bytes"].as_u64() > Some(0) && json["quota_bytes"].is_null(), "{json}");
    assert!(json["total"]["bytes"].as_u64() >= json["objects"]["data"]["bytes"].as_u64(), "{json}");

    let quota = |size: u64| {
        let config = format!("[repositories.main]\nurl = \"repo\"\npassphrase_file = \"key\"\nquota = {size}\n");
        env.write("backup.toml", &config);
    };
    let used = json["total"]["bytes"].as_u64().unwrap();
    quota(used * 10);
    let json = env.run(&["storage", "-r", "main", "--json"]).ok().json();
    assert_eq!(json["room_bytes"], used * 9);
    assert_eq!(json["days_left"], used * 9 / json["growth_per_day"].as_u64().unwrap());
    let run = env.run(&["storage", "-r", "main"]).ok();
    assert!(run.stdout.contains("10% of it used") && run.stderr.is_empty(), "{}", run.text());
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
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

//! Groups: jobs that are run together and restored together. Those of databases are in
//! `tests/scenarios/control`.

use crate::common::Env;

const CONFIG: &str = r#"
[repositories.main]
url = "repo"
passphrase_file = "key"
[sources.data]
kind = "files"
paths = ["data"]
[sources.more]
kind = "files"
paths = ["more"]
[jobs.docs]
source = "data"
repository = "main"
[jobs.more]
source = "more"
repository = "main"
[groups.all]
jobs = ["docs", "more"]
targets = { more = "./out/more" }
"#;

fn env() -> Env {
    let env = Env::new();
    env.write_tree();
    env.write("more/file", "more");
    env.write("key", "secret");
    env.write("backup.toml", CONFIG);
    env.run(&["init", "-q"]).ok();
    env
}

#[test]
fn are_run_together_and_remembered() {
    let env = env();
    let run = env.run(&["run", "all"]).ok();
    assert!(run.stdout.contains("Group all: 2 of 2 jobs backed up"), "{}", run.stdout);
    assert!(run.stdout.contains("Moments from"), "{}", run.stdout);
    for job in ["docs", "more"] {
        let (begun, saved) = (format!("{job}: Backing up "), format!("{job}: Snapshot "));
        assert!(run.stderr.contains(&begun) && run.stdout.contains(&saved), "{}", run.text());
    }
    let events = env.run(&["run", "all", "--json"]).ok().stdout;
    let summary: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["group"], &summary["verb"]), (&"all".into(), &"run".into()));
    assert_eq!(summary["members"].as_array().unwrap().len(), 2, "{summary}");
    assert!(summary["moment"].is_string(), "{summary}");
    assert!(events.contains("\"job\":\"docs\",\"event\":\"stage_started\""), "{events}");
    let runs = env.run(&["status", "--runs", "--json"]).ok().json();
    let runs = runs["runs"].as_array().unwrap();
    let groups: Vec<_> = runs.iter().filter(|run| run["what"] == "group").collect();
    assert_eq!((runs.len(), groups.len()), (6, 2), "{runs:?}");
    assert!(
        groups.iter().all(|run| run["state"] == "completed" && run["moment"].is_string()),
        "{groups:?}"
    );
    let log = env.run(&["logs", "run", groups[0]["run"].as_str().unwrap()]).ok().stdout;
    assert!(
        log.contains("job docs: snapshot")
            && log.contains("these snapshots precede every moment from "),
        "{log}"
    );
}

#[test]
fn group_restore_refuses_an_older_snapshot_of_a_member() {
    let env = env();
    env.run(&["run", "-q", "all"]).ok();
    let older = env.latest();
    env.write("more/file", "later");
    env.run(&["run", "-q", "more"]).ok();
    let newer = env.latest();
    std::fs::write(env.path("repo/snapshots").join(&newer), "damaged").unwrap();
    let restore = ["restore", "all", "--target=docs=out/docs"];
    let refused = env.run(&restore);
    assert_eq!(refused.code, 4, "{}", refused.text());
    assert!(refused.stderr.contains(&newer[..8]), "{}", refused.text());
    assert!(!env.path("out").exists(), "members are restored together or not at all");
    env.run(&[&restore[..], &["--skip-damaged"]].concat()).ok();
    let data = env.path("").display().to_string();
    let restored = std::fs::read_to_string(env.path(&format!("out/more{data}/more/file")));
    assert_eq!(restored.unwrap(), "more", "the state of {older}");
}

#[test]
fn failed_job_stops_no_other_job_of_the_group() {
    let env = env();
    std::fs::remove_dir_all(env.path("data")).unwrap();
    let run = env.run(&["run", "all"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("Group all: 1 of 2 jobs backed up"), "{}", run.stdout);
    assert!(run.stderr.contains("job docs: ") && !run.stdout.contains("Moments"), "{}", run.stderr);
    let runs = env.run(&["status", "--runs", "--json"]).ok().json();
    let group =
        runs["runs"].as_array().unwrap().iter().find(|run| run["what"] == "group").unwrap().clone();
    assert!(
        group["state"] == "failed"
            && group["failure"]["message"].as_str().unwrap().starts_with("job docs")
    );
    // The whole group again.
    env.write("data/file", "back");
    let again = env.run(&["retry", group["run"].as_str().unwrap()]).ok();
    assert!(again.stdout.contains("Group all: 2 of 2"), "{}", again.stdout);
}

#[test]
fn are_restored_together_or_not_at_all() {
    let env = env();
    env.run(&["run", "-q", "all"]).ok();
    assert_eq!(env.run(&["restore", "all"]).snapshot("group_without_target").code, 2);
    assert_eq!(
        env.run(&["restore", "all", "--target", "out"]).snapshot("group_target_of_none").code,
        2
    );
    let docs = "--target=docs=out/docs";
    assert_eq!(env.run(&["restore", "all", docs, "--start"]).code, 2, "there is no PostgreSQL");
    assert_eq!(env.run(&["restore", "all", docs, "--at", "2020-01-01"]).code, 1);
    let planned = env.run(&["restore", "all", docs, "--dry-run"]).ok().stdout;
    assert!(
        planned.contains("docs: Plan: ") && planned.contains("Group all can be restored"),
        "{planned}"
    );
    // One of them stands in the way.
    let data = env.path("").display().to_string();
    env.write(&format!("out/more{data}/more/file"), "another");
    let run = env.run(&["restore", "all", docs]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("nothing was restored: job more"), "{}", run.stderr);
    assert!(!env.path("out/docs").exists(), "the other was written");
    assert_eq!(
        env.run(&["restore", "all", docs, "--if-exists", "replace"]).code,
        5,
        "not confirmed"
    );
    let run = env.run(&["restore", "all", docs, "--if-exists", "replace", "--yes"]).ok();
    assert!(
        run.stdout.contains("Group all restored as of") && run.stdout.contains("2 of 2 jobs"),
        "{}",
        run.stdout
    );
    let read = |path: String| std::fs::read_to_string(env.path(&path)).unwrap();
    assert_eq!(read(format!("out/more{data}/more/file")), "more");
    assert!(env.path(&format!("out/docs{data}/data")).exists());
}

#[test]
fn groups_stand_for_their_jobs_where_jobs_are_named() {
    let env = env();
    env.write("backup.toml", &format!("[defaults]\nkeep = {{ last = 1 }}\n{CONFIG}"));
    for text in ["a", "b", "c"] {
        env.write("data/new", text);
        env.write("more/new", text);
        env.run(&["run", "-q", "all"]).ok();
    }
    let snapshots = |job: &str| {
        let list = env.run(&["list", "--job", job, "--json"]).ok().json();
        list["snapshots"].as_array().unwrap().len()
    };
    let jobs = |args: &[&str], list: &str| {
        let found = env.run(args).json()[list].as_array().unwrap().clone();
        found.iter().map(|one| one["job"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(jobs(&["status", "more", "all", "--json"], "jobs"), ["more", "docs"]);
    assert_eq!(jobs(&["doctor", "all", "--json"], "sources"), ["docs", "more"]);
    env.run(&["advise", "all"]).ok();
    assert_eq!(env.run(&["status", "--runs=2", "all"]).ok().stdout.lines().count(), 3);

    assert_eq!([snapshots("docs"), snapshots("more")], [3, 3]);
    env.run(&["cleanup", "docs", "--yes", "--no-prune"]).ok();
    assert_eq!([snapshots("docs"), snapshots("more")], [1, 3]);
    env.run(&["cleanup", "all", "--yes", "--no-prune"]).ok();
    assert_eq!([snapshots("docs"), snapshots("more")], [1, 1]);
    // The earlier form, for scripts.
    env.run(&["run", "-q", "all"]).ok();
    env.run(&["cleanup", "--job", "docs", "--job", "more", "--yes", "--no-prune"]).ok();
    assert_eq!([snapshots("docs"), snapshots("more")], [1, 1]);
    // A misspelt group, and a group where one job is expected.
    for verb in ["run", "cleanup", "doctor", "advise"] {
        let misspelt = env.run(&[verb, "alll"]);
        assert_eq!(misspelt.code, 2, "{}", misspelt.text());
        assert!(misspelt.stderr.contains("did you mean `all`?"), "{}", misspelt.text());
    }
    let group = env.run(&["logs", "follow", "all"]);
    assert_eq!(group.code, 2, "{}", group.text());
    assert!(group.stderr.contains("`all` is a group, and one job is expected"), "{}", group.text());
    assert!(group.stderr.contains("choose from `docs`, `more`"), "{}", group.text());
    for mixed in [["--all", "docs"], ["--all", "--job=docs"]] {
        assert_eq!(env.run(&["cleanup", mixed[0], mixed[1]]).code, 2);
    }
    assert_eq!(env.run(&["cleanup"]).code, 2);
}

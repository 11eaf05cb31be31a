//! Runs: recorded, shown, one of a job at a time, run again; and a catalog that is in the way of
//! nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Env, docs_config};

/// Prints the pass phrase as soon as there is a file `go`: a run that has begun, and goes on for as
/// long as is wanted.
const WAITS: &str = "while [ ! -e go ]; do sleep 0.02; done; cat key";

const CONFIG: &str = docs_config!(
    r#"[jobs.never]
source = "data"
repository = "main"
"#
);

fn state(env: &Env) -> PathBuf {
    env.path("home/.local/state/backup")
}

/// The newest runs, as JSON.
fn runs(env: &Env) -> Vec<serde_json::Value> {
    env.run(&["status", "--runs", "--json"]).ok().json()["runs"].as_array().unwrap().clone()
}

/// A run that waits for `go`, as soon as the catalog knows it.
fn waiting(env: &Env) -> Child {
    let mut command = env.command(&["run", "-q", "--source", "data", "--password-command", WAITS]);
    let mut child =
        command.env_remove("BACKUP_PASSWORD_FILE").stderr(Stdio::null()).spawn().unwrap();
    let number = child.id();
    let has_begun = |_| {
        std::thread::sleep(Duration::from_millis(20));
        runs(env).first().is_some_and(|run| run["pid"] == number && run["state"] == "running")
    };
    if !(0..1000).any(has_begun) {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the run never began");
    }
    child
}

#[test]
fn are_remembered_and_shown() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["status"]).ok().snapshot("status_of_nothing");
    env.run(&["run", "-q", "--source", "data", "--job", "docs"]).ok();
    env.run(&["run", "-q", "--source", "data", "--dry-run"]).ok();
    env.run(&["restore", "-q", "latest", "--target", "out"]).ok();
    assert_eq!(env.run(&["run", "-q", "--source", "none", "--job", "lost"]).code, 1);
    env.run(&["status"]).ok().snapshot_table("status");
    env.run(&["status", "docs", "--json"]).ok().snapshot_json("status_json");
    env.run(&["status", "docs", "--date", "2020-02-02"]).ok().snapshot("status_of_another_day");
    assert_eq!(env.run(&["status", "dosc"]).snapshot("status_of_no_job").code, 2);
    env.run(&["status", "--runs"]).ok().snapshot_table("status_runs");
    let of_docs = env.run(&["status", "docs", "--runs=1", "--json"]).ok().json();
    assert_eq!(
        (&of_docs["runs"][0]["what"], of_docs["runs"].as_array().unwrap().len()),
        (&"restore".into(), 1)
    );
    let runs = runs(&env);
    let states: Vec<_> =
        runs.iter().map(|run| (run["what"].as_str(), run["state"].as_str())).collect();
    let (backup, restore) = (Some("backup"), Some("restore"));
    assert_eq!(
        states,
        [(backup, Some("failed")), (restore, Some("completed")), (backup, Some("verified"))]
    );
    assert_eq!(runs[2]["snapshot"], env.latest(), "a dry run is none");

    // A name is not taken for a number, and what is not known is said.
    assert_eq!(env.run(&["status", "--runs", "docs"]).ok().stdout.lines().count(), 3);
    assert_eq!(env.run(&["status", "--runs", "dosc"]).snapshot("status_runs_of_no_job").code, 2);
    assert_eq!(env.run(&["status", "--runs=0"]).code, 2);
    let elsewhere = env.run(&["status", "--runs", "--repo", "elsewhere"]).ok();
    assert!(elsewhere.stdout.is_empty(), "{}", elsewhere.text());
    assert!(env.run(&["status", "--runs", "--host", "elsewhere"]).ok().stdout.is_empty());
    let log = env.run(&["logs", "run", "latest"]).ok();
    assert!(log.stdout.contains(" failed: ") && log.stdout.contains("none"), "{}", log.text());
    let log = env.run(&["logs", "run", runs[2]["run"].as_str().unwrap()]).ok().stdout;
    for words in ["backup of job docs", "Z verified", "commit: ", &env.latest()] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let json = env.run(&["logs", "run", "latest", "--json"]).ok().json();
    assert_eq!((&json["run"], json["log"].as_array().unwrap().len() > 1), (&runs[0]["run"], true));
    assert_eq!(env.run(&["logs", "run", "2001"]).snapshot("logs_run_unknown").code, 1);
    assert_eq!(env.run(&["logs", "run", "2"]).snapshot("logs_run_ambiguous").code, 2);
}

#[test]
fn of_a_configuration() {
    let env = Env::new();
    env.write_tree();
    env.write("key", "secret");
    env.write("backup.toml", CONFIG);
    assert_eq!(env.run(&["status"]).snapshot("status_without_repository").code, 10);
    env.run(&["init", "-q"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["status"]).ok().snapshot_table("status_configured");
    assert_eq!(env.run(&["status", "never"]).snapshot("status_never_run").code, 1);
    // What the catalog remembers is shown where the repository is away.
    std::fs::rename(env.path("repo"), env.path("away")).unwrap();
    let status = env.run(&["status", "docs", "--json"]);
    let job = status
        .stdout
        .lines()
        .last()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .unwrap();
    assert_eq!(
        (status.code, &job["jobs"][0]["reachable"]),
        (10, &false.into()),
        "{}",
        status.text()
    );
    assert!(job["jobs"][0]["last_success"]["snapshot"].is_string(), "{job}");
}

#[test]
fn one_of_a_job_at_a_time() {
    let env = Env::with_repository();
    env.write_tree();
    env.write("other/file", "x");
    let mut first = waiting(&env);
    let busy = env.run(&["run", "--source", "data"]);
    let who = format!("process {}, since ", first.id());
    assert!(
        busy.code == 11 && busy.stderr.contains("job manual is already being run by "),
        "{}",
        busy.text()
    );
    assert!(busy.stderr.contains(&who), "{}", busy.text());
    assert_eq!(runs(&env).len(), 1, "what was refused is no run");
    // Another source under the same name, a plan, and looking disturb nobody.
    env.run(&["run", "-q", "--source", "other"]).ok();
    env.run(&["run", "-q", "--source", "data", "--dry-run"]).ok();
    env.write("go", "");
    assert!(first.wait().unwrap().success());
    env.run(&["run", "-q", "--source", "data"]).ok();
    assert!(runs(&env).iter().all(|run| run["state"] == "verified"));
}

/// As machines do that share the repository and nothing else: each with a state directory of its
/// own.
#[test]
fn one_of_a_job_at_a_time_in_a_repository() {
    let env = Env::new();
    env.write_tree();
    env.write("key", "secret");
    let hooks = "hooks = { before = \"touch began; while [ ! -e go ]; do sleep 0.02; done\" }";
    env.write("backup.toml", &CONFIG.replace("[jobs.docs]", &format!("[jobs.docs]\n{hooks}")));
    env.run(&["init", "-q"]).ok();
    let begin = || {
        _ = std::fs::remove_file(env.path("go"));
        _ = std::fs::remove_file(env.path("began"));
        let child = env.command(&["run", "-q", "docs"]).spawn().unwrap();
        let since = Instant::now();
        while !env.path("began").exists() {
            assert!(since.elapsed() < Duration::from_secs(30), "it never began");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    };
    let other = env.path("other-state");
    let elsewhere =
        |args: &[&str]| env.run_with(args, &[("BACKUP_STATE_DIR", other.to_str().unwrap())]);
    let is_held = |child: &Child| {
        let busy = elsewhere(&["run", "docs"]);
        assert!(
            busy.code == 11 && busy.stderr.contains("job docs is already being run by "),
            "{}",
            busy.text()
        );
        assert!(
            busy.stderr.contains(&format!("process {}, since ", child.id())),
            "{}",
            busy.text()
        );
    };
    let mut first = begin();
    is_held(&first);
    env.write("go", "");
    assert!(first.wait().unwrap().success());
    elsewhere(&["run", "-q", "docs"]).ok();
    let told = elsewhere(&["status", "--runs", "--json"]).ok().json();
    let states: Vec<&str> =
        told["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["verified", "cancelled"], "what somebody else does has not failed");
    // Whoever was killed blocks nobody who knows that it is dead, and others for a while.
    let mut killed = begin();
    killed.kill().unwrap();
    killed.wait().unwrap();
    env.write("go", "");
    is_held(&killed);
    env.run(&["run", "-q", "docs"]).ok();
    elsewhere(&["run", "-q", "docs"]).ok();
}

#[test]
fn that_were_killed_are_closed_and_can_be_run_again() {
    let env = Env::with_repository();
    env.write_tree();
    let mut killed = waiting(&env);
    let name = runs(&env)[0]["run"].as_str().unwrap().to_owned();
    assert_eq!(env.run(&["retry", &name]).code, 5, "it goes on");
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The command that it waited for lives on until it sees this.
    env.write("go", "");
    let status = env.run(&["status", "--runs"]).ok();
    assert!(
        status.stderr.contains(&format!("Run {name} of job manual is closed as failed")),
        "{}",
        status.text()
    );
    let run = &runs(&env)[0];
    assert_eq!(run["state"], "failed");
    assert!(run["failure"]["message"].as_str().unwrap().contains("died"), "{run}");
    env.run(&["retry", &name]).ok().without("Backing up").without("Loading").snapshot("retry");
    let runs = runs(&env);
    assert_eq!(
        (&runs[0]["state"], &runs[0]["snapshot"]),
        (&"verified".into(), &env.latest().into())
    );
    assert_eq!(
        env.run(&["retry", runs[0]["run"].as_str().unwrap()]).snapshot("retry_of_success").code,
        5
    );
    assert_eq!(env.run(&["retry", "latest"]).snapshot("retry_of_nothing").code, 1);
}

#[test]
fn are_run_again_with_the_flags_they_had() {
    let env = Env::new();
    env.write_tree();
    env.write("key", "secret");
    env.write("backup.toml", CONFIG);
    let flags = [
        "--tier",
        "weekly",
        "--tag",
        "a b",
        "--exclude",
        "*.jpg",
        "--compression",
        "max",
        "--type",
        "full",
    ];
    assert_eq!(env.run(&[&["run", "-q", "docs"], &flags[..]].concat()).code, 10);
    env.run(&["init", "-q"]).ok();
    // From anywhere.
    std::fs::create_dir(env.path("elsewhere")).unwrap();
    let mut command = env.command(&["retry", "-q", "latest"]);
    assert!(command.current_dir(env.path("elsewhere")).status().unwrap().success());
    let snapshot = &env.run(&["list", "--json"]).ok().json()["snapshots"][0];
    assert_eq!((&snapshot["tier"], &snapshot["type"]), (&"weekly".into(), &"full".into()));
    assert_eq!((&snapshot["job"], &snapshot["files"]), (&"docs".into(), &1.into()), "{snapshot}");
    assert!(snapshot["tags"].as_array().unwrap().contains(&"a b".into()), "{snapshot}");
    // By its identifier: it holds a part of the job.
    env.run(&["restore", "-q", &env.latest(), "--target", "out"]).ok();
    assert_eq!(
        env.run(&["retry", runs(&env)[0]["run"].as_str().unwrap()])
            .snapshot("retry_of_restore")
            .code,
        5
    );
}

/// As containers leave behind that share a state directory: other names, and nothing that tells who
/// is dead but locks.
#[test]
fn of_other_hosts_are_told_apart() {
    let env = Env::with_repository();
    env.write_tree();
    assert_eq!(
        env.run(&["run", "-q", "--source", "none", "--password-command", "cat key"]).code,
        1
    );
    let database = rusqlite::Connection::open(state(&env).join("catalog.db")).unwrap();
    let is_elsewhere = |sql: &str| database.execute(sql, []).unwrap();
    assert_eq!(is_elsewhere("UPDATE runs SET host = 'elsewhere'"), 1);
    let refused = env.run(&["retry", "latest"]);
    assert!(refused.code == 5 && refused.stderr.contains("was not saved"), "{}", refused.text());
    // Its process is gone: nobody holds the lock.
    assert_eq!(is_elsewhere("UPDATE runs SET state = 'running', finished = NULL"), 1);
    assert_eq!(runs(&env)[0]["state"], "failed");
    env.write("none/file", "now there is something");
    let again = env.run(&["retry", "latest", "--yes"]).ok();
    assert!(again.stderr.contains("--password-command"), "{}", again.text());
    let host = runs(&env)[0]["host"].as_str().unwrap().to_owned();
    assert_ne!(host, "elsewhere");
    let job = &env.run(&["status", "manual", "--json"]).ok().json()["jobs"][0];
    assert_eq!(job["last_success"]["host"], host.as_str());
    assert_eq!(
        env.run(&["status", "manual", "--host", "elsewhere", "--json"]).ok().json()["jobs"][0]["last_success"],
        serde_json::Value::Null
    );
}

#[test]
fn whoever_stands_in_the_door_of_the_catalog_holds_no_backup_up() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    let door = std::fs::File::open(state(&env).join("catalog.lock")).unwrap();
    door.lock().unwrap();
    let since = Instant::now();
    let run = env.run(&["run", "-q", "--source", "data"]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("runs are not recorded: another process does not release the lock on "),
        "{}",
        run.text()
    );
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn rows_that_cannot_be_read_are_in_the_way_of_nothing() {
    let env = Env::with_repository();
    env.write_tree();
    for job in ["docs", "lost"] {
        env.run(&["run", "-q", "--source", "data", "--job", job]).ok();
    }
    let database = rusqlite::Connection::open(state(&env).join("catalog.db")).unwrap();
    let changed = "UPDATE runs SET evidence = 'x', finished = NULL WHERE job = 'lost'";
    assert_eq!(database.execute(changed, []).unwrap(), 1);
    let run = env.run(&["run", "-q", "--source", "data", "--job", "docs"]).ok();
    assert!(run.stderr.contains("entries of 1 run are unreadable"), "{}", run.text());
    let lines = env.run(&["status", "--runs", "--json"]).ok();
    let known: serde_json::Value =
        serde_json::from_str(lines.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(known["runs"].as_array().unwrap().len(), 2, "{}", lines.text());
    // A table that is no table any more: the repositories know enough.
    database.execute("ALTER TABLE runs RENAME TO gone", []).unwrap();
    let status = env.run(&["status", "docs", "--json"]).ok();
    let job =
        serde_json::from_str::<serde_json::Value>(status.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(job["jobs"][0]["last_success"]["snapshot"], env.latest(), "{}", status.text());
}

#[test]
fn whose_snapshot_was_made_name_it_also_if_they_fail() {
    let env = Env::with_repository();
    env.write_tree();
    let mut command = env.command(&["run", "--source", "data", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Nobody reads what it says.
    drop(child.stdout.take());
    child.wait().unwrap();
    let run = &runs(&env)[0];
    assert_eq!(run["snapshot"], env.latest(), "{run}");
}

#[test]
fn backups_do_without_a_catalog() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    std::fs::write(state(&env).join("catalog.db"), "damaged ".repeat(1000)).unwrap();
    for end in ["-wal", "-shm"] {
        _ = std::fs::remove_file(state(&env).join(format!("catalog.db{end}")));
    }
    let run = env.run(&["run", "-q", "--source", "data"]).ok();
    assert!(run.stderr.contains("the damaged catalog was moved to "), "{}", run.text());
    assert_eq!(runs(&env).len(), 1, "the one that found it");
    let lines = env.run(&["status", "manual", "--json"]).ok().json();
    assert_eq!(lines["jobs"][0]["last_success"]["snapshot"], env.latest());

    env.write("file", "in the way");
    let with = [("BACKUP_STATE_DIR", "file")];
    let run = env.run_with(&["run", "-q", "--source", "data"], &with);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stderr.contains("runs are not recorded: cannot use "), "{}", run.text());
    let status = env.run_with(&["status", "manual", "--json"], &with).ok();
    let job =
        serde_json::from_str::<serde_json::Value>(status.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        job["jobs"][0]["last_success"]["snapshot"],
        env.latest(),
        "the repository alone knows"
    );
    assert_eq!(env.run_with(&["status", "--runs"], &with).snapshot("status_runs_no_place").code, 1);
}

fn holds(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        match path.is_dir() {
            true => holds(&path, text),
            false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text),
        }
    })
}

#[test]
fn secrets_are_not_remembered() {
    let env = Env::with_repository();
    let run = [
        "run",
        "--source",
        "postgres://me:hush@127.0.0.1:1/?application_name=hush",
        "--job",
        "crm",
    ];
    assert_eq!(env.run(&[&run[..], &["--password-command", "echo hush", "-q"]].concat()).code, 12);
    assert_ne!(env.run(&run).code, 0);
    assert_eq!(runs(&env).len(), 2);
    assert!(holds(&state(&env), "127.0.0.1") && !holds(&state(&env), "hush"));
    assert_eq!(env.run(&["retry", "latest"]).snapshot("retry_with_secret").code, 5);
}

#[test]
fn are_analyzed_beside_others() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data", "--type", "full"]).ok();
    let first = env.run(&["analyze", "latest"]).ok().stdout;
    assert!(
        first.contains("No earlier run") && first.lines().any(|line| line.starts_with("backup ")),
        "{first}"
    );
    // Ten times as much.
    env.write("data/large", &"0123456789".repeat(6000));
    env.run(&["run", "-q", "--source", "data", "--type", "full"]).ok();
    let second = env.run(&["analyze", "latest"]).ok().stdout;
    assert!(
        second.contains("of 1 earlier run")
            && second.contains("the size of the snapshot is 11.0 times"),
        "{second}"
    );
    let json = env.run(&["analyze", "latest", "--json"]).ok().json();
    assert_eq!(
        (&json["run"], &json["analysis"]["earlier"]["runs"]),
        (&runs(&env)[0]["run"], &1.into())
    );
    assert_eq!(env.run(&["analyze", "2001"]).code, 1);
}

#[test]
fn give_advice() {
    let env = Env::new();
    env.write_tree();
    env.write("key", "secret");
    env.write("backup.toml", CONFIG);
    assert_eq!(env.run(&["run", "-q", "docs"]).code, 10);
    env.run(&["advise"]).ok().snapshot("advise");
    env.run(&["init", "-q"]).ok();
    env.write("backup.toml", &CONFIG.replace("[jobs.docs]", "[jobs.docs]\nkeep = { last = 7 }"));
    env.run(&["run", "-q", "docs"]).ok();
    assert!(env.run(&["advise", "docs"]).ok().stderr.contains("No advice."));
    assert_eq!(env.run(&["advise", "docs", "--json"]).ok().json()["advice"], serde_json::json!([]));
    assert_eq!(env.run(&["advise", "dosc"]).code, 2);
}

/// The shortest of five: what else the machine does is not meant.
fn shortest(env: &Env, args: &[&str]) -> Duration {
    let time = || {
        let started = Instant::now();
        env.run(args).ok();
        started.elapsed()
    };
    (0..5).map(|_| time()).min().unwrap()
}

#[test]
fn alone_a_hundred_thousand_are_no_burden() {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    // What it takes to start and to open a repository is not meant: the runs add nothing to it that
    // could be felt.
    let questions = [
        &["status", "--runs=50"][..],
        &["status", "--runs=50", "manual"],
        &["logs", "run", "latest"],
        &["analyze", "latest"],
        &["status", "manual"],
    ];
    let alone = questions.map(|args| shortest(&env, args));
    let database = rusqlite::Connection::open(state(&env).join("catalog.db")).unwrap();
    let added = database
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO runs SELECT printf('20200101-000000-%06x', i), what, job, repository, state, started - i * 60000,
             finished - i * 60000, host, user, pid, evidence FROM runs, n",
            [],
        )
        .unwrap();
    assert_eq!(added, 100_000);
    for (args, alone) in questions.iter().zip(alone) {
        let time = shortest(&env, args);
        assert!(
            time < alone + Duration::from_millis(150),
            "{args:?}: {time:?}, without runs {alone:?}"
        );
    }
}

#[test]
fn a_machine_that_knows_nothing_learns_from_the_repository() {
    let mut env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data", "--job", "docs"]).ok();
    let saved =
        || std::fs::read_dir(env.path("repo/x-runs")).unwrap().map(|entry| entry.unwrap().path());
    // As it was before runs were saved: only the snapshot tells.
    saved().for_each(|note| std::fs::remove_file(note).unwrap());
    env.run(&["run", "-q", "--source", "data/photos", "--job", "photos"]).ok();
    assert_ne!(env.run(&["run", "-q", "--source", "nowhere", "--job", "lost"]).code, 0);
    let saved: Vec<_> = saved().collect();
    assert_eq!(saved.len(), 2);
    env.set("BACKUP_STATE_DIR", env.path("state").to_str().unwrap());
    let states = |env: &Env| -> Vec<(String, String)> {
        let runs = env.run(&["status", "--runs", "--json"]).ok().json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut runs: Vec<_> = runs["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| (text(&run["job"]), text(&run["state"])))
            .collect();
        runs.sort();
        runs
    };
    assert_eq!(states(&env), []);
    let told = env.run(&["catalog", "rebuild"]).ok().stdout;
    assert!(told.contains("3 runs added") && told.contains("already in the catalog: 0"), "{told}");
    let expected = [("docs", "verified"), ("lost", "failed"), ("photos", "verified")];
    assert_eq!(states(&env), expected.map(|(job, state)| (job.to_owned(), state.to_owned())));
    let again = env.run(&["catalog", "rebuild", "--json"]).ok().json();
    assert_eq!((&again["added"], &again["known"]), (&0.into(), &3.into()));
    // The same repository by another spelling of its address, and at another place.
    let slashed = env.run(&["catalog", "rebuild", "-r", "repo/", "--json"]).ok().json();
    assert_eq!((&slashed["added"], &slashed["moved"]), (&0.into(), &0.into()), "{slashed}");
    std::fs::rename(env.path("repo"), env.path("moved")).unwrap();
    for (run, moved) in [("first", 3), ("again", 0)] {
        let json = env.run(&["catalog", "rebuild", "-r", "moved", "--json"]).ok().json();
        assert_eq!(
            (&json["added"], &json["moved"], &json["known"]),
            (&0.into(), &moved.into(), &3.into()),
            "{run}: {json}"
        );
    }
    // Runs are listed by the address at which the repository lies now.
    assert_eq!(states(&env), []);
    std::fs::rename(env.path("moved"), env.path("repo")).unwrap();
    env.run(&["catalog", "rebuild"]).ok();
    let expected = [("docs", "verified"), ("lost", "failed"), ("photos", "verified")];
    assert_eq!(states(&env), expected.map(|(job, state)| (job.to_owned(), state.to_owned())));
    std::fs::write(&saved[0], "damaged").unwrap();
    assert_eq!(env.run(&["catalog", "rebuild"]).code, 3);
}

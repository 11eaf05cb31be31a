//! Host names that snapshots record: of the configuration, of a flag, and changing ones.

use crate::common::{Env, docs_config};

/// The hosts of all snapshots, oldest first.
fn hosts(env: &Env) -> Vec<String> {
    let list = env.run(&["list", "-r", "main", "--json"]).ok().json();
    let snapshots = list["snapshots"].as_array().unwrap();
    snapshots.iter().map(|one| one["host"].as_str().unwrap().to_owned()).collect()
}

/// Backs up, and returns the identifier of the parent.
fn parent(env: &Env, args: &[&str]) -> Option<String> {
    let run = env.run(&[&["run", "docs", "--json"], args].concat()).ok();
    let summary = run.events().pop().unwrap();
    summary["parent"].as_str().map(str::to_owned)
}

#[test]
fn host_of_a_job_is_recorded_and_decides_about_parents() {
    let mut env = Env::configured(docs_config!("host = \"web\"\nkeep = { last = 1 }\n"));
    env.set("BACKUP_REPO", "main");
    assert_eq!(parent(&env, &["--host", "pod-1"]), None);
    assert_eq!(parent(&env, &["--host", "pod-2"]), None, "of another host");
    assert_eq!(parent(&env, &[]), None);
    let newest = env.latest();
    assert_eq!(parent(&env, &[]), Some(newest), "of the same host");
    assert_eq!(hosts(&env), ["pod-1", "pod-2", "web", "web"]);

    // One of each host stays.
    env.run(&["cleanup", "docs", "--yes", "-q"]).ok();
    assert_eq!(hosts(&env), ["pod-1", "pod-2", "web"]);

    // In place, the newest of any host is not guessed.
    let run = env.run(&["restore", "latest", "--in-place", "--job", "docs", "--yes"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("several hosts: pod-1, pod-2, web"), "{}", run.stderr);
    let letter = env.path("data/letter.txt");
    std::fs::remove_file(&letter).unwrap();
    let args =
        ["restore", "latest", "--in-place", "--host", "web", "--if-exists", "merge", "--yes"];
    env.run(&args).ok();
    assert_eq!(std::fs::read_to_string(&letter).unwrap(), "Dear reader\n");
}

#[test]
fn doctor_names_changing_hosts_of_a_job() {
    let mut env = Env::configured(docs_config!(""));
    env.set("BACKUP_REPO", "main");
    let doctor = |env: &Env| env.run_without(&["doctor"], "BACKUP_REPO");
    for host in ["pod-1", "pod-2", "pod-2"] {
        parent(&env, &["--host", host]);
    }
    let run = doctor(&env);
    assert_eq!(run.code, 3, "{}", run.stdout);
    let line = "✗ job docs: host: its newest snapshots name several hosts: pod-2, pod-1\n";
    assert!(run.stdout.contains(line), "{}", run.stdout);
    assert!(run.stdout.contains("Fix: set `host` in [jobs.docs]"), "{}", run.stdout);

    env.write("backup.toml", docs_config!("host = \"web\"\n"));
    let run = doctor(&env).ok();
    assert!(!run.stdout.contains("several hosts"), "{}", run.stdout);
    env.write("backup.toml", docs_config!("host = \"a b\"\n"));
    let run = env.run(&["config", "check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("\"a b\" cannot be the name of a host"), "{}", run.stderr);
}

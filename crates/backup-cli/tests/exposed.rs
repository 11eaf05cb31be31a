//! Files with secrets that other users can read.

use std::os::unix::fs::PermissionsExt;

use crate::common::{Env, Run, docs_config};

const TEXT: &str = "other users can read the secret in";

fn chmod(env: &Env, name: &str, mode: u32) {
    std::fs::set_permissions(env.path(name), PermissionsExt::from_mode(mode)).unwrap();
}

fn warnings(run: &Run) -> usize {
    run.stderr.matches(TEXT).count()
}

#[test]
fn command_warns_once_about_an_exposed_key_file() {
    let env =
        Env::configured(docs_config!("[jobs.again]\nsource = \"data\"\nrepository = \"main\"\n"));
    assert_eq!(warnings(&env.run(&["run", "docs", "again"]).ok()), 0);
    for mode in [0o644, 0o640, 0o604] {
        chmod(&env, "key", mode);
        let run = env.run(&["run", "docs", "again", "-q"]).ok();
        assert_eq!(warnings(&run), 1, "{mode:o}: {}", run.stderr);
        let remedy =
            format!("key (mode {mode:04o}); run `chmod go-rwx {}", env.path("key").display());
        assert!(run.stderr.contains(&remedy), "{}", run.stderr);
        assert_eq!(warnings(&env.run(&["list", "-r", "repo"]).ok()), 1);
    }
    let events = env.run(&["run", "docs", "--json"]).ok().events();
    let warned = events.iter().filter(|event| {
        event["event"] == "warning" && event["message"].as_str().unwrap().contains(TEXT)
    });
    assert_eq!(warned.count(), 1);
    // One object stays one object.
    assert!(env.run(&["list", "--json"]).ok().json()["snapshots"].is_array());
    env.write("new", "another word");
    let run = env.run(&["key", "add", "--label", "two", "--new-password-file", "new"]).ok();
    assert_eq!(warnings(&run), 2, "{}", run.stderr);
}

#[test]
fn doctor_names_exposed_files_and_their_remedy() {
    let env = Env::configured(docs_config!(""));
    let run = env.run_without(&["doctor"], "BACKUP_REPO").ok();
    assert!(run.stdout.contains("files with secrets: only their owners"), "{}", run.stdout);
    chmod(&env, "key", 0o644);
    let run = env.run_without(&["doctor"], "BACKUP_REPO");
    let path = env.path("key");
    let line = format!("✗ [repositories.main]: files with secrets: {TEXT} {}", path.display());
    assert_eq!((run.code, run.stdout.matches(&line).count()), (3, 1), "{}", run.stdout);
    let fix = format!("Fix: run `chmod go-rwx {}`", path.display());
    assert!(run.stdout.contains(&fix), "{}", run.stdout);
    assert_eq!((warnings(&run), run.stdout.matches(TEXT).count()), (0, 1), "{}", run.stderr);
    let run = env.run(&["doctor", "-r", "main"]);
    assert_eq!((run.code, warnings(&run)), (3, 1), "{}", run.stderr);
}

#[test]
fn fifo_and_descriptor_are_not_exposed() {
    let env = Env::configured(docs_config!(""));
    let key = std::fs::read_to_string(env.path("key")).unwrap();
    chmod(&env, "key", 0o644);
    let run = env.run_fed(&["list", "-r", "repo", "--password-file", "/dev/stdin"], &key).ok();
    assert_eq!(warnings(&run), 0, "{}", run.stderr);
    let fifo = env.path("fifo");
    let made = std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn(move || std::fs::write(fifo, key).unwrap());
    let run = env.run(&["list", "-r", "repo", "--password-file", "fifo"]).ok();
    assert_eq!(warnings(&run), 0, "{}", run.stderr);
    writer.join().unwrap();
}

//! The first command of the README.

use std::os::unix::fs::MetadataExt;

use crate::common::Env;

#[test]
fn works_and_works_again() {
    let env = Env::new();
    env.write_tree();
    env.run(&["quickstart", "data"]).ok().snapshot("quickstart_first");
    assert_eq!(
        std::fs::metadata(env.path("backup-quickstart/key.txt")).unwrap().mode() & 0o777,
        0o600
    );
    std::fs::remove_file(env.path("data/photos/sky.jpg")).unwrap();
    env.write("data/new", "new");
    env.run(&["quickstart", "data"]).ok().snapshot("quickstart_again");
    let run = env.run(&["quickstart", "data", "--json"]).ok();
    let events = run.events();
    let summary = events.last().unwrap();
    assert_eq!((&summary["verb"], &summary["identical"]), (&"quickstart".into(), &true.into()));
    // What it prints as the next step works.
    let copied: Vec<&str> = run.stderr.lines().collect();
    assert!(copied.is_empty(), "{copied:?}");
    let key =
        ["-r", "backup-quickstart/repository", "--password-file", "backup-quickstart/key.txt"];
    let list = env.run(&[&["list", "--json"], &key[..]].concat()).ok().json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 3);
}

#[test]
fn leaves_its_own_folder_out() {
    let env = Env::new();
    env.write("some [odd] {place}/file", "content");
    let run = |args: &[&str]| {
        let output =
            env.command(args).current_dir(env.path("some [odd] {place}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["quickstart"]);
    run(&["quickstart"]);
    let key =
        ["-r", "backup-quickstart/repository", "--password-file", "backup-quickstart/key.txt"];
    let content = run(&[&["ls", "latest", "-R"], &key[..]].concat());
    assert!(
        content.contains("{place}/file") && !content.contains("backup-quickstart"),
        "{content}"
    );
}

#[test]
fn quickstart_backs_up_a_sample_unless_all_is_given() {
    let env = Env::new();
    for path in ["a/one", "a/two", "b/three", "target/x", ".tools/x", "own/CACHEDIR.TAG"] {
        env.write(&format!("data/{path}"), &"x".repeat(1000));
    }
    let key =
        ["-r", "backup-quickstart/repository", "--password-file", "backup-quickstart/key.txt"];
    let names = |args: &[&str]| {
        let events = env.run(&[&["quickstart", "data", "--json"], args].concat()).ok().events();
        let content = env.run(&[&["ls", "latest", "-R"], &key[..]].concat()).ok().stdout;
        let names = ["one", "two", "three", "x", "CACHEDIR.TAG"]
            .into_iter()
            .filter(|name| content.lines().any(|line| line.ends_with(&format!("/{name}"))))
            .collect::<Vec<_>>();
        let last = events.last().unwrap();
        (names, last["left_out"].as_u64().unwrap(), last["caches"].as_u64().unwrap())
    };
    assert_eq!(names(&["--max-size", "2500"]), (vec!["one", "two"], 1, 3));
    assert_eq!(names(&[]), (vec!["one", "two", "three"], 0, 3));
    assert_eq!(names(&["--all"]), (vec!["one", "two", "three", "x", "CACHEDIR.TAG"], 0, 0));
}

#[test]
fn an_interrupted_first_run_is_completed() {
    let env = Env::new();
    env.write_tree();
    std::fs::create_dir(env.path("backup-quickstart")).unwrap();
    env.write("backup-quickstart/key.txt", "some-key\n");
    env.run(&["quickstart", "data", "-q"]).ok();
    assert_eq!(
        std::fs::read_to_string(env.path("backup-quickstart/key.txt")).unwrap(),
        "some-key\n"
    );
}

#[test]
fn never_writes_over_what_is_not_its_own() {
    let env = Env::new();
    env.write_tree();
    env.write("mine/restored/precious", "precious");
    env.run(&["quickstart", "data", "--at", "mine"]).snapshot("quickstart_folder_in_use");
    assert!(env.path("mine/restored/precious").exists());
    env.run(&["quickstart", "data/photos", "--at", "data"]).snapshot("quickstart_inside_folder");
    env.run(&["quickstart", "none"]).snapshot("quickstart_no_directory");
    env.run(&["quickstart", "data/letter.txt"]).snapshot("quickstart_file");
}

#[test]
fn says_when_something_could_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let env = Env::new();
    env.write_tree();
    let env = env.unprivileged();
    std::fs::set_permissions(env.path("data/letter.txt"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    let run = env.run(&["quickstart", "data"]).snapshot("quickstart_warnings");
    assert_eq!(run.code, 3);
}

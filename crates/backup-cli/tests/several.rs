//! Several repositories in one configuration: verbs that read work on each of them.

use std::fs;

use serde_json::Value;

use crate::common::{Env, Run};

const CONFIG: &str = r#"
[repositories.main]
url = "main"
passphrase_file = "main.key"
[repositories.other]
url = "other"
passphrase_file = "other.key"
[sources.data]
kind = "files"
paths = ["data"]
[jobs.docs]
source = "data"
repository = "main"
[jobs.photos]
source = "data"
repository = "other"
"#;

/// One snapshot in each of two repositories, and their identifiers.
fn env() -> (Env, String, String) {
    let env = Env::new();
    env.write_tree();
    env.write("main.key", "secret of main");
    env.write("other.key", "secret of other");
    env.write("backup.toml", CONFIG);
    for (repository, job) in [("main", "docs"), ("other", "photos")] {
        env.run(&["init", "-q", "-r", repository]).ok();
        env.run(&["run", "-q", job]).ok();
    }
    let id = |job| {
        let listed = env.run(&["list", "--job", job, "--json"]).ok().json();
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
        listed["snapshots"][0]["id"].as_str().unwrap().to_owned()
    };
    let (docs, photos) = (id("docs"), id("photos"));
    (env, docs, photos)
}

/// The named repositories of the summaries of a verb.
fn summaries(run: &Run) -> Vec<String> {
    let of_verb = |event: &&Value| event["event"] == "summary";
    let events = run.events();
    events
        .iter()
        .filter(of_verb)
        .map(|event| event["repository_name"].as_str().unwrap().to_owned())
        .collect()
}

/// The lines that head the outputs.
fn headings(run: &Run) -> Vec<&str> {
    run.stdout.lines().filter(|line| ["main:", "other:"].contains(line)).collect()
}

#[test]
fn reading_verbs_work_on_every_repository() {
    let (env, docs, photos) = env();
    for verb in
        [&["list"][..], &["storage"], &["check"], &["find", "letter*"], &["verify", "latest"]]
    {
        let run = env.run(verb).ok();
        assert_eq!(headings(&run), ["main:", "other:"], "{verb:?}: {}", run.text());
        let one = env.run(&[verb, &["-r", "other"]].concat()).ok();
        assert!(headings(&one).is_empty(), "{verb:?}: {}", one.text());
        let one = env.run(&[verb, &["--job", "photos"]].concat()).ok();
        assert!(headings(&one).is_empty(), "{verb:?}: {}", one.text());
    }
    for verb in ["list", "storage"] {
        let json = env.run(&[verb, "--json"]).ok().json();
        let all = json["repositories"].as_array().unwrap();
        let names: Vec<&Value> = all.iter().map(|one| &one["repository_name"]).collect();
        assert_eq!(names, ["main", "other"], "{verb}: {json}");
    }
    let listed = env.run(&["list", "--json"]).ok().json();
    assert_eq!(listed["repositories"][1]["snapshots"][0]["id"], photos);
    for verb in [&["check"][..], &["find"], &["verify", "--all"]] {
        let run = env.run(&[verb, &["--json"]].concat()).ok();
        assert_eq!(summaries(&run), ["main", "other"], "{verb:?}");
    }
    // An identifier is looked up in all of them.
    let run = env.run(&["verify", "--json", &docs[..10], &photos]).ok();
    assert_eq!(summaries(&run), ["main", "other"]);
    let run = env.run(&["verify", "--json", &photos]).ok();
    assert_eq!(summaries(&run), ["other"]);
    assert!(env.run(&["show", &photos[..12]]).ok().stdout.contains(&photos));
    assert!(env.run(&["ls", &docs, "-R"]).ok().stdout.contains("letter.txt"));
    let unknown = env.run(&["verify", "0123456789abcdef"]);
    assert_eq!(unknown.code, 1, "{}", unknown.text());
    // A report file names each repository.
    env.run(&["verify", "latest", "--report", "report.json"]).ok();
    let report: Value =
        serde_json::from_slice(&fs::read(env.path("report.json")).unwrap()).unwrap();
    let verified = |at: usize| report["repositories"][at]["snapshots"][0]["snapshot"].clone();
    assert_eq!(
        (verified(0), verified(1), &report["sound"]),
        (docs.into(), photos.into(), &true.into())
    );
}

#[test]
fn changing_verbs_need_the_name_of_the_repository() {
    let (env, docs, _) = env();
    for verb in [&["prune"][..], &["forget", &docs, "--yes"], &["hold", &docs, "--reason", "x"]] {
        let run = env.run(verb);
        assert_eq!(run.code, 2, "{verb:?}: {}", run.text());
        assert!(run.stderr.contains("has several"), "{verb:?}: {}", run.text());
    }
    assert_eq!(
        env.run(&["list", "--json"]).ok().json()["repositories"][0]["snapshots"][0]["id"],
        docs
    );
}

#[test]
fn identifier_in_two_repositories_is_ambiguous() {
    let (env, docs, _) = env();
    // The same repository at two addresses.
    env.write("backup.toml", &CONFIG.replace("other.key", "main.key"));
    fs::remove_dir_all(env.path("other")).unwrap();
    fs::rename(env.path("main"), env.path("other")).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "other", "main"])
        .current_dir(env.path(""))
        .status();
    assert!(copied.unwrap().success());
    for verb in [&["verify", &docs][..], &["show", &docs], &["find", "*", "--snapshot", &docs]] {
        let run = env.run(verb);
        assert_eq!(run.code, 2, "{verb:?}: {}", run.text());
        assert!(run.stderr.contains("main, other"), "{verb:?}: {}", run.text());
    }
    env.run(&["verify", "-q", &docs, "-r", "main"]).ok();
}

#[test]
fn worst_result_is_the_exit_code() {
    let (env, ..) = env();
    env.write("data/more.txt", "found in the second repository only");
    env.run(&["run", "-q", "photos"]).ok();
    assert_eq!(env.run(&["find", "more.txt"]).code, 0, "a match in one of them is one");
    assert_eq!(env.run(&["find", "nothing-like-it"]).code, 1);
    fs::rename(env.path("main"), env.path("away")).unwrap();
    let run = env.run(&["check"]);
    assert_eq!(run.code, 10, "{}", run.text());
    assert!(run.stderr.contains("repository main: "), "{}", run.text());
    assert!(run.stdout.contains("No damage found"), "the other is checked: {}", run.text());
    assert_eq!(env.run(&["find", "nothing-like-it"]).code, 10, "a match may be in main");
    // Damage outweighs a repository that is away.
    for dir in fs::read_dir(env.path("other/data")).unwrap() {
        fs::remove_dir_all(dir.unwrap().path()).unwrap();
    }
    assert_eq!(env.run(&["check"]).code, 4);
    // Each repository has a record of its own in the audit log.
    let audit = env.run(&["audit", "--operation", "check", "--json"]).ok().json();
    let place = |at: &Value| {
        let place = at["details"]["repository"].as_str().unwrap_or_default();
        (place.rsplit('/').next().unwrap().to_owned(), at["status"].as_str().unwrap().to_owned())
    };
    let mut records: Vec<_> = audit["records"].as_array().unwrap().iter().map(place).collect();
    records.sort();
    let of = |name: &str, status: &str| (name.to_owned(), status.to_owned());
    assert_eq!(
        records,
        [
            of("main", "failure"),
            of("main", "failure"),
            of("other", "failure"),
            of("other", "success")
        ]
    );
}

//! Misspelt names, mistakes of a configuration, and the states that verbs show.

use crate::common::{Env, Run, docs_config};

fn says(run: &Run, code: i32, texts: &[&str]) {
    assert_eq!(run.code, code, "{}", run.text());
    for text in texts {
        assert!(run.stderr.contains(text), "{text}: {}", run.text());
    }
}

#[test]
fn every_verb_refuses_a_misspelt_job_in_the_same_way() {
    let env = Env::configured(docs_config!(
        r#"keep = { last = 3 }
[jobs.photos]
source = "data"
repository = "main"
"#
    ));
    env.run(&["run", "-q", "docs"]).ok();
    let verbs: [&[&str]; 29] = [
        &["run", "dosc"],
        &["status", "dosc"],
        &["status", "--runs", "dosc"],
        &["list", "--job", "dosc"],
        &["list", "--job", "dosc", "--json"],
        &["find", "*", "--job", "dosc"],
        &["show", "latest", "--job", "dosc"],
        &["ls", "latest", "--job", "dosc"],
        &["restore", "latest", "--job", "dosc", "--target", "out"],
        &["restore", "--at", "now", "--job", "dosc", "--target", "out"],
        &["export", "latest", "--job", "dosc", "--to", "out"],
        &["compare", "latest", "--job", "dosc"],
        &["verify", "--all", "--job", "dosc"],
        &["verify", "latest", "--job", "dosc"],
        &["check", "--job", "dosc"],
        &["storage", "--job", "dosc"],
        &["copy", "--job", "dosc", "--to", "other"],
        &["archive", "--older-than", "0s", "--job", "dosc", "--to", "other"],
        &["hold", "latest", "--job", "dosc", "--reason", "x"],
        &["release", "latest", "--job", "dosc"],
        &["forget", "latest", "--job", "dosc", "--yes"],
        &["cleanup", "dosc", "--yes"],
        &["cleanup", "--job", "dosc", "--yes"],
        &["timeline", "dosc"],
        &["logs", "status", "dosc"],
        &["logs", "follow", "dosc"],
        &["logs", "roll-up", "dosc"],
        &["doctor", "dosc"],
        &["advise", "dosc"],
    ];
    for verb in verbs {
        let run = env.run(verb);
        assert_eq!(run.code, 2, "{verb:?}: {}", run.text());
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("did you mean `docs`?"), "{verb:?}: {}", run.text());
        assert!(said.contains("there is no job `dosc`"), "{verb:?}: {}", run.text());
    }
    // A job of the configuration that never ran has no snapshots, and is no mistake.
    assert_eq!(env.run(&["list", "--job", "photos"]).ok().stdout, "");
    // Nor is a job of the repository that the configuration lacks.
    env.run(&["run", "-q", "--source", "data", "--job", "retired"]).ok();
    assert!(env.run(&["list", "--job", "retired"]).ok().stdout.contains("retired"));
}

#[test]
fn config_check_reports_all_mistakes_in_the_order_of_the_file() {
    let env = Env::new();
    let text = "[jobs.docs]\nsource = \"dat\"\nrepository = \"main\"\nwindow = \"22-06\"\n\
                [repositories.main]\nurl = \"repo\"\npack_size = \"many\"\nuploads = 0\n\
                [sources.data]\nkind = \"files\"\npaths = [\"~/docs\"]\nexlude = []\n\
                [jobs.photos]\nsource = \"pics\"\nrepository = \"main\"\nmax_size = 0\n\
                [schedule]\ncleanup = \"soon\"\n\
                [sources.pics]\nkind = \"files\"\npaths = [\"/\"]\n";
    env.write("backup.toml", text);
    let run = env.run(&["config", "check"]);
    assert_eq!(run.code, 2, "{}", run.text());
    let lines: Vec<&str> = run
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("Error: ")?.split("backup.toml:").nth(1))
        .filter_map(|rest| rest.split(':').next())
        .collect();
    assert_eq!(lines, ["2", "4", "7", "8", "11", "12", "16", "18"], "{}", run.text());
    let errors = env.run(&["config", "check", "--json"]).events();
    let others = errors[0]["others"].as_array().unwrap();
    assert_eq!((others.len(), errors[0]["exit_code"].as_u64()), (7, Some(2)));
    let first = errors[0]["message"].as_str().unwrap();
    assert!(first.contains("backup.toml:2: there is no source `dat`"), "{first}");
    // A mistake that only follows from another one is not reported.
    env.write(
        "backup.toml",
        "[repositories.main]\nurl = 5\n[sources.data]\nkind = \"files\"\npaths = [\"/\"]\n\
         [jobs.docs]\nsource = \"data\"\nrepository = \"main\"\n",
    );
    let run = env.run(&["config", "check"]);
    assert_eq!(run.stderr.matches("Error: ").count(), 1, "{}", run.text());
}

#[test]
fn config_check_reports_paths_that_do_not_exist() {
    let env = Env::configured(docs_config!(""));
    env.run(&["config", "check"]).ok();
    std::fs::remove_dir_all(env.path("data")).unwrap();
    let run = env.run(&["config", "check"]);
    says(&run, 3, &["backup.toml:7: [sources.data]: ", "/data of `paths` does not exist"]);
    let json = env.run(&["config", "check", "--json"]).json();
    assert_eq!(
        (json["missing"][0]["line"].as_u64(), json["unreadable"].as_array().unwrap().len()),
        (Some(7), 0)
    );
}

#[test]
fn status_says_verified_after_a_verification_only() {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    let plain = env.run(&["status", "docs"]).ok().stdout;
    assert!(plain.contains("completed") && !plain.contains("verified"), "{plain}");
    let runs = env.run(&["status", "--runs"]).ok().stdout;
    assert!(runs.contains("completed") && !runs.contains("verified"), "{runs}");
    env.run(&["verify", "latest"]).ok();
    let verified = env.run(&["status", "docs"]).ok().stdout;
    assert!(verified.contains("completed, verified"), "{verified}");
    let json = env.run(&["status", "docs", "--json"]).ok().json();
    assert_eq!(json["jobs"][0]["last_success"]["verified"], true);
    env.run(&["run", "-q", "docs"]).ok();
    let json = env.run(&["status", "docs", "--json"]).ok().json();
    assert_eq!(json["jobs"][0]["last_success"]["verified"], false);
}

#[test]
fn status_and_schedule_show_the_same_time_zone() {
    let env = Env::configured(docs_config!(
        "schedule = \"30 2 * * *\"\n[schedule]\ntime_zone = \"Asia/Tokyo\"\n"
    ));
    env.run(&["run", "-q", "docs"]).ok();
    let status = env.run(&["status", "docs"]).ok().stdout;
    // 02:30 in Tokyo is 17:30 UTC, on the day before.
    assert!(status.contains(" 02:30") && !status.contains(" 17:30"), "{status}");
    assert!(env.run(&["schedule"]).ok().stdout.contains("02:30"));
}

#[test]
fn missing_repository_that_had_snapshots_is_not_to_be_created() {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    let id = env.latest();
    // The mount point of a disk that is not mounted.
    std::fs::rename(env.path("repo"), env.path("disk")).unwrap();
    std::fs::create_dir(env.path("repo")).unwrap();
    for verb in [&["list"][..], &["run", "docs"], &["check"]] {
        let run = env.run(verb);
        says(&run, 10, &[&id[..8], "mount the disk", "do not create a new repository"]);
        assert!(!run.stderr.contains("backup init"), "{}", run.text());
    }
    std::fs::remove_dir(env.path("repo")).unwrap();
    says(&env.run(&["list"]), 10, &[&id[..8], "mount the disk"]);
    // Of another place nothing is known.
    says(&env.run(&["list", "-r", "elsewhere"]), 10, &["backup init"]);
}

#[test]
fn missing_credentials_of_a_store_end_as_refused_ones() {
    let mut env = Env::new();
    env.set("BACKUP_PASSWORD", "secret");
    env.set("AWS_EC2_METADATA_DISABLED", "true");
    let run = env.run(&["list", "-r", "s3://no-such-bucket/x?region=eu-central-1"]);
    says(&run, 2, &["no credentials found"]);
    env.write(
        "backup.toml",
        "[repositories.main]\nurl = \"s3://no-such-bucket/x?region=eu-central-1\"\n\
         store = { access_key_id = \"AKIAIOSFODNN7EXAMPLE\" }\n",
    );
    says(&env.run(&["list", "-r", "main"]), 2, &["the secret access key is missing"]);
}

#[test]
fn storage_counts_no_reserve() {
    let env = Env::configured(
        &docs_config!("").replace("[sources.data]", "reserve = \"2MiB\"\n[sources.data]"),
    );
    env.run(&["run", "-q", "docs"]).ok();
    // The sizes of all files of the repository, by the file system.
    let mut dirs = vec![env.path("repo")];
    let mut bytes = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false if entry.file_name() == "x-reserve" => {}
                false => bytes += entry.metadata().unwrap().len(),
            }
        }
    }
    let json = env.run(&["storage", "--json", "-r", "main"]).ok().json();
    assert_eq!(json["total"]["bytes"].as_u64(), Some(bytes), "{json}");
    assert_eq!(json["reserved_bytes"].as_u64(), Some(2 << 20));
    assert!(json["objects"].get("x-reserve").is_none(), "{json}");
    assert!(bytes < 1 << 20);
    let shown = env.run(&["storage", "-r", "main"]).ok().stdout;
    assert!(shown.contains("Reserve") && shown.contains("2.0 MiB"), "{shown}");
}

#[test]
fn report_counts_no_part_as_a_copy_of_the_job() {
    let env = Env::configured(docs_config!(
        r#"[repositories.offsite]
url = "offsite"
passphrase_file = "key"
"#
    ));
    env.run(&["init", "-q", "-r", "offsite", "--like", "main"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    let whole = env.latest();
    env.run(&["run", "-q", "docs", "--only", "letter.txt"]).ok();
    let part = env.latest();
    assert_ne!(whole, part);
    env.run(&["copy", "-q", &part, "--from", "main", "--to", "offsite"]).ok();
    let copies = || {
        let report = env.run(&["report", "--format", "json"]).ok().json();
        let checks = report["checklist"].as_array().unwrap().clone();
        let of = |check: &&serde_json::Value| {
            check["demand"].as_str().is_some_and(|demand| demand.starts_with("Three copies"))
        };
        let check = checks.iter().find(of).unwrap();
        check["subjects"][0].to_string()
    };
    let only_whole = copies();
    assert!(only_whole.contains(&whole[..8]) && !only_whole.contains(&part[..8]), "{only_whole}");
    assert!(only_whole.contains("1 of 1 snapshot without three copies"), "{only_whole}");
}

#[test]
fn archive_without_a_confirmation_raises_no_alert() {
    let env = Env::configured(docs_config!(
        r#"[repositories.cold]
url = "cold"
passphrase_file = "key"
[notify.file]
kind = "command"
severity = "info"
command = "cat >> told.jsonl"
[alerts.copies]
condition = "copy_failed"
severity = "high"
"#
    ));
    env.run(&["init", "-q", "-r", "cold", "--like", "main"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    let archive = ["archive", "--older-than", "0s", "--to", "cold", "--remove"];
    says(&env.run(&archive), 5, &["needs a confirmation"]);
    env.run(&["alerts", "check"]).ok();
    let told = || std::fs::read_to_string(env.path("told.jsonl")).unwrap_or_default();
    assert_eq!(told(), "");
    let audit = env.run(&["audit", "--operation", "archive", "--json"]).ok().json();
    assert_eq!(audit["records"][0]["status"], "declined", "{audit}");
    // A failure is one: the other repository is gone.
    std::fs::remove_dir_all(env.path("cold")).unwrap();
    assert_eq!(env.run(&[&archive[..], &["--yes"]].concat()).code, 10);
    assert!(told().contains("copy or archive from repository main failed"), "{}", told());
}

#[test]
fn restore_plan_names_changed_and_removed_files() {
    let env = Env::configured(docs_config!(""));
    env.run(&["run", "-q", "docs"]).ok();
    env.write("data/letter.txt", "Dear editor\n");
    env.write("data/later/one.txt", "1");
    env.write("data/later/two.txt", "2");
    env.write("data/stray.txt", "x");
    let restore = ["restore", "latest", "--in-place", "--if-exists", "replace", "--delete"];
    let plan = env.run(&[&restore[..], &["--dry-run"]].concat()).ok().stdout;
    let data = env.path("data").canonicalize().unwrap();
    for line in [
        format!("    file {}/letter.txt; replaces the existing file\n", data.display()),
        format!("    directory {}/later, 2 entries\n", data.display()),
        format!("    file {}/stray.txt\n", data.display()),
        "  remove: 4 entries\n".to_owned(),
    ] {
        assert!(plan.contains(&line), "{line}: {plan}");
    }
    // Unchanged files are not named.
    assert!(!plan.contains("sea.jpg") && !plan.contains("sky.jpg"), "{plan}");
    // The plan is shown before the missing confirmation is an error.
    let refused = env.run(&restore);
    assert_eq!(refused.code, 5);
    assert!(
        refused.stdout.contains("letter.txt; replaces the existing file"),
        "{}",
        refused.text()
    );
    assert_eq!(std::fs::read_to_string(env.path("data/letter.txt")).unwrap(), "Dear editor\n");
    let merged = ["restore", "latest", "--in-place", "--if-exists", "merge", "--dry-run"];
    let plan = env.run(&merged).ok().stdout;
    assert!(plan.contains("letter.txt") && !plan.contains("stray"), "{plan}");
}

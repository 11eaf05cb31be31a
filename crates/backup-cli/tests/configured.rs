//! Configuration files.

use crate::common::Env;

const CONFIG: &str = r#"
[repositories.main]
url = "repo"
passphrase_file = "main.key"
compression = "fast"

[repositories.other]
url = "${OTHER:-other}"
passphrase_env = "OTHER_KEY"

[sources.data]
kind = "files"
paths = ["data"]

[jobs.daily]
source = "data"
repository = "main"
tier = "daily"
exclude = ["*.jpg"]
tags = ["example"]

[jobs.photos]
source = "data"
repository = "other"
include = ["*.jpg"]
"#;

fn configured() -> Env {
    let env = Env::new();
    env.write_tree();
    env.write("backup.toml", CONFIG);
    env
}

#[test]
fn runs_jobs() {
    let env = configured();
    env.run(&["init", "-r", "main", "--generate-key"]).ok().snapshot("configured_init");
    env.run(&["run", "daily"]).ok().snapshot("configured_run");
    env.run(&["show", "latest", "-r", "main"]).ok().snapshot("configured_show");
    // One that fails does not keep the others from running.
    let run = env.run(&["run", "photos", "daily"]).snapshot("configured_one_fails");
    assert_eq!(run.code, 12);
    env.run_with(&["init", "-r", "other"], &[("OTHER_KEY", "secret")]).ok();
    env.run_with(&["run", "photos", "daily", "-q"], &[("OTHER_KEY", "secret")]).ok();
    let list =
        env.run_with(&["list", "-r", "other", "--json"], &[("OTHER_KEY", "secret")]).ok().json();
    assert_eq!(list["snapshots"][0]["files"], 2);
    // A flag replaces the job's own repository.
    env.run_with(&["run", "-q", "photos", "-r", "main"], &[("OTHER_KEY", "secret")]).ok();
    assert_eq!(
        env.run(&["list", "-r", "main", "--json"]).ok().json()["snapshots"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn list_of_a_job_uses_the_repository_of_the_job() {
    let env = configured();
    env.run(&["init", "-r", "main", "--generate-key"]).ok();
    env.run(&["run", "-q", "daily"]).ok();
    assert_eq!(env.run(&["prune"]).code, 2, "the repository is ambiguous");
    let list = env.run(&["list", "--job", "daily", "--json"]).ok().json();
    assert_eq!(list["repository"], env.path("repo").to_str().unwrap());
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1);
    env.run(&["verify", "latest", "--job", "daily", "-q"]).ok();
    env.run(&["restore", "latest", "--job", "daily", "--target", "out", "-q"]).ok();
    assert!(std::fs::read_dir(env.path("out")).unwrap().next().is_some());
    // The variable goes first, as before.
    let run = env.run_with(&["list", "--job", "daily"], &[("BACKUP_REPO", "./nowhere")]);
    assert_eq!(run.code, 10, "{}", run.text());
}

#[test]
fn means_the_same_from_everywhere() {
    let env = configured();
    std::fs::create_dir(env.path("elsewhere")).unwrap();
    let here = |args: &[&str]| {
        let mut command = env.command(args);
        command.current_dir(env.path("elsewhere")).env("BACKUP_CONFIG", env.path("backup.toml"));
        assert!(command.status().unwrap().success(), "{args:?}");
    };
    here(&["init", "-q", "-r", "main", "--generate-key"]);
    here(&["run", "-q", "daily"]);
    assert!(env.path("repo/config").exists() && env.path("main.key").exists());
}

#[test]
fn is_checked_and_shown() {
    let env = configured();
    let run = env.run(&["config", "check"]).snapshot("config_check_without_key");
    assert_eq!(run.code, 3);
    let json = env.run(&["config", "check", "--json"]).json();
    assert_eq!(json["unreadable"][0]["section"], "[repositories.main]", "{json}");
    env.write("main.key", "secret");
    env.run(&["config", "check"]).ok().snapshot("config_check");
    env.run(&["config", "check", "--json"]).ok().snapshot_json("config_check_json");
    env.run_with(&["config", "show"], &[("OTHER", "/srv/other")]).ok().snapshot("config_show");
    env.run(&["config", "show", "--json"]).ok().snapshot_json("config_show_json");
    let schema = env.run(&["config", "schema"]).ok().json();
    assert!(schema["$defs"]["JobConfig"]["properties"]["hooks"].is_object(), "{schema}");
    let example = env.run(&["config", "example", "legal"]).ok().stdout;
    env.write("legal.toml", &example);
    assert_eq!(env.run(&["config", "check", "--config", "legal.toml"]).code, 3, "no key is there");
    assert_eq!(env.run(&["config", "example", "illegal"]).code, 2);
    let example = env.run(&["config", "example"]).ok().stdout;
    env.write("example.toml", &example);
    env.run(&["config", "check", "--config", "example.toml"]).snapshot("config_check_example");
}

#[test]
fn a_broken_configuration_is_reported_once() {
    let env = configured();
    env.run(&["init", "-r", "main", "--generate-key"]).ok();
    env.run(&["run", "-q", "daily"]).ok();
    env.write("backup.toml", &CONFIG.replace("exclude =", "exlude ="));
    for verb in [
        &["status"][..],
        &["run", "daily"],
        &["list"],
        &["doctor"],
        &["alerts"],
        &["alerts", "check"],
        &["audit"],
        &["schedule"],
        &["report"],
        &["cleanup", "--all"],
        &["logs", "status", "daily"],
        &["run", "--source", "data", "-r", "./repo", "--password-file", "main.key"],
        &["list", "-r", "./repo", "--password-file", "main.key"],
        &["status", "-r", "./repo", "--password-file", "main.key"],
    ] {
        let run = env.run(verb);
        let told = run.text().matches("unknown key `exlude`").count();
        assert!(told <= 1, "{verb:?}: {}", run.text());
        assert!(run.code == 0 || told == 1, "{verb:?}: {} {}", run.code, run.text());
    }
}

#[test]
fn mistakes_are_explained() {
    let env = configured();
    env.run(&["run"]).snapshot("error_no_job_given");
    env.run(&["run", "dialy"]).snapshot("error_unknown_job");
    env.run(&["prune"]).snapshot("error_which_repository");
    env.run(&["list", "-r", "mian"]).snapshot("error_misspelt_repository");
    env.write("backup.toml", &CONFIG.replace("exclude =", "exlude ="));
    env.run(&["run", "daily"]).snapshot("error_unknown_key");
    env.run(&["config", "check", "--json"]).snapshot_json("error_unknown_key_json");
    env.run(&["list", "--config", "none.toml"]).snapshot("error_no_configuration");
    // An address needs no configuration, so a mistake in one does not stand in the way.
    assert_eq!(env.run(&["list", "-r", "./nowhere"]).code, 10);
}

#[test]
fn is_made_from_variables() {
    let env = configured();
    env.run(&["config", "from-env"]).snapshot("config_from_env_nothing");
    let variables = [
        ("MONGODB_URI", "mongodb://me:hush@localhost:27017/app"),
        ("MONGODB_BACKUP_PATH", "/backups"),
        ("BACKUP_RETENTION_DAYS", "30"),
        ("BACKUP_SCHEDULE", "0 2 * * *"),
        ("ALERT_EMAIL", "me@example.org"),
    ];
    let made = env.run_with(&["config", "from-env"], &variables).ok().snapshot("config_from_env");
    assert!(!made.text().contains("hush"));
    env.write("made.toml", &made.stdout);
    let run = env.run_with(&["config", "check", "--config", "made.toml"], &variables);
    assert_eq!(run.code, 3, "the key file is not there: {}", run.text());
    let json = env.run_with(&["config", "from-env", "--json"], &variables).ok().json();
    assert_eq!(json["without"], serde_json::json!(["ALERT_EMAIL"]));
}

/// The number of times that the configuration file is opened while a command runs, as the kernel
/// counts it.
fn opens(env: &Env, args: &[&str]) -> usize {
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    // Two opens in a row are one event: a close comes between them.
    let events = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&watch, env.path("backup.toml"), events).unwrap();
    env.run(args).ok();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut opens = 0;
    while let Ok(event) = reader.next() {
        opens += usize::from(event.events().contains(ReadFlags::OPEN));
    }
    opens
}

#[test]
fn commands_read_the_configuration_once_for_any_number_of_jobs() {
    let env = configured();
    env.run(&["init", "-q", "-r", "main", "--generate-key"]).ok();
    for jobs in [1, 40] {
        let repository = "[repositories.main]\nurl = \"repo\"\npassphrase_file = \"main.key\"\n";
        let source = "[sources.data]\nkind = \"files\"\npaths = [\"data\"]\n";
        let job = |at: usize| {
            format!(
                "[jobs.j{at}]\nsource = \"data\"\nrepository = \"main\"\nkeep.last = 1\n\
                 schedule = \"0 2 * * *\"\n"
            )
        };
        let jobs_text: String = (0..jobs).map(job).collect();
        env.write("backup.toml", &format!("{repository}{source}{jobs_text}"));
        for args in [
            &["status"][..],
            &["list"],
            &["schedule"],
            &["advise"],
            &["cleanup", "--all", "--dry-run"],
            &["run", "j0", "--dry-run"],
            &["storage"],
            &["audit", "verify"],
        ] {
            assert_eq!(opens(&env, args), 1, "{args:?} with {jobs} jobs");
        }
    }
}

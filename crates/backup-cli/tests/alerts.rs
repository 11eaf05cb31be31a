//! alerts: what is wrong, who is told, and what is silenced. Messages go to a file by a channel of
//! kind `command`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use backup_control::alive::Alive;
use backup_core::clock::{Clock as _, SystemClock};
use jiff::SignedDuration;

use crate::common::Env;

const CONFIG: &str = r#"
[repositories.main]
url = "repo"
passphrase_file = "key"
quota = "10GiB"

[sources.data]
kind = "files"
paths = ["data"]

[jobs.docs]
source = "data"
repository = "main"
heartbeat = "http://127.0.0.1:[PORT]/ping/hush"

[notify.file]
kind = "command"
severity = "info"
command = "cat >> told.jsonl; echo >> told.jsonl"

[alerts.broken]
condition = "failure"
severity = "critical"

[alerts.full]
condition = "storage_free < 20%"
severity = "warning"

[alerts.restores]
condition = "restore_started"
severity = "info"

[alerts.unsound]
condition = "verify_failed"
severity = "high"
"#;

fn configured() -> Env {
    Env::configured(&CONFIG.replace("heartbeat", "# heartbeat"))
}

/// What was told, as kind and title.
fn told(env: &Env) -> Vec<(String, String)> {
    let text = fs::read_to_string(env.path("told.jsonl")).unwrap_or_default();
    let messages = text.lines().filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    messages
        .map(|m| (m["kind"].as_str().unwrap().to_owned(), m["title"].as_str().unwrap().to_owned()))
        .collect()
}

fn one(kind: &str, title: &str) -> (String, String) {
    (kind.to_owned(), title.to_owned())
}

#[test]
fn a_failure_is_told_once_and_when_it_is_over() {
    let env = configured();
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    let broken = "the backup of docs failed";
    assert_eq!(told(&env), [one("firing", broken)], "once");
    let listed = env.run(&["alerts", "--json"]).ok().json();
    assert_eq!(
        (&listed["alerts"][0]["rule"], &listed["alerts"][0]["phase"]),
        (&"broken".into(), &"firing".into())
    );
    env.run(&["alerts"]).ok().snapshot_table("alerts_firing");
    fs::rename(env.path("away"), env.path("data")).unwrap();
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!(told(&env)[1..], [one("resolved", broken)]);
    env.run(&["alerts"]).ok().snapshot("alerts_none");
}

#[test]
fn restores_damage_and_room_are_told() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    // The first look: what was before is not told.
    env.run(&["alerts", "check"]).ok();
    env.run(&["restore", "-q", "latest", "--target", "out"]).ok();
    let user = env.run(&["status", "--runs", "--json"]).ok().json()["runs"][0]["user"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(told(&env), [one("notice", &format!("{user} restores docs"))]);
    env.run(&["alerts", "check"]).ok();
    assert_eq!(told(&env).len(), 1, "once");
    let pack = env.run(&["storage", "--json"]).ok();
    assert!(pack.stdout.contains("quota_bytes"));
    env.write("backup.toml", &CONFIG.replace("heartbeat", "# heartbeat").replace("10GiB", "1KiB"));
    env.run(&["alerts", "check"]).ok();
    assert_eq!(told(&env)[1..], [one("firing", "0% of repository main is free")]);
    let packs = fs::read_dir(env.path("repo/data")).unwrap().map(|dir| dir.unwrap().path());
    for dir in packs {
        fs::remove_dir_all(dir).unwrap();
    }
    assert_eq!(env.run(&["check", "-q"]).code, 4);
    assert_eq!(told(&env)[2..], [one("firing", "verification of repository main failed")]);
}

/// Also the first restore that this machine makes, before anybody has looked; and while it goes on.
#[test]
fn a_restore_is_told_when_it_begins() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["restore", "-q", "latest", "--target", "out"]).ok();
    assert_eq!(told(&env).len(), 1, "{:?}", told(&env));
}

/// Each event goes to the channels of its rule.
#[test]
fn ends_of_restores_are_routed_by_result() {
    let env = Env::with_repository();
    env.write_tree();
    let channel = |name: &str| {
        format!(
            "[notify.{name}]\nkind = \"command\"\nseverity = \"critical\"\ncommand = \"cat >> \
             {name}.jsonl; echo >> {name}.jsonl\"\n"
        )
    };
    let rules = "[alerts.done]\ncondition = \"restore_finished\"\nseverity = \"info\"\nnotify = \
                 [\"quiet\"]\n[alerts.wrong]\ncondition = \"restore_failed\"\nseverity = \
                 \"critical\"\nnotify = [\"loud\"]\n";
    let base = CONFIG.replace("heartbeat", "# heartbeat");
    let base = base.split("[notify.file]").next().unwrap();
    env.write("backup.toml", &format!("{base}{}{}{rules}", channel("quiet"), channel("loud")));
    let titles = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(env.path(&format!("{name}.jsonl"))).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.is_empty());
        let parsed = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed.map(|message| message["title"].as_str().unwrap().to_owned()).collect()
    };
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["restore", "-q", "latest", "--target", "out"]).ok();
    let done = titles("quiet");
    assert!(done.len() == 1 && done[0].starts_with("the restore of docs by "), "{done:?}");
    assert!(done[0].ends_with(" finished") && titles("loud").is_empty(), "{done:?}");
    // A file is in the way: nothing can be restored below it.
    env.write("file", "");
    assert_ne!(env.run(&["restore", "-q", "latest", "--target", "file/out"]).code, 0);
    // The repository is away: the restore does not even start.
    fs::rename(env.path("repo/data"), env.path("away")).unwrap();
    fs::rename(env.path("repo/index"), env.path("away.index")).unwrap();
    assert_ne!(env.run(&["restore", "-q", "latest", "--target", "other", "--no-cache"]).code, 0);
    let failed = titles("loud");
    assert!(
        failed.len() == 2 && failed.iter().all(|title| title.ends_with(" failed")),
        "{failed:?}"
    );
    // A mistake of the user is no failed restore.
    assert_ne!(env.run(&["restore", "-q", "nothing", "--target", "other"]).code, 0);
    env.run(&["alerts", "check"]).ok();
    assert_eq!((titles("quiet").len(), titles("loud").len()), (1, 2), "once");
}

/// The rules of other jobs wait for `alerts check`.
#[test]
fn rules_after_a_run_are_about_one_job() {
    let env = configured();
    let other = "\n[jobs.other]\nsource = \"data\"\nrepository = \"main\"\n";
    env.write("backup.toml", &format!("{}{other}", CONFIG.replace("heartbeat", "# heartbeat")));
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["run", "-q", "other"]).ok();
    // The other one fails on this machine, and the process dies before it evaluates its rules.
    let catalog = env.path("home/.local/state/backup/catalog.db");
    let catalog = rusqlite::Connection::open(catalog).unwrap();
    let changed =
        catalog.execute("UPDATE runs SET state = 'failed' WHERE job = 'other'", []).unwrap();
    drop(catalog);
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!((changed, told(&env)), (1, vec![]));
    env.run(&["alerts", "check"]).ok();
    assert_eq!(told(&env), [one("firing", "the backup of other failed")]);
}

/// The file is moved, then copied: the alert neither fires again nor is lost.
#[test]
fn moved_configuration_does_not_repeat_alerts() {
    let env = configured();
    let absolute = CONFIG
        .replace("heartbeat", "# heartbeat")
        .replace("\"repo\"", &format!("{:?}", env.path("repo")))
        .replace("\"key\"", &format!("{:?}", env.path("key")))
        .replace("[\"data\"]", &format!("[{:?}]", env.path("data")));
    env.write("backup.toml", &absolute);
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    fs::create_dir(env.path("etc")).unwrap();
    fs::rename(env.path("backup.toml"), env.path("etc/moved.toml")).unwrap();
    fs::copy(env.path("etc/moved.toml"), env.path("copied.toml")).unwrap();
    for file in ["etc/moved.toml", "copied.toml"] {
        assert_ne!(env.run(&["--config", file, "run", "-q", "docs"]).code, 0);
        env.run(&["--config", file, "alerts", "check"]).ok();
    }
    let broken = "the backup of docs failed";
    assert_eq!(told(&env), [one("firing", broken)]);
    fs::rename(env.path("away"), env.path("data")).unwrap();
    env.run(&["--config", "copied.toml", "run", "-q", "docs"]).ok();
    assert_eq!(told(&env)[1..], [one("resolved", broken)]);
    env.run(&["--config", "etc/moved.toml", "alerts", "check"]).ok();
    assert_eq!(told(&env).len(), 2);
}

fn plugin(env: &Env, args: &[&str]) -> (i32, String) {
    let run = env.run(args);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.text());
    (run.code, run.stdout.trim_end().to_owned())
}

#[test]
fn status_is_a_plugin_for_monitoring_systems() {
    let env = configured();
    let nagios = || plugin(&env, &["status", "--nagios"]);
    let (code, line) = nagios();
    assert_eq!(code, 2, "{line}");
    assert!(line.starts_with("BACKUP CRITICAL - docs: there is no successful backup | "), "{line}");
    env.run(&["run", "-q", "docs"]).ok();
    let (code, line) = nagios();
    assert!(code == 0 && line.starts_with("BACKUP OK - 1 job, oldest success "), "{code} {line}");
    // 12 + 5 * 400 + 5 * 800 bytes of `write_tree`.
    assert!(line.contains(" | 'jobs'=1;;;0 'alerts'=0;;;0 'docs_age'="), "{line}");
    assert!(line.contains(" 'docs_size'=6012B;;;0 "), "{line}");
    // An alert of severity `warning`.
    let quota = CONFIG.replace("heartbeat", "# heartbeat").replace("10GiB", "1KiB");
    env.write("backup.toml", &quota);
    assert_eq!(env.run(&["alerts", "check", "--exit-code"]).code, 1);
    assert_eq!(env.run(&["alerts", "check"]).code, 0, "the usual codes");
    let (code, line) = nagios();
    assert!(code == 1 && line.contains("full: 0% of repository main is free: "), "{line}");
    let silence = ["alerts", "silence", "full", "--for", "2h", "--reason", "known"];
    env.run(&silence).ok();
    assert_eq!(env.run(&["alerts", "check", "--exit-code"]).code, 0);
    assert_eq!(nagios().0, 0);
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    assert_eq!(env.run(&["alerts", "check", "--exit-code"]).code, 2, "`broken` is critical");
    let (code, line) = nagios();
    assert!(code == 2 && line.contains("docs: the last run failed: "), "{line}");
}

#[test]
fn errors_are_unknown_to_monitoring_systems() {
    let env = configured();
    env.run(&["run", "-q", "docs"]).ok();
    let unknown = |args: &[&str]| {
        let (code, line) = plugin(&env, args);
        assert!(code == 3 && line.starts_with("BACKUP UNKNOWN - "), "{code} {line}");
        line
    };
    assert!(unknown(&["status", "--nagios", "dosc"]).contains("there is no job `dosc`"));
    unknown(&["status", "--nagios", "--config", "nowhere.toml"]);
    assert_eq!(env.run(&["alerts", "check", "--exit-code", "--config", "nowhere.toml"]).code, 3);
    assert_eq!(env.run(&["status", "--nagios", "--runs"]).code, 3, "a mistake of the command line");
    fs::rename(env.path("repo"), env.path("gone")).unwrap();
    assert!(unknown(&["status", "--nagios"]).contains("docs: repository "));
    assert_eq!(env.run(&["alerts", "check", "--exit-code"]).code, 3);
    fs::rename(env.path("gone"), env.path("repo")).unwrap();
    env.write("backup.toml", "nonsense");
    unknown(&["status", "--nagios"]);
    assert_eq!(env.run(&["alerts", "check", "--exit-code"]).code, 3);
}

#[test]
fn what_was_found_wrong_stays_until_as_much_is_found_sound() {
    let env = configured();
    // Most of what is stored is content.
    let numbers: String = (0..40_000_u64)
        .map(|number| format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    env.write("data/numbers", &numbers);
    env.run(&["run", "-q", "docs"]).ok();
    let flip = || {
        let packs = fs::read_dir(env.path("repo/data")).unwrap().map(|dir| dir.unwrap().path());
        let packs = packs.flat_map(|dir| fs::read_dir(dir).unwrap()).map(|file| file.unwrap());
        let pack = packs.max_by_key(|file| file.metadata().unwrap().len()).unwrap().path();
        let mut bytes = fs::read(&pack).unwrap();
        bytes[40] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    };
    flip();
    assert_eq!(env.run(&["check", "-q", "--read-data"]).code, 4);
    let wrong = "verification of repository main failed";
    assert_eq!(told(&env), [one("firing", wrong)]);
    env.run(&["check", "-q"]).ok();
    assert_eq!(told(&env).len(), 1, "that everything is there does not say that it is sound");
    let checklist = |env: &Env| {
        let report = env.run(&["report", "--format", "json"]).ok().json();
        let checks = report["checklist"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["demand"] == "Backups are verified").unwrap()["met"]
            .clone()
    };
    assert_eq!(checklist(&env), "no");
    flip();
    env.run(&["check", "-q", "--read-data"]).ok();
    assert_eq!(told(&env)[1..], [one("resolved", wrong)]);
    assert_eq!(checklist(&env), "yes");
}

#[test]
fn silences_are_recorded_and_heard() {
    let env = configured();
    let typo = env.run(&[
        "alerts",
        "silence",
        "broken",
        "--on",
        "dosc",
        "--for",
        "2h",
        "--reason",
        "the disk moves",
    ]);
    assert!(typo.code == 2 && typo.stderr.contains("docs"), "{}", typo.stderr);
    env.run(&[
        "alerts",
        "silence",
        "broken",
        "--on",
        "docs",
        "--for",
        "2h",
        "--reason",
        "the disk moves",
    ])
    .ok();
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    assert!(told(&env).is_empty());
    let listed = env.run(&["alerts", "--json"]).ok().json();
    assert_eq!(listed["alerts"][0]["silenced"], true);
    assert_eq!(listed["silences"][0]["reason"], "the disk moves");
    let id = listed["silences"][0]["id"].as_str().unwrap();
    env.run(&["alerts", "unsilence", id]).ok();
    env.run(&["alerts", "check"]).ok();
    assert_eq!(told(&env), [one("firing", "the backup of docs failed")]);
    let records = env.run(&["audit", "--json", "--operation", "silence"]).ok().json();
    assert_eq!(records["records"][0]["details"]["reason"], "the disk moves");
    let unknown = env.run(&["alerts", "unsilence", id]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("there is no silence"),
        "{}",
        unknown.text()
    );
    env.run(&["alerts", "silence", "brokn", "--for", "2h", "--reason", "x"])
        .snapshot("alerts_silence_unknown");
}

#[test]
fn a_channel_that_is_away_loses_nothing_and_stops_nothing() {
    let env = configured();
    let away = CONFIG
        .replace("heartbeat", "# heartbeat")
        .replace("cat >> told.jsonl; echo >> told.jsonl", "exit 75");
    env.write("backup.toml", &away);
    fs::rename(env.path("data"), env.path("away")).unwrap();
    let failed = env.run(&["run", "docs"]);
    assert!(
        failed.code == 1 && failed.stderr.contains("waits for channel file"),
        "{}",
        failed.text()
    );
    env.write("backup.toml", &CONFIG.replace("heartbeat", "# heartbeat"));
    env.run(&["notify", "send"]).ok();
    assert_eq!(told(&env), [one("firing", "the backup of docs failed")]);
}

#[test]
fn a_daemon_that_gives_no_sign_of_life_is_told() {
    let env = configured();
    let rule = "\n[alerts.silent]\ncondition = \"daemon_silent > 2min\"\nseverity = \"critical\"\n";
    env.write("backup.toml", &format!("{}{rule}", CONFIG.replace("heartbeat", "# heartbeat")));
    let lives = |seconds: i64| {
        let at = SystemClock.now() - SignedDuration::from_secs(seconds);
        let alive = Alive { pid: 7, at, version: "1.2.3".to_owned() };
        alive.write(&env.path("home/.local/state/backup")).unwrap();
    };
    env.run(&["alerts", "check"]).ok();
    assert!(told(&env).is_empty(), "there is none");
    lives(60);
    env.run(&["alerts", "check"]).ok();
    assert!(told(&env).is_empty(), "it lives");
    lives(180);
    env.run(&["alerts", "check"]).ok();
    let silent = "the daemon is silent";
    assert_eq!(told(&env), [one("firing", silent)]);
    lives(0);
    // Whatever else looks at rules sees it too.
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!(told(&env)[1..], [one("resolved", silent)]);
}

#[test]
fn long_silences_and_pauses_fire_an_alert() {
    let env = configured();
    let rule = "\n[alerts.long]\ncondition = \"suppressed > 1h\"\nseverity = \"high\"\n";
    env.write("backup.toml", &format!("{}{rule}", CONFIG.replace("heartbeat", "# heartbeat")));
    let silence = |rule: &str, length: &str| {
        env.run(&["alerts", "silence", rule, "--for", length, "--reason", "test"])
    };
    for (rule, length, error) in
        [("broken", "32d", "at most 31 days"), ("long", "1h", "cannot be silenced")]
    {
        let refused = silence(rule, length);
        assert!(refused.code == 2 && refused.stderr.contains(error), "{}", refused.stderr);
    }
    silence("broken", "31d").ok();
    // As the daemon of this machine stores pauses.
    let state = "home/.local/state/backup";
    let pause = |minutes: i64| {
        let since = SystemClock.now() - SignedDuration::from_mins(minutes);
        let task = format!(r#"{{"paused":true,"paused_since":"{since}"}}"#);
        env.write(
            &format!("{state}/daemon/tasks.json"),
            &format!(r#"{{"tasks":{{"docs/daily":{task}}}}}"#),
        );
    };
    pause(50);
    env.run(&["alerts", "check"]).ok();
    assert!(told(&env).is_empty(), "neither lasts for an hour");
    pause(70);
    env.run(&["alerts", "check"]).ok();
    let title = "a silence or a pause lasts for long";
    assert_eq!(told(&env), [one("firing", title)]);
    let text = fs::read_to_string(env.path("told.jsonl")).unwrap();
    assert!(text.contains("task docs/daily is paused for"), "{text}");
    // The silence as if it had begun two hours ago.
    let ledger = fs::read_dir(env.path(state)).unwrap().map(|entry| entry.unwrap().path());
    let ledger = ledger.into_iter().find(|path| path.ends_with("alerts.json")).unwrap();
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&ledger).unwrap()).unwrap();
    let since = SystemClock.now() - SignedDuration::from_hours(2);
    json["silences"][0]["since"] = since.to_string().into();
    fs::write(&ledger, json.to_string()).unwrap();
    pause(50);
    let listed = env.run(&["alerts", "check"]).ok();
    assert!(listed.stdout.contains("rule broken is silenced by"), "{}", listed.stdout);
    fs::remove_file(env.path(&format!("{state}/daemon/tasks.json"))).unwrap();
    let id = env.run(&["alerts", "--json"]).ok().json()["silences"][0]["id"].clone();
    env.run(&["alerts", "unsilence", id.as_str().unwrap()]).ok();
    env.run(&["alerts", "check"]).ok();
    assert_eq!(told(&env)[1..], [one("resolved", title)]);
}

#[test]
fn mistakes_in_rules_have_lines() {
    let env = configured();
    for (wrong, name) in [
        (
            "[alerts.a]\ncondition = \"stale > soon\"\nseverity = \"high\"",
            "alerts_config_condition",
        ),
        (
            "[alerts.a]\ncondition = \"failure\"\nseverity = \"high\"\nnotify = [\"fle\"]",
            "alerts_config_channel",
        ),
        (
            "[alerts.a]\ncondition = \"daemon_silent\"\nseverity = \"info\"\nonly = [\"x\"]",
            "alerts_config_daemon",
        ),
        (
            "[alerts.a]\ncondition = \"failure\"\nseverity = \"info\"\nfloor = \"1min\"",
            "alerts_config_floor",
        ),
        (
            "[alerts.a]\ncondition = \"success\"\nseverity = \"info\"\nrepeat = \"1h\"",
            "alerts_config_repeat",
        ),
    ] {
        env.write(
            "backup.toml",
            &format!("{}\n{wrong}\n", CONFIG.replace("heartbeat", "# heartbeat")),
        );
        env.run(&["config", "check"]).snapshot(name);
    }
}

#[test]
fn a_heartbeat_follows_success_and_is_no_secret_told() {
    let env = Env::with_repository();
    env.write_tree();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    env.write("backup.toml", &CONFIG.replace("[PORT]", &port));
    let server = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in ["503 No", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            requests
                .push(String::from_utf8_lossy(&request[..read]).lines().next().unwrap().to_owned());
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
        requests
    });
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!(server.join().unwrap(), ["GET /ping/hush HTTP/1.1"; 2]);
    // Nobody listens any more: a warning, without the address, and the backup is what it is.
    let alone = env.run(&["run", "docs"]).ok();
    assert!(
        alone.stderr.contains("cannot send the heartbeat of job docs")
            && !alone.stderr.contains("hush"),
        "{}",
        alone.text()
    );
    // A backup of a part is no success of the job.
    let part = env.run(&["run", "docs", "--only", "letter.txt"]).ok();
    assert!(!part.stderr.contains("heartbeat"), "{}", part.text());
    assert!(!env.run(&["config", "show"]).ok().stdout.contains("hush"));
    let manifest = env.run(&["show", "latest", "--json"]).ok().stdout;
    assert!(!manifest.contains("hush"), "{manifest}");
}

/// A backup of a part is neither a success of its job, nor of an unusual size.
#[test]
fn narrowed_backup_does_not_count_for_alerts_and_status() {
    let rules = "
[alerts.late]
condition = \"stale > 4s\"
severity = \"high\"

[alerts.size]
condition = \"size_anomaly > 10%\"
severity = \"high\"
";
    let env = Env::configured(&(CONFIG.replace("heartbeat", "# heartbeat") + rules));
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    let whole = env.latest();
    std::thread::sleep(std::time::Duration::from_secs(5));
    fs::rename(env.path("data"), env.path("away")).unwrap();
    assert_ne!(env.run(&["run", "-q", "docs"]).code, 0);
    fs::rename(env.path("away"), env.path("data")).unwrap();
    env.run(&["run", "-q", "docs", "--only", "letter.txt"]).ok();
    env.run(&["alerts", "check", "-q"]).ok();
    let firing = || {
        let listed = env.run(&["alerts", "--json"]).ok().json();
        let alerts = listed["alerts"].as_array().unwrap().clone();
        alerts.iter().map(|alert| alert["rule"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(firing(), ["broken", "late"]);
    let nagios = env.run(&["status", "--nagios"]);
    assert!(nagios.code == 2 && nagios.stdout.contains("the last run failed"), "{}", nagios.text());

    // Read from the catalog: the repository is away.
    fs::rename(env.path("repo"), env.path("gone")).unwrap();
    let status = env.run(&["status", "--json"]).events().pop().unwrap()["jobs"][0].clone();
    assert_eq!(status["last_success"]["snapshot"], whole);
    assert_eq!(status["last_run"]["is_part"], true, "{status}");
    assert!(env.run(&["status"]).stdout.contains("completed, part"));
    fs::rename(env.path("gone"), env.path("repo")).unwrap();

    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["alerts", "check", "-q"]).ok();
    assert!(!firing().contains(&"broken".to_owned()), "{:?}", firing());
}

//! A daemon that is driven from elsewhere: `backup --server`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | through its socket: every verb |
//! | `tls.rs` | by TLS, with tokens of each role and with wrong ones |

mod tls;

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{CONFIG, Daemon, Place, program};

/// What the daemon of these tests has besides: nothing happens by itself, a job that waits for a
/// file, a rule, another repository.
fn config(api: &str) -> String {
    let quiet = CONFIG.replace("* * * * *", "0 0 1 1 *").replace("*/2 * * * *", "0 0 1 1 *");
    let quiet = quiet.replace("*/10 * * * *", "0 0 1 1 *");
    format!(
        "{quiet}{api}\n\
         [repositories.other]\n url = \"other\"\n passphrase_file = \"key\"\n\
         [jobs.slow]\n source = \"more\"\n repository = \"main\"\n\
         hooks = {{ before = \"while [ ! -e go ]; do sleep 0.1; done\" }}\n\
         [alerts.stale]\n condition = \"stale > 24h\"\n severity = \"high\"\n"
    )
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Somebody who has a token, or is at the socket, and has no configuration.
struct Elsewhere<'a> {
    place: &'a Place,
    env: Vec<(&'a str, String)>,
}

impl<'a> Elsewhere<'a> {
    fn at_socket(place: &'a Place) -> Self {
        let socket = format!("unix://{}", place.path("state/backupd.sock").display());
        Self { place, env: vec![("BACKUP_SERVER", socket)] }
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let elsewhere = self.place.path("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        let mut command = self.place.prepare(program());
        command
            .current_dir(&elsewhere)
            .env("HOME", &elsewhere)
            .env("BACKUP_STATE_DIR", elsewhere.join("state"));
        command.envs(self.env.iter().map(|(name, value)| (*name, value.as_str()))).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Said {
        finished(self.spawn(args))
    }
}

fn finished(child: Child) -> Said {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn here(place: &Place, args: &[&str]) -> Said {
    finished(
        place
            .prepare(program())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    )
}

fn started(place: &Place) -> Daemon {
    place.backup(&["init", "-q", "-r", "other"]);
    let mut daemon = place.daemon("log", &[]);
    daemon.wait_for(1, "is ready");
    daemon
}

#[test]
fn what_is_looked_at_is_as_it_is_there() {
    let place = Place::new(&config(""));
    let _daemon = started(&place);
    place.backup(&["run", "docs", "-q"]);
    let elsewhere = Elsewhere::at_socket(&place);
    let lines = [
        "list -r main",
        "list -r main --job docs --json",
        "list -r other",
        "show -r main latest",
        "show -r main latest --json",
        "show -r main gone",
        "ls -r main latest -R",
        "ls -r main latest --json",
        "find -r main **/a",
        "diff -r main latest latest",
        "timeline docs",
        "timeline nosuch",
        "status",
        "status docs --json",
        "status --runs",
        "status --date today",
        "schedule",
        "schedule --days 3",
        "schedule --json",
        "logs run latest",
        "logs run latest --json",
        "logs status docs",
        "analyze latest",
        "advise",
        "alerts",
        "alerts list --json",
        "audit --limit 1",
        "audit --operation backup --json",
        "audit verify --offline",
        "storage -r main --json",
        "doctor -r main",
        "doctor nosuch",
        "report --format json --since 1d -q",
        "list -r main -q",
    ];
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let began = Instant::now();
        loop {
            let (there, from_here) = (here(&place, &words), elsewhere.run(&words));
            // Ages and the moment of a report pass meanwhile.
            let same = |said: &Said| Said {
                out: without_times(&said.out),
                err: without_times(&said.err),
                ..said.clone()
            };
            if same(&there) == same(&from_here) {
                assert!(from_here.code.is_some());
                break;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{line}\n{there:#?}\n{from_here:#?}"
            );
        }
    }
}

/// What is another one at each look.
fn without_times(text: &str) -> String {
    let mut kept = String::new();
    let mut in_digits = false;
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            if !in_digits {
                kept.push('#');
            }
            in_digits = true;
        } else {
            kept.push(letter);
            in_digits = false;
        }
    }
    kept
}

#[test]
fn work_is_begun_followed_and_told_as_by_the_verb_itself() {
    let place = Place::new(&config(""));
    let _daemon = started(&place);
    let elsewhere = Elsewhere::at_socket(&place);
    let run = elsewhere.run(&["run", "docs", "--type", "full", "--tier", "daily"]).ended(0);
    assert!(
        run.out.starts_with("Snapshot ")
            && run.out.contains(" saved: full")
            && run.out.contains("Stored"),
        "{run:?}"
    );
    let twice = elsewhere.run(&["run", "docs", "more", "--json"]).ended(0);
    let summary = twice.json();
    assert_eq!(
        (&summary["event"], &summary["job"]),
        (&Value::from("summary"), &Value::from("more")),
        "{twice:?}"
    );
    assert_eq!(
        twice.out.lines().filter(|line| line.contains("\"summary\"")).count(),
        2,
        "{twice:?}"
    );
    assert_eq!(place.json(&["list", "-r", "main"])["snapshots"].as_array().map(Vec::len), Some(3));
    // With what a daemon is told, it is the daemon's user who is recorded, on behalf of whoever
    // asked.
    assert!(elsewhere.run(&["audit", "--operation", "backup"]).ended(0).out.contains("docs"));

    let verified = elsewhere.run(&["verify", "latest", "--job", "docs"]).ended(0);
    assert!(verified.out.contains("verified: "), "{verified:?}");
    assert!(
        elsewhere
            .run(&["check", "-r", "main", "--read-data"])
            .ended(0)
            .out
            .contains("No damage found")
    );
    let target = place.path("restored");
    let words = ["restore", "latest", "--job", "docs", "--target", target.to_str().unwrap()];
    let planned = elsewhere.run(&[&words[..], &["--dry-run"]].concat()).ended(0);
    let there = here(&place, &[&words[..], &["-r", "main", "--dry-run"]].concat()).ended(0);
    assert_eq!(planned.out, there.out);
    assert!(!target.exists());
    assert!(elsewhere.run(&words).ended(0).out.contains("restored to"));
    assert_eq!(
        std::fs::read_to_string(target.join(place.path("docs/a").strip_prefix("/").unwrap()))
            .unwrap(),
        "0"
    );
    // What is there already is not touched, and the exit code is that of the program.
    let again = elsewhere.run(&words).ended(5);
    assert!(again.err.contains("Error: "), "{again:?}");

    assert_eq!(
        elsewhere.run(&["copy", "--from", "main", "--to", "other", "--all"]).ended(0).err,
        ""
    );
    assert_eq!(place.json(&["list", "-r", "other"])["snapshots"].as_array().map(Vec::len), Some(3));
    elsewhere.run(&["archive", "-r", "main", "--to", "other", "--older-than", "90d"]).ended(0);
    elsewhere.run(&["prune", "-r", "main"]).ended(5);
    elsewhere.run(&["prune", "-r", "main", "--yes"]).ended(0);
    elsewhere.run(&["cleanup", "--all", "--yes"]).ended(0);
    elsewhere.run(&["alerts", "check"]).ended(0);
    let silenced = elsewhere
        .run(&["alerts", "silence", "stale", "--for", "2h", "--reason", "moving", "--json"])
        .ended(0);
    let id = silenced.json()["silence"]["id"].as_str().unwrap().to_owned();
    assert!(elsewhere.run(&["alerts"]).out.contains(&id));
    elsewhere.run(&["alerts", "unsilence", &id]).ended(0);
    elsewhere.run(&["alerts", "unsilence", &id]).ended(1);
    elsewhere.run(&["schedule", "pause", "docs/daily"]).ended(0);
    assert_eq!(
        elsewhere.run(&["running", "--json"]).ended(0).json()["paused"],
        serde_json::json!(["docs/daily"])
    );
    assert!(elsewhere.run(&["running"]).ended(0).err.contains("Paused tasks: docs/daily."));
    for said in [elsewhere.run(&["schedule"]), here(&place, &["schedule"])] {
        let line = said.out.lines().find(|line| line.contains("docs/daily")).unwrap().to_owned();
        assert!(
            line.contains("paused")
                && !line.contains("20")
                && said.out.matches("paused").count() == 1,
            "{said:?}"
        );
    }
    elsewhere.run(&["schedule", "resume"]).ended(0);
    assert!(!elsewhere.run(&["schedule"]).ended(0).out.contains("paused"));
    let unknown = elsewhere.run(&["schedule", "pause", "nosuch"]).ended(1);
    assert!(unknown.err.contains("backup schedule --server"), "{unknown:?}");
    elsewhere.run(&["run", "nosuch"]).ended(1);
    // Nothing is begun of what has a mistake in it.
    let ended = || {
        elsewhere.run(&["running", "--ended", "--json"]).ended(0).json()["ended"]
            .as_array()
            .unwrap()
            .len()
    };
    let before = ended();
    let unknown = elsewhere.run(&["run", "docs", "nosuch", "none"]).ended(2);
    assert!(unknown.err.contains("no job or group nosuch, none"), "{unknown:?}");
    assert_eq!(ended(), before);
    let ended = elsewhere.run(&["running", "--ended", "--json"]).ended(0).json();
    assert!(ended["ended"].as_array().unwrap().len() >= 10, "{ended}");
    // The daemon of this machine needs no name.
    assert!(here(&place, &["running"]).ended(0).err.contains("No operation is running or waiting"));
    assert!(here(&place, &["running", "--ended"]).ended(0).out.contains("backup docs"));
}

/// Waits for something that goes on.
fn wait_for_slow(elsewhere: &Elsewhere<'_>) -> String {
    let began = Instant::now();
    loop {
        let running = elsewhere.run(&["running", "--json"]).ended(0).json();
        let found =
            running["running"].as_array().unwrap().iter().find(|item| !item["since"].is_null());
        if let Some(found) = found {
            return found["id"].as_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{running}");
    }
}

#[test]
fn whoever_leaves_leaves_it_to_the_daemon_and_whoever_cancels_stops_it() {
    let place = Place::new(&config(""));
    let _daemon = started(&place);
    let elsewhere = Elsewhere::at_socket(&place);
    let followed = elsewhere.spawn(&["run", "slow"]);
    let id = wait_for_slow(&elsewhere);
    // It goes on: the same once more is refused, and Ctrl-C changes nothing.
    assert!(elsewhere.run(&["run", "slow"]).ended(11).err.contains(&id));
    kill_process(Pid::from_raw(followed.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let left = finished(followed).ended(130);
    assert!(left.err.contains(&format!("backup cancel {id} --server")), "{left:?}");
    assert_eq!(wait_for_slow(&elsewhere), id);
    elsewhere.run(&["cancel", &id]).ended(0);
    elsewhere.run(&["cancel", "nosuch"]).ended(1);
    let began = Instant::now();
    while elsewhere.run(&["running", "--json"]).json()["running"] != serde_json::json!([]) {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    // Whoever still follows it is told.
    let followed = elsewhere.spawn(&["run", "slow"]);
    let id = wait_for_slow(&elsewhere);
    elsewhere.run(&["cancel", &id]).ended(0);
    finished(followed).ended(130);
    place.write("go", "");
    elsewhere.run(&["run", "slow"]).ended(0);
}

#[test]
fn a_daemon_that_goes_away_is_found_again() {
    let place = Place::new(&config(""));
    let mut daemon = started(&place);
    let elsewhere = Elsewhere::at_socket(&place);
    let mut followed = elsewhere.spawn(&["run", "slow"]);
    wait_for_slow(&elsewhere);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
    let away = elsewhere.run(&["list"]).ended(1);
    assert!(
        away.err.contains("cannot reach the daemon at ") && away.err.contains("Hint: "),
        "{away:?}"
    );
    if followed.try_wait().unwrap().is_none() {
        // It knows nothing of what was before.
        let mut daemon = place.daemon("log", &[]);
        daemon.wait_for(1, "is ready");
        assert_ne!(followed.wait().unwrap().code(), Some(0));
    }
    let mut text = String::new();
    followed.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!text.is_empty(), "it says what became of it");
}

#[test]
fn what_a_daemon_is_not_told() {
    let place = Place::new(&config(""));
    let _daemon = started(&place);
    let elsewhere = Elsewhere::at_socket(&place);
    let target = place.path("x").display().to_string();
    for line in [
        "key list",
        "init",
        "forget latest",
        "export latest --tar",
        "notify test ops",
        "repair",
        "run --source /etc",
        "run docs -r main",
        "list -r s3://bucket/x",
        "list --password-file key",
        "report --output x.md",
        "report --send ops",
        "restore latest",
        "verify --all",
        "cleanup --all",
        "doctor --renew-locks",
        "quickstart",
    ] {
        let said = elsewhere.run(&line.split(' ').collect::<Vec<_>>());
        assert!(matches!(said.code, Some(2 | 5)), "{line}: {said:?}");
        assert!(said.err.contains("Hint: ") || said.err.contains("Usage: "), "{line}: {said:?}");
    }
    let renamed =
        elsewhere.run(&["restore", "latest", "--target", &target, "--only", "/x"]).ended(2);
    assert!(renamed.err.contains("--only"), "{renamed:?}");
    // What is of this machine is done here, whichever daemon is usual.
    elsewhere.run(&["config", "example"]).ended(0);
    elsewhere.run(&["completions", "bash"]).ended(0);
    let with = |server: &str| {
        Elsewhere {
            place: &place,
            env: vec![("BACKUP_SERVER", server.to_owned()), ("BACKUP_TOKEN", "bkpd_hush".into())],
        }
        .run(&["status"])
        .ended(2)
    };
    for server in [
        "http://backup1:8321",
        "https://me:bkpd_hush@backup1",
        "nosuch",
        "unix://relative",
        "gopher://x",
    ] {
        let said = with(server);
        assert!(said.err.contains("Hint: ") && !said.err.contains("hush"), "{server}: {said:?}");
    }
    assert!(here(&place, &["status", "--token-file", "x"]).ended(2).err.contains("--server"));
}

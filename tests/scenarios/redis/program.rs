//! The program itself, as somebody at a terminal uses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::data::fill;
use super::logs::{mark, work};
use crate::support::cli::Cli;
use crate::support::process::{Outcome, run};
use crate::support::redis::{Redis, Sentinel, Version};
use crate::support::running::Running;

/// What must never be seen anywhere.
const SECRET: &str = "kaixoo:pass/word";

/// A repository, a configuration, and a home of the program.
pub(super) struct Place {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Place {
    /// With a job `cache` of this server.
    fn new(server: &Redis) -> Self {
        let kind = if server.version.is_valkey() { "valkey" } else { "redis" };
        let port = ("CACHE_PORT", server.port().to_string());
        Self::configured(&[port, ("CACHE_PASSWORD", SECRET.to_owned())], |repository| {
            format!(
                r#"
                [repositories.main]
                url = {repository:?}
                passphrase_env = "BACKUP_PASSWORD"
                [sources.cache]
                kind = "{kind}"
                url = "{kind}://backup@127.0.0.1:${{CACHE_PORT}}"
                password_env = "CACHE_PASSWORD"
                name = "the cache"
                [jobs.cache]
                source = "cache"
                repository = "main"
                tier = "daily"
                [jobs.cache.logs]
                flush_after = "200ms"
                "#
            )
        })
    }

    /// With these variables and a configuration for the path of a repository.
    pub(super) fn configured(
        variables: &[(&str, String)],
        config: impl FnOnce(&str) -> String,
    ) -> Self {
        let room = tempfile::tempdir().unwrap();
        let home = ("HOME", room.path().to_str().unwrap().to_owned());
        let environment: BTreeMap<String, String> = variables
            .iter()
            .chain([&home])
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let place =
            Self { cli: Cli::remote(room.path().join("repository"), "key", environment), room };
        std::fs::write(place.path("backup.toml"), config(&place.path("repository"))).unwrap();
        place.done(&["init"]);
        place
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.room.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.cli.command(&[], &[&["--config", &self.path("backup.toml")], arguments].concat())
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    pub(super) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments).stdout(Stdio::null()))
    }

    /// Runs with success, and shows nothing that is secret.
    #[track_caller]
    pub(super) fn done(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments).succeeded();
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(!text.contains("kaixoo"), "{text}");
        text
    }

    /// Fails with that exit code, a hint, and nothing that is secret.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert_eq!(outcome.code, code, "{arguments:?} {text}");
        assert!(text.contains("Hint:") && !text.contains("kaixoo"), "{text}");
        text
    }

    /// Waits until a position can be restored.
    fn reached(&self, at: &str) {
        let started = Instant::now();
        let dir = self.path("never");
        loop {
            let outcome =
                self.run(&["restore", "--job", "cache", "--at", at, "--target", &dir, "--dry-run"]);
            if outcome.code == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{at}: {outcome}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// With the user that the documentation asks for.
fn with_user(version: Version) -> Redis {
    let server = Redis::start(version);
    let password = format!(">{SECRET}");
    let checks = if version == Version::Redis6 { "+acl|getuser" } else { "+acl|dryrun" };
    let rights = ["+psync", "+replconf", "+ping", "+info", "+acl|whoami", checks];
    server.run(&[&["ACL", "SETUSER", "backup", "on", &password][..], &rights].concat());
    server
}

/// By a configuration: doctor, backup, capture while others write, timeline, any moment; as a
/// replica, as files, exported.
pub(super) async fn from_the_first_backup_to_any_moment(version: Version) {
    let server = with_user(version);
    let mut client = server.client();
    work(&mut client, 0);
    let place = Place::new(&server);
    assert!(place.done(&["config", "check"]).contains("Redis at "));
    assert!(place.done(&["doctor", "cache"]).contains("ready for backup"));
    let full = place.done(&["run", "cache"]);
    assert!(full.contains("server the cache"), "{full}");
    let shown = place.done(&["show", "latest", "--json"]);
    assert!(shown.contains("://…@127.0.0.1") && !shown.contains("CACHE_PASSWORD"), "{shown}");
    let exported = place.path("exported");
    place.done(&["export", "latest", "--to", &exported]);
    assert_eq!(
        Redis::on(version, Some(Path::new(&exported)), &[]).debug_digest(),
        server.debug_digest()
    );

    let capturing = place.spawn(&["logs", "follow", "cache"]);
    std::thread::sleep(Duration::from_millis(1500));
    let mut marks = Vec::new();
    for round in 1..4 {
        work(&mut client, round);
        marks.push(mark(&server));
    }
    let last = marks.last().unwrap();
    place.reached(&last.at.to_string());
    second_follower(&place);
    assert!(place.done(&["logs", "status", "cache"]).contains("cache"));
    capturing.stop();
    assert!(place.done(&["timeline", "cache"]).contains(&last.at.branch[..8]));

    // A server that others use is replaced only by whoever wants that.
    let target = Redis::start(version);
    target.run(&["SET", "old", "x"]);
    let address = target.address();
    let at = marks[0].at.to_string();
    let restore = ["restore", "--job", "cache", "--at", &at, "--target", &address];
    let replace = ["--replica", "--if-exists", "replace"];
    assert!(place.fails(2, &restore).contains("replica"));
    place.fails(5, &[&restore[..], &["--replica"]].concat());
    place.fails(5, &[&restore[..], &replace].concat());
    let plan = place.done(&[&restore[..], &replace, &["--dry-run"]].concat());
    assert!(plan.contains("all data of the target, 1 key"), "{plan}");
    assert!(plan.contains("    database db0; replaces 1 key\n"), "{plan}");
    assert_eq!(target.run(&["GET", "old"]).text(), "x");
    let moments = [
        (at.clone(), &marks[0]),
        (marks[1].at.offset.to_string(), &marks[1]),
        (marks[0].time.to_string(), &marks[0]),
        ("latest".to_owned(), last),
    ];
    for (at, mark) in &moments {
        let restore = ["restore", "--job", "cache", "--at", at, "--target", &address, "--yes"];
        place.done(&[&restore[..], &replace].concat());
        assert_eq!(target.debug_digest(), mark.digest, "{at}");
    }
    let directory = place.path("files");
    let said =
        place.done(&["restore", "--job", "cache", "--at", &at, "--target", &directory, "--verify"]);
    assert!(said.contains("--appendonly yes"), "{said}");
    let started = Redis::on(version, Some(Path::new(&directory)), &["--appendonly", "yes"]);
    assert_eq!(started.debug_digest(), marks[0].digest);
    place.fails(5, &["restore", "--job", "cache", "--at", &at, "--target", &directory]);

    // A snapshot of the log stands for its end, however it is taken out.
    place.done(&["logs", "roll-up", "cache"]);
    for (verb, name) in
        [(["restore", "latest", "--target"], "rolled"), (["export", "latest", "--to"], "out")]
    {
        let directory = place.path(name);
        place.done(&[&verb[..], &[directory.as_str()]].concat());
        let started = Redis::on(version, Some(Path::new(&directory)), &["--appendonly", "yes"]);
        assert_eq!(started.debug_digest(), last.digest, "{verb:?}");
    }
    // Key by key only a snapshot itself can be restored: which, is said.
    let without = format!("redis://backup@127.0.0.1:{}", server.port());
    let refused = place.fails(12, &["run", "--source", &without]);
    assert!(refused.contains("no password is given"), "{refused}");
    let part = ["--target", &address, "--if-exists", "merge", "--yes", "--only", "/0/key*"];
    let refused = place.fails(2, &[&["restore", "latest"][..], &part].concat());
    assert!(refused.contains("name the full snapshot of"), "{refused}");
    place.done(&["check", "--read-data"]);
    // An incremental one holds the commands since, out of the server's backlog.
    work(&mut client, 4);
    let before = mark(&server);
    let run = place.done(&["run", "cache", "--type", "incremental"]);
    assert!(!run.contains("This backup is a full one"), "{run}");
    let restore = ["restore", "latest", "--target", &address, "--yes"];
    place.done(&[&restore[..], &replace].concat());
    assert_eq!(target.debug_digest(), before.digest);
}

/// Without a configuration: addresses, keys into another server, what makes no sense.
pub(super) async fn keys_go_where_they_are_wanted(version: Version) {
    let room = tempfile::tempdir().unwrap();
    let socket = room.path().join("server.sock");
    let server = Redis::with(version, &["--unixsocket", socket.to_str().unwrap()]);
    fill(&server);
    let place = Place::new(&server);
    // This user may do everything but what backups need.
    server.run(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        &format!(">{SECRET}"),
        "+@read",
        "+ping",
        "+info",
        "~*",
    ]);
    let weak = format!("redis://reader:{}@127.0.0.1:{}", SECRET.replace('/', "%2F"), server.port());
    let told = place.run(&["doctor", "--source", &weak]);
    let text = format!("{}{}", told.text(), told.stderr);
    assert!(
        told.code == 3 && text.contains("+psync +replconf") && !text.contains("kaixoo"),
        "{told}"
    );
    place.fails(2, &["run", "--source", &weak, "--job", "weak"]);

    place.done(&["run", "--source", &format!("unix://{}", socket.display()), "--job", "local"]);
    let target = Redis::start(version);
    let address = target.address();
    let restore = ["restore", "latest", "--job", "local", "--target", &address];
    let part = ["--only", "/3/hash1:*", "--only", "/3/s1:ttl"];
    let ways = ["--db", "3=7", "--rename", "hash*=copy of hash*", "--expiry", "never", "--verify"];
    let said = place.done(&[&restore[..], &part, &ways].concat());
    assert!(said.contains("4 keys"), "{said}");
    let mut client = target.client();
    client.ok(&["SELECT", "7"]);
    assert_eq!(
        client.ok(&["EXISTS", "copy of hash1:large", "copy of hash1:wide", "s1:ttl"]).number(),
        3
    );
    assert_eq!(client.ok(&["PTTL", "s1:ttl"]).number(), -1);
    let files = place.path("files");
    let to_files = ["restore", "latest", "--job", "local", "--target", &files];
    for (code, arguments) in [
        (2, [&restore[..], &["--db", "x"]].concat()),
        (2, [&restore[..], &["--rename", "a=b"]].concat()),
        (2, [&restore[..], &["--sparse"]].concat()),
        (2, [&restore[..], &["--announce", "me"]].concat()),
        (2, [&restore[..], &["--db", "5=1"]].concat()),
        (1, [&restore[..], &["--only", "/0/nothing"]].concat()),
        (5, [&restore[..], &["--only", "/3/*", "--db", "3=7"]].concat()),
        (5, [&restore[..], &["--if-exists", "replace"]].concat()),
        (2, [&to_files[..], &["--db", "0=1"]].concat()),
        (2, [&to_files[..], &["--only", "/0/*"]].concat()),
        (2, ["restore", "latest", "--job", "local", "--in-place", "--yes"].to_vec()),
        (2, ["export", "latest", "--job", "local", "--to", &files, "--only", "x"].to_vec()),
    ] {
        // Clap has usage lines in the place of hints.
        let outcome = place.run(&arguments);
        assert_eq!(outcome.code, code, "{arguments:?} {outcome}");
        assert!(!Path::new(&files).join("dump.rdb").exists());
    }
    // Everything, in place of what is there.
    target.run(&["SET", "another", "x"]);
    let plan = place.done(&[&restore[..], &["--if-exists", "replace", "--dry-run"]].concat());
    for line in planned(&server, &target) {
        assert!(plan.contains(&line), "{line}: {plan}");
    }
    place.done(&[&restore[..], &["--if-exists", "replace", "--yes", "--verify"]].concat());
    assert_eq!(target.debug_digest(), server.debug_digest());
    place.done(&to_files);
    assert_eq!(
        Redis::on(version, Some(Path::new(&files)), &[]).debug_digest(),
        server.debug_digest()
    );
}

/// Whoever lists snapshots, looks at one or asks how jobs are hears that one stands for no moment.
pub(super) async fn what_is_of_no_moment_is_marked(version: Version) {
    let server = Redis::with(version, &["--rename-command", "PSYNC", ""]);
    server.run(&["ACL", "SETUSER", "backup", "on", &format!(">{SECRET}"), "~*", "+@all"]);
    server.run(&["SET", "k", "v"]);
    let place = Place::new(&server);
    let run = place.run(&["run", "cache"]);
    assert_eq!(run.code, 3, "{run}");
    for verb in [&["list"][..], &["show", "latest"], &["status", "cache"]] {
        let said = place.done(verb);
        assert!(said.contains("not point-in-time"), "{said}");
    }
    let state = place.done(&["show", "latest"]);
    assert!(
        state.lines().any(|line| line.contains("State") && line.contains("not point-in-time")),
        "{state}"
    );
    let json = place.done(&["status", "cache", "--json"]);
    assert!(json.contains("\"point_in_time\":false"), "{json}");
}

/// A second follower of a log waits, and names the job and the holder.
fn second_follower(place: &Place) {
    let mut command = place.command(&["logs", "follow", "cache"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (said, holder) = ("the log is already captured by ", format!("@{host}, job cache"));
    assert!(text.contains(said) && text.contains(&holder), "{text}");
    assert!(!text.contains("capture-"), "a name of a lease says nothing: {text}");
}

/// The lines of a plan that replaces all of `target` by all of `origin`, as the servers count keys.
fn planned(origin: &Redis, target: &Redis) -> Vec<String> {
    let sizes = |server: &Redis| -> Vec<i64> {
        let mut client = server.client();
        let size = |number: i32| {
            client.ok(&["SELECT", &number.to_string()]);
            client.ok(&["DBSIZE"]).number()
        };
        (0..16).map(size).collect()
    };
    let keys = |count: i64| if count == 1 { "1 key".to_owned() } else { format!("{count} keys") };
    let line = |(number, (new, old)): (usize, (i64, i64))| match (new, old) {
        (0, 0) => None,
        (0, old) => Some(format!("    database db{number}, {}\n", keys(old))),
        (new, 0) => Some(format!("    database db{number}, {}\n", keys(new))),
        (new, old) => {
            Some(format!("    database db{number}, {}; replaces {}\n", keys(new), keys(old)))
        }
    };
    let both = sizes(origin).into_iter().zip(sizes(target)).enumerate();
    let lines: Vec<String> = both.filter_map(line).collect();
    assert!(lines.len() > 2, "{lines:?}");
    lines
}

/// `doctor` promises neither a backup nor a log without an answer of the server: exit code 3, and the
/// reason.
pub(super) async fn doctor_promises_only_checked_facts(version: Version) {
    let server = with_user(version);
    let place = Place::new(&server);
    let doctor = |arguments: &[&str]| {
        let outcome = place.run(&[&["doctor"], arguments].concat());
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        let log = text.lines().find(|line| line.contains("Log capture"));
        let log = log.unwrap_or_else(|| panic!("{text}")).replace("Log capture", "");
        (outcome.code, log.trim().to_owned(), text)
    };
    let (code, log, text) = doctor(&["cache"]);
    assert_eq!((code, &*log), (0, "yes"), "{text}");
    let change = |rights: &[&str]| {
        server.run(&[&["ACL", "SETUSER", "backup"], rights].concat());
    };
    // The access list is not allowed, and a server without a backlog would begin a dump.
    change(&["-acl"]);
    let (code, log, text) = doctor(&["cache"]);
    assert_eq!((code, &*log), (3, "could not be checked"), "{text}");
    // With a backlog, the server itself answers.
    place.done(&["run", "cache"]);
    if server.info("repl_backlog_active") == "1" {
        let (code, log, text) = doctor(&["cache"]);
        assert_eq!((code, &*log), (0, "yes"), "{text}");
    }
    change(&["-psync"]);
    let (code, log, text) = doctor(&["cache"]);
    assert_eq!(code, 3, "{text}");
    assert!(log != "yes" && text.contains("+psync"), "{text}");
    change(&["+acl|whoami", "+acl|dryrun", "+acl|getuser"]);
    let (code, log, text) = doctor(&["cache"]);
    assert_eq!((code, &*log), (3, "no"), "{text}");
    let sentinel = Sentinel::watch(version, server.port(), 1, &[]);
    let address = format!("redis://127.0.0.1:{}", sentinel.port());
    place.fails(2, &["run", "--source", &address, "--job", "sentinel"]);
    let (code, log, text) = doctor(&["--source", &address]);
    assert_eq!((code, &*log), (3, "no"), "{text}");
    assert!(text.contains("this is a sentinel") && text.contains("redis+sentinel://"), "{text}");
}

/// `compare` finds a restored copy equal, and names the database with a difference; keys that have
/// expired since the snapshot do not count.
pub(super) async fn compare_names_databases_that_differ(version: Version) {
    let server = with_user(version);
    fill(&server);
    let place = Place::new(&server);
    server.run(&["SET", "soon gone", "x", "PX", "9000"]);
    let begun = Instant::now();
    place.done(&["run", "cache", "--type", "full"]);
    let copy = Redis::start(version);
    let with = copy.address();
    place.done(&["restore", "latest", "--job", "cache", "--target", &with]);
    std::thread::sleep(Duration::from_millis(9100).saturating_sub(begun.elapsed()));
    let compare = |arguments: &[&str]| {
        let named = ["compare", "latest", "--job", "cache", "--with", &with];
        let outcome = place.run(&[&named[..], arguments].concat());
        (outcome.code, format!("{}{}", outcome.text(), outcome.stderr))
    };
    let (code, text) = compare(&[]);
    assert!(code == 0 && text.contains("are equal: 3 objects"), "{code} {text}");
    assert!(text.contains("1 key has expired"), "{text}");
    let mut client = copy.client();
    client.ok(&["SELECT", "3"]);
    client.ok(&["HSET", "hash0:small", "f1", "other"]);
    client.ok(&["PEXPIREAT", "s0:small", "4000000000001"]);
    let (code, text) = compare(&[]);
    assert!(code == 1 && text.contains("db3") && !text.contains("db9"), "{code} {text}");
    // Each of the two differences is found, and the rest is equal.
    for (pattern, expected) in [("/3/hash0:*", 1), ("/3/s0:*", 1), ("/3/zset*", 0), ("/9/*", 0)] {
        let (code, text) = compare(&["--only", pattern]);
        assert_eq!(code, expected, "{pattern}: {text}");
    }
    let rest = ["--exclude", "/3/hash0:small", "--exclude", "/3/s0:small"];
    assert_eq!(compare(&rest).0, 0);
    let (code, text) = compare(&["--only", "/3/nothing"]);
    assert!(code != 0 && text.contains("nothing was compared"), "{code} {text}");
    // A key that only the server has.
    client.ok(&["SELECT", "5"]);
    client.ok(&["SET", "more", "x"]);
    assert!(compare(&["--only", "/5/*"]).1.contains("not in the snapshot"));
    server.run(&["SET", "later", "x"]);
    place.done(&["run", "cache", "--type", "incremental"]);
    let (code, text) = compare(&[]);
    assert!(code != 0 && text.contains("commands after the dump"), "{code} {text}");
}

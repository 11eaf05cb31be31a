//! `backup restore` alone, at a terminal: what is chosen, confirmed and restored there, and that
//! whoever leaves has changed nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::Place;
use crate::support::terminal::{CTRL_C, DOWN, ENTER, ESCAPE, Terminal};

const CONFIG: &str = r#"
    [repositories.main]
    url = "ROOM/main"
    [repositories.other]
    url = "ROOM/other"
    [sources.home]
    kind = "files"
    paths = ["ROOM/home"]
    [sources.letters]
    kind = "files"
    paths = ["ROOM/letters"]
    [jobs.home]
    source = "home"
    repository = "main"
    [jobs.letters]
    source = "letters"
    repository = "main"
"#;

/// Two jobs in one of two repositories: one that was backed up twice, with something else each
/// time, and a newer one.
fn place() -> Place {
    let place = Place::new(CONFIG, &[]);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), text).unwrap();
    };
    for name in ["main", "other"] {
        place.done(&["init", "-r", name]);
    }
    write("home/a b.txt", "the first");
    write("home/photos/sea.jpg", "blue");
    place.done(&["run", "home"]);
    write("home/a b.txt", "the second");
    place.done(&["run", "home"]);
    write("letters/dear.txt", "Dear reader");
    place.done(&["run", "letters"]);
    place
}

/// `backup restore` at a terminal in the directory of the place.
fn restore(place: &Place, more: &[&str]) -> Terminal {
    let mut command = place.command(&[&["restore"], more].concat());
    command.current_dir(place.path(""));
    Terminal::run(command)
}

/// What lies below a restored copy of `of`.
fn copy(place: &Place, target: &str, of: &str) -> PathBuf {
    place.path(target).join(place.path(of).strip_prefix("/").unwrap())
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// The command line that was shown.
fn command_line(screen: &str) -> Vec<String> {
    let line = screen.split("Equivalent commands:").nth(1).unwrap().trim().lines().next().unwrap();
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn files_come_back_by_questions() {
    let place = place();
    let terminal = restore(&place, &[]);
    terminal.sees("From which repository?").sees("other").types(ENTER);
    // The job with the newest snapshot is the first; typing searches.
    terminal
        .sees("What do you want to restore?")
        .sees("letters")
        .sees("2 snapshots, the newest")
        .types("hom")
        .types(ENTER);
    terminal.sees("Which snapshot or moment?").sees("incremental").types(ENTER);
    terminal.sees("Verify the snapshot first?").types("y").types(ENTER);
    terminal.sees("All or a part?").types(ENTER);
    terminal.sees("Where to?").sees("below a directory").types(ENTER);
    terminal.sees("Which directory?").sees("restored-").types("back again").types(ENTER);
    terminal.sees("Read back the restored data").types(ENTER);
    terminal.sees("Equivalent commands:").sees("Plan: restore snapshot").sees("write: 2 files");
    assert!(!place.path("back again").exists(), "written before it is confirmed");
    terminal.sees("Restore to ./back again?").types("y").types(ENTER);
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    assert!(
        screen.contains("restored to ./back again") && screen.contains("read back and compared"),
        "{screen}"
    );
    assert_eq!(read(copy(&place, "back again", "home/a b.txt")), "the second");
    assert_eq!(read(copy(&place, "back again", "home/photos/sea.jpg")), "blue");
    assert!(!copy(&place, "back again", "letters").exists());
    assert!(screen.contains("restore -r main --target './back again' --verify "), "{screen}");
    assert!(screen.contains("-r main verify ") && screen.contains("verified"), "{screen}");
    // Who did it, and what, is known as of any other restore.
    let audit = place.done(&["audit", "--json"]);
    assert!(audit.contains("--target ./back again --verify"), "{audit}");
}

#[test]
fn an_older_state_and_a_part_come_back() {
    let place = place();
    let terminal = restore(&place, &["-r", "main", "--job", "home"]);
    terminal.sees("Restoring home").sees("Which snapshot or moment?").types(DOWN).types(ENTER);
    terminal
        .sees("Verify the snapshot")
        .types(ENTER)
        .sees("All or a part?")
        .types(DOWN)
        .types(ENTER);
    terminal
        .sees("Which?")
        .types("nosuch*")
        .types(ENTER)
        .sees("nothing in the snapshot matches nosuch*");
    terminal.types("*.txt").types(ENTER).sees("Another one?").types(ENTER);
    terminal.sees("Where to?").types(ENTER).sees("Which directory?").types("old").types(ENTER);
    terminal
        .sees("Read back")
        .types("n")
        .types(ENTER)
        .sees("Restore to ./old?")
        .types("y")
        .types(ENTER);
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(read(copy(&place, "old", "home/a b.txt")), "the first");
    assert!(!copy(&place, "old", "home/photos/sea.jpg").exists());
    // What was shown does the same.
    let words = command_line(&screen);
    let words: Vec<String> =
        words.iter().map(|word| word.trim_matches('\'').replace("./old", "ROOM")).collect();
    let target = place.path("again").to_str().unwrap().to_owned();
    let words: Vec<String> = words.into_iter().map(|word| word.replace("ROOM", &target)).collect();
    place.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(read(copy(&place, "again", "home/a b.txt")), "the first");
}

#[test]
fn what_is_there_is_replaced_only_by_whoever_says_so() {
    let place = place();
    fs::write(place.path("home/a b.txt"), "spoilt").unwrap();
    fs::write(place.path("home/new"), "new").unwrap();
    let asked = |policy: &str| {
        let terminal = restore(&place, &["-r", "main", "--job", "home"]);
        terminal
            .sees("Which snapshot or moment?")
            .types(ENTER)
            .sees("Verify the snapshot")
            .types(ENTER)
            .sees("All or a part?")
            .types(ENTER);
        terminal.sees("Where to?").types(DOWN).types(ENTER);
        terminal.sees("If data exists at the target?").types(policy).types(ENTER);
        terminal.sees("Back up the existing data first?").types(ENTER);
        terminal.sees("Read back").types(ENTER);
        terminal
    };
    let (code, screen) = asked("").ends();
    assert_eq!((code, screen.contains("Hint:")), (5, true), "{screen}");
    let terminal = asked(DOWN);
    terminal.sees("backup run home").sees("Restore to the original location").types(ENTER);
    let (code, screen) = terminal.ends();
    assert_eq!((code, screen.contains("not confirmed")), (5, true), "{screen}");
    let audit = place.run(&["audit", "--operation", "restore", "--json"]).text();
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let records = audit["records"].as_array().unwrap();
    assert_eq!(records.iter().filter(|record| record["status"] == "declined").count(), 1);
    assert_eq!(read(place.path("home/a b.txt")), "spoilt");
    let terminal = asked(DOWN);
    terminal.sees("Restore to the original location").types("y").types(ENTER);
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(
        (read(place.path("home/a b.txt")), read(place.path("home/new"))),
        ("the second".into(), "new".into())
    );
    // What was there before is the newest snapshot.
    place.done(&[
        "restore",
        "latest",
        "-r",
        "main",
        "--job",
        "home",
        "--target",
        place.path("kept").to_str().unwrap(),
    ]);
    assert_eq!(read(copy(&place, "kept", "home/a b.txt")), "spoilt");
}

#[test]
fn whoever_leaves_has_changed_nothing() {
    let place = place();
    let steps = [
        "From which",
        "What do you want",
        "Which snapshot",
        "Verify the snapshot",
        "All or a part",
        "Where to",
        "Which dir",
        "Read back",
        "Restore to",
    ];
    for (at, last) in steps.iter().enumerate() {
        for key in [ESCAPE, CTRL_C] {
            let terminal = restore(&place, &[]);
            for step in &steps[..at] {
                terminal.sees(step).types(ENTER);
            }
            terminal.sees(last).types(key);
            let (code, screen) = terminal.ends();
            assert_eq!(
                (code, screen.contains("Stopped:")),
                (130, true),
                "{last} {key:?}: {screen}"
            );
        }
    }
    let terminal = restore(&place, &[]);
    terminal.sees("From which").terminate();
    assert_eq!(terminal.ends().0, 130);
    let restored = fs::read_dir(place.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(restored.filter(|name| name.starts_with("restored")).count(), 0);
    assert!(!place.done(&["status", "--runs", "--json"]).contains(r#""what":"restore""#));
}

#[test]
fn nobody_is_asked_who_cannot_answer() {
    let place = place();
    let text = place.fails(2, &["restore"]);
    assert!(text.contains("no snapshot to restore is given"), "{text}");
    for more in [&["--json"][..], &["--quiet"]] {
        let (code, screen) = restore(&place, more).ends();
        assert_eq!(
            (code, screen.contains("no snapshot to restore is given")),
            (2, true),
            "{screen}"
        );
    }
}

mod needs_redis_8_0 {
    use super::*;
    use crate::support::redis::{Redis, Version};

    const CONFIG: &str = r#"
        [repositories.main]
        url = "ROOM/main"
        [sources.cache]
        kind = "redis"
        url = "${CACHE}"
        [sources.standby]
        kind = "redis"
        url = "${STANDBY}"
        [jobs.cache]
        source = "cache"
        repository = "main"
    "#;

    #[test]
    fn keys_of_a_server_come_back_by_questions() {
        let (server, standby) = (Redis::start(Version::Redis8), Redis::start(Version::Redis8));
        for (key, value) in [("session:1", "one"), ("session:2", "two"), ("other", "three")] {
            server.run(&["SET", key, value]);
        }
        let place =
            Place::new(CONFIG, &[("CACHE", server.address()), ("STANDBY", standby.address())]);
        place.done(&["init"]);
        place.done(&["run", "cache"]);
        standby.run(&["SET", "own", "x"]);
        let terminal = restore(&place, &[]);
        terminal
            .sees("Restoring cache")
            .sees("Which snapshot or moment?")
            .types(ENTER)
            .sees("Verify the snapshot")
            .types(ENTER)
            .sees("All or a part?")
            .types(DOWN)
            .types(ENTER);
        terminal
            .sees("Which?")
            .types("/0/session:*")
            .types(ENTER)
            .sees("Another one?")
            .types(ENTER);
        terminal.sees("Where to?").sees("into the server standby").types(ENTER);
        terminal
            .sees("If data exists at the target?")
            .types(DOWN)
            .types(ENTER)
            .sees("Read back")
            .types(ENTER);
        terminal.sees("--only '/0/session:*' --target standby --if-exists merge --verify");
        assert_eq!(standby.run(&["DBSIZE"]).number(), 1);
        terminal.sees("write: 2 keys").sees("Restore to ").types("y").types(ENTER);
        let (code, screen) = terminal.ends();
        assert_eq!(code, 0, "{screen}");
        assert_eq!(standby.run(&["GET", "session:2"]).text(), "two");
        assert_eq!(standby.run(&["DBSIZE"]).number(), 3);
        // All of it, in place of what is there: that takes a word.
        let everything = || {
            let terminal = restore(&place, &[]);
            terminal
                .sees("Which snapshot or moment?")
                .types(ENTER)
                .sees("Verify the snapshot")
                .types(ENTER)
                .sees("All or a part?")
                .types(ENTER)
                .sees("Where to?")
                .types(ENTER);
            terminal
                .sees("If data exists at the target?")
                .types(DOWN)
                .types(DOWN)
                .types(ENTER)
                .sees("Read back")
                .types(ENTER);
            terminal.sees("Type `replace`:");
            terminal
        };
        let terminal = everything();
        terminal.types("y").types(ENTER);
        assert_eq!(terminal.ends().0, 5);
        assert_eq!(standby.run(&["GET", "own"]).text(), "x");
        let terminal = everything();
        terminal.types("replace").types(ENTER);
        let (code, screen) = terminal.ends();
        assert_eq!(code, 0, "{screen}");
        assert_eq!(standby.debug_digest(), server.debug_digest());
    }
}

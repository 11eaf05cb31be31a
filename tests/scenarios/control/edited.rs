//! A configuration that is edited while a command waits for its confirmation: the command executes
//! the plan that it showed.

use std::fs;

use super::Place;
use crate::support::terminal::{ENTER, Terminal};

const CONFIG: &str = r#"
    [repositories.main]
    url = "ROOM/main"
    [repositories.other]
    url = "ROOM/other"
    [sources.home]
    kind = "files"
    paths = ["ROOM/home"]
    [jobs.home]
    source = "home"
    repository = "main"
    keep = { last = 1 }
"#;

/// Another repository under the same name, another policy, and a hook.
const EDITED: &str = r#"
    [repositories.main]
    url = "ROOM/other"
    [sources.home]
    kind = "files"
    paths = ["ROOM/home"]
    [jobs.home]
    source = "home"
    repository = "main"
    keep = { last = 9 }
    hooks = { before_restore = "touch ROOM/hooked" }
"#;

/// Two snapshots in `main`, one in `other`.
fn place() -> Place {
    let place = Place::new(CONFIG, &[]);
    fs::create_dir(place.path("home")).unwrap();
    for repository in ["main", "other"] {
        place.done(&["init", "-r", repository]);
    }
    for text in ["the first", "the second"] {
        fs::write(place.path("home/letter.txt"), text).unwrap();
        place.done(&["run", "home"]);
    }
    fs::write(place.path("home/letter.txt"), "elsewhere").unwrap();
    place.done(&["run", "home", "-r", "other"]);
    place
}

/// Runs a command at a terminal, edits the configuration at its confirmation prompt, and confirms.
/// Puts the configuration back when the command has ended.
fn edited_meanwhile(place: &Place, arguments: &[&str], edited: &str) {
    let file = place.path("backup.toml");
    let before = fs::read_to_string(&file).unwrap();
    let mut command = place.command(arguments);
    command.current_dir(place.path(""));
    let terminal = Terminal::run(command);
    terminal.sees("[y/N]");
    fs::write(&file, edited.replace("ROOM", place.path("").to_str().unwrap())).unwrap();
    terminal.types("y").types(ENTER);
    let (code, screen) = terminal.ends();
    assert_eq!(code, 0, "{screen}");
    fs::write(file, before).unwrap();
}

fn snapshots(place: &Place, repository: &str) -> Vec<String> {
    let text = place.run(&["list", "-r", repository, "--json"]).succeeded().text();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = list["snapshots"].as_array().unwrap().iter();
    ids.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// The repository in the newest audit record of an operation.
fn recorded_repository(place: &Place, operation: &str) -> String {
    let arguments = ["audit", "--operation", operation, "--limit", "1", "--json"];
    let text = place.run(&arguments).succeeded().text();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    list["records"][0]["details"]["repository"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn cleanup_executes_the_shown_plan() {
    for edited in [EDITED, "this is [no configuration"] {
        let place = place();
        let newest = snapshots(&place, "main").pop().unwrap();
        edited_meanwhile(&place, &["cleanup", "--job", "home"], edited);
        assert_eq!(snapshots(&place, "main"), [newest]);
        assert_eq!(snapshots(&place, "other").len(), 1);
    }
}

#[test]
fn forget_executes_the_shown_plan() {
    let place = place();
    let (first, newest) =
        (snapshots(&place, "main")[0].clone(), snapshots(&place, "main")[1].clone());
    edited_meanwhile(&place, &["forget", "-r", "main", &first], EDITED);
    assert_eq!(snapshots(&place, "main"), [newest]);
    assert_eq!(snapshots(&place, "other").len(), 1);
    // The record is about the repository in which something was forgotten.
    assert_eq!(recorded_repository(&place, "forget"), place.path("main").to_str().unwrap());
}

#[test]
fn restore_executes_the_shown_plan() {
    let place = place();
    let out = place.path("out");
    let arguments = ["restore", "latest", "-r", "main", "--target", "out"];
    place.command(&arguments).current_dir(place.path("")).output().unwrap();
    let restored = out.join(place.path("home/letter.txt").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(&restored).unwrap(), "the second");
    fs::write(&restored, "scribbled").unwrap();
    let replace = [&arguments[..], &["--if-exists", "replace"]].concat();
    edited_meanwhile(&place, &replace, EDITED);
    assert_eq!(fs::read_to_string(&restored).unwrap(), "the second");
    assert!(!place.path("hooked").exists(), "a hook ran that was not shown");
    assert_eq!(recorded_repository(&place, "restore"), place.path("main").to_str().unwrap());
}

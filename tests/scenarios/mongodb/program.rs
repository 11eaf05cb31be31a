//! The program itself, as somebody at a terminal uses it.

use std::collections::BTreeMap;
use std::path::Path;

use backup_core::source::BackupKind;
use bson::{Document, doc};

use super::odd;
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::process::Outcome;

/// What must never be seen anywhere.
const SECRET: &str = "pass word";
const ESCAPED: &str = "pass%20word";

struct Place {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(BTreeMap::new())
    }

    fn with(environment: BTreeMap<String, String>) -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::remote(room.path().join("repository"), "key", environment);
        let place = Self { cli, room };
        place.done(&["init"]);
        place
    }

    /// Runs with success, and shows nothing that is secret.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let text = all(&self.cli.run(arguments).succeeded());
        assert!(!text.contains(SECRET) && !text.contains(ESCAPED), "{text}");
        text
    }

    /// Fails with that exit code, a hint, and nothing that is secret.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.cli.run(arguments);
        let text = all(&outcome);
        assert_eq!(outcome.code, code, "{text}");
        assert!(text.contains("Hint:"), "{text}");
        assert!(
            !text.contains(SECRET) && !text.contains(ESCAPED) && !text.contains("hunter2"),
            "{text}"
        );
        text
    }

    fn path(&self, name: &str) -> String {
        self.room.path().join(name).to_str().unwrap().to_owned()
    }
}

/// The visible output.
fn all(outcome: &Outcome) -> String {
    // Not the whole outcome: that names the command, with the address.
    format!("{}{}", outcome.text(), outcome.stderr)
}

/// The part of a dump for a collection.
fn dumped(file: &Path) -> Vec<Document> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut rest = &bytes[..];
    let mut documents = Vec::new();
    while !rest.is_empty() {
        documents.push(Document::from_reader(&mut rest).unwrap());
    }
    documents
}

pub(super) async fn from_the_first_backup_to_a_copy(version: Version) {
    let server = Mongod::with_users(version).await;
    odd::fill(&server, version).await;
    server
        .run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1, "v": "a" }, { "_id": 2, "v": "b" }] })
        .await;
    server.run("shop", doc! { "insert": "sessions", "documents": [{ "_id": 1 }] }).await;
    let (place, uri) = (Place::new(), server.uri());
    let run = ["run", "--source", uri, "--job", "shop", "--exclude", "*.sessions"];
    assert!(place.done(&run).contains("MongoDB replica set rs"));
    place.done(&["verify", "latest", "--level", "deep"]);
    place.done(&["check", "--read-data"]);
    assert!(place.done(&["list", "--source", "mongodb"]).contains("shop"));
    let shown = place.done(&["show", "latest", "--json"]);
    assert!(
        shown.contains(BackupKind::Full.as_str()) && shown.contains("mongodb://…@127.0.0.1"),
        "{shown}"
    );
    let listed = place.done(&["ls", "latest", "-R"]);
    assert!(listed.contains("/dump/shop/orders.bson") && !listed.contains("sessions"), "{listed}");

    // Beside the original, under another name, without users.
    let origin = state(&server.client).await;
    let restore = ["restore", "latest", "--target", uri, "--verify", "--no-users"];
    place.done(&[&restore[..], &["--only", "odd.*", "--rename", "odd.*=odd_test.*"]].concat());
    place.done(
        &[&restore[..], &["--include", "shop", "--rename", "shop.*=copy.*", "--until", "latest"]]
            .concat(),
    );
    let found = state(&server.client).await;
    let copies = |from: &str| {
        origin.keys().filter(|name| name.starts_with(from)).cloned().collect::<Vec<_>>()
    };
    for name in copies("odd.") {
        let copy = name.replacen("odd.", "odd_test.", 1);
        // A view names what it looks at: it is compared by the suite.
        assert_eq!(origin[&name].documents, found[&copy].documents, "{name}");
    }
    assert_eq!(origin["shop.orders"].documents, found["copy.orders"].documents);
    assert!(!found.contains_key("copy.sessions"));
    place.fails(5, &restore);
    // One collection, and no other one is touched.
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 3 }] }).await;
    place.done(
        &[&restore[..], &["--if-exists", "replace", "--yes", "--only", "shop.orders"]].concat(),
    );
    same(&found, &state(&server.client).await);

    // Beside the snapshot: what was copied is not in it, what was left out does not count.
    let compare = ["compare", "latest", "--with", uri];
    assert!(
        place
            .done(&[&compare[..], &["--only", "odd", "--only", "shop"]].concat())
            .contains("are equal")
    );
    let text = place.fails(1, &compare);
    assert!(text.contains("copy.orders") && !text.contains("shop.sessions"), "{text}");
    place.fails(1, &[&compare[..], &["--only", "nosuch"]].concat());
    // A pattern that matches nothing beside one that does is named.
    for command in [&compare[..], &["export", "latest", "--to", &place.path("part")]] {
        let outcome = place.cli.run(&[command, &["--only", "shop,nosuch"]].concat());
        let named = outcome.stderr.contains("the pattern \"nosuch\" matches nothing");
        assert_eq!((outcome.code, named), (3, true), "{}", outcome.stderr);
    }
    place.fails(2, &["compare", "latest"]);
    place.fails(2, &["compare", "latest", "--with", "/tmp"]);

    // As files for stock tools.
    place.done(&[
        "export",
        "latest",
        "--to",
        &place.path("dump"),
        "--only",
        "shop.*",
        "--rename",
        "shop.*=old.*",
    ]);
    let documents = dumped(&place.room.path().join("dump/old/orders.bson"));
    assert_eq!(documents, [doc! { "_id": 1, "v": "a" }, doc! { "_id": 2, "v": "b" }]);
    assert!(place.room.path().join("dump/old/orders.metadata.json").exists());
    place.fails(5, &["export", "latest", "--to", &place.path("dump")]);
    refusals(&place, uri);
}

/// What makes no sense is refused, and nothing is written.
fn refusals(place: &Place, uri: &str) {
    let restore = ["restore", "latest", "--target", uri];
    for (code, more) in [
        (1, &["--only", "nosuch.*"][..]),
        (2, &["--sparse"]),
        (2, &["--until", "soon"]),
        // Before the first snapshot.
        (1, &["--until", "1000000000:1"]),
        // A time of day, which names no day.
        (2, &["--until", "23:11"]),
        (2, &["--rename", "a.*=b"]),
        (5, &["--if-exists", "merge"]),
    ] {
        place.fails(code, &[&restore[..], more].concat());
    }
    place.fails(2, &["restore", "latest", "--target", &place.path("directory")]);
    place.fails(2, &["restore", "latest", "--in-place"]);
    place.fails(1, &["export", "latest", "--to", &place.path("none"), "--only", "nosuch.*"]);
    for more in [&["--one-file-system"][..], &["--max-file-size", "1G"]] {
        place.fails(2, &[&["run", "--source", uri][..], more].concat());
    }
    let wrong = uri.replace(ESCAPED, "hunter2");
    for arguments in [&["run", "--source", &wrong][..], &["restore", "latest", "--target", &wrong]]
    {
        let begun = std::time::Instant::now();
        let text = place.fails(2, arguments);
        assert!(text.contains("refuses the credentials"), "{text}");
        assert!(!text.contains("no answer"), "the server answers: {text}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    let (scheme, rest) = uri.split_once("://").unwrap();
    let (login, host) = rest.split_once('@').unwrap();
    let user = login.split(':').next().unwrap();
    for without in [format!("{scheme}://{host}"), format!("{scheme}://{user}@{host}")] {
        let text = place.fails(12, &["run", "--source", &without]);
        assert!(text.contains("no password is given"), "{text}");
    }
    // A snapshot of files knows nothing of servers.
    std::fs::write(place.path("file"), "x").unwrap();
    place.done(&["run", "--source", &place.path("file"), "--job", "files"]);
    let files = ["restore", "latest", "--job", "files", "--target"];
    place.fails(2, &[&files[..], &[uri]].concat());
    for more in
        [&["--rename", "a.*=b.*"][..], &["--until", "latest"], &["--no-users"], &["--defer-ttl"]]
    {
        place.fails(2, &[&files[..], &[&place.path("out")], more].concat());
    }
    assert!(!Path::new(&place.path("out")).exists());
    let text = place.fails(2, &["export", "latest", "--job", "files", "--to", &place.path("out")]);
    assert!(text.contains("backup restore"), "{text}");
}

/// By a configuration, with the password by reference; back into the server that the configuration
/// names.
pub(super) async fn by_a_configuration(version: Version) {
    let server = Mongod::with_users(version).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1, "v": "a" }] }).await;
    server.run("shop", doc! { "insert": "sessions", "documents": [{ "_id": 1 }] }).await;
    let environment =
        [("MONGO_PORT", server.port().to_string()), ("SHOP_PASSWORD", SECRET.to_owned())];
    let place = Place::with(environment.map(|(name, value)| (name.to_owned(), value)).into());
    let config = format!(
        r#"
        [repositories.main]
        url = {:?}
        passphrase_env = "BACKUP_PASSWORD"
        [sources.shop]
        kind = "mongodb"
        url = "mongodb://admin@127.0.0.1:${{MONGO_PORT}}/?directConnection=true"
        password_env = "SHOP_PASSWORD"
        [jobs.shop]
        source = "shop"
        repository = "main"
        tier = "daily"
        include = ["shop.*"]
        exclude = ["*.sessions"]
        "#,
        place.path("repository")
    );
    std::fs::write(place.path("backup.toml"), config).unwrap();
    let file = place.path("backup.toml");
    let with = |arguments: &[&'static str]| [&["--config", &file][..], arguments].concat();
    assert!(place.done(&with(&["config", "check"])).contains("MongoDB at mongodb://…@127.0.0.1"));
    place.done(&with(&["config", "show"]));
    place.done(&with(&["run", "shop"]));
    let manifest = place.done(&with(&["show", "latest", "--json"]));
    assert!(!manifest.contains("SHOP_PASSWORD"), "{manifest}");
    // What was left out is not counted either.
    let shown: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let objects = shown["manifest"]["objects"].as_object().unwrap_or_else(|| panic!("{manifest}"));
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["shop.orders"]);
    assert_eq!(
        (&objects["shop.orders"]["count"], &shown["manifest"]["server_version"]),
        (&1.into(), &server_version(&server).await)
    );
    let expected = state(&server.client).await;
    server.run("shop", doc! { "drop": "orders" }).await;
    place.done(&with(&["restore", "latest", "--in-place", "--yes", "--if-exists", "merge"]));
    same(&expected, &state(&server.client).await);
    server.run("shop", doc! { "drop": "orders" }).await;
    place.done(&with(&["restore", "latest", "--target", "shop"]));
    same(&expected, &state(&server.client).await);
    // What the snapshot was not made of is not dropped with what is replaced.
    server.run("crm", doc! { "insert": "people", "documents": [{ "_id": 1 }] }).await;
    let with_others = state(&server.client).await;
    server.run("shop", doc! { "insert": "later", "documents": [{ "_id": 1 }] }).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "later" }] }).await;
    let replace = ["restore", "latest", "--in-place", "--yes", "--if-exists", "replace"];
    let plan = place.done(&with(&[&replace[..], &["--only", "*.orders", "--dry-run"]].concat()));
    assert!(!plan.contains("remove"), "{plan}");
    place.done(&with(&replace));
    assert!(state(&server.client).await.contains_key("shop.later"));
    let plan = place.done(&with(&[&replace[..], &["--delete"]].concat()));
    assert!(plan.contains("collection shop.later, 1 document"), "{plan}");
    same(&with_others, &state(&server.client).await);
    by_the_oplog(&place, &server, &file).await;
    std::fs::write(place.path("wrong"), "hunter2").unwrap();
    let wrong = std::fs::read_to_string(&file)
        .unwrap()
        .replace("password_env = \"SHOP_PASSWORD\"", "password_file = \"wrong\"");
    std::fs::write(&file, wrong).unwrap();
    place.fails(2, &with(&["run", "shop"]));
    std::fs::remove_file(place.path("wrong")).unwrap();
    place.fails(12, &with(&["run", "shop"]));
}

async fn server_version(server: &Mongod) -> serde_json::Value {
    server.run("admin", doc! { "buildInfo": 1 }).await.get_str("version").unwrap().into()
}

/// What is built on an earlier snapshot restores by itself, to any moment since, and becomes a full
/// one without the server.
async fn by_the_oplog(place: &Place, server: &Mongod, file: &str) {
    let with = |arguments: &[&str]| place.done(&[&["--config", file], arguments].concat());
    let replace =
        ["restore", "--job", "shop", "--in-place", "--yes", "--if-exists", "replace", "--verify"];
    let before = state(&server.client).await;
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "between" }] }).await;
    let between = state(&server.client).await;
    let hello = server.run("admin", doc! { "hello": 1 }).await;
    let last = hello
        .get_document("lastWrite")
        .unwrap()
        .get_document("opTime")
        .unwrap()
        .get_timestamp("ts")
        .unwrap();
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "last" }] }).await;
    let expected = state(&server.client).await;
    let run = with(&["run", "shop", "--type", "incremental", "--json"]);
    assert!(run.contains("\"type\":\"incremental\""), "{run}");
    server.run("shop", doc! { "drop": "orders" }).await;
    with(&[&replace[..], &["latest"]].concat());
    same(&expected, &state(&server.client).await);
    // Nobody captured the log: the snapshot holds it.
    with(&[&replace[..], &["--at", &format!("{}:{}", last.time, last.increment)]].concat());
    same(&between, &state(&server.client).await);
    assert!(with(&["logs", "compact", "shop"]).contains("a full snapshot"));
    assert!(with(&["logs", "compact", "shop"]).contains("Nothing to apply"));
    server.run("shop", doc! { "drop": "orders" }).await;
    with(&[&replace[..], &["latest"]].concat());
    same(&expected, &state(&server.client).await);
    assert!(before != expected);
}

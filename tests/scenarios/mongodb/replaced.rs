//! Objects, users and roles that a restore replaces, removes and leaves.

use backup_core::source::{Delete, IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::{Document, doc};
use tempfile::TempDir;

use super::{restored, snapshot_of, source, try_restore, verified};
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version, connect};
use crate::support::mongod_state::{same, state};
use crate::support::process::Outcome;

/// The program with a repository of its own.
pub(super) struct Place {
    pub(super) cli: Cli,
    pub(super) room: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        cli.run(&["init"]).succeeded();
        Self { cli, room }
    }

    /// Runs it, which must end with that exit code; returns everything that it printed.
    #[track_caller]
    pub(super) fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let outcome: Outcome = self.cli.run(arguments);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert_eq!(outcome.code, code, "{arguments:?}: {text}");
        text
    }
}

pub(super) async fn insert(server: &Mongod, db: &str, name: &str, count: i32) {
    let documents: Vec<Document> = (0..count).map(|id| doc! { "_id": id }).collect();
    server.run(db, doc! { "insert": name, "documents": documents }).await;
}

/// `replace` drops collections of the snapshot only. `--delete` also drops the others that the
/// backup covered; the plan names each of them, and nothing else goes.
pub(super) async fn replace_drops_only_collections_of_the_snapshot(version: Version) {
    let (server, place) = (Mongod::start(version).await, Place::new());
    for (db, name) in [("shop", "orders"), ("shop", "cache"), ("crm", "people")] {
        insert(&server, db, name, 2).await;
    }
    let uri = server.uri();
    place.ends(0, &["run", "--source", uri, "--job", "all", "--exclude", "*.cache"]);
    let snapshot = state(&server.client).await;
    insert(&server, "shop", "later", 3).await;
    insert(&server, "stats", "days", 4).await;
    server.run("shop", doc! { "create": "seen", "viewOn": "orders", "pipeline": [] }).await;
    let with_others = state(&server.client).await;
    let restore = ["restore", "latest", "--target", uri, "--if-exists", "replace", "--yes"];
    let change = async || {
        server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "late" }] }).await;
    };

    change().await;
    let plan = place.ends(0, &[&restore[..], &["--dry-run"]].concat());
    assert!(!plan.contains("remove"), "{plan}");
    for line in [
        "    collection shop.orders, 2 documents; replaces 3 documents\n",
        "    collection crm.people, 2 documents; replaces 2 documents\n",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    // Under other names nothing is there.
    let renamed =
        [&restore[..], &["--rename", "crm=copy", "--only", "crm.*", "--dry-run"]].concat();
    let renamed = place.ends(0, &renamed);
    assert!(renamed.contains("    collection copy.people, 2 documents\n"), "{renamed}");
    let plan = place.ends(0, &restore);
    assert!(!plan.contains("remove"), "{plan}");
    same(&with_others, &state(&server.client).await);

    change().await;
    let before = state(&server.client).await;
    let delete = [&restore[..], &["--delete"]].concat();
    let plan = place.ends(0, &[&delete[..], &["--dry-run"]].concat());
    for line in [
        "remove: 3 objects",
        "collection shop.later, 3 documents",
        "view shop.seen\n",
        "collection stats.days, 4 documents",
        "database stats, 1 object, and nothing else",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    let removed = plan.split("remove: ").nth(1).unwrap();
    assert!(!plan.contains("cache") && !removed.contains("crm"), "{plan}");
    same(&before, &state(&server.client).await);
    // Within a selection only; and never beside other modes or under other names.
    let part = [&delete[..], &["--only", "stats.*", "--only", "crm.*", "--dry-run"]].concat();
    let plan = place.ends(0, &part);
    assert!(plan.contains("stats.days") && !plan.contains("shop.later"), "{plan}");
    let merge = ["restore", "latest", "--target", uri, "--if-exists", "merge", "--yes", "--delete"];
    place.ends(2, &merge);
    place.ends(2, &[&delete[..], &["--rename", "shop=copy"]].concat());
    same(&before, &state(&server.client).await);

    let plan = place.ends(0, &delete);
    assert!(plan.contains("database stats, 1 object, and nothing else"), "{plan}");
    same(&snapshot, &state(&server.client).await);
}

/// Objects that appeared after the plan was confirmed stay.
pub(super) async fn delete_removes_only_planned_objects(version: Version) {
    let server = Mongod::start(version).await;
    insert(&server, "shop", "orders", 2).await;
    let to = source(&server).await;
    let snapshot = snapshot_of(&to, Selection::all()).await;
    insert(&server, "shop", "planned", 1).await;
    let delete = |delete| RestoreRequest { if_exists: IfExists::Replace, delete, ..verified() };
    let dry = RestoreRequest { dry_run: true, ..delete(Delete::ABSENT) };
    let plan = restored(&snapshot, &to, dry).await;
    let names = plan.removals.iter().map(|removal| removal.name.clone()).collect();
    insert(&server, "shop", "unplanned", 1).await;
    let report = restored(&snapshot, &to, delete(Delete::Planned(names))).await;
    assert_eq!(report.removed, 1);
    let left: Vec<String> = state(&server.client).await.into_keys().collect();
    assert_eq!(left, ["shop.orders", "shop.unplanned"]);
    let merge = RestoreRequest { if_exists: IfExists::Merge, ..delete(Delete::ABSENT) };
    try_restore(&snapshot, &to, merge).await.unwrap_err();
}

/// A renaming rule that matches nothing would let the restore replace the originals.
pub(super) async fn unmatched_rename_leaves_target_unchanged(version: Version) {
    let (server, place) = (Mongod::start(version).await, Place::new());
    insert(&server, "shop", "orders", 2).await;
    insert(&server, "shop", "people", 2).await;
    let uri = server.uri();
    place.ends(0, &["run", "--source", uri, "--job", "shop"]);
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "late" }] }).await;
    let before = state(&server.client).await;
    let restore = ["restore", "latest", "--target", uri, "--rename"];
    for more in [&["--if-exists", "replace", "--yes"][..], &["--dry-run"], &[]] {
        for rule in ["shop.order=shop.copy", "shp=copy"] {
            let text = place.ends(1, &[&restore[..], &[rule], more].concat());
            assert!(text.contains(rule) && text.contains("shop.orders"), "{text}");
            let suggested =
                if rule.starts_with("shop.") { "shop.orders=shop.copy" } else { "shop=copy" };
            let hint = format!("did you mean --rename '{suggested}'?");
            assert!(text.contains(&hint), "{text}");
        }
        // The rule matches an object outside the selection.
        let only = ["shop.orders=shop.copy", "--only", "shop.people"];
        let text = place.ends(1, &[&restore[..], &only, more].concat());
        assert!(text.contains("matches nothing that is restored"), "{text}");
        same(&before, &state(&server.client).await);
    }
    let to = place.room.path().join("dump");
    let to = to.to_str().unwrap();
    place.ends(1, &["export", "latest", "--to", to, "--rename", "shop.order=shop.copy"]);
    assert!(!std::path::Path::new(to).exists());
    place.ends(0, &[&restore[..], &["shop.orders=shop.copy", "--only", "shop.orders"]].concat());
    assert_eq!(state(&server.client).await["shop.copy"].documents.len(), 2);
}

/// Returns `true` if the user can log in.
async fn logs_in(server: &Mongod, user: &str, password: &str) -> bool {
    let port = server.port();
    let uri = format!(
        "mongodb://{user}:{password}@127.0.0.1:{port}/?directConnection=true&authSource=shop"
    );
    connect(&uri).await.database("shop").run_command(doc! { "find": "orders" }).await.is_ok()
}

/// Users and roles that differ are replaced, except for the connected user.
pub(super) async fn replace_replaces_users_and_roles(version: Version) {
    let (server, place) = (Mongod::with_users(version).await, Place::new());
    insert(&server, "shop", "orders", 2).await;
    let can = |actions: &[&str]| {
        let resource = doc! { "db": "shop", "collection": "orders" };
        vec![doc! { "resource": resource, "actions": actions.to_vec() }]
    };
    let role = doc! { "createRole": "looks", "privileges": can(&["find"]), "roles": [] };
    server.run("admin", role).await;
    let roles = vec![doc! { "role": "looks", "db": "admin" }];
    for user in ["clerk", "same"] {
        server.run("shop", doc! { "createUser": user, "pwd": "old", "roles": roles.clone() }).await;
    }
    let uri = server.uri();
    place.ends(0, &["run", "--source", uri, "--job", "shop"]);
    server.run("shop", doc! { "updateUser": "clerk", "pwd": "new", "roles": [] }).await;
    server.run("admin", doc! { "updateRole": "looks", "privileges": can(&["insert"]) }).await;
    server.run("shop", doc! { "createUser": "later", "pwd": "x", "roles": ["read"] }).await;
    server.run("admin", doc! { "updateUser": "admin", "customData": { "a": 1 } }).await;
    let restore = ["restore", "latest", "--target", uri, "--if-exists", "replace", "--yes"];
    let verify = [&restore[..], &["--verify"]].concat();

    place.ends(0, &[&verify[..], &["--no-users"]].concat());
    assert!(!logs_in(&server, "clerk", "old").await);
    let plan = place.ends(0, &[&verify[..], &["--dry-run"]].concat());
    let line = "replace users and roles that differ: role admin.looks, user shop.clerk\n";
    assert!(plan.contains(line) && plan.contains("user admin.admin"), "{plan}");
    assert!(!logs_in(&server, "clerk", "old").await);

    let done = place.ends(3, &verify);
    assert!(done.contains("user admin.admin") && done.contains("is not replaced"), "{done}");
    assert!(logs_in(&server, "clerk", "old").await && logs_in(&server, "same", "old").await);
    assert!(logs_in(&server, "later", "x").await, "other users stay");
    let own = server.run("admin", doc! { "usersInfo": "admin" }).await;
    let own = own.get_array("users").unwrap()[0].as_document().unwrap().clone();
    assert_eq!(own.get_document("customData").unwrap(), &doc! { "a": 1 });

    // With the roles that the documentation names, which the snapshot does not have.
    server.run("shop", doc! { "updateUser": "clerk", "pwd": "new" }).await;
    let roles = ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase"].to_vec();
    let restorer = doc! { "createUser": "restorer", "pwd": "secret", "roles": roles };
    server.run("admin", restorer).await;
    let address = uri.replace("admin:pass%20word", "restorer:secret");
    let done =
        place.ends(0, &[&["restore", "latest", "--target", &address][..], &verify[4..]].concat());
    assert!(done.contains("user admin.admin") && done.contains("user shop.clerk"), "{done}");
    assert!(!done.contains("is not replaced"), "{done}");
    assert!(logs_in(&server, "clerk", "old").await);
}

/// Also users of a later moment than the dump's are compared before anything is written.
pub(super) async fn users_are_compared_before_data_is_written(version: Version) {
    let (origin, target) = (Mongod::with_users(version).await, Mongod::start(version).await);
    let place = Place::new();
    insert(&origin, "shop", "orders", 2).await;
    origin.run("shop", doc! { "createUser": "clerk", "pwd": "old", "roles": ["read"] }).await;
    let run = ["run", "--source", origin.uri(), "--job", "shop", "--type"];
    place.ends(0, &[&run[..], &["full"]].concat());
    let restore = ["restore", "latest", "--target", target.uri()];
    place.ends(0, &restore);
    target.clear().await;
    origin.run("shop", doc! { "updateUser": "clerk", "pwd": "new" }).await;
    place.ends(0, &[&run[..], &["incremental"]].concat());
    let text = place.ends(5, &restore);
    assert!(text.contains("different users called shop.clerk"), "{text}");
    assert!(state(&target.client).await.is_empty(), "nothing was written");
    let replace = [&restore[..], &["--if-exists", "replace", "--yes", "--verify"]].concat();
    let text = place.ends(0, &replace);
    assert!(text.contains("user shop.clerk"), "{text}");
}

/// Every collection has its count, whichever way it is read: capped ones are read at no moment of
/// the server's history, and a standalone server has none.
pub(super) async fn capped_collection_leaves_all_counts_known(version: Version) {
    let (set, alone) = (Mongod::start(version).await, Mongod::standalone(version).await);
    for server in [&set, &alone] {
        insert(server, "shop", "orders", 5).await;
        server.run("shop", doc! { "create": "empty" }).await;
        server.run("shop", doc! { "create": "log", "capped": true, "size": 4096, "max": 3 }).await;
        insert(server, "shop", "log", 7).await;
        let place = Place::new();
        let config = format!(
            "[repositories.main]\nurl = {:?}\npassphrase_env = \"BACKUP_PASSWORD\"\n\
             [sources.shop]\nkind = \"mongodb\"\nurl = {:?}\n\
             [jobs.shop]\nsource = \"shop\"\nrepository = \"main\"\n\
             expect = [{{ object = \"shop.orders\", min = 5 }}, {{ object = \"shop.log\", min = 3 }}]\n",
            place.room.path().join("repository"),
            server.uri()
        );
        let file = place.room.path().join("backup.toml");
        std::fs::write(&file, &config).unwrap();
        let run = ["--config", file.to_str().unwrap(), "run", "shop"];
        place.ends(0, &run);
        let shown = place.cli.run(&["show", "latest", "--json"]).succeeded();
        let shown: serde_json::Value = serde_json::from_str(&shown.text()).unwrap();
        let objects = &shown["manifest"]["objects"];
        for (name, count) in [("shop.orders", 5), ("shop.log", 3), ("shop.empty", 0)] {
            assert_eq!(objects[name]["count"], count, "{objects}");
        }
        assert_eq!(shown["manifest"]["counted"], true);
        std::fs::write(&file, config.replace("min = 5", "min = 6")).unwrap();
        let text = place.ends(1, &run);
        assert!(text.contains("shop.orders: 5 found, at least 6 expected"), "{text}");
    }
}

/// The restore of a snapshot without all selected objects exits with 3 and names the missing part.
pub(super) async fn incomplete_snapshot_names_missing_parts(version: Version) {
    let (server, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let place = Place::new();
    insert(&server, "shop", "orders", 2).await;
    let include = ["--include", "shop.*", "--include", "crm.people"];
    place.ends(3, &[&["run", "--source", server.uri(), "--job", "shop"][..], &include].concat());
    let restore = ["restore", "latest", "--target", target.uri()];
    for more in [&["--dry-run"][..], &[]] {
        let text = place.ends(3, &[&restore[..], more].concat());
        assert!(text.contains("is incomplete: 1 entry"), "{text}");
        assert!(text.contains("\"crm.people\" matches nothing in the source"), "{text}");
    }
    same(&state(&server.client).await, &state(&target.client).await);
}

/// A failed restore leaves nothing half, and its error describes exactly the state that it leaves.
pub(super) async fn restore_failure_leaves_no_half_collection(version: Version) {
    let more = ["--oplogSize", "990", "--setParameter", "enableTestCommands=1"];
    let (origin, target) = (Mongod::start(version).await, Mongod::with(version, &more).await);
    let weather = doc! { "create": "weather", "timeseries": { "timeField": "t" } };
    let measured =
        doc! { "insert": "weather", "documents": [{ "t": bson::DateTime::now(), "v": 1 }] };
    for server in [&origin, &target] {
        insert(server, "shop", "orders", 2).await;
        server.run("shop", weather.clone()).await;
        server.run("shop", measured.clone()).await;
    }
    origin.run("shop", doc! { "insert": "orders", "documents": [{ "_id": "late" }] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let to = source(&target).await;
    let replace = || RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    let orders = || {
        let include = vec!["shop.orders".to_owned()];
        RestoreRequest { selection: Selection::new(include, Vec::new()).unwrap(), ..replace() }
    };
    let before = state(&target.client).await;
    let fail = |mode: &str| {
        let data = doc! { "failCommands": ["insert"], "errorCode": 8000 };
        doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }
    };
    target.run("admin", fail("alwaysOn")).await;
    let error = try_restore(&snapshot, &to, orders()).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("0 of 1 collections were restored; all others are as before"), "{text}");
    same(&before, &state(&target.client).await);

    let error = try_restore(&snapshot, &to, replace()).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("0 of 2 collections were restored; missing: shop.weather;"), "{text}");
    let mut left = state(&target.client).await;
    assert!(left.remove("shop.weather").is_none() && left.len() == 1, "{left:?}");
    assert_eq!(left["shop.orders"], before["shop.orders"]);
    target.run("admin", fail("off")).await;
    let report = restored(&snapshot, &to, replace()).await;
    // Measurements are not counted.
    let contents = report.contents.unwrap();
    let told = (contents.collections, contents.time_series, contents.documents);
    assert_eq!(told, (2, 1, Some(3)));
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// The statement of a hint is for the connected user, in the user's own database.
pub(super) async fn hint_of_a_denied_restore_can_be_run(version: Version) {
    let server = Mongod::with_users(version).await;
    insert(&server, "shop", "orders", 2).await;
    let only = Selection::new(vec!["shop.*".to_owned()], Vec::new()).unwrap();
    let snapshot = snapshot_of(&source(&server).await, only).await;
    let name = "o\"connor";
    server.run("staff", doc! { "createUser": name, "pwd": "secret", "roles": ["read"] }).await;
    let uri = format!(
        "mongodb://o%22connor:secret@127.0.0.1:{}/?directConnection=true&authSource=staff",
        server.port()
    );
    let to = MongoSource::connect(MongoOptions::new(uri)).await.unwrap();
    let replace = || RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    let error = try_restore(&snapshot, &to, replace()).await.unwrap_err();
    let hint = error.hint().unwrap_or_default().to_owned();
    let statement = "db.getSiblingDB(\"staff\").grantRolesToUser(\"o\\\"connor\", [{role: \
                     \"restore\", db: \"admin\"}, {role: \"readWriteAnyDatabase\", db: \"admin\"}, \
                     {role: \"dbAdminAnyDatabase\", db: \"admin\"}])";
    assert!(hint.ends_with(statement), "{hint}");
    let roles = ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase"];
    let roles: Vec<Document> =
        roles.iter().map(|role| doc! { "role": *role, "db": "admin" }).collect();
    server.run("staff", doc! { "grantRolesToUser": name, "roles": roles }).await;
    restored(&snapshot, &to, replace()).await;
}

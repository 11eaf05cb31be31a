//! Databases that addresses name: the only one that a backup reads, and the one that a restore
//! writes to.

use bson::doc;
use serde_json::Value;

use super::replaced::{Place, insert};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// The address of a server with a database.
fn at(server: &Mongod, database: &str) -> String {
    server.uri().replacen("/?", &format!("/{database}?"), 1)
}

/// The collections of one database, without its name.
fn of_database(all: &State, database: &str) -> State {
    let names = all.iter().filter_map(|(name, facts)| {
        let (db, rest) = name.split_once('.')?;
        (db == database).then(|| (rest.to_owned(), facts.clone()))
    });
    names.collect()
}

/// The manifest of the latest snapshot of a job.
fn manifest(place: &Place, job: &str) -> Value {
    let shown = place.cli.run(&["show", "latest", "--job", job, "--json"]).succeeded();
    let mut shown: Value = serde_json::from_str(&shown.text()).unwrap();
    shown["manifest"].take()
}

/// A restore to `…/lend_test` writes there, also if the snapshot has another database, and leaves
/// `lend` alone.
pub(super) async fn database_of_a_target_is_written_to(version: Version) {
    let (server, place) = (Mongod::start(version).await, Place::new());
    insert(&server, "lend", "loans", 3).await;
    server.run("lend", doc! { "create": "seen", "viewOn": "loans", "pipeline": [] }).await;
    place.ends(0, &["run", "--source", server.uri(), "--job", "all"]);
    server.run("lend", doc! { "insert": "loans", "documents": [{ "_id": "late" }] }).await;
    let production = of_database(&state(&server.client).await, "lend");
    let target = at(&server, "lend_test");
    let restore = ["restore", "latest", "--job", "all", "--target", &*target];
    let plan = place.ends(0, &[&restore[..], &["--dry-run"]].concat());
    for line in ["lend is restored into it", "collection lend_test.loans, 3 documents"] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    assert!(plan.contains("write: 1 database, 1 collection, 1 view, 3 documents, "), "{plan}");
    assert!(!state(&server.client).await.contains_key("lend_test.loans"));

    place.ends(0, &restore);
    let done = state(&server.client).await;
    same(&production, &of_database(&done, "lend"));
    let copy = of_database(&done, "lend_test");
    assert_eq!((copy.len(), copy["loans"].documents.len()), (2, 3));
    let text = place.ends(5, &restore);
    assert!(text.contains("the target has lend_test.loans, lend_test.seen already"), "{text}");
    place.ends(0, &[&restore[..], &["--if-exists", "replace", "--yes", "--verify"]].concat());
    same(&done, &state(&server.client).await);

    // The name is not another one: removals stay in this database.
    insert(&server, "lend", "later", 1).await;
    insert(&server, "crm", "people", 1).await;
    let own = at(&server, "lend");
    let delete = ["restore", "latest", "--job", "all", "--target", &*own, "--if-exists", "replace"];
    let delete = [&delete[..], &["--delete", "--yes"]].concat();
    let plan = place.ends(0, &[&delete[..], &["--dry-run"]].concat());
    let removed = plan.split("remove: ").nth(1).unwrap();
    assert!(removed.starts_with("1 object\n    collection lend.later, 1 document\n"), "{plan}");
    place.ends(0, &delete);
    let found = state(&server.client).await;
    same(&copy, &of_database(&found, "lend"));
    assert!(found.contains_key("crm.people") && found.contains_key("lend_test.loans"));
    // Under another name, nothing can be removed.
    let delete = ["--if-exists", "replace", "--delete", "--yes"];
    place.ends(2, &[&restore[..], &delete].concat());
}

/// Several databases have no place in one; the error names the flags that select and rename.
pub(super) async fn several_databases_are_not_restored_into_one(version: Version) {
    let (server, place) = (Mongod::start(version).await, Place::new());
    insert(&server, "lend", "loans", 3).await;
    insert(&server, "crm", "people", 2).await;
    place.ends(0, &["run", "--source", server.uri(), "--job", "all"]);
    let before = state(&server.client).await;
    let restore = |target: &str, more: &[&str], code: i32| {
        let target = at(&server, target);
        let restore = ["restore", "latest", "--job", "all", "--target", &*target];
        place.ends(code, &[&restore[..], more].concat())
    };
    for more in [&["--dry-run"][..], &[], &["--if-exists", "replace", "--yes"]] {
        let text = restore("lend_test", more, 2);
        for part in ["lend_test, but 2 databases are selected: crm, lend", "--rename crm=lend_test"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = restore("lend", more, 2);
        assert!(text.contains("--only 'lend.*'") && !text.contains("--rename"), "{text}");
        let text = restore("lend_test", &[&["--rename", "lend=lend_test"], more].concat(), 2);
        assert!(text.contains("would also write to crm"), "{text}");
        same(&before, &state(&server.client).await);
    }
    // Names that the server would refuse are refused by the plan already.
    let long = "x".repeat(64);
    for (name, reason) in [
        ("a b", "cannot contain ' '"),
        ("a$b", "cannot contain '$'"),
        ("Lend", "the database lend differs in case only"),
        (&*long, "at most 63 bytes"),
    ] {
        let rule = format!("crm={name}");
        for more in [&["--dry-run"][..], &[]] {
            let text = restore("", &[&["--only", "crm.*", "--rename", &rule], more].concat(), 2);
            assert!(text.contains(reason), "{reason}: {text}");
        }
    }
    same(&before, &state(&server.client).await);
    restore("lend_test", &["--only", "lend.*"], 0);
    restore("both", &["--rename", "lend=both", "--rename", "crm=both"], 0);
    let found = state(&server.client).await;
    same(&of_database(&before, "lend"), &of_database(&found, "lend_test"));
    assert_eq!(of_database(&found, "both").len(), 2);
    // The server's own database selects nothing, and the warning comes once.
    let text = restore("admin", &["--only", "crm.*", "--rename", "crm=crm2"], 0);
    let warning = "the database admin of the address selects nothing";
    assert_eq!(text.matches(warning).count(), 1, "{text}");
    same(&of_database(&before, "crm"), &of_database(&state(&server.client).await, "crm2"));
}

/// Users and roles belong to the whole server: a restore into one database leaves them out.
pub(super) async fn restore_into_a_database_leaves_users_out(version: Version) {
    let (server, place) = (Mongod::with_users(version).await, Place::new());
    insert(&server, "shop", "orders", 2).await;
    server.run("shop", doc! { "createUser": "clerk", "pwd": "x", "roles": ["read"] }).await;
    place.ends(0, &["run", "--source", server.uri(), "--job", "all"]);
    server.run("shop", doc! { "updateUser": "clerk", "pwd": "y" }).await;
    let users = server.run("admin", doc! { "find": "system.users", "sort": { "_id": 1 } }).await;
    let users = users.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
    let target = at(&server, "copy") + "&authSource=admin";
    let restore = ["restore", "latest", "--target", &*target, "--if-exists", "replace", "--yes"];
    let text = place.ends(0, &restore);
    assert!(text.contains("Users and roles are left out"), "{text}");
    assert!(text.contains("written: 1 database, 1 collection, 2 documents, "), "{text}");
    let found = state(&server.client).await;
    assert_eq!(found["copy.orders"].documents, found["shop.orders"].documents);
    let after = server.run("admin", doc! { "find": "system.users", "sort": { "_id": 1 } }).await;
    let after = after.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
    assert_eq!(users, after);
}

/// A backup of `…/lend` reads this database only, as stock mongodump does.
pub(super) async fn database_of_a_source_is_backed_up_alone(version: Version) {
    let (server, place) = (Mongod::with_users(version).await, Place::new());
    for (db, name) in [("lend", "loans"), ("lend", "log"), ("lends", "x"), ("crm", "people")] {
        insert(&server, db, name, 2).await;
    }
    let admin = |db: &str| at(&server, db) + "&authSource=admin";
    let objects = |job: &str| {
        let manifest = manifest(&place, job);
        let objects = manifest["objects"].as_object().unwrap();
        let names: Vec<String> = objects.keys().cloned().collect();
        (names.join(" "), manifest["include"].to_string(), manifest["type"].to_string())
    };
    let run = ["run", "--job", "one", "--source"];
    place.ends(0, &[&run[..], &[&admin("lend")]].concat());
    let (names, include, _) = objects("one");
    assert_eq!((&*names, &*include), ("lend.loans lend.log", "[\"lend\"]"));
    let shown = place.ends(0, &["show", "latest", "--job", "one"]);
    assert!(shown.contains("1 database, 2 collections, 4 documents, "), "{shown}");
    let bytes: u64 = of_database(&state(&server.client).await, "lend")
        .values()
        .flat_map(|one| one.documents.values())
        .map(|document| document.len() as u64)
        .sum();
    let shown = place.cli.run(&["show", "latest", "--job", "one", "--json"]).succeeded().text();
    let contents = serde_json::from_str::<Value>(&shown).unwrap()["contents"].clone();
    let expected = serde_json::json!({
        "databases": 1, "collections": 2, "documents": 4, "bytes": bytes, "users": 0, "roles": 0,
    });
    assert_eq!(contents, expected);
    // A later one builds on it.
    insert(&server, "lend", "more", 1).await;
    insert(&server, "crm", "more", 1).await;
    place.ends(0, &[&run[..], &[&admin("lend"), "--type", "incremental"]].concat());
    assert_eq!(objects_kind(&place, "one"), "incremental");
    let target = Mongod::start(version).await;
    place.ends(0, &["restore", "latest", "--job", "one", "--target", target.uri()]);
    same(
        &of_database(&state(&server.client).await, "lend"),
        &of_database(&state(&target.client).await, "lend"),
    );
    assert_eq!(state(&target.client).await.len(), 3);
    // Other databases of the server do not count.
    insert(&target, "crm", "unrelated", 1).await;
    let with = at(&target, "lend");
    place.ends(0, &["compare", "latest", "--job", "one", "--with", &with]);

    // With patterns, both hold.
    let lend = admin("lend");
    place.ends(0, &["run", "--job", "part", "--source", &lend, "--include", "*.log"]);
    assert_eq!(objects("part").0, "lend.log");
    let text = place.ends(1, &[&run[..], &[&admin("lnd")]].concat());
    assert!(text.contains("the server has no database lnd"), "{text}");

    // A database for users.
    let text = place.ends(0, &["run", "--job", "admin", "--source", &at(&server, "admin")]);
    let warning = "the database admin of the address selects nothing";
    assert_eq!(text.matches(warning).count(), 1, "{text}");
    let role = doc! { "role": "backup", "db": "admin" };
    server.run("people", doc! { "createUser": "saver", "pwd": "x", "roles": [role] }).await;
    let people = at(&server, "people").replace("admin:pass%20word", "saver:x");
    let text = place.ends(0, &["run", "--job", "people", "--source", &people]);
    assert_eq!(text.matches("the database people of the address holds no").count(), 1, "{text}");
    for job in ["admin", "people"] {
        let (names, include, _) = objects(job);
        assert!(names.contains("crm.people") && names.contains("lend.loans"), "{names}");
        assert_eq!(include, "null");
    }
}

fn objects_kind(place: &Place, job: &str) -> String {
    manifest(place, job)["type"].as_str().unwrap().to_owned()
}

/// Jobs of a configuration keep their selection until `database` is set.
pub(super) async fn database_of_a_configured_source(version: Version) {
    let (server, place) = (Mongod::start(version).await, Place::new());
    insert(&server, "lend", "loans", 3).await;
    insert(&server, "crm", "people", 2).await;
    let file = place.room.path().join("backup.toml");
    let configure = |database: &str| {
        let url = at(&server, "lend");
        let text = format!(
            "[repositories.main]\nurl = {:?}\npassphrase_env = \"BACKUP_PASSWORD\"\n\
             [sources.lend]\nkind = \"mongodb\"\nurl = {url:?}\n{database}\n\
             [jobs.lend]\nsource = \"lend\"\nrepository = \"main\"\n",
            place.room.path().join("repository")
        );
        std::fs::write(&file, text).unwrap();
    };
    let with = |code: i32, arguments: &[&str]| {
        place.ends(code, &[&["--config", file.to_str().unwrap()], arguments].concat())
    };
    let names = || {
        let manifest = manifest(&place, "lend");
        let objects = manifest["objects"].as_object().unwrap().keys().cloned();
        let objects = objects.filter(|name| !name.starts_with("admin."));
        objects.collect::<Vec<_>>().join(" ")
    };
    for (database, code, expected) in [
        ("", 3, "crm.people lend.loans"),
        ("database = \"*\"", 0, "crm.people lend.loans"),
        ("database = \"lend\"", 0, "lend.loans"),
    ] {
        configure(database);
        let text = with(code, &["config", "check"]);
        let is_named = text.contains("the database \"lend\" in `url` selects nothing");
        assert_eq!(is_named, code == 3, "{text}");
        assert_eq!(text.contains("unless `include` selects some: lend"), code == 3, "{text}");
        with(0, &["run", "lend"]);
        assert_eq!(names(), expected, "{database}");
    }
    let json = || -> Value {
        let text =
            place.cli.run(&["--config", file.to_str().unwrap(), "config", "check", "--json"]);
        serde_json::from_str(&text.text()).unwrap()
    };
    assert_eq!(json()["ignored_databases"], serde_json::json!([]));
    configure("");
    assert_eq!(json()["ignored_databases"][0]["section"], "[sources.lend]");
    // As a target by its name, too.
    configure("database = \"lend_copy\"");
    with(0, &["restore", "latest", "--job", "lend", "--target", "lend"]);
    let found = state(&server.client).await;
    same(&of_database(&found, "lend"), &of_database(&found, "lend_copy"));
}

/// A user may list some databases only: the run warns, the snapshot records these databases, and
/// nothing outside them is removed with it.
pub(super) async fn hidden_databases_are_no_part_of_the_snapshot(version: Version) {
    let (server, place) = (Mongod::with_users(version).await, Place::new());
    insert(&server, "shop", "orders", 2).await;
    insert(&server, "crm", "people", 2).await;
    let role = |db: &str| doc! { "role": "read", "db": db };
    let roles = vec![role("shop"), role("local"), role("config")];
    server.run("admin", doc! { "createUser": "part", "pwd": "x", "roles": roles }).await;
    let part = server.uri().replace("admin:pass%20word", "part:x");
    let run = ["run", "--job", "part", "--source", &*part];
    let text = place.ends(3, &run);
    let warning = "the user may list only some databases, and the snapshot holds only these (shop)";
    assert_eq!(text.matches(warning).count(), 1, "{text}");
    let manifest = || manifest(&place, "part");
    assert_eq!(manifest()["include"], serde_json::json!(["shop"]));
    assert_eq!(manifest()["totals"]["warnings"], 1);
    // The named databases are visible: nothing is missing.
    for more in [&["--include", "shop.*"][..], &["--include", "shop"]] {
        let text = place.ends(0, &[&run[..], more].concat());
        assert!(!text.contains("may list"), "{text}");
    }
    place.ends(3, &[&run[..], &["--include", "*.orders"]].concat());

    insert(&server, "shop", "later", 1).await;
    for snapshot in [&["--include", "*"][..], &[]] {
        place.ends(3, &[&run[..], snapshot].concat());
        insert(&server, "shop", "newest", 1).await;
        let restore = ["restore", "latest", "--job", "part", "--target", server.uri()];
        let delete = [&restore[..], &["--if-exists", "replace", "--delete", "--yes"]].concat();
        let text = place.ends(3, &delete);
        assert!(text.contains("collection shop.newest, 1 document"), "{text}");
        let left: Vec<String> = state(&server.client).await.into_keys().collect();
        assert_eq!(left, ["crm.people", "shop.later", "shop.orders"]);
    }
}

//! The program itself, as somebody at a terminal uses it.

use super::super::place::{Place, SECRET, with_role};
use super::{Version, digests, programs, run_in, value_of};
use crate::support::postgres::Postgres;

pub(crate) async fn a_configuration_is_enough(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server.run("GRANT pg_read_all_data TO backup").await;
    server.run("CREATE DATABASE shop").await;
    run_in(
        &server,
        "shop",
        "CREATE TABLE orders (id int PRIMARY KEY, t text); INSERT INTO orders VALUES (1, 'a'), (2, \
         'b')",
    )
    .await;
    run_in(
        &server,
        "shop",
        "CREATE SCHEMA old; CREATE TABLE old.notes (id serial); INSERT INTO old.notes DEFAULT \
         VALUES",
    )
    .await;
    let more = format!("method = \"logical\"\nparallel = 2\nprograms = {:?}", programs());
    let place = Place::new(&server, &more);
    run_in(
        &server,
        "shop",
        "CREATE TABLE bulk AS SELECT repeat('x', 1000) FROM \
                             generate_series(1, 1000)",
    )
    .await;
    let on_disk = value_of(
        &server,
        "shop",
        "SELECT (pg_table_size('orders') + pg_table_size('old.notes') + \
         pg_table_size('bulk'))::text",
    )
    .await;
    let doctor: serde_json::Value =
        serde_json::from_str(&place.run(&["doctor", "crm", "--json"]).succeeded().text()).unwrap();
    let estimate = doctor["sources"][0]["estimated_bytes"].as_u64();
    assert_eq!(estimate, on_disk.parse().ok(), "never analyzed: {doctor}");
    run_in(&server, "shop", "DROP TABLE bulk").await;
    place.done(&["doctor"]);
    place.done(&["run", "crm"]);
    assert!(place.done(&["list"]).contains("crm"));
    assert!(place.done(&["ls", "latest", "-R"]).contains("/logical/shop/data/public.orders.copy"));
    let copy = Postgres::start(version).await;
    let target = copy.uri();
    // Passwords of roles are the administrator's to read.
    let said = place.done(&["restore", "latest", "--target", &target, "--verify"]);
    assert!(said.contains("2 tables"), "{said}");
    let expected = digests(&server).await;
    assert_eq!(digests(&copy).await, expected);
    let said = place.fails(5, &["restore", "latest", "--target", &target]);
    assert!(said.contains("public.orders") && !said.contains(SECRET), "{said}");
    // One table under another name; a schema replaced, after it was shown and confirmed; a database
    // elsewhere, without owners.
    let rule = "shop.public.orders=shop.public.orders_old";
    place.done(&[
        "restore",
        "latest",
        "--target",
        &target,
        "--only",
        "shop.public.orders",
        "--rename",
        rule,
    ]);
    assert_eq!(digests(&copy).await["shop.public.orders_old"], expected["shop.public.orders"]);
    run_in(&copy, "shop", "TRUNCATE old.notes").await;
    let replace =
        ["restore", "latest", "--target", &target, "--only", "shop.old", "--if-exists", "replace"];
    let plan = place.done(&[&replace[..], &["--dry-run"]].concat());
    assert!(
        plan.contains(
            "    table shop.old.notes, 1 row; replaces the existing table, rows not known\n"
        ),
        "{plan}"
    );
    assert!(!plan.contains("shop.public.orders"), "{plan}");
    place.done(&[&replace[..], &["--yes"]].concat());
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM old.notes").await, "1");
    let renamed = ["--rename", "shop=elsewhere", "--no-owner", "--dry-run"];
    let plan = place.done(&[&["restore", "latest", "--target", &target][..], &renamed].concat());
    assert!(plan.contains("    table elsewhere.public.orders, 2 rows\n"), "{plan}");
    let flags =
        ["--rename", "shop=test", "--no-owner", "--no-privileges", "--no-users", "--only", "shop"];
    place.done(&[&["restore", "latest", "--target", &target][..], &flags].concat());
    assert_eq!(value_of(&copy, "test", "SELECT count(*)::text FROM orders").await, "2");
    // What makes no sense is refused before anything is done.
    place.fails(2, &["restore", "latest", "--target", &place.path("dir")]);
    place.fails(2, &["restore", "latest", "--target", &target, "--start"]);
    place.fails(2, &["restore", "latest", "--target", &target, "--sparse"]);
    let url = server.uri();
    let programs = std::env::join_paths(
        [programs()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = place.command(&[
        "run",
        "--source",
        &url,
        "--method",
        "logical",
        "--include",
        "shop.old",
        "--job",
        "old",
    ]);
    let outcome =
        crate::support::process::run(command.env("PATH", programs.as_ref().unwrap())).succeeded();
    assert!(outcome.stderr.contains("databases of the PostgreSQL cluster"), "{outcome}");
    // Another cluster under the name of a job.
    let mut command =
        place.command(&["run", "--source", &target, "--method", "logical", "--job", "crm"]);
    let outcome = crate::support::process::run(command.env("PATH", programs.unwrap()));
    assert!(outcome.code == 5 && outcome.stderr.contains("system_id"), "{outcome}");
    closed_database(&server, &place).await;
}

/// A database that allows no connections is named, with the statement that allows them.
async fn closed_database(server: &Postgres, place: &Place) {
    server.run("CREATE DATABASE archive ALLOW_CONNECTIONS false").await;
    let doing = "ALTER DATABASE \"archive\" ALLOW_CONNECTIONS true";
    let partial = place.run(&["run", "crm"]);
    assert_eq!(partial.code, 3, "{partial}");
    assert!(partial.stderr.contains("archive") && partial.stderr.contains(doing), "{partial}");
    let alone = place.fails(1, &["run", "crm", "--only", "archive"]);
    let text = "the database archive does not allow connections";
    assert!(alone.contains(text) && alone.contains(doing), "{alone}");
    assert!(!alone.contains("matches nothing"), "{alone}");
    place.done(&["run", "crm", "--exclude", "archive"]);
    server.run("DROP DATABASE archive").await;
}

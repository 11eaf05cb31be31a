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
    place.done(&[&replace[..], &["--yes"]].concat());
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM old.notes").await, "1");
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
}

//! README and `docs/` as users copy them.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the pages, and a check that each page with commands is among them |
//! | `page.rs` | code blocks of a page |
//! | `machine.rs` | [`Machine`]: directories and hosts of the documentation, and a shell |
//! | `servers.rs` | servers with the documented users |
//!
//! A block in `sh` is executed. Every other block with commands is `console`, with the reason in a
//! comment before it.

mod machine;
mod page;
mod servers;

use machine::{Machine, save};
use page::{blocks, names};
use servers::{ALL_ORDERS, assert_sessions, fill, passwords, postgres_total, total};

use crate::support::mongod::{self, Mongod};
use crate::support::postgres::{self, Postgres, hand_over_all};
use crate::support::redis::Redis;

/// A configuration for pages that show parts of one.
const CONFIG: &str = r#"
[repositories.main]
url = "/mnt/backup/main"
passphrase_file = "/etc/backup/main.key"
[repositories.offsite]
url = "/mnt/backup/offsite"
passphrase_file = "/etc/backup/offsite.key"
[repositories.cold]
url = "/mnt/backup/cold"
passphrase_file = "/etc/backup/offsite.key"
[sources.documents]
kind = "files"
paths = ["${HOME}/documents"]
[jobs.documents]
source = "documents"
repository = "main"
keep = { daily = 7 }
[[jobs.documents.schedule]]
at = "30 2 * * *"
[notify]
ops = { kind = "command", command = "cat > /dev/null" }
ops-mail = { kind = "command", command = "cat > /dev/null" }
slack = { kind = "command", command = "cat > /dev/null" }
oncall = { kind = "command", command = "cat > /dev/null" }
[alerts.failed]
condition = "failure"
severity = "critical"
notify = ["ops"]
"#;

/// A job of a database into the repository `main`, and its source of the same name.
fn database(name: &str, kind: &str, url: &str) -> String {
    format!(
        "[sources.{name}]\nkind = {kind:?}\nurl = {url:?}\npassword_file = \
         \"/etc/backup/{name}.password\"\n[jobs.{name}]\nsource = {name:?}\nrepository = \"main\"\n"
    )
}

fn crm_job() -> String {
    database("crm", "postgres", "postgres://backup@db1/")
}

fn shop_and_cache_jobs() -> String {
    database("shop", "mongodb", "mongodb://backup@db1,db2/?replicaSet=rs0")
        + &database("cache", "redis", "redis://backup@cache1")
}

/// A repository `main` with a snapshot, and a copy `offsite`.
const MAIN: &str = "
backup init -r main --generate-key
backup init -r offsite --like main --generate-key
backup init -r cold --like main
backup run documents -r main
backup copy --from main --to offsite --all
";

/// A base backup and some log of the job `crm`.
const CRM_LOG: &str = "
backup run crm -r main
timeout --signal INT 8 backup logs follow crm -r main || test $? -eq 124
";

#[test]
fn each_block_is_executed_or_has_a_reason() {
    let known =
        ["sh", "console", "toml", "text", "json", "js", "sql", "ini", "rust", "yaml", "promql"];
    // The tests below name the pages that they execute; nothing else here does.
    let tests = include_str!("mod.rs");
    for name in names() {
        let executed = tests.contains(&format!("{name:?}"));
        for block in blocks(&name) {
            let place = format!("{name}:{}", block.line);
            assert!(known.contains(&block.language.as_str()), "{place}: `{}`", block.language);
            assert!(block.language != "sh" || executed, "{place}: no test executes this page");
            let has_reason = block.has_reason == (block.language == "console");
            assert!(has_reason, "{place}: `<!-- console: reason -->` belongs before `console`");
            if block.language == "toml" {
                let parsed = toml::from_str::<toml::Table>(&block.text);
                assert!(parsed.is_ok(), "{place}: {}", parsed.unwrap_err());
            }
        }
    }
}

fn mongodb_hosts(server: &Mongod) -> (&'static str, String) {
    ("db1,db2/?replicaSet=rs0", format!("127.0.0.1:{}/?replicaSet=rs", server.port()))
}

fn postgres_hosts(server: &Postgres) -> [(&'static str, String); 2] {
    ["db1,db2/", "db1/"].map(|host| (host, format!("127.0.0.1:{}/", server.port())))
}

fn redis_host(host: &'static str, server: &Redis) -> (&'static str, String) {
    (host, format!("127.0.0.1:{}", server.port()))
}

/// A server starts on the data directory, and has the orders.
async fn assert_starts(machine: &Machine, directory: &str) {
    let data = machine.path(directory);
    hand_over_all(&data);
    let server = Postgres::recovered(postgres::Version::V18, &data, &[]).await;
    assert_eq!(postgres_total(&server, "crm").await, ALL_ORDERS);
}

#[test]
fn needs_restic_new_page_files() {
    let machine = Machine::new(&[]);
    machine.execute("docs/files.md", "");
    machine.assert_documents("tmp/restored");
    let listed = machine.shell("tar -tf /tmp/documents.tar");
    assert!(listed.contains("letter.txt") && listed.contains("thesis.odt"), "{listed}");
    machine.assert_intact("home");
}

#[test]
fn needs_restic_new_page_commands() {
    let machine = Machine::new(&[]);
    machine.execute("docs/commands.md", "");
    machine.assert_documents("tmp/restored");
    machine.assert_intact("home");
    machine.shell(
        "restic -r /mnt/backup2/home --password-file /etc/backup/home2.key --no-lock --no-cache \
         check --read-data",
    );
}

/// A machine with the repository `main`, after the commands `before`.
fn machine_with_main(hosts: &[(&str, String)], jobs: &str, before: &str) -> (Machine, String) {
    let machine = Machine::new(hosts);
    passwords(&machine);
    machine.password("mail.password", "hush");
    let config = format!("{CONFIG}{jobs}");
    machine.shell(&format!("{}{MAIN}{before}", save(&toml::from_str(&config).unwrap())));
    (machine, config)
}

/// Pages that need no server, each on a machine of its own.
fn of_a_repository(pages: &[&str]) {
    for page in pages {
        let (machine, config) = machine_with_main(&[], &crm_job(), "");
        machine.execute(page, &config);
        machine.assert_intact("main");
        machine.assert_intact("offsite");
        machine.shell("backup restore latest -r main --job documents --target /srv/later");
        machine.assert_documents("srv/later");
    }
}

#[test]
fn needs_restic_new_pages_of_a_repository() {
    of_a_repository(&[
        "docs/audit.md",
        "docs/format.md",
        "docs/limits.md",
        "docs/retention.md",
        "docs/storage.md",
        "docs/runbooks/disk-full.md",
        "docs/runbooks/key-lost.md",
        "docs/runbooks/repository-damaged.md",
    ]);
}

#[test]
fn needs_restic_new_pages_of_the_daemon() {
    of_a_repository(&[
        "docs/alerts.md",
        "docs/api.md",
        "docs/compliance.md",
        "docs/daemon.md",
        "docs/notify.md",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_mongodb() {
    let server = servers::mongodb().await;
    let machine = Machine::new(&[mongodb_hosts(&server)]);
    passwords(&machine);
    machine.execute("docs/mongodb.md", "");
    for database in ["shop", "shop_test"] {
        assert_eq!(total(&server, database).await, ALL_ORDERS, "{database}");
    }
    assert_eq!(total(&server, "shop_then").await.0, 0, "a dry run");
    let dumped = machine.shell("stat -c %s /tmp/dump/shop/orders.bson");
    assert!(dumped.trim().parse::<u64>().unwrap() >= 500 * 20, "{dumped}");
    machine.assert_intact("home");
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_mongodb_logs() {
    let server = servers::mongodb().await;
    let machine = Machine::new(&[mongodb_hosts(&server)]);
    passwords(&machine);
    machine.execute("docs/logs.md", "");
    assert_eq!(total(&server, "shop_then").await, ALL_ORDERS);
    machine.assert_intact("home");
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_postgres() {
    let server = servers::postgres().await;
    let machine = Machine::new(&postgres_hosts(&server));
    passwords(&machine);
    machine.execute("docs/postgres.md", "");
    assert_eq!(postgres_total(&server, "crm_copy").await, ALL_ORDERS);
    machine.assert_intact("home");
    assert_starts(&machine, "srv/crm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_postgres_runbooks() {
    let server = servers::postgres().await;
    for page in ["docs/runbooks/log-gap.md", "docs/runbooks/replication-slot.md"] {
        let (machine, config) = machine_with_main(&postgres_hosts(&server), &crm_job(), CRM_LOG);
        machine.execute(page, &config);
        machine.assert_intact("main");
        machine.shell("backup restore latest -r main --job crm --target /srv/later");
        assert_starts(&machine, "srv/later").await;
        server.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await;
    }
}

#[test]
fn needs_docs_redis() {
    let (server, target) = (servers::redis(), servers::redis());
    let machine = Machine::new(&[redis_host("cache1", &server), redis_host("cache2", &target)]);
    passwords(&machine);
    fill(&server);
    machine.execute("docs/redis.md", "");
    assert_eq!(target.debug_digest(), server.debug_digest(), "a restore as a replica");
    machine.assert_intact("home");
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_all_readme() {
    let (shop, crm, cache) =
        (servers::mongodb().await, servers::postgres().await, servers::redis());
    let mut hosts = vec![mongodb_hosts(&shop), redis_host("cache1", &cache)];
    hosts.extend(postgres_hosts(&crm));
    let machine = Machine::new(&hosts);
    passwords(&machine);
    fill(&cache);
    machine.execute("README.md", "");
    machine.assert_documents("tmp/restored");
    machine.assert_documents("tmp/restored-by-restic");
    assert_eq!(total(&shop, "shop_test").await, ALL_ORDERS);
    assert_sessions(&cache, "7");
    machine.assert_intact("home");
    assert_starts(&machine, "srv/crm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_docs_all_restore_now() {
    let (shop, crm) = (servers::mongodb().await, servers::postgres().await);
    let (cache, empty) = (servers::redis(), servers::redis());
    let target = Mongod::start(mongod::Version::V6_0).await;
    let mut hosts = vec![
        mongodb_hosts(&shop),
        redis_host("cache1", &cache),
        redis_host("cache2:6379", &empty),
        ("db3:27017/", format!("127.0.0.1:{}/?directConnection=true", target.port())),
    ];
    hosts.extend(postgres_hosts(&crm));
    fill(&cache);
    let before = format!("{CRM_LOG}backup run shop -r main\nbackup run cache -r main\n");
    let (machine, config) =
        machine_with_main(&hosts, &(crm_job() + &shop_and_cache_jobs()), &before);
    machine.execute("docs/runbooks/restore-now.md", &config);
    machine.assert_documents("srv/restored");
    assert_eq!(total(&target, "shop").await, ALL_ORDERS);
    assert_eq!(empty.debug_digest(), cache.debug_digest());
    for page in ["docs/runs.md", "docs/runbooks/configuration-broken.md"] {
        machine.execute(page, &config);
    }
    machine.assert_intact("main");
    assert_starts(&machine, "srv/crm").await;
}

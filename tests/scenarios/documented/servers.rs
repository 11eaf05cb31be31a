//! Servers with the users that the documentation asks for.

use bson::{Document, bson, doc};

use super::machine::Machine;
use crate::support::mongod::{self, Mongod};
use crate::support::postgres::{self, Postgres};
use crate::support::redis::{self, Redis};

/// Password of every user.
const PASSWORD: &str = "hush";

/// A replica set with the users `backup` and `restore`, orders and sessions.
pub(super) async fn mongodb() -> Mongod {
    let server = Mongod::with_users(mongod::Version::V6_0).await;
    let roles = ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase"];
    for (user, roles) in [("backup", bson!(["backup"])), ("restore", bson!(roles.to_vec()))] {
        server.run("admin", doc! { "createUser": user, "pwd": PASSWORD, "roles": roles }).await;
    }
    let orders = (0..500).map(|number| doc! { "_id": number, "total": number * 7 });
    let collection = server.client.database("shop").collection::<Document>("orders");
    collection.insert_many(orders).await.unwrap();
    let other = server.client.database("other").collection::<Document>("things");
    other.insert_one(doc! { "_id": 1 }).await.unwrap();
    server
}

/// The sum of the totals of `orders` in a database of a server.
pub(super) async fn total(server: &Mongod, database: &str) -> (u64, i64) {
    let collection = server.client.database(database).collection::<Document>("orders");
    let (mut number, mut total) = (0, 0);
    let mut orders = collection.find(doc! {}).await.unwrap();
    while orders.advance().await.unwrap() {
        number += 1;
        total += i64::from(orders.current().get_i32("total").unwrap());
    }
    (number, total)
}

/// All of them: 500, with the total of `0 * 7 + 1 * 7 + … + 499 * 7`.
pub(super) const ALL_ORDERS: (u64, i64) = (500, 873_250);

/// A cluster with the role `backup` and the database `crm`.
pub(super) async fn postgres() -> Postgres {
    let server = Postgres::start(postgres::Version::V18).await;
    let lines = "host all postgres,admin 127.0.0.1/32 trust\n\
                 host all,replication backup 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.data().join("pg_hba.conf"), lines).unwrap();
    server
        .run(&format!(
            "CREATE ROLE backup LOGIN REPLICATION PASSWORD '{PASSWORD}'; GRANT pg_monitor TO backup; \
             GRANT pg_read_all_data TO backup; CREATE ROLE admin LOGIN SUPERUSER"
        ))
        .await;
    server.run("CREATE DATABASE crm").await;
    let orders = "CREATE TABLE orders (id int PRIMARY KEY, total int);
                  INSERT INTO orders SELECT n, n * 7 FROM generate_series(0, 499) n";
    server.client_of("crm").await.batch_execute(orders).await.unwrap();
    server.run("SELECT pg_reload_conf()").await;
    server
}

/// The number and the total of the orders in a database.
pub(super) async fn postgres_total(server: &Postgres, database: &str) -> (u64, i64) {
    let client = server.client_of(database).await;
    let row = client.query_one("SELECT count(*), sum(total) FROM orders", &[]).await.unwrap();
    (row.get::<_, i64>(0).unsigned_abs(), row.get(1))
}

/// A server with the users `backup`, `restore` and `replica`.
pub(super) fn redis() -> Redis {
    let server = Redis::start(redis::Version::Redis8);
    let password = format!(">{PASSWORD}");
    let users = [
        ("backup", "+psync +replconf +ping +info +acl|whoami +acl|dryrun"),
        (
            "restore",
            "~* +info +time +config|get +select +dbsize +restore +dump +exists +pexpiretime +pttl \
             +hpexpireat +flushall +flushdb +function|restore +function|flush",
        ),
        ("replica", "+replicaof +info +select +config|get +function|list +time +psync +replconf"),
    ];
    for (user, privileges) in users {
        let first = ["ACL", "SETUSER", user, "on", &password];
        let words: Vec<&str> = first.into_iter().chain(privileges.split_whitespace()).collect();
        server.run(&words);
    }
    server
}

/// Writes 100 sessions and one other key into database 0.
pub(super) fn fill(server: &Redis) {
    for number in 0..100 {
        server.run(&["SET", &format!("session:{number}"), &format!("user {number}")]);
    }
    server.run(&["SET", "counter", "7"]);
}

/// Fails unless exactly the sessions are in a database of a server.
pub(super) fn assert_sessions(server: &Redis, database: &str) {
    let mut client = server.client();
    client.ok(&["SELECT", database]);
    assert_eq!(client.ok(&["DBSIZE"]).number(), 100);
    for number in 0..100 {
        let found = client.ok(&["GET", &format!("session:{number}")]).text();
        assert_eq!(found, format!("user {number}"));
    }
}

/// Writes the passwords of all users where the documentation has them.
pub(super) fn passwords(machine: &Machine) {
    for name in ["shop", "shop-restore", "crm", "crm-restore", "cache", "cache-restore"] {
        machine.password(&format!("{name}.password"), PASSWORD);
    }
    machine.password("cache-replica.password", PASSWORD);
}

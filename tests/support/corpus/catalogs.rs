//! Crafted snapshots of databases: no name in their catalogs leads out of the target.

use serde_json::{Value, json};

/// A snapshot of a source.
pub(crate) struct Catalog {
    pub(crate) name: &'static str,
    /// Value of the tag `source`.
    pub(crate) source: &'static str,
    /// Paths in the snapshot and contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// True if it can be exported or restored.
    pub(crate) is_usable: bool,
}

/// A file is shown by the escapes of its bytes, as other contents of the corpus.
pub(crate) fn shown(case: &Catalog) -> Value {
    let files: Vec<Value> = case
        .files
        .iter()
        .map(|(path, bytes)| json!({"path": path, "content": super::content(bytes)}))
        .collect();
    let Catalog { name, source, is_usable, .. } = case;
    json!({"name": name, "source": source, "files": files, "usable": is_usable})
}

/// A document of BSON with these elements.
fn document(elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let len = i32::try_from(body.len() + 5).unwrap();
    [&len.to_le_bytes()[..], &body, &[0]].concat()
}

fn element(kind: u8, key: &str, value: &[u8]) -> Vec<u8> {
    [&[kind][..], key.as_bytes(), &[0], value].concat()
}

fn text(key: &str, value: &str) -> Vec<u8> {
    let len = i32::try_from(value.len() + 1).unwrap();
    element(2, key, &[&len.to_le_bytes()[..], value.as_bytes(), &[0]].concat())
}

fn number(key: &str, value: i32) -> Vec<u8> {
    element(16, key, &value.to_le_bytes())
}

/// The first document of a catalog.
fn head() -> Vec<u8> {
    let numbers = [("0", 6), ("1", 0), ("2", 5)].map(|(key, value)| number(key, value));
    document(&[
        number("schema", 1),
        element(4, "version", &document(&numbers)),
        element(8, "needs_oplog", &[0]),
        element(4, "include", &document(&[])),
        element(4, "exclude", &document(&[])),
    ])
}

/// A collection with its data at this path.
fn collection(db: &str, name: &str, path: &str, number: u8, options: &[u8]) -> Vec<u8> {
    let uuid = [&16_i32.to_le_bytes()[..], &[4], &[number; 16]].concat();
    document(&[
        text("db", db),
        text("name", name),
        text("type", "collection"),
        element(5, "uuid", &uuid),
        element(3, "options", options),
        element(4, "indexes", &document(&[])),
        text("path", path),
    ])
}

const DATA: &str = "dump/shop/orders.bson";

fn mongodb(name: &'static str, collections: &[Vec<u8>], is_usable: bool) -> Catalog {
    let catalog = [vec![head()], collections.to_vec()].concat().concat();
    let files = vec![
        ("mongodb/rs0/catalog.bson".to_owned(), catalog),
        (format!("mongodb/rs0/{DATA}"), document(&[number("_id", 1)])),
    ];
    Catalog { name, source: "mongodb", files, is_usable }
}

fn redis(name: &'static str, node: &str, description: &str) -> Catalog {
    let files = vec![
        (format!("redis/{node}/node.json"), description.as_bytes().to_vec()),
        (format!("redis/{node}/dump.rdb"), b"REDIS0011\xff\0\0\0\0\0\0\0\0".to_vec()),
    ];
    Catalog { name, source: "redis", files, is_usable: false }
}

fn postgres(name: &'static str, system: &str, description: &str) -> Catalog {
    let at = |path: &str| format!("postgres/{system}/{path}");
    let files = vec![
        (at("cluster.json"), description.as_bytes().to_vec()),
        (at("base/PG_VERSION"), b"15\n".to_vec()),
        (at("base/tablespace_map"), b"16384 /tmp/escaped\n".to_vec()),
        (at("base/backup_label"), b"START WAL LOCATION: ../../escaped\n".to_vec()),
        (at("tablespaces/16384/PG_15/1/2"), b"page".to_vec()),
    ];
    Catalog { name, source: "postgres", files, is_usable: false }
}

fn of_mongodb() -> Vec<Catalog> {
    let none = document(&[]);
    let named = |name, db: &str, collection_name: &str, is_usable| {
        mongodb(name, &[collection(db, collection_name, DATA, 1, &none)], is_usable)
    };
    let long = "a".repeat(5000);
    let mut nested = document(&[]);
    for _ in 0..2000 {
        nested = document(&[element(3, "a", &nested)]);
    }
    let twice = [1, 2].map(|number| collection("shop", "orders", DATA, number, &none));
    vec![
        named("sound", "shop", "orders", true),
        named("database that is a path", "../../escaped", "orders", false),
        named("database that is an absolute path", "/tmp/escaped", "orders", false),
        named("database above the target", "..", "orders", false),
        named("database without a name", "", "orders", false),
        named("database in a database", "shop/../..", "orders", false),
        named("database with NUL", "shop\0", "orders", false),
        named("database of 5000 bytes", &long, "orders", false),
        named("collection that is a path", "shop", "../../escaped", true),
        named("collection that is an absolute path", "shop", "/tmp/escaped", true),
        named("collection with NUL", "shop", "a\0b", true),
        named("collection of 5000 bytes", "shop", &long, true),
        mongodb("collection twice", &twice, false),
        mongodb(
            "data that are elsewhere",
            &[collection("shop", "orders", "../../../../etc/passwd", 1, &none)],
            false,
        ),
        mongodb("2000 levels", &[collection("shop", "orders", DATA, 1, &nested)], false),
    ]
}

/// The description of a dump of Redis with these databases and this member of a cluster.
fn described(databases: &str, member: &str) -> String {
    format!(
        "{{\"replication_id\":\"../../escaped\",\"offset\":1,\"time\":\"2026-01-01T00:00:00Z\"{member},\
         \"dump\":{{\"format\":\"redis\",\"version\":11,\"bytes\":18,\"remarks\":{{}},\
         \"databases\":{databases},\"libraries\":0,\"module_data\":false,\"biggest\":[],\
         \"not_hashed\":0}}}}"
    )
}

fn of_redis() -> Vec<Catalog> {
    let member = |masters: &str| {
        format!(",\"member\":{{\"id\":\"../escaped\",\"slots\":\"0-16383\",\"masters\":{masters}}}")
    };
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        redis("database of 2^32", "a:1", &described("{\"4294967296\":{}}", "")),
        redis("negative database", "a:1", &described("{\"-1\":{}}", "")),
        redis("database that is a path", "a:1", &described("{\"../../escaped\":{}}", "")),
        redis("databases of 100 000 levels", "a:1", &described(&nested, "")),
        redis("2^64 - 1 masters", "a:1", &described("{}", &member("18446744073709551615"))),
        redis("node above the target", "..", &described("{}", &member("1"))),
    ]
}

fn of_postgres() -> Vec<Catalog> {
    let cluster = |tablespaces: &str, more: &str| {
        format!(
            "{{\"system_id\":\"7\",\"version\":150018,\"wal_segment_size\":16777216,\
             \"timeline\":1,\"start\":\"0/2000028\",\"end\":\"0/2000100\",\
             \"tablespaces\":{tablespaces},\"settings\":{{}}{more}}}"
        )
    };
    let at = |location: &str| cluster(&format!("{{\"16384\":\"{location}\"}}"), "");
    let long = format!("/{}", "a".repeat(5000));
    vec![
        postgres("tablespace elsewhere", "7", &at("/tmp/escaped")),
        postgres("tablespace that is a path", "7", &at("../../escaped")),
        postgres("tablespace of 5000 bytes", "7", &at(&long)),
        postgres("tablespace with NUL", "7", &at("/tmp/a\\u0000b")),
        postgres("path as number of a tablespace", "7", &cluster("{\"../x\":\"/tmp/x\"}", "")),
        postgres("2^32 - 1 increments", "7", &cluster("{}", ",\"increments\":4294967295")),
        postgres("cluster above the target", "..", &cluster("{}", "")),
    ]
}

/// All cases.
pub(crate) fn cases() -> Vec<Catalog> {
    [of_mongodb(), of_redis(), of_postgres()].into_iter().flatten().collect()
}

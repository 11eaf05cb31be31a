//! The state of a database, by SQL and stock `pg_dump`: nothing here is the product's.

use std::collections::BTreeMap;
use std::process::Command;

use tokio_postgres::Client;

use super::super::programs;
use super::names::{quoted, text};
use crate::support::postgres::Postgres;

/// Relations with rows, their kinds, and whether they are partitions.
const RELATIONS: &str = "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relispartition, \
                         c.relispopulated FROM pg_class c JOIN pg_namespace n ON n.oid = \
                         c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname NOT LIKE \
                         'pg\\_%' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM \
                         pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND \
                         d.deptype = 'e')";
const LARGE: &str = "SELECT coalesce(string_agg(concat_ws(' ', m.oid, m.lomowner::regrole, \
                     (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(m.lomacl) a), \
                     obj_description(m.oid, 'pg_largeobject'), md5(lo_get(m.oid))), E'\\n' ORDER BY \
                     m.oid), '') FROM pg_largeobject_metadata m";

/// Digests of the rows of each relation, values of sequences, large objects.
pub(super) type Rows = BTreeMap<String, String>;

/// Digests of rows in any order.
pub(super) fn digest_of(from: &str) -> String {
    format!(
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(d, '' ORDER BY d)), '') FROM (SELECT \
         md5(\"the whole row\"::text) COLLATE \"C\" AS d FROM {from} AS \"the whole row\") AS q"
    )
}

async fn one(client: &Client, sql: &str) -> Result<String, String> {
    let row = client.query_one(sql, &[]).await;
    let row = row.map_err(|error| format!("{sql}: {error} {:?}", error.as_db_error()))?;
    Ok(row.get(0))
}

/// The rows of a database. Partitions whose rows depend on the server count with their table.
pub(super) async fn rows(
    server: &Postgres,
    database: &str,
    moves: &[String],
) -> Result<Rows, String> {
    let client = server.client_of(&escaped(database)).await;
    let found = client.query(RELATIONS, &[]).await.map_err(|error| error.to_string())?;
    let mut rows = Rows::new();
    for row in found {
        let (schema, name, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (is_partition, is_populated): (bool, bool) = (row.get(3), row.get(4));
        let relation = format!("{}.{}", quoted(&schema), quoted(&name));
        let value = match &*kind {
            "S" => {
                one(&client, &format!("SELECT last_value || ' ' || is_called FROM {relation}"))
                    .await?
            }
            "p" => one(&client, &digest_of(&relation)).await?,
            _ if is_partition
                && one(&client, &root_of(&relation))
                    .await
                    .is_ok_and(|root| moves.contains(&root)) =>
            {
                continue;
            }
            "m" if !is_populated => "not populated".to_owned(),
            "m" => one(&client, &digest_of(&relation)).await?,
            _ => one(&client, &digest_of(&format!("ONLY {relation}"))).await?,
        };
        if kind == "p"
            && is_partition
            && one(&client, &root_of(&relation)).await.is_ok_and(|root| moves.contains(&root))
        {
            continue;
        }
        rows.insert(relation, value);
    }
    rows.insert("large objects".to_owned(), one(&client, LARGE).await?);
    Ok(rows)
}

/// The partitioned table above a partition.
fn root_of(relation: &str) -> String {
    format!(
        "SELECT '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"' FROM \
         pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = \
         pg_partition_root({}::regclass)",
        text(relation)
    )
}

/// A value of a connection string.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

/// All definitions by stock `pg_dump`.
pub(super) fn definitions(server: &Postgres, database: &str) -> Result<String, String> {
    let mut command = Command::new(programs().join("pg_dump"));
    command.args(["--schema-only", "--create", "-h", "127.0.0.1", "-U", "postgres"]);
    command.args(["-p", &server.port().to_string()]);
    command.arg("-d").arg(format!("dbname='{}'", escaped(database)));
    let output = command.env("PGOPTIONS", "-c lc_monetary=C").output().unwrap();
    if !output.status.success() {
        return Err(format!("pg_dump: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let dump = String::from_utf8(output.stdout).unwrap();
    let is_key = |line: &str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    let lines = dump.split_inclusive('\n').filter(|line| !line.starts_with("-- Dumped"));
    Ok(lines.filter(|line| !is_key(line)).collect())
}

/// The first lines that differ.
pub(super) fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.take(12).collect::<Vec<_>>().join("\n")
    };
    let (missing, added) = (only(expected, found), only(found, expected));
    if missing.is_empty() && added.is_empty() {
        let at = expected.lines().zip(found.lines()).position(|(one, other)| one != other);
        let at = at.unwrap_or_default();
        let shown = |text: &str| text.lines().skip(at).take(4).collect::<Vec<_>>().join("\n");
        return Some(format!("order:\n{}\n--- found\n{}", shown(expected), shown(found)));
    }
    Some(format!("missing:\n{missing}\n--- found\n{added}"))
}

/// The relations that differ.
pub(super) fn differing(expected: &Rows, found: &Rows) -> Option<String> {
    let lines: Vec<String> = expected
        .iter()
        .filter(|(name, value)| found.get(*name) != Some(value))
        .map(|(name, value)| format!("{name}: {value}, found {:?}", found.get(name)))
        .chain(
            found
                .keys()
                .filter(|name| !expected.contains_key(*name))
                .map(|name| format!("{name} is new")),
        )
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

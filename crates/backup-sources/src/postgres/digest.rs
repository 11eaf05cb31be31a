//! Digests of tables, computed by the server: of each row the hash of its text, by two seeds, and
//! their sums. They do not depend on the order of rows, on the version or on the place of anything
//! on disk.

use backup_core::context::Context;
use backup_core::source::{Digest, EntryPath, ObjectDigest, Selection, SourceResult};

use super::error::{malformed, of_sql};
use super::options::PostgresOptions;
use super::wire::Sql;

/// The text of a row must not depend on who asks, and nobody must be shown less than there is.
const SETTINGS: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL row_security = \
                        off; SET LOCAL statement_timeout = 0; SET LOCAL search_path = pg_catalog; \
                        SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; \
                        SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 3; SET LOCAL \
                        bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'; SET LOCAL xmlbinary = \
                        'base64'";

/// Tables and materialized views of users. What is unlogged or temporary is not in a backup.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, \
                      c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND \
                      c.relispopulated AND n.nspname <> 'information_schema' AND n.nspname NOT \
                      LIKE 'pg\\_%' ORDER BY 1, 2";

/// Digests of everything that the selection covers, by `database.schema.table`. Its patterns are
/// about `/database/schema/table`.
pub(super) async fn digest(
    cx: &Context,
    options: &PostgresOptions,
    selection: &Selection,
) -> SourceResult<Digest> {
    const DATABASES: &str =
        "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    let sql = Sql::open(options, &options.database).await?;
    let databases = sql
        .client
        .query(DATABASES, &[])
        .await
        .map_err(|error| of_sql(&error, "cannot list the databases"))?;
    let mut digest = Digest::default();
    for row in databases {
        let database: String =
            row.try_get(0).map_err(|error| of_sql(&error, "cannot list the databases"))?;
        add_database(cx, options, selection, &database, &mut digest).await?;
    }
    Ok(digest)
}

async fn add_database(
    cx: &Context,
    options: &PostgresOptions,
    selection: &Selection,
    database: &str,
    digest: &mut Digest,
) -> SourceResult<()> {
    let doing = |error: tokio_postgres::Error| {
        of_sql(&error, format!("cannot list the tables of {database}"))
    };
    let sql = Sql::open(options, database).await?;
    sql.client.batch_execute(SETTINGS).await.map_err(doing)?;
    for row in sql.client.query(TABLES, &[]).await.map_err(doing)? {
        cx.check_cancelled()?;
        let get = |at| row.try_get::<_, String>(at).map_err(doing);
        let (schema, table, quoted) = (get(0)?, get(1)?, get(2)?);
        let path = [database, &schema, &table]
            .iter()
            .fold(EntryPath::root(), |path, name| path.join(name.as_bytes()));
        if selection.covers(&path) {
            let found = of_table(&sql, &quoted).await?;
            digest.objects.insert(format!("{database}.{schema}.{table}"), found);
        }
    }
    sql.client.batch_execute("COMMIT").await.map_err(doing)
}

/// The parts of a digest. Sums of tables with the same columns can be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    /// Rows.
    pub(super) count: u64,
    bytes: u64,
    /// Of the hashes of the rows, by two seeds.
    hashes: [i128; 2],
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        for (sum, more) in self.hashes.iter_mut().zip(other.hashes) {
            *sum += more;
        }
    }

    pub(super) fn digest(&self) -> ObjectDigest {
        let [first, second] = self.hashes;
        let digest = format!("{first:016x}{second:016x}");
        ObjectDigest { count: self.count, bytes: self.bytes, digest }
    }
}

/// The digest of one table, in a session in which texts do not depend on who asks.
pub(super) async fn of_table(sql: &Sql, quoted: &str) -> SourceResult<ObjectDigest> {
    Ok(sums_of(sql, quoted).await?.digest())
}

/// Like [`of_table`].
pub(super) async fn sums_of(sql: &Sql, quoted: &str) -> SourceResult<Sums> {
    // Only its own rows: those of children are digested as theirs. Without `.*` a column of the
    // name `t` would stand for the row.
    let asking = format!(
        "SELECT count(*), coalesce(sum(octet_length(line)), 0)::bigint, \
         coalesce(sum(hashtextextended(line, 0)), 0)::text, coalesce(sum(hashtextextended(line, \
         1)), 0)::text FROM (SELECT (t.*)::text COLLATE \"C\" AS line FROM ONLY {quoted} t) lines"
    );
    let doing = |error: tokio_postgres::Error| of_sql(&error, format!("cannot read {quoted}"));
    let row = sql.client.query_one(&asking, &[]).await.map_err(doing)?;
    let number = |at| {
        let value: i64 = row.try_get(at).map_err(doing)?;
        u64::try_from(value).map_err(|_| malformed(format!("size of {quoted}")))
    };
    let (first, second): (&str, &str) =
        (row.try_get(2).map_err(doing)?, row.try_get(3).map_err(doing)?);
    let sum =
        |text: &str| text.parse::<i128>().map_err(|_| malformed(format!("digest of {quoted}")));
    Ok(Sums { count: number(0)?, bytes: number(1)?, hashes: [sum(first)?, sum(second)?] })
}

//! Backups that other servers can load: names as they are, and rows that find their partitions
//! there.

use backup_core::source::{IfExists, RestoreRequest, Selection};

use super::parts::request;
use super::{
    Version, backed_up, definitions, digests, logical, renaming, repo, restored, run_in, selection,
    source, talking, try_back_up, value_of,
};
use crate::support::postgres::Postgres;

/// Objects of every kind, in a schema and under names with line ends.
const LINES: &str = "CREATE SCHEMA \"a\nb\"; CREATE TYPE \"a\nb\".\"m\nood\" AS ENUM ('x', 'y'); CREATE \
                     FUNCTION \"a\nb\".\"f\rg\"() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE \
                     TABLE \"a\nb\".\"t\nu\" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s \
                     serial, \"c\nd\" \"a\nb\".\"m\nood\") PARTITION BY RANGE (id); CREATE TABLE \
                     \"a\nb\".\"p\nq\" PARTITION OF \"a\nb\".\"t\nu\" DEFAULT; CREATE INDEX \
                     \"i\nj\" ON \"a\nb\".\"t\nu\" (s); CREATE VIEW \"a\nb\".\"v\nw\" AS SELECT * \
                     FROM \"a\nb\".\"t\nu\"; CREATE MATERIALIZED VIEW \"a\nb\".\"x\ny\" AS SELECT \
                     count(*) FROM \"a\nb\".\"t\nu\" WITH NO DATA; CREATE SEQUENCE \"a\nb\".\"o\nn\"; \
                     SELECT nextval('\"a\nb\".\"o\nn\"'); COMMENT ON SCHEMA \"a\nb\" IS 'c'; \
                     COMMENT ON TABLE \"a\nb\".\"t\nu\" IS E'one\ntwo'; ALTER TABLE \"a\nb\".\"p\nq\" \
                     ENABLE ROW LEVEL SECURITY; INSERT INTO \"a\nb\".\"t\nu\" (\"c\nd\") SELECT 'x' \
                     FROM generate_series(1, 20); REFRESH MATERIALIZED VIEW \"a\nb\".\"x\ny\"; \
                     CREATE TABLE \"a b\" (id int); INSERT INTO \"a b\" VALUES (1)";

pub(crate) async fn names_keep_their_line_ends(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE shop").await;
    run_in(&server, "shop", LINES).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let same = async |copy: &Postgres| {
        assert_eq!(definitions(&server, "shop"), definitions(copy, "shop"));
        assert_eq!(digests(&server).await, digests(copy).await);
        let sequence = "SELECT (nextval('\"a\nb\".\"o\nn\"') - 1)::text";
        assert_eq!(value_of(copy, "shop", sequence).await, "1");
    };
    same(&copy).await;
    // The schema by its name, and one table of it under another one.
    let part = Postgres::start(version).await;
    restored(&snapshot, logical(&part), request(&["shop.a\nb"], IfExists::Fail)).await;
    let kinds = "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = \
                 c.relnamespace WHERE n.nspname = E'a\\nb' AND position(E'\\n' IN c.relname) > 0";
    assert_eq!(value_of(&part, "shop", kinds).await, value_of(&server, "shop", kinds).await);
    let called = "SELECT \"a\nb\".\"f\rg\"()::text";
    assert_eq!(value_of(&part, "shop", called).await, "1");
    run_in(&part, "shop", "CREATE TYPE \"a\nb\".again AS ENUM ('x')").await;
    let to = renaming(&part, &["shop.a\nb.t\nu=shop.a\nb.then\nthen"]);
    restored(&snapshot, to, request(&["shop.a\nb.t\nu"], IfExists::Fail)).await;
    let rows = "SELECT count(*)::text FROM \"a\nb\".\"then\nthen\"";
    assert_eq!(value_of(&part, "shop", rows).await, "20");
}

/// Partitions by hashes of values whose numbers other servers choose, and by an order of texts that
/// other servers may not have.
const PARTS: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'wild', 'calm', 'odd'); CREATE \
                     TABLE moods (m mood, id int, PRIMARY KEY (m, id)) PARTITION BY HASH (m); CREATE \
                     TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER 0); \
                     CREATE TABLE moods_1 PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER \
                     1); CREATE TABLE moods_2 PARTITION OF moods FOR VALUES WITH (MODULUS 3, \
                     REMAINDER 2) PARTITION BY RANGE (id); CREATE TABLE moods_2_a PARTITION OF \
                     moods_2 FOR VALUES FROM (0) TO (300); CREATE TABLE moods_2_b PARTITION OF \
                     moods_2 FOR VALUES FROM (300) TO (600); INSERT INTO moods SELECT (enum_range(NULL::mood))[n % 6 + \
                     1], n FROM generate_series(0, 599) n; CREATE COLLATION words (provider = icu, \
                     locale = 'en'); CREATE TABLE texts (t text COLLATE words, id int) PARTITION \
                     BY RANGE (t); CREATE TABLE texts_1 PARTITION OF texts FOR VALUES FROM \
                     (MINVALUE) TO ('m'); CREATE TABLE texts_2 PARTITION OF texts FOR VALUES FROM \
                     ('m') TO (MAXVALUE); INSERT INTO texts SELECT chr(65 + n % 26 + n % 2 * 32), n \
                     FROM generate_series(0, 259) n; CREATE TABLE days (id int) PARTITION BY RANGE \
                     (id); CREATE TABLE days_1 PARTITION OF days DEFAULT; INSERT INTO days VALUES (1)";

/// Rows of a partitioned table, in any of its partitions.
async fn rows_of(server: &Postgres, table: &str) -> String {
    let sql =
        format!("SELECT count(*) || md5(string_agg(t.*::text, ',' ORDER BY id)) FROM {table} t");
    value_of(server, "shop", &sql).await
}

pub(crate) async fn rows_find_their_partitions(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    for one in [&server, &copy] {
        one.run("CREATE DATABASE shop").await;
    }
    run_in(&server, "shop", PARTS).await;
    let snapshot =
        backed_up(&repo().await, &source(logical(&server)).await, Selection::all()).await;
    // Other numbers for the values, and another order of texts.
    let others = "DO $$ BEGIN FOR n IN 1..40 LOOP EXECUTE format('CREATE TYPE e%s AS ENUM (''a'')', \
                  n); END LOOP; END $$; CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'wild', \
                  'calm', 'odd'); CREATE COLLATION words (provider = libc, locale = 'C')";
    run_in(&copy, "shop", others).await;
    let was = [rows_of(&server, "moods").await, rows_of(&server, "texts").await];
    let tables = request(&["shop.public.moods", "shop.public.texts"], IfExists::Fail);
    let report = restored(&snapshot, logical(&copy), tables).await;
    assert!(report.verified_bytes > 0);
    let place = "SELECT (SELECT string_agg(tableoid::regclass || ':' || id, ',' ORDER BY id) FROM \
                 moods) || (SELECT string_agg(tableoid::regclass || ':' || id, ',' ORDER BY id) FROM \
                 texts)";
    let (here, there) =
        (value_of(&server, "shop", place).await, value_of(&copy, "shop", place).await);
    assert_ne!(here, there, "the test needs rows that belong elsewhere");
    let same = async |server: &Postgres| {
        assert_eq!([rows_of(server, "moods").await, rows_of(server, "texts").await], was);
    };
    same(&copy).await;
    // Equal although rows lie elsewhere, until one is missing.
    let differing = async || {
        let asked = selection(&["shop.public.moods", "shop.public.texts"], &[]);
        let compared = source(logical(&copy)).await.compare(&talking(), &snapshot, &asked).await;
        let compared = compared.unwrap();
        assert_eq!((compared.stored.objects.len(), compared.warnings), (2, 0));
        let differences = compared.stored.differences(&compared.found).into_iter();
        differences.map(|one| one.object).collect::<Vec<String>>()
    };
    assert!(differing().await.is_empty());
    run_in(&copy, "shop", "DELETE FROM moods WHERE id = 5").await;
    assert_eq!(differing().await, ["shop.public.moods"]);
    // Merged into tables that have partitions of their own.
    run_in(&copy, "shop", "DELETE FROM moods WHERE id > 300; DROP TABLE texts").await;
    let moods = request(&["shop.public.moods"], IfExists::Merge);
    restored(&snapshot, logical(&copy), moods).await;
    assert_eq!(rows_of(&copy, "moods").await, was[0]);
    // A whole database with new types; a partition by itself.
    copy.run("DROP DATABASE shop").await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    same(&copy).await;
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM days").await, "1");
    let to = renaming(&copy, &["shop=alone"]);
    restored(&snapshot, to, request(&["shop.public.days_1"], IfExists::Fail)).await;
    assert_eq!(value_of(&copy, "alone", "SELECT count(*)::text FROM days_1").await, "1");
}

/// Bytes without an encoding come back as they are; definitions with such bytes are refused.
pub(crate) async fn bytes_without_an_encoding_come_back(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    server.run("CREATE DATABASE raw ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").await;
    let sql = "CREATE TABLE \"größe\" (id int PRIMARY KEY, v text DEFAULT 'ü'); INSERT INTO \"größe\" \
               SELECT n, convert_from(decode('ff00e4', 'hex') || '', 'SQL_ASCII') FROM \
               generate_series(1, 3) n";
    let sql = sql.replace("ff00e4", "ff80e4");
    run_in(&server, "raw", &sql).await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let bytes = "SELECT string_agg(encode(v::bytea, 'hex'), ' ' ORDER BY id) || \
                 current_setting('server_encoding') FROM \"größe\"";
    let found = value_of(&copy, "raw", bytes).await;
    assert_eq!(found, "ff80e4 ff80e4 ff80e4SQL_ASCII");
    assert_eq!(definitions(&server, "raw"), definitions(&copy, "raw"));
    let comment = "DO $$ BEGIN EXECUTE 'COMMENT ON TABLE \"größe\" IS ' || \
                   quote_literal(convert_from(decode('e4', 'hex'), 'SQL_ASCII')); END $$";
    run_in(&server, "raw", comment).await;
    let error = try_back_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    let error = error.unwrap_err();
    assert!(error.chain().contains("not UTF-8"), "{}", error.chain());
}

/// Backed up alone, and restored alone out of everything.
pub(crate) async fn materialized_views_come_alone(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE DATABASE shop").await;
    let sql = "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT \
               generate_series(1, 30); CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n \
               FROM orders; CREATE UNIQUE INDEX only_one ON counted (n); CREATE MATERIALIZED VIEW \
               later AS SELECT n + 1 AS n FROM counted WITH NO DATA; COMMENT ON MATERIALIZED VIEW \
               counted IS 'all'";
    run_in(&server, "shop", sql).await;
    let (repo, defined) = (repo().await, definitions(&server, "shop"));
    let names = ["shop.public.counted", "shop.public.later"];
    for backed_up_by in [selection(&names, &[]), Selection::all()] {
        let snapshot = backed_up(&repo, &source(logical(&server)).await, backed_up_by).await;
        run_in(&server, "shop", "DROP MATERIALIZED VIEW later, counted").await;
        let report = restored(&snapshot, logical(&server), request(&names, IfExists::Fail)).await;
        // The program refuses a restore without an entry.
        assert!(report.entries > 0, "{report:?}");
        assert_eq!(definitions(&server, "shop"), defined);
        assert_eq!(value_of(&server, "shop", "SELECT n::text FROM counted").await, "30");
        let sql = "SELECT string_agg(relname || relispopulated, ' ' ORDER BY relname) FROM \
                   pg_class WHERE relkind = 'm'";
        assert_eq!(value_of(&server, "shop", sql).await, "countedtrue laterfalse");
    }
}

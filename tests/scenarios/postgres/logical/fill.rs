//! A database with everything that is easily lost.

use super::{Version, run_in, value_of};
use crate::support::postgres::Postgres;

const ROLES: &str = "CREATE ROLE alice LOGIN PASSWORD 'secret'; CREATE ROLE \"Odd role\"; GRANT \
                     alice TO \"Odd role\"; ALTER ROLE alice SET work_mem = '5MB'";

const OBJECTS: &str = r#"
    CREATE SCHEMA "Odd. schema" AUTHORIZATION alice;
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy; very');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE SEQUENCE lonely START 5 INCREMENT 7;
    SELECT nextval('lonely'), nextval('lonely');
    CREATE SEQUENCE untouched START 9;
    CREATE TABLE "Odd. schema"."T/1 %" (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "select" text DEFAULT E'x\ty;', b bytea, f float8,
        twice int GENERATED ALWAYS AS (id * 2) STORED, j jsonb, m mood, p positive, at timestamptz, money numeric, n text,
        cash money DEFAULT -1234.56);
    INSERT INTO "Odd. schema"."T/1 %" ("select", b, f, j, m, p, at, money, n)
        SELECT E'\\N \\. \r\n\t' || n, decode(md5(n::text), 'hex'), 1 / (n + 2.0), '{"a": "\\\""}', 'happy; very', n + 1,
            '2026-01-01'::timestamptz + n * interval '1 hour', n / 7.0, CASE WHEN n % 3 = 0 THEN NULL ELSE 'ü–日本' END
        FROM generate_series(0, 3000) n;
    INSERT INTO "Odd. schema"."T/1 %" (f, at) VALUES ('NaN', 'infinity'), ('-Infinity', '-infinity'), (1e-300, '0044-03-15 BC');
    ALTER TABLE "Odd. schema"."T/1 %" OWNER TO alice;
    GRANT SELECT ("select"), UPDATE ON "Odd. schema"."T/1 %" TO "Odd role" WITH GRANT OPTION;
    COMMENT ON TABLE "Odd. schema"."T/1 %" IS E'--\n-- Name: no; Type: TABLE; Schema: public; Owner: x\n--\n\nDROP;';
    COMMENT ON COLUMN "Odd. schema"."T/1 %"."select" IS 'a column';
    CREATE INDEX "an index" ON "Odd. schema"."T/1 %" ((lower("select"))) WHERE id > 5;

    CREATE TABLE counted (id serial PRIMARY KEY, v int UNIQUE);
    INSERT INTO counted (v) SELECT generate_series(1, 10);
    DELETE FROM counted WHERE id > 7;
    CREATE TABLE secret (who name, t text);
    INSERT INTO secret VALUES ('alice', 'hers'), ('nobody', 'not hers');
    ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
    ALTER TABLE secret FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON secret USING (who = current_user);
    CREATE TABLE measured (at date, place int, v int) PARTITION BY RANGE (at);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-07-01') PARTITION BY LIST (place);
    CREATE TABLE measured_1_a PARTITION OF measured_1 FOR VALUES IN (0, 1);
    CREATE TABLE measured_1_rest PARTITION OF measured_1 DEFAULT;
    CREATE TABLE measured_2 (v int, place int, gone text, at date);
    ALTER TABLE measured_2 DROP COLUMN gone;
    ALTER TABLE measured ATTACH PARTITION measured_2 FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
    ALTER TABLE measured ADD PRIMARY KEY (at, place, v);
    CREATE INDEX ON measured (v);
    INSERT INTO measured SELECT '2026-01-01'::date + n % 360, n % 5, n FROM generate_series(1, 4000) n;
    CREATE TABLE above (id int, t text);
    CREATE TABLE below (more text) INHERITS (above);
    INSERT INTO above VALUES (1, 'above'); INSERT INTO below VALUES (2, 'below', 'x');
    CREATE TABLE hen (id int PRIMARY KEY, egg int);
    CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen);
    INSERT INTO hen VALUES (1, 1); INSERT INTO egg VALUES (1, 1);
    ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
    CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES; INSERT INTO empty DEFAULT VALUES;
    CREATE TABLE computed (a int GENERATED ALWAYS AS (1 + 1) STORED); INSERT INTO computed DEFAULT VALUES;
    CREATE UNLOGGED TABLE fleeting (id int); INSERT INTO fleeting VALUES (1);

    CREATE VIEW seen AS SELECT s.id, s."select" FROM "Odd. schema"."T/1 %" s WHERE s.id < 10;
    CREATE MATERIALIZED VIEW z_first AS SELECT place, count(*) AS n FROM measured GROUP BY place;
    CREATE UNIQUE INDEX ON z_first (place);
    CREATE MATERIALIZED VIEW a_second AS SELECT sum(n) AS n FROM z_first;
    CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $body$
--
-- Name: fake; Type: TABLE; Schema: public; Owner: postgres
--
BEGIN NEW.v := NEW.v + 1000; RETURN NEW; END;
$body$;
    CREATE TRIGGER touching BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE RULE ignored AS ON DELETE TO above DO INSTEAD NOTHING;
    CREATE STATISTICS both_of (dependencies) ON at, place FROM measured;
    CREATE PUBLICATION news FOR TABLE counted;
    CREATE AGGREGATE joined (text) (sfunc = textcat, stype = text, initcond = '');
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO alice;
    ALTER TABLE above ADD CONSTRAINT later CHECK (id < 100) NOT VALID;
    SELECT lo_from_bytea(70001, decode(repeat(md5('x'), 40000), 'hex'));
    SELECT lo_from_bytea(70002, '');
    ALTER LARGE OBJECT 70001 OWNER TO alice;
    GRANT SELECT ON LARGE OBJECT 70001 TO "Odd role";
    COMMENT ON LARGE OBJECT 70001 IS E'two\nlines \\ and ''quotes''';
"#;

/// Since 14.
const ATOMIC: &str = "CREATE FUNCTION both_of_them(int) RETURNS int LANGUAGE sql BEGIN ATOMIC \
                      SELECT CASE WHEN $1 > 0 THEN 1 ELSE 2 END; SELECT $1 + 1; END";

/// Makes the database `shop`, and another one.
pub(super) async fn fill(server: &Postgres, version: Version) {
    server.run(ROLES).await;
    server.run("CREATE DATABASE shop OWNER alice").await;
    server.run("CREATE DATABASE \"Other; one\" ENCODING 'LATIN1' TEMPLATE template0").await;
    run_in(server, "shop", OBJECTS).await;
    if version >= Version::V14 {
        run_in(server, "shop", ATOMIC).await;
    }
    run_in(server, "Other; one", "CREATE TABLE t (v text); INSERT INTO t VALUES ('größer'), ('ÿ')")
        .await;
    server.run("ALTER DATABASE shop SET work_mem = '7MB'").await;
    server.run("GRANT CREATE ON DATABASE shop TO \"Odd role\"").await;
    server.run("COMMENT ON DATABASE shop IS 'the shop'").await;
    server.run("ALTER DATABASE shop SET default_transaction_read_only = on").await;
}

/// What digests and definitions do not show.
pub(super) async fn looks(server: &Postgres) -> Vec<String> {
    const ASKED: [&str; 12] = [
        "SELECT last_value || ' ' || is_called FROM lonely",
        "SELECT last_value || ' ' || is_called FROM untouched",
        "SELECT last_value || ' ' || is_called FROM counted_id_seq",
        "SELECT last_value || ' ' || is_called FROM \"Odd. schema\".\"T/1 %_id_seq\"",
        "SELECT string_agg(place || ':' || n, ',' ORDER BY place) FROM z_first",
        "SELECT n::text FROM a_second",
        "SELECT relispopulated::text FROM pg_class WHERE relname = 'unfilled'",
        "SELECT string_agg(oid || ' ' || lomowner::regrole || ' ' || coalesce(lomacl::text, '') || \
         ' ' || coalesce(obj_description(oid, 'pg_largeobject'), '') || md5(lo_get(oid)), '|' \
         ORDER BY oid) FROM pg_largeobject_metadata",
        "SELECT pg_get_userbyid(datdba) || datacl::text || shobj_description(oid, 'pg_database') \
         FROM pg_database WHERE datname = 'shop'",
        "SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting JOIN pg_database d ON \
         d.oid = setdatabase WHERE datname = 'shop'",
        "SELECT string_agg(rolname || coalesce(rolpassword, '') || rolcanlogin || \
         coalesce(rolconfig::text, ''), ' ' ORDER BY rolname) FROM pg_authid LEFT JOIN LATERAL \
         (SELECT setconfig AS rolconfig FROM pg_db_role_setting WHERE setrole = pg_authid.oid) s \
         ON true WHERE rolname IN ('alice', 'Odd role')",
        "SELECT count(*)::text FROM pg_auth_members WHERE roleid = 'alice'::regrole AND member = \
         '\"Odd role\"'::regrole",
    ];
    let mut found = Vec::new();
    for sql in ASKED {
        found.push(value_of(server, "shop", sql).await);
    }
    found
}

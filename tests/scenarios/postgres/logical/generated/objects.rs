//! Functions, views, triggers, rules, policies, grants, and everything else that is no table.

use super::names::{quoted, text};
use super::tables::Table;
use super::{READERS, Schema, Version, left_out, owner};

impl Schema {
    /// Functions that expressions call, by their full names.
    pub(super) fn add_functions(&mut self) {
        let (first, second) = (self.qualified(), self.qualified());
        self.add(format!(
            "CREATE FUNCTION {first}(int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE \
             COST 3 AS 'SELECT abs($1 % 97)'"
        ));
        self.add(format!(
            "CREATE FUNCTION {second}(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path \
             FROM CURRENT AS $body$\r\nBEGIN\n-- \\connect nowhere\nRETURN {first}(v) + 1; END\n$body$"
        ));
        self.functions = vec![first.clone(), second];
        // The same name with other arguments.
        self.add(format!(
            "CREATE FUNCTION {first}(text, OUT a int, OUT b text) LANGUAGE sql AS 'SELECT 1, $1'"
        ));
        if self.is_since(Version::V14) {
            let third = self.qualified();
            self.add(format!(
                "CREATE FUNCTION {third}(v int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC \
                 SELECT {first}(v); END"
            ));
            self.functions.push(third);
        }
    }

    /// A function of an integer.
    pub(super) fn function(&mut self) -> String {
        let functions = self.functions.clone();
        self.pick(&functions)
    }

    pub(super) fn add_objects(&mut self) {
        let tables: Vec<Table> =
            self.tables.iter().filter(|table| !table.columns.is_empty()).cloned().collect();
        for _ in 0..2 + self.below(3) {
            let table = self.pick(&tables);
            self.add_views(&table);
        }
        for _ in 0..1 + self.below(3) {
            let table = self.pick(&tables);
            self.add_trigger(&table);
        }
        for _ in 0..2 {
            let table = self.pick(&tables);
            self.add_policies(&table);
            let table = self.pick(&tables);
            self.add_grants(&table);
        }
        let table = self.pick(&tables);
        self.add_rule(&table);
        self.add_statistics(&tables);
        self.add_publications(&tables);
        self.add_sequences();
        self.add_large_objects();
        self.add_defaults();
        self.add_rest(&tables);
        self.add_comments(&tables);
    }

    fn add_views(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let (view, upper) = (self.qualified(), self.qualified());
        let options = match self.below(3) {
            0 => " WITH (security_barrier)",
            1 if self.is_since(Version::V15) => " WITH (security_invoker = true)",
            _ => "",
        };
        let check = if self.one_in(2) { " WITH LOCAL CHECK OPTION" } else { "" };
        self.add(format!(
            "CREATE VIEW {view}{options} AS SELECT x.*, x.{key} AS \"again\" FROM {sql} AS x WHERE \
             x.{key} > 1{check}"
        ));
        self.add(format!(
            "CREATE VIEW {upper} (\"the key\", \"row\") AS WITH RECURSIVE r AS (SELECT 1 AS i UNION \
             ALL SELECT i + 1 FROM r WHERE i < 3) SELECT y.{key}, y FROM {view} AS y JOIN r ON true \
             LEFT JOIN LATERAL (SELECT count(*) AS c FROM {sql}) z ON z.c > r.i"
        ));
        let (first, second) = (self.qualified(), self.qualified());
        // The one that needs the other comes first by name, if names decide.
        self.add(format!(
            "CREATE MATERIALIZED VIEW {second} AS SELECT {key} AS k, count(*) AS c FROM {view} GROUP \
             BY {key}"
        ));
        self.filled.push(second.clone());
        let data = if self.one_in(3) { " WITH NO DATA" } else { "" };
        if data.is_empty() {
            self.filled.push(first.clone());
        }
        self.add(format!(
            "CREATE MATERIALIZED VIEW {first} AS SELECT sum(c) AS total, max(k) AS k FROM \
             {second}{data}"
        ));
        let index = quoted(&self.name());
        self.add(format!("CREATE UNIQUE INDEX {index} ON {first} (k)"));
    }

    fn add_trigger(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let (function, log, name) = (self.qualified(), self.qualified(), quoted(&self.name()));
        self.add(format!("CREATE TABLE {log} (at text)"));
        let body = match self.below(3) {
            0 => "RAISE EXCEPTION 'refused';".to_owned(),
            1 => format!("INSERT INTO {log} VALUES (TG_OP);"),
            _ => format!("IF TG_LEVEL = 'ROW' THEN NEW.{key} := NEW.{key} + 1000; END IF;"),
        };
        self.add(format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             $body$BEGIN {body} RETURN NEW; END$body$"
        ));
        let when = match self.below(4) {
            0 => "BEFORE INSERT OR UPDATE".to_owned(),
            1 => format!("AFTER INSERT OR UPDATE OF {key}"),
            2 => "statement".to_owned(),
            _ => "constraint".to_owned(),
        };
        let run = format!("EXECUTE FUNCTION {function}('it''s', 'two')");
        self.add(match &*when {
            "statement" => format!(
                "CREATE TRIGGER {name} AFTER INSERT ON {sql} REFERENCING NEW TABLE AS added FOR \
                 EACH STATEMENT {run}"
            ),
            "constraint" => format!(
                "CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON {sql} DEFERRABLE INITIALLY \
                 DEFERRED FOR EACH ROW WHEN (NEW.{key} IS NOT NULL) {run}"
            ),
            when => format!("CREATE TRIGGER {name} {when} ON {sql} FOR EACH ROW {run}"),
        });
        let state = self.pick(&["ENABLE ALWAYS", "ENABLE REPLICA", "DISABLE", "ENABLE"]);
        self.add(format!("ALTER TABLE {sql} {state} TRIGGER {name}"));
        self.add(format!("COMMENT ON TRIGGER {name} ON {sql} IS 'a trigger'"));
    }

    fn add_rule(&mut self, table: &Table) {
        let (sql, name) = (table.sql(), quoted(&self.name()));
        let rule = match self.below(3) {
            0 => "ON DELETE TO @ DO INSTEAD NOTHING",
            1 => "ON UPDATE TO @ DO ALSO NOTIFY changed",
            _ => "ON INSERT TO @ DO INSTEAD NOTHING",
        };
        self.add(format!("CREATE RULE {name} AS {}", rule.replace('@', &sql)));
        if self.one_in(2) {
            self.add(format!("ALTER TABLE {sql} ENABLE ALWAYS RULE {name}"));
        }
    }

    fn add_policies(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let (one, two) = (quoted(&self.name()), quoted(&self.name()));
        self.add(format!("ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY"));
        if self.one_in(2) && !left_out("forced row-level security") {
            self.add(format!("ALTER TABLE {sql} FORCE ROW LEVEL SECURITY"));
        }
        let reader = quoted(READERS[1]);
        self.add(format!("CREATE POLICY {one} ON {sql} TO {reader} USING ({key} > 3)"));
        self.add(format!(
            "CREATE POLICY {two} ON {sql} AS RESTRICTIVE FOR INSERT WITH CHECK ({key} = 5)"
        ));
    }

    fn add_grants(&mut self, table: &Table) {
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let [reader, odd] = READERS.map(quoted);
        self.add(format!("GRANT SELECT, INSERT ON {sql} TO {reader} WITH GRANT OPTION"));
        self.add(format!("GRANT SELECT ({key}), UPDATE ({key}) ON {sql} TO {odd}, PUBLIC"));
        if self.one_in(2) {
            self.add(format!("REVOKE DELETE ON {sql} FROM {}", quoted(owner())));
        }
        let function = self.function();
        self.add(format!("REVOKE ALL ON FUNCTION {function}(int) FROM PUBLIC"));
        self.add(format!("GRANT EXECUTE ON FUNCTION {function}(int) TO {odd}"));
        let schema = self.own_schema();
        self.add(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {reader}"));
    }

    fn add_statistics(&mut self, tables: &[Table]) {
        let has_expressions = self.is_since(Version::V14);
        // Values of both columns of a typed table can be compared.
        let is_suited = |table: &&Table| {
            table.columns.len() > 1 && (has_expressions || table.columns[1].definition.is_empty())
        };
        let suited: Vec<Table> = tables.iter().filter(is_suited).cloned().collect();
        if suited.is_empty() {
            return;
        }
        let table = self.pick(&suited);
        let name = if left_out("statistics in another schema than their table") {
            format!("{}.{}", table.schema, quoted(&self.name()))
        } else {
            self.qualified()
        };
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let second =
            if has_expressions { format!("({key} % 7)") } else { table.columns[1].name.clone() };
        self.add(format!(
            "CREATE STATISTICS {name} (ndistinct, mcv) ON {key}, {second} FROM {sql}"
        ));
        self.add(format!("ALTER STATISTICS {name} SET STATISTICS 77"));
        self.add(format!("COMMENT ON STATISTICS {name} IS 'both'"));
    }

    fn add_publications(&mut self, tables: &[Table]) {
        let logged: Vec<Table> =
            tables.iter().filter(|table| !table.is_unlogged).cloned().collect();
        if logged.is_empty() {
            return;
        }
        let avoided: &[char] =
            if left_out("publication whose name has several lines") { &['\r', '\n'] } else { &[] };
        let (name, table) = (quoted(&self.name().replace(avoided, "_")), self.pick(&logged));
        let (sql, key) = (table.sql(), &table.columns[0].name);
        let only = if self.is_since(Version::V15) && !table.is_partitioned && self.one_in(2) {
            format!(" ({key}) WHERE ({key} > 2)")
        } else {
            String::new()
        };
        self.add(format!(
            "CREATE PUBLICATION {name} FOR TABLE {sql}{only} WITH (publish = 'insert')"
        ));
        self.add(format!("CREATE PUBLICATION {}", quoted(&format!("empty {}", self.named))));
    }

    fn add_sequences(&mut self) {
        for _ in 0..self.below(3) {
            let name = self.qualified();
            let options = self.pick(&[
                "AS bigint INCREMENT -7 MINVALUE -9223372036854775808 MAXVALUE 5 START 5",
                "AS int START 9 CACHE 30",
                "AS smallint MINVALUE 3 MAXVALUE 5 CYCLE",
            ]);
            self.add(format!("CREATE SEQUENCE {name} {options}"));
            for _ in 0..self.below(4) {
                self.add(format!("SELECT nextval({}::regclass)", text(&name)));
            }
        }
    }

    fn add_large_objects(&mut self) {
        for at in 0..self.below(3) {
            let id = 70_001 + at;
            self.add(format!(
                "SELECT lo_from_bytea({id}, decode(repeat(md5('{id}'), {}), 'hex'))",
                at * 300
            ));
            self.add(format!("GRANT SELECT ON LARGE OBJECT {id} TO {}", quoted(READERS[0])));
            self.add(format!("COMMENT ON LARGE OBJECT {id} IS E'large\\n''object'"));
        }
    }

    fn add_defaults(&mut self) {
        let (schema, [reader, odd]) = (self.schema(), READERS.map(quoted));
        self.add(format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {odd}"
        ));
        if self.one_in(2) {
            self.add("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC");
            self.add(format!("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {reader}"));
        }
    }

    /// Operators, aggregates, casts, text search, procedures, functions of rows.
    fn add_rest(&mut self, tables: &[Table]) {
        let (table, schema) = (self.pick(tables), self.schema());
        if self.one_in(2) {
            let name = self.qualified();
            let sql = table.sql();
            self.add(format!(
                "CREATE FUNCTION {name}({sql}) RETURNS SETOF {sql} LANGUAGE sql STABLE ROWS 5 AS \
                 'SELECT $1'"
            ));
        }
        if self.one_in(2) {
            let name = self.qualified();
            self.add(format!(
                "CREATE PROCEDURE {name}(INOUT a int DEFAULT 3, VARIADIC b text[] DEFAULT '{{}}') \
                 LANGUAGE plpgsql AS 'BEGIN a := 1; END'"
            ));
        }
        if self.one_in(2) {
            let (name, two) = (self.qualified(), self.qualified());
            self.add(format!(
                "CREATE AGGREGATE {name} (int) (sfunc = int4pl, stype = int, initcond = '0', \
                 parallel = safe, combinefunc = int4pl)"
            ));
            self.add(format!(
                "CREATE FUNCTION {two}(int, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT \
                 $1::text = $2'"
            ));
            if !left_out("operator in a schema that gets another name") {
                self.add(format!(
                    "CREATE OPERATOR {schema}.=== (FUNCTION = {two}, LEFTARG = int, RIGHTARG = text)"
                ));
                self.add(format!("COMMENT ON OPERATOR {schema}.=== (int, text) IS 'odd'"));
            }
        }
        if self.one_in(2) {
            let (kind, name) = (self.qualified(), self.qualified());
            self.add(format!("CREATE TYPE {kind} AS (a int)"));
            self.add(format!(
                "CREATE FUNCTION {name}({kind}) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a'"
            ));
            self.add(format!(
                "CREATE CAST ({kind} AS int) WITH FUNCTION {name}({kind}) AS ASSIGNMENT"
            ));
        }
        if self.one_in(2) {
            let (dictionary, configuration) = (self.qualified(), self.qualified());
            self.add(format!(
                "CREATE TEXT SEARCH DICTIONARY {dictionary} (template = pg_catalog.simple, accept = \
                 false)"
            ));
            self.add(format!(
                "CREATE TEXT SEARCH CONFIGURATION {configuration} (copy = pg_catalog.simple)"
            ));
            self.add(format!(
                "ALTER TEXT SEARCH CONFIGURATION {configuration} ALTER MAPPING FOR word WITH \
                 {dictionary}, pg_catalog.simple"
            ));
        }
    }

    fn add_comments(&mut self, tables: &[Table]) {
        let odd = "E'one\\r\\n-- Name: x; Type: TABLE\\n\\n\\\\connect two; ''quoted'' $$'";
        let table = self.pick(tables);
        self.add(format!("COMMENT ON TABLE {} IS {odd}", table.sql()));
        self.add(format!("COMMENT ON COLUMN {}.{} IS {odd}", table.sql(), table.columns[0].name));
        let (schema, function) = (self.own_schema(), self.function());
        self.add(format!("COMMENT ON SCHEMA {schema} IS {odd}"));
        self.add(format!("COMMENT ON FUNCTION {function}(int) IS {odd}"));
    }
}

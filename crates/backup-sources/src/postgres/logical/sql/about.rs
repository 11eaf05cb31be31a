//! Which relation a statement is about, so that parts of a dump can be taken out of it.

use super::names::operator_in;
use super::script::Entry;
use super::token::{Token, tokens};

/// Schema and name of a table, view, sequence or index.
pub(in super::super) type Relation = (String, String);

/// Kinds of objects that have rows, or stand for them.
const RELATIONS: [&str; 6] =
    ["TABLE", "COLUMN", "VIEW", "SEQUENCE", "MATERIALIZED VIEW", "FOREIGN TABLE"];
/// Kinds of entries that make relations.
pub(in super::super) const RELATION_KINDS: [&str; 5] =
    ["TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE"];
/// Kinds of entries that make other objects with a schema and a name.
const OTHER_KINDS: [&str; 14] = [
    "SHELL TYPE",
    "DOMAIN",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "COLLATION",
    "CONVERSION",
    "STATISTICS",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH CONFIGURATION",
];
/// What belongs to a relation and is named before it.
const PARTS: [&str; 4] = ["CONSTRAINT", "TRIGGER", "POLICY", "RULE"];

impl Entry<'_> {
    /// The relation that it makes or changes. Of an index's own statements it is the index
    /// ([`Self::is_about_index`]).
    pub(in super::super) fn about(&self) -> Option<Relation> {
        let said = self.said()?;
        if said.first()?.is("ALTER") && said.get(1)?.is("DOMAIN") {
            return None;
        }
        match self.kind {
            kind if RELATION_KINDS.contains(&kind) => made_in(&said),
            // The parent comes first.
            "TABLE ATTACH" => pairs(&said).nth(1),
            "MATERIALIZED VIEW DATA"
            | "SEQUENCE OWNED BY"
            | "ROW SECURITY"
            | "CONSTRAINT"
            | "FK CONSTRAINT"
            | "CHECK CONSTRAINT"
            | "DEFAULT"
            | "INDEX ATTACH" => first_pair(&said),
            "INDEX" | "TRIGGER" | "POLICY" => first_pair(behind(&said, "ON")?),
            "RULE" => first_pair(behind(&said, "TO")?),
            "STATISTICS" => first_pair(behind(&said, "FROM")?),
            "PUBLICATION TABLE" => first_pair(behind(&said, "TABLE")?),
            "COMMENT" | "ACL" | "SECURITY LABEL"
                if self.name_begins(&RELATIONS)
                    || self.is_about_index()
                    || self.is_about_statistics() =>
            {
                first_pair(behind(&said, "ON")?)
            }
            "COMMENT" if self.name_begins(&PARTS) => {
                let owner = behind(behind(&said, "ON")?, "ON")?;
                first_pair(owner).filter(|_| !owner.first().is_some_and(|one| one.is("DOMAIN")))
            }
            _ => None,
        }
    }

    /// The relation that it makes, as its first statement names it.
    pub(super) fn made_relation(&self) -> Option<Relation> {
        if !RELATION_KINDS.contains(&self.kind) {
            return None;
        }
        made_in(&self.said()?)
    }

    /// Returns `true` for the entry of a schema that no new database has.
    pub(in super::super) fn creates_schema(&self) -> bool {
        let creates = |said: Vec<Token<'_>>| said.first().is_some_and(|word| word.is("CREATE"));
        self.kind == "SCHEMA" && self.said().is_some_and(creates)
    }

    /// Returns `true` for the entry of `public`, which gives it another owner.
    pub(in super::super) fn is_public(&self) -> bool {
        self.kind == "SCHEMA" && !self.creates_schema()
    }

    /// The schema that it makes, as its first statement names it.
    pub(super) fn made_schema(&self) -> Option<String> {
        if self.kind != "SCHEMA" {
            return None;
        }
        behind(&self.said()?, "SCHEMA")?.first()?.name()
    }

    /// The schema of the extension that it makes.
    pub(in super::super) fn extended_schema(&self) -> Option<String> {
        if self.kind != "EXTENSION" {
            return None;
        }
        behind(&self.said()?, "SCHEMA")?.first()?.name()
    }

    /// The words of its first statement.
    fn said(&self) -> Option<Vec<Token<'_>>> {
        let statement = self.statements.first()?;
        Some(tokens(statement).filter(|token| !token.is_blank()).collect())
    }

    /// Whether [`Self::about`] names an index.
    pub(in super::super) fn is_about_index(&self) -> bool {
        self.kind == "INDEX ATTACH" || (self.kind == "COMMENT" && self.name_begins(&["INDEX"]))
    }

    /// Returns `true` if [`Self::about`] names a statistics object.
    pub(in super::super) fn is_about_statistics(&self) -> bool {
        self.kind == "COMMENT" && self.name_begins(&["STATISTICS"])
    }

    /// The statistics object that it makes.
    pub(in super::super) fn made_statistics(&self) -> Option<Relation> {
        first_pair(behind(&self.said()?, "STATISTICS")?)
    }

    /// Objects with a schema that its first statement makes: with a type also those that belong to
    /// it.
    pub(in super::super) fn names(&self) -> Vec<Relation> {
        let said = self.said().unwrap_or_default();
        match self.kind {
            kind if RELATION_KINDS.contains(&kind) => made_in(&said).into_iter().collect(),
            kind if OTHER_KINDS.contains(&kind) => first_pair(&said).into_iter().collect(),
            "TYPE" => first_pair(&said).into_iter().chain(self.multirange()).collect(),
            "OPERATOR" => made_operator(&said).into_iter().collect(),
            "INDEX" | "CONSTRAINT" => {
                let index = self.index().map(|index| (self.schema.clone().into_owned(), index));
                index.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The type of several ranges that comes with the range type that it makes; it may lie in another
    /// schema.
    pub(in super::super) fn multirange(&self) -> Option<Relation> {
        if self.kind != "TYPE" {
            return None;
        }
        behind(&self.said()?, "MULTIRANGE_TYPE_NAME").and_then(first_pair)
    }

    /// The publication that it makes, or adds a table to.
    pub(in super::super) fn publication(&self) -> Option<String> {
        behind(&self.said()?, "PUBLICATION")?.first()?.name()
    }

    /// The tables that the one it makes inherits from.
    pub(in super::super) fn inherits(&self) -> Vec<Relation> {
        let said = self.said().unwrap_or_default();
        // Behind the columns: `) INHERITS (schema.parent, …)`.
        let at = said.windows(3).position(|three| {
            three[0].is_sign(")") && three[1].is("INHERITS") && three[2].is_sign("(")
        });
        let Some(list) = at.and_then(|at| said.get(at + 3..)) else { return Vec::new() };
        let end = list.iter().position(|token| token.is_sign(")")).unwrap_or(list.len());
        pairs(&list[..end]).collect()
    }

    /// The schema that it makes or changes, if it is none of the objects in it.
    pub(in super::super) fn about_schema(&self) -> Option<String> {
        match self.kind {
            "SCHEMA" => Some(self.name.clone().into_owned()),
            "COMMENT" | "ACL" | "SECURITY LABEL" if self.name_begins(&["SCHEMA"]) => {
                behind(&self.said()?, "SCHEMA")?.first()?.name()
            }
            _ => None,
        }
    }

    /// The table that another one is attached to.
    pub(in super::super) fn refers_from(&self) -> Option<Relation> {
        let said = self.said()?;
        first_pair(&said)
    }

    /// The table that a foreign key refers to.
    pub(in super::super) fn references(&self) -> Option<Relation> {
        let said = self.said()?;
        first_pair(behind(&said, "REFERENCES")?)
    }

    /// The name of the index that it makes.
    pub(in super::super) fn index(&self) -> Option<String> {
        let said = self.said()?;
        let keyword = if self.kind == "INDEX" { "INDEX" } else { "CONSTRAINT" };
        behind(&said, keyword)?.first()?.name()
    }

    fn name_begins(&self, words: &[&str]) -> bool {
        words
            .iter()
            .any(|word| self.name.strip_prefix(word).is_some_and(|rest| rest.starts_with(' ')))
    }
}

/// The relation that a statement makes.
fn made_in(said: &[Token<'_>]) -> Option<Relation> {
    // `ALTER TABLE … ADD GENERATED … AS IDENTITY (SEQUENCE NAME schema.name …)`
    let identity = said.windows(2).position(|two| two[0].is("SEQUENCE") && two[1].is("NAME"));
    match identity.filter(|_| said.first().is_some_and(|first| first.is("ALTER"))) {
        Some(at) => first_pair(said.get(at..)?),
        None => first_pair(said),
    }
}

/// `CREATE OPERATOR schema.=== (…)`.
fn made_operator(said: &[Token<'_>]) -> Option<Relation> {
    let [schema, dot, operator @ ..] = behind(said, "OPERATOR")? else { return None };
    if dot.is_sign(".") { Some((schema.name()?, operator_in(operator))) } else { None }
}

/// What stands behind the first `keyword`.
fn behind<'t, 'a>(said: &'t [Token<'a>], keyword: &str) -> Option<&'t [Token<'a>]> {
    let at = said.iter().position(|token| token.is(keyword))?;
    said.get(at + 1..)
}

/// The first `schema.name`.
fn first_pair(said: &[Token<'_>]) -> Option<Relation> {
    pairs(said).next()
}

/// Each `schema.name`.
fn pairs<'t>(said: &'t [Token<'_>]) -> impl Iterator<Item = Relation> + use<'t> {
    said.windows(3).filter_map(|three| {
        let [schema, dot, name] = three else { return None };
        if dot.is_sign(".") { Some((schema.name()?, name.name()?)) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::super::script::Script;

    fn about(kind: &str, name: &str, statement: &str) -> Option<String> {
        let text =
            format!("--\n-- Name: {name}; Type: {kind}; Schema: s; Owner: o\n--\n\n{statement}\n");
        let script = Script::parse(&text);
        script.entries[0].about().map(|(schema, name)| format!("{schema}/{name}"))
    }

    #[test]
    fn objects_of_entries_are_named_by_their_statements() {
        let cases = [
            (
                "SEQUENCE",
                "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (\n    \
                 SEQUENCE NAME s.q\n);",
                "s/q",
            ),
            ("TYPE", "CREATE TYPE s.c AS (\n\tx s.cube\n);", "s/c"),
            (
                "TYPE",
                "CREATE TYPE s.r AS RANGE (\n    subtype = s.cube,\n    multirange_type_name = \
                 s.m\n);",
                "s/r s/m",
            ),
            ("OPERATOR", "CREATE OPERATOR s.@=@ (\n    FUNCTION = s.f\n);", "s/@=@"),
            ("FUNCTION", "CREATE FUNCTION s.f(a s.cube) RETURNS s.cube AS 'x';", "s/f"),
            ("INDEX", "CREATE INDEX i ON s.t USING gist (c s.gist_cube_ops);", "s/i"),
            ("CAST", "CREATE CAST (s.cube AS s.c) WITHOUT FUNCTION;", ""),
            ("ACL", "GRANT ALL ON FUNCTION s.cube_in(cstring) TO r;", ""),
        ];
        for (kind, statement, expected) in cases {
            let text =
                format!("--\n-- Name: x; Type: {kind}; Schema: s; Owner: o\n--\n\n{statement}\n");
            let names = Script::parse(&text).entries[0].names();
            let names: Vec<String> =
                names.into_iter().map(|(schema, name)| format!("{schema}/{name}")).collect();
            assert_eq!(names.join(" "), expected, "{statement}");
        }
    }

    #[test]
    fn statements_say_what_they_are_about() {
        let cases = [
            ("TABLE", "t u", "CREATE TABLE s.\"t u\" (id integer);", Some("s/t u")),
            (
                "CONSTRAINT",
                "t k",
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k PRIMARY KEY (id);",
                Some("s/t"),
            ),
            ("INDEX", "i", "CREATE UNIQUE INDEX i ON ONLY s.t USING btree (x.y);", Some("s/t")),
            (
                "TRIGGER",
                "t g",
                "CREATE TRIGGER g BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();",
                Some("s/t"),
            ),
            (
                "RULE",
                "t r",
                "CREATE RULE r AS\n    ON INSERT TO s.t DO INSTEAD NOTHING;",
                Some("s/t"),
            ),
            ("COMMENT", "COLUMN t.c", "COMMENT ON COLUMN s.t.c IS 'a.b';", Some("s/t")),
            ("COMMENT", "CONSTRAINT k ON t", "COMMENT ON CONSTRAINT k ON s.t IS 'x';", Some("s/t")),
            (
                "COMMENT",
                "CONSTRAINT k ON DOMAIN d",
                "COMMENT ON CONSTRAINT k ON DOMAIN s.d IS 'x';",
                None,
            ),
            (
                "CHECK CONSTRAINT",
                "d k",
                "ALTER DOMAIN s.d ADD CONSTRAINT k CHECK ((VALUE > 0)) NOT VALID;",
                None,
            ),
            ("COMMENT", "FUNCTION f()", "COMMENT ON FUNCTION s.f() IS 'x';", None),
            ("ACL", "TABLE t", "GRANT SELECT(a) ON TABLE s.t TO b;", Some("s/t")),
            ("ACL", "TABLESPACE x", "GRANT CREATE ON TABLESPACE x TO b;", None),
            ("STATISTICS", "st", "CREATE STATISTICS s.st ON a, b FROM s.t;", Some("s/t")),
            (
                "TABLE ATTACH",
                "p",
                "ALTER TABLE ONLY s.t ATTACH PARTITION s.p FOR VALUES IN (1);",
                Some("s/p"),
            ),
            (
                "SEQUENCE",
                "q",
                "ALTER TABLE s.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (\n    \
                 SEQUENCE NAME s.q\n    START WITH 1\n);",
                Some("s/q"),
            ),
            ("TABLE", "a b", "CREATE TABLE s.\"a\nb\" (id integer);", Some("s/a\nb")),
            ("INDEX ATTACH", "i", "ALTER INDEX s.p ATTACH PARTITION s.i;", Some("s/p")),
        ];
        for (kind, name, statement, expected) in cases {
            assert_eq!(about(kind, name, statement).as_deref(), expected, "{statement}");
        }
    }
}

//! Which relation a statement is about, so that parts of a dump can be taken out of it.

use super::script::Entry;
use super::token::{Token, tokens};

/// Schema and name of a table, view, sequence or index.
pub(in super::super) type Relation = (String, String);

/// Kinds of objects that have rows, or stand for them.
const RELATIONS: [&str; 6] =
    ["TABLE", "COLUMN", "VIEW", "SEQUENCE", "MATERIALIZED VIEW", "FOREIGN TABLE"];
/// What belongs to a relation and is named before it.
const PARTS: [&str; 4] = ["CONSTRAINT", "TRIGGER", "POLICY", "RULE"];

impl Entry<'_> {
    /// The relation that it makes or changes. Of an index's own statements it is the index
    /// ([`Self::is_about_index`]).
    pub(in super::super) fn about(&self) -> Option<Relation> {
        let statement = self.statements.first()?;
        let said: Vec<Token<'_>> = tokens(statement).filter(|token| !token.is_blank()).collect();
        match self.kind {
            "TABLE"
            | "VIEW"
            | "MATERIALIZED VIEW"
            | "SEQUENCE"
            | "FOREIGN TABLE"
            | "MATERIALIZED VIEW DATA"
            | "SEQUENCE OWNED BY"
            | "ROW SECURITY"
            | "TABLE ATTACH" => Some((self.schema.to_owned(), self.name.to_owned())),
            "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" | "DEFAULT" | "INDEX ATTACH" => {
                first_pair(&said)
            }
            "INDEX" | "TRIGGER" | "POLICY" => first_pair(behind(&said, "ON")?),
            "RULE" => first_pair(behind(&said, "TO")?),
            "STATISTICS" => first_pair(behind(&said, "FROM")?),
            "COMMENT" | "ACL" | "SECURITY LABEL"
                if self.name_begins(&RELATIONS) || self.is_about_index() =>
            {
                first_pair(behind(&said, "ON")?)
            }
            "COMMENT" if self.name_begins(&PARTS) => {
                first_pair(behind(behind(&said, "ON")?, "ON")?)
            }
            _ => None,
        }
    }

    /// Whether [`Self::about`] names an index.
    pub(in super::super) fn is_about_index(&self) -> bool {
        self.kind == "INDEX ATTACH" || (self.kind == "COMMENT" && self.name_begins(&["INDEX"]))
    }

    /// The schema that it makes or changes, if it is none of the objects in it.
    pub(in super::super) fn about_schema(&self) -> Option<&str> {
        match self.kind {
            "SCHEMA" => Some(self.name),
            "COMMENT" | "ACL" | "SECURITY LABEL" => self.name.strip_prefix("SCHEMA "),
            _ => None,
        }
    }

    /// The table that another one is attached to.
    pub(in super::super) fn refers_from(&self) -> Option<Relation> {
        let said: Vec<Token<'_>> =
            tokens(self.statements.first()?).filter(|token| !token.is_blank()).collect();
        first_pair(&said)
    }

    /// The table that a foreign key refers to.
    pub(in super::super) fn references(&self) -> Option<Relation> {
        let said: Vec<Token<'_>> =
            tokens(self.statements.first()?).filter(|token| !token.is_blank()).collect();
        first_pair(behind(&said, "REFERENCES")?)
    }

    /// The name of the index that it makes.
    pub(in super::super) fn index(&self) -> Option<String> {
        let said: Vec<Token<'_>> =
            tokens(self.statements.first()?).filter(|token| !token.is_blank()).collect();
        let keyword = if self.kind == "INDEX" { "INDEX" } else { "CONSTRAINT" };
        behind(&said, keyword)?.first()?.name()
    }

    fn name_begins(&self, words: &[&str]) -> bool {
        words
            .iter()
            .any(|word| self.name.strip_prefix(word).is_some_and(|rest| rest.starts_with(' ')))
    }
}

/// What stands behind the first `keyword`.
fn behind<'t, 'a>(said: &'t [Token<'a>], keyword: &str) -> Option<&'t [Token<'a>]> {
    let at = said.iter().position(|token| token.is(keyword))?;
    said.get(at + 1..)
}

/// The first `schema.name`.
fn first_pair(said: &[Token<'_>]) -> Option<Relation> {
    said.windows(3).find_map(|three| {
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
            ("COMMENT", "FUNCTION f()", "COMMENT ON FUNCTION s.f() IS 'x';", None),
            ("ACL", "TABLE t", "GRANT SELECT(a) ON TABLE s.t TO b;", Some("s/t")),
            ("ACL", "TABLESPACE x", "GRANT CREATE ON TABLESPACE x TO b;", None),
            ("STATISTICS", "st", "CREATE STATISTICS s.st ON a, b FROM s.t;", Some("s/t")),
            ("INDEX ATTACH", "i", "ALTER INDEX s.p ATTACH PARTITION s.i;", Some("s/p")),
        ];
        for (kind, name, statement, expected) in cases {
            assert_eq!(about(kind, name, statement).as_deref(), expected, "{statement}");
        }
    }
}

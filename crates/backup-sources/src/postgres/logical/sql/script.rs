//! The statements of a dump by the objects that they make. `pg_dump` puts a comment in front of
//! each: `-- Name: orders; Type: TABLE; Schema: public; Owner: alice`. What stands in texts is
//! never taken for one.

use std::borrow::Cow;
use std::collections::HashMap;

use super::token::{Kind, Token, tokens};

/// What `pg_dump` says of one object, or settings between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Entry<'a> {
    /// Such as `TABLE`; empty for settings.
    pub(in super::super) kind: &'a str,
    pub(in super::super) name: Cow<'a, str>,
    /// Empty if it lies in none.
    pub(in super::super) schema: Cow<'a, str>,
    pub(in super::super) owner: &'a str,
    /// Each with what stands before it, and its semicolon.
    pub(in super::super) statements: Vec<&'a str>,
    /// Where its header begins in the script.
    pub(in super::super) from: usize,
}

/// A whole dump.
#[derive(Debug, Clone)]
pub(in super::super) struct Script<'a> {
    pub(in super::super) entries: Vec<Entry<'a>>,
}

impl<'a> Script<'a> {
    pub(in super::super) fn parse(text: &'a str) -> Self {
        let mut parsing = Parsing {
            text,
            entries: vec![Entry::default()],
            begun: 0,
            depth: 0,
            body: 0,
            words: [""; 2],
        };
        let mut at = 0;
        for token in tokens(text) {
            parsing.take(at, &token);
            at += token.text.len();
        }
        parsing.end(at);
        let mut entries = parsing.entries;
        entries.retain(|entry| !entry.statements.is_empty());
        name_by_statements(&mut entries);
        Self { entries }
    }

    /// The parts of the text before which `wanted` entries stand, and the rest, both in their
    /// order.
    pub(in super::super) fn partition(
        text: &'a str,
        wanted: impl Fn(&Entry<'_>) -> bool,
    ) -> (String, String) {
        let script = Self::parse(text);
        let (mut of_wanted, mut others) = (String::new(), String::new());
        let ends = script.entries.iter().skip(1).map(|entry| entry.from).chain([text.len()]);
        let mut begin = 0;
        for (entry, end) in script.entries.iter().zip(ends) {
            let out = if wanted(entry) { &mut of_wanted } else { &mut others };
            out.push_str(&text[begin..end]);
            begin = end;
        }
        (of_wanted, others)
    }
}

/// Gives entries their names as the statements have them: a header has spaces in place of line
/// ends (`sanitize_line` in `pg_backup_archiver.c`). A schema is known by its own entry.
fn name_by_statements(entries: &mut [Entry<'_>]) {
    let mut schemas = HashMap::new();
    let has_space = |entry: &&mut Entry<'_>| entry.name.contains(' ') || entry.schema.contains(' ');
    for entry in entries.iter_mut().filter(has_space) {
        if let Some(name) = entry.made_schema() {
            schemas.insert(entry.name.clone().into_owned(), name.clone());
            entry.name = name.into();
        } else if let Some((schema, name)) = entry.made_relation() {
            schemas.insert(entry.schema.clone().into_owned(), schema.clone());
            (entry.schema, entry.name) = (schema.into(), name.into());
        } else if let Some(schema) = schemas.get(&*entry.schema) {
            entry.schema = schema.clone().into();
        } else if let Some((schema, _)) = entry.about().filter(|_| !entry.schema.is_empty()) {
            entry.schema = schema.into();
        }
    }
}

struct Parsing<'a> {
    text: &'a str,
    entries: Vec<Entry<'a>>,
    /// Where the statement at hand begins.
    begun: usize,
    /// Parentheses that are open.
    depth: usize,
    /// `BEGIN ATOMIC` and `CASE` that are open: semicolons in there end no statement.
    body: usize,
    /// The last two words of the statement; the first of them is empty at its beginning.
    words: [&'a str; 2],
}

impl<'a> Parsing<'a> {
    fn take(&mut self, at: usize, token: &Token<'a>) {
        match token.kind {
            Kind::Comment if self.words[1].is_empty() => self.header(at, token.text),
            Kind::Comment | Kind::Space => return,
            Kind::Word => {
                let was = self.words[1];
                match token.text {
                    "ATOMIC" if was == "BEGIN" => self.body += 1,
                    "CASE" if self.body > 0 => self.body += 1,
                    "END" if self.body > 0 => self.body -= 1,
                    _ => {}
                }
            }
            _ => match token.text {
                "(" => self.depth += 1,
                ")" => self.depth = self.depth.saturating_sub(1),
                ";" if self.depth == 0 && self.body == 0 => return self.end(at + 1),
                _ => {}
            },
        }
        if !token.is_blank() {
            self.words = [self.words[1], token.text];
        }
    }

    /// A comment between statements; psql's commands are not for servers.
    fn header(&mut self, at: usize, comment: &'a str) {
        if comment.starts_with('\\') {
            let end = at + comment.len();
            self.begun = end + usize::from(self.text[end..].starts_with('\n'));
            return;
        }
        let found = comment.strip_prefix("-- Name: ").and_then(|rest| {
            // Names come first and may hold anything but line ends.
            let (name, rest) = rest.rsplit_once("; Type: ")?;
            let (kind, rest) = rest.split_once("; Schema: ")?;
            let (schema, rest) = rest.split_once("; Owner: ")?;
            let owner = rest.rsplit_once("; Tablespace: ").map_or(rest, |(owner, _)| owner);
            let given = |text: &'a str| if text == "-" { "" } else { text };
            Some(Entry {
                kind,
                name: name.into(),
                schema: given(schema).into(),
                owner: given(owner),
                statements: Vec::new(),
                from: at,
            })
        });
        if let Some(entry) = found {
            self.begun = at;
            self.entries.push(entry);
        }
    }

    fn end(&mut self, at: usize) {
        let statement = &self.text[self.begun..at];
        let mut said = tokens(statement).filter(|token| !token.is_blank()).peekable();
        // The grantor is no setting: it belongs to a list of privileges.
        let is_setting = (said.peek().is_some_and(|first| first.is("SET"))
            && grantor(statement).is_none())
            || (said.next().is_some_and(|first| first.is("SELECT"))
                && statement.contains("set_config('search_path'"));
        let is_empty = tokens(statement).all(|token| token.is_blank());
        // Settings are for all that follows, whatever becomes of the object before them.
        if is_setting && self.entries.last().is_some_and(|entry| !entry.kind.is_empty()) {
            self.entries.push(Entry { from: self.begun, ..Entry::default() });
        }
        if let Some(entry) = self.entries.last_mut().filter(|_| !is_empty) {
            entry.statements.push(statement);
        }
        (self.begun, self.depth, self.body, self.words) = (at, 0, 0, [""; 2]);
    }
}

/// The role of `SET SESSION AUTHORIZATION role`, as SQL has it.
pub(in super::super) fn grantor(statement: &str) -> Option<&str> {
    let said: Vec<Token<'_>> = tokens(statement).filter(|token| !token.is_blank()).collect();
    match said.as_slice() {
        [set, session, authorization, role, ..]
            if set.is("SET") && session.is("SESSION") && authorization.is("AUTHORIZATION") =>
        {
            Some(role.text)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET \
                        statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', \
                        false);\n\n--\n-- Name: f(); Type: FUNCTION; Schema: public; Owner: \
                        al\n--\n\nCREATE FUNCTION public.f() RETURNS integer\n    LANGUAGE \
                        sql\n    BEGIN ATOMIC\n SELECT CASE WHEN true THEN 1 END;\n SELECT \
                        2;\nEND;\n\nALTER FUNCTION public.f() OWNER TO al;\n\n--\n-- Name: g(); \
                        Type: FUNCTION; Schema: public; Owner: al\n--\n\nCREATE FUNCTION \
                        public.g() AS $$;\n--\n-- Name: no; Type: TABLE; Schema: public; Owner: \
                        x\n--\n$$;\n\nSET default_tablespace = '';\n\n--\n-- Name: a; Type: b; \
                        Type: TABLE; Schema: public; Owner: al\n--\n\nCREATE TABLE public.\"a; \
                        Type: b\" (\n    id integer\n);\n\n--\n-- PostgreSQL database dump \
                        complete\n--\n\n\\unrestrict abc\n";

    #[test]
    fn entries_are_told_apart() {
        let script = Script::parse(DUMP);
        let found: Vec<_> = script
            .entries
            .iter()
            .map(|entry| (entry.kind, &*entry.name, entry.statements.len()))
            .collect();
        let expected = [("", "", 2), ("FUNCTION", "f()", 2), ("FUNCTION", "g()", 1), ("", "", 1)];
        assert_eq!(found[..4], expected);
        assert_eq!(found[4..], [("TABLE", "a; Type: b", 1)]);
        assert_eq!((&*script.entries[1].schema, script.entries[1].owner), ("public", "al"));
        assert!(!script.entries[0].statements[0].contains("restrict"));
    }

    const GRANTS: &str = "--\n-- Name: d; Type: DATABASE; Schema: -; Owner: al\n--\n\nCREATE \
                          DATABASE d;\n\\connect d\n\\restrict abc\n\nSET statement_timeout = \
                          0;\n\n--\n-- Name: DATABASE d; Type: ACL; Schema: -; Owner: \
                          al\n--\n\nGRANT CONNECT ON DATABASE d TO bo WITH GRANT OPTION;\nSET \
                          SESSION AUTHORIZATION \"b o\";\nGRANT CONNECT ON DATABASE d TO ca;\nRESET \
                          SESSION AUTHORIZATION;\n";

    #[test]
    fn grants_of_others_stay_in_their_list() {
        let (of_database, others) =
            Script::partition(GRANTS, |entry| matches!(entry.kind, "DATABASE" | "ACL"));
        assert!(!others.contains("GRANT") && others.contains("SET statement_timeout"), "{others}");
        let script = Script::parse(&of_database);
        let found: Vec<_> =
            script.entries.iter().map(|entry| (entry.kind, entry.statements.len())).collect();
        assert_eq!(found, [("DATABASE", 1), ("ACL", 4)], "{of_database}");
        let grantors = script.entries[1].statements.iter().map(|statement| grantor(statement));
        assert_eq!(grantors.collect::<Vec<_>>(), [None, Some("\"b o\""), None, None]);
    }

    #[test]
    fn parts_are_all_of_it() {
        let (functions, others) = Script::partition(DUMP, |entry| entry.kind == "FUNCTION");
        assert_eq!(functions.len() + others.len(), DUMP.len());
        assert!(functions.contains("public.g()") && !others.contains("public.g()"));
        assert!(others.contains("\\unrestrict") && others.contains("SET default_tablespace"));
    }
}

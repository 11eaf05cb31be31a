//! Objects other than relations and schemas, by the words for them in statements.

use super::super::sql::{Entry, Token, tokens};

/// Entries about objects that other entries make.
const ATTRIBUTES: [&str; 3] = ["ACL", "COMMENT", "SECURITY LABEL"];

/// Words before the name of an object, and one word for those that can stand for each other.
const KINDS: [(&[&str], &str); 6] = [
    (&["FUNCTION"], "ROUTINE"),
    (&["PROCEDURE"], "ROUTINE"),
    (&["AGGREGATE"], "ROUTINE"),
    (&["DOMAIN"], "TYPE"),
    (&["PROCEDURAL", "LANGUAGE"], "LANGUAGE"),
    (&["FOREIGN", "SERVER"], "SERVER"),
];

/// Kind, name and arguments of an object, as `pg_dump` writes them in statements about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Object(String);

impl Object {
    /// The object that an entry makes: the one that it gives an owner.
    pub(super) fn made_by(entry: &Entry<'_>) -> Option<Self> {
        if ATTRIBUTES.contains(&entry.kind) {
            return None;
        }
        entry.statements.iter().find_map(|statement| {
            let said: Vec<_> = tokens(statement).filter(|token| !token.is_blank()).collect();
            let [alter, words @ ..] = &said[..] else { return None };
            let end = words.iter().position(|word| word.is("OWNER"))?;
            alter.is("ALTER").then(|| Self::named(&words[..end]))
        })
    }

    /// The object whose privileges, comment or label an entry sets.
    pub(super) fn of_attribute(entry: &Entry<'_>) -> Option<Self> {
        if !ATTRIBUTES.contains(&entry.kind) || entry.about().is_some() {
            return None;
        }
        let said: Vec<_> =
            tokens(entry.statements.first()?).filter(|token| !token.is_blank()).collect();
        let mut words = &said[said.iter().position(|word| word.is("ON"))? + 1..];
        // `CONSTRAINT name ON DOMAIN …`
        if let [constraint, _, on, domain, ..] = words
            && constraint.is("CONSTRAINT")
            && on.is("ON")
            && domain.is("DOMAIN")
        {
            words = &words[3..];
        }
        let ends = |word: &Token<'_>| ["TO", "FROM", "IS"].iter().any(|end| word.is(end));
        let end = words.iter().position(ends)?;
        Some(Self::named(&words[..end]))
    }

    fn named(words: &[Token<'_>]) -> Self {
        let is_kind = |kind: &[&str]| {
            words.len() >= kind.len() && kind.iter().zip(words).all(|(kind, word)| word.is(kind))
        };
        let kind = KINDS.iter().find(|(kind, _)| is_kind(kind));
        let (kind, name) = kind.map_or(("", words), |(kind, one)| (*one, &words[kind.len()..]));
        let name: Vec<&str> = name.iter().map(|word| word.text).collect();
        Self(format!("{kind} {}", name.join(" ")).trim_start().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sql::Script;
    use super::Object;

    fn objects(kind: &str, statements: &str) -> (Option<Object>, Option<Object>) {
        let text =
            format!("--\n-- Name: x; Type: {kind}; Schema: s; Owner: o\n--\n\n{statements}\n");
        let script = Script::parse(&text);
        (Object::made_by(&script.entries[0]), Object::of_attribute(&script.entries[0]))
    }

    #[test]
    fn attributes_name_the_objects_of_other_entries() {
        let cases = [
            (
                "FUNCTION",
                "CREATE FUNCTION s.f(i integer DEFAULT 1, OUT j integer) RETURNS integer LANGUAGE \
                 sql AS 'x';\nALTER FUNCTION s.f(i integer, OUT j integer) OWNER TO al;",
                "GRANT ALL ON FUNCTION s.f(i integer, OUT j integer) TO bob;",
            ),
            (
                "AGGREGATE",
                "CREATE AGGREGATE s.a(x integer) (SFUNC = s.f);\nALTER AGGREGATE s.a(x integer) \
                 OWNER TO al;",
                "REVOKE ALL ON FUNCTION s.a(x integer) FROM PUBLIC;",
            ),
            (
                "DOMAIN",
                "CREATE DOMAIN s.\"My d\" AS integer;\nALTER DOMAIN s.\"My d\" OWNER TO al;",
                "COMMENT ON CONSTRAINT c ON DOMAIN s.\"My d\" IS 'is';",
            ),
            (
                "TYPE",
                "CREATE TYPE s.e AS ENUM ();\nALTER TYPE s.e OWNER TO al;",
                "GRANT ALL ON TYPE s.e TO bob;",
            ),
            (
                "OPERATOR",
                "CREATE OPERATOR s.+ (FUNCTION = s.f);\nALTER OPERATOR s.+ (integer, integer) \
                 OWNER TO al;",
                "COMMENT ON OPERATOR s.+ (integer, integer) IS 'plus';",
            ),
            (
                "PROCEDURAL LANGUAGE",
                "CREATE LANGUAGE pl;\nALTER PROCEDURAL LANGUAGE pl OWNER TO al;",
                "GRANT ALL ON LANGUAGE pl TO bob;",
            ),
            (
                "SERVER",
                "CREATE SERVER far;\nALTER SERVER far OWNER TO al;",
                "REVOKE GRANT OPTION FOR ALL ON FOREIGN SERVER far FROM bob;",
            ),
        ];
        for (kind, made, about) in cases {
            let of_comment = if about.starts_with("COMMENT") { "COMMENT" } else { "ACL" };
            let ((made, none), (nothing, found)) =
                (objects(kind, made), objects(of_comment, about));
            assert!(made.is_some() && none.is_none() && nothing.is_none(), "{kind}");
            assert_eq!(made, found, "{kind}");
        }
        let other = "COMMENT ON FUNCTION s.f(i bigint, OUT j integer) IS 'other';";
        assert_ne!(objects(cases[0].0, cases[0].1).0, objects("COMMENT", other).1);
    }
}

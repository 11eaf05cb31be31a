//! The same statements for other names. `pg_dump` writes every name with its schema, so that each
//! can be told.
//!
//! What is text to the server stays as it is, above all bodies of functions; a name in a string is
//! only one if it is cast to `regclass`.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::about::Relation;
use super::token::{Kind, Token, tokens};
use super::{literal, qualified, quoted};

/// Longest name, bytes (`NAMEDATALEN` less one).
const LONGEST: usize = 63;
/// Bytes of a digest in a name.
const DIGEST: usize = 4;

/// Characters of operators.
const OPERATOR_SIGNS: &str = "+-*/<>=~!@#%^&|`?";

/// Which names become which.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct NewNames {
    pub(in super::super) schemas: HashMap<String, String>,
    pub(in super::super) relations: HashMap<Relation, Relation>,
    /// New names of statistics objects, whose names are apart from those of relations.
    pub(in super::super) statistics: HashMap<Relation, Relation>,
    /// Schemas of which only `known` objects get other names: a table has the same name, which may
    /// be either in front of a dot; or an extension lies there, which stays.
    pub(in super::super) shared: HashSet<String>,
    /// All objects with a schema that the snapshot makes, operators among them.
    pub(in super::super) known: HashSet<Relation>,
}

/// New name of an index, sequence or partition of a renamed table: names in a schema must differ. A
/// name that is too long ends with a digest of the whole name.
pub(in super::super) fn belonging(name: &str, table: &str, renamed: &str) -> String {
    let mut name = name
        .strip_prefix(table)
        .map_or_else(|| format!("{renamed}_{name}"), |rest| format!("{renamed}{rest}"));
    if name.len() > LONGEST {
        let digest = hex::encode(&Sha256::digest(&name)[..DIGEST]);
        while name.len() + 1 + digest.len() > LONGEST {
            name.pop();
        }
        name = format!("{name}_{digest}");
    }
    name
}

impl NewNames {
    pub(in super::super) fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.relations.is_empty()
    }

    /// The name that a relation gets.
    pub(in super::super) fn of(&self, schema: &str, name: &str) -> Relation {
        self.by(&self.relations, (schema.to_owned(), name.to_owned()))
    }

    /// Returns `true` for a relation that gets another name, or another schema.
    pub(in super::super) fn is_renamed(&self, one: &Relation) -> bool {
        self.of(&one.0, &one.1) != *one
    }

    /// The name that an object gets by the names in `renamed`, or else by its schema.
    fn by(&self, renamed: &HashMap<Relation, Relation>, one: Relation) -> Relation {
        renamed.get(&one).cloned().unwrap_or_else(|| (self.schema(&one.0), one.1))
    }

    /// The name that a schema gets.
    pub(in super::super) fn schema(&self, schema: &str) -> String {
        self.schemas.get(schema).cloned().unwrap_or_else(|| schema.to_owned())
    }

    /// The name of `one` that belongs to `table`: another one unless the table keeps its own, or
    /// both get another schema.
    pub(in super::super) fn with_table(&self, one: &Relation, table: &Relation) -> Relation {
        let (schema, renamed) = self.of(&table.0, &table.1);
        let name =
            if renamed == table.1 { one.1.clone() } else { belonging(&one.1, &table.1, &renamed) };
        let of_one = if one.0 == table.0 { schema.clone() } else { self.schema(&one.0) };
        if (&of_one, &name) == (&one.0, &one.1) && (&schema, &renamed) != (&table.0, &table.1) {
            let name = belonging(&one.1, &table.1, &format!("{schema}_{renamed}"));
            return (of_one, name);
        }
        (of_one, name)
    }

    /// A statement about `table`, or about none, under the new names.
    pub(in super::super) fn apply(&self, statement: &str, table: Option<&Relation>) -> String {
        if self.is_empty() {
            return statement.to_owned();
        }
        let said: Vec<Token<'_>> = tokens(statement).collect();
        let mut out = String::with_capacity(statement.len() + 32);
        let (mut at, mut before_last, mut last) = (0, None::<Token<'_>>, None::<Token<'_>>);
        while let Some(token) = said.get(at) {
            let is_part = last.is_some_and(|last| last.is_sign("."));
            let followers = (said.get(at + 1), said.get(at + 2));
            match (token.name(), followers) {
                (Some(schema), (Some(dot), Some(name)))
                    if !is_part && dot.is_sign(".") && name.name().is_some() =>
                {
                    let was = (schema, name.name().unwrap_or_default());
                    let is = if self.keeps_name(&was) {
                        was.clone()
                    } else if last.is_some_and(|last| last.is("STATISTICS")) {
                        self.by(&self.statistics, was.clone())
                    } else {
                        self.of(&was.0, &was.1)
                    };
                    if is == was {
                        [token, dot, name].into_iter().for_each(|token| out.push_str(token.text));
                    } else {
                        out.push_str(&qualified(&is.0, &is.1));
                    }
                    at += 2;
                }
                (Some(schema), (Some(dot), Some(operator)))
                    if !is_part
                        && dot.is_sign(".")
                        && operator.kind == Kind::Other
                        && is_before_operator(before_last, last) =>
                {
                    let was = (schema, operator_in(&said[at + 2..]));
                    match self.schemas.get(&was.0).filter(|_| !self.keeps_name(&was)) {
                        Some(renamed) => out.push_str(&quoted(renamed)),
                        None => out.push_str(token.text),
                    }
                }
                (Some(name), _) if last.is_some_and(|last| last.is("SCHEMA")) => {
                    out.push_str(&quoted(&self.schema(&name)));
                }
                // Names of constraints and indexes stand without a schema.
                (Some(name), _) if is_before_index(before_last, last) => {
                    let is_keyword = token.kind == Kind::Word
                        && token.text.bytes().all(|byte| byte.is_ascii_uppercase());
                    let renamed = table
                        .filter(|_| !is_keyword)
                        .and_then(|(schema, _)| self.relations.get(&(schema.clone(), name)));
                    match renamed {
                        Some((_, renamed)) => out.push_str(&quoted(renamed)),
                        None => out.push_str(token.text),
                    }
                }
                _ if token.kind == Kind::Text && is_relation(&said[at + 1..]) => {
                    out.push_str(&self.in_text(token.text));
                }
                _ => out.push_str(token.text),
            }
            if let Some(token) = said.get(at).filter(|token| !token.is_blank()) {
                before_last = last.replace(*token);
            }
            at += 1;
        }
        out
    }

    /// `'schema.name'`.
    fn in_text(&self, text: &str) -> String {
        let inner = text.trim_matches('\'').replace("''", "'");
        let said: Vec<Token<'_>> = tokens(&inner).collect();
        match said.as_slice() {
            [schema, dot, name] if dot.is_sign(".") => match (schema.name(), name.name()) {
                (Some(schema), Some(name)) if !self.keeps_name(&(schema.clone(), name.clone())) => {
                    let (schema, name) = self.of(&schema, &name);
                    literal(&qualified(&schema, &name))
                }
                _ => text.to_owned(),
            },
            _ => text.to_owned(),
        }
    }

    /// Returns `true` for a column, or a member of an extension.
    fn keeps_name(&self, one: &Relation) -> bool {
        self.shared.contains(&one.0) && !self.known.contains(one)
    }
}

/// Returns `true` before the name of an index or constraint. Only constraints with an index are
/// renamed: other constraints share their names with those of partitions.
fn is_before_index(before_last: Option<Token<'_>>, last: Option<Token<'_>>) -> bool {
    let is = |token: Option<Token<'_>>, word: &str| token.is_some_and(|token| token.is(word));
    is(last, "INDEX") || is(last, "CONSTRAINT") || (is(before_last, "CLUSTER") && is(last, "ON"))
}

/// Returns `true` before the name of an operator: elsewhere `.*` stands for columns.
fn is_before_operator(before_last: Option<Token<'_>>, last: Option<Token<'_>>) -> bool {
    [before_last, last].iter().any(|token| token.is_some_and(|token| token.is("OPERATOR")))
}

/// The operator that `said` begins with.
pub(super) fn operator_in(said: &[Token<'_>]) -> String {
    let is_part = |token: &&Token<'_>| OPERATOR_SIGNS.contains(token.text);
    said.iter().take_while(is_part).map(|token| token.text).collect()
}

/// Whether `::regclass` follows.
fn is_relation(rest: &[Token<'_>]) -> bool {
    matches!(rest, [one, two, cast, ..] if one.is_sign(":") && two.is_sign(":") && cast.is("REGCLASS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> NewNames {
        let pair = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        NewNames {
            schemas: HashMap::from([("sales".to_owned(), "old".to_owned())]),
            relations: HashMap::from([
                (pair("public", "orders"), pair("public", "orders 2")),
                (pair("public", "orders_id_seq"), pair("public", "orders 2_id_seq")),
                (pair("public", "orders_pkey"), pair("public", "orders 2_pkey")),
                (pair("public", "i"), pair("public", "orders 2_i")),
            ]),
            ..NewNames::default()
        }
    }

    #[test]
    fn a_table_may_be_called_like_a_schema() {
        let known = HashSet::from([("sales".to_owned(), "t".to_owned())]);
        let names = NewNames { shared: HashSet::from(["sales".to_owned()]), known, ..names() };
        let view = "CREATE VIEW sales.t AS SELECT sales.id FROM public.sales;";
        assert_eq!(
            names.apply(view, None),
            "CREATE VIEW \"old\".\"t\" AS SELECT sales.id FROM public.sales;"
        );
    }

    #[test]
    fn extensions_stay_when_their_schema_gets_another_name() {
        let known = ["t", "f", "==="].map(|name| ("sales".to_owned(), name.to_owned()));
        let shared = HashSet::from(["sales".to_owned()]);
        let names = NewNames { shared, known: HashSet::from(known), ..names() };
        let cases = [
            (
                "CREATE TABLE sales.t (c sales.cube DEFAULT sales.f('sales.t'::regclass));",
                "CREATE TABLE \"old\".\"t\" (c sales.cube DEFAULT \
                 \"old\".\"f\"('\"old\".\"t\"'::regclass));",
            ),
            (
                "SELECT a OPERATOR(sales.===) b, a OPERATOR(sales.<->) b, 'sales.x'::regclass;",
                "SELECT a OPERATOR(\"old\".===) b, a OPERATOR(sales.<->) b, 'sales.x'::regclass;",
            ),
        ];
        for (from, to) in cases {
            assert_eq!(names.apply(from, None), to);
        }
    }

    #[test]
    fn objects_of_a_copy_in_another_schema_get_names_of_their_own() {
        let pair = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        let names = names();
        let of = |schema, name| names.with_table(&pair(schema, name), &pair("sales", "t"));
        assert_eq!(of("sales", "s"), pair("old", "s"));
        assert_eq!(of("other", "s"), pair("other", "old_t_s"));
    }

    #[test]
    fn names_and_nothing_else_change() {
        let table = ("public".to_owned(), "orders".to_owned());
        let cases = [
            ("CREATE SCHEMA sales;", "CREATE SCHEMA \"old\";"),
            ("GRANT USAGE ON SCHEMA sales TO sales;", "GRANT USAGE ON SCHEMA \"old\" TO sales;"),
            (
                "CREATE OPERATOR sales.=== (FUNCTION = f);",
                "CREATE OPERATOR \"old\".=== (FUNCTION = f);",
            ),
            ("SELECT 1 OPERATOR(sales.*) 2;", "SELECT 1 OPERATOR(\"old\".*) 2;"),
            ("SELECT sales.* FROM t sales;", "SELECT sales.* FROM t sales;"),
            ("SELECT 'sales.t' FROM sales.t;", "SELECT 'sales.t' FROM \"old\".\"t\";"),
            (
                "ALTER TABLE ONLY public.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);",
                "ALTER TABLE ONLY \"public\".\"orders 2\" ADD CONSTRAINT \"orders 2_pkey\" PRIMARY \
                 KEY (id);",
            ),
            (
                "CREATE INDEX i ON public.orders USING btree (id);",
                "CREATE INDEX \"orders 2_i\" ON \"public\".\"orders 2\" USING btree (id);",
            ),
            (
                "ALTER TABLE public.orders CLUSTER ON i;",
                "ALTER TABLE \"public\".\"orders 2\" CLUSTER ON \"orders 2_i\";",
            ),
            (
                "ALTER TABLE ONLY public.orders REPLICA IDENTITY USING INDEX orders_pkey;",
                "ALTER TABLE ONLY \"public\".\"orders 2\" REPLICA IDENTITY USING INDEX \"orders \
                 2_pkey\";",
            ),
            // Partitions have the same one.
            (
                "ALTER TABLE public.orders ADD CONSTRAINT orders_total CHECK (total > 0);",
                "ALTER TABLE \"public\".\"orders 2\" ADD CONSTRAINT orders_total CHECK (total > 0);",
            ),
            (
                "ALTER COLUMN id SET DEFAULT nextval('public.orders_id_seq'::regclass);",
                "ALTER COLUMN id SET DEFAULT nextval('\"public\".\"orders 2_id_seq\"'::regclass);",
            ),
            (
                "COMMENT ON COLUMN sales.t.sales IS $$sales.t$$;",
                "COMMENT ON COLUMN \"old\".\"t\".sales IS $$sales.t$$;",
            ),
        ];
        for (from, to) in cases {
            assert_eq!(names().apply(from, Some(&table)), to);
        }
    }

    #[test]
    fn long_names_stay_names() {
        let name = belonging(&"é".repeat(31), "x", "renamed");
        assert!(name.len() <= LONGEST && name.starts_with("renamed_é"));
        let other = belonging(&("é".repeat(31) + "y"), "x", "renamed");
        assert!(other.len() <= LONGEST && other != name);
    }
}

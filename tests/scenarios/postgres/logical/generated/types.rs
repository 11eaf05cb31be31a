//! Types, and values of each as expressions of `n`, an integer from 1 on.

use super::names::{quoted, text};
use super::{Schema, left_out};
use crate::support::postgres::Version;

/// A type and its values.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub(super) sql: String,
    /// An expression of `n`.
    pub(super) value: String,
    /// A list of partitions by these values is possible, and values are equal for equal `n % 3`.
    pub(super) labels: Option<[String; 3]>,
}

fn of(sql: impl Into<String>, value: impl Into<String>) -> Type {
    Type { sql: sql.into(), value: value.into(), labels: None }
}

/// One of several literals of a type, in turn.
fn among(sql: &str, literals: &[&str]) -> Type {
    let listed: Vec<String> =
        literals.iter().map(|literal| format!("{}::{sql}", text(literal))).collect();
    let value = format!("(ARRAY[{}])[1 + n % {}]", listed.join(", "), literals.len());
    of(sql, value)
}

/// The types of a server without extensions.
pub(super) fn plain(version: Version) -> Vec<Type> {
    let mut types = vec![
        of("int", "n * 7 - 5"),
        of("int", "CASE n % 2 WHEN 0 THEN 2147483647 - n ELSE -2147483648 + n END"),
        of("bigint", "CASE n % 2 WHEN 0 THEN 9223372036854775807 - n ELSE n * 1000 END"),
        of("smallint", "(n % 30000)::smallint"),
        of("text", "E'\\\\N \\t\\\\. \\r\\n;' || n"),
        of("text", "repeat(md5(n::text), 1 + n % 90)"),
        of("varchar(20)", "'v' || n"),
        of("char(5)", "'c' || n % 100"),
        of("bytea", "decode(md5(n::text) || '00ff', 'hex')"),
        of("boolean", "n % 2 = 0"),
        of("uuid", "md5(n::text)::uuid"),
        of("int[]", "ARRAY[n, NULL, n * 2]"),
        of("text[]", "ARRAY[ARRAY['a,b', 'NULL'], ARRAY[NULL, E'\"\\\\' || n]]"),
        of("int4range", "int4range(n * 10, n * 10 + 5, '[]')"),
        of("tstzrange", "tstzrange(NULL, '2026-01-01Z'::timestamptz + n * interval '1 day')"),
        of("money", "(n * -1.25)::numeric::money"),
        of("xid", "(n % 1000)::text::xid"),
        of("oid", "n::oid"),
        of("name", "('name ' || n)::name"),
        of("tsvector", "to_tsvector('simple', 'some words ' || n)"),
        among("numeric", &["NaN", "0.000", "1e-300", "-12345678901234567890.123456789"]),
        among("numeric(30,5)", &["1", "-0.00001", "NaN"]),
        among("float8", &["NaN", "Infinity", "-Infinity", "-0", "5e-324", "0.1", "1.7e308"]),
        among("real", &["NaN", "Infinity", "-0", "1e-45", "0.1"]),
        among("date", &["infinity", "-infinity", "4713-01-01 BC", "2026-02-28", "5874897-12-31"]),
        among("timestamp(3)", &["infinity", "2026-01-01 00:00:00.123", "0044-03-15 BC"]),
        among("timestamptz", &["-infinity", "294276-12-31 23:59:59.999999Z", "1900-01-01Z"]),
        among("time", &["24:00", "00:00:00.000001"]),
        among("timetz", &["23:59:59+14", "00:00-12:30"]),
        among("interval", &["-1 mon +1 day -00:00:00.000001", "178000000 years", "0"]),
        among("json", &["{\"a\":  1, \"a\": \"\\\\u0041\"}", "[]", "null", " 1.0e5 "]),
        among("jsonb", &["{\"b\": {\"a\": 1e5}, \"\": null}", "\"text\"", "[1, [2]]"]),
        among("inet", &["192.168.0.1/24", "::1", "fe80::1/64"]),
        among("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
        among("macaddr8", &["08:00:2b:01:02:03:04:05"]),
        among("bit(5)", &["10101", "00000"]),
        among("varbit", &["", "1", "0101010101"]),
        among("point", &["(1e300,-0)", "(NaN,Infinity)"]),
        among("polygon", &["((0,0),(1,1),(2,0))"]),
        among("circle", &["<(1,2),3>"]),
        among("tsquery", &["'a' & !'b'", ""]),
        among("\"char\"", &["a", "", "\\377"]),
        among("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
        among("jsonpath", &["$.a[*] ? (@ > 1)"]),
        among("regclass", &["pg_class", "pg_catalog.pg_type"]),
    ];
    if version >= Version::V14 {
        types.push(among("int4multirange", &["{}", "{[1,3),[5,7)}"]));
        types.push(among("numeric", &["Infinity", "-Infinity"]));
    }
    types
}

impl Schema {
    /// A type, and one that comes out more often if it was made here.
    pub(super) fn kind(&mut self) -> Type {
        let types = self.types.clone();
        let made = types.len().min(14);
        if self.one_in(2) { self.pick(&types[types.len() - made..]) } else { self.pick(&types) }
    }

    pub(super) fn add_extensions(&mut self) {
        let known: [(&str, &[Type]); 9] = [
            ("citext", &[of("citext", "'CiText' || n")]),
            ("hstore", &[of("hstore", "hstore('k' || n, E'v\"\\\\')")]),
            ("ltree", &[of("ltree", "('a.b' || n)::@ltree")]),
            ("cube", &[of("cube", "@cube(ARRAY[n::float8, 2.5::float8])")]),
            ("isn", &[of("isbn", "'0-393-04002-X'::@isbn")]),
            ("btree_gist", &[]),
            ("pg_trgm", &[]),
            ("intarray", &[]),
            ("unaccent", &[]),
        ];
        for (name, types) in known {
            if !self.one_in(2) {
                continue;
            }
            let schema = self.schema();
            self.add(format!("CREATE EXTENSION {name} SCHEMA {schema}"));
            self.extensions.push((name.to_owned(), schema.clone()));
            for one in types {
                let (sql, value) = (format!("{schema}.{}", one.sql), one.value.clone());
                let value = match name {
                    "citext" => format!("({value})::{sql}"),
                    "hstore" => format!("{schema}.{value}"),
                    _ => value.replace('@', &format!("{schema}.")),
                };
                self.types.push(of(sql, value));
            }
        }
    }

    pub(super) fn add_types(&mut self) {
        for _ in 0..=self.below(2) {
            self.add_enum();
        }
        for _ in 0..self.below(4) {
            self.add_domain();
        }
        for _ in 0..self.below(3) {
            self.add_composite();
        }
        if self.one_in(2) {
            let name = self.qualified();
            // From a long name the server makes one that ends within a character.
            let is_long = name.len() > 45;
            let multirange = if self.is_since(Version::V14) && (is_long || self.one_in(2)) {
                format!(", multirange_type_name = {}", self.qualified())
            } else {
                String::new()
            };
            self.add(format!(
                "CREATE TYPE {name} AS RANGE (subtype = float8, subtype_diff = \
                 float8mi{multirange})"
            ));
            self.types.push(of(&*name, format!("{name}(n, n + 0.5, '[)')")));
            self.types.push(of(format!("{name}[]"), format!("ARRAY[{name}(n, n + 0.5), NULL]")));
        }
        if self.one_in(2) {
            let (name, other) = (self.qualified(), self.qualified());
            self.add(format!(
                "CREATE COLLATION {name} (provider = icu, locale = 'en-u-kn-true', deterministic = \
                 false)"
            ));
            self.add(format!("CREATE COLLATION {other} FROM \"C\""));
            self.types.push(of(format!("text COLLATE {name}"), "'a' || n"));
            self.types.push(of(format!("varchar(9) COLLATE {other}"), "chr(65 + n % 26) || n"));
        }
    }

    fn add_enum(&mut self) {
        let name = self.qualified();
        let labels = [self.name(), self.name(), "it's; \\n".to_owned(), "x".repeat(63)];
        let listed: Vec<String> = labels.iter().map(|label| text(label)).collect();
        self.add(format!("CREATE TYPE {name} AS ENUM ({})", listed.join(", ")));
        if self.one_in(2) {
            self.add(format!("ALTER TYPE {name} ADD VALUE 'between' BEFORE {}", listed[1]));
        }
        let of_label = |at: usize| format!("{}::{name}", listed[at]);
        let value =
            format!("(ARRAY[{}, {}, {}])[1 + n % 3]", of_label(0), of_label(1), of_label(3));
        let labels = Some([listed[0].clone(), listed[1].clone(), listed[3].clone()]);
        self.types.push(Type { labels, ..of(&*name, &*value) });
        self.types.push(of(format!("{name}[]"), format!("ARRAY[{value}, NULL]")));
    }

    fn add_domain(&mut self) {
        let name = self.qualified();
        let function = self.function();
        let (base, value, more) = match self.below(5) {
            0 => ("int".to_owned(), "n".to_owned(), format!("CHECK ({function}(VALUE) >= 0)")),
            1 => (
                "text".to_owned(),
                "'d' || n".to_owned(),
                "DEFAULT 'it''s' CHECK (VALUE <> '')".to_owned(),
            ),
            2 => ("int[]".to_owned(), "ARRAY[n, 2]".to_owned(), "CHECK (VALUE[1] > 0)".to_owned()),
            _ => {
                let base = self.kind();
                let constraint = quoted(&self.name());
                let more = format!("CONSTRAINT {constraint} CHECK (VALUE IS NOT NULL OR 1 < 2)");
                (base.sql, base.value, more)
            }
        };
        self.add(format!("CREATE DOMAIN {name} AS {base} {more}"));
        // Arrays and ranges of these depend on the server if the base does.
        self.types.push(of(&*name, format!("({value})::{name}")));
        if self.one_in(3) && !left_out("constraint of a domain that is not valid") {
            let later = quoted(&self.name());
            self.add(format!(
                "ALTER DOMAIN {name} ADD CONSTRAINT {later} CHECK (VALUE IS NULL OR 1 < 2) NOT VALID"
            ));
        }
    }

    fn add_composite(&mut self) {
        let name = self.qualified();
        let mut fields = Vec::new();
        for _ in 0..=self.below(3) {
            fields.push((quoted(&self.name()), self.kind()));
        }
        let listed: Vec<String> =
            fields.iter().map(|(name, kind)| format!("{name} {}", kind.sql)).collect();
        self.add(format!("CREATE TYPE {name} AS ({})", listed.join(", ")));
        if self.one_in(3) {
            let gone = quoted(&self.name());
            self.add(format!("ALTER TYPE {name} ADD ATTRIBUTE {gone} int"));
            self.add(format!("ALTER TYPE {name} DROP ATTRIBUTE {gone}"));
        }
        let values: Vec<String> = fields.into_iter().map(|(_, kind)| kind.value).collect();
        let value = format!("ROW({})::{name}", values.join(", "));
        self.types.push(of(&*name, &*value));
        self.types.push(of(format!("{name}[]"), format!("ARRAY[{value}]")));
    }
}

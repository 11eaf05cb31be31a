//! Restoring under other names: `shop=shop_test`, `shop.public=shop.old`,
//! `shop.public.orders=shop.public.orders_old`.

use std::collections::BTreeSet;
use std::fmt;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use crate::renaming::{escaped, sides, unmatched};

/// Rules from names in the snapshot to names at the target. The first that matches wins; what none
/// matches keeps its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// As it was given.
    text: String,
    from: Vec<Part>,
    to: Vec<Part>,
}

impl Renames {
    /// Rules of the form `from=to`: on either side a database, a schema (`database.schema`) or a
    /// table (`database.schema.table`). A part may have one `*`; the text that it matches replaces
    /// the one on the right. A backslash makes `.`, `*` and `=` ordinary characters of a name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] names the first rule that makes no sense.
    pub fn new<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> SourceResult<Self> {
        let rules = rules
            .into_iter()
            .map(|rule| Rule::parse(rule.as_ref()))
            .collect::<SourceResult<_>>()?;
        Ok(Self { rules })
    }

    /// Whether every name stays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Refuses rules that match none of `names`, the databases, schemas and relations that are
    /// restored, by their names in the snapshot.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotFound`] names the first such rule and the names that exist.
    pub(super) fn refuse_unmatched(&self, names: &BTreeSet<Vec<String>>) -> SourceResult<()> {
        let matches = |rule: &&Rule| names.iter().any(|name| rule.matches(name));
        let Some(rule) = self.rules.iter().find(|rule| !matches(rule)) else { return Ok(()) };
        let same = names.iter().filter(|name| name.len() == rule.from.len());
        let same: Vec<&Vec<String>> = same.collect();
        let shown = |name: &&Vec<String>| joined(name.iter().map(|part| literal(part)));
        let shown: Vec<String> = same.iter().map(shown).collect();
        Err(unmatched(&rule.text, &rule.similar(&same), &shown))
    }

    /// The database that things of `database` go to; all of them go to one.
    pub(super) fn database(&self, database: &str) -> SourceResult<String> {
        let mut found: Vec<String> =
            self.rules.iter().filter_map(|rule| rule.part(0, database)).collect();
        found.dedup();
        match found.as_slice() {
            [] => Ok(database.to_owned()),
            [one] => Ok(one.clone()),
            _ => Err(SourceError::new(
                SourceErrorKind::Invalid,
                format!("the renaming rules map {database} to {}", found.join(" and to ")),
            )
            .with_hint("restore into one database at a time")),
        }
    }

    /// The schema that things of `database.schema` go to.
    pub(super) fn schema(&self, database: &str, schema: &str) -> Option<String> {
        let rules = self.rules.iter().filter(|rule| rule.from.len() == 2);
        rules.filter(|rule| rule.part(0, database).is_some()).find_map(|rule| rule.part(1, schema))
    }

    /// The schema and name that a relation gets.
    pub(super) fn relation(
        &self,
        database: &str,
        schema: &str,
        name: &str,
    ) -> Option<(String, String)> {
        let rules = self.rules.iter().filter(|rule| rule.from.len() == 3);
        rules
            .filter(|rule| rule.part(0, database).is_some())
            .find_map(|rule| rule.part(1, schema).zip(rule.part(2, name)))
    }
}

impl Rule {
    fn parse(text: &str) -> SourceResult<Self> {
        let invalid = || {
            SourceError::new(SourceErrorKind::Invalid, format!("{text:?} is not a renaming rule"))
                .with_hint(
                    "write from=to with the same number of parts on both sides, for instance \
                     'shop.public=shop.old'",
                )
        };
        let (from, to) = sides(text).ok_or_else(invalid)?;
        let parts = |side: &str| parts_of(side).ok_or_else(invalid);
        let rule = Self { text: text.to_owned(), from: parts(&from)?, to: parts(&to)? };
        let pairs = rule.from.iter().zip(&rule.to);
        let sound = rule.from.len() == rule.to.len()
            && rule.from.len() <= 3
            && pairs.clone().all(|(from, to)| !from.is_empty() && !to.is_empty())
            && pairs.clone().all(|(from, to)| to.end.is_none() || from.end.is_some());
        if sound { Ok(rule) } else { Err(invalid()) }
    }

    /// Returns `true` if the left side matches all parts of a name.
    fn matches(&self, name: &[String]) -> bool {
        let mut parts = name.iter().enumerate();
        name.len() == self.from.len() && parts.all(|(at, part)| self.part(at, part).is_some())
    }

    /// Left sides of rules of the same form that match some of `names`, which have as many parts.
    fn similar(&self, names: &[&Vec<String>]) -> Vec<String> {
        let part = |(from, name): (&Part, &String)| match &from.end {
            Some(_) => from.to_string(),
            None => literal(name),
        };
        let side = |name: &&Vec<String>| joined(self.from.iter().zip(*name).map(part));
        let sides: BTreeSet<String> = names.iter().map(side).collect();
        let to = joined(self.to.iter().map(Part::to_string));
        let is_valid = |side: &String| {
            Self::parse(&format!("{}={}", escaped(side), escaped(&to)))
                .is_ok_and(|rule| names.iter().any(|name| rule.matches(name)))
        };
        sides.into_iter().filter(is_valid).collect()
    }

    /// The new name of the part at a place; `None` if the rule does not match it.
    fn part(&self, at: usize, name: &str) -> Option<String> {
        let (from, to) = (self.from.get(at)?, self.to.get(at)?);
        let star = match &from.end {
            None if from.begin == name => "",
            None => return None,
            Some(end) => name.strip_prefix(&*from.begin)?.strip_suffix(&**end)?,
        };
        Some(match &to.end {
            None => to.begin.clone(),
            Some(end) => format!("{}{star}{end}", to.begin),
        })
    }
}

/// A name, or the beginning and the end of names around a star.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    begin: String,
    end: Option<String>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.begin.is_empty() && self.end.is_none()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&literal(&self.begin))?;
        match &self.end {
            Some(end) => write!(f, "*{}", literal(end)),
            None => Ok(()),
        }
    }
}

/// A side of a rule of these parts.
fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(".")
}

/// The parts of a side of a rule; `None` if one has two stars. `\.`, `\*` and `\\` stand for these
/// characters in a name.
fn parts_of(side: &str) -> Option<Vec<Part>> {
    let mut parts = vec![Part { begin: String::new(), end: None }];
    let mut letters = side.chars().peekable();
    while let Some(letter) = letters.next() {
        let part = parts.last_mut()?;
        let letter = match letter {
            '\\' => letters.next_if(|next| SPECIAL.contains(next)).unwrap_or('\\'),
            '.' => {
                parts.push(Part { begin: String::new(), end: None });
                continue;
            }
            '*' if part.end.is_some() => return None,
            '*' => {
                part.end = Some(String::new());
                continue;
            }
            plain => plain,
        };
        part.end.as_mut().unwrap_or(&mut part.begin).push(letter);
    }
    Some(parts)
}

/// Characters of rules that names have with a backslash in front.
const SPECIAL: [char; 3] = ['.', '*', '\\'];

/// A name as a part of a rule.
fn literal(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        if SPECIAL.contains(&letter) {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_others() {
        let renames =
            Renames::new(["shop.public.orders=test.public.old", "shop.a*=test.b*", "w*=w*_2"])
                .unwrap();
        assert_eq!(renames.database("shop").unwrap(), "test");
        assert_eq!(renames.database("wiki").unwrap(), "wiki_2");
        assert_eq!(renames.database("crm").unwrap(), "crm");
        assert_eq!(renames.schema("shop", "ax").as_deref(), Some("bx"));
        assert_eq!(renames.schema("shop", "x"), None);
        let table = renames.relation("shop", "public", "orders").unwrap();
        assert_eq!((&*table.0, &*table.1), ("public", "old"));
        assert!(Renames::new(["a=b", "a.x=c.x"]).unwrap().database("a").is_err());
    }

    #[test]
    fn rule_that_matches_no_restored_object_is_refused() {
        let names = ["shop", "shop.public", "shop.public.orders"];
        let names = names.map(|name| name.split('.').map(str::to_owned).collect::<Vec<_>>()).into();
        let refused = |rule: &str| Renames::new([rule]).unwrap().refuse_unmatched(&names).err();
        for good in ["shop=a", "s*=t*", "shop.public=shop.old", "shop.public.o*=shop.public.p*"] {
            assert!(refused(good).is_none(), "{good}");
        }
        for (bad, good) in [
            ("shops=a", "shop=a"),
            ("shop.publik=shop.x", "shop.public=shop.x"),
            ("shop.public.order=shop.public.x", "shop.public.orders=shop.public.x"),
            ("shp.public.o*=shop.public.p*", "shop.public.o*=shop.public.p*"),
        ] {
            let error = refused(bad).unwrap();
            assert_eq!(error.kind(), SourceErrorKind::NotFound, "{bad}");
            let hint = error.hint().unwrap();
            assert!(hint.starts_with(&format!("did you mean --rename '{good}'?")), "{bad}: {hint}");
            assert!(refused(good).is_none(), "{good}");
        }
    }

    #[test]
    fn backslash_makes_dots_and_stars_ordinary() {
        let renames = Renames::new([
            r"my\.db.public.a\*b=my\.copy.public.c\*",
            r"my\.db.x\.*=my\.copy.y\.*",
            r"my\.db.back\\slash=my\.copy.a\b",
        ])
        .unwrap();
        assert_eq!(renames.database("my.db").unwrap(), "my.copy");
        assert_eq!(renames.database("my").unwrap(), "my");
        let table = renames.relation("my.db", "public", "a*b").unwrap();
        assert_eq!((&*table.0, &*table.1), ("public", "c*"));
        assert_eq!(renames.relation("my.db", "public", "axb"), None);
        assert_eq!(renames.schema("my.db", "x.1").as_deref(), Some("y.1"));
        assert_eq!(renames.schema("my.db", r"back\slash").as_deref(), Some(r"a\b"));
        // The hint for a rule that matches nothing has the backslashes that a rule needs.
        let names: BTreeSet<Vec<String>> = [["my.db", "public"].map(str::to_owned).to_vec()].into();
        let error = Renames::new(["my.db.public=x.y.z"]).unwrap().refuse_unmatched(&names);
        assert!(error.is_err());
        let error = Renames::new([r"my\.db.publik=my\.db.old"]).unwrap();
        let error = error.refuse_unmatched(&names).unwrap_err();
        let hint = error.hint().unwrap();
        assert!(hint.starts_with(r"did you mean --rename 'my\.db.public=my\.db.old'?"), "{hint}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["a", "a=b.c", "a.b.c.d=a.b.c.e", "=a", "a=", "a=b*", "a**=b*"] {
            assert!(Renames::new([bad]).is_err(), "{bad}");
        }
    }
}

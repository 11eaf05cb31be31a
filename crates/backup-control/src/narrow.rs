//! The part of a job that flags select: the intersection of two lists of include patterns.
//!
//! Globs have no intersection in general. It is computed where one pattern contains the other, or
//! where both can have nothing in common; everything else is refused, because a backup of more than
//! the job selects is as wrong as one of less.

use backup_core::source::{EntryPath, Selection};

use crate::config::SourceKind;
use crate::error::{Error, Result};

/// Characters with a meaning in globs.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// The patterns for the objects that both `own`, the patterns of a job, and `asked`, those of the
/// flags, select in a source of `kind`. An empty list selects everything.
///
/// # Errors
/// [`Error::Invalid`] if both lists select nothing in common, or if that cannot be decided.
pub(crate) fn intersection(
    own: &[String],
    asked: &[String],
    kind: SourceKind,
) -> Result<Vec<String>> {
    if own.is_empty() || asked.is_empty() {
        return Ok(own.iter().chain(asked).cloned().collect());
    }
    let mut common = Vec::new();
    for asked in asked {
        for own in own {
            let pattern = match relate(own, asked, kind) {
                Relation::Contains => asked,
                Relation::Within => own,
                Relation::Disjoint => continue,
                Relation::Unknown => return Err(undecided(own, asked)),
            };
            if !common.contains(pattern) {
                common.push(pattern.clone());
            }
        }
    }
    if common.is_empty() {
        let (own, asked) = (own.join(", "), asked.join(", "));
        return Err(Error::invalid(format!("the job selects {own}, which has nothing of {asked}"))
            .with_hint("choose objects of the job, or extend `include` in the configuration"));
    }
    Ok(common)
}

fn undecided(own: &str, asked: &str) -> Error {
    Error::invalid(format!(
        "cannot determine which part of `{own}`, which the job includes, `{asked}` selects"
    ))
    .with_hint(format!("name objects in full, or begin the pattern as `{own}` does"))
}

/// The selection of one pattern compared with that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The whole selection of the second one.
    Contains,
    /// A part of the selection of the second one.
    Within,
    /// No part of the selection of the second one.
    Disjoint,
    Unknown,
}

fn relate(own: &str, asked: &str, kind: SourceKind) -> Relation {
    if contains(own, asked, kind) {
        return Relation::Contains;
    }
    if contains(asked, own, kind) {
        return Relation::Within;
    }
    let (first, second) = (literal_prefix(own, kind), literal_prefix(asked, kind));
    let diverge = !first.starts_with(second) && !second.starts_with(first);
    // Two names that do not contain each other name different objects.
    if diverge || (is_name(own, kind) && is_name(asked, kind)) {
        Relation::Disjoint
    } else {
        Relation::Unknown
    }
}

/// True if the outer pattern surely selects everything that the inner one selects.
fn contains(outer: &str, inner: &str, kind: SourceKind) -> bool {
    if outer == inner || (is_name(inner, kind) && selects(outer, inner, kind)) {
        return true;
    }
    let prefix = literal_prefix(inner, kind);
    if is_name(outer, kind) {
        return match kind {
            SourceKind::Files | SourceKind::Redis => is_below(prefix, outer, '/'),
            // Below a database lie its collections, and nothing below those.
            SourceKind::Mongodb => !outer.contains('.') && is_below(prefix, outer, '.'),
            SourceKind::Postgres => outer.matches('.').count() < 2 && is_below(prefix, outer, '.'),
        };
    }
    let stem = outer.trim_end_matches('*');
    is_name(stem, kind) && !stem.is_empty() && prefix.starts_with(stem)
}

fn is_below(prefix: &str, name: &str, separator: char) -> bool {
    prefix
        .strip_prefix(name.trim_end_matches(separator))
        .is_some_and(|rest| rest.starts_with(separator))
}

/// True if the pattern is a plain name: it selects one object and everything below.
fn is_name(pattern: &str, kind: SourceKind) -> bool {
    // A path without a leading slash matches at any depth.
    let is_anchored = match kind {
        SourceKind::Files | SourceKind::Redis => pattern.starts_with('/'),
        SourceKind::Mongodb | SourceKind::Postgres => true,
    };
    is_anchored && !pattern.contains(SPECIAL)
}

/// The text that everything selected by the pattern begins with.
fn literal_prefix(pattern: &str, kind: SourceKind) -> &str {
    let end = pattern.find(SPECIAL).unwrap_or(pattern.len());
    match kind {
        SourceKind::Files | SourceKind::Redis if !pattern.starts_with('/') => "",
        _ => &pattern[..end],
    }
}

/// True if the pattern selects the object called `name`, or something above it.
fn selects(pattern: &str, name: &str, kind: SourceKind) -> bool {
    match kind {
        SourceKind::Files | SourceKind::Redis => {
            let selection = Selection::new(vec![pattern.to_owned()], Vec::new());
            let path = EntryPath::new(name.trim_end_matches('/'));
            selection.is_ok_and(|selection| path.is_some_and(|path| selection.covers(&path)))
        }
        SourceKind::Mongodb | SourceKind::Postgres => {
            let Ok(glob) = globset::GlobBuilder::new(pattern).backslash_escape(true).build() else {
                return false;
            };
            let glob = glob.compile_matcher();
            let database = name.split('.').next().unwrap_or(name);
            glob.is_match(name) || glob.is_match(database)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Collections that a list of patterns selects, by the rules in the documentation: a pattern
    /// matches the database or the full name, `*` also matches dots.
    fn selected<'a>(patterns: &[String], universe: &[&'a str]) -> Vec<&'a str> {
        let covers = |name: &&&str| {
            let database = name.split('.').next().unwrap();
            let matches = |pattern: &String| {
                [**name, database].iter().any(|text| is_match(pattern.as_bytes(), text.as_bytes()))
            };
            patterns.is_empty() || patterns.iter().any(matches)
        };
        universe.iter().filter(covers).copied().collect()
    }

    fn is_match(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| is_match(rest, &text[at..])),
            ([b'?', rest @ ..], [_, text @ ..]) => is_match(rest, text),
            ([one, rest @ ..], [other, text @ ..]) => one == other && is_match(rest, text),
            _ => pattern.is_empty() && text.is_empty(),
        }
    }

    #[test]
    fn intersection_selects_common_objects() {
        const NAMES: [&str; 9] = [
            "shop.orders",
            "shop.customers",
            "shop.orders.old",
            "shop2.orders",
            "crm.people",
            "crm.customers",
            "sh.x",
            "shop.",
            "s.orders",
        ];
        const PATTERNS: [&str; 14] = [
            "shop",
            "shop.*",
            "shop.orders",
            "shop.orders.old",
            "shop.o*",
            "sh*",
            "crm",
            "crm.people",
            "*.orders",
            "*",
            "shop?.orders",
            "shop.customers",
            "c*",
            "shop.orders*",
        ];
        let mut decided = 0;
        for own in PATTERNS {
            for asked in PATTERNS {
                let (own, asked) = (owned(&[own, "crm.customers"]), owned(&[asked]));
                let (first, second) = (selected(&own, &NAMES), selected(&asked, &NAMES));
                let both: Vec<&str> =
                    first.into_iter().filter(|name| second.contains(name)).collect();
                match intersection(&own, &asked, SourceKind::Mongodb) {
                    Ok(common) => {
                        assert_eq!(
                            selected(&common, &NAMES),
                            both,
                            "{own:?} {asked:?}: {common:?}"
                        );
                        decided += 1;
                    }
                    Err(error) if error.to_string().contains("nothing of") => {
                        assert!(both.is_empty(), "{own:?} {asked:?}: {both:?}");
                        decided += 1;
                    }
                    Err(_) => {}
                }
            }
        }
        assert!(decided > 120, "{decided}");
    }

    #[test]
    fn intersection_of_paths() {
        for (own, asked, common) in [
            (&["/home", "/etc"][..], &["/home/ann"][..], Some(&["/home/ann"][..])),
            (&["/home/ann"], &["/home"], Some(&["/home/ann"])),
            (&["/home/*"], &["/home/ann/*.txt"], Some(&["/home/ann/*.txt"])),
            (&["/home"], &["/homes"], None),
            (&["/home"], &["*.txt"], None),
            (&["docs"], &["/home/docs/a"], Some(&["/home/docs/a"])),
            (&[], &["/x"], Some(&["/x"])),
            (&["/x"], &[], Some(&["/x"])),
        ] {
            let found = intersection(&owned(own), &owned(asked), SourceKind::Files);
            assert_eq!(found.ok(), common.map(owned), "{own:?} {asked:?}");
        }
    }

    #[test]
    fn intersection_knows_no_object_below_a_collection() {
        let found = |own: &str, asked: &str, kind| {
            intersection(&owned(&[own]), &owned(&[asked]), kind).ok()
        };
        assert_eq!(found("shop.orders", "shop.orders.old", SourceKind::Mongodb), None);
        let table = "shop.public.orders";
        assert_eq!(found("shop.public", table, SourceKind::Postgres), Some(owned(&[table])));
    }
}

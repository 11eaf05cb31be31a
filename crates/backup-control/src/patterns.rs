//! Patterns of a command line for the objects of databases: lists with commas, and a hint for a name
//! without its database.

use crate::config::SourceKind;

/// The patterns in lists whose items are separated by commas, as in `crm.*,shop.orders`. A comma
/// within `{…}` or `[…]` or behind a backslash is part of its pattern. Spaces around commas do not
/// count, unless they have a backslash in front. Patterns for files and keys
/// stay as they are: names of files and keys may hold commas.
#[must_use]
pub fn split(kind: SourceKind, lists: &[String]) -> Vec<String> {
    match kind {
        SourceKind::Mongodb | SourceKind::Postgres => {
            lists.iter().flat_map(|list| items(list)).collect()
        }
        SourceKind::Files | SourceKind::Redis => lists.to_vec(),
    }
}

/// The same for a snapshot, by its tag `source`.
#[must_use]
pub fn split_for(source: Option<&str>, lists: &[String]) -> Vec<String> {
    split(kind_of(source), lists)
}

fn kind_of(source: Option<&str>) -> SourceKind {
    match source {
        Some("mongodb") => SourceKind::Mongodb,
        Some("postgres" | "postgres-logical") => SourceKind::Postgres,
        Some("redis") => SourceKind::Redis,
        _ => SourceKind::Files,
    }
}

fn items(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let (mut depth, mut is_class, mut is_escaped) = (0_u32, false, false);
    for letter in list.chars() {
        let is_separator = letter == ',' && depth == 0 && !is_class && !is_escaped;
        if is_separator {
            items.push(String::new());
            continue;
        }
        if !is_escaped {
            match letter {
                '{' if !is_class => depth += 1,
                '}' if !is_class => depth = depth.saturating_sub(1),
                '[' => is_class = true,
                ']' => is_class = false,
                _ => {}
            }
        }
        is_escaped = letter == '\\' && !is_escaped;
        if let Some(item) = items.last_mut() {
            item.push(letter);
        }
    }
    // Spaces around commas are for the eye; those of a single pattern belong to its name.
    if items.len() == 1 {
        return items;
    }
    let trimmed = items.iter().map(|item| trimmed(item).to_owned());
    trimmed.filter(|item| !item.is_empty()).collect()
}

/// A pattern without spaces around it, but for one behind a backslash.
fn trimmed(item: &str) -> &str {
    let item = item.trim_start();
    let short = item.trim_end();
    let backslashes = short.bytes().rev().take_while(|byte| *byte == b'\\').count();
    let escaped = item[short.len()..].chars().next().filter(|_| backslashes % 2 == 1);
    &item[..short.len() + escaped.map_or(0, char::len_utf8)]
}

/// Hint for include patterns that match nothing: a name without a dot is that of a database, and may
/// be meant as one of a collection or table.
#[must_use]
pub fn hint(kind: SourceKind, patterns: &[String]) -> Option<String> {
    let is_bare = |pattern: &&String| !pattern.contains(['.', '*', '?', '[', '{', '\\', '/']);
    let name = patterns.iter().find(is_bare)?;
    let (object, before) = match kind {
        SourceKind::Mongodb => ("collection", ["DATABASE", "*"]),
        SourceKind::Postgres => ("table", ["DATABASE.SCHEMA", "*.*"]),
        SourceKind::Files | SourceKind::Redis => return None,
    };
    let [named, any] = before;
    Some(format!(
        "`{name}` is a database here: for a {object}, write {named}.{name}, or '{any}.{name}' for \
         those of all databases"
    ))
}

/// The same for a snapshot, by its tag `source`.
#[must_use]
pub fn hint_for(source: Option<&str>, patterns: &[String]) -> Option<String> {
    hint(kind_of(source), patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn split_separates_lists_of_databases() {
        let lists = owned(&["shop.orders, crm.*", "{a,b}.x,c[,]d", r"odd\,name,", "one"]);
        let expected = owned(&["shop.orders", "crm.*", "{a,b}.x", "c[,]d", r"odd\,name", "one"]);
        assert_eq!(split(SourceKind::Mongodb, &lists), expected);
        assert_eq!(split_for(Some("postgres-logical"), &lists), expected);
        let spaces = owned(&[" one ", r"\ a , b\ ,c", r"d\\ ,e"]);
        let expected = owned(&[" one ", r"\ a", r"b\ ", "c", r"d\\", "e"]);
        assert_eq!(split(SourceKind::Postgres, &spaces), expected);
        assert_eq!(split(SourceKind::Files, &lists), lists);
        assert_eq!(split_for(Some("redis"), &lists), lists);
        assert_eq!(split_for(None, &lists), lists);
    }

    #[test]
    fn hint_names_the_missing_database() {
        let hint_of = |kind, list: &[&str]| hint(kind, &owned(list));
        let text = hint_of(SourceKind::Mongodb, &["shop.x", "users"]).unwrap();
        assert!(text.contains("DATABASE.users") && text.contains("'*.users'"), "{text}");
        assert!(hint_of(SourceKind::Postgres, &["orders"]).unwrap().contains("'*.*.orders'"));
        assert_eq!(hint_of(SourceKind::Mongodb, &["shop.users", "*.x"]), None);
        assert_eq!(hint_of(SourceKind::Files, &["users"]), None);
    }
}

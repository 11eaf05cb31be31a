//! The databases that a backup is limited to: the one that its options name, and those that its user
//! may list.

use backup_core::context::Context;
use backup_core::source::{
    SelectedPatterns, Selection, SourceError, SourceErrorKind, SourceResult,
};
use bson::{Bson, doc};

use super::catalog::databases;
use super::error::{Explain as _, is_denied, malformed};
use super::namespace::is_confined;
use super::server::{Server, unless_cancelled};

/// Databases that a warning lists.
const NAMED: usize = 10;

/// The selection of a backup within the databases that it is limited to.
#[derive(Debug, Clone)]
pub(super) struct Within {
    pub(super) selection: Selection,
    /// Its patterns, if they are not those of the request.
    pub(super) narrowed: Option<SelectedPatterns>,
    /// Databases may be missing in the snapshot, because the user may not list them.
    pub(super) warning: Option<String>,
}

impl Within {
    /// Limits `asked` to `database`, if there is one, and to the databases that the user may list.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotFound`] if the server has no such database, unless the user of the
    /// connection is one of that database: then all databases are meant, with a warning.
    pub(super) async fn new(
        cx: &Context,
        server: &Server,
        database: Option<&str>,
        asked: &Selection,
    ) -> SourceResult<Self> {
        let mut selection = asked.clone();
        let mut is_narrowed = false;
        if let Some(name) = database {
            let found = unless_cancelled(cx, databases(server)).await?;
            if found.contains_key(name) {
                is_narrowed = !is_confined(asked, &[name.to_owned()]);
                selection = within(asked, &[name.to_owned()])?;
            } else if server.auth_source.as_deref() == Some(name) {
                server.waits.warn(only_authentication(name));
            } else {
                return Err(no_such_database(name));
            }
        }
        let visible = unless_cancelled(cx, visible(server)).await?;
        let mut warning = None;
        if let Some(visible) = visible.filter(|visible| !is_confined(&selection, visible)) {
            warning = Some(hidden(&visible));
            is_narrowed = true;
            selection = within(&selection, &visible)?;
        }
        let patterns = || SelectedPatterns {
            include: selection.include().to_vec(),
            exclude: selection.exclude().to_vec(),
        };
        let narrowed = is_narrowed.then(patterns);
        Ok(Self { selection, narrowed, warning })
    }
}

/// The part of a selection that lies in one database.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] if the patterns cannot be compiled.
pub fn selection_in(asked: &Selection, database: &str) -> SourceResult<Selection> {
    within(asked, &[database.to_owned()])
}

/// The part of a selection that lies in these databases.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] for a selection that both includes patterns and readmits some: its
/// part in a database is no selection, as a readmission would reach into the others.
fn within(asked: &Selection, databases: &[String]) -> SourceResult<Selection> {
    if is_confined(asked, databases) {
        return Ok(asked.clone());
    }
    let readmits = asked.exclude().iter().any(|pattern| pattern.starts_with('!'));
    if readmits && !asked.include().is_empty() {
        let text = "cannot select a database by name together with `include` and an exclude \
                    pattern that begins with `!`";
        return Err(SourceError::new(SourceErrorKind::Invalid, text)
            .with_hint("name the collections by `include` alone, as DATABASE.COLLECTION"));
    }
    let names = databases.iter().map(|name| escaped(name));
    let exclude = asked.exclude().iter().cloned();
    let narrowed = if asked.include().is_empty() {
        Selection::new(names.collect(), exclude.collect())
    } else {
        // The intersection of patterns is no pattern: everything else is excluded.
        let readmitted = names.map(|name| format!("!{name}"));
        let exclude = std::iter::once("*".to_owned()).chain(readmitted).chain(exclude);
        Selection::new(asked.include().to_vec(), exclude.collect())
            .map(|narrowed| narrowed.recording_for(asked))
    };
    narrowed.map_err(|error| {
        SourceError::new(SourceErrorKind::Invalid, "cannot select databases by name")
            .with_source(error)
    })
}

/// A pattern that matches this name only. Unlike [`Selection::literal`], it leaves commas alone:
/// incremental backups compare it with the recorded selection of earlier snapshots.
pub(super) fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        // At the beginning of an exclude pattern, `!` readmits.
        if "*?[]{}\\!".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// The databases that the user may list, if these need not be all of them. A user without the right
/// `listDatabases` gets a shorter list, without any sign of it
/// (<https://www.mongodb.com/docs/manual/reference/command/listDatabases/>).
async fn visible(server: &Server) -> SourceResult<Option<Vec<String>>> {
    let list = |only_authorized: bool| {
        let command =
            doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": only_authorized };
        server.run("admin", command)
    };
    match list(false).await {
        Ok(_) => return Ok(None),
        Err(error) if is_denied(&error) => {}
        Err(error) => return Err(error).reading("cannot list the databases"),
    }
    let reply = list(true).await.reading("cannot list the databases")?;
    let listed = reply.get_array("databases").map_err(|_| malformed("list of databases"))?;
    let names = listed.iter().filter_map(Bson::as_document);
    let names = names.map(|one| one.get_str("name").map(str::to_owned));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|_| malformed("database name"))?;
    Ok(Some(names.into_iter().filter(|name| !matches!(&**name, "local" | "config")).collect()))
}

fn only_authentication(name: &str) -> String {
    format!(
        "the database {name} of the address holds no collections and only authenticates the user: \
         it selects nothing"
    )
}

fn no_such_database(name: &str) -> SourceError {
    let text = format!("the server has no database {name}, which the source names");
    SourceError::new(SourceErrorKind::NotFound, text).with_hint(
        "correct the name, or leave it out of the address (mongodb://HOST/) and of `database` to \
         back up all databases",
    )
}

fn hidden(visible: &[String]) -> String {
    let shown: Vec<&str> = visible.iter().take(NAMED).map(String::as_str).collect();
    let more = if visible.len() > NAMED { ", …" } else { "" };
    let list = if shown.is_empty() { "no databases" } else { &shown.join(", ") };
    format!(
        "the user may list only some databases, and the snapshot holds only these ({list}{more}): \
         grant the role `backup`, or name the databases with `include`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongodb::namespace::{Filter, Namespace};

    const NAMES: [&str; 9] = [
        "shop.orders",
        "shop.cache",
        "shop2.orders",
        "crm.people",
        "crm.orders",
        "a*b.x",
        "axb.x",
        "!odd.x",
        "odd.x",
    ];

    fn covered(selection: &Selection) -> Vec<&'static str> {
        let filter = Filter::new(selection).unwrap();
        NAMES.into_iter().filter(|name| filter.covers(&Namespace::parse(name).unwrap())).collect()
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn selection_within_databases_is_the_intersection() {
        let includes: [&[&str]; 5] =
            [&[], &["*.orders"], &["shop"], &["crm.people", "shop.*"], &["*b.x", "*odd.x"]];
        let excludes: [&[&str]; 3] = [&[], &["*.cache"], &["shop", "!shop.orders"]];
        let sets: [&[&str]; 5] = [&["shop"], &["shop", "crm"], &["a*b"], &["!odd"], &["none"]];
        let mut covers_some = 0;
        for include in includes {
            for exclude in excludes {
                let asked = Selection::new(owned(include), owned(exclude)).unwrap();
                for set in sets {
                    let narrowed = within(&asked, &owned(set));
                    if !include.is_empty() && exclude.contains(&"!shop.orders") {
                        assert!(narrowed.is_err() || is_confined(&asked, &owned(set)));
                        continue;
                    }
                    let found = covered(&narrowed.unwrap());
                    let lies = |name: &&str| set.contains(&name.split_once('.').unwrap().0);
                    let expected: Vec<_> = covered(&asked).into_iter().filter(lies).collect();
                    assert_eq!(found, expected, "{include:?} {exclude:?} {set:?}");
                    covers_some += usize::from(!found.is_empty());
                }
            }
        }
        assert!(covers_some > 20, "{covers_some}");
    }

    #[test]
    fn selection_within_databases_records_the_matches_of_the_request() {
        let asked = Selection::new(owned(&["*.orders", "*.none"]), Vec::new()).unwrap();
        covered(&within(&asked, &owned(&["crm"])).unwrap());
        assert_eq!(asked.unmatched(), ["*.none"]);
    }

    #[test]
    fn confined_selection_is_unchanged() {
        let asked = Selection::new(owned(&["shop.*", "crm"]), Vec::new()).unwrap();
        assert!(is_confined(&asked, &owned(&["crm", "shop", "x"])));
        assert!(!is_confined(&asked, &owned(&["crm"])));
        for open in [&[][..], &["sho*"], &["*.orders"], &["shop", "{crm,x}.y"]] {
            let asked = Selection::new(owned(open), Vec::new()).unwrap();
            assert!(!is_confined(&asked, &owned(&["crm", "shop", "x"])), "{open:?}");
        }
    }
}

//! Restoring into the one database that the address of the target names.

use std::collections::BTreeSet;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words::few;

use crate::mongodb::fold::Folded;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::MongoOptions;
use crate::mongodb::rename::Renames;
use crate::mongodb::server::Server;

/// Databases that an error lists.
const NAMED: usize = 10;

/// The options of a restore into one database: with the renaming rule that leads there, and without
/// users and roles, which belong to the whole server. Unchanged if no database is named.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] if collections of several databases are selected and no rules lead
/// all of them into the named one.
pub(super) fn options_into(
    cx: &Context,
    server: &Server,
    folded: &Folded,
    filter: &Filter,
    options: MongoOptions,
) -> SourceResult<MongoOptions> {
    let Some(into) = options.into_database.clone() else { return Ok(options) };
    let covered =
        |namespace: &&Namespace| filter.covers(namespace) && !namespace.is_restored_by_the_server();
    let live = folded.live.iter().filter(|live| !live.temporary);
    let names = live.map(|live| &live.collection.namespace);
    let views = folded.views.iter().map(|view| &view.namespace);
    let (users, names): (Vec<&Namespace>, Vec<&Namespace>) =
        names.chain(views).filter(covered).partition(|name| name.is_authorization());
    if options.restore_users && !users.is_empty() {
        cx.events.note(format!(
            "Users and roles are left out: the address of the target names the database {into}."
        ));
    }
    let options = MongoOptions { restore_users: false, ..options };
    let left_out = folded.spoiled.iter().map(|spoiled| &spoiled.namespace);
    let databases: BTreeSet<&str> =
        names.iter().copied().chain(left_out).map(|name| &*name.db).collect();
    if !options.renames.is_empty() {
        return refuse_outside(&into, &names, &options.renames).map(|()| options);
    }
    match databases.into_iter().collect::<Vec<_>>()[..] {
        [] => Ok(options),
        [one] if one == into => Ok(options),
        [one] => {
            cx.events.note(format!(
                "The address of the target names the database {into}: {one} is restored into it."
            ));
            Ok(MongoOptions { renames: Renames::of_database(one, &into), ..options })
        }
        ref several => Err(of_several(server, &into, several)),
    }
}

fn refuse_outside(into: &str, names: &[&Namespace], renames: &Renames) -> SourceResult<()> {
    let renamed = names.iter().map(|name| Ok(renames.apply(name)?.db));
    let mut outside = renamed.collect::<SourceResult<BTreeSet<String>>>()?;
    outside.remove(into);
    if outside.is_empty() {
        return Ok(());
    }
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    let text = format!(
        "the address of the target names the database {into}, but the restore would also write to \
         {}",
        few(&outside, NAMED)
    );
    Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(format!(
        "correct the renaming rules, for instance --rename {}={into}, or leave the database out of \
         the address",
        outside.first().unwrap_or(&into)
    )))
}

fn of_several(server: &Server, into: &str, databases: &[&str]) -> SourceError {
    let text = format!(
        "the address of the target names the database {into}, but {} databases are selected: {}",
        databases.len(),
        few(databases, NAMED)
    );
    let one = databases.iter().find(|name| **name == into).or(databases.first());
    let one = one.copied().unwrap_or(into);
    let part = if one == into {
        format!("--only '{one}.*'")
    } else {
        format!("--only '{one}.*' --rename {one}={into}")
    };
    let kept = if server.auth_source.as_deref() == Some(into) {
        format!(" (with authSource={into})")
    } else {
        String::new()
    };
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(format!(
        "restore one of them, for instance {part}, or leave the database out of the address{kept} \
         to restore each under its own name"
    ))
}

//! Every collection and view that a snapshot of a dump has.

use std::collections::BTreeMap;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::archive::Described;
use super::description::Description;
use super::{Files, buckets};
use crate::mongodb::catalog::{Collection, Kind};
use crate::mongodb::namespace::Namespace;

/// Every collection and view that a snapshot of the dump has. Names that servers keep to themselves
/// are left out, as backups leave them out.
pub(super) fn collections(
    files: &Files,
    remarks: &mut Vec<String>,
) -> SourceResult<Vec<Collection>> {
    let mut descriptions = descriptions(files)?;
    let mut found: Vec<Collection> = Vec::new();
    let data = files.data();
    for &name in &data {
        if name.is_buckets() || special(name).is_some_and(|name| !name.is_authorization()) {
            continue;
        }
        let target = special(name).unwrap_or_else(|| name.clone());
        let is_there = special(name).is_some()
            && (data.contains(&&target) || found.iter().any(|one| one.namespace == target));
        if target.is_internal() || is_there {
            remarks.push(format!("{name} of the dump is not part of the snapshot."));
            continue;
        }
        let description = match descriptions.remove(name) {
            Some(described) if described.kind == Kind::TimeSeries => {
                return Err(without_buckets(name));
            }
            Some(described) if described.kind == Kind::View => match files.has_documents(name)? {
                // A view that was dumped as a collection is one from here on.
                true => Description::absent(),
                false => described,
            },
            described => described.unwrap_or_else(Description::absent),
        };
        found.push(description.of(target));
    }
    for name in data.into_iter().filter(|name| name.is_buckets()) {
        let series = name.visible();
        let description = descriptions.remove(&series).ok_or_else(|| {
            let text = format!("the dump has the buckets of {series}, and no description of it");
            SourceError::new(SourceErrorKind::Mismatch, text)
        })?;
        let series = description.of(series);
        let (stored, left_out) = buckets::of(&series);
        for index in left_out {
            remarks.push(format!(
                "The index {index} of the time-series collection {} is left out: its form in a \
                 dump is not the one that servers store.",
                series.namespace
            ));
        }
        found.extend([Collection { uuid: description.uuid, ..stored }, series]);
    }
    for (name, description) in descriptions {
        if description.kind == Kind::View && !name.is_internal() {
            found.push(description.of(name));
        }
    }
    Ok(found)
}

fn descriptions(files: &Files) -> SourceResult<BTreeMap<Namespace, Description>> {
    match files {
        Files::Directory(directory) => Ok(directory.descriptions.clone()),
        Files::Archive(archive) => {
            let described = archive.prelude.described.iter();
            let described = described.filter(|one| !one.metadata.is_empty());
            let read = |one: &Described| {
                let subject = &one.namespace;
                let description = Description::parse(&one.metadata, &one.kind, subject)?;
                Ok((one.namespace.clone(), description))
            };
            described.map(read).collect()
        }
    }
}

/// The collection of `admin` that a dump of one database has for its users and roles.
pub(super) fn special(name: &Namespace) -> Option<Namespace> {
    let name = name.name.strip_prefix("$admin.")?;
    Some(Namespace::new("admin", name))
}

fn without_buckets(name: &Namespace) -> SourceError {
    let text = format!("the time-series collection {name} is dumped without its buckets");
    SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
        "restore the dump with mongorestore into a server of its version, and back up that server",
    )
}

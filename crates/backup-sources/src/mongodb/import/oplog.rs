//! The oplog of a dump: read before anything is stored, so that a dump whose oplog cannot be applied
//! becomes no snapshot.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::RawDocument;
use jiff::Timestamp as Time;

use super::contents::Reading;
use crate::mongodb::catalog::{Collection, CollectionUuid, Kind};
use crate::mongodb::fold::{Flat, Fold, Spoiled, held};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::position::Position;
use crate::mongodb::raw::{self, first_of};
use crate::mongodb::state::State;
use crate::mongodb::tail::position_of;

/// The oplog of a dump, which applies to it.
#[derive(Debug)]
pub(super) struct Oplog {
    /// Its last entry; none if it is empty.
    pub(super) end: Option<Position>,
}

impl Oplog {
    /// Applies an oplog to the collections of a dump, without their documents.
    ///
    /// # Errors
    /// The errors of the fold, before anything is stored.
    pub(super) fn fold(cx: &Context, mut reading: Reading, state: &State) -> SourceResult<Self> {
        let mut fold = Fold::new(state, Flat::until(None), 0).map_err(unsuited)?;
        let mut end = None;
        while let Some(mut piece) = reading.next()? {
            cx.check_cancelled().map_err(SourceError::from)?;
            while let Some(entry) = first_of(&mut piece)? {
                let entry = raw::document(&entry)?;
                fold.entry(entry).map_err(unsuited)?;
                end = Some(position_of(entry)?.at);
            }
        }
        let folded = fold.finish().map_err(unsuited)?;
        match folded.spoiled.into_iter().next() {
            None => Ok(Self { end }),
            Some(Spoiled { reason, .. }) => Err(unsuited(reason)),
        }
    }

    /// The second of its last entry.
    pub(super) fn time(&self) -> Option<Time> {
        Time::from_second(i64::from(self.end?.seconds)).ok()
    }
}

/// Hint for a dump whose oplog cannot be applied.
const HINT: &str = "restore the dump with `mongorestore --oplogReplay` into a server of its \
                    version, and back up that server";

fn unsuited(error: SourceError) -> SourceError {
    error.context("the oplog of the dump cannot be applied to it").with_hint(HINT)
}

/// UUIDs by the names that operations give collections: for dumps whose descriptions have none.
#[derive(Debug, Default)]
pub(super) struct Uuids(BTreeMap<Namespace, BTreeSet<Option<CollectionUuid>>>);

impl Uuids {
    /// Reads an oplog for the collections without a UUID, if there are any.
    pub(super) fn of(
        cx: &Context,
        mut reading: Reading,
        collections: &[Collection],
    ) -> SourceResult<Self> {
        let unknown = collections
            .iter()
            .filter(|collection| collection.kind == Kind::Collection && collection.uuid.is_none());
        let unknown: BTreeSet<String> =
            unknown.map(|collection| collection.namespace.to_string()).collect();
        let mut found = Self::default();
        if unknown.is_empty() {
            return Ok(found);
        }
        while let Some(mut piece) = reading.next()? {
            cx.check_cancelled().map_err(SourceError::from)?;
            while let Some(entry) = first_of(&mut piece)? {
                let mut operations = held(raw::document(&entry)?).map_err(unsuited)?;
                while let Some(operation) = operations.next().map_err(unsuited)? {
                    let text = |key: &str| operation.get_str(key).unwrap_or_default();
                    let name = match text("op") {
                        "i" | "u" | "d" => text("ns").to_owned(),
                        "c" => commanded(&operation).unwrap_or_default(),
                        _ => continue,
                    };
                    let name = Some(name).filter(|name| unknown.contains(name));
                    let Some(name) = name.as_deref().and_then(Namespace::parse) else { continue };
                    let uuid = operation.get_binary("ui").ok();
                    let uuid = uuid.and_then(|uuid| uuid.bytes.try_into().ok());
                    found.0.entry(name).or_default().insert(uuid);
                }
            }
        }
        Ok(found)
    }

    /// The UUID that operations on a collection of this name have; `None` if there is no operation.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`] if they have none or several: which of them the dumped
    /// documents are of is not known.
    pub(super) fn of_name(&self, name: &Namespace) -> SourceResult<Option<CollectionUuid>> {
        let Some(uuids) = self.0.get(name) else { return Ok(None) };
        match uuids.iter().collect::<Vec<_>>()[..] {
            [Some(uuid)] => Ok(Some(*uuid)),
            _ => {
                let text = format!(
                    "the dump has no UUID of {name}, and its oplog does not identify the \
                     collection either"
                );
                Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(HINT))
            }
        }
    }
}

/// The collection that a command of the oplog is about: a rename has the whole name.
fn commanded(operation: &RawDocument) -> Option<String> {
    let (command, name) = operation.get_document("o").ok()?.iter().next()?.ok()?;
    let name = name.as_str()?;
    let (db, _) = operation.get_str("ns").ok()?.split_once('.')?;
    Some(match command.as_str() {
        "renameCollection" => name.to_owned(),
        _ => format!("{db}.{name}"),
    })
}

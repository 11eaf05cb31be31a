//! The objects that `backup find --json` prints.

use backup_control::sources::SnapshotKey;
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;
use serde::Serialize;

use super::Found;
use super::entries::FoundEntry;
use crate::commands::view::PathJson;
use crate::ui::SCHEMA_VERSION;

/// The event of a match.
#[derive(Serialize)]
pub(super) struct FoundJson<'a> {
    pub(super) schema_version: u32,
    pub(super) event: &'static str,
    pub(super) snapshot: String,
    pub(super) time: Timestamp,
    pub(super) job: Option<&'a str>,
    #[serde(flatten)]
    pub(super) what: WhatJson<'a>,
}

impl<'a> FoundJson<'a> {
    pub(super) fn of(info: &'a SnapshotInfo, found: &'a Found) -> Self {
        let what = match found {
            Found::Entry(FoundEntry { path, bytes, mtime, .. }) => WhatJson {
                path: Some(PathJson::from(path)),
                bytes: *bytes,
                mtime: Some(*mtime),
                ..WhatJson::default()
            },
            Found::Object { name, count, bytes } => WhatJson {
                object: Some(name.as_str()),
                count: Some(*count),
                bytes: Some(*bytes),
                ..WhatJson::default()
            },
            Found::Key(SnapshotKey { path, kind, bytes, expires }) => WhatJson {
                path: Some(PathJson::from(path)),
                kind: Some(kind),
                bytes: Some(*bytes),
                expires: *expires,
                ..WhatJson::default()
            },
        };
        Self {
            schema_version: SCHEMA_VERSION,
            event: "found",
            snapshot: info.id.to_hex(),
            time: info.time(),
            job: info.snapshot.tag("job"),
            what,
        }
    }
}

/// A match: a path, an object of a database or a key.
#[derive(Default, Serialize)]
pub(super) struct WhatJson<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtime: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Timestamp>,
}

/// The last event.
#[derive(Serialize)]
pub(super) struct FindSummary {
    pub(super) schema_version: u32,
    pub(super) event: &'static str,
    pub(super) verb: &'static str,
    pub(super) snapshots: u64,
    pub(super) found: u64,
}

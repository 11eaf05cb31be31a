//! What a restore has to know, and configuration that lies outside of the data directory.

use std::collections::BTreeMap;

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::format::Node;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, Item, SourceResult};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::super::conf::Syntax;
use super::super::error::{WireError, invalid, malformed};
use super::super::layout::{Layout, Segments, TOP};
use super::super::options::PostgresOptions;
use super::super::probe::clock_ahead;
use super::super::wal::REPLAY_SETTINGS;
use super::super::wire::{Connection, Sql};
use super::configuration::{self, Configuration};
use super::feed::Feed;

/// Largest description that is taken.
const DESCRIPTION: u64 = 16 << 20;
/// So many build on one full backup, and no more: a restore reads all of them.
pub(super) const MOST_INCREMENTS: usize = 64;

/// `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Description {
    pub(in super::super) system_id: String,
    /// For instance 150018 of 15.18.
    pub(in super::super) version: u32,
    pub(in super::super) wal_segment_size: u64,
    pub(in super::super) timeline: u32,
    /// From here on the log is replayed,
    pub(in super::super) start: String,
    /// at least to here.
    pub(in super::super) end: String,
    /// Whether pages have checksums; not known of old snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) data_checksums: Option<String>,
    /// How many backups of what changed build on the full one, this one included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(in super::super) increments: usize,
    /// Where tablespaces were, by their OID.
    pub(in super::super) tablespaces: BTreeMap<u32, String>,
    pub(in super::super) settings: BTreeMap<String, String>,
    /// Files of the configuration that were links in the data directory: their contents lie in
    /// `config/`. Older snapshots have this list instead of `configuration`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in super::super) linked: Vec<String>,
    /// Files of the configuration whose contents lie in `config/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in super::super) configuration: Vec<ConfigurationFile>,
    /// Versions of the collations that order texts, by provider (`libc`, `icu`), as far as they are
    /// known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in super::super) collations: BTreeMap<String, String>,
    /// Where the data directory was, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) data_directory: Option<String>,
}

/// A file of the configuration that was outside of the data directory, or a link in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct ConfigurationFile {
    /// Where it was: absolute, or relative to the data directory.
    pub(in super::super) path: String,
    /// Its name in `config/`.
    pub(in super::super) name: String,
    /// Set if other files do not include it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) main: Option<Main>,
}

/// The files that a server reads by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Main {
    /// `postgresql.conf`.
    Settings,
    /// `pg_hba.conf`.
    Rules,
    /// `pg_ident.conf`.
    Users,
}

impl Main {
    pub(in super::super) const ALL: [Self; 3] = [Self::Settings, Self::Rules, Self::Users];

    /// Its name in a data directory.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Settings => "postgresql.conf",
            Self::Rules => "pg_hba.conf",
            Self::Users => "pg_ident.conf",
        }
    }

    pub(in super::super) fn syntax(self) -> Syntax {
        match self {
            Self::Settings => Syntax::Settings,
            Self::Rules | Self::Users => Syntax::Rules,
        }
    }
}

impl Description {
    /// That of the cluster that a snapshot holds, and where that lies.
    pub(in super::super) async fn read(snapshot: &SnapshotReader) -> SourceResult<(Layout, Self)> {
        let top = EntryPath::root().join(TOP.as_bytes());
        let none = || invalid("the snapshot holds no PostgreSQL data directory");
        let node = snapshot.find(&top).await?.ok_or_else(none)?;
        let tree = snapshot.tree(&node.subtree.ok_or_else(none)?).await?;
        let mut ids =
            tree.nodes.iter().filter_map(|node| std::str::from_utf8(&node.name).ok()?.parse().ok());
        let (Some(id), None) = (ids.next(), ids.next()) else { return Err(none()) };
        let layout = Layout::of(id);
        let node = snapshot.find(&layout.description()).await?.ok_or_else(none)?;
        if node.metadata.size > DESCRIPTION {
            return Err(malformed("cluster.json"));
        }
        let json = content(snapshot, &node).await?;
        let description: Self =
            serde_json::from_slice(&json).map_err(|_| malformed("cluster.json"))?;
        if description.increments > MOST_INCREMENTS {
            return Err(malformed("cluster.json: number of incremental backups"));
        }
        Ok((layout, description))
    }
}

/// How the log of a snapshot's cluster is cut.
pub(in super::super) async fn segments_of(snapshot: &SnapshotReader) -> SourceResult<Segments> {
    let (_, description) = Description::read(snapshot).await?;
    Segments::of_size(description.wal_segment_size).ok_or_else(|| malformed("cluster.json"))
}

/// The content of a small file.
pub(in super::super) async fn content(
    snapshot: &SnapshotReader,
    node: &Node,
) -> SourceResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut content = snapshot.content(node);
    while let Some(piece) = content.next().await.transpose()? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The settings that a restored server needs.
pub(super) async fn settings(
    connection: &mut Connection,
) -> Result<BTreeMap<String, String>, WireError> {
    let mut settings = BTreeMap::new();
    for name in REPLAY_SETTINGS {
        settings.insert(name.to_owned(), connection.show(name).await?);
    }
    Ok(settings)
}

/// Before version 16, servers send no tablespaces in their data directory.
async fn tablespaces_left_out(sql: &Sql) -> Vec<String> {
    const NAMES: &str = "SELECT spcname::text FROM pg_tablespace WHERE \
                         current_setting('server_version_num')::int < 160000 AND oid NOT IN (1663, \
                         1664) AND pg_tablespace_location(oid) NOT LIKE '/%'";
    let rows = sql.client.query(NAMES, &[]).await.unwrap_or_default();
    rows.iter().filter_map(|row| row.try_get(0).ok()).collect()
}

/// Versions of collations by provider; none of a provider without any.
async fn collations(sql: &Sql) -> BTreeMap<String, String> {
    const VERSION: &str = "SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE \
                           collprovider::text = $1 AND pg_collation_actual_version(oid) IS NOT NULL \
                           LIMIT 1";
    let mut versions = BTreeMap::new();
    for (provider, name) in [("c", "libc"), ("i", "icu")] {
        let row = sql.client.query_opt(VERSION, &[&provider]).await;
        let version = row.ok().flatten().and_then(|row| row.try_get::<_, String>(0).ok());
        versions.extend(version.map(|version| (name.to_owned(), version)));
    }
    versions
}

/// Facts about the server that replication does not report.
#[derive(Debug, Default)]
pub(super) struct BySql {
    pub(super) configuration: Configuration,
    /// Versions of collations by provider.
    pub(super) collations: BTreeMap<String, String>,
    /// Seconds by which its clock is ahead of that of this machine.
    pub(super) clock_ahead_seconds: Option<i64>,
}

/// Reads these facts, as far as the user may. A note says why files are missing; a warning names
/// each tablespace that the backup will lack.
pub(super) async fn by_sql(
    cx: &Context,
    options: &PostgresOptions,
    feed: &Feed,
) -> SourceResult<BySql> {
    let (mut facts, mut left_out) = (BySql::default(), Vec::new());
    let reading = async {
        let sql = Sql::open(options, &options.database).await?;
        facts.clock_ahead_seconds = clock_ahead(cx, &sql).await;
        facts.collations = collations(&sql).await;
        left_out = tablespaces_left_out(&sql).await;
        Configuration::read(&sql).await
    };
    match reading.await {
        Ok(configuration) => {
            configuration.note(cx, options);
            facts.configuration = configuration;
        }
        Err(error) => configuration::note_unread(cx, options, &error),
    }
    for name in left_out {
        let message = "before version 16 the server leaves tablespaces in its data directory out";
        let (path, message) = (format!("tablespace {name}"), message.to_owned());
        let kind = WarningKind::Unreadable;
        feed.item(Item::Warning(Warning { kind, path, message })).await?;
    }
    Ok(facts)
}

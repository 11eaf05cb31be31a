//! Files of the server's configuration on their way to the snapshot.

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{Chunking, Item, Metadata, SourceError, SourceResult};
use bytes::Bytes;

use super::super::error::{invalid, of_sql};
use super::super::layout::Layout;
use super::super::options::PostgresOptions;
use super::super::wire::Sql;
use super::feed::Feed;

/// Rights by which the configuration can be read.
const GRANTS: &str = "GRANT pg_read_all_settings, pg_read_server_files TO backup; GRANT EXECUTE ON \
                      FUNCTION pg_read_file(text) TO backup; and in pg_hba.conf: hostssl postgres \
                      backup ADDRESS scram-sha-256";

/// A file of the configuration.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    name: String,
    content: Bytes,
}

/// The place of files of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Outside of the data directory.
    Outside,
    /// In the data directory, under one of these names.
    Inside(&'a [String]),
}

/// Reads files of the configuration, as far as the user may.
pub(super) async fn read(sql: &Sql, place: Place<'_>) -> SourceResult<Vec<ConfigFile>> {
    const FILES: &str = "SELECT setting, NOT starts_with(setting, (SELECT setting FROM pg_settings \
                         WHERE name = 'data_directory') || '/') FROM pg_settings WHERE name IN \
                         ('config_file', 'hba_file', 'ident_file')";
    let doing = "cannot read the configuration";
    // Without the right to, these settings are not listed at all.
    let may = sql
        .client
        .query_one("SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')", &[])
        .await;
    let may: bool = may.and_then(|row| row.try_get(0)).map_err(|error| of_sql(&error, doing))?;
    if !may {
        return Err(invalid("the user is not a member of pg_read_all_settings"));
    }
    let mut files = Vec::new();
    for row in sql.client.query(FILES, &[]).await.map_err(|error| of_sql(&error, doing))? {
        let path: String = row.try_get(0).map_err(|error| of_sql(&error, doing))?;
        let is_outside: bool = row.try_get(1).map_err(|error| of_sql(&error, doing))?;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_meant = match place {
            Place::Outside => is_outside,
            Place::Inside(names) => !is_outside && names.contains(&name),
        };
        if !is_meant {
            continue;
        }
        let row = sql.client.query_one("SELECT pg_read_file($1)", &[&path]).await;
        let text: String =
            row.and_then(|row| row.try_get(0)).map_err(|error| of_sql(&error, doing))?;
        files.push(ConfigFile { name, content: text.into() });
    }
    Ok(files)
}

/// Notes why files are missing in the snapshot.
pub(super) fn note_unread(cx: &Context, error: &SourceError) {
    let text = format!(
        "configuration files that are links or lie outside of the data directory, if any, are not \
         in the snapshot: {}. To include them: {GRANTS}",
        error.chain()
    );
    cx.events.note(text);
}

/// Hands files on, into the directory `config`.
pub(super) async fn hand_on(
    cx: &Context,
    feed: &Feed,
    layout: &Layout,
    files: Vec<ConfigFile>,
) -> SourceResult<()> {
    for ConfigFile { name, content, .. } in files {
        let metadata = Metadata::stream(cx.clock.now());
        let path = layout.config().join(name.as_bytes());
        feed.whole(path, metadata, Chunking::default(), content).await?;
    }
    Ok(())
}

/// Reads the files of the configuration that the server `skipped` because they are links, hands them
/// on, and warns of all other files that it skipped. Returns the names of the files.
pub(super) async fn hand_on_links(
    cx: &Context,
    options: &PostgresOptions,
    feed: &Feed,
    layout: &Layout,
    skipped: &[String],
) -> SourceResult<Vec<String>> {
    if skipped.is_empty() {
        return Ok(Vec::new());
    }
    let reading = async {
        let sql = Sql::open(options, &options.database).await?;
        read(&sql, Place::Inside(skipped)).await
    };
    let linked = reading.await.unwrap_or_else(|error| {
        note_unread(cx, &error);
        Vec::new()
    });
    let names: Vec<String> = linked.iter().map(|one| one.name.clone()).collect();
    hand_on(cx, feed, layout, linked).await?;
    for path in skipped.iter().filter(|name| !names.contains(name)) {
        let message =
            "the server skipped this link or special file: it is not in the snapshot".to_owned();
        let warning = Warning { kind: WarningKind::Unreadable, path: path.clone(), message };
        feed.item(Item::Warning(warning)).await?;
    }
    Ok(names)
}

//! Files of the server's configuration on their way to the snapshot.

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{Chunking, Item, Metadata, SourceResult};
use bytes::Bytes;

use super::super::layout::Layout;
use super::feed::Feed;

/// A file of the configuration.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    pub(super) name: String,
    /// It lies outside of the data directory. Inside it may still be a link.
    pub(super) is_outside: bool,
    pub(super) content: Bytes,
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

/// Hands the contents of those `files` on that the server skipped because they are links, and warns
/// of all other files that it `skipped`. Returns the names of the files.
pub(super) async fn hand_on_links(
    cx: &Context,
    feed: &Feed,
    layout: &Layout,
    files: Vec<ConfigFile>,
    skipped: &[String],
) -> SourceResult<Vec<String>> {
    let is_link = |one: &ConfigFile| skipped.contains(&one.name);
    let linked: Vec<ConfigFile> = files.into_iter().filter(is_link).collect();
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

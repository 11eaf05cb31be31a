//! Repositories in memory, and sources to back up into them.

use std::sync::Arc;

use backup_core::testing::{Data, MemorySink, ScriptedEntry, ScriptedSource};

use super::noise::{noise, text};
use super::repo::Repo;

impl Repo {
    /// A new repository in memory.
    pub(crate) async fn in_memory() -> Self {
        Self::init(Arc::new(MemorySink::new())).await
    }
}

/// A source called `name` with some directories and files, small and large; contents depend on the
/// name.
pub(crate) fn script(name: &str) -> ScriptedSource {
    let seed = name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte));
    let source = ScriptedSource::named(name)
        .dir(&format!("/{name}"))
        .dir(&format!("/{name}/empty"))
        .dir(&format!("/{name}/deep"))
        .dir(&format!("/{name}/deep/below"))
        .dir(&format!("/{name}/many"))
        .file(&format!("/{name}/text"), text(seed, 20_000))
        .file(&format!("/{name}/deep/below/noise"), noise(seed + 1, 30_000))
        .file(&format!("/{name}/deep/nothing"), "")
        .file(&format!("/{name}/large"), noise(seed + 2, 530_000))
        .with(
            ScriptedEntry::file(&format!("/{name}/stream"), Data::generated(200_000, seed + 3))
                .streamed(),
        )
        .with(ScriptedEntry::symlink(&format!("/{name}/link"), "text"));
    (0..20).fold(source, |source, at| {
        source.file(&format!("/{name}/many/{at:02}"), text(seed + 100 + at, 500))
    })
}

/// A source of a few hundred kilobytes, for tests that back it up hundreds of times.
pub(crate) fn small_script() -> ScriptedSource {
    ScriptedSource::named("small")
        .dir("/d")
        .file("/d/text", text(1, 5000))
        .file("/d/noise", noise(2, 100_000))
        .with(ScriptedEntry::file("/d/stream", noise(3, 100_000)).streamed())
        .dir("/d/below")
        .file("/d/below/empty", "")
        .file("/d/below/file", "content")
}

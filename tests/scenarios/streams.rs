//! Streams and contents of any size come back, however they are cut and in whatever order they
//! arrive.

use backup_core::source::{Chunking, EntryPath, Selection};
use backup_core::testing::{Data, ScriptedEntry, ScriptedSource, Trouble};

use crate::support::noise::noise;
use crate::support::repo::{Repo, options};
use crate::support::samples::script;
use crate::support::script::{assert_holds, restore_script};

const KIB: u64 = 1 << 10;

/// Around every limit there is: of chunks, batches, pages.
const SIZES: [u64; 10] = [
    0,
    1,
    4095,
    4096,
    4097,
    512 * KIB - 1,
    512 * KIB,
    512 * KIB + 1,
    1024 * KIB,
    5 * 1024 * KIB + 7,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_size_and_every_cut() {
    let cuts = [
        ("pages", Chunking::Fixed(4096)),
        ("large", Chunking::Fixed(256 << 10)),
        ("cdc", Chunking::ContentDefined),
    ];
    let source = ScriptedSource::new();
    for (name, chunking) in cuts {
        for size in SIZES {
            let entry = |kind: &str| {
                ScriptedEntry::file(&format!("/{name}/{kind}-{size}"), Data::generated(size, size))
                    .chunked(chunking)
            };
            source.set(entry("file"));
            source.set(entry("stream").streamed());
            source.set(entry("pipe").of_unknown_size());
        }
    }
    let repo = Repo::in_memory().await;
    let id = repo.backup(&source, &options()).await.snapshot.unwrap();
    assert_holds(&repo, id, &source).await;
    assert_eq!(repo.verify(id).await.problems, []);
    repo.assert_sound().await;

    let reader = repo.reader(id).await;
    for (name, chunking) in cuts {
        let Chunking::Fixed(length) = chunking else { continue };
        for size in SIZES {
            let path = EntryPath::new(format!("/{name}/stream-{size}")).unwrap();
            let node = reader.find(&path).await.unwrap().unwrap();
            let lengths: Vec<_> =
                node.content.iter().map(|id| u64::from(reader.blob_len(id).unwrap())).collect();
            assert_eq!(lengths.len() as u64, size.div_ceil(u64::from(length)), "{path}");
            assert!(lengths.iter().rev().skip(1).all(|len| *len == u64::from(length)), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_closing_change_nothing() {
    let repo = Repo::in_memory().await;
    let mut trees = Vec::new();
    for source in [
        script("s"),
        script("s").closing(),
        script("s").shuffled(1),
        script("s").shuffled(2).closing(),
    ] {
        let id = repo.backup(&source, &options()).await.snapshot.unwrap();
        assert_holds(&repo, id, &source).await;
        let deep =
            repo.reader(id).await.find(&EntryPath::new("/s/many").unwrap()).await.unwrap().unwrap();
        trees.push(deep.subtree);
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:?}");
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_stored_again() {
    let repo = Repo::in_memory().await;
    let pages = 16 << 10;
    let source = |inserted: &[u8], page: u8| {
        let mut paged = noise(1, 2 << 20);
        paged[70 * 16384] = page;
        let dump = [inserted, &noise(2, 8 << 20)].concat();
        ScriptedSource::new()
            .with(ScriptedEntry::file("/db/heap", paged).streamed().chunked(Chunking::Fixed(pages)))
            .with(ScriptedEntry::file("/db/dump", dump).streamed())
            .with(ScriptedEntry::file("/db/copy", noise(2, 8 << 20)).streamed())
    };
    let first = repo.backup(&source(b"", 1), &options()).await;
    assert!(
        first.stored.added_bytes < 11 << 20,
        "two equal streams are stored once: {:?}",
        first.stored
    );
    let changed = source(b"something in front", 2);
    let second = repo.backup(&changed, &options()).await;
    let largest_chunk = 4 << 20;
    assert!(
        second.stored.added_bytes < largest_chunk + u64::from(pages) + 10_000,
        "{:?}",
        second.stored
    );
    assert_holds(&repo, second.snapshot.unwrap(), &changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_read_is_a_warning() {
    let repo = Repo::in_memory().await;
    let source = script("s")
        .with(ScriptedEntry::file("/s/changing", "content").with_trouble(Trouble::Changed));
    let report = repo.backup(&source, &options()).await;
    assert_eq!(report.warnings, 1);
    let id = report.snapshot.unwrap();
    assert_holds(&repo, id, &source).await;
    assert_eq!(repo.snapshots().await[0].snapshot.x_warnings, Some(1));
    assert_eq!(repo.reader(id).await.manifest().await.unwrap().unwrap().totals.warnings, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_at_all_is_a_snapshot_too() {
    let repo = Repo::in_memory().await;
    let source = ScriptedSource::new();
    let report = repo.backup(&source, &options()).await;
    assert_eq!((report.totals.files, report.totals.dirs, report.totals.bytes), (0, 0, 0));
    let restored = restore_script(&repo, report.snapshot.unwrap()).await.unwrap();
    assert!(restored.restored().is_empty());
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_ten_thousand() {
    let source = ScriptedSource::new();
    source
        .extend((0..10_000).map(|at| ScriptedEntry::file(&format!("/large/{at}"), at.to_string())));
    let repo = Repo::in_memory().await;
    let id = repo.backup(&source, &options()).await.snapshot.unwrap();
    let restored = restore_script(&repo, id).await.unwrap();
    assert_eq!(restored.restored().len(), 10_001);
    assert_holds(&repo, id, &source).await;
    assert!(restored.restored_digest(&Selection::all()).objects["script"].count >= 10_000);
}

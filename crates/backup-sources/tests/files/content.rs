//! Reading files and comparing trees.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use backup_core::context::Context;
use backup_core::source::{Content, ContentEnd, Entry, Selection, Source, SourceErrorKind};
use backup_sources::files::{FilesOptions, FilesSource};

use crate::common::*;

fn take(entries: &mut Vec<Entry>, name: &str) -> Entry {
    let at = entries.iter().position(|entry| entry.path.name() == name.as_bytes()).unwrap();
    entries.remove(at)
}

#[tokio::test]
async fn contents_tell_whether_they_changed() {
    let dir = tempfile::tempdir().unwrap();
    let [changed, gone, replaced, linked] = ["changed", "gone", "replaced", "linked"]
        .map(|name| write(dir.path().join(name), "before"));
    write(dir.path().join("same"), noise(3 << 20, 1));
    let (mut entries, _) = walk(&source(&[dir.path()]), Selection::all()).await;
    std::fs::write(&changed, "afterwards").unwrap();
    std::fs::remove_file(&gone).unwrap();
    write(dir.path().join("new"), "other");
    std::fs::rename(dir.path().join("new"), &replaced).unwrap();
    std::fs::remove_file(&linked).unwrap();
    symlink("/etc/passwd", &linked).unwrap();

    let (bytes, end) = read(take(&mut entries, "same"));
    assert_eq!((bytes, end), (noise(3 << 20, 1), ContentEnd::Stable));
    let (bytes, end) = read(take(&mut entries, "changed"));
    assert_eq!(bytes, b"afterwards");
    let ContentEnd::Changed(metadata) = end else { panic!("{end:?}") };
    assert_eq!(metadata.size, 10);
    let (bytes, end) = read(take(&mut entries, "replaced"));
    assert_eq!(bytes, b"other");
    let ContentEnd::Replaced(metadata) = end else { panic!("{end:?}") };
    assert_eq!((metadata.size, metadata.inode), (5, std::fs::metadata(&replaced).unwrap().ino()));
    for name in ["gone", "linked"] {
        let Content::Blocking(content) = take(&mut entries, name).content else { panic!() };
        let Err(error) = content.open() else { panic!("{name}") };
        assert_eq!(error.kind(), SourceErrorKind::NotFound, "{name}: {}", error.chain());
        assert!(error.concerns_one_entry());
    }
}

#[tokio::test]
async fn digests_of_equal_trees_are_equal() {
    let make = |content: &str| {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for index in 0..600 {
            write(tree.join(format!("d{}/f{index}", index % 7)), format!("{content} {index}"));
        }
        symlink("d1", tree.join("link")).unwrap();
        write(tree.join("d0/last"), content);
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 2 },
            last_modification: rustix::fs::Timespec { tv_sec: 3, tv_nsec: 4 },
        };
        let stamp = |path: &Path| {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
        };
        for index in 0..7 {
            let inner = tree.join(format!("d{index}"));
            std::fs::read_dir(&inner).unwrap().for_each(|file| stamp(&file.unwrap().path()));
            stamp(&inner);
        }
        stamp(&tree.join("link"));
        stamp(&tree);
        dir
    };
    let cx = Context::silent();
    let (one, two, other) = (make("same"), make("same"), make("else"));
    let of = async |dir: &Path| {
        let source = FilesSource::new(vec![dir.join("tree")], FilesOptions::default()).unwrap();
        source.digest(&cx, &Selection::all()).await.unwrap()
    };
    let digest = of(one.path()).await;
    assert_eq!(digest, of(two.path()).await);
    assert_ne!(digest, of(other.path()).await);
    let object = &digest.objects["tree"];
    assert_eq!(object.count, 600 + 7 + 1 + 1 + 1);
    assert_eq!(
        &backup_sources::files::digest_of_dir(&cx, &two.path().join("tree")).await.unwrap(),
        object
    );
    // One bit of metadata more, and they differ.
    std::fs::set_permissions(two.path().join("tree/d3"), std::fs::Permissions::from_mode(0o711))
        .unwrap();
    assert_ne!(digest, of(two.path()).await);
}

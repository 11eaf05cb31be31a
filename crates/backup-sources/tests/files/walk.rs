//! Backing up: what the walk yields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::common::*;
use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::{
    BackupRequest, Content, Item, NodeKind, Selection, Source, SourceErrorKind,
};
use backup_sources::files::FilesOptions;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

#[tokio::test]
async fn depth_first_in_byte_order_with_the_directories_above() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["b/z", "b/a/x", "b.txt", "a", "b-c/q"] {
        write(dir.path().join(file), file);
    }
    let source = source(&[dir.path()]);
    let (items, checkpoint) = items(&source, Selection::all()).await.unwrap();
    let base = entry_path(dir.path());
    let mut shown = Vec::new();
    for item in &items {
        let (path, mark) = match item {
            Item::Entry(entry) => (&entry.path, ""),
            Item::Close(path) => (path, "close "),
            Item::Keep(path) => (path, "keep "),
            Item::Warning(warning) => panic!("{warning:?}"),
            Item::Skipped(skipped) => (&skipped.path, "skip "),
        };
        let Some(rest) = path.as_bytes().strip_prefix(base.as_bytes()) else {
            continue;
        };
        shown.push(format!("{mark}{}", String::from_utf8_lossy(rest)));
    }
    let expected = [
        "",
        "/a",
        "/b",
        "/b/a",
        "/b/a/x",
        "close /b/a",
        "/b/z",
        "close /b",
        "/b-c",
        "/b-c/q",
        "close /b-c",
        "/b.txt",
        "close ",
    ];
    assert_eq!(shown, expected);
    // The directories above come first, the root itself has no entry, and everything is closed.
    let entries: Vec<_> = items
        .iter()
        .filter_map(|item| if let Item::Entry(e) = item { Some(e) } else { None })
        .collect();
    let above = base.segments().count() - 1;
    assert!(above >= 1 && entries[..above].iter().all(|entry| base.starts_with(&entry.path)));
    let opened = entries.iter().filter(|entry| entry.metadata.kind == NodeKind::Dir).count();
    let closed: Vec<_> = items
        .iter()
        .filter_map(|item| if let Item::Close(p) = item { Some(p) } else { None })
        .collect();
    assert_eq!(closed.len(), opened + 1);
    assert!(closed.last().unwrap().is_root());
    assert!(checkpoint.started <= checkpoint.finished && checkpoint.position.is_none());
}

#[tokio::test]
async fn metadata_is_what_the_system_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path().join("file"), "content");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(&file, dir.path().join("file2")).unwrap();
    symlink("file \u{fffd} not there", dir.path().join("link")).unwrap();
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty());
    assert_eq!(below(&entries, dir.path()), ["file", "file2", "link"]);
    // Not those above: other tests change the directory of temporary files meanwhile.
    let base = entry_path(dir.path());
    for entry in entries.iter().filter(|entry| entry.path.starts_with(&base)) {
        let system =
            std::fs::symlink_metadata(Path::new(OsStr::from_bytes(entry.path.as_bytes()))).unwrap();
        let ours = &entry.metadata;
        assert_eq!(ours.mode, system.mode() & 0o7777, "{}", entry.path);
        assert_eq!(
            ours.mtime.as_nanosecond(),
            i128::from(system.mtime()) * 1_000_000_000 + i128::from(system.mtime_nsec())
        );
        assert_eq!(ours.ctime.as_second(), system.ctime());
        assert_eq!(ours.atime, ours.mtime);
        assert_eq!((ours.uid, ours.gid), (system.uid(), system.gid()));
        assert_eq!((ours.inode, ours.device_id), (system.ino(), system.dev()));
        let (size, links) = match ours.kind {
            NodeKind::File => (system.len(), system.nlink()),
            NodeKind::Dir => (0, 0),
            _ => (0, system.nlink()),
        };
        assert_eq!((ours.size, ours.links), (size, links), "{}", entry.path);
        assert_eq!(matches!(entry.content, Content::Blocking(_)), ours.kind == NodeKind::File);
    }
    assert_eq!(entries[entries.len() - 2].metadata.links, 2);
    let target = "file \u{fffd} not there".as_bytes().into();
    assert_eq!(entries.last().unwrap().metadata.kind, NodeKind::Symlink { target });
    if is_root() {
        assert_eq!(entries[0].metadata.user.as_deref(), Some("root"));
    }
}

#[tokio::test]
async fn names_and_link_targets_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [b"\x01\n\t", b"caf\xe9", b"new\nline", b"\xff\xfe"];
    for name in names {
        write(dir.path().join(OsStr::from_bytes(name)), name);
    }
    symlink(OsStr::from_bytes(b"\xff/\xfe"), dir.path().join("~link")).unwrap();
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty());
    let found: Vec<&[u8]> = entries.iter().rev().take(5).map(|entry| entry.path.name()).collect();
    assert_eq!(found, [b"\xff\xfe" as &[u8], b"~link", b"new\nline", b"caf\xe9", b"\x01\n\t"]);
    let link = &entries[entries.len() - 2];
    assert_eq!(link.metadata.kind, NodeKind::Symlink { target: (*b"\xff/\xfe").into() });
}

#[tokio::test]
async fn all_types_of_nodes() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let mut expected = vec![("fifo", NodeKind::Fifo), ("socket", NodeKind::Socket)];
    let device = rustix::fs::makedev(1, 3);
    let mode = rustix::fs::Mode::RUSR;
    let character = rustix::fs::FileType::CharacterDevice;
    if rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("null"), character, mode, device)
        .is_ok()
    {
        assert!(std::fs::metadata(dir.path().join("null")).unwrap().file_type().is_char_device());
        expected.insert(1, ("null", NodeKind::CharDevice { device }));
    }
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty());
    let found: Vec<_> = entries[entries.len() - expected.len()..].iter().collect();
    for (entry, (name, kind)) in found.into_iter().zip(expected) {
        assert_eq!((entry.path.name(), &entry.metadata.kind), (name.as_bytes(), &kind));
        let links = if matches!(kind, NodeKind::CharDevice { .. }) { 1 } else { 0 };
        assert_eq!(entry.metadata.links, links, "{name}");
    }
}

#[tokio::test]
async fn extended_attributes_in_the_order_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path().join("file"), "x");
    let large = vec![7; 2000];
    if xattr::set(&file, "user.first", b"1").is_err() {
        ignored(&format!("the file system of {} has no user attributes", dir.path().display()));
        return;
    }
    xattr::set(&file, "user.large", &large).unwrap();
    xattr::set(&file, "user.empty", b"").unwrap();
    xattr::set(dir.path(), "user.dir", b"d").unwrap();
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty());
    let [top, found] = &entries[entries.len() - 2..] else { panic!() };
    assert_eq!(&*top.metadata.xattrs[0].name, "user.dir");
    let system: Vec<String> =
        xattr::list(&file).unwrap().map(|name| name.into_string().unwrap()).collect();
    let ours: Vec<String> =
        found.metadata.xattrs.iter().map(|xattr| xattr.name.to_string()).collect();
    assert_eq!(ours, system);
    for xattr in &found.metadata.xattrs {
        assert_eq!(
            Some(xattr.value.to_vec()),
            xattr::get(&file, &*xattr.name).unwrap(),
            "{}",
            xattr.name
        );
    }
}

#[tokio::test]
async fn excludes_markers_and_sizes_are_no_warnings() {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "keep/file",
        "skip.tmp",
        "cache/deep/x",
        "marked/.nobackup",
        "marked/x",
        "other/NOPE",
        "other/y",
    ] {
        write(dir.path().join(file), "12345");
    }
    write(dir.path().join("large"), vec![0; 1000]);
    write(dir.path().join("tagged/TAG"), "Signature: 8a47, and more");
    write(dir.path().join("untagged/TAG"), "Signature: other");
    write(dir.path().join("short/TAG"), "Sig");
    let patterns = write(dir.path().join("keep/patterns"), "# not these\n*.tmp\n");
    let options = FilesOptions {
        exclude_files: vec![patterns],
        exclude_if_present: [".nobackup", "NOPE", "TAG:Signature: 8a47"]
            .map(str::to_owned)
            .to_vec(),
        max_file_size: Some(999),
        ..FilesOptions::default()
    };
    let (entries, warnings) =
        walk(&source_with(&[dir.path()], options), selection(&[], &["cache"])).await;
    assert!(warnings.is_empty());
    assert_eq!(
        below(&entries, dir.path()),
        [
            "keep",
            "keep/file",
            "keep/patterns",
            "marked",
            "other",
            "short",
            "short/TAG",
            "tagged",
            "untagged",
            "untagged/TAG"
        ]
    );
}

#[tokio::test]
async fn includes_bring_the_directories_on_the_way_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a/b/c.conf", "a/b/d.txt", "a/e/f.txt", "g.conf"] {
        write(dir.path().join(file), file);
    }
    let source = source(&[dir.path()]);
    let (entries, _) = walk(&source, selection(&["*.conf"], &[])).await;
    assert_eq!(below(&entries, dir.path()), ["a", "a/b", "a/b/c.conf", "g.conf"]);
    let (entries, _) = walk(&source, selection(&["nothing"], &[])).await;
    assert!(entries.is_empty());
}

#[tokio::test]
async fn several_given_paths_share_what_is_above_them() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a/1", "a/2/x", "a/3/y", "b"] {
        write(dir.path().join(file), file);
    }
    let path = |name: &str| dir.path().join(name);
    let source = source(&[&path("b"), &path("a/3"), &path("a/2"), &path("a/2/x")]);
    let (entries, _) = walk(&source, Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["a", "a/2", "a/2/x", "a/3", "a/3/y", "b"]);
    let identity = source.identity();
    assert_eq!((identity.kind.as_str(), identity.paths.len()), ("files", 3));
}

#[tokio::test]
async fn a_directory_larger_than_one_part() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..1700 {
        std::fs::write(dir.path().join(format!("f{index:05}")), b"").unwrap();
        if index % 100 == 0 {
            write(dir.path().join(format!("d{index:05}/x")), b"");
        }
    }
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty());
    let names = below(&entries, dir.path());
    assert_eq!(names.len(), 1700 + 2 * 17);
    assert!(names.is_sorted());
}

#[tokio::test]
async fn paths_longer_than_the_system_takes() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut at =
        rustix::fs::open(dir.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .unwrap();
    let mode = rustix::fs::Mode::RWXU;
    for _ in 0..30 {
        rustix::fs::mkdirat(&at, &*name, mode).unwrap();
        at = rustix::fs::openat(&at, &*name, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "file", flags, mode).unwrap();
    rustix::io::write(&file, b"deep down").unwrap();
    let has_xattrs =
        rustix::fs::fsetxattr(&file, "user.x", b"y", rustix::fs::XattrFlags::empty()).is_ok();
    let (mut entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert!(warnings.is_empty(), "{warnings:?}");
    let last = entries.pop().unwrap();
    assert_eq!(last.path.name(), b"file");
    assert!(last.path.as_bytes().len() > 6000);
    assert_eq!(last.metadata.xattrs.len(), usize::from(has_xattrs));
    assert_eq!(read(last).0, b"deep down");
}

#[tokio::test]
async fn given_paths_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("file"), "x");
    for missing in ["none", "none/deeper", "file/x"] {
        let source = source(&[&dir.path().join(missing)]);
        let error = items(&source, Selection::all()).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::NotFound, "{missing}");
        assert!(error.hint().is_some());
        let probe = source.probe(&Context::silent()).await.unwrap();
        assert!(probe.problems[0].finding.contains(missing), "{probe:?}");
    }
    let (entries, _) = walk(&source(&[&dir.path().join("file")]), Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["file"]);
    let probe = source(&[dir.path()]).probe(&Context::silent()).await.unwrap();
    let above = entry_path(dir.path()).segments().count() as u64;
    assert_eq!((probe.estimated_objects, probe.estimated_bytes), (Some(above + 1), Some(1)));
    assert!(probe.problems.is_empty());
}

#[tokio::test]
async fn what_cannot_be_listed_is_a_warning_and_keeps_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("open/x"), "x");
    write(dir.path().join("shut/x"), "x");
    std::fs::set_permissions(dir.path().join("shut"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    std::fs::set_permissions(dir.path().join("shut"), std::fs::Permissions::from_mode(0o700))
        .unwrap();
    if is_root() {
        ignored("root may read everything");
        return;
    }
    assert_eq!(below(&entries, dir.path()), ["open", "open/x", "shut"]);
    assert_eq!(warnings[0].kind, WarningKind::Unreadable);
    assert!(warnings[0].path.ends_with("/shut"));
}

#[tokio::test]
async fn a_directory_that_vanishes_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    // So many directories that the walk must wait for its reader before it gets to the last ones.
    for index in 0..1000 {
        write(dir.path().join(format!("d{index:04}/x")), "x");
    }
    let request = BackupRequest::full(Selection::all());
    let mut reader = source(&[dir.path()]).open_backup(&Context::silent(), &request).await.unwrap();
    reader.next().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("d0999")).unwrap();
    let mut warnings = Vec::new();
    let mut entries = 0;
    while let Some(item) = reader.next().await.unwrap() {
        match item {
            Item::Warning(warning) => warnings.push(warning),
            Item::Entry(_) => entries += 1,
            Item::Close(_) | Item::Keep(_) | Item::Skipped(_) => {}
        }
    }
    assert!(entries >= 1998);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning.kind, WarningKind::Vanished);
    assert!(warning.path.ends_with("d0999"));
}

#[tokio::test]
async fn a_directory_that_takes_the_place_of_another_is_walked() {
    let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for index in 0..1000 {
        write(dir.path().join(format!("d{index:04}/x")), "x");
    }
    let late = dir.path().join("d0999");
    write(new.path().join("now/y"), "y");
    std::fs::set_permissions(new.path().join("now"), std::fs::Permissions::from_mode(0o711))
        .unwrap();
    let request = BackupRequest::full(Selection::all());
    let mut reader = source(&[dir.path()]).open_backup(&Context::silent(), &request).await.unwrap();
    reader.next().await.unwrap();
    // As releases are deployed: at every moment there is a directory of this name.
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &late,
        rustix::fs::CWD,
        new.path().join("now"),
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
    let mut found = Vec::new();
    while let Some(item) = reader.next().await.unwrap() {
        match item {
            Item::Entry(entry) if entry.path.starts_with(&entry_path(&late)) => found.push(entry),
            Item::Warning(warning) => panic!("{warning:?}"),
            _ => {}
        }
    }
    assert_eq!(below(&found, &late), ["y"]);
    assert_eq!(found[0].metadata.mode, 0o711);
}

#[tokio::test]
async fn a_missing_path_of_several_does_not_cost_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let [there, gone, deep] = ["there", "gone", "no/such/dir"].map(|name| dir.path().join(name));
    write(there.join("x"), "x");
    let several = source(&[&deep, &gone, &there]);
    let (entries, warnings) = walk(&several, Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["there", "there/x"]);
    let named: Vec<&str> = warnings.iter().map(|warning| &*warning.path).collect();
    assert_eq!(named, [gone.to_str().unwrap(), deep.to_str().unwrap()]);
    // Nothing at all is an error, and so is a comparison with less.
    let request = BackupRequest::full(Selection::all());
    let none = source(&[&deep, &gone]).open_backup(&Context::silent(), &request).await;
    assert_eq!(none.err().map(|error| error.kind()), Some(SourceErrorKind::NotFound));
    assert!(several.digest(&Context::silent(), &Selection::all()).await.is_err());
    std::fs::create_dir(&gone).unwrap();
    assert!(walk(&source(&[&gone, &there]), Selection::all()).await.1.is_empty());
}

#[tokio::test]
async fn cancelling_and_dropping_end_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..1000 {
        write(dir.path().join(format!("d{index:04}/x")), "x");
    }
    let request = BackupRequest::full(Selection::all());
    let source = source(&[dir.path()]);
    let cx = Context::silent();
    let mut reader = source.open_backup(&cx, &request).await.unwrap();
    cx.cancel.cancel();
    let error = loop {
        match reader.next().await {
            Ok(item) => assert!(item.is_some(), "the walk must not seem complete"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
    reader.abort().await;
    // A reader that is dropped must not keep the runtime alive: the test would not end.
    drop(source.open_backup(&Context::silent(), &request).await.unwrap());
}

#[tokio::test]
async fn other_file_systems_stay_empty() {
    let dev = Path::new("/dev");
    let other = |name: &str| {
        let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
        device(&dev.join(name)).is_some_and(|found| Some(found) != device(dev))
    };
    let Some(name) = ["shm", "pts", "mqueue"].into_iter().find(|name| other(name)) else {
        ignored("no other file system is mounted below /dev");
        return;
    };
    let options = FilesOptions { one_file_system: true, ..FilesOptions::default() };
    let (entries, _) = walk(&source_with(&[dev], options), Selection::all()).await;
    let mount = dev.join(name);
    assert!(below(&entries, dev).contains(&name.to_owned()));
    assert!(below(&entries, &mount).is_empty());
}

#[tokio::test]
async fn a_link_as_given_path_is_stored_as_a_link() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("real/x"), "x");
    symlink("real", dir.path().join("link")).unwrap();
    let (entries, _) = walk(&source(&[&dir.path().join("link")]), Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["link"]);
    // Above a given path a link is the directory it leads to.
    let (entries, _) = walk(&source(&[&dir.path().join("link/x")]), Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["link", "link/x"]);
    assert_eq!(entries[entries.len() - 2].metadata.kind, NodeKind::Dir);
}

/// Times of every year exist on file systems in memory; others store the nearest one that they hold.
#[tokio::test]
async fn backup_warns_about_times_that_a_snapshot_cannot_hold() {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let mut expected = Vec::new();
    for (name, seconds) in [("early", -90_000_000_000), ("late", 300_000_000_000), ("now", 1)] {
        let path = write(dir.path().join(name), name);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        // Seconds of the years 0 and 10000 since 1970.
        if !(-62_167_219_200..253_402_300_800).contains(&path.metadata().unwrap().mtime()) {
            expected.push(entry_path(&path).to_string());
        }
    }
    let (entries, warnings) = walk(&source(&[dir.path()]), Selection::all()).await;
    assert_eq!(below(&entries, dir.path()), ["early", "late", "now"]);
    let warned: Vec<_> = warnings.iter().map(|warning| warning.path.clone()).collect();
    assert_eq!(warned, expected);
    for warning in &warnings {
        assert_eq!(warning.kind, WarningKind::Metadata);
        assert!(warning.message.contains("outside of the years 0 to 9999"), "{warning:?}");
    }
}

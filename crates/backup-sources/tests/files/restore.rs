//! Restoring into new and empty places, and over what an earlier restore left.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::{Event, Events};
use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Source, SourceErrorKind};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::common::*;

/// A tree with everything a file system can hold, as far as the machine lets us make it.
fn everything(top: &Path) {
    write(top.join("dir/one"), noise(200_000, 1));
    write(top.join("dir/empty"), "");
    write(top.join("dir/deeper/two"), noise(6_000_000, 2));
    write(top.join(OsStr::from_bytes(b"caf\xe9 \n")), "not UTF-8");
    write(top.join("secret"), "x");
    std::fs::create_dir(top.join("empty dir")).unwrap();
    std::fs::hard_link(top.join("dir/one"), top.join("another name")).unwrap();
    std::fs::hard_link(top.join("dir/one"), top.join("dir/deeper/third name")).unwrap();
    symlink(OsStr::from_bytes(b"no\xffwhere"), top.join("link")).unwrap();
    for (name, file_type, device) in [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(7, 200)),
    ] {
        let made = mknodat(CWD, top.join(name), file_type, Mode::from_raw_mode(0o640), device);
        assert!(made.is_ok() || device != 0, "{name}");
    }
    if xattr::set(top.join("secret"), "user.note", b"\x00\xff").is_ok() {
        xattr::set(top.join("empty dir"), "user.dir", b"d").unwrap();
    } else {
        ignored("the file system has no user attributes");
    }
    if is_root() {
        std::os::unix::fs::lchown(top.join("dir/one"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::lchown(top.join("link"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::lchown(top.join("fifo"), Some(1234), None).unwrap();
    }
    for (name, mode) in
        [("dir/one", 0o6751), ("dir", 0o1555), ("dir/deeper", 0o2770), ("dir/deeper/two", 0o400)]
    {
        std::fs::set_permissions(top.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for (index, name) in
        ["dir/one", "dir/deeper/two", "link", "fifo", "dir/deeper", "dir", "empty dir", ""]
            .iter()
            .enumerate()
    {
        touch(top.join(name), 1_000_000_000 + index as i64, 123_456_789 + index as i64);
    }
    touch(top.join("secret"), -5, 999_999_999);
}

#[tokio::test]
async fn everything_comes_back_as_it_was() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = from.path().join("top");
    everything(&top);
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let request = request(to.path(), IfExists::Fail);
    let report = source.restore(&Context::silent(), &request, &snapshot).await.unwrap();
    let copy = restored(to.path(), &top);
    assert_eq!(digest(&copy).await, digest(&top).await);
    assert_eq!(report.warnings, 0);
    assert_eq!((report.files_written, report.files_unchanged, report.removed), (5, 0, 0));
    assert_eq!(report.total_bytes, 6_200_010);
    assert_eq!((report.written_bytes, report.verified_bytes), (6_200_010, 6_200_010));
    let inode = |name: &str| std::fs::metadata(copy.join(name)).unwrap().ino();
    assert_eq!(inode("dir/one"), inode("another name"));
    assert_eq!(inode("dir/one"), inode("dir/deeper/third name"));
    // Directories above the given path are new, so they have their metadata from the snapshot too.
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode();
    assert_eq!(mode(copy.parent().unwrap()), mode(from.path()));
    let entries = walk(&source, backup_core::source::Selection::all()).await.0.len() as u64;
    assert_eq!(report.entries, entries);
}

#[tokio::test]
async fn a_second_restore_touches_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = from.path().join("top");
    everything(&top);
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    source.restore(&cx, &request(to.path(), IfExists::Fail), &snapshot).await.unwrap();
    let copy = restored(to.path(), &top);
    let state = |name: &str| {
        let found = std::fs::symlink_metadata(copy.join(name)).unwrap();
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    let names =
        ["", "dir/one", "dir/deeper/two", "link", "fifo", "secret", "empty dir", "another name"];
    let before = names.map(state);
    for if_exists in [IfExists::Merge, IfExists::Replace] {
        let report = source.restore(&cx, &request(to.path(), if_exists), &snapshot).await.unwrap();
        assert_eq!((report.files_written, report.files_unchanged, report.written_bytes), (0, 5, 0));
        assert_eq!((report.removed, report.warnings), (0, 0));
        for (name, before) in names.iter().zip(&before) {
            assert_eq!(state(name), *before, "{name} with {if_exists:?}");
        }
    }
    assert_eq!(digest(&copy).await, digest(&top).await);
}

#[tokio::test]
async fn only_blocks_that_differ_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(16 << 20, 3);
    let file = write(dir.path().join("file"), &content);
    touch(&file, 1000, 1);
    let source = source(&[dir.path()]);
    let snapshot = snapshot(&source).await;
    let before = std::fs::metadata(&file).unwrap();
    // Same size and time: only comparing contents can tell.
    let mut other = content.clone();
    other[3_000_000..3_000_100].fill(0);
    std::fs::write(&file, &other).unwrap();
    touch(&file, 1000, 1);
    let cx = Context::silent();
    let report = source.restore(&cx, &in_place(IfExists::Merge), &snapshot).await.unwrap();
    assert_eq!(report.files_written, 1);
    assert!(report.written_bytes > 0 && report.written_bytes <= 8 << 20, "{report:?}");
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!((after.ino(), after.mtime()), (before.ino(), 1000));
    assert_eq!(std::fs::read(&file).unwrap(), content);
    // Shorter and longer files get their size back.
    for length in [content.len() - 1, content.len() + 1, 0] {
        std::fs::File::options().write(true).open(&file).unwrap().set_len(length as u64).unwrap();
        source.restore(&cx, &in_place(IfExists::Merge), &snapshot).await.unwrap();
        assert!(std::fs::read(&file).unwrap() == content, "{length}");
    }
}

#[tokio::test]
async fn an_interrupted_restore_is_completed_by_another() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = from.path().join("top");
    everything(&top);
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    // What a killed restore leaves: directories and files with provisional modes, one file half
    // written.
    let copy = restored(to.path(), &top);
    let content = std::fs::read(top.join("dir/deeper/two")).unwrap();
    write(copy.join("dir/deeper/two"), &content[..5_000_000]);
    write(copy.join("dir/one"), "");
    for (name, mode) in [("dir/one", 0o600), ("dir/deeper/two", 0o600), ("dir", 0o700)] {
        std::fs::set_permissions(copy.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let report = source
        .restore(&Context::silent(), &request(to.path(), IfExists::Merge), &snapshot)
        .await
        .unwrap();
    assert_eq!(digest(&copy).await, digest(&top).await);
    assert!(report.written_bytes < report.total_bytes);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = from.path().join("top");
    everything(&top);
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    let target = to.path().join("new");
    let real = RestoreRequest { verify: false, ..request(&target, IfExists::Fail) };
    let dry = RestoreRequest { dry_run: true, ..real.clone() };
    let foretold = source.restore(&cx, &dry, &snapshot).await.unwrap();
    assert!(!target.exists());
    assert_eq!(source.restore(&cx, &real, &snapshot).await.unwrap(), foretold);

    let copy = restored(&target, &top);
    std::fs::write(copy.join("secret"), "y").unwrap();
    write(copy.join("extra/file"), "z");
    let before = digest(&copy).await;
    let real = deleting(real);
    let dry = RestoreRequest { dry_run: true, ..real.clone() };
    let foretold = source.restore(&cx, &dry, &snapshot).await.unwrap();
    assert_eq!(digest(&copy).await, before);
    assert_eq!((foretold.files_written, foretold.removed), (1, 2));
    let removed: Vec<&str> = foretold.removals.iter().map(|one| &*one.name).collect();
    assert_eq!(removed, [copy.join("extra").to_str().unwrap()]);
    let replaced: Vec<&str> = foretold.objects.iter().map(|one| &*one.name).collect();
    assert_eq!(replaced, [copy.join("secret").to_str().unwrap()]);
    // Names are for the plan only.
    let named = RestoreReport::default();
    let (removals, objects, planned) = (named.removals, named.objects, named.planned);
    let expected = RestoreReport { removals, objects, planned, ..foretold };
    assert_eq!(source.restore(&cx, &real, &snapshot).await.unwrap(), expected);
}

#[tokio::test]
async fn chosen_paths_come_with_the_directories_on_the_way() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for file in ["a/b/wanted", "a/b/not", "a/c/x", "d/wanted/inside"] {
        write(from.path().join(file), file);
    }
    std::fs::set_permissions(from.path().join("a"), std::fs::Permissions::from_mode(0o711))
        .unwrap();
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let request = RestoreRequest {
        selection: selection(&["wanted"], &[]),
        ..request(to.path(), IfExists::Fail)
    };
    let report = source.restore(&Context::silent(), &request, &snapshot).await.unwrap();
    let copy = restored(to.path(), from.path());
    let (entries, _) = walk(&crate::common::source(&[&copy]), selection(&[], &[])).await;
    assert_eq!(
        below(&entries, &copy),
        ["a", "a/b", "a/b/wanted", "d", "d/wanted", "d/wanted/inside"]
    );
    assert_eq!(std::fs::metadata(copy.join("a")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(report.files_written, 2);
}

#[tokio::test]
async fn sparse_files_keep_their_holes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut content = vec![0; 8 << 20];
    content[5_000_001..5_000_004].copy_from_slice(b"abc");
    content[..3].copy_from_slice(b"abc");
    write(from.path().join("holes"), &content);
    write(from.path().join("zeros"), vec![0; 1 << 20]);
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let request = RestoreRequest { sparse: true, ..request(to.path(), IfExists::Fail) };
    source.restore(&Context::silent(), &request, &snapshot).await.unwrap();
    let copy = restored(to.path(), from.path());
    assert!(std::fs::read(copy.join("holes")).unwrap() == content);
    assert_eq!(std::fs::read(copy.join("zeros")).unwrap(), vec![0; 1 << 20]);
    let blocks = |name: &str| std::fs::metadata(copy.join(name)).unwrap().blocks();
    assert!(
        blocks("holes") <= 64 && blocks("zeros") <= 16,
        "{} {}",
        blocks("holes"),
        blocks("zeros")
    );
    // Over existing data zeros must be written.
    std::fs::write(copy.join("holes"), noise(9 << 20, 4)).unwrap();
    let again = RestoreRequest { if_exists: IfExists::Merge, ..request };
    source.restore(&Context::silent(), &again, &snapshot).await.unwrap();
    assert!(std::fs::read(copy.join("holes")).unwrap() == content);
}

#[tokio::test]
async fn more_entries_than_one_window() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Many names rather than many files: those are cheap to make.
    for index in 0..1000 {
        let [dir, other] =
            [index, index + 7].map(|index| from.path().join(format!("d{:03}", index % 300)));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        let file = dir.join(format!("f{index}"));
        std::fs::write(&file, format!("{}", index % 50)).unwrap();
        for name in 0..11 {
            std::fs::hard_link(&file, other.join(format!("n{name}-{index}"))).unwrap();
        }
    }
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let report = source
        .restore(&Context::silent(), &request(to.path(), IfExists::Fail), &snapshot)
        .await
        .unwrap();
    assert_eq!((report.files_written, report.warnings), (1000, 0));
    let copy = restored(to.path(), from.path());
    assert_eq!(digest(&copy).await, digest(from.path()).await);
    assert_eq!(std::fs::metadata(copy.join("d007/f7")).unwrap().nlink(), 12);
}

#[tokio::test]
async fn events_and_cancelling() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path().join("file"), noise(100_000, 5));
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let recorder = Arc::new(Recorder::default());
    let cx = Context::new(Events::to(recorder.clone()));
    source.restore(&cx, &request(to.path().join("a"), IfExists::Fail), &snapshot).await.unwrap();
    let events = std::mem::take(&mut *recorder.0.lock().unwrap());
    assert!(matches!(events.first(), Some(Event::StageStarted { .. })), "{events:?}");
    let Some(Event::StageFinished { progress, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(progress.done_bytes, 100_000);
    cx.cancel.cancel();
    let error = source
        .restore(&cx, &request(to.path().join("b"), IfExists::Fail), &snapshot)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
}

#[tokio::test]
async fn a_full_target_says_so() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path().join("file"), noise(4 << 20, 6));
    let Some(mounted) = Mounted::at(to.path()) else {
        ignored("mounting a small file system is not allowed here");
        return;
    };
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let result =
        source.restore(&Context::silent(), &request(to.path(), IfExists::Fail), &snapshot).await;
    drop(mounted);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Target);
    assert!(error.to_string().contains("no space left at the target"), "{error}");
    assert!(error.hint().unwrap().contains("--if-exists merge"));
}

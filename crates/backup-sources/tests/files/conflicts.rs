//! Restoring over what exists, and never leaving the target.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use backup_core::context::Context;
use backup_core::source::{EntryPath, IfExists, RestoreRequest, Source, SourceErrorKind};
use backup_core::testing::{ScriptedEntry, ScriptedSource};

use crate::common::*;

#[tokio::test]
async fn nothing_is_replaced_unless_told() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path().join("a"), "a");
    write(from.path().join("z"), "z");
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    write(to.path().join("anything"), "x");
    let error =
        source.restore(&cx, &request(to.path(), IfExists::Fail), &snapshot).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TargetExists);
    assert!(error.hint().unwrap().contains("--if-exists"));

    // In place: the last entry is in the way, so the first is not written either.
    std::fs::remove_file(from.path().join("a")).unwrap();
    let error = source.restore(&cx, &in_place(IfExists::Fail), &snapshot).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TargetExists);
    assert!(!from.path().join("a").exists());
    std::fs::remove_file(from.path().join("z")).unwrap();
    source.restore(&cx, &in_place(IfExists::Fail), &snapshot).await.unwrap();
    assert_eq!(std::fs::read(from.path().join("z")).unwrap(), b"z");
}

#[tokio::test]
async fn replacing_removes_only_inside_what_was_backed_up() {
    let base = tempfile::tempdir().unwrap();
    let top = base.path().join("top");
    write(top.join("dir/file"), "x");
    write(base.path().join("beside"), "b");
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    for extra in ["extra", "dir/extra/deep/x", "dir/kept.log", "kept/y"] {
        write(top.join(extra), "e");
    }
    let merged = source.restore(&cx, &in_place(IfExists::Merge), &snapshot).await.unwrap();
    assert_eq!(merged.removed, 0);
    assert!(top.join("extra").exists());
    let request = RestoreRequest {
        selection: selection(&[], &["*.log", "kept"]),
        ..deleting(in_place(IfExists::Replace))
    };
    let report = source.restore(&cx, &request, &snapshot).await.unwrap();
    // `extra`, and `dir/extra` with two entries in it.
    assert_eq!(report.removed, 4);
    assert!(!top.join("extra").exists() && !top.join("dir/extra").exists());
    assert!(top.join("dir/kept.log").exists() && top.join("kept/y").exists());
    assert!(base.path().join("beside").exists());
}

#[tokio::test]
async fn what_is_mounted_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("file"), "x");
    let source = source(&[dir.path()]);
    let snapshot = snapshot(&source).await;
    let extra = dir.path().join("extra");
    std::fs::create_dir(&extra).unwrap();
    let Some(_mounted) = Mounted::at(&extra) else {
        ignored("mounting a file system is not allowed here");
        return;
    };
    write(extra.join("precious"), "x");
    let report = source
        .restore(&Context::silent(), &deleting(in_place(IfExists::Replace)), &snapshot)
        .await
        .unwrap();
    assert_eq!((report.removed, report.warnings), (0, 1));
    assert!(extra.join("precious").exists());
}

#[tokio::test]
async fn links_in_the_target_lead_nowhere() {
    let (from, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path().join("dir/sub/file"), "from the snapshot");
    write(from.path().join("plain"), "from the snapshot");
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    let victim = write(outside.path().join("sub/file"), "precious");
    for if_exists in [IfExists::Fail, IfExists::Merge, IfExists::Replace] {
        let to = tempfile::tempdir().unwrap();
        let copy = restored(to.path(), from.path());
        std::fs::create_dir_all(&copy).unwrap();
        symlink(outside.path(), copy.join("dir")).unwrap();
        symlink(&victim, copy.join("plain")).unwrap();
        let result = source.restore(&cx, &request(to.path(), if_exists), &snapshot).await;
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{if_exists:?}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        if if_exists == IfExists::Replace {
            result.unwrap();
            assert!(!copy.join("dir").is_symlink() && !copy.join("plain").is_symlink());
            assert_eq!(std::fs::read(copy.join("dir/sub/file")).unwrap(), b"from the snapshot");
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::TargetExists, "{}", error.chain());
            assert!(copy.join("dir").is_symlink() && copy.join("plain").is_symlink());
        }
    }
}

#[tokio::test]
async fn directories_and_files_in_each_others_place() {
    let from = tempfile::tempdir().unwrap();
    write(from.path().join("dir/file"), "x");
    write(from.path().join("file"), "y");
    symlink("file", from.path().join("link")).unwrap();
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    let before = digest(from.path()).await;
    let swap = |path: &Path| {
        std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path)).unwrap();
    };
    for name in ["file", "link", "dir"] {
        let path = from.path().join(name);
        swap(&path);
        if name == "dir" {
            drop(write(&path, "now a file"));
        } else {
            drop(write(path.join("inside"), "x"));
        }
        let error = source.restore(&cx, &in_place(IfExists::Merge), &snapshot).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::TargetExists);
        assert!(error.to_string().contains(name));
        if name != "dir" {
            let report =
                source.restore(&cx, &in_place(IfExists::Replace), &snapshot).await.unwrap();
            assert_eq!((report.failures, report.removed), (1, 0), "{name}");
            assert!(path.join("inside").exists(), "{name}");
        }
        let delete = deleting(in_place(IfExists::Replace));
        source.restore(&cx, &delete, &snapshot).await.unwrap();
        assert_eq!(digest(from.path()).await, before, "{name}");
    }
    // A link or a pipe where a file was is replaced by both.
    for (name, if_exists) in [("file", IfExists::Merge), ("link", IfExists::Replace)] {
        let path = from.path().join(name);
        swap(&path);
        symlink("elsewhere", &path).unwrap();
        source.restore(&cx, &in_place(if_exists), &snapshot).await.unwrap();
        assert_eq!(digest(from.path()).await, before, "{name}");
    }
}

#[tokio::test]
async fn other_names_of_an_existing_file_keep_their_content() {
    let base = tempfile::tempdir().unwrap();
    let top = base.path().join("top");
    let file = write(top.join("file"), noise(300_000, 7));
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let other = base.path().join("other name");
    std::fs::write(&file, "changed").unwrap();
    std::fs::hard_link(&file, &other).unwrap();
    let report =
        source.restore(&Context::silent(), &in_place(IfExists::Merge), &snapshot).await.unwrap();
    assert_eq!(report.written_bytes, 300_000);
    assert_eq!(std::fs::read(&file).unwrap(), noise(300_000, 7));
    assert_eq!(std::fs::read(&other).unwrap(), b"changed");
}

#[tokio::test]
async fn hard_links_are_made_again_over_existing_files() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    write(&one, "linked");
    std::fs::hard_link(&one, &two).unwrap();
    let source = source(&[dir.path()]);
    let snapshot = snapshot(&source).await;
    std::fs::remove_file(&two).unwrap();
    write(&two, "apart");
    source.restore(&Context::silent(), &in_place(IfExists::Merge), &snapshot).await.unwrap();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&one), inode(&two));
    assert_eq!(std::fs::read(&two).unwrap(), b"linked");
}

#[tokio::test]
async fn a_running_program_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let source = source(&[dir.path()]);
    let snapshot = snapshot(&source).await;
    let content = std::fs::read(&program).unwrap();
    let mut other = content.clone();
    other.push(0);
    std::fs::write(&program, &other).unwrap();
    let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
    let result = source.restore(&Context::silent(), &in_place(IfExists::Merge), &snapshot).await;
    child.kill().unwrap();
    child.wait().unwrap();
    result.unwrap();
    assert!(std::fs::read(&program).unwrap() == content);
}

#[tokio::test]
async fn names_that_would_leave_the_target_are_refused() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = source(&[from.path()]);
    for bad in [&b".."[..], b".", b"a\0b"] {
        let entry = ScriptedEntry::file_at(EntryPath::root().join(bad), "somebody else's content");
        let forged = snapshot(&ScriptedSource::new().with(entry)).await;
        let target = to.path().join("target");
        let result =
            source.restore(&Context::silent(), &request(&target, IfExists::Replace), &forged).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Repository, "{bad:?}: {}", error.chain());
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1, "{bad:?}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{bad:?}");
    }
}

#[tokio::test]
async fn the_description_is_restored_only_when_named() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path().join("file"), "x");
    let source = source(&[from.path()]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    source.restore(&cx, &request(to.path().join("all"), IfExists::Fail), &snapshot).await.unwrap();
    assert!(!to.path().join("all/.backup").exists());
    let named = RestoreRequest {
        selection: selection(&["/.backup"], &[]),
        ..request(to.path().join("named"), IfExists::Fail)
    };
    source.restore(&cx, &named, &snapshot).await.unwrap();
    assert!(to.path().join("named/.backup/manifest.json").exists());
    assert_eq!(std::fs::read_dir(to.path().join("named")).unwrap().count(), 1);
}

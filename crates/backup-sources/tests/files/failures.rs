//! An entry that the target refuses costs only itself, and is named.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use backup_core::context::Context;
use backup_core::source::{IfExists, RestoreRequest, Source};

use crate::common::*;

fn names(report: &backup_core::source::RestoreReport) -> Vec<String> {
    let name = |path: &str| Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
    let mut names: Vec<String> =
        report.failed.iter().map(|failure| name(&failure.object)).collect();
    names.sort();
    names
}

/// Every kind of entry, with a directory in its place: `replace` does not remove its content.
#[tokio::test]
async fn an_entry_of_every_kind_that_fails_costs_only_itself() {
    let base = tempfile::tempdir().unwrap();
    let top = base.path().join("top");
    let others = ["a first", "m/middle", "z last"];
    for name in others {
        write(top.join(name), name);
    }
    write(top.join("file"), noise(3 << 20, 5));
    write(top.join("empty"), "");
    write(top.join("hard"), "linked");
    std::fs::hard_link(top.join("hard"), top.join("n hard too")).unwrap();
    symlink("m", top.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    let cx = Context::silent();
    let kinds = ["empty", "file", "hard", "link", "pipe"];
    for elsewhere in [false, true] {
        let to = tempfile::tempdir().unwrap();
        let (copy, request) = if elsewhere {
            (restored(to.path(), &top), request(to.path(), IfExists::Replace))
        } else {
            (top.clone(), in_place(IfExists::Replace))
        };
        for name in kinds {
            let path = copy.join(name);
            let _absent = std::fs::remove_file(&path);
            write(path.join("precious"), "p");
        }
        for name in others {
            write(copy.join(name), "scribbled");
        }
        let dry = RestoreRequest { dry_run: true, verify: false, ..request.clone() };
        let plan = source.restore(&cx, &dry, &snapshot).await.unwrap();
        assert_eq!((plan.failures, names(&plan)), (5, kinds.map(str::to_owned).to_vec()));
        let report = source.restore(&cx, &request, &snapshot).await.unwrap();
        assert_eq!((report.failures, names(&report)), (5, kinds.map(str::to_owned).to_vec()));
        assert!(report.warnings >= 5);
        for name in others {
            assert_eq!(std::fs::read(copy.join(name)).unwrap(), name.as_bytes());
        }
        for name in kinds {
            assert!(copy.join(name).join("precious").exists(), "{name}");
        }
        assert_eq!(std::fs::read(copy.join("n hard too")).unwrap(), b"linked");
    }
}

#[tokio::test]
async fn restore_continues_beside_a_read_only_file_system() {
    let base = tempfile::tempdir().unwrap();
    let top = base.path().join("top");
    for name in ["a/one", "mount/two", "mount/sub/three", "z/four"] {
        write(top.join(name), name);
    }
    let source = source(&[&top]);
    let snapshot = snapshot(&source).await;
    for name in ["a", "mount", "z"] {
        std::fs::remove_dir_all(top.join(name)).unwrap();
    }
    std::fs::create_dir(top.join("mount")).unwrap();
    let Some(_mounted) = Mounted::at(&top.join("mount")) else {
        ignored("mounting a file system is not allowed here");
        return;
    };
    let read_only =
        Command::new("mount").args(["-o", "remount,ro"]).arg(top.join("mount")).status();
    assert!(read_only.unwrap().success());
    let cx = Context::silent();
    let merge = in_place(IfExists::Merge);
    let report = source.restore(&cx, &merge, &snapshot).await.unwrap();
    // The directory in it, and the file: everything below the directory goes with it.
    assert_eq!((report.failures, names(&report)), (2, vec!["sub".to_owned(), "two".to_owned()]));
    assert_eq!(std::fs::read(top.join("a/one")).unwrap(), b"a/one");
    assert_eq!(std::fs::read(top.join("z/four")).unwrap(), b"z/four");
}

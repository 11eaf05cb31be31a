//! The comparer itself: two copies are the same, and every single difference is seen and named.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::compare::differences;
use crate::support::tree::{self, chmod, is_root, touch, write};

/// A copy of everything, and whatever `change` does to it.
fn found_after(change: impl FnOnce(&Path)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    tree::everything(&one);
    let copied = Command::new("cp").args(["-a", "--"]).arg(&one).arg(&two).status().unwrap();
    assert!(copied.success());
    assert_eq!(differences(&one, &two), [""; 0]);
    change(&two);
    differences(&one, &two)
}

/// Asserts that `change`, which keeps the directories' times, is seen as `expected` and nothing
/// else.
#[track_caller]
fn seen(expected: &[&str], change: impl FnOnce(&Path)) {
    let found: Vec<_> = found_after(change)
        .into_iter()
        .filter(|difference| {
            !difference.contains("mtime") || expected.iter().any(|e| e.contains("mtime"))
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn sees_contents() {
    seen(&["content/one byte: content: "], |top| {
        fs::write(top.join("content/one byte"), "y").unwrap();
    });
    seen(&["content/text: content: ", "content/text: size: "], |top| {
        fs::File::options()
            .write(true)
            .open(top.join("content/text"))
            .unwrap()
            .set_len(299_999)
            .unwrap();
        chmod(top.join("content/text"), 0o4755);
    });
}

#[test]
fn sees_what_is_missing_or_too_much() {
    seen(&["content/empty: missing"], |top| fs::remove_file(top.join("content/empty")).unwrap());
    seen(&["content/more: should not be there"], |top| _ = write(top.join("content/more"), ""));
}

#[test]
fn sees_modes_and_times() {
    seen(&["content/text: type and mode: expected 104755, found 100755"], |top| {
        chmod(top.join("content/text"), 0o755);
    });
    let expected =
        ["content/text: mtime: expected 1000000000.123456789, found 1000000000.123456788"];
    seen(&expected, |top| touch(top.join("content/text"), 1_000_000_000, 123_456_788));
    seen(&["empty directory: mtime: "], |top| touch(top.join("empty directory"), 1_400_000_000, 0));
    seen(&["links/dangling: mtime: "], |top| touch(top.join("links/dangling"), 1, 0));
}

#[test]
fn sees_types_and_links() {
    seen(&["special/fifo: "], |top| {
        fs::remove_file(top.join("special/fifo")).unwrap();
        tree::make_node(&top.join("special/fifo"), rustix::fs::FileType::Socket, 0);
        if is_root() {
            lchown(top.join("special/fifo"), Some(1), Some(2)).unwrap();
        }
    });
    seen(&["links/dangling: target: expected /nowhere/at all, found /somewhere"], |top| {
        fs::remove_file(top.join("links/dangling")).unwrap();
        symlink("/somewhere", top.join("links/dangling")).unwrap();
    });
    // The content stays the same, but it is a file of its own now.
    let unlinked = ["links/empty hard link: hard link: ", "links/empty second name: hard link: "];
    seen(&unlinked, |top| {
        fs::remove_file(top.join("links/empty second name")).unwrap();
        write(top.join("links/empty second name"), "");
    });
}

#[test]
fn sees_owners() {
    if is_root() {
        seen(&["content/noise: owner: expected 0:0, found 5:0"], |top| {
            lchown(top.join("content/noise"), Some(5), None).unwrap();
            chmod(top.join("content/noise"), 0o2751);
        });
        seen(&["links/to a file: owner: "], |top| {
            lchown(top.join("links/to a file"), Some(5), None).unwrap();
        });
        seen(&["special/null: device: "], |top| {
            fs::remove_file(top.join("special/null")).unwrap();
            tree::make_node(
                &top.join("special/null"),
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::makedev(1, 5),
            );
            lchown(top.join("special/null"), Some(65534), Some(65534)).unwrap();
        });
    }
}

#[test]
fn sees_attributes() {
    let probe = tempfile::tempdir().unwrap();
    if xattr::set(probe.path(), "user.probe", b"x").is_err() {
        return;
    }
    seen(&["attributes/file: attribute user.binary: "], |top| {
        xattr::set(top.join("attributes/file"), "user.binary", b"\x00\xff\n").unwrap();
    });
    seen(&["attributes/dir: attribute user.of a dir: expected d, found nothing"], |top| {
        xattr::remove(top.join("attributes/dir"), "user.of a dir").unwrap();
    });
}

//! The local sink: the contract of every sink, and what only files have.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use backup_core::sink::{Key, Operation, Prefix, Sink, SinkErrorKind, SinkOps, SinkResult};
use backup_core::testing::{SinkDifferences, SinkHandles, sink_conformance};
use backup_storage::LocalSink;
use futures::StreamExt;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Handles on a new directory each time.
async fn conformance(open: impl Fn(&Path) -> SinkResult<LocalSink>) {
    let dir = tempfile::tempdir().unwrap();
    let places = std::sync::atomic::AtomicU32::new(0);
    let make = async || {
        let place = places.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let place = dir.path().join(place);
        SinkHandles::new(open(&place).unwrap(), open(&place).unwrap())
    };
    sink_conformance(make, SinkDifferences::file_system()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    conformance(|place| LocalSink::create(place)).await;
}

#[tokio::test]
async fn keeps_the_contract_without_fsync() {
    conformance(|place| LocalSink::without_fsync(place)).await;
}

/// All files and directories below a directory, relative to it.
fn tree(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                waiting.push(path);
            }
        }
    }
    found
}

async fn keys(sink: &LocalSink) -> Vec<String> {
    let list = sink.list_all(&Prefix::root()).await.unwrap();
    list.into_iter().map(|meta| meta.key.to_string()).collect()
}

#[tokio::test]
async fn nobody_else_may_read_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/repo");
    let sink = LocalSink::create(&root).unwrap();
    sink.put_bytes(&key("data/00/a"), vec![1]).await.unwrap();
    let mut upload = sink.upload(&key("data/00/b")).await.unwrap();
    upload.put_part(vec![2].into()).await.unwrap();
    upload.complete().await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for place in ["", "..", "data", "data/00", "x-tmp"] {
        assert_eq!(mode(&root.join(place)), 0o700, "{place}");
    }
    for file in ["data/00/a", "data/00/b"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(root.join("x-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_put_is_a_new_file_never_a_changed_one() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    sink.put_bytes(&key("config"), vec![1; 10]).await.unwrap();
    // A hard link is how people take snapshots of directories.
    fs::hard_link(dir.path().join("config"), dir.path().join("snapshot of config")).unwrap();
    sink.put_bytes(&key("config"), vec![2; 20]).await.unwrap();
    assert_eq!(fs::read(dir.path().join("snapshot of config")).unwrap(), vec![1; 10]);
    assert_eq!(keys(&sink).await, ["config"]);
}

#[tokio::test]
async fn failed_puts_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    fs::create_dir_all(dir.path().join("data/00")).unwrap();
    let before_temp = tree(dir.path());
    let error = sink.put_bytes(&key("data/00"), vec![1; 1000]).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Invalid);
    let too_long = key(&"n".repeat(300));
    let error = sink.put_bytes(&too_long, vec![1; 1000]).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Invalid);
    assert_eq!(sink.get_bytes(&too_long).await.unwrap_err().kind(), SinkErrorKind::Invalid);
    let mut after = tree(dir.path());
    after.remove("x-tmp");
    assert_eq!(after, before_temp);
}

#[tokio::test]
async fn temporary_files_are_no_objects() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    let mut upload = sink.upload(&key("data/a")).await.unwrap();
    upload.put_part(vec![1; 100].into()).await.unwrap();
    let temp = fs::read_dir(dir.path().join("x-tmp")).unwrap().next().unwrap().unwrap();
    let temp = key(&format!("x-tmp/{}", temp.file_name().to_str().unwrap()));
    assert_eq!(sink.get_bytes(&temp).await.unwrap_err().kind(), SinkErrorKind::NotFound);
    assert_eq!(sink.head(&temp).await.unwrap_err().kind(), SinkErrorKind::NotFound);
    assert_eq!(sink.put_bytes(&temp, vec![]).await.unwrap_err().kind(), SinkErrorKind::Invalid);
    assert_eq!(sink.upload(&temp).await.unwrap_err().kind(), SinkErrorKind::Invalid);
    assert!(keys(&sink).await.is_empty());
    assert_eq!(sink.list(&Prefix::new("x-tmp").unwrap()).count().await, 0);
    sink.delete_one(&temp).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(keys(&sink).await, ["data/a"]);
}

#[tokio::test]
async fn other_peoples_files_are_left_out_of_lists() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    sink.put_bytes(&key("data/a"), vec![1]).await.unwrap();
    fs::write(dir.path().join("data/a b"), "x").unwrap();
    fs::write(dir.path().join("data/ä"), "x").unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    fs::write(dir.path().join("lost+found/x"), "x").unwrap();
    fs::set_permissions(dir.path().join("lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("a", dir.path().join("data/link")).unwrap();
    symlink("nowhere", dir.path().join("data/broken")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("data/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(keys(&sink).await, ["data/a"]);
    for other in ["data/link", "data/broken", "data/pipe", "data"] {
        assert_eq!(
            sink.head(&key(other)).await.unwrap_err().kind(),
            SinkErrorKind::NotFound,
            "{other}"
        );
        assert_eq!(
            sink.get_bytes(&key(other)).await.unwrap_err().kind(),
            SinkErrorKind::NotFound,
            "{other}"
        );
    }
    fs::set_permissions(dir.path().join("lost+found"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn links_to_directories_are_followed_and_rings_end() {
    let dir = tempfile::tempdir().unwrap();
    let other_disk = tempfile::tempdir().unwrap();
    symlink(dir.path(), other_disk.path().join("repo")).unwrap();
    let sink = LocalSink::create(other_disk.path().join("repo")).unwrap();
    fs::create_dir(other_disk.path().join("packs")).unwrap();
    symlink(other_disk.path().join("packs"), dir.path().join("data")).unwrap();
    symlink(dir.path(), dir.path().join("ring")).unwrap();
    symlink("..", other_disk.path().join("packs/up")).unwrap();
    sink.put_bytes(&key("data/00/a"), vec![1]).await.unwrap();
    assert_eq!(sink.get_bytes(&key("data/00/a")).await.unwrap(), vec![1]);
    assert!(keys(&sink).await.contains(&"data/00/a".to_owned()));
    let list = sink.list_all(&Prefix::new("data/00").unwrap()).await.unwrap();
    assert_eq!(list.len(), 1);
}

#[tokio::test]
async fn a_directory_that_was_removed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    sink.put_bytes(&key("data/00/a"), vec![1]).await.unwrap();
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    sink.put_bytes(&key("data/00/b"), vec![2]).await.unwrap();
    assert_eq!(keys(&sink).await, ["data/00/b"]);
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    sink.put_bytes(&key("data/00/c"), vec![3]).await.unwrap();
    assert_eq!(keys(&sink).await, ["data/00/c"]);
}

#[tokio::test]
async fn a_place_that_has_gone_is_an_error_and_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("disk");
    let sink = LocalSink::create(&root).unwrap();
    fs::remove_dir(&root).unwrap();
    let error = sink.put_bytes(&key("a"), vec![1]).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(!root.exists());
}

#[tokio::test]
async fn leftovers_of_dead_processes_are_removed_after_a_day_and_all_after_a_week() {
    let dir = tempfile::tempdir().unwrap();
    let temp = dir.path().join("x-tmp");
    fs::create_dir(&temp).unwrap();
    let (dead, alive) = ("2147483646-00000000000000aa-0", "1-00000000000000aa-0");
    let age = |name: &str, hours: u64| {
        let file = fs::File::create(temp.join(name)).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(hours * 3600)).unwrap();
    };
    age(dead, 25);
    age("2147483646-00000000000000aa-1", 23);
    age(alive, 25);
    // The number of a process may be in use again, here or on another machine.
    age("1-00000000000000aa-1", 7 * 24 - 1);
    age("1-00000000000000aa-2", 7 * 24 + 1);
    age("somebody's notes", 1000);
    let sink = LocalSink::open(dir.path()).unwrap();
    sink.list_all(&Prefix::root()).await.unwrap();
    assert!(temp.join(dead).exists(), "reading removes nothing");
    sink.put_bytes(&key("a"), vec![1]).await.unwrap();
    let left: BTreeSet<_> = tree(&temp);
    let expected =
        ["2147483646-00000000000000aa-1", alive, "1-00000000000000aa-1", "somebody's notes"];
    assert_eq!(left, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn lists_know_when_objects_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    sink.put_bytes(&key("a"), vec![1; 7]).await.unwrap();
    let listed = sink.list_all(&Prefix::root()).await.unwrap().remove(0);
    assert_eq!(listed, sink.head(&key("a")).await.unwrap());
    let modified = fs::metadata(dir.path().join("a")).unwrap();
    let time = listed.last_modified.unwrap();
    assert_eq!(
        (time.as_second(), i64::from(time.subsec_nanosecond())),
        (modified.mtime(), modified.mtime_nsec())
    );
}

#[tokio::test]
async fn an_object_that_is_cut_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(dir.path()).unwrap();
    sink.put_bytes(&key("large"), vec![7; 20 << 20]).await.unwrap();
    let mut content = sink.get(&key("large"), None).await.unwrap();
    content.next().await.unwrap().unwrap();
    fs::File::options()
        .write(true)
        .open(dir.path().join("large"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    let rest: Vec<_> = content.collect().await;
    let error = rest.into_iter().find_map(Result::err).unwrap();
    assert_eq!((error.kind(), error.operation()), (SinkErrorKind::Other, Operation::Get));
}

/// Runs `test` on a thread that modes bind as they bind everybody, also if the tests run as root:
/// without its capabilities. Threads that a runtime starts there inherit that.
fn without_privileges(test: impl AsyncFnOnce() + Send) {
    let run = move || {
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

#[test]
fn a_read_only_directory_can_be_read_and_says_why_not_written() {
    without_privileges(async || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        LocalSink::create(&root).unwrap().put_bytes(&key("data/a"), vec![1]).await.unwrap();
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let all = [root.clone(), root.join("data"), root.join("x-tmp")];
        all.iter().for_each(|path| chmod(path, 0o500));
        let before = tree(&root);

        let sink = LocalSink::open(&root).unwrap();
        let denied = SinkErrorKind::PermissionDenied;
        assert_eq!(sink.put_bytes(&key("data/b"), vec![1]).await.unwrap_err().kind(), denied);
        assert_eq!(sink.create(&key("c"), vec![1]).await.unwrap_err().kind(), denied);
        assert_eq!(sink.upload(&key("data/b")).await.unwrap_err().kind(), denied);
        assert_eq!(sink.delete_one(&key("data/a")).await.unwrap_err().kind(), denied);
        assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap(), vec![1]);
        assert_eq!(keys(&sink).await, ["data/a"]);
        let error = LocalSink::create(root.join("sub/repo")).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (denied, Operation::Put));

        // A place for temporary files alone is not enough, and nothing stays there.
        chmod(&root.join("x-tmp"), 0o700);
        assert_eq!(sink.put_bytes(&key("data/b"), vec![1]).await.unwrap_err().kind(), denied);
        assert_eq!(tree(&root), before);

        // A directory that cannot be listed must not look empty.
        chmod(&root.join("data"), 0o000);
        assert_eq!(sink.list_all(&Prefix::root()).await.unwrap_err().kind(), denied);
        assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap_err().kind(), denied);
        all.iter().for_each(|path| chmod(path, 0o700));
    });
}

#[test]
fn what_is_no_directory_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let kinds = |path: &Path| {
        let open = LocalSink::open(path).map_err(|error| error.kind());
        let create = LocalSink::create(path).map_err(|error| error.kind());
        (open.unwrap_err(), create.unwrap_err())
    };
    let invalid = SinkErrorKind::Invalid;
    assert_eq!(kinds(&file), (invalid, invalid));
    assert_eq!(kinds(&file.join("below")), (invalid, invalid));
    assert_eq!(
        LocalSink::open(dir.path().join("none")).unwrap_err().kind(),
        SinkErrorKind::NotFound
    );
}

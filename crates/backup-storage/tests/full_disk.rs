//! What happens when there is no room left, or no way to write at all: on small file systems of
//! their own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod needs_mount {
    use std::path::Path;
    use std::process::Command;

    use backup_core::sink::{Key, Operation, Prefix, Sink, SinkErrorKind, SinkOps};
    use backup_storage::LocalSink;

    /// Where the test finds its file system; unset in the process that only prepares it.
    const PLACE: &str = "BACKUP_TEST_MOUNTED";

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    /// Runs this test once more, in a name space of its own where `options` say what is mounted.
    /// Nothing outside sees the file system, and it goes away with the process. `None`: that has
    /// been done, and all is well.
    fn mounted(test: &str, options: &str) -> Option<LocalSink> {
        if let Some(place) = std::env::var_os(PLACE) {
            return Some(LocalSink::create(Path::new(&place)).unwrap());
        }
        let dir = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3" --exact "$4" --include-ignored --nocapture"#;
        let status = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", script, "sh", options])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(PLACE, dir.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the test failed in its name space, or could not mount there: {status}"
        );
        None
    }

    fn temp_files(sink: &LocalSink) -> usize {
        std::fs::read_dir(Path::new(&sink.to_string()).join("x-tmp")).unwrap().count()
    }

    #[tokio::test]
    #[ignore = "mounts a small tmpfs, which not everybody may: scripts/test --long"]
    async fn a_full_disk_is_a_clear_error_and_leaves_nothing() {
        let test = "needs_mount::a_full_disk_is_a_clear_error_and_leaves_nothing";
        let Some(sink) = mounted(test, "size=1m") else { return };
        let full = SinkErrorKind::StorageFull;
        sink.put_bytes(&key("data/small"), vec![1; 100_000]).await.unwrap();
        for round in 0..3 {
            let error = sink.put_bytes(&key("data/large"), vec![2; 2 << 20]).await.unwrap_err();
            assert_eq!((error.kind(), error.operation()), (full, Operation::Put), "{round}");
            assert_eq!(error.effect(), backup_core::sink::Effect::None);
            let error = sink.create(&key("data/large"), vec![2; 2 << 20]).await.unwrap_err();
            assert_eq!(error.kind(), full);
            let mut upload = sink.upload(&key("data/large")).await.unwrap();
            upload.put_part(vec![3; 500_000].into()).await.unwrap();
            assert_eq!(upload.put_part(vec![3; 1 << 20].into()).await.unwrap_err().kind(), full);
            // A part is missing: this must never become an object.
            assert!(upload.complete().await.is_err());
            assert_eq!(temp_files(&sink), 0);
        }
        // What is there stays, also when its replacement does not fit.
        assert_eq!(
            sink.put_bytes(&key("data/small"), vec![4; 2 << 20]).await.unwrap_err().kind(),
            full
        );
        assert_eq!(sink.get_bytes(&key("data/small")).await.unwrap(), vec![1; 100_000]);
        assert_eq!(sink.list_all(&Prefix::root()).await.unwrap().len(), 1);
        // All of it is free again.
        sink.put_bytes(&key("data/fits"), vec![5; 800_000]).await.unwrap();
    }

    #[tokio::test]
    #[ignore = "mounts a small tmpfs, which not everybody may: scripts/test --long"]
    async fn a_disk_without_inodes_is_full() {
        let Some(sink) =
            mounted("needs_mount::a_disk_without_inodes_is_full", "size=1m,nr_inodes=12")
        else {
            return;
        };
        let mut stored = 0;
        let error = loop {
            match sink.put_bytes(&key(&format!("data/{stored}/x")), vec![1]).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), SinkErrorKind::StorageFull);
        assert_eq!(temp_files(&sink), 0);
        assert_eq!(sink.list_all(&Prefix::root()).await.unwrap().len(), stored);
    }

    #[tokio::test]
    #[ignore = "mounts a small tmpfs, which not everybody may: scripts/test --long"]
    async fn a_read_only_disk_is_a_clear_error() {
        let Some(sink) = mounted("needs_mount::a_read_only_disk_is_a_clear_error", "size=1m")
        else {
            return;
        };
        sink.put_bytes(&key("data/a"), vec![1]).await.unwrap();
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(sink.to_string())
            .status()
            .unwrap();
        assert!(status.success());
        let denied = SinkErrorKind::PermissionDenied;
        assert_eq!(sink.put_bytes(&key("data/b"), vec![1]).await.unwrap_err().kind(), denied);
        assert_eq!(sink.delete_one(&key("data/a")).await.unwrap_err().kind(), denied);
        assert_eq!(sink.get_bytes(&key("data/a")).await.unwrap(), vec![1]);
        let again = LocalSink::create(sink.to_string()).unwrap();
        assert_eq!(again.create(&key("data/b"), vec![1]).await.unwrap_err().kind(), denied);
    }

    #[tokio::test]
    #[ignore = "mounts a small tmpfs, which not everybody may: scripts/test --long"]
    async fn a_repository_on_two_disks_is_a_clear_error() {
        let Some(sink) =
            mounted("needs_mount::a_repository_on_two_disks_is_a_clear_error", "size=1m")
        else {
            return;
        };
        let data = Path::new(&sink.to_string()).join("data");
        std::fs::create_dir(&data).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&data).status().unwrap();
        assert!(status.success());
        let error = sink.put_bytes(&key("data/a"), vec![1]).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Unsupported);
        assert_eq!(temp_files(&sink), 0);
    }
}

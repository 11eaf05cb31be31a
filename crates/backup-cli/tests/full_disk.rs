//! Repositories on a disk without room: on a small file system of its own.

mod needs_mount {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use crate::common::Env;

    /// Where the test finds its file system; unset in the process that only prepares it.
    const PLACE: &str = "BACKUP_TEST_MOUNTED";

    /// Runs this test once more, in a name space with a tmpfs of this size. None once that is done.
    fn mounted(test: &str, size: &str) -> Option<PathBuf> {
        if let Some(place) = std::env::var_os(PLACE) {
            return Some(PathBuf::from(place));
        }
        let dir = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && exec "$3" --exact "$4" --include-ignored --nocapture"#;
        let status = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", script, "sh", size])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(PLACE, dir.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the test failed in its name space, or could not mount: {status}"
        );
        None
    }

    /// Writes a file until the disk is full.
    fn fill(place: &Path) {
        let mut file = std::fs::File::create(place.join("filler")).unwrap();
        for size in [1 << 20, 1 << 12] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Bytes that do not compress, different for each seed.
    fn noise(mut seed: u64, bytes: usize) -> Vec<u8> {
        let next = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        next.take(bytes).collect()
    }

    #[test]
    #[ignore = "mounts a small tmpfs, which not everybody may: scripts/test --long"]
    fn reserve_lets_maintenance_work_on_a_full_disk() {
        let test = "full_disk::needs_mount::reserve_lets_maintenance_work_on_a_full_disk";
        let Some(place) = mounted(test, "24m") else { return };
        let env = Env::new();
        let config = format!(
            "[repositories.main]\nurl = \"{}/repo\"\npassphrase_file = \"key\"\nreserve = \"4MiB\"\n\
             [sources.data]\nkind = \"files\"\npaths = [\"data\"]\n\
             [jobs.docs]\nsource = \"data\"\nrepository = \"main\"\n",
            place.display()
        );
        env.write("backup.toml", &config);
        env.write("key", "secret");
        env.run(&["init", "-q"]).ok();
        let reserve = place.join("repo/x-reserve");
        let reserved = || std::fs::metadata(&reserve).map_or(0, |found| found.blocks() * 512);
        let back_up = |seed: u64, mebibytes: usize| {
            std::fs::create_dir_all(env.path("data")).unwrap();
            std::fs::write(env.path("data/file"), noise(seed, mebibytes << 20)).unwrap();
            env.run(&["run", "docs"])
        };
        back_up(1, 5).ok();
        let old = env.latest();
        assert!(reserved() >= 4 << 20, "allocated by the first run: {}", reserved());
        back_up(2, 1).ok();

        fill(&place);
        let full = back_up(3, 3);
        assert_eq!(full.code, 1, "{}", full.text());
        let hint = "`backup prune --grace 0s`, twice: it may use the reserve of 4.0 MiB";
        assert!(full.stderr.contains(hint), "{}", full.text());
        assert!(reserved() >= 4 << 20, "a backup does not use it");

        let forgotten = env.run(&["forget", &old, "--yes"]).ok();
        assert!(forgotten.stderr.contains("freed the reserve of 4.0 MiB"), "{}", forgotten.text());
        assert_eq!(reserved(), 0);
        env.run(&["prune", "--grace", "0s"]).ok();
        let removed = env.run(&["prune", "--grace", "0s"]).ok();
        assert!(removed.stdout.contains("Removed"), "{}", removed.text());
        assert!(reserved() >= 4 << 20, "allocated again: {}", removed.text());

        std::fs::remove_file(place.join("filler")).unwrap();
        back_up(4, 1).ok();
        assert!(env.run(&["check", "--read-data"]).ok().stdout.contains("No damage found"));
        // A prune meets the full disk first.
        fill(&place);
        let pruned = env.run(&["prune", "--grace", "0s"]).ok();
        assert!(pruned.stderr.contains("freed the reserve"), "{}", pruned.text());
    }
}

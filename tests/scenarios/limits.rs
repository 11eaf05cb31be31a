//! Memory stays within its bounds whatever the amount of data; the measured figures are printed.
//! The sizes of the issue need `BACKUP_TEST_LONG=1`; otherwise smaller ones have to do, with the
//! same bounds or lower ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::support::long::long;
use crate::support::repo::{Repo, options};

const MB: u64 = 1_000_000;

/// Memory of this process, bytes: `VmRSS:` now, `VmHWM:` at its peak so far. Every test is a
/// process of its own under nextest.
fn own_memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux has it");
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[expect(clippy::print_stdout, reason = "the figures are what these tests are for")]
#[track_caller]
fn assert_below(what: &str, peak: u64, limit: u64) {
    println!("{what}: peak memory {} MB, allowed {} MB", peak / MB, limit / MB);
    assert!(peak < limit, "{what}: {peak} bytes");
}

/// Room for very many files: in memory where there is a file system for that.
fn room() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Directories of real files, together at least so many files.
fn real_directories(files: usize) -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registry = cargo.map(|cargo| cargo.join("registry/src"));
    let registries = registry.into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
    let tops = registries
        .flatten()
        .map(|entry| entry.path())
        .chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/share")]);
    let (mut found, mut chosen) = (0, Vec::new());
    for top in tops {
        let mut dirs: Vec<_> =
            fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        dirs.sort();
        for dir in dirs.into_iter().filter(|dir| dir.is_dir() && !dir.is_symlink()) {
            if found >= files {
                return chosen;
            }
            found += count(&dir);
            chosen.push(dir);
        }
    }
    chosen
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count(&entry.path()),
        Ok(kind) => usize::from(kind.is_file()),
        Err(_) => 0,
    };
    entries.map(one).sum()
}

mod needs_time {
    use backup_core::source::Chunking;
    use backup_core::testing::{Data, ScriptedEntry, ScriptedSource};
    use backup_storage::LocalSink;
    use serde_json::Value;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::support::cli::Cli;
    use crate::support::compare::{assert_same, digest};
    use crate::support::process::run;
    use crate::support::repo::restored;
    use crate::support::restic::text;
    use backup_core::testing::tool;

    /// Runs the program with success; returns its summary and its peak memory in bytes.
    fn measured(cli: &Cli, arguments: &[&str]) -> (Value, u64) {
        let note = tempfile::NamedTempFile::new().unwrap();
        let time = tool("time");
        let wrapper = [text(&time), "-f", "%M", "-o", text(note.path())];
        let done = run(&mut cli.command(&wrapper, &[arguments, &["--json"]].concat())).succeeded();
        let summary =
            serde_json::from_str(done.text().lines().last().expect("it ends with a summary"))
                .unwrap();
        let kilobytes: u64 = fs::read_to_string(note.path()).unwrap().trim().parse().unwrap();
        (summary, 1024 * kilobytes)
    }

    /// A stream is backed up and restored by this process: the program has no source of streams
    /// yet.
    async fn stream(chunking: Chunking) {
        let len = if long() { 5_000 * MB } else { 500 * MB };
        let room = tempfile::tempdir().unwrap();
        let repository = room.path().join("repository");
        let repo = Repo::init(Arc::new(LocalSink::without_fsync(&repository).unwrap())).await;
        let data = Data::generated(len, 5);
        let dump = ScriptedEntry::file("/dump", data.clone()).streamed().chunked(chunking);
        // What the test itself is, unoptimised code and generator, is not the backup's.
        let before = own_memory("VmRSS:");
        let report = repo.backup(&ScriptedSource::new().with(dump), &options()).await;
        assert_eq!(report.totals.bytes, len);
        let peak = || own_memory("VmHWM:") - before;
        assert_below(&format!("backup of a stream of {} MB", len / MB), peak(), 150 * MB);

        let cli = Cli::new(&repository, repo.passphrase.reveal());
        let target = room.path().join("restored");
        repo.restore(report.snapshot.unwrap(), &target).await;
        assert_below("and its restore", peak(), 150 * MB);
        let mut expected = Sha256::new();
        let mut at = 0;
        while at < len {
            let piece = data.piece(at);
            expected.update(&piece);
            at += piece.len() as u64;
        }
        assert_eq!(digest(&target.join("dump")), hex::encode(expected.finalize()));
        let (summary, peak) = measured(&cli, &["verify", "latest"]);
        assert_eq!(summary["problems"], Value::Array(Vec::new()));
        assert_below("verify", peak, 150 * MB);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_stream_cut_by_content() {
        stream(Chunking::ContentDefined).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_stream_cut_by_size() {
        stream(Chunking::Fixed(256 << 10)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_tree_of_real_files() {
        let wanted = if long() { 25_000 } else { 6_000 };
        let (room, dirs) = (tempfile::tempdir().unwrap(), real_directories(wanted));
        let repository = room.path().join("repository");
        let cli = Cli::new(&repository, Repo::in_dir(&repository).await.passphrase.reveal());
        let mut arguments = vec!["run"];
        for dir in &dirs {
            arguments.extend(["--source", text(dir)]);
        }
        let (summary, peak) = measured(&cli, &arguments);
        let files = summary["totals"]["files"].as_u64().unwrap();
        assert!(files >= wanted as u64, "{summary}");
        assert_below(
            &format!("backup of {files} files, {} bytes", summary["totals"]["bytes"]),
            peak,
            150 * MB,
        );
        let (_, peak) = measured(&cli, &arguments);
        assert_below("unchanged", peak, 150 * MB);
        let target = room.path().join("restored");
        let (_, peak) = measured(&cli, &["restore", "latest", "--target", text(&target)]);
        assert_below("restore", peak, 150 * MB);
        for dir in &dirs {
            assert_same(dir, &restored(&target, dir));
        }
        let (summary, peak) = measured(&cli, &["check", "--read-data"]);
        assert_eq!(summary["problems"], Value::Array(Vec::new()));
        assert_below("check of all data", peak, 150 * MB);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_empty_files() {
        let (dirs, limit) = if long() { (1000, 400 * MB) } else { (100, 100 * MB) };
        let (source, room) = (room(), room());
        for dir in 0..dirs {
            let dir = source.path().join(format!("dir {dir}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..1000 {
                fs::File::create(dir.join(format!("file {file}"))).unwrap();
            }
        }
        let repository = room.path().join("repository");
        let cli = Cli::new(&repository, Repo::in_dir(&repository).await.passphrase.reveal());
        let back_up = ["run", "--source", text(source.path())];
        let (summary, peak) = measured(&cli, &back_up);
        assert_eq!(summary["totals"]["files"], dirs * 1000);
        assert_below(&format!("backup of {dirs} 000 empty files"), peak, limit);
        let (summary, peak) = measured(&cli, &back_up);
        assert_eq!(summary["files"]["unmodified"], dirs * 1000);
        assert_below("unchanged", peak, limit);
        let target = room.path().join("restored");
        let (summary, peak) = measured(&cli, &["restore", "latest", "--target", text(&target)]);
        assert_eq!(summary["files_written"], dirs * 1000);
        assert_below("restore", peak, limit);
        for arguments in [&["check"][..], &["verify", "latest"]] {
            let (summary, peak) = measured(&cli, arguments);
            assert_eq!(summary["problems"], Value::Array(Vec::new()));
            assert_below(arguments[0], peak, limit);
        }
    }
}

mod needs_restic_new_and_time {
    use super::*;
    use crate::support::cli::Cli;
    use crate::support::restic::{Restic, text};
    use backup_core::testing::tool;
    use std::process::Command;

    /// Peak memory of a command that succeeds, in bytes.
    fn peak(cli: &Cli, arguments: &[&str]) -> u64 {
        let note = tempfile::NamedTempFile::new().unwrap();
        let time = tool("time");
        let wrapper = [text(&time), "-f", "%M", "-o", text(note.path())];
        let mut command: Command = cli.command(&wrapper, arguments);
        crate::support::process::run(&mut command).succeeded();
        1024 * fs::read_to_string(note.path()).unwrap().trim().parse::<u64>().unwrap()
    }

    /// One directory, as stock restic stores it.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_directory_of_a_million_entries() {
        let (files, limit) = if long() { (1_000_000, 512 * MB) } else { (100_000, 200 * MB) };
        let (source, room) = (room(), room());
        let top = source.path().join("top");
        fs::create_dir(&top).unwrap();
        for file in 0..files {
            fs::write(top.join(format!("file number {file}")), [b'x'; 1]).unwrap();
        }
        let repository = room.path().join("repository");
        let restic = Restic::new("restic-new", &repository, "secret");
        restic.init("2");
        restic.backup(&[&top]);
        let cli = Cli::new(&repository, "secret");
        for arguments in [&["check"][..], &["verify", "latest"]] {
            assert_below(arguments[0], peak(&cli, arguments), limit);
        }
        let target = room.path().join("restored");
        let restore = ["restore", "latest", "--target", text(&target)];
        assert_below("restore", peak(&cli, &restore), limit);
        let restored = crate::support::repo::restored(&target, &top);
        assert_eq!(fs::read_dir(restored).unwrap().count(), files);
    }
}

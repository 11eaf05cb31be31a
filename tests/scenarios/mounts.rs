//! `restore --delete` leaves file systems alone that were mounted since the backup, bind mounts
//! included. Runs in a mount namespace of its own.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::process::{Outcome, run};
use crate::support::tree::write;

/// Restores `source` in place after mounting each directory over another.
fn restored(cli: &Cli, mounts: &[(&Path, &Path)]) -> Outcome {
    let mount = |(from, at): &(&Path, &Path)| {
        format!("mount --bind '{}' '{}' && ", from.display(), at.display())
    };
    let under: String = mounts.iter().map(mount).chain(["exec \"$@\"".to_owned()]).collect();
    let root: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let wrapper = [&["unshare", "--mount"][..], root, &["sh", "-c", &under, "sh"]].concat();
    let arguments =
        ["restore", "latest", "--in-place", "--if-exists", "replace", "--delete", "--yes"];
    run(&mut cli.command(&wrapper, &arguments))
}

/// A file system with a file in it, and one where the backup has a directory, too.
fn mounted(directory: TempDir) -> TempDir {
    write(directory.path().join("precious"), "precious");
    write(directory.path().join("sub/precious"), "precious");
    directory
}

#[test]
fn mounted_file_systems_are_not_emptied() {
    let (source, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| source.path().join(name);
    write(at("file"), "content");
    fs::create_dir(at("empty")).unwrap();
    write(at("full/sub/own"), "own");
    let cli = Cli::new(&room.path().join("repository"), "correct horse");
    cli.run(&["init"]).succeeded();
    cli.run(&["run", "--source", source.path().to_str().unwrap()]).succeeded();
    // One is a part of the same file system, the other is in memory.
    let bind = mounted(tempfile::tempdir().unwrap());
    let memory = mounted(tempfile::tempdir_in("/dev/shm").unwrap());
    for other in [&bind, &memory] {
        // A directory that the backup saw to be absent holds a mount point, too.
        write(at("later/file"), "later");
        fs::create_dir_all(at("later/mount")).unwrap();
        let over = [at("empty"), at("full"), at("later/mount")];
        let mounts: Vec<(&Path, &Path)> = over.iter().map(|at| (other.path(), &**at)).collect();
        let done = restored(&cli, &mounts);
        assert_eq!(done.code, 3, "{done}");
        for place in &over {
            let text = place.display().to_string();
            assert!(done.stderr.contains(&text), "{text}: {done}");
        }
        for name in ["precious", "sub/precious"] {
            assert_eq!(fs::read_to_string(other.path().join(name)).unwrap(), "precious");
        }
        assert!(!at("later/file").exists() && at("later/mount").exists());
    }
    // Without the mounts everything absent goes.
    let done = restored(&cli, &[]);
    assert_eq!(done.code, 0, "{done}");
    assert!(!at("later").exists() && at("full/sub/own").exists());
}

//! Temporary files: their names, and what processes that died have left behind.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;
use rustix::process::Pid;

use super::root::{Root, TEMP_DIR};

/// Seconds after which a file that nobody has written to counts as left behind.
const OLD: i64 = 24 * 60 * 60;

/// What tells this process from an earlier one with the same number, and from those of other
/// machines.
fn nonce() -> u64 {
    static NONCE: OnceLock<u64> = OnceLock::new();
    *NONCE.get_or_init(rand::random)
}

/// A name that no other file has: process number, random number of the process, serial number.
pub(super) fn new_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMP_DIR}/{}-{:016x}-{serial}", std::process::id(), nonce())
}

/// Whether the process that chose `name` is gone, as far as this machine can tell. Names of other
/// forms are not ours.
fn is_dead(name: &str) -> bool {
    let mut parts = name.split('-');
    let (Some(pid), Some(process)) = (parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(pid), Ok(process)) = (pid.parse::<i32>(), u64::from_str_radix(process, 16)) else {
        return false;
    };
    if u32::try_from(pid) == Ok(std::process::id()) {
        // In a container, every run may have the same number.
        return process != nonce();
    }
    match Pid::from_raw(pid) {
        Some(pid) => rustix::process::test_kill_process(pid) == Err(Errno::SRCH),
        None => false,
    }
}

/// Removes old temporary files of dead processes, as far as that is possible. `fresh` was made just
/// now: its age is the file system's own idea of the time, which on a network differs from ours.
pub(super) fn remove(root: &Root, fresh: &File) {
    let Ok(now) = rustix::fs::fstat(fresh) else {
        return;
    };
    let Ok(dir) = root.open_dir(TEMP_DIR) else { return };
    let Ok(entries) = Dir::read_from(&dir) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if now.st_mtime.saturating_sub(stat.st_mtime) > OLD && is_dead(name) {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_are_gone_are_dead() {
        let own = new_name();
        let own = own.strip_prefix("x-tmp/").unwrap();
        assert!(!is_dead(own));
        let same_number = format!("{}-{:016x}-0", std::process::id(), nonce().wrapping_add(1));
        assert!(is_dead(&same_number));
        // Numbers end at 2^22.
        assert!(is_dead("2147483646-00000000000000aa-0"));
        for foreign in ["", "x", "1", "notes.txt", "12-zz-0", "0-00-0", "-1-00-0"] {
            assert!(!is_dead(foreign), "{foreign}");
        }
    }
}

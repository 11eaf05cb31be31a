//! Temporary files: their names, and removing those that dead processes left behind.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;
use rustix::process::Pid;

use super::root::{Root, TEMP_DIR};

/// Seconds since the last write after which a file of a dead process counts as left behind.
const OLD: i64 = 24 * 60 * 60;
/// Seconds since the last write after which any file of another process counts as left behind. A
/// process number may be in use again, or belong to another machine or container. No upload stays
/// open that long between two writes.
const VERY_OLD: i64 = 7 * OLD;

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

/// The process that chose the name of a temporary file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: Pid,
    nonce: u64,
}

impl Owner {
    /// The owner of the file `name`; `None` for names that this program does not choose.
    fn of(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let number: i32 = parts.next()?.parse().ok()?;
        let pid = Pid::from_raw(number).filter(|_| number > 0)?;
        let nonce = u64::from_str_radix(parts.next()?, 16).ok()?;
        let _serial: u64 = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { pid, nonce })
    }

    fn is_this_process(self) -> bool {
        self.nonce == nonce() && self.pid == rustix::process::getpid()
    }

    /// True if the process is gone, as far as this machine shows.
    fn is_dead(self) -> bool {
        if self.pid == rustix::process::getpid() {
            // In a container, every run may have the same number.
            return self.nonce != nonce();
        }
        rustix::process::test_kill_process(self.pid) == Err(Errno::SRCH)
    }

    /// True if nothing writes to a file of this owner that was last written `age` seconds ago.
    fn has_left(self, age: i64) -> bool {
        !self.is_this_process() && (age > VERY_OLD || age > OLD && self.is_dead())
    }
}

/// Removes temporary files that other processes left behind, as far as that is possible. `fresh` was
/// made just now: its age is the file system's own idea of the time, which on a network differs from
/// ours.
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
        let age = now.st_mtime.saturating_sub(stat.st_mtime);
        if Owner::of(name).is_some_and(|owner| owner.has_left(age)) {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_of_a_file_is_dead_after_the_end_of_the_process() {
        let is_dead = |name: &str| Owner::of(name).is_some_and(Owner::is_dead);
        let own = new_name();
        let own = own.strip_prefix("x-tmp/").unwrap();
        assert!(!is_dead(own));
        let same_number = format!("{}-{:016x}-0", std::process::id(), nonce().wrapping_add(1));
        assert!(is_dead(&same_number));
        // Numbers end at 2^22.
        assert!(is_dead("2147483646-00000000000000aa-0"));
        let foreign =
            ["", "x", "1", "notes.txt", "12-zz-0", "0-00-0", "-1-00-0", "12-00", "12-00-0-1"];
        for foreign in foreign {
            assert_eq!(Owner::of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn file_of_this_process_is_never_left_behind() {
        let own = new_name();
        let own = Owner::of(own.strip_prefix("x-tmp/").unwrap()).unwrap();
        assert!(!own.has_left(i64::MAX));
        // Process 1 always runs.
        let other = Owner::of("1-00000000000000aa-0").unwrap();
        assert!(!other.has_left(VERY_OLD) && other.has_left(VERY_OLD + 1));
    }
}

//! Where things are kept that must not get lost while this machine needs them.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backup_core::format::require_known_json;

use crate::environment::Environment;

/// Version of the JSON files in the state directory: their field `version`, which stands for 1
/// where it is missing.
pub const VERSION: u32 = 1;

/// Refuses the content of a state file that a newer version of this program wrote.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`]; the message names both versions.
pub fn require_known(json: &[u8]) -> io::Result<()> {
    require_known_json("the file", json, VERSION)
        .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error.to_string()))
}

/// The directory for what must survive a restart: `BACKUP_STATE_DIR`, else `backup` in the user's
/// state directory. `None` if the user has no place.
#[must_use]
pub fn dir(env: &Environment) -> Option<PathBuf> {
    if let Some(dir) = env.get("BACKUP_STATE_DIR") {
        // The same from every directory that the program is started in.
        return std::path::absolute(Path::new(dir)).ok();
    }
    let user = match (env.get("XDG_STATE_HOME"), env.get("HOME")) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(home)) => Path::new(home).join(".local/state"),
        (None, None) => return None,
    };
    user.is_absolute().then(|| user.join("backup"))
}

/// Directories that are shared with other programs: their mode is never changed.
const SHARED: [&str; 16] = [
    "/",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// Removes the rights of other users on an existing state directory (mode 0700). Returns true if
/// the mode changed. Other directories stay as they are: missing ones, those of other users, those
/// with the sticky bit, and shared ones such as `/var/lib` or the home directory.
///
/// # Errors
/// Errors of the file system.
pub fn tighten(dir: &Path, env: &Environment) -> io::Result<bool> {
    let known = match std::fs::metadata(dir) {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mode = known.mode() & 0o7777;
    let is_own = known.is_dir() && known.uid() == nix::unistd::geteuid().as_raw();
    if mode & 0o077 == 0 || mode & 0o1000 != 0 || !is_own {
        return Ok(false);
    }
    let real = std::fs::canonicalize(dir)?;
    let home = env.get("HOME").and_then(|home| std::fs::canonicalize(home).ok());
    if SHARED.iter().any(|shared| real == Path::new(shared)) || home.as_ref() == Some(&real) {
        return Ok(false);
    }
    std::fs::set_permissions(&real, Permissions::from_mode(0o700))?;
    Ok(true)
}

/// Names by which the system knows file systems of this machine's own disks and memory: ext, XFS,
/// Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs, ReiserFS, ramfs (`linux/magic.h`, and those of the
/// file systems that are not in it).
const LOCAL: [u32; 10] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
    0x5265_4973,
    0x8584_58f6,
];

/// Whether a file lies on a file system of this machine alone. What is not known counts as
/// another's.
#[must_use]
pub fn is_local(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| LOCAL.contains(&(found.f_type as u32)))
}

/// Whose a file is, if that is not the user of this process.
pub(crate) fn owner(path: &Path) -> Option<String> {
    let uid = nix::unistd::Uid::from_raw(std::fs::metadata(path).ok()?.uid());
    let name = || {
        nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .map_or_else(|| uid.to_string(), |user| user.name)
    };
    (uid != nix::unistd::geteuid()).then(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_before_state_directory_before_home() {
        let of = |variables: &[(&str, &str)]| dir(&variables.iter().copied().collect());
        let (own, xdg, home) =
            (("BACKUP_STATE_DIR", "/s"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h"));
        assert_eq!(of(&[own, xdg, home]), Some("/s".into()));
        assert_eq!(of(&[xdg, home]), Some("/x/backup".into()));
        assert_eq!(of(&[home]), Some("/h/.local/state/backup".into()));
        assert_eq!(of(&[("HOME", "h")]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn newer_files_are_refused_with_both_versions() {
        for known in ["{}", r#"{"version":1}"#, "{", r#"{"version":"x"}"#] {
            require_known(known.as_bytes()).unwrap();
        }
        let error = require_known(br#"{"alerts":7,"version":2}"#).unwrap_err();
        let text = "the file was written by format 2, this program reads up to 1";
        assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::Unsupported, text));
    }

    #[test]
    fn tighten_removes_the_rights_of_others() {
        let base = tempfile::tempdir().unwrap();
        let (state, env) = (base.path().join("state"), Environment::default());
        let set = |mode| std::fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
        let mode = || std::fs::metadata(&state).unwrap().mode() & 0o7777;
        assert!(!tighten(&state, &env).unwrap(), "the directory is missing");
        std::fs::create_dir(&state).unwrap();
        for open in [0o755, 0o750, 0o777] {
            set(open);
            assert!(tighten(&state, &env).unwrap() && !tighten(&state, &env).unwrap());
            assert_eq!(mode(), 0o700);
        }
        // A shared directory, for instance by a wrong BACKUP_STATE_DIR.
        let home: Environment = [("HOME", state.as_os_str())].into_iter().collect();
        for (open, env) in [(0o1777, &env), (0o755, &home)] {
            set(open);
            assert!(!tighten(&state, env).unwrap());
            assert_eq!(mode(), open);
        }
    }

    #[test]
    fn what_another_machine_may_see_is_not_local() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_local(dir.path()), "{:#x}", rustix::fs::statfs(dir.path()).unwrap().f_type);
        assert!(!is_local(Path::new("/proc")) && !is_local(&dir.path().join("none")));
        assert_eq!(owner(dir.path()), None);
    }
}

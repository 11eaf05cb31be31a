//! The disks that hold a file: two files on one disk are lost together.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::state;

/// Where the system describes its block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// The place that holds a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Medium {
    /// An object store.
    Store,
    /// A file system of other machines.
    Network,
    /// Disks of this machine, by the number of the file system and, where the system reports them,
    /// by the names of the disks below it.
    Disks {
        /// The number of the file system.
        file_system: u64,
        /// The names of the disks; none where the system does not report them.
        disks: BTreeSet<String>,
    },
    /// Unknown: the file cannot be read.
    #[default]
    Unknown,
}

impl Medium {
    /// The place of a file or directory.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let Ok(metadata) = fs::metadata(path) else { return Self::Unknown };
        if !state::is_local(path) {
            return Self::Network;
        }
        let device = metadata.dev();
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let mut disks = BTreeSet::new();
        collect(&Path::new(DEVICES).join(number), &mut disks);
        Self::Disks { file_system: device, disks }
    }

    /// Returns `true` if two places are on one disk; none if that is unknown.
    #[must_use]
    pub fn shares_disk(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) | (Self::Network, Self::Network) => None,
            (
                Self::Disks { file_system: a, disks: first },
                Self::Disks { file_system: b, disks: second },
            ) => {
                if a == b || !first.is_disjoint(second) {
                    return Some(true);
                }
                (!first.is_empty() && !second.is_empty()).then_some(false)
            }
            // Two object stores differ by their addresses.
            _ => Some(false),
        }
    }
}

/// Adds the names of the disks below a block device: of a partition its disk, of a mapped device
/// or an array the disks that it is made of.
fn collect(device: &Path, disks: &mut BTreeSet<String>) {
    let Ok(device) = fs::canonicalize(device) else { return };
    if device.join("partition").exists() {
        if let Some(disk) = device.parent() {
            collect(disk, disks);
        }
        return;
    }
    let below: Vec<_> =
        fs::read_dir(device.join("slaves")).into_iter().flatten().flatten().collect();
    for part in &below {
        collect(&part.path(), disks);
    }
    if below.is_empty()
        && let Some(name) = device.file_name()
    {
        disks.insert(name.to_string_lossy().into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(file_system: u64, names: &[&str]) -> Medium {
        Medium::Disks { file_system, disks: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn media_share_a_disk_only_on_evidence() {
        let cases = [
            (disks(1, &["sda"]), disks(1, &["sda"]), Some(true)),
            (disks(1, &["sda"]), disks(2, &["sda"]), Some(true)),
            (disks(1, &["sda"]), disks(2, &["sdb"]), Some(false)),
            // An array.
            (disks(1, &["sda", "sdb"]), disks(2, &["sdb"]), Some(true)),
            // File systems whose disks the system does not report.
            (disks(1, &[]), disks(1, &[]), Some(true)),
            (disks(1, &[]), disks(2, &["sda"]), None),
            (Medium::Store, disks(1, &["sda"]), Some(false)),
            (Medium::Network, disks(1, &["sda"]), Some(false)),
            (Medium::Network, Medium::Network, None),
            (Medium::Unknown, Medium::Store, None),
        ];
        for (first, second, expected) in cases {
            assert_eq!(first.shares_disk(&second), expected, "{first:?} {second:?}");
            assert_eq!(second.shares_disk(&first), expected, "{second:?} {first:?}");
        }
    }

    #[test]
    fn files_of_one_directory_share_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let (whole, file) = (Medium::of(dir.path()), Medium::of(&dir.path().join("file")));
        assert_eq!(whole.shares_disk(&file), Some(true), "{whole:?} {file:?}");
        assert_eq!(Medium::of(&dir.path().join("none")), Medium::Unknown);
        assert_eq!(Medium::of(Path::new("/proc/version")), Medium::Network);
    }

    #[test]
    fn partitions_and_arrays_lead_to_their_disks() {
        let dir = tempfile::tempdir().unwrap();
        let disk = |name: &str| dir.path().join("block").join(name);
        for name in ["sda/sda1", "sdb", "dm-0/slaves"] {
            fs::create_dir_all(disk(name)).unwrap();
        }
        fs::write(disk("sda/sda1/partition"), "1\n").unwrap();
        std::os::unix::fs::symlink(disk("sda/sda1"), disk("dm-0/slaves/sda1")).unwrap();
        std::os::unix::fs::symlink(disk("sdb"), disk("dm-0/slaves/sdb")).unwrap();
        let found = |name: &str| {
            let mut found = BTreeSet::new();
            collect(&disk(name), &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(found("sda/sda1"), ["sda"]);
        assert_eq!(found("dm-0"), ["sda", "sdb"]);
        assert!(found("none").is_empty());
    }
}

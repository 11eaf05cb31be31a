//! Comparing two directories: every attribute that a restore must bring back, every difference by
//! name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What is compared of one node, as text by name of the attribute.
type Facts = BTreeMap<String, String>;

/// Fails with a list of the differences unless both trees are the same.
#[track_caller]
pub(crate) fn assert_same(expected: &Path, found: &Path) {
    let differences = differences(expected, found);
    assert!(
        differences.is_empty(),
        "{} is not {}:\n{}",
        found.display(),
        expected.display(),
        differences.join("\n")
    );
}

/// Every difference: `path: attribute: expected, found`.
pub(crate) fn differences(expected: &Path, found: &Path) -> Vec<String> {
    let (expected, found) = (survey(expected), survey(found));
    let paths: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let mut differences = Vec::new();
    for path in paths {
        let shown = path.display();
        match (expected.get(path), found.get(path)) {
            (Some(expected), Some(found)) => {
                let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
                for name in names {
                    let show = |facts: &Facts| {
                        facts.get(name).map_or("nothing", String::as_str).to_owned()
                    };
                    let (expected, found) = (show(expected), show(found));
                    if expected != found {
                        differences
                            .push(format!("{shown}: {name}: expected {expected}, found {found}"));
                    }
                }
            }
            (Some(_), None) => differences.push(format!("{shown}: missing")),
            _ => differences.push(format!("{shown}: should not be there")),
        }
    }
    differences
}

fn survey(top: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut nodes = BTreeMap::new();
    // All names of one inode, under the first of them.
    let mut inodes: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        // Joining an empty path would add a slash, which follows a link.
        let full = if path.as_os_str().is_empty() { top.to_path_buf() } else { top.join(&path) };
        let metadata = fs::symlink_metadata(&full)
            .unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        nodes.insert(path.clone(), facts(&full, &metadata));
        if metadata.is_dir() {
            let children = fs::read_dir(&full).unwrap();
            stack.extend(children.map(|child| path.join(child.unwrap().file_name())));
        } else if metadata.nlink() > 1 {
            inodes.entry((metadata.dev(), metadata.ino())).or_default().push(path);
        }
    }
    for mut names in inodes.into_values() {
        names.sort();
        let first = names[0].display().to_string();
        for name in names {
            let facts = nodes.entry(name).or_default();
            facts.insert("hard link".to_owned(), first.clone());
        }
    }
    nodes
}

fn facts(path: &Path, metadata: &Metadata) -> Facts {
    let kind = metadata.file_type();
    let mut facts = Facts::new();
    let mut add = |name: &str, value: String| facts.insert(name.to_owned(), value);
    add("type and mode", format!("{:o}", metadata.mode()));
    add("owner", format!("{}:{}", metadata.uid(), metadata.gid()));
    add("mtime", format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
    if kind.is_symlink() {
        let target = fs::read_link(path).unwrap();
        add("target", target.as_os_str().as_bytes().escape_ascii().to_string());
    }
    if kind.is_block_device() || kind.is_char_device() {
        add("device", format!("{:x}", metadata.rdev()));
    }
    if kind.is_file() {
        add("size", metadata.len().to_string());
        add("content", digest(path));
    }
    for name in xattr::list(path).into_iter().flatten() {
        let value = xattr::get(path, &name).unwrap().unwrap_or_default();
        add(&format!("attribute {}", name.display()), value.escape_ascii().to_string());
    }
    facts
}

/// SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

//! Whether what was restored is what was backed up: names and contents.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use backup_benches::Result;

/// Most tools restore files below the target at the paths that they had, some right there.
pub(crate) fn require(source: &Path, target: &Path) -> Result<()> {
    let deep = target.join(source.strip_prefix("/").unwrap_or(source));
    same(source, if deep.exists() { &deep } else { target })
}

fn same(one: &Path, other: &Path) -> Result<()> {
    let is_dir = fs::symlink_metadata(one)?.is_dir();
    if fs::symlink_metadata(other)?.is_dir() != is_dir {
        return Err(
            format!("{} has another file type than {}", other.display(), one.display()).into()
        );
    }
    if !is_dir {
        return same_content(one, other);
    }
    let (ours, theirs) = (entries(one)?, entries(other)?);
    if ours.keys().ne(theirs.keys()) {
        return Err(format!("{} has other entries than {}", other.display(), one.display()).into());
    }
    ours.values().zip(theirs.values()).try_for_each(|(one, other)| same(one, other))
}

fn entries(dir: &Path) -> Result<BTreeMap<OsString, PathBuf>> {
    fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| (entry.file_name(), entry.path())).map_err(Into::into))
        .collect()
}

fn same_content(one: &Path, other: &Path) -> Result<()> {
    let (mut ours, mut theirs) = (File::open(one)?, File::open(other)?);
    let mut buffers = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let is_same = loop {
        if ours.metadata()?.len() != theirs.metadata()?.len() {
            break false;
        }
        let read = ours.read(&mut buffers.0)?;
        if read == 0 {
            break true;
        }
        theirs.read_exact(&mut buffers.1[..read])?;
        if buffers.0[..read] != buffers.1[..read] {
            break false;
        }
    };
    if is_same {
        Ok(())
    } else {
        Err(format!("the content of {} differs from {}", other.display(), one.display()).into())
    }
}

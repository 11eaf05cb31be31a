//! Where things lie in a snapshot, below `/redis/<node>`.
//!
//! ```text
//! dump.rdb                                  as the server sent it
//! node.json                                 what it stands for, what it holds
//! since/<replication id>/<offset>.resp      commands since, of incremental and differential snapshots
//! log/<replication id>/<offset>.resp        captured commands, from this offset on
//! ```
//!
//! Of a cluster there are as many nodes as it has masters, each by the address of the master,
//! without a log of their own: what was captured lies by slots, as a failover gives them another
//! master.
//!
//! ```text
//! /redis/log/<slots>/<replication id>/<offset>.resp
//! ```

use backup_core::source::EntryPath;

/// The directory of all Redis data in a snapshot.
pub(super) const TOP: &str = "redis";
const LOG: &[u8] = b"log";
const SINCE: &[u8] = b"since";

/// Paths of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    node: EntryPath,
}

impl Layout {
    /// Of the node that is called `name`.
    pub(super) fn of(name: &str) -> Self {
        // A name is one name of a directory.
        let safe =
            |c: char| if c.is_ascii_alphanumeric() || "._-:[]".contains(c) { c } else { '_' };
        let name: String = name.chars().map(safe).collect();
        let name = if name.trim_matches('.').is_empty() { format!("_{name}") } else { name };
        Self { node: EntryPath::root().join(TOP.as_bytes()).join(name.as_bytes()) }
    }

    pub(super) fn at(node: EntryPath) -> Self {
        Self { node }
    }

    pub(super) fn node(&self) -> EntryPath {
        self.node.clone()
    }

    /// The name of the node, as a directory has it.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(self.node.name()).into_owned()
    }

    pub(super) fn dump(&self) -> EntryPath {
        self.node.join(b"dump.rdb")
    }

    pub(super) fn description(&self) -> EntryPath {
        self.node.join(b"node.json")
    }

    /// Captured commands.
    pub(super) fn log(&self, id: &str, offset: u64) -> EntryPath {
        self.node.join(LOG).join(id.as_bytes()).join(file_name(offset).as_bytes())
    }

    pub(super) fn since_dir(&self) -> EntryPath {
        self.node.join(SINCE)
    }

    /// Commands since an earlier snapshot.
    pub(super) fn since(&self, id: &str, offset: u64) -> EntryPath {
        self.since_dir().join(id.as_bytes()).join(file_name(offset).as_bytes())
    }
}

/// Where the captured commands of clusters are, and how a directory there is called.
pub(super) fn cluster_log() -> EntryPath {
    EntryPath::root().join(TOP.as_bytes()).join(LOG)
}

/// Captured commands of the master that has the slots which the directory `slots` stands for.
pub(super) fn cluster_log_file(slots: &str, id: &str, offset: u64) -> EntryPath {
    cluster_log().join(slots.as_bytes()).join(id.as_bytes()).join(file_name(offset).as_bytes())
}

/// The directory of the slots and the replication id that a path of [`cluster_log_file`] names.
pub(super) fn of_cluster_log(path: &str) -> Option<(&str, &str)> {
    let mut names = path.strip_prefix("/redis/log/")?.split('/');
    Some((names.next()?, names.next()?))
}

/// So that names sort as their offsets do.
fn file_name(offset: u64) -> String {
    format!("{offset:020}.resp")
}

/// The offset of the first byte of a file: of its name, and of what is behind `@` if it stands
/// beside a hole.
pub(super) fn offset_of(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?;
    let (name, hole) = match name.split_once('@') {
        Some((name, begins)) => (name, begins.parse().ok()?),
        None => (name, 0),
    };
    let offset = name.strip_suffix(".resp")?.parse::<u64>().ok()?.checked_add(hole)?;
    // Servers count in 64 bits with a sign.
    Some(offset).filter(|offset| *offset <= u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_and_tell_their_offset() {
        let layout = Layout::of("db.example:6379");
        assert_eq!(layout.dump().display(), "/redis/db.example:6379/dump.rdb");
        assert_eq!(Layout::of("../x").node().display(), "/redis/.._x");
        assert_eq!(Layout::of("..").node().display(), "/redis/_..");
        let path = layout.log("abc", 42).display().into_owned();
        assert_eq!(offset_of(&path), Some(42));
        assert_eq!(offset_of(&format!("{path}@8")), Some(50));
        assert_eq!(offset_of("/redis/x/dump.rdb"), None);
        let path = cluster_log_file("0-5460", "abc", 42).display().into_owned();
        assert_eq!((offset_of(&path), of_cluster_log(&path)), (Some(42), Some(("0-5460", "abc"))));
        assert_eq!(of_cluster_log("/redis/x:1/log/abc/42.resp"), None);
    }
}

//! Where things lie in a snapshot, below `/postgres/<system id>/logical`.
//!
//! ```text
//! manifest.json                      the server and its databases
//! globals.sql                        roles, memberships, tablespaces
//! <database>/manifest.json           tables, their files, sequences, digests
//! <database>/database.sql            the database itself: encoding, owner, settings, grants
//! <database>/pre-data.sql            everything that has to be there before the data
//! <database>/data/<schema>.<table>.copy, or .0.copy, .1.copy … of a large table
//! <database>/sequences.sql           values of sequences
//! <database>/large-objects.sql       large objects, if there are any
//! <database>/post-data.sql           indexes, constraints, triggers, rules, policies; fills materialized views
//! ```

use backup_core::source::EntryPath;

use super::super::layout::Layout;

/// Most files of data that lie in one directory.
const FLAT: usize = 9_000;
/// Longest name of a file before its ending, bytes.
const LONGEST: usize = 200;

/// Paths of the logical backup of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    top: EntryPath,
}

impl Place {
    pub(super) fn of(system_id: u64) -> Self {
        Self::at(&Layout::of(system_id).cluster())
    }

    /// Below the directory of a cluster.
    pub(super) fn at(cluster: &EntryPath) -> Self {
        Self { top: cluster.join(b"logical") }
    }

    pub(super) fn top(&self) -> EntryPath {
        self.top.clone()
    }

    pub(super) fn manifest(&self) -> EntryPath {
        self.top.join(b"manifest.json")
    }

    pub(super) fn globals(&self) -> EntryPath {
        self.top.join(b"globals.sql")
    }

    pub(super) fn database(&self, directory: &str) -> EntryPath {
        self.top.join(directory.as_bytes())
    }
}

/// A name as a file's: no dots, so that those between names can be told.
pub(super) fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '/' | '%' | '.') || c.is_control() {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes)
                .bytes()
                .for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Below the database's directory: the file of a table, or of a part of it, if there are so many
/// files.
pub(super) fn data_file(
    schema: &str,
    table: &str,
    oid: u32,
    part: Option<usize>,
    files: usize,
) -> String {
    let mut stem = format!("{}.{}", file_name(schema), file_name(table));
    if stem.len() > LONGEST {
        stem = format!("table.{oid}");
    }
    let shard = if files > FLAT { format!("~{:02x}/", oid % 256) } else { String::new() };
    match part {
        Some(part) => format!("data/{shard}{stem}.{part}.copy"),
        None => format!("data/{shard}{stem}.copy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        assert_eq!(data_file("public", "orders", 1, None, 5), "data/public.orders.copy");
        assert_eq!(data_file("a.b", "c/d%", 1, Some(3), 5), "data/a%2Eb.c%2Fd%25.3.copy");
        assert_ne!(data_file("a.b", "c", 1, None, 5), data_file("a", "b.c", 1, None, 5));
        assert_eq!(data_file("é", "..", 1, None, 5), "data/é.%2E%2E.copy");
        assert_eq!(
            data_file(&"x".repeat(150), &"y".repeat(60), 258, None, 10_000),
            "data/~02/table.258.copy"
        );
        assert_eq!(file_name("a\nb"), "a%0Ab");
    }
}

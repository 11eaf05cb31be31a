//! Entries that are copied as they are, although no restore restores them.

use crate::check::Problem;
use crate::context::Context;
use crate::error::Result;
use crate::event::WarningKind;
use crate::format::Loss;
use crate::repository::{BlobReader, SnapshotInfo, TreeWalk};
use crate::source::EntryPath;

/// Entries that are named per snapshot.
const MAX_NAMED: usize = 20;

/// The entries of a snapshot that no program can restore. Emits a warning for each one that lacks
/// some of its metadata, or is of a type that this program does not support.
pub(super) async fn entries(
    reader: &BlobReader,
    info: &SnapshotInfo,
    cx: &Context,
) -> Result<Vec<Problem>> {
    let snapshot = info.id.short();
    let mut problems = Vec::new();
    let mut more = 0_u64;
    let mut name = |what: &str, path: &EntryPath, message: String| {
        if problems.len() == MAX_NAMED {
            more += 1;
            return;
        }
        let affects = vec![format!("snapshot {snapshot}: {path}")];
        problems.push(Problem { object: format!("{what} {path}"), message, affects });
    };
    let root = info.snapshot.tree;
    let mut walk = TreeWalk::new(reader.clone(), root, EntryPath::root()).with_faults();
    loop {
        cx.check_cancelled()?;
        let next = walk.next().await;
        for (path, fault) in walk.take_faults() {
            match fault.loss {
                Loss::Entry => name("entry", &path, fault.message),
                Loss::Metadata => {
                    cx.events.warn(WarningKind::Metadata, path.to_string(), fault.message);
                }
                Loss::Unsupported => {
                    cx.events.warn(WarningKind::Other, path.to_string(), fault.message);
                }
            }
        }
        match next {
            Ok(None) => break,
            Ok(Some((path, node))) => {
                if let Some((what, message)) = reader.misfit(&node) {
                    name(what, &path, message);
                }
            }
            // A directory that lies too deep.
            Err(error) if error.is_damage() => name("snapshot", &EntryPath::root(), error.chain()),
            Err(error) => return Err(error),
        }
    }
    if more > 0 {
        let object = format!("snapshot {snapshot}");
        let message = format!("has {more} more entries that cannot be restored");
        problems.push(Problem { affects: vec![object.clone()], object, message });
    }
    Ok(problems)
}

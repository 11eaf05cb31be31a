//! Large objects on their way into a database.

use std::collections::HashSet;

use backup_core::event::WarningKind;
use backup_core::source::{IfExists, SourceResult};
use backup_core::words;
use bytes::BytesMut;
use futures::TryStreamExt as _;

use super::super::error::writing;
use super::writer::Writer;

/// Statements of large objects that go together, bytes.
const TOGETHER: usize = 1 << 20;

impl Writer<'_> {
    /// Writes large objects under their numbers in the snapshot. Returns the bytes of their
    /// statements, and how many warnings there were.
    pub(super) async fn large_objects(&self) -> SourceResult<(u64, u64)> {
        if !self.plan.large_objects {
            return Ok((0, 0));
        }
        let mut content = self.job.dump.content(self.plan.stored, "large-objects.sql").await?;
        let mut kept = self.large_objects_kept().await?;
        let (mut waiting, mut bytes) = (BytesMut::new(), 0);
        loop {
            let piece = content.try_next().await?;
            let is_last = piece.is_none();
            if let Some(piece) = piece {
                bytes += piece.len() as u64;
                waiting.extend_from_slice(&piece);
            }
            if waiting.len() < TOGETHER && !is_last {
                continue;
            }
            // Statements end with their lines.
            let end = waiting.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines = waiting.split_to(end);
            let text = String::from_utf8_lossy(&lines);
            let lines = text.lines().filter(|line| !kept.has(line));
            let wanted: String = lines.filter_map(|line| self.large_object(line)).collect();
            self.run(&wanted, "cannot write large objects").await?;
            if is_last {
                if kept.count > 0 {
                    let text = format!(
                        "{} of the snapshot left out: the target has its own under the same \
                         numbers",
                        words::count(kept.count, "large object is", "large objects are")
                    );
                    self.job.cx.events.warn(WarningKind::Other, &*self.plan.target, text);
                }
                return Ok((bytes, u64::from(kept.count > 0)));
            }
        }
    }

    /// Large objects of the target that stay: a copy under other names leaves them to the rows
    /// that are there.
    async fn large_objects_kept(&self) -> SourceResult<Kept> {
        const ASKING: &str = "SELECT oid FROM pg_catalog.pg_largeobject_metadata";
        if self.plan.names.is_empty() {
            return Ok(Kept::default());
        }
        let rows = self.sql.client.query(ASKING, &[]).await;
        let ids = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        let ids = ids.map_err(|error| writing(&error, "cannot list the large objects"))?;
        Ok(Kept { ids, ..Kept::default() })
    }

    /// A statement, behind another one that has to come first.
    fn large_object(&self, line: &str) -> Option<String> {
        let is_left_out = (!self.job.options.owners && line.starts_with("ALTER "))
            || (!self.job.options.privileges
                && (line.starts_with("GRANT ") || line.starts_with("REVOKE ")));
        if is_left_out {
            return None;
        }
        let replaces = self.job.request.if_exists != IfExists::Fail;
        let drop = created(line).filter(|_| replaces).map(|id| {
            format!(
                "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata \
                 WHERE oid = {id};\n"
            )
        });
        Some(format!("{}{line}\n", drop.unwrap_or_default()))
    }
}

/// Large objects whose statements are left out.
#[derive(Debug, Default)]
struct Kept {
    ids: HashSet<u32>,
    /// The last statement was about one of these.
    is_inside: bool,
    /// Number of these in the snapshot.
    count: u64,
}

impl Kept {
    /// Returns `true` for a statement about one of these: the statements of each follow the one
    /// that creates it.
    fn has(&mut self, line: &str) -> bool {
        if let Some(id) = created(line) {
            self.is_inside = id.parse().is_ok_and(|id| self.ids.contains(&id));
            self.count += u64::from(self.is_inside);
        }
        self.is_inside
    }
}

/// The number of the large object that a statement creates.
fn created(line: &str) -> Option<&str> {
    line.strip_prefix("SELECT pg_catalog.lo_create('")?.strip_suffix("');")
}

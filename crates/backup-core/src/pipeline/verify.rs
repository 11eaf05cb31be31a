//! Reading everything that a snapshot needs, and comparing it with its hashes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Meter;
use crate::check::Problem;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::{Stage, WarningKind};
use crate::format::{Fault, Loss, METADATA_DIR, ManifestTotals, Node};
use crate::id::BlobId;
use crate::repository::SnapshotReader;
use crate::source::{EntryPath, NodeKind};
use crate::words;

/// Blobs that are read in one go: enough to read packs in few large ranges, few enough to bound
/// memory.
const WINDOW: usize = 1 << 16;
/// Paths that are named per damaged object.
const MAX_NAMED: usize = 20;

/// How closely a snapshot is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// Every byte is compared with its hash.
    #[default]
    Checksum,
    /// And the manifest is read: what the snapshot is, and how it was made. Snapshots of other
    /// programs have none.
    Structure,
    /// And the totals of the manifest are counted again.
    Deep,
}

impl VerifyLevel {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Structure => "structure",
            Self::Deep => "deep",
        }
    }
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Entries of the snapshot.
    pub entries: u64,
    /// Different blobs that were read.
    pub blobs: u64,
    /// Their plain bytes.
    pub bytes: u64,
    /// What is damaged or lost; empty if all is well.
    pub problems: Vec<Problem>,
}

/// Reads every directory and every blob of a snapshot, and looks at them as closely as `level`
/// says.
///
/// # Errors
/// Those of the sink, and cancellation. Damage is no error but a [`Problem`] of the report.
pub async fn verify(
    snapshot: &SnapshotReader,
    level: VerifyLevel,
    cx: &Context,
) -> Result<VerifyReport> {
    let meter = Meter::start(Stage::Verify, &cx.events);
    let ticking = meter.ticking();
    let mut run = Run {
        snapshot,
        cx,
        meter: meter.clone(),
        report: VerifyReport::default(),
        seen: HashSet::new(),
        bad: HashMap::new(),
        level,
        totals: ManifestTotals::default(),
    };
    run.read_all().await?;
    if !run.bad.is_empty() {
        run.name_affected().await?;
    }
    if level >= VerifyLevel::Structure {
        run.compare_with_manifest().await?;
    }
    drop(ticking);
    meter.finish();
    Ok(run.report)
}

fn in_words(totals: &ManifestTotals) -> String {
    let ManifestTotals { files, dirs, others, bytes, .. } = totals;
    format!(
        "{} with {}, {} and {}",
        words::count(*files, "file", "files"),
        words::count(*bytes, "byte", "bytes"),
        words::count(*dirs, "directory", "directories"),
        words::count(*others, "other", "others")
    )
}

struct Run<'a> {
    snapshot: &'a SnapshotReader,
    cx: &'a Context,
    meter: Meter,
    report: VerifyReport,
    seen: HashSet<BlobId>,
    bad: HashMap<BlobId, String>,
    level: VerifyLevel,
    /// What was found, counted as the manifest counts.
    totals: ManifestTotals,
}

impl Run<'_> {
    async fn read_all(&mut self) -> Result<()> {
        let mut walk = self.snapshot.walk().with_faults();
        let mut window = Vec::new();
        loop {
            self.cx.check_cancelled()?;
            let next = walk.next().await;
            // Also at the end: the last directory may have nothing but faults.
            for (path, fault) in walk.take_faults() {
                self.note_fault(&path, &fault);
            }
            match next {
                Ok(None) => break,
                Ok(Some((path, node))) => {
                    self.report.entries += 1;
                    self.meter.add_items(1);
                    self.note_misfit(&path, &node);
                    self.count(&path, &node);
                    for id in node.content {
                        if self.seen.insert(id) {
                            window.push(id);
                        }
                    }
                }
                Err(error) if error.is_damage() => self.problem("directory", &error),
                Err(error) => return Err(error),
            }
            if window.len() >= WINDOW {
                self.read(std::mem::take(&mut window)).await?;
            }
        }
        self.read(window).await
    }

    /// A node that does not fit its content. What is not in the index at all is found when it is
    /// read.
    fn note_misfit(&mut self, path: &EntryPath, node: &Node) {
        let lens: Result<Vec<u32>> =
            node.content.iter().map(|id| self.snapshot.blob_len(id)).collect();
        let Ok(lens) = lens else {
            return;
        };
        if let Some((what, message)) = node.misfit(lens.into_iter().map(u64::from).sum()) {
            self.problem_at(what, path, message);
        }
    }

    /// An entry that no program can restore is a problem. An entry without some of its metadata, or of
    /// an unsupported type, is named in a warning.
    fn note_fault(&mut self, path: &EntryPath, fault: &Fault) {
        let message = fault.message.clone();
        match fault.loss {
            Loss::Entry => self.problem_at("entry", path, message),
            Loss::Metadata => {
                self.cx.events.warn(WarningKind::Metadata, path.to_string(), message);
            }
            Loss::Unsupported => {
                self.cx.events.warn(WarningKind::Other, path.to_string(), message);
            }
        }
    }

    fn problem_at(&mut self, what: &str, path: &EntryPath, message: String) {
        let affects = vec![format!("snapshot {}: {path}", self.snapshot.id().short())];
        self.report.problems.push(Problem { object: format!("{what} {path}"), message, affects });
    }

    /// Everything but our own directory.
    fn count(&mut self, path: &EntryPath, node: &Node) {
        if path.segments().next() == Some(METADATA_DIR.as_bytes()) {
            return;
        }
        match node.metadata.kind {
            NodeKind::File => {
                self.totals.files += 1;
                self.totals.bytes = self.totals.bytes.saturating_add(node.metadata.size);
            }
            NodeKind::Dir => self.totals.dirs += 1,
            _ => self.totals.others += 1,
        }
    }

    /// Snapshots of other tools have no manifest, and nothing to compare with.
    async fn compare_with_manifest(&mut self) -> Result<()> {
        let object = format!("manifest of snapshot {}", self.snapshot.id().short());
        let manifest = match self.snapshot.manifest().await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(()),
            Err(error) if error.is_damage() => {
                self.problem(&object, &error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let found = ManifestTotals { warnings: manifest.totals.warnings, ..self.totals };
        if self.level >= VerifyLevel::Deep && found != manifest.totals {
            let message = format!(
                "lists {}, but the snapshot holds {}",
                in_words(&manifest.totals),
                in_words(&found)
            );
            self.problem(&object, &Error::damaged(message));
        }
        Ok(())
    }

    fn problem(&mut self, object: &str, error: &Error) {
        let affects = vec![format!("snapshot {}", self.snapshot.id().short())];
        self.report.problems.push(Problem {
            object: object.to_owned(),
            message: error.chain(),
            affects,
        });
    }

    async fn read(&mut self, blobs: Vec<BlobId>) -> Result<()> {
        let found = Arc::new(Mutex::new((0_u64, HashMap::new())));
        let (shared, meter) = (Arc::clone(&found), self.meter.clone());
        let ids: Arc<[BlobId]> = blobs.into();
        let names = Arc::clone(&ids);
        self.snapshot
            .try_fetch(self.cx, &ids, move |at, content| {
                let mut found = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match content {
                    Ok(plain) => {
                        found.0 += plain.len() as u64;
                        meter.add_bytes(plain.len() as u64);
                    }
                    Err(error) => _ = found.1.insert(names[at], error.chain()),
                }
                Ok(())
            })
            .await
            .map_err(Error::from)?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        self.report.blobs += ids.len() as u64;
        self.report.bytes += found.0;
        self.bad.extend(found.1.drain());
        Ok(())
    }

    /// Says which files need the blobs that are damaged or lost.
    async fn name_affected(&mut self) -> Result<()> {
        let mut affected: HashMap<BlobId, Vec<EntryPath>> = HashMap::new();
        let mut walk = self.snapshot.walk().with_faults();
        loop {
            match walk.next().await {
                Ok(None) => break,
                Ok(Some((path, node))) => {
                    for id in node.content.iter().filter(|id| self.bad.contains_key(*id)) {
                        let paths = affected.entry(*id).or_default();
                        if paths.last() != Some(&path) {
                            paths.push(path.clone());
                        }
                    }
                }
                // It was reported by the first walk.
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let snapshot = self.snapshot.id().short();
        let mut bad: Vec<_> = self.bad.drain().collect();
        bad.sort();
        for (id, message) in bad {
            let paths = affected.remove(&id).unwrap_or_default();
            let mut affects: Vec<_> = paths
                .iter()
                .take(MAX_NAMED)
                .map(|path| format!("snapshot {snapshot}: {path}"))
                .collect();
            if paths.len() > MAX_NAMED {
                affects.push(format!("snapshot {snapshot}: {} more", paths.len() - MAX_NAMED));
            }
            self.report.problems.push(Problem {
                object: format!("blob {}", id.short()),
                message,
                affects,
            });
        }
        Ok(())
    }
}

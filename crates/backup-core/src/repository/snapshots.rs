//! Listing, naming and saving snapshots.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::effective_time::{EffectiveTime, TimeEvidence};
use super::{Repository, layout, snapshot_order};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Snapshot, seal_json};
use crate::id::SnapshotId;
use crate::limits;
use crate::sink::{ObjectMeta, SinkOps};

/// Fewest digits of an identifier that name a snapshot.
const MIN_DIGITS: usize = 4;

/// A snapshot with its name and the time that it counts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Name of the object.
    pub id: SnapshotId,
    /// Content of the object, which the repository keeps as well.
    pub snapshot: Arc<Snapshot>,
    /// The time that the snapshot counts for, with the reason.
    pub effective: EffectiveTime,
}

impl SnapshotInfo {
    /// A snapshot that counts for its own time, because the store reports none.
    #[must_use]
    pub fn new(id: SnapshotId, snapshot: Snapshot) -> Self {
        Self::shared(id, Arc::new(snapshot))
    }

    fn shared(id: SnapshotId, snapshot: Arc<Snapshot>) -> Self {
        let effective = EffectiveTime::of(&snapshot, None, false);
        Self { id, snapshot, effective }
    }

    /// The time that the snapshot counts for. Its own time, `snapshot.time`, may be wrong.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.effective.time()
    }
}

/// All snapshots of a repository, oldest first by [`SnapshotInfo::time`]. A parent precedes the
/// snapshots built on it.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The readable ones.
    pub snapshots: Vec<SnapshotInfo>,
    /// The damaged ones, with the reason.
    pub damaged: Vec<(SnapshotId, Error)>,
    /// Evidence about the times of the snapshots.
    pub evidence: TimeEvidence,
}

/// Which snapshots are meant; an empty filter means all.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFilter {
    /// Name of the job.
    pub job: Option<String>,
    /// Host of the source.
    pub host: Option<String>,
    /// Kind of the source.
    pub source: Option<String>,
    /// Tier.
    pub tier: Option<String>,
    /// Paths, all of them and no others.
    pub paths: Option<Vec<String>>,
    /// Tags that must all be there.
    pub tags: Vec<String>,
}

impl SnapshotFilter {
    /// Whether a snapshot is meant.
    #[must_use]
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let tag = |name: &str, wanted: &Option<String>| {
            wanted.is_none() || snapshot.tag(name) == wanted.as_deref()
        };
        tag("job", &self.job)
            && tag("source", &self.source)
            && tag("tier", &self.tier)
            && self.host.as_ref().is_none_or(|host| *host == snapshot.hostname)
            && self.paths.as_ref().is_none_or(|paths| *paths == snapshot.paths)
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
    }
}

impl SnapshotList {
    /// Sets the effective times by the evidence and the order of parents, and sorts by them. `now`
    /// is the present.
    pub fn settle(&mut self, now: Timestamp) {
        for info in &mut self.snapshots {
            info.effective = self.evidence.effective(&info.id, &info.snapshot);
        }
        snapshot_order::mark_moved(&mut self.snapshots);
        snapshot_order::settle(&mut self.snapshots, self.evidence.has_clock, now);
    }

    /// Identifiers of all listed snapshots, readable or damaged.
    pub fn ids(&self) -> impl Iterator<Item = SnapshotId> {
        let damaged = self.damaged.iter().map(|(id, _)| *id);
        self.snapshots.iter().map(|info| info.id).chain(damaged)
    }

    /// Finds the snapshot whose identifier is `name` or, uniquely, begins with it: with at least
    /// four digits, because a mistyped number would name one of the first snapshots.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], [`ErrorKind::NotFound`], [`ErrorKind::Ambiguous`], or [`ErrorKind::Damaged`] if that
    /// snapshot is damaged.
    pub fn resolve(&self, name: &str) -> Result<&SnapshotInfo> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{name:?} is not a snapshot identifier"),
            )
            .with_hint("use the first digits of an identifier from `backup list`"));
        }
        if name.len() < MIN_DIGITS {
            let text = format!("{name:?} is too short for a snapshot identifier");
            return Err(Error::new(ErrorKind::Invalid, text)
                .with_hint("give at least four digits of an identifier from `backup list`"));
        }
        let name = name.to_ascii_lowercase();
        let fits = |id: &SnapshotId| id.to_hex().starts_with(&name);
        let mut found = self.snapshots.iter().filter(|info| fits(&info.id));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("several snapshot identifiers begin with {name}"),
            )
            .with_hint("give more digits of the identifier")),
            (None, _) => Err(self.not_found(&name)),
        }
    }

    fn not_found(&self, name: &str) -> Error {
        match self.damaged.iter().find(|(id, _)| id.to_hex().starts_with(name)) {
            Some((id, error)) => {
                Error::damaged(format!("snapshot {} is damaged: {}", id.short(), error.chain()))
                    .with_hint("run `backup check` to find other damage")
            }
            None => Error::new(ErrorKind::NotFound, format!("there is no snapshot {name}"))
                .with_hint("list the snapshots with `backup list`"),
        }
    }
}

impl Repository {
    /// All snapshots. Damaged ones are listed apart, so that they never hide the others.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedVersion`] if a newer format wrote one of them; those of the sink.
    pub async fn snapshots(&self, cx: &Context) -> Result<SnapshotList> {
        let objects = self.list(&layout::snapshots()).await?;
        self.snapshots_among(&objects, cx).await
    }

    /// The snapshots of these objects.
    pub(super) async fn snapshots_among(
        &self,
        objects: &[ObjectMeta],
        cx: &Context,
    ) -> Result<SnapshotList> {
        let named = |meta: &ObjectMeta| meta.key.file_name().parse().ok();
        let mut listed: Vec<(SnapshotId, &ObjectMeta)> =
            objects.iter().filter_map(|meta| Some((named(meta)?, meta))).collect();
        // Objects that expand to the most bytes for their size come last, when others have had
        // their share of the memory.
        listed.sort_unstable_by_key(|(id, meta)| std::cmp::Reverse((meta.size, *id)));
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let mut list = SnapshotList::default();
        let mut unread = Vec::new();
        for (id, meta) in listed {
            match self.0.snapshots.find(&id, meta) {
                Some(snapshot) => list.snapshots.push(SnapshotInfo::shared(id, snapshot)),
                None => unread.push((id, meta.clone())),
            }
        }
        let mut loading = futures::stream::iter(unread)
            .map(|(id, meta)| async move {
                cx.check_cancelled()?;
                match self.sealed_snapshot_object(id).await {
                    Ok(sealed) => Ok::<_, Error>(Some((id, meta, Ok(sealed)))),
                    // Forgotten since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) if error.is_damage() => Ok(Some((id, meta, Err(error)))),
                    Err(error) => Err(error),
                }
            })
            .buffered(concurrency);
        list.evidence = Box::pin(self.time_evidence(objects, cx)).await?;
        let mut excess = limits::MAX_SNAPSHOT_EXCESS;
        while let Some(loaded) = loading.try_next().await? {
            let Some((id, meta, sealed)) = loaded else { continue };
            match sealed.and_then(|sealed| self.open_within(&sealed, &mut excess)) {
                Ok((snapshot, bytes)) => {
                    let snapshot = Arc::new(snapshot);
                    self.0.snapshots.add(id, &meta, &snapshot, bytes);
                    list.snapshots.push(SnapshotInfo::shared(id, snapshot));
                }
                // Nothing may be decided about the others without a snapshot that is intact.
                Err(error) if error.kind() == ErrorKind::UnsupportedVersion => {
                    return Err(error.context(format!("snapshot {}", id.short())));
                }
                Err(error) => list.damaged.push((id, error)),
            }
        }
        list.settle(cx.clock.now());
        list.damaged.sort_by_key(|(id, _)| *id);
        Ok(list)
    }

    pub(crate) async fn load_snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        Snapshot::open(self.key(), &self.sealed_snapshot_object(id).await?)
    }

    async fn sealed_snapshot_object(&self, id: SnapshotId) -> Result<Bytes> {
        let sealed = self.sink().get_bytes(&layout::snapshot(&id)).await?;
        if SnapshotId::digest(&sealed) != id {
            return Err(Error::damaged("the SHA-256 of the content does not match the name"));
        }
        Ok(sealed)
    }

    /// Opens a snapshot object and takes the bytes by which it exceeds the ratio of
    /// [`limits::SNAPSHOT_RATIO`] off `excess`. Returns its length as JSON, too.
    fn open_within(&self, sealed: &[u8], excess: &mut usize) -> Result<(Snapshot, usize)> {
        let usual = sealed.len().saturating_mul(limits::SNAPSHOT_RATIO);
        let limit = limits::MAX_SNAPSHOT.min(usual.saturating_add(*excess));
        let (snapshot, len) = Snapshot::open_up_to(self.key(), sealed, limit)?;
        *excess -= len.saturating_sub(usual);
        Ok((snapshot, len))
    }

    /// Publishes a snapshot: from here on it is listed. Everything it refers to is durable and
    /// verified already.
    pub(crate) async fn save_snapshot(
        &self,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<SnapshotId> {
        self.save_sealed_snapshot(seal_json(self.key(), snapshot)?, cx.clock.now(), cx).await
    }

    /// Publishes a snapshot that is sealed already and was first received at that time.
    pub(crate) async fn save_sealed_snapshot(
        &self,
        sealed: impl Into<Bytes>,
        received: Timestamp,
        cx: &Context,
    ) -> Result<SnapshotId> {
        let sealed = sealed.into();
        let id = SnapshotId::digest(&sealed);
        self.sink().put_bytes(&layout::snapshot(&id), sealed).await?;
        // Read back: the object that the whole run stands on.
        self.load_snapshot(id).await.map_err(|error| {
            error.context(format!(
                "snapshot {} could not be verified after it was stored",
                id.short()
            ))
        })?;
        // Without its receipt the snapshot is as good, only its loss would not be noticed; the next
        // writer makes up for it.
        if let Err(error) = self.save_receipt(&id, received).await {
            cx.events.note(format!(
                "The inventory entry of snapshot {} could not be written: {}.",
                id.short(),
                error.chain()
            ));
        }
        Ok(id)
    }

    /// Takes back a snapshot that was published too late.
    pub(crate) async fn withdraw_snapshot(&self, id: &SnapshotId) -> Result<()> {
        self.sink().delete_one(&layout::snapshot_receipt(id)).await?;
        self.sink().delete_one(&layout::snapshot(id)).await?;
        Ok(())
    }

    /// The bytes of a snapshot object, which match its name.
    pub(crate) async fn sealed_snapshot(&self, id: &SnapshotId) -> Result<Bytes> {
        self.sealed_snapshot_object(*id)
            .await
            .map_err(|error| error.context(format!("snapshot {}", id.short())))
    }
}

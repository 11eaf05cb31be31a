//! Making archived data readable before a restore.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;
use serde::Serialize;

use super::Meter;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Stage;
use crate::id::PackId;
use crate::repository::{SnapshotReader, layout};
use crate::sink::{Availability, Custody, Key, ThawSpeed};
use crate::source::Selection;
use crate::words;

/// What is archived again so soon may be so before a restore comes to it: it is thawed anew.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);
/// What can be read for less than this is asked for anew while something else is awaited.
const ENDING: SignedDuration = SignedDuration::from_hours(2);

/// The packs that (a part of) a snapshot needs, and which of them can be read.
#[derive(Debug)]
pub struct Thaw {
    custody: Option<Arc<dyn Custody>>,
    concurrency: usize,
    packs: Vec<Pack>,
    /// What was asked of the store, to ask it again.
    asked: Option<(u32, ThawSpeed)>,
}

#[derive(Debug, Clone)]
struct Pack {
    key: Key,
    size: u64,
    state: Availability,
}

/// How much can be read, and how much cannot: what a thaw costs depends on these figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ThawFigures {
    /// Objects that can be read now.
    pub ready: u64,
    /// Their bytes.
    pub ready_bytes: u64,
    /// Objects that have to be thawed.
    pub archived: u64,
    /// Their bytes.
    pub archived_bytes: u64,
    /// Objects whose thaw is under way.
    pub thawing: u64,
    /// Their bytes.
    pub thawing_bytes: u64,
}

impl ThawFigures {
    /// Whether everything can be read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.archived == 0 && self.thawing == 0
    }
}

impl Thaw {
    /// Finds out which packs the selected part of a snapshot needs, and asks the store for their
    /// state.
    ///
    /// # Errors
    /// Those of reading the snapshot's directories and of the sink.
    pub async fn survey(
        snapshot: &SnapshotReader,
        selection: &Selection,
        cx: &Context,
    ) -> Result<Self> {
        let sink = snapshot.sink();
        let mut thaw = Self {
            custody: sink.custody(),
            concurrency: sink.capabilities().concurrency.max(1),
            packs: Vec::new(),
            asked: None,
        };
        // A store without archives has nothing that is archived.
        if !thaw.is_possible() {
            return Ok(thaw);
        }
        for (id, size) in needed(snapshot, selection, cx).await? {
            thaw.packs.push(Pack { key: layout::pack(&id), size, state: Availability::Archived });
        }
        thaw.look(MARGIN, cx).await?;
        Ok(thaw)
    }

    /// Whether the store has archives that can be thawed from here.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.custody.is_some()
    }

    /// How much can be read, and how much cannot.
    #[must_use]
    pub fn figures(&self) -> ThawFigures {
        let mut figures = ThawFigures::default();
        for pack in &self.packs {
            let (count, bytes) = match pack.state {
                Availability::Ready | Availability::Thawed { .. } => {
                    (&mut figures.ready, &mut figures.ready_bytes)
                }
                Availability::Archived => (&mut figures.archived, &mut figures.archived_bytes),
                Availability::Thawing => (&mut figures.thawing, &mut figures.thawing_bytes),
            };
            *count += 1;
            *bytes += pack.size;
        }
        figures
    }

    /// Asks the store to thaw what is archived, to be readable for so many days.
    ///
    /// # Errors
    /// Those of the sink; asking again is harmless.
    pub async fn request(&mut self, days: u32, speed: ThawSpeed, cx: &Context) -> Result<()> {
        let Some(custody) = &self.custody else {
            return Ok(());
        };
        self.asked = Some((days, speed));
        let archived = self.packs.iter_mut().filter(|pack| pack.state == Availability::Archived);
        let mut requests = futures::stream::iter(archived)
            .map(|pack| async move {
                cx.check_cancelled()?;
                custody.thaw(&pack.key, days, speed).await?;
                pack.state = Availability::Thawing;
                Ok::<_, Error>(())
            })
            .buffer_unordered(self.concurrency);
        while requests.try_next().await?.is_some() {}
        Ok(())
    }

    /// Waits until everything can be read; asks every `poll`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if something is archived that no thaw was requested for; those of the
    /// sink; cancellation.
    pub async fn wait(&mut self, poll: Duration, cx: &Context) -> Result<()> {
        let meter = Meter::start(Stage::Thaw, &cx.events);
        let ticking = meter.ticking();
        let total = self.figures();
        meter.expect(
            self.packs.len() as u64,
            total.ready_bytes + total.archived_bytes + total.thawing_bytes,
        );
        let mut seen = ThawFigures::default();
        loop {
            let now = self.figures();
            meter.add_items(now.ready.saturating_sub(seen.ready));
            meter.add_bytes(now.ready_bytes.saturating_sub(seen.ready_bytes));
            seen = now;
            if now.is_ready() {
                break;
            }
            if now.archived > 0 {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    words::count(now.archived, "object is archived", "objects are archived"),
                )
                .with_hint(
                    "restore again with --thaw, and raise --thaw-days to keep the objects readable \
                     for longer",
                ));
            }
            tokio::select! {
                () = tokio::time::sleep(poll) => {}
                () = cx.cancel.cancelled() => return Err(Error::cancelled()),
            }
            self.look(SignedDuration::ZERO, cx).await?;
            self.prolong(cx).await?;
        }
        drop(ticking);
        meter.finish();
        Ok(())
    }

    /// What was thawed first must not freeze again before the last is thawed: it is asked for anew.
    async fn prolong(&mut self, cx: &Context) -> Result<()> {
        let (Some(custody), Some((days, speed))) = (&self.custody, self.asked) else {
            return Ok(());
        };
        let soon = cx.clock.now() + ENDING;
        let ending =
            |pack: &&mut Pack| matches!(pack.state, Availability::Thawed { until } if until < soon);
        let mut asking = futures::stream::iter(self.packs.iter_mut().filter(ending))
            .map(|pack| async move {
                cx.check_cancelled()?;
                custody.thaw(&pack.key, days, speed).await?;
                pack.state = custody.availability(&pack.key).await?;
                Ok::<_, Error>(())
            })
            .buffer_unordered(self.concurrency);
        while asking.try_next().await?.is_some() {}
        Ok(())
    }

    /// Asks for the state of all packs that could not be read so far, or not for so long.
    async fn look(&mut self, margin: SignedDuration, cx: &Context) -> Result<()> {
        let Some(custody) = &self.custody else {
            return Ok(());
        };
        let soon = cx.clock.now() + margin;
        let unread = |pack: &&mut Pack| {
            !matches!(pack.state, Availability::Ready | Availability::Thawed { .. })
        };
        let mut looking = futures::stream::iter(self.packs.iter_mut().filter(unread))
            .map(|pack| async move {
                cx.check_cancelled()?;
                pack.state = match custody.availability(&pack.key).await? {
                    Availability::Thawed { until } if until < soon => Availability::Archived,
                    state => state,
                };
                Ok::<_, Error>(())
            })
            .buffer_unordered(self.concurrency);
        while looking.try_next().await?.is_some() {}
        Ok(())
    }
}

/// The packs with the contents of the selected entries, and how long they are.
async fn needed(
    snapshot: &SnapshotReader,
    selection: &Selection,
    cx: &Context,
) -> Result<BTreeMap<PackId, u64>> {
    let mut packs = BTreeMap::new();
    let mut walk = snapshot.walk().with_faults();
    while let Some((path, node)) = walk.next().await? {
        cx.check_cancelled()?;
        if node.content.is_empty() || !selection.covers(&path) {
            continue;
        }
        for id in &node.content {
            let at = snapshot.locate(id)?;
            packs.insert(at.pack, at.pack_end);
        }
    }
    Ok(packs)
}

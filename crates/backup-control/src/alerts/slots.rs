//! Replication slots of PostgreSQL: a server keeps its log for whoever reads it, and lets its disk
//! run full for it or throws away what was not read.

use std::collections::BTreeSet;
use std::time::Duration;

use backup_core::context::Context;
use jiff::Timestamp;

use super::rules::Observation;
use super::{Condition, SlotLimit};
use crate::config::{Config, SourceKind};
use crate::error::{Error, Result};
use crate::jobs::Place;
use crate::sources::SourceSpec;
use crate::words;

/// A slot that nobody has read for so long is wrong if the rule says nothing else: whoever captures
/// the log is back sooner after a restart.
const UNREAD: Duration = Duration::from_secs(15 * 60);

/// Whether a server still has what a slot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// There is no slot (any more, or yet).
    Missing,
    /// It has.
    Kept,
    /// It may remove that at the next checkpoint.
    InDanger,
    /// It has removed it.
    Lost,
}

/// A replication slot, as its server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Whether the server has what it needs.
    pub state: SlotState,
    /// Whether somebody reads from it.
    pub is_read: bool,
    /// Since when nobody does. Servers before 17 do not say it: then since when that is seen.
    pub unread_since: Option<Timestamp>,
    /// What the server keeps because of it.
    pub retained_bytes: u64,
}

impl SlotFacts {
    /// There is none of this name.
    #[must_use]
    pub fn missing(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            name,
            state: SlotState::Missing,
            is_read: false,
            unread_since: None,
            retained_bytes: 0,
        }
    }

    /// Whether it is there, and nobody reads from it.
    pub(super) fn is_idle(&self) -> bool {
        self.state != SlotState::Missing && !self.is_read
    }
}

/// The jobs whose slots rules of the configuration are about.
///
/// # Errors
/// A pattern of a rule is none, which is found when a configuration is loaded.
pub fn jobs_with_slots(config: &Config) -> Result<BTreeSet<&str>> {
    let mut found = BTreeSet::new();
    for rule in
        config.alerts.values().filter(|rule| matches!(rule.condition, Condition::SlotUnhealthy(_)))
    {
        let only = crate::notify::patterns(&rule.only)?;
        let meant = config.jobs.iter().filter(|(name, job)| {
            let is_postgres = config
                .sources
                .get(&job.source)
                .is_some_and(|source| source.kind == SourceKind::Postgres);
            is_postgres && (rule.only.is_empty() || only.is_match(name))
        });
        found.extend(meant.map(|(name, _)| name.as_str()));
    }
    Ok(found)
}

/// Asks the server of a job how its slot is; none if the job has no use for one.
///
/// # Errors
/// The server cannot be asked.
pub async fn slot_of(
    config: &Config,
    job: &str,
    place: Place<'_>,
    cx: &Context,
) -> Result<Option<SlotFacts>> {
    let section = config.jobs.get(job).and_then(|job| config.sources.get(&job.source));
    let source = section.ok_or_else(|| Error::invalid(format!("there is no job `{job}`")))?;
    SourceSpec::new(source.clone(), place.machine, place.env)?.slot(place.env, cx).await
}

/// What a rule sees of the slot of a job.
pub(super) fn observe(
    job: &str,
    slot: &SlotFacts,
    limit: &SlotLimit,
    now: Timestamp,
) -> Observation {
    let name = &slot.name;
    let unread =
        slot.unread_since.filter(|_| slot.is_idle()).map(|since| words::between(since, now));
    let (longest, most) = match limit {
        SlotLimit::None => (UNREAD, None),
        SlotLimit::Unread(time) => (time.length(), None),
        SlotLimit::Kept(size) => (UNREAD, Some(size.0)),
    };
    let kept = words::size(slot.retained_bytes);
    let drop = format!("SELECT pg_drop_replication_slot('{name}')");
    let anew =
        format!("`backup run {job} --type full`, from which on moments are restorable again");
    let read = format!(
        "check that `backup logs follow {job}` is running; if the log is no longer captured, run \
         {drop}"
    );
    let found = match slot.state {
        SlotState::Missing => None,
        SlotState::Lost => Some((
            format!("the server has removed WAL that was not yet read from slot {name}"),
            format!(
                "run {drop}, then {anew}; a larger max_slot_wal_keep_size makes the server keep \
                 WAL longer"
            ),
        )),
        SlotState::InDanger => Some((
            format!(
                "at its next checkpoint the server may remove WAL that was not yet read from slot \
                 {name}"
            ),
            format!("raise max_slot_wal_keep_size now; {read}"),
        )),
        SlotState::Kept => match (
            unread.filter(|length| *length > longest),
            most.filter(|m| slot.retained_bytes > *m),
        ) {
            (Some(length), _) => Some((
                format!(
                    "slot {name} has not been read for {}, the limit is {}; the server retains \
                     {kept} of WAL for it",
                    words::duration(length),
                    words::duration(longest)
                ),
                read,
            )),
            (None, Some(most)) => Some((
                format!(
                    "the server retains {kept} of WAL for slot {name}; the limit is {}",
                    words::size(most)
                ),
                format!("`backup logs status {job}` shows the position of the capture; {read}"),
            )),
            (None, None) => None,
        },
    };
    let observed =
        Observation::new(found.is_some(), format!("the replication slot of {job} is unhealthy"));
    let (cause, next) = found.unwrap_or_default();
    observed.because(cause, next).with("slot", name).with("kept", kept)
}

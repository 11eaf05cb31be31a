//! Looking for the server to follow: of all that can be reached, one that is on the newest timeline
//! that ours leads to.

use std::collections::VecDeque;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::error::{WireError, malformed};
use super::super::lsn::Lsn;
use super::super::options::{Host, PostgresOptions, ServerRole};
use super::super::wire::{Connection, System, WalStream, timely};
use super::history::History;
use super::slot;

/// So long a server is looked for that has the log, before that is an error.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Hosts without an answer are reported after this time.
const REPORT: Duration = Duration::from_secs(4);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// A server that has the log from a place on.
pub(super) struct Found {
    pub(super) stream: WalStream,
    /// The timelines to get on to before, each with the place where the one before was left, and
    /// its history.
    pub(super) turns: VecDeque<Turn>,
    /// Its host, if it does not write the log itself: its clock is then no evidence that nothing
    /// happened.
    pub(super) standby: Option<Host>,
    /// It was reported that no server is reachable.
    pub(super) was_reported: bool,
}

/// A timeline is left for another one.
pub(super) struct Turn {
    pub(super) from: u32,
    pub(super) at: Lsn,
    pub(super) next: u32,
    pub(super) history: Bytes,
}

/// What is looked for: the log of `timeline` from `at` on; everything before `had` was captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) timeline: u32,
    pub(super) at: Lsn,
    pub(super) had: Lsn,
}

/// What is wrong with a host.
enum Refusal {
    /// Another one may have the log, or this one in a moment.
    NotNow(SourceError),
    /// It is so.
    Never(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        if error.kind() == SourceErrorKind::Unavailable {
            Self::NotNow(error)
        } else {
            Self::Never(error)
        }
    }
}

/// A server that has what is wanted.
struct Candidate {
    connection: Connection,
    system: System,
    writes: bool,
    turns: VecDeque<Turn>,
    timeline: u32,
    at: Lsn,
}

/// Looks until there is one, as long as that may help.
pub(super) async fn find(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    wanted: Wanted,
) -> SourceResult<Found> {
    let deadline = Instant::now() + PATIENCE;
    let mut is_told = false;
    loop {
        let (mut later, mut never) = (None, None);
        let mut refused = |refusal| match refusal {
            Refusal::NotNow(error) => later = Some(error),
            Refusal::Never(error) => never = Some(error),
        };
        let asked = ask_all(cx, cluster, options, wanted, &mut is_told).await?;
        let mut candidates = Vec::new();
        for answer in asked {
            match answer {
                Ok(candidate) => candidates.push(candidate),
                Err(refusal) => refused(refusal),
            }
        }
        // Whoever is on an older one writes what nobody goes on with, or will get there by itself.
        let newest = candidates.iter().map(|candidate| candidate.system.timeline).max();
        if options.connection.role == ServerRole::PreferStandby {
            candidates.sort_by_key(|candidate| candidate.writes);
        }
        for candidate in
            candidates.into_iter().filter(|candidate| Some(candidate.system.timeline) == newest)
        {
            cx.check_cancelled()?;
            match candidate.start(cx, options).await {
                Ok(found) => return Ok(Found { was_reported: is_told, ..found }),
                Err(refusal) => refused(refusal),
            }
        }
        match (later, never) {
            // As long as one host may come back, what the others say is not the last word.
            (Some(error), never) if Instant::now() >= deadline => {
                return Err(last_word(error, never));
            }
            (Some(error), _) if !is_told => {
                is_told = true;
                cx.events.unreachable(error.chain());
            }
            (Some(_), _) => {}
            (None, Some(error)) => return Err(error),
            (None, None) => return Err(malformed("address: it names no host")),
        }
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(SourceError::cancelled()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Asks all hosts, in their order. If none has answered after a while, that is reported once.
async fn ask_all(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    wanted: Wanted,
    is_told: &mut bool,
) -> SourceResult<Vec<Result<Candidate, Refusal>>> {
    let hosts = options.hosts.iter().enumerate();
    let asking =
        hosts.map(|(at, host)| async move { (at, ask(cluster, options, host, wanted).await) });
    let mut asking: FuturesUnordered<_> = asking.collect();
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(SourceError::cancelled()),
            next = asking.next() => match next {
                Some(answer) => asked.push(answer),
                None => break,
            },
            () = tokio::time::sleep(REPORT), if !*is_told && asked.is_empty() => {
                *is_told = true;
                cx.events.unreachable(format!("no answer for {} seconds", REPORT.as_secs()));
            }
        }
    }
    asked.sort_by_key(|(at, _)| *at);
    Ok(asked.into_iter().map(|(_, answer)| answer).collect())
}

/// Nothing is given up for lost because of one host while another one, which may have it, could not
/// be asked.
fn last_word(later: SourceError, never: Option<SourceError>) -> SourceError {
    match never {
        Some(gap) if gap.kind() == SourceErrorKind::LogGap => {
            let text = format!(
                "{}; another host that may have it cannot be reached: {}",
                gap.chain(),
                later.chain()
            );
            SourceError::new(SourceErrorKind::Unavailable, text)
                .with_hint("start that host, or remove it from the address if it no longer exists")
        }
        Some(never) => never,
        None => later,
    }
}

/// Asks a host how far it is.
async fn ask(
    cluster: &Cluster,
    options: &PostgresOptions,
    host: &Host,
    wanted: Wanted,
) -> Result<Candidate, Refusal> {
    let doing = format!("cannot follow the WAL of {host}");
    let asking = async {
        let mut connection = Connection::to(options, host).await?;
        let system = cluster.require_same(&mut connection).await?;
        connection.require(options.connection.role.of_one()).await?;
        let writes = !connection.in_recovery().await?;
        Ok((connection, system, writes))
    };
    let asked: Result<_, WireError> = timely(asking).await;
    let (mut connection, system, writes) = asked.map_err(|error| error.into_source(&doing))?;
    let Wanted { timeline, at, had } = wanted;
    if system.timeline < timeline || system.timeline == timeline && system.at < at {
        let text =
            format!("{host} is behind: it is at {} on timeline {}", system.at, system.timeline);
        return Err(Refusal::NotNow(SourceError::new(SourceErrorKind::Unavailable, text)));
    }
    let stays = (VecDeque::new(), timeline, at);
    let (turns, timeline, at) = if system.timeline == timeline {
        stays
    } else {
        turns(&mut connection, cluster, system.timeline, timeline, had).await?.unwrap_or(stays)
    };
    Ok(Candidate { connection, system, writes, turns, timeline, at })
}

impl Candidate {
    /// Follows it. The slot is made only here: those that are not followed would keep their log for
    /// nobody.
    async fn start(self, cx: &Context, options: &PostgresOptions) -> Result<Found, Refusal> {
        let Self { mut connection, writes, turns, timeline, at, .. } = self;
        let host = connection.host.clone();
        let doing = format!("cannot follow the WAL of {host}");
        if let Some(name) = &options.slot {
            slot::ensure(&mut connection, options, name).await?;
        }
        let name = options.slot.as_deref();
        let stream = match WalStream::start(connection, name, timeline, at).await {
            Err(error) if slot::is_gone(&error) => {
                let wanted = (timeline, at);
                Box::pin(start_with_new_slot(cx, options, &host, wanted, error, &doing)).await?
            }
            started => started.map_err(|error| error.into_source(&doing))?,
        };
        Ok(Found {
            stream: stream.reporting_silence(),
            turns,
            standby: (!writes).then_some(host),
            was_reported: false,
        })
    }
}

/// Follows a server that refuses with `error`, because it gave up the slot or no longer has the log.
/// A slot that was given up, for instance for being idle (`idle_replication_slot_timeout`), need not
/// mean that log is missing: a new one takes its place.
async fn start_with_new_slot(
    cx: &Context,
    options: &PostgresOptions,
    host: &Host,
    (timeline, at): (u32, Lsn),
    error: WireError,
    doing: &str,
) -> Result<WalStream, Refusal> {
    let connection = match &options.slot {
        Some(name) => slot::drop_lost(options, host, name).await,
        None => None,
    };
    let (Some(name), Some(mut connection)) = (&options.slot, connection) else {
        let connection = Connection::to(options, host).await.ok();
        return Err(Refusal::Never(slot::gap(error, options, connection, doing).await));
    };
    slot::ensure(&mut connection, options, name).await?;
    match WalStream::start(connection, Some(name), timeline, at).await {
        Ok(stream) => {
            cx.events.note(format!(
                "a new replication slot {name} takes the place of one that the server had given up \
                 (see idle_replication_slot_timeout)"
            ));
            Ok(stream)
        }
        Err(error) if slot::is_gone(&error) => {
            Err(Refusal::Never(slot::gap(error, options, None, doing).await))
        }
        Err(error) => Err(error.into_source(doing).into()),
    }
}

/// If a server has left `timeline` before `had`: what we have behind that belongs to a branch that
/// nobody goes on with, and the next one is to be followed. `None` if the server has `timeline` as
/// far as we have it, and goes on by itself.
async fn turns(
    connection: &mut Connection,
    cluster: &Cluster,
    newest: u32,
    timeline: u32,
    had: Lsn,
) -> Result<Option<(VecDeque<Turn>, u32, Lsn)>, Refusal> {
    let doing = "cannot read the history of a timeline";
    let failed = |error: WireError| Refusal::NotNow(error.into_source(doing));
    let text = timely(connection.timeline_history(newest)).await.map_err(failed)?.1;
    let history = History::parse(&String::from_utf8_lossy(&text)).map_err(Refusal::Never)?;
    let Some((left, next)) = history.left(timeline, newest) else {
        let text = format!(
            "the server is on timeline {newest}, which does not descend from timeline {timeline}"
        );
        let error = SourceError::new(SourceErrorKind::LogGap, text);
        return Err(Refusal::Never(
            error.with_hint("run a full backup: later moments can be restored from it on"),
        ));
    };
    if left > had {
        return Ok(None);
    }
    let history = timely(connection.timeline_history(next)).await.map_err(failed)?.1;
    let turn = Turn { from: timeline, at: left, next, history };
    Ok(Some((VecDeque::from([turn]), next, cluster.segments.floor(left))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_one_when_every_host_says_so() {
        let error = |kind| SourceError::new(kind, "why");
        let away = || error(SourceErrorKind::Unavailable);
        let word = last_word(away(), Some(error(SourceErrorKind::LogGap)));
        assert!(word.kind() == SourceErrorKind::Unavailable && word.hint().is_some());
        assert_eq!(
            last_word(away(), Some(error(SourceErrorKind::Invalid))).kind(),
            SourceErrorKind::Invalid
        );
        assert_eq!(last_word(away(), None).kind(), SourceErrorKind::Unavailable);
    }
}

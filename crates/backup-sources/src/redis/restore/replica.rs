//! The target becomes a replica of ours: it gets the dump and the commands behind it, and is its
//! own master again. Exact for every type and size, and for any moment; it replaces everything that
//! the target has.
//!
//! ```text
//!  REPLICAOF us ─▶ the target connects: handshake, dump, commands, GETACK ─▶ its ACK reaches the end ─▶ REPLICAOF NO ONE
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::event::WarningKind;
use backup_core::source::{
    ObjectDigest, RestoreReport, SourceError, SourceErrorKind, SourceResult,
};
use backup_core::words;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::super::backup::database_name;
use super::super::error::WireError;
use super::super::options::{RedisOptions, Way};
use super::super::rdb::{DatabaseSurvey, is_comparable};
use super::super::server::Info;
use super::super::wire::{Client, Endpoint};
use super::feed::Master;
use super::listen::Listener;
use super::memory::{evicted, tell_evicted};
use super::merged::Replays;
use super::plan::target_time;
use super::rehearse::{self, tell_expired};
use super::suited::{self, refused};
use super::{Job, gone};

pub(super) const DOING: &str = "cannot make the target a replica";
/// So long it may refuse to be a master again: while it loads it takes no commands.
const RELEASING: Duration = Duration::from_secs(300);
const STUCK: &str = "run REPLICAOF NO ONE on the target";
/// So often it is asked how far it is.
pub(super) const ASKING: Duration = Duration::from_millis(100);

/// Replaces what a server has.
pub(super) async fn restore(
    job: &Job<'_>,
    server: &RedisOptions,
    way: &Way,
) -> SourceResult<RestoreReport> {
    let replay = Replays::of(job).await?;
    let plain = replay.is_empty();
    let mut control = Endpoint::of(server).ask().await.map_err(refused)?;
    let suited =
        super::super::unless_cancelled(job.cx, suited::look(job, server, &mut control)).await?;
    let keys = job.description.dump.databases.values().map(|database| database.keys).sum();
    let removed = suited.keys.values().sum();
    let mut report = RestoreReport { entries: keys, removed, ..RestoreReport::default() };
    report.total_bytes = job.size();
    let now = target_time(job.cx, &mut control).await?;
    if plain {
        tell_expired(job, keys, surely_expired(job, now), &mut report)?;
    }
    if job.request.dry_run {
        let databases = &job.description.dump.databases;
        let written = databases.iter().map(|(number, database)| (*number, database.keys)).collect();
        report.objects = rehearse::planned(&written, &suited.keys);
        if !plain {
            // The log adds keys and removes some.
            report.objects.iter_mut().for_each(|object| object.count = None);
        }
        report.removals = rehearse::removals(&written, &suited.keys);
        return Ok(report);
    }
    let listener = Listener::open(server, way, suited.tls).await?;
    let master = Master {
        job,
        listener,
        silence: server.waits.timeout(),
        has_begun: AtomicBool::new(false),
    };
    job.cx.events.note(format!(
        "the target becomes a replica; if this restore is killed before the target is a master \
         again, {STUCK}"
    ));
    report.written_bytes = follow(&master, server, control, replay).await?;
    report.files_written = 1;
    let gone = evicted(server, suited.evicted).await?;
    tell_evicted(job, gone, None, &mut report);
    if job.request.verify {
        Box::pin(compare(job, server, plain, gone, &mut report)).await?;
    }
    Ok(report)
}

/// Makes the target a replica for as long as it takes; returns how many bytes it got.
async fn follow(
    master: &Master<'_>,
    server: &RedisOptions,
    mut control: Client,
    replay: Replays,
) -> SourceResult<u64> {
    let mut command = redis::cmd("REPLICAOF");
    command.arg(&master.listener.host).arg(master.listener.port);
    let release = Release { server: Some(server.clone()) };
    if let Err(error) = control.run::<()>(&command).await {
        match error {
            // It has not done so, and is what it was.
            WireError::Server(_) => release.forget(),
            _ => _ = release.now().await,
        }
        return Err(refused(error));
    }
    let fed = Box::pin(super::super::unless_cancelled(master.job.cx, master.feed(replay))).await;
    // Whatever happened: it must not go on waiting for a master that is gone.
    let released = release.now().await;
    let lost = |error| if master.has_begun.load(Ordering::Relaxed) { gone(error) } else { error };
    match (fed, released) {
        (Ok(bytes), Ok(())) => Ok(bytes),
        (Err(error), Ok(())) => Err(lost(error)),
        (Ok(_), Err(error)) => Err(error
            .context("everything is restored, but the target is still a replica")
            .with_hint(STUCK)),
        (Err(error), Err(stuck)) => {
            let text =
                format!("{}; and the target is still a replica: {}", error.chain(), stuck.chain());
            let hint =
                error.hint().map_or_else(|| STUCK.to_owned(), |hint| format!("{STUCK}; {hint}"));
            Err(lost(SourceError::new(error.kind(), text).with_hint(hint)))
        }
    }
}

/// At least so many keys of the dump have expired by now, as it was recorded; milliseconds since
/// 1970.
fn surely_expired(job: &Job<'_>, now: u64) -> u64 {
    let databases = job.description.dump.databases.values();
    databases
        .filter(|database| database.expires_to.is_some_and(|last| last <= now))
        .map(|one| one.expiring)
        .sum()
}

/// Makes the target its own master again, even if nobody waits for it.
struct Release {
    server: Option<RedisOptions>,
}

impl Release {
    /// It is none.
    fn forget(mut self) {
        self.server = None;
    }

    async fn now(mut self) -> SourceResult<()> {
        match self.server.take() {
            Some(server) => release(&server).await,
            None => Ok(()),
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let (Some(server), Ok(runtime)) = (self.server.take(), Handle::try_current()) {
            // Nobody is there who could be told.
            runtime.spawn(async move { _ = release(&server).await });
        }
    }
}

/// By a connection of its own, as servers close those that nobody uses; and again, as they refuse
/// it while they load.
async fn release(server: &RedisOptions) -> SourceResult<()> {
    let until = Instant::now() + RELEASING;
    loop {
        let releasing = async {
            let mut client = Endpoint::of(server).ask().await?;
            client.run::<()>(redis::cmd("REPLICAOF").arg("NO").arg("ONE")).await?;
            Ok(Info::query(&mut client).await?.is_replica())
        };
        let error = match releasing
            .await
            .map_err(|error: WireError| error.into_source("cannot make the target a master again"))
        {
            Ok(false) => return Ok(()),
            Ok(true) => SourceError::new(
                SourceErrorKind::Unavailable,
                "the target reports that it is a replica",
            ),
            Err(error) => error,
        };
        if error.kind() != SourceErrorKind::Unavailable || Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(ASKING).await;
    }
}

/// Compares what the target has with what was recorded of the dump, database by database, as far as
/// both must be the same. What cannot be compared is a warning: somebody wanted to be sure.
async fn compare(
    job: &Job<'_>,
    server: &RedisOptions,
    plain: bool,
    evicted: u64,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let dump = &job.description.dump;
    let mut not_compared = Vec::new();
    if !plain {
        not_compared.push("commands were applied to the recorded data".to_owned());
    } else if dump.unknown.is_some() {
        not_compared.push("the dump has unknown content".to_owned());
    } else {
        let found = super::super::digest::digest(server, &job.request.selection).await?;
        let mut client = Endpoint::of(server).ask().await.map_err(refused)?;
        let now = target_time(job.cx, &mut client).await?;
        for (number, database) in &dump.databases {
            let (name, is_dying) =
                (database_name(*number), database.expires_from.is_some_and(|first| first <= now));
            match compare_database(database, is_dying, evicted, found.objects.get(&name)) {
                Compared::Same => report.verified_bytes += database.content_bytes,
                Compared::Perhaps(why) => not_compared.push(format!("{name}: {why}")),
                Compared::Different => {
                    let text = format!("{name} of the target differs from the snapshot");
                    return Err(SourceError::new(SourceErrorKind::Mismatch, text)
                        .with_hint("check for other writers at the target"));
                }
            }
        }
    }
    for why in not_compared {
        job.cx.events.warn(
            WarningKind::Other,
            "",
            format!(
                "the target reports that it has everything, but not all data was compared: {why}"
            ),
        );
        report.warnings += 1;
    }
    Ok(())
}

/// What comparing a database has found.
#[derive(Debug, PartialEq, Eq)]
enum Compared {
    Same,
    /// It may be the same; why that cannot be said.
    Perhaps(String),
    Different,
}

/// `is_dying` if keys of it have expired by now; `evicted` keys of the target are gone.
fn compare_database(
    recorded: &DatabaseSurvey,
    is_dying: bool,
    evicted: u64,
    found: Option<&ObjectDigest>,
) -> Compared {
    let wanted = recorded.object();
    let (count, bytes) = found.map_or((0, 0), |found| (found.count, found.bytes));
    if found == Some(&wanted) {
        return Compared::Same;
    }
    if is_dying || evicted > 0 {
        let expired = if is_dying { recorded.expiring } else { 0 };
        let least = wanted.count.saturating_sub(expired).saturating_sub(evicted);
        let is_possible = (least..=wanted.count).contains(&count);
        let keys = words::count(count, "key", "keys");
        let why = format!(
            "keys have expired since the snapshot or were evicted, and the target has {keys}"
        );
        return if is_possible { Compared::Perhaps(why) } else { Compared::Different };
    }
    if recorded.types.contains_key("module") && count == wanted.count {
        return Compared::Perhaps("values of modules are compared by their number only".to_owned());
    }
    if !is_comparable(&wanted.digest) && (count, bytes) == (wanted.count, wanted.bytes) {
        return Compared::Perhaps(
            "the numbers of keys and bytes are equal, but the snapshot's digest is of an older \
             kind"
                .to_owned(),
        );
    }
    Compared::Different
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_program_recorded_is_no_difference() {
        let recorded = |digest: &str| DatabaseSurvey {
            keys: 3,
            expiring: 1,
            content_bytes: 30,
            digest: digest.to_owned(),
            ..DatabaseSurvey::default()
        };
        let found = |count, digest: &str| ObjectDigest {
            count,
            bytes: 10 * count,
            digest: digest.to_owned(),
        };
        let (new, old) = (recorded("xxh3:0a"), recorded("0a"));
        assert_eq!(compare_database(&new, false, 0, Some(&found(3, "xxh3:0a"))), Compared::Same);
        assert_eq!(
            compare_database(&new, false, 0, Some(&found(3, "xxh3:0b"))),
            Compared::Different
        );
        assert_eq!(compare_database(&new, false, 0, Some(&found(3, "0a"))), Compared::Different);
        assert!(matches!(
            compare_database(&old, false, 0, Some(&found(3, "xxh3:0a"))),
            Compared::Perhaps(_)
        ));
        for other in [Some(&found(2, "xxh3:0a")), None] {
            assert_eq!(compare_database(&old, false, 0, other), Compared::Different);
        }
        // With one that had to expire, and with more than that.
        assert!(matches!(
            compare_database(&new, true, 0, Some(&found(2, "xxh3:0b"))),
            Compared::Perhaps(_)
        ));
        assert_eq!(
            compare_database(&new, true, 0, Some(&found(1, "xxh3:0b"))),
            Compared::Different
        );
        assert!(matches!(
            compare_database(&new, true, 1, Some(&found(1, "xxh3:0b"))),
            Compared::Perhaps(_)
        ));
    }
}

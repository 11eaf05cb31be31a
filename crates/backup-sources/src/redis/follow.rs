//! Joining the stream of commands, reading it and saying that we are alive, whatever happens to the
//! connection.

use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cluster::{Cluster, Slots};
use super::error::WireError;
use super::options::RedisOptions;
use super::sentinel;
use super::server::Info;
use super::wire::{Endpoint, Replication, Sync, silent};

/// Servers take a replica that says nothing for dead after a minute.
const ACK: Duration = Duration::from_secs(1);
/// So often, and so long after each other, a connection is made anew before the caller is told.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn gap(text: String) -> SourceError {
    SourceError::new(SourceErrorKind::LogGap, text)
        .with_hint("run a full backup, and raise repl-backlog-size to bridge longer interruptions")
}

/// Asked first, because asking for the stream makes the server begin a dump if it cannot go on.
pub(super) fn refuse_what_is_gone(info: &Info, from: &Position) -> SourceResult<()> {
    let (Some(id), Some(end)) = (info.get("master_replid"), info.number("master_repl_offset"))
    else {
        return Ok(());
    };
    let formerly = (info.get("master_replid2"), info.number("second_repl_offset"));
    let (first, len) =
        (info.number("repl_backlog_first_byte_offset"), info.number("repl_backlog_histlen"));
    let known = from.branch == id
        || formerly.0 == Some(&*from.branch)
            && formerly.1.is_some_and(|second| from.offset < second);
    if !known {
        return Err(gap(format!("the server's replication history does not contain {from}")));
    }
    if from.offset > end {
        return Err(gap(format!(
            "the server is at {id}@{end}, and has lost the commands up to {from}"
        )));
    }
    match (info.get("repl_backlog_active"), first, len) {
        (Some("0"), ..) => {
            Err(gap(format!("the server keeps no backlog, so the commands after {from} are lost")))
        }
        (_, Some(first), Some(len))
            if from.offset < first.saturating_sub(1) || from.offset > first.saturating_add(len) =>
        {
            Err(gap(format!(
                "the commands after {from} are not in the server's backlog, which begins at {first}"
            )))
        }
        _ => Ok(()),
    }
}

/// The stream behind `from`, and the id that it has now.
pub(super) async fn join(
    options: &RedisOptions,
    from: &Position,
) -> Result<(Replication, Option<String>), WireError> {
    let mut replication = Endpoint::of(options).replica(false).await?;
    match replication.sync(options, Some((&from.branch, from.offset))).await? {
        Sync::Continue { id } => Ok((replication, id)),
        Sync::Full { .. } => Err(gap(format!("the server cannot continue from {from}")).into()),
        Sync::Old => Err(no_stream(options).into()),
    }
}

fn no_stream(options: &RedisOptions) -> SourceError {
    let text = format!(
        "the server answers {} as SYNC, the command of old replicas, which cannot continue a stream",
        options.psync
    );
    SourceError::new(SourceErrorKind::Unsupported, text)
        .with_hint("let the server keep the name PSYNC, or take snapshots without a log")
}

/// A stream gets another id where a replica has become a master: from that offset on it has this
/// one.
pub(super) type Turn = (u64, String);

/// Where the stream behind `from`, which the server calls `id`, has that id. What `info` says was
/// asked for just before; if it knows nothing of it, that is where it was left.
pub(super) fn turn_of(info: &Info, from: &Position, id: Option<String>) -> Option<Turn> {
    let id = id.filter(|id| *id != from.branch)?;
    let at = match (info.get("master_replid2"), info.number("second_repl_offset")) {
        (Some(formerly), Some(second)) if formerly == from.branch => {
            second.saturating_sub(1).max(from.offset)
        }
        _ => from.offset,
    };
    Some((at, id))
}

/// The stream from now on.
pub(super) async fn begin(
    options: &RedisOptions,
    info: &Info,
) -> SourceResult<(Replication, Position, Option<Turn>)> {
    let doing = |error: WireError| error.into_source("cannot follow the replication stream");
    if let (Some("1"), Some(id), Some(offset)) = (
        info.get("repl_backlog_active"),
        info.get("master_replid"),
        info.number("master_repl_offset"),
    ) {
        let now = Position::new(id, offset);
        let (replication, id) = join(options, &now).await.map_err(doing)?;
        let turn = turn_of(info, &now, id);
        return Ok((replication, now, turn));
    }
    // Without a backlog there is nothing to go on from: asking for a dump makes one. It is not
    // read.
    let mut first = Endpoint::of(options).replica(true).await.map_err(doing)?;
    let (id, offset) = match first.sync(options, None).await.map_err(doing)? {
        Sync::Full { id, offset } => (id, offset),
        Sync::Old => return Err(no_stream(options)),
        Sync::Continue { .. } => return Err(super::error::malformed("reply to PSYNC")),
    };
    let now = Position::new(id, offset);
    let (replication, id) = join(options, &now).await.map_err(doing)?;
    drop(first);
    let turn = turn_of(info, &now, id);
    Ok((replication, now, turn))
}

/// The stream of one connection.
pub(super) struct Listener {
    replication: Replication,
    /// How far the stream is durable. Never more than that is said: WAIT counts replicas by it.
    durable: watch::Receiver<u64>,
    silence: Duration,
    /// When it has to be said again that we are alive.
    due: Instant,
}

impl Listener {
    pub(super) fn new(
        replication: Replication,
        durable: watch::Receiver<u64>,
        options: &RedisOptions,
    ) -> Self {
        Self { replication, durable, silence: options.waits.timeout(), due: Instant::now() }
    }

    async fn say_alive(&mut self) -> Result<(), WireError> {
        self.due = Instant::now() + ACK;
        let durable = *self.durable.borrow();
        self.replication.acknowledge(durable).await
    }

    /// The next bytes. Where nothing happens masters say so every 10 seconds: silence is a sign
    /// too.
    pub(super) async fn next(&mut self) -> Result<Bytes, WireError> {
        let silent_at = Instant::now() + self.silence;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.due) => self.say_alive().await?,
                bytes = self.replication.next() => return bytes,
                () = tokio::time::sleep_until(silent_at) => return Err(silent(self.silence)),
            }
        }
    }

    /// Waits for `work`, to its end: that it takes its time must not keep us from saying that we
    /// are alive.
    pub(super) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> (T, Result<(), WireError>) {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return (done, Ok(())),
                () = tokio::time::sleep_until(self.due) => {
                    if let Err(error) = self.say_alive().await {
                        return (work.await, Err(error));
                    }
                }
            }
        }
    }
}

/// What the follower tells.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, and when they were received.
    Bytes(Bytes, Timestamp),
    /// The server was connected to its master at this time, and has sent everything up to here.
    Alive(Timestamp),
    /// From here on the stream has this id.
    Branch(String),
    Failed(SourceError),
}

/// A master of a cluster, by its slots: after a failover it is another node.
#[derive(Debug)]
pub(super) struct Seek {
    pub(super) cluster: Arc<Cluster>,
    pub(super) slots: Slots,
    /// Which node is followed; `None` while there is no connection.
    pub(super) followed: watch::Sender<Option<String>>,
    /// Said when that is not the master any more, which it may be the last to know.
    pub(super) leave: Arc<Notify>,
}

impl Seek {
    /// Waits until the node that is followed has to be left.
    async fn left(seek: Option<&Self>) {
        match seek {
            Some(seek) => seek.leave.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// Reads the stream, whatever happens to the connection.
pub(super) struct Follower {
    pub(super) cx: Context,
    pub(super) options: RedisOptions,
    /// Who is followed, if that is a master of a cluster.
    pub(super) seek: Option<Seek>,
    /// Up to here it was read.
    pub(super) place: Position,
    /// Bytes behind this offset were written after the stream was joined; `None` if the server does
    /// not report it. A master writes at least signs of life, and a replica that is cut off from it
    /// sends nothing: new bytes prove that both are connected.
    pub(super) joined: Option<u64>,
    /// Where it gets another id, if that is known and ahead.
    pub(super) turn: Option<Turn>,
    pub(super) pieces: Sender<Piece>,
    pub(super) acknowledged: watch::Receiver<u64>,
}

impl Follower {
    pub(super) async fn run(mut self, mut replication: Replication) {
        loop {
            let Some(error) = self.read(replication).await else { return };
            if let Some(seek) = &self.seek {
                seek.followed.send_replace(None);
            }
            match self.reconnect(error).await {
                Ok(again) => replication = again,
                Err(error) => {
                    // Nobody may listen any more.
                    _ = self.pieces.send(Piece::Failed(error)).await;
                    return;
                }
            }
        }
    }

    /// Until the connection breaks; `None` if nobody listens any more.
    async fn read(&mut self, replication: Replication) -> Option<WireError> {
        let mut listener = Listener::new(replication, self.acknowledged.clone(), &self.options);
        self.turn().await?;
        loop {
            let mut bytes = tokio::select! {
                biased;
                () = Seek::left(self.seek.as_ref()) => return Some(no_master()),
                bytes = listener.next() => match bytes {
                    Ok(bytes) => bytes,
                    Err(error) => return Some(error),
                },
            };
            let time = self.cx.clock.now();
            while !bytes.is_empty() {
                let until = self.turn.as_ref().map_or(u64::MAX, |(at, _)| at - self.place.offset);
                let some =
                    bytes.split_to(bytes.len().min(usize::try_from(until).unwrap_or(usize::MAX)));
                self.place.offset += some.len() as u64;
                let (sent, said) =
                    listener.meanwhile(self.pieces.send(Piece::Bytes(some, time))).await;
                sent.ok()?;
                if let Err(error) = said {
                    return Some(error);
                }
                self.turn().await?;
            }
            if self.joined.is_some_and(|joined| self.place.offset > joined) {
                let (sent, said) = listener.meanwhile(self.pieces.send(Piece::Alive(time))).await;
                sent.ok()?;
                if let Err(error) = said {
                    return Some(error);
                }
            }
        }
    }

    /// Says that the stream has another id from here on, where that is so; `None` if nobody listens
    /// any more.
    async fn turn(&mut self) -> Option<()> {
        let here = self.place.offset;
        if let Some((_, id)) = self.turn.take_if(|(at, _)| *at <= here) {
            self.place.branch.clone_from(&id);
            self.pieces.send(Piece::Branch(id)).await.ok()?;
        }
        Some(())
    }

    async fn reconnect(&mut self, mut error: WireError) -> SourceResult<Replication> {
        let doing = "cannot follow the replication stream";
        // It takes nodes their time to notice that a master is dead.
        let has_group = self.seek.is_some() || self.options.sentinels.is_some();
        let attempts = if has_group { 2 * ATTEMPTS } else { ATTEMPTS };
        self.cx.events.unreachable(error.to_string());
        for attempt in 0..attempts {
            tokio::time::sleep(PAUSE * (1 << attempt.min(5))).await;
            match self.join_again().await {
                Ok((replication, turn, joined)) => {
                    (self.turn, self.joined) = (turn, joined);
                    self.cx.events.connected();
                    return Ok(replication);
                }
                Err(WireError::Source(gap)) if gap.kind() == SourceErrorKind::LogGap => {
                    return Err(gap);
                }
                Err(again) => error = again,
            }
        }
        let error = error.into_source(doing);
        match error.kind() {
            SourceErrorKind::Unavailable => Err(error),
            // What refuses now may be mended by the time the caller tries again.
            _ => Err(SourceError::new(SourceErrorKind::Unavailable, error.chain())),
        }
    }

    /// Asks first what is still there: a server that cannot go on begins a dump, which nobody
    /// reads.
    async fn join_again(&mut self) -> Result<(Replication, Option<Turn>, Option<u64>), WireError> {
        let mut master = None;
        if let Some(Seek { cluster, slots, .. }) = &self.seek {
            let (id, options) = cluster.master_of(slots).await?;
            (master, self.options) = (Some(id), options);
        }
        self.options = sentinel::reading(&self.options).await?;
        let info = Info::of(&self.options).await?;
        refuse_what_is_gone(&info, &self.place)?;
        let (replication, id) = join(&self.options, &self.place).await?;
        let turn = turn_of(&info, &self.place, id);
        if let Some(seek) = &self.seek {
            seek.followed.send_replace(master);
        }
        Ok((replication, turn, info.number("master_repl_offset")))
    }
}

fn no_master() -> WireError {
    let text = "another node is the master now".to_owned();
    WireError::Source(SourceError::new(SourceErrorKind::Unavailable, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(offset: u64, first: u64, len: u64) -> Info {
        let id = "a".repeat(40);
        Info::parse(&format!(
            "master_replid:{id}\r\nmaster_repl_offset:{offset}\r\nrepl_backlog_active:1\r\n\
             repl_backlog_first_byte_offset:{first}\r\nrepl_backlog_histlen:{len}\r\n"
        ))
    }

    #[test]
    fn a_stream_turns_where_its_master_was_promoted() {
        let (old, new) = ("b".repeat(40), "a".repeat(40));
        let promoted = Info::parse(&format!(
            "master_replid:{new}\r\nmaster_replid2:{old}\r\nsecond_repl_offset:101\r\n"
        ));
        let turn = |from: &Position, id: &str| turn_of(&promoted, from, Some(id.to_owned()));
        assert_eq!(turn(&Position::new(&*old, 60), &new), Some((100, new.clone())));
        assert_eq!(turn(&Position::new(&*old, 100), &new), Some((100, new.clone())));
        assert_eq!(turn(&Position::new(&*new, 120), &new), None);
        // It was promoted again since it was asked.
        assert_eq!(turn(&Position::new(&*new, 120), &old), Some((120, old.clone())));
        assert_eq!(turn_of(&promoted, &Position::new(&*old, 60), None), None);
    }

    #[test]
    fn what_is_gone_is_refused() {
        let at = |offset| Position::new("a".repeat(40), offset);
        let answer = |info: &Info, offset| {
            refuse_what_is_gone(info, &at(offset)).map_err(|error| error.kind())
        };
        let usual = info(200, 101, 100);
        for (offset, good) in [(99, false), (100, true), (150, true), (200, true), (201, false)] {
            assert_eq!(
                answer(&usual, offset),
                if good { Ok(()) } else { Err(SourceErrorKind::LogGap) },
                "{offset}"
            );
        }
        // Whatever a server says, nothing wraps round.
        let last = u64::MAX >> 1;
        assert_eq!(answer(&info(last, last, last), 5), Err(SourceErrorKind::LogGap));
        assert_eq!(answer(&info(last, 0, last), last), Ok(()));
        assert_eq!(info(last + 1, 0, 0).number("master_repl_offset"), None);
        let stranger = refuse_what_is_gone(&usual, &Position::new("b".repeat(40), 150));
        assert_eq!(stranger.unwrap_err().kind(), SourceErrorKind::LogGap);
    }
}

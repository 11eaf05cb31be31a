//! The stream of one master: whole events of it, and how much of them is durable.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::source::{SourceErrorKind, SourceResult};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::capture::{FILE, LARGEST_EVENT, NOISE};
use super::super::error::WireError;
use super::super::follow::{Follower, Piece, Seek, begin, gap, join, refuse_what_is_gone, turn_of};
use super::super::server::Server;
use super::super::stream::Splitter;
use super::discover::{Cluster, Shard};
use super::places::Place;
use super::slots::Slots;

/// Pieces of at most 128 KiB of one master that wait.
const WAITING: usize = 4;

/// Whole events that came at once.
pub(super) struct Whole {
    pub(super) id: String,
    /// Offset of the first byte.
    pub(super) from: u64,
    /// Where the first event ends.
    pub(super) first: usize,
    pub(super) bytes: Bytes,
    pub(super) time: Timestamp,
}

/// The stream of one master.
pub(super) struct Stream {
    /// The directory of its files.
    pub(super) name: String,
    slots: Slots,
    splitter: Splitter,
    id: String,
    /// Up to here events were taken.
    at: u64,
    /// When that was.
    told: Instant,
    /// The file that grows: its id, and the offset at which it begins.
    file: Option<(String, u64)>,
    /// When the last bytes came.
    time: Timestamp,
    /// When its master was known to have sent everything that was taken.
    pub(super) alive: Option<Timestamp>,
    durable: watch::Sender<u64>,
    followed: watch::Receiver<Option<String>>,
    leave: Arc<Notify>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Stream {
    /// Joins the stream of a master where it was left, or now; pieces of it go to `to`, with its
    /// number.
    pub(super) async fn begin(
        cx: &Context,
        cluster: &Arc<Cluster>,
        shard: &Shard,
        known: Option<&Place>,
        to: (usize, Sender<(usize, Piece)>),
    ) -> SourceResult<Self> {
        let options = cluster.master(shard);
        let server = Server::find(&options).await?;
        let (replication, place, turn) = match known {
            Some(place) => {
                let from = Position::new(place.id.clone(), place.offset);
                refuse_what_is_gone(&server.info, &from)?;
                let joined = join(&options, &from).await;
                let (replication, id) = joined.map_err(|error: WireError| {
                    error.into_source("cannot follow the replication stream")
                })?;
                let turn = turn_of(&server.info, &from, id);
                (replication, from, turn)
            }
            None => begin(&options, &server.info).await?,
        };
        let (durable, acknowledged) = watch::channel(0);
        let (sender, mut pieces) = channel(WAITING);
        let (now, followed) = watch::channel(Some(shard.id.clone()));
        let leave = Arc::new(Notify::new());
        let seek = Seek {
            cluster: cluster.clone(),
            slots: shard.slots.clone(),
            followed: now,
            leave: leave.clone(),
        };
        let (id, at) = (place.branch.clone(), place.offset);
        let follower = Follower {
            cx: cx.clone(),
            options,
            seek: Some(seek),
            place,
            joined: server.info.number("master_repl_offset"),
            turn,
            pieces: sender,
            acknowledged,
        };
        let following = tokio::spawn(follower.run(replication));
        let numbering = tokio::spawn(async move {
            let (number, to) = to;
            while let Some(piece) = pieces.recv().await {
                if to.send((number, piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            name: shard.slots.name(),
            slots: shard.slots.clone(),
            splitter: Splitter::default(),
            id,
            at,
            told: Instant::now(),
            file: None,
            time: cx.clock.now(),
            alive: None,
            durable,
            followed,
            leave,
            _tasks: [following, numbering].map(AbortOnDropHandle::new),
        })
    }

    /// Up to where it was taken.
    pub(super) fn place(&self) -> Place {
        Place { slots: self.slots.clone(), id: self.id.clone(), offset: self.at }
    }

    /// What a piece makes whole.
    pub(super) fn take(&mut self, piece: Piece) -> SourceResult<Option<Whole>> {
        match piece {
            Piece::Bytes(bytes, time) => {
                self.splitter.push(&bytes)?;
                if self.splitter.unfinished() > LARGEST_EVENT {
                    let text =
                        "a command or a transaction is larger than the 1 GiB that can be captured";
                    return Err(gap(text.to_owned()));
                }
                self.time = time;
                let is_old = self.splitter.whole() > 0 && self.told.elapsed() >= NOISE;
                Ok(if self.splitter.tells() || is_old { self.whole() } else { None })
            }
            Piece::Alive(time) => {
                self.alive = Some(time);
                Ok(None)
            }
            Piece::Branch(id) => {
                // What came before has the id before.
                let whole = self.whole();
                self.id = id;
                Ok(whole)
            }
            // What another kind of failure has left out is read again.
            Piece::Failed(error) if error.kind() == SourceErrorKind::LogGap => {
                Err(gap(format!("the master of the slots {}: {error}", self.slots)))
            }
            Piece::Failed(error) => {
                Err(error.context(format!("the master of the slots {}", self.slots)))
            }
        }
    }

    /// What is whole so far, also if it tells nothing but that the master lives.
    pub(super) fn whole(&mut self) -> Option<Whole> {
        let taken = self.splitter.take()?;
        let from = self.at;
        self.at += taken.bytes.len() as u64;
        self.told = Instant::now();
        Some(Whole {
            id: self.id.clone(),
            from,
            first: taken.first,
            bytes: taken.bytes,
            time: self.time,
        })
    }

    /// The offset at which the file begins that has what comes at `from`.
    pub(super) fn file_for(&mut self, id: &str, from: u64) -> u64 {
        match &self.file {
            Some((known, file)) if known == id && from - file < FILE => *file,
            _ => {
                self.file = Some((id.to_owned(), from));
                from
            }
        }
    }

    /// Which node is followed; `None` while there is no connection.
    pub(super) fn followed(&self) -> Option<String> {
        self.followed.borrow().clone()
    }

    /// That node is not the master any more.
    pub(super) fn leave(&self) {
        self.leave.notify_waiters();
    }

    /// Everything up to this offset is durable.
    pub(super) fn acknowledge(&self, offset: u64) {
        self.durable.send_replace(offset);
    }
}

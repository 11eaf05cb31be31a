//! Backups, restores and prunes that take their time: they stop at some request, while everything
//! else goes on.

use std::sync::Arc;

use backup_core::clock::Clock;
use backup_core::error::{ErrorKind, Result};
use backup_core::id::SnapshotId;
use backup_core::maintenance::prune;
use backup_core::pipeline::backup;
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::sink::Operation;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use tokio::task::JoinHandle;

use super::world::{Content, GRACE, World};
use crate::support::gate::{Gate, Stop};

/// A session that was silent for so long does not rely upon itself any more.
const TRUSTED: SignedDuration = SignedDuration::from_mins(90);

/// Where a backup may stop: which request, and how many such requests there may be.
const IN_A_BACKUP: [(Operation, &str, usize); 8] = [
    (Operation::Put, "x-sessions", 1),
    (Operation::List, "index", 3),
    (Operation::Get, "index", 3),
    (Operation::List, "data", 2),
    (Operation::Put, "data", 2),
    (Operation::Put, "index", 1),
    (Operation::Put, "snapshots", 1),
    (Operation::Delete, "x-sessions", 1),
];

/// Where a prune may stop.
const IN_A_PRUNE: [(Operation, &str, usize); 9] = [
    (Operation::List, "x-sessions", 2),
    (Operation::List, "snapshots", 2),
    (Operation::List, "data", 1),
    (Operation::Get, "index", 4),
    (Operation::Put, "data", 2),
    (Operation::Put, "index", 3),
    (Operation::Delete, "index", 3),
    (Operation::Delete, "data", 3),
    (Operation::Put, "x-prune", 1),
];

/// A backup that has stopped.
pub(super) struct Writer {
    task: JoinHandle<Result<SnapshotId>>,
    gate: (Gate, Repository),
    stop: Stop,
    content: Content,
    since: Timestamp,
}

/// A restore that has read the index, and no data yet.
pub(super) struct Reader {
    snapshot: SnapshotReader,
    content: Content,
    since: Timestamp,
}

impl World {
    fn stop_at(&mut self, places: &[(Operation, &'static str, usize)]) -> Stop {
        let (operation, top, many) = places[self.rng.random_range(0..places.len())];
        Stop {
            operation,
            top,
            skip: self.rng.random_range(0..many),
            done: self.rng.random_bool(0.5),
        }
    }

    pub(super) async fn start_writer(&mut self) {
        // The last gate is that of prunes.
        if self.gates.len() < 2 {
            return;
        }
        let (gate, repository) = self.gates.remove(0);
        let (content, stop) = (self.change(), self.stop_at(&IN_A_BACKUP));
        gate.close(stop);
        let (source, options, cx, writing) =
            (content.source(), content.options(), self.cx(), repository.clone());
        let mut task = tokio::spawn(async move {
            backup(&writing, &source, &options, &cx).await.map(|report| report.snapshot.unwrap())
        });
        let since = self.clock.now();
        let gate = (gate, repository);
        tokio::select! {
            () = gate.0.stopped() => self.writers.push(Writer { task, gate, stop, content, since }),
            // It never came to that request.
            done = &mut task => {
                let id = done.unwrap().unwrap_or_else(|error| panic!("{}: {stop:?}: {}", self.at, error.chain()));
                gate.0.open();
                self.gates.insert(0, gate);
                self.live.insert(id, content);
            }
        }
        self.count("slow backup begun");
    }

    pub(super) async fn finish_writer(&mut self) {
        if self.writers.is_empty() {
            return;
        }
        let mut writer = self.writers.swap_remove(self.rng.random_range(0..self.writers.len()));
        match self.rng.random_range(0..10) {
            0 => return self.kill(writer).await,
            1..4 => {
                writer.stop = self.stop_at(&IN_A_BACKUP);
                writer.gate.0.go_on_to(writer.stop);
            }
            _ => writer.gate.0.open(),
        }
        let done = tokio::select! {
            () = writer.gate.0.stopped() => None,
            done = &mut writer.task => Some(done.unwrap()),
        };
        let Some(done) = done else {
            self.writers.push(writer);
            return self.count("slow backup stopped again");
        };
        writer.gate.0.open();
        self.gates.insert(0, writer.gate);
        let (took, stop) = (self.since(writer.since), writer.stop);
        match done {
            Ok(id) => {
                self.live.insert(id, writer.content);
                self.assert_listed().await;
                self.count("slow backup done");
            }
            // Only who was silent for long may find that what it relied upon can be gone.
            Err(error)
                if took >= TRUSTED
                    && matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) =>
            {
                self.late = true;
                self.count("slow backup came too late");
            }
            Err(error) => panic!(
                "{}: a backup of {took:#} failed, stopped at {stop:?}: {}",
                self.at,
                error.chain()
            ),
        }
    }

    /// What it has published when it is killed is as good as any other snapshot.
    async fn kill(&mut self, writer: Writer) {
        writer.task.abort();
        _ = writer.task.await;
        let published =
            writer.gate.0.published().filter(|key| self.sink.objects().contains_key(key));
        if let Some(key) = published {
            self.live.insert(key.file_name().parse().unwrap(), writer.content);
            self.count("slow backup killed, but published");
        }
        // Uploads of the dead may wait at the old gate for ever.
        let gate = Gate::new(Arc::new(self.sink.clone()));
        let repository =
            Repository::open(Arc::new(gate.clone()), &self.repo.passphrase).await.unwrap();
        self.gates.insert(0, (gate, repository));
        self.unsettled = true;
        self.count("slow backup killed");
    }

    fn killed(&self) -> u64 {
        self.counts.get("slow backup killed").copied().unwrap_or_default()
    }

    pub(super) async fn start_reader(&mut self) {
        if let Some(id) = self.any_live() {
            let snapshot = self.reader(&self.repo, id).await;
            self.readers.push(Reader {
                snapshot,
                content: self.live[&id].clone(),
                since: self.clock.now(),
            });
        }
    }

    /// What a restore found in the index stays for the grace period.
    pub(super) async fn finish_reader(&mut self) {
        for reader in std::mem::take(&mut self.readers) {
            if self.since(reader.since) < GRACE {
                self.assert_restores(&reader.snapshot, &reader.content).await;
                self.count("slow restore done");
            }
        }
    }

    pub(super) async fn finish_all(&mut self) {
        while !self.writers.is_empty() {
            self.finish_writer().await;
        }
        self.finish_reader().await;
    }

    /// A prune stops, a few other things happen, then it goes on.
    pub(super) async fn slow_prune(&mut self) {
        let (gate, repository) = self.gates.pop().expect("no two prunes at a time");
        let (stop, options) = (self.stop_at(&IN_A_PRUNE), self.prune_options());
        // It repairs the index after late backups that ended before, not after later ones.
        self.late = false;
        // A lease of somebody who was killed runs out first.
        self.clock.advance(SignedDuration::from_mins(5));
        gate.close(stop);
        let (cx, pruning) = (self.cx(), repository.clone());
        let mut task = tokio::spawn(async move { prune(&pruning, &options, &cx).await });
        let mut done = tokio::select! {
            () = gate.stopped() => None,
            done = &mut task => Some(done),
        };
        let killed = self.killed();
        if done.is_none() {
            // Its marks may not be settled yet.
            let unsettled = std::mem::replace(&mut self.unsettled, true);
            for _ in 0..self.rng.random_range(1..5) {
                match self.rng.random_range(0..6) {
                    0 => self.back_up().await,
                    1 => self.start_writer().await,
                    2 => self.forget().await,
                    _ => self.finish_writer().await,
                }
                self.restore_one().await;
            }
            self.unsettled = unsettled;
            gate.open();
            done = Some(task.await);
        }
        let pruned = done.expect("it has ended").unwrap();
        pruned.unwrap_or_else(|error| {
            panic!("{}: a prune that stopped at {stop:?}: {}", self.at, error.chain())
        });
        gate.open();
        self.gates.push((gate, repository));
        // A writer that was killed may have published its snapshot after the last check of the prune.
        self.unsettled = self.killed() > killed;
        self.assert_listed().await;
        self.count("slow prune");
    }
}

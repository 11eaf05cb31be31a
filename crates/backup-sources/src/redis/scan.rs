//! Reading key by key, where a server keeps PSYNC to itself: SCAN and DUMP, put together to a dump
//! as a server writes it.
//!
//! It is not of one moment: each key is as it was when it was read. Keys that are there all the
//! time are in it, once; what comes or goes meanwhile may be or not.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::error::{GRANT_SCAN, WireError, malformed};
use super::options::RedisOptions;
use super::rdb::{Builder, dump_parts, payload_version};
use super::server::{self, Info, Vendor};
use super::wire::{Client, Endpoint, RawConnection, Reply, push_command};

/// Keys that are asked for at once with SCAN.
const COUNT: u32 = 500;
/// Most values that are on their way at once, and about so many bytes of them.
const VALUES: usize = 100;
const BYTES: u64 = 4 << 20;
/// The format of servers that have no functions: 6.0 and 6.2.
const BEFORE_FUNCTIONS: u16 = 9;
/// Longest time without a request on a connection.
const IDLE: Duration = Duration::from_millis(500);
/// What is handed on at once, bytes.
const PIECE: usize = 64 << 10;

/// A scan on its way.
pub(super) struct Scan {
    client: Client,
    /// Time of the last request on it.
    asked: Instant,
    /// The database that is read.
    database: u32,
    /// A connection for values: many requests at once, and one value in memory.
    values: RawConnection,
    /// Share of the server's time that is taken, up to 1.
    share: f64,
    /// Servers from 7 on tell when a key expires, others how long it lives.
    exact: bool,
    databases: VecDeque<u32>,
    /// Where it goes on in the database that is being read.
    cursor: Option<Vec<u8>>,
    /// Keys whose values are still to be read.
    keys: VecDeque<Vec<u8>>,
    /// Hashes of all keys of this database so far: SCAN may name one twice, and no server loads
    /// that.
    seen: HashSet<[u8; 16]>,
    builder: Builder,
    read: u64,
    bytes: u64,
    ended: bool,
}

impl Scan {
    /// Connects and asks what there is.
    pub(super) async fn open(options: &RedisOptions) -> Result<Self, WireError> {
        let mut client = Endpoint::of(options).ask().await?;
        let info = Info::query(&mut client).await?;
        let Some(version) = info.version() else {
            let text =
                "the version and the databases of the server are unknown: INFO is not allowed";
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint(GRANT_SCAN)
                .into());
        };
        let has_functions = version.major >= 7;
        let mut values = Endpoint::of(options).raw().await?;
        if info.is_cluster() && info.is_replica() {
            // Otherwise replies redirect to its master.
            client.run::<()>(&redis::cmd("READONLY")).await?;
            values.run(&redis::cmd("READONLY")).await?;
        }
        let seconds = server::time(&mut client).await? / 1000;
        let name = if version.vendor == Vendor::Valkey { "valkey-ver" } else { "redis-ver" };
        let mut remarks = vec![(name, version.text.clone()), ("ctime", seconds.to_string())];
        remarks.extend(info.number("used_memory").map(|bytes| ("used-mem", bytes.to_string())));
        let builder = if has_functions {
            let libraries: Vec<u8> = client.run(redis::cmd("FUNCTION").arg("DUMP")).await?;
            let version =
                payload_version(&libraries).ok_or_else(|| malformed("reply to FUNCTION DUMP"))?;
            let mut builder = Builder::new(version, &remarks);
            builder.libraries(&libraries)?;
            builder
        } else {
            Builder::new(BEFORE_FUNCTIONS, &remarks)
        };
        Ok(Self {
            client,
            asked: Instant::now(),
            database: 0,
            values,
            share: f64::from(options.scan_percent.clamp(1, 100)) / 100.0,
            exact: has_functions,
            // Not everybody tells of them; the first one is always there.
            databases: info
                .keys()
                .into_keys()
                .chain([0])
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            cursor: None,
            keys: VecDeque::new(),
            seen: HashSet::new(),
            builder,
            read: 0,
            bytes: 0,
            ended: false,
        })
    }

    /// The next bytes of the dump; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        while self.builder.len() < PIECE && !self.ended {
            let begun = Instant::now();
            if !self.keys.is_empty() {
                self.read_values().await?;
            } else if let Some(cursor) = self.cursor.take() {
                self.read_names(&cursor).await?;
            } else if let Some(database) = self.databases.pop_front() {
                self.database = database;
                self.select().await?;
                self.values.run(redis::cmd("SELECT").arg(database)).await?;
                self.builder.select(database);
                self.seen.clear();
                self.cursor = Some(b"0".to_vec());
            } else {
                self.builder.end();
                self.ended = true;
            }
            self.rest(begun.elapsed()).await;
            // Servers close connections that are idle for the time of their setting `timeout`.
            if self.asked.elapsed() >= IDLE {
                self.select().await?;
            }
        }
        Ok(self.builder.take())
    }

    /// Selects the database for the names of keys.
    async fn select(&mut self) -> Result<(), WireError> {
        self.asked = Instant::now();
        self.client.run(redis::cmd("SELECT").arg(self.database)).await
    }

    /// The server has other things to do: the time of an answer is at least what it has spent on
    /// it.
    async fn rest(&mut self, busy: Duration) {
        if self.share < 1.0 {
            tokio::time::sleep(busy.mul_f64(1.0 / self.share - 1.0)).await;
        }
    }

    async fn read_names(&mut self, cursor: &[u8]) -> Result<(), WireError> {
        self.asked = Instant::now();
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(COUNT);
        let (next, names): (Vec<u8>, Vec<Vec<u8>>) = self.client.run(&scan).await?;
        if next != b"0" {
            self.cursor = Some(next);
        }
        for name in names {
            let hash: [u8; 32] = Sha256::digest(&name).into();
            if self.seen.insert(hash.first_chunk().copied().unwrap_or_default()) {
                self.keys.push_back(name);
            }
        }
        Ok(())
    }

    async fn read_values(&mut self) -> Result<(), WireError> {
        let each = self.bytes.checked_div(self.read).unwrap_or(BYTES / 8).max(1);
        let count =
            usize::try_from(BYTES / each).unwrap_or(VALUES).clamp(1, VALUES).min(self.keys.len());
        let names: Vec<Vec<u8>> = self.keys.drain(..count).collect();
        let mut commands = Vec::new();
        for name in &names {
            push_command(&mut commands, &[b"DUMP", &name[..]]);
            if self.exact {
                push_command(&mut commands, &[b"PEXPIRETIME", &name[..]]);
            } else {
                push_command(&mut commands, &[b"PTTL", &name[..]]);
                push_command(&mut commands, &[b"TIME"]);
            }
        }
        self.values.send(&commands).await?;
        for name in &names {
            let (value, expires) =
                (answer(self.values.reply().await?)?, answer(self.values.reply().await?)?);
            let now =
                if self.exact { 0 } else { milliseconds(&answer(self.values.reply().await?)?)? };
            let expires = expires.number().ok_or_else(|| malformed("expiry of a key"))?;
            // It is gone meanwhile.
            let (Reply::Bulk(Some(payload)), -1..) = (value, expires) else { continue };
            (self.read, self.bytes) = (self.read + 1, self.bytes + payload.len() as u64);
            let (Some((kind, value)), Some(version)) =
                (dump_parts(&payload), payload_version(&payload))
            else {
                return Err(malformed("reply to DUMP").into());
            };
            let expires = u64::try_from(expires).ok().map(|time| time.saturating_add(now));
            self.builder.key(version, name, expires, kind, value)?;
        }
        Ok(())
    }
}

/// The server's time, in milliseconds since 1970.
fn milliseconds(time: &Reply) -> Result<u64, WireError> {
    let number = |at: usize| {
        time.parts().get(at).and_then(Reply::number).and_then(|number| u64::try_from(number).ok())
    };
    let (Some(seconds), Some(micros)) = (number(0), number(1)) else {
        return Err(malformed("reply to TIME").into());
    };
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

fn answer(reply: Reply) -> Result<Reply, WireError> {
    match reply {
        Reply::Error(text) => Err(WireError::Server(text)),
        other => Ok(other),
    }
}

//! Leases: at most one process at a time does something, and knows when it has lost that right.
//!
//! A lease is a chain of objects `x-leases/NAME/TOKEN`, of which the highest token counts. Taking a lease creates the next
//! token, and creating is atomic: of many rivals one wins. Tokens only grow, so whoever acts under a lease can be told from
//! those who held it before (a fencing token). A holder renews by writing its own object anew; nobody else ever writes it.
//!
//! # Time
//! No clock is compared with another. A rival learns the age of a lease from the store alone: the time at which the store
//! says that it wrote the lease, and the time at which it says that it wrote an object of the rival just now. The holder
//! measures with its monotonic clock.
//!
//! - The holder may act until one period after its last renewal *began*, and only renews within that time.
//! - A rival takes over when the lease is two periods old.
//!
//! So between the last moment at which a holder acts or renews and the first at which another one takes over there is a
//! whole period, for requests that were on their way.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Repository, layout};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{open_json, seal_json};
use crate::sink::{Key, Payload, PutMode, SinkErrorKind, SinkOps};

/// How a lease is held.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// How long the right to act lasts after a renewal; at least 3 seconds. Whoever dies blocks the others for two such
    /// periods.
    pub period: Duration,
    /// Who takes it, for people: a host and a purpose.
    pub holder: String,
    /// After taking it from a store that cannot create atomically: how long to wait before looking whether a rival took
    /// it at the same moment.
    pub settle: Duration,
}

impl Default for LeaseOptions {
    /// A period of one minute; three seconds to settle.
    fn default() -> Self {
        Self { period: Duration::from_secs(60), holder: String::new(), settle: Duration::from_secs(3) }
    }
}

/// What a lease object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    holder: String,
    /// Tells this process from all others.
    owner: String,
    period_seconds: u64,
    renewed: Timestamp,
    #[serde(default)]
    released: bool,
}

/// A lease that this process holds. Dropping it leaves it to expire; [`Self::release`] gives it back at once.
#[derive(Debug)]
pub struct Lease {
    repository: Repository,
    name: String,
    token: u64,
    body: Body,
    period: Duration,
    renewed: Instant,
}

/// A lease that is renewed in the background.
#[derive(Debug)]
pub struct KeptLease {
    token: u64,
    lost: CancellationToken,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Lease>,
}

impl Lease {
    /// Takes the lease `name` (letters, digits and `-`).
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if somebody else holds it; those of the sink.
    pub async fn acquire(repository: &Repository, name: &str, options: &LeaseOptions, cx: &Context) -> Result<Self> {
        let mut previous = highest(repository, name).await?;
        if let Some(token) = previous
            && let Some((body, written)) = read(repository, name, token).await?
            && !body.released
        {
            let age = age(repository, name, written, &body, cx).await?;
            let left = SignedDuration::from_secs(2 * i64::try_from(body.period_seconds).unwrap_or(i64::MAX / 2)) - age;
            if left.is_positive() {
                return Err(busy(name, &body, left));
            }
            // While its age was found out, another rival may have taken it.
            previous = highest(repository, name).await?.max(previous);
            if previous != Some(token) {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("the lease `{name}` was taken by somebody else just now"),
                ));
            }
        }
        let token = previous.map_or(1, |token| token + 1);
        let body = Body {
            holder: options.holder.clone(),
            owner: hex::encode(rand::random::<[u8; 16]>()),
            period_seconds: options.period.as_secs().max(3),
            renewed: cx.clock.now(),
            released: false,
        };
        let period = Duration::from_secs(body.period_seconds);
        let lease = Self {
            repository: repository.clone(),
            name: name.to_owned(),
            token,
            body,
            period,
            renewed: Instant::now(),
        };
        lease.create(options, cx).await?;
        lease.remove_older().await;
        Ok(lease)
    }

    async fn create(&self, options: &LeaseOptions, cx: &Context) -> Result<()> {
        let sealed = seal_json(self.repository.key(), &self.body)?;
        let sink = self.repository.sink();
        match sink.put(&key(&self.name, self.token)?, Payload::from(sealed), PutMode::Create).await {
            Ok(_) => {}
            Err(error) if error.kind() == SinkErrorKind::AlreadyExists => {
                return Err(Error::new(ErrorKind::Busy, format!("the lease `{}` was taken by a rival", self.name)));
            }
            Err(error) => return Err(error.into()),
        }
        if !self.repository.creates_atomically(cx).await? {
            tokio::time::sleep(options.settle).await;
            self.confirm().await?;
        }
        Ok(())
    }

    /// Grows with every holder of this lease.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether the right to act lasts, as far as this process can tell without asking the store.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.renewed.elapsed() < self.period
    }

    /// Asks the store whether this process still holds the lease; to be done before anything that cannot be undone.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it does not; those of the sink.
    pub async fn confirm(&self) -> Result<()> {
        let mine = match read(&self.repository, &self.name, self.token).await? {
            Some((body, _)) => body.owner == self.body.owner,
            None => false,
        };
        if mine && highest(&self.repository, &self.name).await? == Some(self.token) && self.is_current() {
            return Ok(());
        }
        Err(self.lost())
    }

    /// Renews the right to act.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it is lost; those of the sink.
    pub async fn renew(&mut self, cx: &Context) -> Result<()> {
        if !self.is_current() {
            return Err(self.lost());
        }
        let began = Instant::now();
        self.body.renewed = cx.clock.now();
        let sealed = seal_json(self.repository.key(), &self.body)?;
        self.repository.sink().put_bytes(&key(&self.name, self.token)?, sealed).await?;
        // Still by the old renewal: what took longer than a period does not count.
        self.confirm().await?;
        self.renewed = began;
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the sink; then it expires.
    pub async fn release(mut self) -> Result<()> {
        if !self.is_current() {
            return Ok(());
        }
        self.body.released = true;
        let sealed = seal_json(self.repository.key(), &self.body)?;
        self.repository.sink().put_bytes(&key(&self.name, self.token)?, sealed).await?;
        Ok(())
    }

    /// Renews it in the background, three times a period.
    #[must_use]
    pub fn keep(self, cx: &Context) -> KeptLease {
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let (token, on_loss, stopped, cx) = (self.token, lost.clone(), stop.clone(), cx.clone());
        let mut lease = self;
        let task = tokio::spawn(async move {
            let _lost = on_loss.clone().drop_guard();
            loop {
                let pause = tokio::time::sleep(lease.period / 3);
                tokio::select! {
                    () = pause => {}
                    () = stopped.cancelled() => {
                        _lost.disarm();
                        return lease;
                    }
                }
                let left = lease.period.saturating_sub(lease.renewed.elapsed());
                let renewed = tokio::time::timeout(left, lease.renew(&cx)).await;
                match renewed {
                    Ok(Ok(())) => {}
                    // There is time to try again.
                    Ok(Err(error)) if error.kind() == ErrorKind::Unavailable && lease.is_current() => {}
                    _ => return lease,
                }
            }
        });
        KeptLease { token, lost, stop, task }
    }

    fn lost(&self) -> Error {
        Error::new(ErrorKind::Busy, format!("the lease `{}` was lost to somebody else, or has expired", self.name))
            .with_hint("run the command again; what was done so far is kept")
    }

    /// Tokens below this one have served. That they cannot be removed (a writer may not delete) does no harm.
    async fn remove_older(&self) {
        let Ok(tokens) = tokens(&self.repository, &self.name).await else {
            return;
        };
        for token in tokens.into_iter().filter(|token| *token < self.token) {
            if let Ok(key) = key(&self.name, token) {
                _ = self.repository.sink().delete_one(&key).await;
            }
        }
    }
}

impl KeptLease {
    /// Grows with every holder of this lease.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Cancelled when the lease is lost: whoever acts under it stops at once.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Fails if the lease is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`].
    pub fn check(&self) -> Result<()> {
        if !self.lost.is_cancelled() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "the lease was lost while work was under way")
            .with_hint("run the command again; what was done so far is kept"))
    }

    /// Stops renewing and gives it back.
    ///
    /// # Errors
    /// Those of the sink; then it expires.
    pub async fn release(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.map_err(super::cpu::panicked)?.release().await
    }
}

fn key(name: &str, token: u64) -> Result<Key> {
    Key::new(format!("{}/{token:020}", layout::lease(name)?)).map_err(|error| Error::internal(error.to_string()))
}

async fn tokens(repository: &Repository, name: &str) -> Result<Vec<u64>> {
    let objects = repository.sink().list_all(&layout::lease(name)?).await?;
    Ok(objects.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect())
}

async fn highest(repository: &Repository, name: &str) -> Result<Option<u64>> {
    Ok(tokens(repository, name).await?.into_iter().max())
}

/// What a lease object says, and when the store wrote it; `None` if it has vanished. A damaged one counts by its age alone.
async fn read(repository: &Repository, name: &str, token: u64) -> Result<Option<(Body, Option<Timestamp>)>> {
    let key = key(name, token)?;
    let gone = |error: &crate::sink::SinkError| error.kind() == SinkErrorKind::NotFound;
    let meta = match repository.sink().head(&key).await {
        Ok(meta) => meta,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let sealed = match repository.sink().get_bytes(&key).await {
        Ok(sealed) => sealed,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let body = open_json(repository.key(), &sealed).unwrap_or_else(|_| Body {
        holder: "unknown".to_owned(),
        owner: String::new(),
        period_seconds: LeaseOptions::default().period.as_secs(),
        renewed: meta.last_modified.unwrap_or_default(),
        released: false,
    });
    Ok(Some((body, meta.last_modified)))
}

/// How long ago a lease was renewed, by the clock of the store where it has one.
async fn age(
    repository: &Repository,
    name: &str,
    written: Option<Timestamp>,
    body: &Body,
    cx: &Context,
) -> Result<SignedDuration> {
    let sink = repository.sink();
    let clock = Key::new(format!("{}-clock/{}", layout::lease(name)?, hex::encode(rand::random::<[u8; 8]>())));
    let clock = clock.map_err(|error| Error::internal(error.to_string()))?;
    sink.put_bytes(&clock, Vec::new()).await?;
    let now = sink.head(&clock).await?.last_modified;
    // Left behind by those who may not delete; it is empty.
    _ = sink.delete_one(&clock).await;
    Ok(match (now, written) {
        (Some(now), Some(written)) => written.duration_until(now),
        _ => body.renewed.duration_until(cx.clock.now()),
    })
}

fn busy(name: &str, body: &Body, left: SignedDuration) -> Error {
    Error::new(ErrorKind::Busy, format!("the lease `{name}` is held by {}", body.holder)).with_hint(format!(
        "wait until that process has finished; if it has died, its lease ends in {} seconds",
        left.as_secs() + 1
    ))
}

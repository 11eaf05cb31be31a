//! Leases: at most one process at a time does something, and knows when it has lost that right.
//!
//! A lease is a chain of objects `x-leases/NAME/TOKEN`, of which the highest token counts. Taking a
//! lease creates the next token, and creating is atomic: of many rivals one wins. Tokens only grow,
//! so whoever acts under a lease can be told from those who held it before (a fencing token). A
//! holder renews by writing its own object anew; nobody else ever writes it.
//!
//! # Time
//! No clock is compared with another. A rival learns the age of a lease from the store alone: the
//! time at which the store says that it wrote the lease, and the time at which it says that it
//! wrote an object of the rival just now. The holder measures with its own clocks: the monotonic
//! one, and the one on the wall, because the first stands still while a machine sleeps; the longer
//! time counts.
//!
//! - The holder may act until one period after its last renewal *began*, and only renews within
//!   that time.
//! - A rival takes over when the lease is two periods old.
//!
//! So between the last moment at which a holder acts or renews and the first at which another one
//! takes over there is a whole period, for requests that were on their way.

mod holder;
mod note;
mod object;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Repository;
use super::store_clock::StoreClock;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use holder::Held;
pub use note::{LeaseNote, LeaseState};
use object::{Body, highest, read};

/// Periods are at least so long: less is lost to a single slow request.
const SHORTEST: Duration = Duration::from_secs(3);
/// And at most so long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How a lease is held.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// How long the right to act lasts after a renewal; 3 seconds to a day. Whoever dies blocks the
    /// others for two such periods.
    pub period: Duration,
    /// Who takes it, for people: a host and a purpose.
    pub holder: String,
    /// Holders whose processes are known to have died: if the lease is one's, nobody has to wait
    /// until it expires.
    pub dead: Vec<String>,
    /// After taking it from a store that cannot create atomically: how long to wait before looking
    /// whether a rival took it at the same moment.
    pub settle: Duration,
    /// The holder's note; see [`LeaseNote`].
    pub note: LeaseNote,
}

impl Default for LeaseOptions {
    /// A period of one minute; three seconds to settle.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(60),
            holder: String::new(),
            dead: Vec::new(),
            settle: Duration::from_secs(3),
            note: LeaseNote::default(),
        }
    }
}

/// A lease that this process holds. Dropping it leaves it to expire; [`Self::release`] gives it
/// back at once.
#[derive(Debug)]
pub struct Lease(Arc<Held>);

/// A lease that is renewed in the background. Dropping it ends that, and leaves it to expire.
#[derive(Debug)]
pub struct KeptLease {
    held: Arc<Held>,
    lost: CancellationToken,
    stop: DropGuard,
    task: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Takes the lease `name` (letters, digits and `-`).
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if somebody else holds it; those of the sink.
    pub async fn acquire(
        repository: &Repository,
        name: &str,
        options: &LeaseOptions,
        cx: &Context,
    ) -> Result<Self> {
        let atomic = repository.creates_atomically(cx).await?;
        let previous = highest(repository, name).await?;
        if let Some(token) = previous
            && let Some((body, written)) = read(repository, name, token).await?
        {
            if !body.released && !options.dead.contains(&body.holder) {
                let age = StoreClock::read(repository, cx).await?.age(written, body.renewed);
                let left = body.expires_after().saturating_sub(age);
                if left.is_positive() {
                    return Err(busy(name, &body, left));
                }
            }
            options.note.inherit(body.note);
        }
        let held = Held {
            repository: repository.clone(),
            name: name.to_owned(),
            token: previous.unwrap_or(0) + 1,
            holder: options.holder.clone(),
            owner: hex::encode(rand::random::<[u8; 16]>()),
            period: options.period.clamp(SHORTEST, LONGEST),
            clock: Arc::clone(&cx.clock),
            note: options.note.clone(),
            renewed: Mutex::new((Instant::now(), cx.clock.now())),
        };
        held.create().await?;
        if !atomic {
            tokio::time::sleep(options.settle).await;
        }
        // Also where creating is atomic: a request that was on its way for long may have created a
        // token that others have passed since.
        held.confirm().await?;
        held.remove_older().await;
        Ok(Self(Arc::new(held)))
    }

    /// Who holds, or has held last, the lease `name`; none if nobody ever did.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn holder(repository: &Repository, name: &str) -> Result<Option<String>> {
        let Some(token) = highest(repository, name).await? else { return Ok(None) };
        Ok(read(repository, name, token).await?.map(|(body, _)| body.holder))
    }

    /// The stored state of the lease `name`; `None` before the first holder. Takes three requests
    /// and writes nothing.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn state(repository: &Repository, name: &str) -> Result<Option<LeaseState>> {
        let Some(token) = highest(repository, name).await? else { return Ok(None) };
        Ok(read(repository, name, token).await?.map(|(body, _)| LeaseState::from(body)))
    }

    /// Grows with every holder of this lease.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.token
    }

    /// Whether the right to act lasts, as far as this process can tell without asking the store.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Asks the store whether this process still holds the lease; to be done before anything that
    /// cannot be undone.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it does not; those of the sink.
    pub async fn confirm(&self) -> Result<()> {
        self.0.confirm().await
    }

    /// Renews the right to act.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it is lost; those of the sink.
    pub async fn renew(&self) -> Result<()> {
        self.0.renew().await
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the sink; then it expires.
    pub async fn release(self) -> Result<()> {
        self.0.release().await
    }

    /// Renews it in the background, three times a period.
    #[must_use]
    pub fn keep(self) -> KeptLease {
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let (held, on_loss, stopped) = (Arc::clone(&self.0), lost.clone(), stop.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = held.renew_until_lost() => on_loss.cancel(),
                () = stopped.cancelled() => {}
            }
        });
        KeptLease { held: self.0, lost, stop: stop.drop_guard(), task }
    }
}

impl KeptLease {
    /// Grows with every holder of this lease.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// Cancelled when the lease is lost: whoever acts under it stops at once.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Fails if the lease is lost, as far as this process can tell without asking the store.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`].
    pub fn check(&self) -> Result<()> {
        if !self.lost.is_cancelled() && self.held.is_current() {
            Ok(())
        } else {
            Err(self.held.lost())
        }
    }

    /// Asks the store whether this process still holds the lease; to be done before anything that
    /// cannot be undone.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it does not; those of the sink.
    pub async fn confirm(&self) -> Result<()> {
        self.check()?;
        self.held.confirm().await
    }

    /// Does `work` unless, or until, the lease is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if it is lost; those of `work`.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.lost.cancelled() => Err(self.held.lost()),
        }
    }

    /// Gives it back after what was done under it.
    ///
    /// # Errors
    /// That of `result`, else those of [`Self::release`].
    pub async fn release_after<T>(self, result: Result<T>) -> Result<T> {
        let released = self.release().await;
        let value = result?;
        released.map(|()| value)
    }

    /// Stops renewing and gives it back, also if it has expired by now: its holder does nothing
    /// under it any more, and rivals need not wait longer. Whoever took it over meanwhile has a
    /// token of their own.
    ///
    /// # Errors
    /// Those of the sink; then rivals wait.
    pub async fn abandon(self) -> Result<()> {
        drop(self.stop);
        self.task.await.map_err(super::cpu::panicked)?;
        self.held.write_release().await
    }

    /// Stops renewing and gives it back.
    ///
    /// # Errors
    /// Those of the sink; then it expires.
    pub async fn release(self) -> Result<()> {
        drop(self.stop);
        self.task.await.map_err(super::cpu::panicked)?;
        self.held.release().await
    }
}

fn busy(name: &str, body: &Body, left: SignedDuration) -> Error {
    let holder = &body.holder;
    // Other names of leases are digests of streams, which identify nothing to a person.
    let text = match name.split_once('-') {
        Some(("capture", _)) => format!("the log is already captured by {holder}"),
        Some(("roll", _)) => format!("the log is already rolled up by {holder}"),
        _ => format!("the lease `{name}` is held by {holder}"),
    };
    Error::new(ErrorKind::Busy, text).with_hint(format!(
        "wait until that process has finished; if it has died, its lease expires in {} seconds",
        left.as_secs() + 1
    ))
}

//! The process that holds a lease: creates, confirms, renews and releases the lease's object.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::LeaseNote;
use super::object::{Body, highest, key, owner, tokens};
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::seal_json;
use crate::repository::Repository;
use crate::sink::{Key, Payload, PutMode, SinkErrorKind, SinkOps};

#[derive(Debug)]
pub(super) struct Held {
    pub(super) repository: Repository,
    pub(super) name: String,
    pub(super) token: u64,
    pub(super) holder: String,
    pub(super) owner: String,
    pub(super) period: Duration,
    pub(super) clock: SharedClock,
    pub(super) note: LeaseNote,
    /// When the last renewal began.
    pub(super) renewed: Mutex<(Instant, Timestamp)>,
}

impl Held {
    fn key(&self) -> Result<Key> {
        key(&self.name, self.token)
    }

    fn body(&self, renewed: Timestamp, released: bool) -> Result<Vec<u8>> {
        let body = Body {
            holder: self.holder.clone(),
            owner: self.owner.clone(),
            period_seconds: self.period.as_secs(),
            renewed,
            released,
            note: self.note.get(),
        };
        seal_json(self.repository.key(), &body)
    }

    pub(super) async fn create(&self) -> Result<()> {
        let payload = Payload::from(self.body(self.clock.now(), false)?);
        match self.repository.sink().put(&self.key()?, payload, PutMode::Create).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == SinkErrorKind::AlreadyExists => Err(Error::new(
                ErrorKind::Busy,
                format!("the lease `{}` was taken by another process", self.name),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn elapsed(&self) -> Duration {
        let (monotonic, wall) = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let by_the_wall =
            Duration::try_from(wall.duration_until(self.clock.now())).unwrap_or_default();
        monotonic.elapsed().max(by_the_wall)
    }

    pub(super) fn is_current(&self) -> bool {
        self.elapsed() < self.period
    }

    /// Whether the object under this token is this process's, and the highest.
    pub(super) async fn confirm(&self) -> Result<()> {
        if self.is_own().await?
            && highest(&self.repository, &self.name).await? == Some(self.token)
            && self.is_current()
        {
            return Ok(());
        }
        Err(self.lost())
    }

    /// Returns `true` if this process wrote the object of this token.
    async fn is_own(&self) -> Result<bool> {
        let owner = owner(&self.repository, &self.name, self.token).await?;
        Ok(owner.as_ref() == Some(&self.owner))
    }

    pub(super) async fn renew(&self) -> Result<()> {
        let began = (Instant::now(), self.clock.now());
        // What is not this process's any more must not be written over.
        self.confirm().await?;
        self.repository.sink().put_bytes(&self.key()?, self.body(began.1, false)?).await?;
        // Still by the old renewal: what took longer than a period does not count.
        self.confirm().await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }

    pub(super) async fn renew_until_lost(&self) {
        loop {
            tokio::time::sleep(self.period / 3).await;
            let left = self.period.saturating_sub(self.elapsed());
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(())) => {}
                // There is time to try again.
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable && self.is_current() => {}
                _ => return,
            }
        }
    }

    pub(super) async fn release(&self) -> Result<()> {
        if !self.is_current() {
            return Ok(());
        }
        self.write_release().await
    }

    /// Unless somebody else has made an object of the same name, in a store that does not prevent
    /// that.
    pub(super) async fn write_release(&self) -> Result<()> {
        if !self.is_own().await? {
            return Ok(());
        }
        self.repository.sink().put_bytes(&self.key()?, self.body(self.clock.now(), true)?).await?;
        Ok(())
    }

    pub(super) fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Busy,
            format!("the lease `{}` was taken by another process or has expired", self.name),
        )
        .with_hint("run the command again; its completed work is kept")
    }

    /// Tokens that have served, but for the last one, go. That they cannot be removed (a writer may
    /// not delete) does no harm.
    pub(super) async fn remove_older(&self) {
        let Ok(tokens) = tokens(&self.repository, &self.name).await else {
            return;
        };
        for token in tokens.into_iter().filter(|token| token + 1 < self.token) {
            if let Ok(key) = key(&self.name, token) {
                _ = self.repository.sink().delete_one(&key).await;
            }
        }
    }
}

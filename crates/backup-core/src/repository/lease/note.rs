//! The note of a lease's holder, and the state of a lease for readers.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::LONGEST;
use super::object::Body;

/// A value that is stored with the lease whenever its holder renews it or gives it back: no request
/// of its own. A new holder begins with the value of the one before. Cheap to clone; clones are one
/// note.
#[derive(Debug, Clone, Default)]
pub struct LeaseNote(Arc<Mutex<Option<Value>>>);

impl LeaseNote {
    /// Replaces the value. One that cannot be written as JSON is left out.
    pub fn set(&self, value: &impl Serialize) {
        let value = serde_json::to_value(value).ok();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// The value, if it is one of this type.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.get()?).ok()
    }

    pub(super) fn get(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over the value of the holder before, if that left one.
    pub(super) fn inherit(&self, before: Option<Value>) {
        if before.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = before;
        }
    }
}

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    /// The present or last holder, for people.
    pub holder: String,
    /// The holder gave the lease back.
    pub released: bool,
    renewed: Timestamp,
    expires_after: SignedDuration,
    note: Option<Value>,
}

impl LeaseState {
    /// Returns `true` if the lease is held at `now`, as far as the holder's clock agrees with the
    /// caller's.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        !self.released && self.renewed.duration_until(now) < self.expires_after
    }

    /// The value of the holder's note, if there is one of this type.
    #[must_use]
    pub fn note<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.note.clone()?).ok()
    }
}

impl From<Body> for LeaseState {
    fn from(body: Body) -> Self {
        let expires_after = body.expires_after();
        let Body { holder, renewed, released, note, .. } = body;
        Self { holder, released, renewed, expires_after, note }
    }
}

impl Body {
    /// The age at which a rival may take over.
    pub(super) fn expires_after(&self) -> SignedDuration {
        let period =
            i64::try_from(self.period_seconds.min(LONGEST.as_secs())).unwrap_or(i64::MAX / 2);
        SignedDuration::from_secs(2 * period)
    }
}

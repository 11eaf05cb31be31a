//! Which operation fails, and how.

use std::time::Duration;

use crate::sink::{Operation, SinkError, SinkErrorKind};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and the error says so.
    Before(SinkErrorKind),
    /// It is not done, but the error does not know: a request that was lost.
    BeforeUnknown(SinkErrorKind),
    /// It is done, but the error does not know: a response that was lost.
    After(SinkErrorKind),
    /// A `get` or a `list` fails after half of its bytes or objects.
    Midway(SinkErrorKind),
    /// A `get` ends after half of its bytes, without an error.
    Truncated,
    /// A `get` with one bit flipped in the middle.
    Corrupted,
    /// It takes so much longer, and is done.
    Delay(Duration),
}

impl Fault {
    /// Whether there is such a fault of this operation. Rules do not count others.
    fn suits(self, operation: Operation) -> bool {
        match self {
            Self::Truncated | Self::Corrupted => operation == Operation::Get,
            Self::Midway(_) => matches!(operation, Operation::Get | Operation::List),
            Self::Before(_) | Self::BeforeUnknown(_) | Self::After(_) | Self::Delay(_) => true,
        }
    }
}

/// Which operations fail. A rule counts the operations that it is about; after some that succeed,
/// some fail.
#[derive(Debug, Clone)]
pub struct FaultRule {
    fault: Fault,
    operation: Option<Operation>,
    prefix: Option<String>,
    skip: u64,
    times: u64,
    period: u64,
    seen: u64,
}

impl FaultRule {
    /// The first operation of any kind on any key fails.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { fault, operation: None, prefix: None, skip: 0, times: 1, period: u64::MAX, seen: 0 }
    }

    /// Only such operations.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only operations on this key or below it.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// So many succeed first.
    #[must_use]
    pub fn after(mut self, succeed: u64) -> Self {
        self.skip = succeed;
        self
    }

    /// Then so many fail, one after the other.
    #[must_use]
    pub fn times(mut self, fail: u64) -> Self {
        self.times = fail;
        self
    }

    /// All following ones fail.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    /// It begins again after so many in all: of every `period`, the first ones fail.
    #[must_use]
    pub fn every(mut self, period: u64) -> Self {
        self.period = period.max(1);
        self
    }

    /// Counts an operation; the fault if this is one that fails.
    pub(super) fn decide(&mut self, operation: Operation, key: &str) -> Option<Fault> {
        let is_meant = self.fault.suits(operation)
            && self.operation.is_none_or(|only| only == operation)
            && self.prefix.as_ref().is_none_or(|prefix| {
                key.strip_prefix(&**prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        if !is_meant {
            return None;
        }
        let number = self.seen;
        self.seen += 1;
        let fails = number >= self.skip && (number - self.skip) % self.period < self.times;
        fails.then_some(self.fault)
    }
}

/// The error of a fault, with unknown effect.
pub(super) fn error(kind: SinkErrorKind, operation: Operation, key: &str) -> SinkError {
    SinkError::on(kind, operation, key).with_source("a fault of the plan")
}

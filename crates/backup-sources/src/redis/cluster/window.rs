//! Windows of received events, and the segments made of them.

use backup_core::source::LogSegment;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::places::position;
use crate::redis::layout::cluster_log;

/// What was received within a short time.
pub(super) struct Window {
    pub(super) begun: Timestamp,
    pub(super) last: Timestamp,
    pub(super) units: Vec<Unit>,
    pub(super) len: usize,
}

/// Whole events of one master.
pub(super) struct Unit {
    pub(super) stream: usize,
    pub(super) id: String,
    /// Offset of the first byte.
    pub(super) from: u64,
    /// Where the first event ends.
    pub(super) first: usize,
    pub(super) data: BytesMut,
}

/// What may be told.
pub(super) struct Ready {
    pub(super) segment: LogSegment,
    /// Whose it is, its id, and where it ends; none of a heartbeat.
    pub(super) end: Option<(usize, String, u64)>,
}

/// Time passes, and nothing happens.
pub(super) fn heartbeat(from: u64, to: u64) -> LogSegment {
    LogSegment {
        branch: position(to).branch,
        parent: None,
        from,
        to,
        ticks: Vec::new(),
        path: cluster_log(),
        at: 0,
        scope: None,
        data: Bytes::new(),
    }
}

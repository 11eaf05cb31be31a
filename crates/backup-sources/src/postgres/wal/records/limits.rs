//! Settings that the server notes in its log (`xl_parameter_change` in `xlog_internal.h`, the same
//! since 12). A server that accepts queries during replay must have them at least as large.

use super::record::main_data;
use super::{PARAMETER_CHANGE, SHUTDOWN, XLOG};

/// Names of these settings, in the order of the record.
pub(in super::super::super) const REPLAY_SETTINGS: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// Returns `true` for a record of a clean shutdown, given by its beginning. It changes no data.
pub(in super::super::super) fn is_shutdown(record: &[u8]) -> bool {
    record.get(16..18).is_some_and(|kind| kind[0] & 0xf0 == SHUTDOWN && kind[1] == XLOG)
}

/// The largest values that the log notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super::super) struct ServerLimits([i32; REPLAY_SETTINGS.len()]);

impl ServerLimits {
    /// Takes the values of a record into account, given by its beginning.
    pub(in super::super::super) fn note(&mut self, record: &[u8]) {
        let is_change = record
            .get(16..18)
            .is_some_and(|kind| kind[0] & 0xf0 == PARAMETER_CHANGE && kind[1] == XLOG);
        let Some(data) = main_data(record).filter(|_| is_change) else { return };
        for (largest, value) in self.0.iter_mut().zip(data.chunks_exact(4)) {
            let value = value.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
            *largest = value.max(*largest);
        }
    }

    /// The larger one of `value` and the value that the log notes of the setting `name`.
    pub(in super::super::super) fn at_least(&self, name: &str, value: &str) -> String {
        let noted = REPLAY_SETTINGS.iter().position(|known| *known == name).map(|at| self.0[at]);
        match (noted, value.parse::<i32>()) {
            (Some(noted), Ok(value)) => noted.max(value).to_string(),
            _ => value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the server writes it: length, transaction, previous record, kind, resource
    /// manager, padding, checksum; then its data.
    fn record(kind: u8, values: [i32; 5]) -> Vec<u8> {
        let mut record = vec![0; 24];
        (record[16], record[17]) = (kind, 0);
        let data: Vec<u8> = values.into_iter().flat_map(i32::to_le_bytes).collect();
        record.extend([255, 28]);
        record.extend(data);
        // The level of the log, and two switches.
        record.extend([1, 0, 0, 0, 0, 1, 0, 0]);
        record
    }

    #[test]
    fn settings_are_as_large_as_the_log_ever_notes() {
        let mut limits = ServerLimits::default();
        limits.note(&record(0x60, [200, 8, 10, 0, 64]));
        limits.note(&record(0x60, [100, 9, 10, 5, 64]));
        limits.note(&record(0x70, [900, 900, 900, 900, 900]));
        assert_eq!(limits.at_least("max_connections", "100"), "200");
        assert_eq!(limits.at_least("max_connections", "300"), "300");
        assert_eq!(limits.at_least("max_worker_processes", "8"), "9");
        assert_eq!(limits.at_least("max_prepared_transactions", "0"), "5");
        assert_eq!(limits.at_least("wal_level", "replica"), "replica");
        limits.note(&[0; 3]);
    }
}

//! A snapshot beside a server: digests of the keys that both can have.
//!
//! Keys that have expired by the server's clock are left out on both sides: servers drop them at any
//! time. Values of modules are left out as well, because modules may store one value as different
//! bytes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::Digest;
use backup_core::words;

use super::backup::objects;
use super::digest::Part;
use super::rdb::DatabaseSurvey;

/// Digests of both sides, by database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// In the snapshot.
    pub stored: Digest,
    /// On the server, now.
    pub found: Digest,
    /// Number of warnings about keys that were not compared.
    pub warnings: u64,
}

impl Comparison {
    /// Of the databases of both sides; reports keys that were left out.
    pub(super) fn of(
        cx: &Context,
        (stored, found): (&BTreeMap<u32, DatabaseSurvey>, &BTreeMap<u32, DatabaseSurvey>),
        (part, other): (&Part, &Part),
    ) -> Self {
        let left_out = part.left_out();
        let expired = left_out.expired.load(Ordering::Relaxed);
        if expired > 0 {
            let keys = words::count(expired, "key has", "keys have");
            cx.events.note(format!("{keys} expired since the snapshot and are not compared"));
        }
        let most = |counter: fn(&Part) -> u64| counter(part).max(counter(other));
        let of_modules = most(|part| part.left_out().of_modules.load(Ordering::Relaxed));
        let too_large = most(|part| part.left_out().too_large.load(Ordering::Relaxed));
        let mut warnings = 0;
        for (keys, text) in [
            (of_modules, "of modules"),
            (too_large, "of more than 32 MiB, of which only name, type and expiry count"),
        ] {
            if keys > 0 {
                let values = words::count(keys, "value", "values");
                let text = format!("not compared: {values} {text}");
                cx.events.warn(WarningKind::Other, "", text);
                warnings += 1;
            }
        }
        let digest = |databases| Digest { objects: objects(databases) };
        Self { stored: digest(stored), found: digest(found), warnings }
    }
}

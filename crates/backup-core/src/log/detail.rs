//! `/.backup/log/…json` in a snapshot of type `log`: where the bytes of a piece of the log are, and
//! what happened when.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::slice::{Part, SliceHeader};
use super::{Scope, Tick};

/// Name of the directory below `/.backup`.
pub(super) const DETAIL_DIR: &str = "log";

/// Parts that are about different things are kept apart from here on: what is smaller is read with
/// the blob that it is in.
const APART: u64 = 1 << 20;

/// Of one piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) branch: String,
    /// What happened when.
    pub(super) ticks: Vec<Tick>,
    /// In the order of the log.
    pub(super) parts: Vec<Part>,
}

impl Detail {
    pub(super) fn new(branch: &str) -> Self {
        Self { branch: branch.to_owned(), ..Self::default() }
    }

    /// Name of its file, by what is in it.
    pub(super) fn file_name(from: u64, json: &[u8]) -> String {
        format!("{from:016x}-{}.json", hex::encode(&Sha256::digest(json)[..8]))
    }

    /// Adds what a slice holds, with the places that its bytes went to.
    pub(super) fn add(&mut self, slice: &SliceHeader, places: Vec<Part>) {
        self.ticks.extend(&slice.ticks);
        for part in places {
            match self.parts.last_mut() {
                Some(last)
                    if last.path == part.path
                        && last.at + last.len == part.at
                        && last.to == part.from
                        && (last.len < APART || last.scope == part.scope) =>
                {
                    last.len += part.len;
                    last.to = part.to;
                    last.scope = Scope::join(last.scope.take(), part.scope.as_ref());
                }
                _ => self.parts.push(part),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Slices of 256 KiB, each about one object.
    fn detail(objects: &[Option<&str>]) -> Vec<(u64, Option<Scope>)> {
        let mut detail = Detail::new("");
        for (object, number) in objects.iter().zip(0..) {
            let scope =
                object.map(|object| Scope { always: false, objects: [object.to_owned()].into() });
            let (from, to, at, len) = (number, number + 1, number << 18, 1 << 18);
            let part = Part { from, to, path: "/log".to_owned(), at, len, scope };
            let json = serde_json::json!({
                "version": 1, "stream": "s", "branch": "", "from": from, "to": to, "sha256": "",
                "captured": Timestamp::UNIX_EPOCH,
            });
            detail.add(&serde_json::from_value(json).unwrap(), vec![part]);
        }
        assert_eq!(
            detail.parts.iter().map(|part| part.len).sum::<u64>(),
            (objects.len() as u64) << 18
        );
        detail.parts.into_iter().map(|part| (part.len >> 18, part.scope)).collect()
    }

    fn of(objects: &[&str]) -> Option<Scope> {
        Some(Scope {
            always: false,
            objects: objects.iter().map(|&object| object.to_owned()).collect(),
        })
    }

    #[test]
    fn parts_become_one_as_long_as_nothing_is_lost_by_it() {
        assert_eq!(detail(&[None; 9]), [(9, None)]);
        assert_eq!(detail(&[Some("a"); 9]), [(9, of(&["a"]))]);
        let objects = [["a"; 5].as_slice(), &["b"; 3], &["c"; 2]]
            .concat()
            .into_iter()
            .map(Some)
            .collect::<Vec<_>>();
        assert_eq!(detail(&objects), [(5, of(&["a"])), (4, of(&["b", "c"])), (1, of(&["c"]))]);
        assert_eq!(detail(&[Some("a"), None, Some("a")]), [(3, None)]);
    }
}

//! All object names in one place.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{BlobId, IndexId, KeyId, PackId, SnapshotId};
use crate::sink::{Key, Prefix};

// Every name below is made of fixed words and hexadecimal digits and is therefore a valid key;
// `fallback` satisfies the type system and can never be reached.
fn key(text: String) -> Key {
    Key::new(text).unwrap_or_else(|_| fallback())
}

#[expect(clippy::expect_used, reason = "a constant that is tested below")]
fn fallback() -> Key {
    Key::new("config").expect("a valid constant")
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).unwrap_or_default()
}

/// The repository's config.
pub(crate) fn config() -> Key {
    key("config".to_owned())
}

/// Side-car copy of the config, byte for byte: from it a lost or damaged config is recovered.
pub(crate) fn config_copy() -> Key {
    key("x-receipts/config".to_owned())
}

pub(crate) fn key_file(id: &KeyId) -> Key {
    key(format!("keys/{id}"))
}

pub(crate) fn snapshot(id: &SnapshotId) -> Key {
    key(format!("snapshots/{id}"))
}

pub(crate) fn index(id: &IndexId) -> Key {
    key(format!("index/{id}"))
}

pub(crate) fn pack(id: &PackId) -> Key {
    let hex = id.to_hex();
    key(format!("data/{}/{hex}", &hex[..2]))
}

pub(crate) fn lock(name: &str) -> Key {
    key(format!("locks/{name}"))
}

/// Note that a snapshot was stored here: what `check` misses a deleted snapshot by.
pub(crate) fn snapshot_receipt(id: &SnapshotId) -> Key {
    key(format!("x-receipts/snapshots/{id}"))
}

/// Note that a key file was stored here.
pub(crate) fn key_receipt(id: &KeyId) -> Key {
    key(format!("x-receipts/keys/{id}"))
}

/// What a probe of the store found out.
pub(crate) fn verdict() -> Key {
    key("x-store/verdict".to_owned())
}

/// An object that is written to learn what time it is at the store.
pub(crate) fn clock(random: &str) -> Key {
    key(format!("x-store/clock/{random}"))
}

/// The latest accepted time of a store without a clock of its own.
pub(crate) fn seen() -> Key {
    key("x-store/seen".to_owned())
}

/// One sign of life of a session.
pub(crate) fn beacon(session: &str, number: u64) -> Key {
    key(format!("x-sessions/{session}-{number:010}"))
}

/// The session has ended, though its beacons could not be deleted.
pub(crate) fn session_end(session: &str) -> Key {
    key(format!("x-sessions/{session}-end"))
}

pub(crate) fn sessions() -> Prefix {
    prefix("x-sessions")
}

/// Who was at work when packs were marked.
pub(crate) fn prune_record(name: &str) -> Key {
    key(format!("x-prune/{name}"))
}

pub(crate) fn prune_records() -> Prefix {
    prefix("x-prune")
}

/// A snapshot that was forgotten and can still be brought back.
pub(crate) fn forgotten(id: &SnapshotId) -> Key {
    key(format!("x-forgotten/{id}"))
}

pub(crate) fn all_forgotten() -> Prefix {
    prefix("x-forgotten")
}

/// An object that a repair has replaced: under its own name, or with the digest of its content behind
/// that where another one has the name.
pub(crate) fn quarantined(object: &Key, content: Option<&BlobId>) -> Key {
    let suffix = content.map_or_else(String::new, |digest| format!("-{}", digest.short()));
    key(format!("x-quarantine/{object}{suffix}"))
}

pub(crate) fn all_quarantined() -> Prefix {
    prefix("x-quarantine")
}

/// Somebody wants a snapshot to stay.
pub(crate) fn hold(id: &SnapshotId) -> Key {
    key(format!("x-holds/{id}"))
}

pub(crate) fn holds() -> Prefix {
    prefix("x-holds")
}

/// How old the snapshots of a job must be before they may be forgotten; the job's name is hidden.
pub(crate) fn minimum_age(job: &str) -> Key {
    key(format!("x-compliance/{}", SnapshotId::digest(job.as_bytes())))
}

pub(crate) fn minimum_ages() -> Prefix {
    prefix("x-compliance")
}

/// A maintainer vouched for the own time of a snapshot.
pub(crate) fn adoption(id: &SnapshotId) -> Key {
    key(format!("x-adopted/{id}"))
}

/// The snapshots of the time before adoptions existed were adopted.
pub(crate) fn adoptions_begun() -> Key {
    key("x-adopted/begun".to_owned())
}

pub(crate) fn adoptions() -> Prefix {
    prefix("x-adopted")
}

/// What is remembered of a run.
pub(crate) fn run(name: &str) -> Key {
    key(format!("x-runs/{name}"))
}

pub(crate) fn runs() -> Prefix {
    prefix("x-runs")
}

/// A snapshot was verified.
pub(crate) fn proof(id: &SnapshotId) -> Key {
    key(format!("x-proofs/{id}"))
}

pub(crate) fn proofs() -> Prefix {
    prefix("x-proofs")
}

/// A snapshot was found damaged.
pub(crate) fn damage(id: &SnapshotId) -> Key {
    key(format!("x-damage/{id}"))
}

pub(crate) fn all_damage() -> Prefix {
    prefix("x-damage")
}

/// How far a chain of audit records had got. The hash is part of the name: a chain that was
/// shortened and goes on does not replace what was noted of the longer one.
pub(crate) fn anchor(chain: &str, sequence: u64, hash: &str) -> Result<Key> {
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let short = hash.get(..16).unwrap_or(hash);
    let key = Key::new(format!("x-audit/{chain}/{sequence:016x}-{short}")).ok();
    let key = key.filter(|_| is_plain(chain) && is_plain(short));
    key.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("{chain:?} is not a valid name of an audit chain"))
    })
}

pub(crate) fn anchors() -> Prefix {
    prefix("x-audit")
}

/// The slices of a log that were not rolled up yet.
pub(crate) fn lane(stream: &str) -> Prefix {
    prefix(&format!("x-lane/{stream}"))
}

/// A slice: its stream, the token of the lease under which it was written, and its number among
/// those.
pub(crate) fn slice(stream: &str, epoch: u64, sequence: u64) -> Key {
    key(format!("x-lane/{stream}/{epoch:016x}/{sequence:016x}"))
}

/// The tokens of all leases.
pub(crate) fn leases() -> Prefix {
    prefix("x-leases")
}

/// The tokens of a lease.
pub(crate) fn lease(name: &str) -> Result<Prefix> {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let prefix = Prefix::new(format!("x-leases/{name}")).ok().filter(|_| is_plain);
    prefix.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("{name:?} is not a valid lease name"))
    })
}

pub(crate) fn keys() -> Prefix {
    prefix("keys")
}

pub(crate) fn snapshots() -> Prefix {
    prefix("snapshots")
}

pub(crate) fn indexes() -> Prefix {
    prefix("index")
}

pub(crate) fn packs() -> Prefix {
    prefix("data")
}

/// The packs in the same folder as this one.
pub(crate) fn packs_beside(pack: &Key) -> Prefix {
    pack.as_str().rsplit_once('/').map_or_else(packs, |(folder, _)| prefix(folder))
}

pub(crate) fn locks() -> Prefix {
    prefix("locks")
}

pub(crate) fn snapshot_receipts() -> Prefix {
    prefix("x-receipts/snapshots")
}

pub(crate) fn key_receipts() -> Prefix {
    prefix("x-receipts/keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_restic_looks() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(config().as_str(), "config");
        assert_eq!(pack(&hex.parse().unwrap()).as_str(), format!("data/ba/{hex}"));
        assert_eq!(snapshot(&hex.parse().unwrap()).as_str(), format!("snapshots/{hex}"));
        assert_eq!(index(&hex.parse().unwrap()).as_str(), format!("index/{hex}"));
        assert_eq!(key_file(&hex.parse().unwrap()).as_str(), format!("keys/{hex}"));
        assert_eq!(lock(hex).as_str(), format!("locks/{hex}"));
        assert!(snapshot_receipts().contains(&snapshot_receipt(&hex.parse().unwrap())));
        assert!(key_receipts().contains(&key_receipt(&hex.parse().unwrap())));
        assert_eq!(config_copy().as_str(), "x-receipts/config");
        assert_eq!(fallback().as_str(), "config");
    }
}

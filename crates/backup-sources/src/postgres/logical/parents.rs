//! Relations and their parents: of a partition its table, of a sequence the table that owns it.
//!
//! Snapshots may be crafted and servers false. Circles are refused where parents are read, so that
//! everything else follows parents to an end.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Returns `true` if a relation is its own ancestor. `parents` has the parent of each relation.
pub(super) fn have_circle<K: Eq + Hash>(parents: &HashMap<K, K>) -> bool {
    // Relations from which the end is reached.
    let mut ending: HashSet<&K> = HashSet::new();
    for start in parents.keys() {
        let mut path = HashSet::new();
        let mut at = Some(start);
        while let Some(one) = at.filter(|one| !ending.contains(one)) {
            if !path.insert(one) {
                return true;
            }
            at = parents.get(one);
        }
        ending.extend(path);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circle_is_found_from_any_beginning() {
        let has = |parents: &[(u32, u32)]| have_circle(&parents.iter().copied().collect());
        assert!(!has(&[]) && !has(&[(1, 2), (2, 3), (4, 3), (5, 6)]));
        assert!(has(&[(1, 1)]) && has(&[(1, 2), (2, 1)]));
        assert!(has(&[(1, 2), (2, 3), (3, 4), (4, 2)]), "behind its beginning");
        let chain: Vec<(u32, u32)> = (0..100_000).map(|at| (at, at + 1)).collect();
        assert!(!has(&chain));
        assert!(has(&[&chain[..], &[(100_000, 50_000)]].concat()));
    }
}

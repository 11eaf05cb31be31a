//! What a snapshot must hold at least.

use std::collections::HashMap;

use backup_core::format::Manifest;

use crate::config::ExpectConfig;

/// What a snapshot lacks of what is expected, in words.
#[must_use]
pub fn unmet(expected: &[ExpectConfig], manifest: &Manifest) -> Vec<String> {
    let short = |what: &str, found: u64, min: u64| {
        (found < min).then(|| format!("{what}: {found} found, at least {min} expected"))
    };
    let lacks = |expected: &ExpectConfig| match &expected.object {
        None => short("files", manifest.totals.files, expected.min),
        // One that is not there has nothing in it.
        Some(name) => {
            short(name, manifest.objects.get(name).map_or(0, |object| object.count), expected.min)
        }
    };
    expected.iter().filter(|expected| can_tell(expected, manifest)).filter_map(lacks).collect()
}

/// Whether a snapshot has the count of an object. Snapshots that hold the log since an earlier one
/// have no counts; others may lack those of objects that were created or dropped during the backup.
#[must_use]
pub fn can_tell(expected: &ExpectConfig, manifest: &Manifest) -> bool {
    let is_known = |name: &String| manifest.counted || manifest.objects.contains_key(name);
    expected.object.as_ref().is_none_or(is_known)
}

/// The expectation that the estimated number of rows of a table does not meet, in words.
#[must_use]
pub fn below(expected: &ExpectConfig, estimates: &HashMap<String, u64>) -> Option<String> {
    let (name, min) = (expected.object.as_ref()?, expected.min);
    let rows = *estimates.get(name)?;
    (rows < min).then(|| format!("{name}: about {rows} rows, at least {min} expected"))
}

/// Returns `true` if the server has an estimate for an expectation.
#[must_use]
pub fn is_estimated(expected: &ExpectConfig, estimates: &HashMap<String, u64>) -> bool {
    expected.object.as_ref().is_some_and(|name| estimates.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let manifest = serde_json::json!({
            "schema": 1, "program": "p", "created": "2026-03-01T12:00:00Z", "job": "shop", "type": "full", "tier": "daily",
            "source": { "kind": "mongodb", "id": "rs", "host": "h", "paths": [] },
            "checkpoint": { "started": "2026-03-01T12:00:00Z", "finished": "2026-03-01T12:00:00Z" },
            "totals": { "files": 3, "dirs": 1, "others": 0, "bytes": 10, "warnings": 0 },
            "objects": { "shop.users": { "count": 5, "bytes": 10, "digest": "" } },
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let expect =
            |object: Option<&str>, min| ExpectConfig { object: object.map(str::to_owned), min };
        let all = [expect(Some("shop.users"), 5), expect(None, 3)];
        assert_eq!(unmet(&all, &manifest), Vec::<String>::new());
        let more = [expect(Some("shop.users"), 6), expect(Some("shop.user"), 1), expect(None, 4)];
        let lacks = unmet(&more, &manifest);
        assert_eq!(lacks.len(), 2, "the count of an object is not known: {lacks:?}");
        let lacks = unmet(&more, &Manifest { counted: true, ..manifest.clone() });
        assert_eq!(lacks.len(), 3, "{lacks:?}");
        assert_eq!(lacks[0], "shop.users: 5 found, at least 6 expected");
        let since = Manifest { objects: [].into(), ..manifest };
        assert_eq!(unmet(&more[..2], &since), Vec::<String>::new(), "it counts nothing");
        let emptied = Manifest { counted: true, ..since };
        assert_eq!(unmet(&more[..2], &emptied).len(), 2, "there is nothing");
    }
}

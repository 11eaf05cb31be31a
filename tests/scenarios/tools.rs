//! Every test that needs a tool has a row in the table of `scripts/test`: without one it would run,
//! and fail, where the tool is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SCRIPT: &str = include_str!("../../scripts/test");

/// Segments that `scripts/test` treats apart: a bucket and programs that variables name, and tests
/// that mount a file system, which run with `--long` only.
const APART: [&str; 3] = ["needs_gcs_bucket", "needs_own_mongod", "needs_mount"];

/// The first column of the table.
fn rows() -> Vec<&'static str> {
    let table = SCRIPT.split("\nneeds='\n").nth(1).and_then(|rest| rest.split("\n'\n").next());
    let lines = table.unwrap_or_default().lines();
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

/// Returns `true` if the row names the segment, as the script reads it: `…::` is the whole segment,
/// and others also stand for longer names after `_`.
fn names(row: &str, segment: &str) -> bool {
    match row.strip_suffix("::") {
        Some(whole) => whole == segment,
        None => {
            segment.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The segments that a source file makes: modules, test functions, and the modules that a macro
/// `scenarios!` makes of lines such as `needs_tool Version::V1 => {`.
fn segments(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        };
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        let candidate = if let Some(module) = line.strip_prefix("mod ") {
            Some(word(module))
        } else if let Some(function) = function.filter(|_| is_test) {
            Some(word(function))
        } else if line.starts_with("needs_") && line.contains(" Version::") && line.contains("=> {")
        {
            Some(word(line))
        } else {
            None
        };
        found.extend(candidate.filter(|name| name.starts_with("needs_")));
        is_test = line.starts_with("#[") && (is_test || line.contains("test"));
    }
    found
}

#[test]
fn every_needs_segment_has_a_row() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for dir in ["crates", "tests", "benches"] {
        sources(&top.join(dir), &mut files);
    }
    let rows = rows();
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| !file.ends_with("scenarios/tools.rs")) {
        found.extend(segments(&fs::read_to_string(file).unwrap()));
    }
    // Modules, functions and macros are all among them.
    for known in ["needs_weed", "needs_docs_redis", "needs_mongod_6_0", "needs_schemathesis"] {
        assert!(found.contains(known), "{known}: {found:?}");
    }
    let missing: Vec<&String> = found
        .iter()
        .filter(|segment| !APART.contains(&segment.as_str()))
        .filter(|segment| !rows.iter().any(|row| names(row, segment)))
        .collect();
    assert!(missing.is_empty(), "no row in scripts/test: {missing:?}");
}

#[test]
fn row_names_segments_like_the_script() {
    assert!(names("needs_weed", "needs_weed") && names("needs_weed", "needs_weed_and_more"));
    assert!(!names("needs_redis_8_0", "needs_redis_8") && !names("needs_weed", "needs_weeds"));
    assert!(names("needs_restic::", "needs_restic"));
    assert!(!names("needs_restic::", "needs_restic_for_keys"));
    assert!(rows().len() > 40, "{:?}", rows());
}

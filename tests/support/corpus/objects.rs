//! Crafted snapshots, indexes and config objects.

use super::parts;

/// The effect that a crafted object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The object is used.
    Used,
    /// A check names the object; others stay usable.
    Damaged,
}

use Verdict::{Damaged, Used};

/// The text of an object before it is sealed.
pub(crate) struct Object {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
}

fn object(name: &'static str, text: impl Into<String>, verdict: Verdict) -> Object {
    Object { name, text: text.into(), verdict }
}

/// A list within lists.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Fields without a value, as Go writes empty lists.
const NULLS: &str = ",\"tags\":null,\"excludes\":null,\"hostname\":null,\"username\":null";

/// Snapshot objects; `tree` is the directory of [`parts`] unless it is crafted.
pub(crate) fn snapshots() -> Vec<Object> {
    let tree = parts().directory;
    let with = |fields: &str| {
        format!(
            "{{\"time\":\"2026-01-01T00:00:00Z\",\"tree\":\"{tree}\",\"paths\":[\"/data\"]{fields}}}"
        )
    };
    let timed =
        |time: &str| format!("{{\"time\":{time},\"tree\":\"{tree}\",\"paths\":[\"/data\"]}}");
    let rooted = |root: &str| format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"tree\":{root}}}");
    vec![
        object("empty text", "", Damaged),
        object("empty object", "{}", Damaged),
        object("null", "null", Damaged),
        object("list", "[]", Damaged),
        object("cut off", &with("")[..60], Damaged),
        object("short tree", rooted("\"abcd\""), Damaged),
        object("path as tree", rooted("\"../../../../etc/passwd\""), Damaged),
        object("null as tree", rooted("null"), Damaged),
        object("number as time", timed("1e999"), Damaged),
        object("year 99999", timed("\"99999-01-01T00:00:00Z\""), Damaged),
        object("text as paths", with(",\"paths\":\"/data\""), Damaged),
        object("negative owner", with(",\"uid\":-1"), Damaged),
        object("path as parent", with(",\"parent\":\"../../config\""), Damaged),
        object("half a surrogate pair", with(",\"hostname\":\"\\ud800\""), Damaged),
        object("ten thousand levels", with(&format!(",\"x\":{}", nested(10_000))), Damaged),
        object("negative summary", with(",\"summary\":{\"files_new\":-1}"), Damaged),
        object("unknown fields", with(",\"x\":{\"a\":[1,2]},\"x_new\":7"), Used),
        object("null as lists and texts", with(NULLS), Used),
        object("missing tree", rooted(&format!("\"{}\"", "ab".repeat(32))), Damaged),
        object("terminal codes", with(",\"hostname\":\"\\u001b[2Jhost\\u0007\""), Used),
        object("line breaks in tags", with(",\"tags\":[\"job=a\\nb\",\"\\r\"]"), Used),
        object("host that is a path", with(",\"hostname\":\"../../escaped\""), Used),
        object("job that is a path", with(",\"tags\":[\"job=../../escaped\",\"tier=/\"]"), Used),
    ]
}

/// Index objects. Their pack and blob do not exist.
pub(crate) fn indexes() -> Vec<Object> {
    let (pack, blob) = ("ab".repeat(32), "cd".repeat(32));
    let packs = |blobs: &str| format!("{{\"packs\":[{{\"id\":\"{pack}\",\"blobs\":[{blobs}]}}]}}");
    let at = |offset: &str, length: &str, more: &str| {
        packs(&format!(
            "{{\"id\":\"{blob}\",\"type\":\"data\",\"offset\":{offset},\"length\":{length}{more}}}"
        ))
    };
    vec![
        object("empty text", "", Damaged),
        object("null", "null", Damaged),
        object("list", "[]", Used),
        object("null as packs", "{\"packs\":null}", Damaged),
        object("text as packs", "{\"packs\":\"x\"}", Damaged),
        object("path as pack", "{\"packs\":[{\"id\":\"../../config\",\"blobs\":[]}]}", Damaged),
        object(
            "short name of a blob",
            packs("{\"id\":\"ab\",\"type\":\"data\",\"offset\":0,\"length\":50}"),
            Damaged,
        ),
        object(
            "unknown type",
            packs(&format!("{{\"id\":\"{blob}\",\"type\":\"code\",\"offset\":0,\"length\":50}}")),
            Damaged,
        ),
        object("negative offset", at("-1", "50", ""), Damaged),
        object("offset of 1e999", at("1e999", "50", ""), Damaged),
        object("offset of 2^32", at("4294967296", "50", ""), Damaged),
        object("end beyond 2^32", at("4294967295", "4294967295", ""), Used),
        object("length of zero", at("0", "0", ""), Used),
        object("shorter than its seal", at("0", "7", ""), Used),
        object("expands to 4 GiB", at("0", "50", ",\"uncompressed_length\":4294967295"), Used),
        object("ten thousand levels", format!("{{\"packs\":{}}}", nested(10_000)), Damaged),
        object("supersedes a path", "{\"supersedes\":[\"../../config\"],\"packs\":[]}", Used),
    ]
}

/// Config objects.
pub(crate) fn configs() -> Vec<Object> {
    let id = "ab".repeat(32);
    let config = |version: &str, id: &str, polynomial: &str, more: &str| {
        format!("{{\"version\":{version},\"id\":{id},\"chunker_polynomial\":{polynomial}{more}}}")
    };
    let quoted = format!("\"{id}\"");
    let polynomial = "\"25b468838dcb75\"";
    let version = |version: &str| config(version, &quoted, polynomial, "");
    let named = |id: &str| config("2", id, polynomial, "");
    let cut = |polynomial: &str| config("2", &quoted, polynomial, "");
    let more = |more: &str| config("2", &quoted, polynomial, more);
    vec![
        object("empty text", "", Damaged),
        object("null", "null", Damaged),
        object("version 0", version("0"), Damaged),
        object("version 3", version("3"), Damaged),
        object("version of 2^32 + 2", version("4294967298"), Damaged),
        object("text as version", version("\"2\""), Damaged),
        object("version of 1e999", version("1e999"), Damaged),
        object("empty id", named("\"\""), Damaged),
        object("path as id", named("\"../../../escaped\""), Damaged),
        object("absolute path as id", named("\"/tmp/escaped\""), Damaged),
        object("63 digits as id", named(&format!("\"{}\"", &id[..63])), Damaged),
        object("63 digits and a slash as id", named(&format!("\"{}/\"", &id[..63])), Damaged),
        object("number as polynomial", cut("7"), Damaged),
        object("polynomial of zero", cut("\"0\""), Used),
        object("polynomial that is reducible", cut("\"3\""), Used),
        object("polynomial of 100 digits", cut(&format!("\"{}\"", "f".repeat(100))), Used),
        object("polynomial that is a path", cut("\"../../escaped\""), Used),
        object("chunks of 2^64 - 1", more(",\"chunk_max_size\":18446744073709551615"), Used),
        object("chunks of no size", more(",\"chunk_size\":0,\"chunk_max_size\":0"), Used),
        object("negative chunks", more(",\"chunk_max_size\":-1"), Damaged),
        object("short seeds", more(",\"x_chunker_seed\":\"ab\",\"x_guard_iv\":\"a\""), Used),
        object("unknown fields", more(",\"x\":[1,2,{}]"), Used),
    ]
}

//! The corpus of crafted directory entries, with the verdict that every verb must come to.

use backup_core::format::BlobKind;

use super::crafted::Crafted;

/// Verdict on a crafted entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Restored as it is, and no verb complains.
    Sound,
    /// Restored with defaults for some metadata; every verb names it.
    Noted,
    /// Of a type that this program does not support: not restored, kept by copies and repairs, and no
    /// damage; every verb names it.
    Foreign,
    /// Not restored; every verb names it.
    Lost,
}

use Verdict::{Foreign, Lost, Noted, Sound};

/// A crafted entry of the directory `/data`, which also has a file `good`.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// JSON of the nodes.
    pub(crate) nodes: Vec<String>,
    pub(crate) verdict: Verdict,
    /// Name of the entry in messages.
    pub(crate) shown: String,
    /// Other names than `good` that a restore creates, as Rust's escapes show them.
    pub(crate) restored: Vec<String>,
}

/// Objects that crafted entries may refer to.
pub(crate) struct Parts {
    /// A blob of five bytes.
    pub(crate) blob: String,
    /// A directory with a file `inside`.
    pub(crate) directory: String,
}

/// A node with these fields instead of those of a sound file `bad`; `-` stands for none. Values
/// are JSON.
fn node(parts: &Parts, fields: &[(&str, &str)]) -> String {
    let content = format!("[\"{}\"]", parts.blob);
    let time = "\"2023-11-15T00:13:20Z\"";
    let mut all: Vec<(&str, String)> = [
        ("name", "\"bad\""),
        ("type", "\"file\""),
        ("mode", "420"),
        ("mtime", time),
        ("atime", time),
        ("ctime", time),
        ("uid", "0"),
        ("gid", "0"),
        ("size", "5"),
        ("links", "1"),
        ("content", &*content),
    ]
    .map(|(field, value)| (field, value.to_owned()))
    .to_vec();
    for (field, value) in fields {
        let value = value.replace("BLOB", &parts.blob).replace("TREE", &parts.directory);
        all.retain(|(other, _)| other != field);
        if value != "-" {
            all.push((*field, value));
        }
    }
    let all: Vec<String> = all.iter().map(|(f, value)| format!("\"{f}\":{value}")).collect();
    format!("{{{}}}", all.join(","))
}

/// Another file of the directory.
pub(crate) fn file(parts: &Parts, name: &str) -> String {
    node(parts, &[("name", &format!("{name:?}"))])
}

/// A sound file with this content, which is stored.
pub(crate) fn stored_file(crafted: &mut Crafted, name: &str, content: &[u8]) -> String {
    let blob = crafted.blob(BlobKind::Data, content).to_hex();
    let parts = Parts { blob, directory: String::new() };
    let size = content.len().to_string();
    node(&parts, &[("name", &format!("{name:?}")), ("size", &size)])
}

/// A sound directory.
pub(crate) fn directory(parts: &Parts, name: &str, tree: &str) -> String {
    let (name, tree) = (format!("{name:?}"), format!("{tree:?}"));
    let fields = [("name", &*name), ("mode", "2147484141"), ("subtree", &*tree)];
    node(parts, &[&DIR[..], &fields].concat())
}

const DIR: [(&str, &str); 4] =
    [("type", "\"dir\""), ("content", "null"), ("size", "-"), ("mode", "2147484141")];
const LINK: [(&str, &str); 3] = [("type", "\"symlink\""), ("content", "null"), ("size", "-")];

/// Name of the case, fields that differ, verdict.
type Row = (&'static str, &'static [(&'static str, &'static str)], Verdict);

/// Values of fields of a file.
const FILES: &[Row] = &[
    ("empty without a list", &[("content", "null"), ("size", "0")], Sound),
    ("empty without a field", &[("content", "-"), ("size", "-")], Sound),
    ("unknown fields", &[("acl", "{\"a\":[1,2]}"), ("x", "\"y\"")], Sound),
    ("larger than its blobs", &[("size", "6")], Lost),
    ("smaller than its blobs", &[("size", "4")], Lost),
    ("negative size", &[("size", "-5")], Lost),
    ("size of 2^64", &[("size", "18446744073709551616")], Lost),
    ("size of 2^64 - 1", &[("size", "18446744073709551615")], Lost),
    ("text as size", &[("size", "\"5\"")], Lost),
    ("no list of blobs", &[("content", "null")], Lost),
    ("invalid name of a blob", &[("content", "[\"BLOB\",\"xyz\"]")], Lost),
    ("object as list of blobs", &[("content", "{\"a\":1}")], Lost),
    ("unknown type", &[("type", "\"database\"")], Foreign),
    ("irregular", &[("type", "\"irregular\""), ("content", "null"), ("size", "-")], Foreign),
    ("irregular with a subtree", &[("type", "\"irregular\""), ("subtree", "\"TREE\"")], Foreign),
    ("unknown type of year 10000", &[("type", "\"door\""), ("mtime", YEAR_10000)], Foreign),
    ("no type", &[("type", "-")], Lost),
    ("empty type", &[("type", "\"\"")], Lost),
    ("number as type", &[("type", "7")], Lost),
    ("type directory without subtree", &[("type", "\"dir\"")], Lost),
    ("subtree", &[("subtree", "\"TREE\"")], Noted),
    ("year 9999", &[("mtime", "\"9999-12-31T23:59:59.999999999Z\"")], Noted),
    ("year 10000", &[("mtime", YEAR_10000)], Noted),
    ("year 10000 in all times", ALL_YEAR_10000, Noted),
    ("null in all fields", NULLS, Sound),
    ("year -9999", &[("mtime", "\"-9999-01-01T00:00:00Z\"")], Noted),
    ("no time", &[("mtime", "\"yesterday\"")], Noted),
    ("number as time", &[("atime", "1700000000")], Noted),
    ("month 13", &[("ctime", "\"2023-13-01T00:00:00Z\"")], Noted),
    ("negative mode", &[("mode", "-1")], Noted),
    ("text as mode", &[("mode", "\"0644\"")], Noted),
    ("owner of 2^32", &[("uid", "4294967296")], Noted),
    ("negative group", &[("gid", "-1")], Noted),
    ("negative inode", &[("inode", "-1")], Noted),
    ("half a link", &[("links", "1.5")], Noted),
    ("number as user", &[("user", "7")], Noted),
    ("list as group", &[("group", "[\"a\"]")], Noted),
    ("size of 1e999", &[("name", "\"worse\""), ("size", "1e999")], Lost),
    ("size of 400 digits", &[("name", "\"worse\""), ("size", DIGITS)], Lost),
    ("inode of -1e999", &[("inode", "-1e999")], Noted),
    ("half a surrogate pair as user", &[("user", "\"\\ud800\"")], Sound),
    ("half a pair as type", &[("name", "\"worse\""), ("type", "\"\\udc00\"")], Foreign),
    ("unknown field of 1e999", &[("x", "[1e999,{\"a\":-1E+999}]")], Sound),
    ("attribute that is not Base64", &[("extended_attributes", ATTRIBUTE)], Noted),
    ("attribute without a name", &[("extended_attributes", "[{\"value\":\"\"}]")], Noted),
    ("number as attribute", &[("extended_attributes", "[7]")], Noted),
    ("text as attributes", &[("extended_attributes", "\"user.a\"")], Noted),
];
const DIGITS: &str = "99999999999999999999999999999999999999999999999999999999999999999999999999999\
    9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999\
    9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999\
    9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999";
const YEAR_10000: &str = "\"10000-01-01T00:00:00Z\"";
const ALL_YEAR_10000: &[(&str, &str)] =
    &[("mtime", YEAR_10000), ("atime", YEAR_10000), ("ctime", YEAR_10000)];
/// Other programs write null for a list or text without a value.
const NULLS: &[(&str, &str)] = &[
    ("mode", "null"),
    ("mtime", "null"),
    ("atime", "null"),
    ("ctime", "null"),
    ("uid", "null"),
    ("gid", "null"),
    ("user", "null"),
    ("group", "null"),
    ("inode", "null"),
    ("device_id", "null"),
    ("links", "null"),
    ("linktarget", "null"),
    ("extended_attributes", "null"),
    ("device", "null"),
    ("subtree", "null"),
];
const ATTRIBUTE: &str = "[{\"name\":\"user.a\",\"value\":\"?\"}]";

/// Values of fields of a symbolic link.
const LINKS: &[Row] = &[
    ("link that leads out", &[("linktarget", "\"../../../etc/passwd\"")], Sound),
    ("link with blobs", &[("linktarget", "\"x\""), ("content", "[\"BLOB\"]")], Noted),
    ("link without target", &[], Lost),
    ("link to a NUL byte", &[("linktarget", "\"a\\u0000b\"")], Lost),
    ("link to no Base64", &[("linktarget", "\"x\""), ("linktarget_raw", "\"?\"")], Lost),
    ("number as target", &[("linktarget", "7")], Lost),
];

/// Values of fields of a directory.
const DIRS: &[Row] = &[
    ("sound directory", &[("subtree", "\"TREE\"")], Sound),
    ("directory with a size", &[("subtree", "\"TREE\""), ("size", "7")], Sound),
    ("directory with blobs", &[("subtree", "\"TREE\""), ("content", "[\"BLOB\"]")], Noted),
    (
        "directory of year 9999",
        &[("subtree", "\"TREE\""), ("mtime", "\"9999-12-31T00:00:00Z\"")],
        Noted,
    ),
    ("directory without subtree", &[], Lost),
    ("directory with null as subtree", &[("subtree", "null")], Lost),
    ("directory with an invalid subtree", &[("subtree", "\"12ab\"")], Lost),
];

/// JSON of names, the names in messages, and verdicts.
const NAMES: &[(&str, &str, Verdict)] = &[
    ("\"..\"", "..", Lost),
    ("\".\"", ".", Lost),
    ("\"\"", "", Lost),
    ("\"a/b\"", "a/b", Lost),
    ("\"/absolute\"", "/absolute", Lost),
    ("\"../../escaped\"", "../../escaped", Lost),
    ("\"nul\\u0000nul\"", "nul", Lost),
    ("\"nul\\\\x00nul\"", "nul", Lost),
    ("\"wrong\\\"quotes\"", "wrong\"quotes", Lost),
    ("7", "entry 2", Lost),
    ("null", "entry 2", Lost),
    ("-", "entry 2", Lost),
    ("\"...\"", "...", Sound),
    ("\"half\\ud800\"", "half\\xef\\xbf\\xbd", Sound),
    ("\"back\\\\\\\\slash\"", "back\\\\slash", Sound),
    ("\"\\\\xff\\\\xfe\"", "\\xff\\xfe", Sound),
];

/// All cases.
pub(crate) fn cases(parts: &Parts) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, nodes, verdict, shown: &str| {
        let is_restored = matches!(verdict, Sound | Noted);
        let restored = if is_restored { vec![shown.to_owned()] } else { Vec::new() };
        cases.push(Case { name, nodes, verdict, shown: shown.to_owned(), restored });
    };
    for (rows, base) in [(FILES, &[][..]), (LINKS, &LINK[..]), (DIRS, &DIR[..])] {
        for (name, fields, verdict) in rows {
            let shown = fields.iter().find(|(field, _)| *field == "name");
            let shown = shown.map_or("bad", |(_, value)| value.trim_matches('"'));
            add(*name, vec![node(parts, &[base, *fields].concat())], *verdict, shown);
        }
    }
    for (name, shown, verdict) in NAMES {
        add(*name, vec![node(parts, &[("name", *name)])], *verdict, shown);
    }
    let long = |len: usize| vec![file(parts, &"x".repeat(len))];
    add("255 bytes as name", long(255), Sound, &"x".repeat(255));
    add("256 bytes as name", long(256), Lost, &"x".repeat(64));
    add("5000 bytes as name", long(5000), Lost, &"x".repeat(64));
    let target = format!("{:?}", "x".repeat(5000));
    let link = node(parts, &[&LINK[..], &[("linktarget", &*target)]].concat());
    add("link to 5000 bytes", vec![link], Lost, "bad");
    let fields = [("type", "\"dev\""), ("content", "null"), ("size", "-"), ("device", "-1")];
    add("negative device", vec![node(parts, &fields)], Lost, "bad");
    add("null as node", vec!["null".to_owned()], Lost, "entry 2");
    add("number as node", vec!["7".to_owned()], Lost, "entry 2");
    add("list as node", vec!["[\"bad\"]".to_owned()], Lost, "entry 2");
    let twice = vec![file(parts, "bad"), node(parts, &[("mode", "384")])];
    cases.push(Case {
        name: "one name twice",
        nodes: twice,
        verdict: Lost,
        shown: "bad".to_owned(),
        restored: vec!["bad".to_owned()],
    });
    let twice = vec![file(parts, "good")];
    cases.push(Case {
        name: "name of another entry",
        nodes: twice,
        verdict: Lost,
        shown: "good".to_owned(),
        restored: Vec::new(),
    });
    let descending: Vec<String> = ["d", "c", "b"].iter().map(|name| file(parts, name)).collect();
    cases.push(Case {
        name: "descending order",
        nodes: descending,
        verdict: Sound,
        shown: String::new(),
        restored: ["b", "c", "d"].map(str::to_owned).to_vec(),
    });
    cases
}

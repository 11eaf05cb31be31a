//! Index objects that state false places of the blob and the directory of [`parts`], beside the true
//! ones. `<data>` and `<trees>` stand for the packs that hold them.

use serde_json::{Value, json};

use super::parts;

/// The object that a check names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// The index object.
    Index,
    /// The pack of which it states that it exists.
    Pack,
    /// None: the object is harmless.
    Nothing,
}

use Named::{Index, Nothing, Pack};

pub(crate) struct Shadow {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) named: Named,
}

pub(crate) fn shown(case: &Shadow) -> Value {
    json!({"name": case.name, "text": case.text, "named": format!("{:?}", case.named)})
}

/// A pack that does not exist.
pub(crate) fn missing_pack() -> String {
    "ab".repeat(32)
}

/// Sealed, the blob has 37 bytes. Another blob of the same length follows it in its pack.
pub(crate) fn cases() -> Vec<Shadow> {
    let (missing, parts) = (missing_pack(), parts());
    let shadow = |name, pack: &str, blobs: &[String], named| {
        let blobs = blobs.join(",");
        let text = format!("{{\"packs\":[{{\"id\":\"{pack}\",\"blobs\":[{blobs}]}}]}}");
        Shadow { name, text, named }
    };
    let at = |offset: u32, length: u32, plain: Option<u32>| {
        let plain = plain.map(|plain| format!(",\"uncompressed_length\":{plain}"));
        format!(
            "{{\"id\":\"{}\",\"type\":\"data\",\"offset\":{offset},\"length\":{length}{}}}",
            parts.blob,
            plain.unwrap_or_default()
        )
    };
    let directory = |offset: u32| {
        format!(
            "{{\"id\":\"{}\",\"type\":\"tree\",\"offset\":{offset},\"length\":100}}",
            parts.directory
        )
    };
    let max = u32::MAX;
    vec![
        shadow("missing pack", &missing, &[at(0, 37, None)], Pack),
        shadow("missing pack, longer", &missing, &[at(0, 50, None)], Pack),
        shadow("missing pack, expands", &missing, &[at(0, 37, Some(500))], Pack),
        shadow("missing pack, expands to 4 GiB", &missing, &[at(0, 37, Some(max))], Pack),
        shadow("missing pack with the directory", &missing, &[directory(0)], Pack),
        shadow("wrong offset", "<data>", &[at(5, 37, None)], Index),
        shadow("wrong length", "<data>", &[at(0, 36, None)], Index),
        shadow("expands", "<data>", &[at(0, 37, Some(500))], Index),
        shadow("place of another blob", "<data>", &[at(37, 37, None)], Index),
        shadow("beyond the end of the pack", "<data>", &[at(4_000_000, 37, None)], Index),
        shadow("end beyond 2^32", "<data>", &[at(max, max, None)], Index),
        shadow("two wrong places", "<data>", &[at(5, 37, None), at(0, 40, None)], Index),
        shadow("pack without the blob", "<data>", &[], Nothing),
        shadow("another pack", "<trees>", &[at(0, 37, None)], Index),
        shadow("directory at a wrong offset", "<trees>", &[directory(3)], Index),
    ]
}

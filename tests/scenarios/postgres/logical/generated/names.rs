//! Odd names, each once in a schema.

use super::{Schema, left_out};

/// Longest name in bytes.
const LONGEST: usize = 63;
/// Words that are names in quotes only.
const RESERVED: [&str; 12] = [
    "select",
    "table",
    "user",
    "order",
    "all",
    "default",
    "group",
    "primary",
    "check",
    "end",
    "returning",
    "window",
];

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name without its quotes.
pub(super) fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// A text in quotes.
pub(super) fn text(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

impl Schema {
    /// A new name.
    pub(super) fn name(&mut self) -> String {
        self.named += 1;
        let number = self.named;
        let pick = self.below(30);
        let name = match pick {
            0 => format!("Upper{number}"),
            1 => format!("with space {number}"),
            2 => format!("quo\"te{number}"),
            3 => format!("apo'strophe{number}"),
            4 => format!("back\\slash{number}"),
            5 => format!("line\nfeed{number}"),
            6 => format!("größe{number}"),
            7 => format!("日本語{number}"),
            8 => format!("dot.ted{number}"),
            9 => format!("semi;colon{number}"),
            10 => format!("-- comment{number}"),
            11 => format!("$dollar$ {number}"),
            12 => format!("star*[q]?{{b}}{number}"),
            13 => format!("per%cent/{number}"),
            14 => format!(" edges {number} "),
            15 => format!("tab\tand\rreturn{number}"),
            16 => format!("equals=({number})"),
            17 => format!("{number}"),
            18 => format!("\\. {number}"),
            19 => format!("!not {number}"),
            20 => {
                let long = format!("{number} {}", "ü".repeat(LONGEST));
                let end = (0..=LONGEST).rev().find(|end| long.is_char_boundary(*end)).unwrap();
                long[..end].to_owned()
            }
            21 => format!("{number:x>LONGEST$}"),
            22 if self.reserved < RESERVED.len() => {
                self.reserved += 1;
                RESERVED[self.reserved - 1].to_owned()
            }
            _ => format!("plain_{number}"),
        };
        let avoided: &[char] =
            if left_out("name with a dot or a star") { &['.', '*'] } else { &[] };
        name.replace(avoided, "_")
    }
}

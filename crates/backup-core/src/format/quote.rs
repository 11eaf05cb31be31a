//! Text as Go writes it: `strconv.Quote` for names (which may hold any byte) and `encoding/json`
//! for strings.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    use GeneralCategory as G;
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    !matches!(
        get_general_category(c),
        G::Control
            | G::Format
            | G::Surrogate
            | G::PrivateUse
            | G::Unassigned
            | G::LineSeparator
            | G::ParagraphSeparator
            | G::SpaceSeparator
    )
}

fn plain_ascii(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&'))
}

/// `strconv.Quote` without the surrounding quotes.
pub(crate) fn quote(name: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len() + 8);
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '"' | '\\' => {
                    out.push('\\');
                    out.push(c);
                }
                c if is_print(c) => out.push(c),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                // Writing to a String cannot fail.
                c if c < ' ' || c == '\x7f' => _ = write!(out, "\\x{:02x}", c as u32),
                c if (c as u32) < 0x1_0000 => _ = write!(out, "\\u{:04x}", c as u32),
                c => _ = write!(out, "\\U{:08x}", c as u32),
            }
        }
        for byte in part.invalid() {
            _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The reverse of [`quote`]; `None` if the text is not a valid quotation.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    if !text.contains('\\') {
        return (!text.contains('"')).then(|| text.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut utf8 = [0; 4];
    while let Some(c) = chars.next() {
        if c == '"' {
            return None;
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut number = |radix: u32, first: Option<char>, digits: usize| -> Option<u32> {
            let mut value = first.map_or(Some(0), |c| c.to_digit(radix))?;
            for _ in 0..digits {
                value = value * radix + chars.next()?.to_digit(radix)?;
            }
            Some(value)
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' | '"' => out.push(escape as u8),
            'x' => out.push(u8::try_from(number(16, None, 2)?).ok()?),
            '0'..='7' => out.push(u8::try_from(number(8, Some(escape), 2)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(number(16, None, if escape == 'u' { 4 } else { 8 })?)?;
                out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            }
            _ => return None,
        }
    }
    Some(out)
}

/// Appends `text` as a JSON string, escaped as Go's `encoding/json` does by default.
pub(crate) fn push_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if plain_ascii(text) {
        out.extend_from_slice(text);
    } else {
        push_escaped(out, text);
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut utf8 = [0; 4];
    for part in text.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
                }
                c if c < ' ' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
                c => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
            }
        }
        for _ in part.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Appends a name: quoted as Go does, then as a JSON string.
pub(crate) fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    if plain_ascii(name) {
        push_json_string(out, name);
    } else {
        push_json_string(out, quote(name).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (name, expected) in [
            (&b"plain.txt"[..], "plain.txt"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"\x01\x07\n\x7f", "\\x01\\a\\n\\x7f"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("é😀".as_bytes(), "é😀"),
            ("\u{a0}\u{200b}".as_bytes(), "\\u00a0\\u200b"),
            ("\u{e000}".as_bytes(), "\\ue000"),
        ] {
            assert_eq!(quote(name), expected);
            assert_eq!(unquote(expected).unwrap(), name);
        }
    }

    #[test]
    fn escapes_json_as_go_does() {
        let mut out = Vec::new();
        push_json_string(&mut out, b"a<b>&\"\\\x01\xff\x7f");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\u0001\\ufffd\x7f\""
        );
    }

    #[test]
    fn bad_quotations_are_refused() {
        for bad in ["\\", "\\x1", "\\q", "\"", "\\u12", "a\"b"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
        assert_eq!(unquote("\\101").unwrap(), b"A");
    }

    proptest! {
        #[test]
        fn any_name_survives(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(&unquote(&quote(&name)).unwrap(), &name);
            let mut json = Vec::new();
            push_name(&mut json, &name);
            let text: String = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(unquote(&text).unwrap(), name);
        }
    }
}

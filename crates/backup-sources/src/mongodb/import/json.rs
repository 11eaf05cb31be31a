//! JSON as descriptions of a dump hold it: fields keep their order, and names may occur twice.

use backup_core::source::SourceResult;

use crate::mongodb::error::malformed;

/// Deepest nesting. Servers accept 200 levels.
const DEEPEST: usize = 256;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// The digits as they stand in the text.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text that is one value.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid), with the byte at
    /// which the text stops to be JSON; the text itself is not repeated.
    pub(super) fn parse(text: &str) -> SourceResult<Self> {
        let mut parser = Parser { bytes: text.as_bytes(), at: 0 };
        let parsed = parser.value(0).filter(|_| {
            parser.space();
            parser.at == parser.bytes.len()
        });
        parsed.ok_or_else(|| malformed(format!("JSON before byte {}", parser.at + 1)))
    }

    pub(super) fn object(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The first field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.object()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space; it is not passed over.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let end = self.at + word.len();
        (self.bytes.get(self.at..end)? == word.as_bytes()).then(|| {
            self.at = end;
            value
        })
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'{' => self.fields(depth),
            b'[' => self.items(depth),
            b'"' => self.string().map(Json::Text),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn fields(&mut self, depth: usize) -> Option<Json> {
        self.take(b'{')?;
        let mut fields = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.take(b':')?;
            fields.push((name, self.value(depth + 1)?));
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(Json::Object(fields));
                }
                _ => return None,
            }
        }
    }

    fn items(&mut self, depth: usize) -> Option<Json> {
        self.take(b'[')?;
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(Json::Array(items));
                }
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let digits = std::str::from_utf8(rest.get(..end)?).ok()?;
        digits.parse::<f64>().ok()?;
        self.at += end;
        Some(Json::Number(digits.to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut out = Vec::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(out).ok(),
                b'\\' => {
                    let letter = self.escape()?;
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return None,
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                if self.bytes.get(self.at..self.at + 2)? != b"\\u" {
                    return None;
                }
                self.at += 2;
                let second = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.bytes.get(self.at..self.at + 4)?).ok()?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_keeps_order_and_repeated_names() {
        let text =
            " {\"b\": [1, -2.5e3, true, null], \"a\": \"x\\n\\u00e9\\ud83d\\ude00\", \"b\": {}}\n";
        let text_of = |text: &str| Json::Text(text.to_owned());
        let number = |text: &str| Json::Number(text.to_owned());
        let items = vec![number("1"), number("-2.5e3"), Json::Bool(true), Json::Null];
        let expected = Json::Object(vec![
            ("b".to_owned(), Json::Array(items)),
            ("a".to_owned(), text_of("x\né😀")),
            ("b".to_owned(), Json::Object(Vec::new())),
        ]);
        assert_eq!(Json::parse(text).unwrap(), expected);
        assert_eq!(expected.get("a"), Some(&text_of("x\né😀")));
    }

    #[test]
    fn parse_refuses_broken_texts_and_deep_nesting() {
        for bad in
            ["", "{", "{\"a\"}", "[1,]", "{\"a\":1,}", "\"\\ud83d\"", "1 2", "nul", "\"\u{1}\""]
        {
            assert!(Json::parse(bad).is_err(), "{bad:?}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(&deep(200)).is_ok());
        let error = Json::parse(&deep(1_000_000)).unwrap_err();
        assert_eq!(error.to_string(), "invalid JSON before byte 258");
    }
}

//! Directories with texts and numbers that JSON permits and `serde_json` refuses as a whole. Such a
//! value costs its own field, as it does in restic's decoder, and not the directory around it.
//!
//! | in the text | replaced by |
//! |---|---|
//! | half of a surrogate pair (`"\ud800"`), a byte that is not UTF-8 | U+FFFD, as Go's `encoding/json` does |
//! | a number beyond the range of 64-bit floats (`1e999`) | a number with fewer digits, which no field accepts either |

use std::io::{self, Read};

/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;
/// Digits of each part of a number that are kept: integers that fit a field have at most 20.
const MAX_DIGITS: u8 = 64;
/// Digits of an exponent that are kept.
const MAX_EXPONENT: u8 = 2;
/// Longest sequence that is replaced as one: two escaped halves of a pair.
const LOOK_AHEAD: usize = 12;
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Passes on a JSON text with the replacements of this module.
#[derive(Debug)]
pub(super) struct Mended<R> {
    source: R,
    place: Place,
    /// Bytes that were read and not passed on.
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of the output that were passed on.
    taken: usize,
    at_end: bool,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Outside,
    Text,
    /// In a number, of whose part `left` digits may follow.
    Number {
        left: u8,
    },
}

impl<R: Read> Mended<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            place: Place::Outside,
            input: Vec::new(),
            output: Vec::new(),
            taken: 0,
            at_end: false,
        }
    }

    /// Reads a piece and rewrites it.
    fn fill(&mut self) -> io::Result<()> {
        let before = self.input.len();
        self.input.resize(before + PIECE, 0);
        let len = self.source.read(&mut self.input[before..]);
        self.input.truncate(before + len.as_ref().copied().unwrap_or(0));
        self.at_end = len? == 0;
        self.output.clear();
        self.taken = 0;
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while at < input.len() && (self.at_end || input.len() - at >= LOOK_AHEAD) {
            at += self.step(&input[at..]);
        }
        self.input = input;
        self.input.drain(..at);
        Ok(())
    }

    /// Rewrites the beginning of `rest`, which is not empty; returns its length in bytes.
    fn step(&mut self, rest: &[u8]) -> usize {
        match (self.place, rest[0]) {
            (Place::Text, _) => return self.text(rest),
            (_, b'"') => self.place = Place::Text,
            (Place::Outside, b'0'..=b'9') => self.place = Place::Number { left: MAX_DIGITS - 1 },
            (Place::Number { left: 0 }, b'0'..=b'9') => return 1,
            (Place::Number { left }, b'0'..=b'9') => self.place = Place::Number { left: left - 1 },
            (Place::Number { .. }, b'.') => self.place = Place::Number { left: MAX_DIGITS },
            (Place::Number { .. }, b'e' | b'E') => {
                self.place = Place::Number { left: MAX_EXPONENT };
            }
            (Place::Number { .. }, b'+' | b'-') => {}
            _ => self.place = Place::Outside,
        }
        self.output.push(rest[0]);
        1
    }

    fn text(&mut self, rest: &[u8]) -> usize {
        let (len, is_valid) = match rest[0] {
            b'"' => {
                self.place = Place::Outside;
                (1, true)
            }
            b'\\' => escape(rest),
            byte if byte.is_ascii() => (1, true),
            _ => match character(rest) {
                Some(len) => (len, true),
                None => (1, false),
            },
        };
        self.output.extend_from_slice(if is_valid { &rest[..len] } else { REPLACEMENT });
        len
    }
}

/// Length of the escape at the beginning, and whether it stands for a character.
fn escape(rest: &[u8]) -> (usize, bool) {
    match unit(rest) {
        Some(0xD800..0xDC00) => match unit(&rest[6..]) {
            Some(0xDC00..0xE000) => (12, true),
            _ => (6, false),
        },
        Some(0xDC00..0xE000) => (6, false),
        _ => (rest.len().min(2), true),
    }
}

/// The UTF-16 unit of an escape.
fn unit(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Length of the character at the beginning, if it is valid UTF-8.
fn character(rest: &[u8]) -> Option<usize> {
    (2..=4).find(|len| rest.get(..*len).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok()))
}

impl<R: Read> Read for Mended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.output.len() && !(self.at_end && self.input.is_empty()) {
            self.fill()?;
        }
        let len = (self.output.len() - self.taken).min(buffer.len());
        buffer[..len].copy_from_slice(&self.output[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(buffer.len()).min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    fn mended(text: &[u8]) -> Vec<u8> {
        let (mut whole, mut slow) = (Vec::new(), Vec::new());
        Mended::new(text).read_to_end(&mut whole).unwrap();
        Mended::new(Slow(text)).read_to_end(&mut slow).unwrap();
        assert_eq!(whole, slow);
        whole
    }

    #[test]
    fn mended_keeps_valid_texts() {
        for text in [
            &br#"{"a":"\ud83d\ude00 \u00e9 \\ud800 \"\n","b":[-1.5e+10,0,18446744073709551615]}"#[..],
            "[\"ä\u{1f600}\u{fffd}\"]".as_bytes(),
            b"",
            b"\"\\",
            b"[1e",
        ] {
            assert_eq!(mended(text), text);
        }
    }

    #[test]
    fn values_that_end_the_reading_are_replaced() {
        let long = [&b"["[..], &[b'9'; 400], b",", &[b'9'; 400], b".5]"].concat();
        for (text, expected) in [
            (&b"[\"a\\ud800b\"]"[..], "[\"a\u{fffd}b\"]"),
            (b"[\"\\udc00\\ud800\\ud83d\\ude00\"]", "[\"\u{fffd}\u{fffd}\\ud83d\\ude00\"]"),
            (b"[\"\\ud800\\u0041\"]", "[\"\u{fffd}\\u0041\"]"),
            (b"[\"\xff\xc3\xa9\xc3\"]", "[\"\u{fffd}\u{e9}\u{fffd}\"]"),
            (b"[1e999,-1E-999,2]", "[1e99,-1E-99,2]"),
            (&long, &format!("[{0},{0}.5]", "9".repeat(64))),
        ] {
            let found = mended(text);
            assert_eq!(String::from_utf8_lossy(&found), expected);
            serde_json::from_slice::<serde_json::Value>(&found).unwrap();
            serde_json::from_slice::<serde_json::Value>(text).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn mended_reads_noise_to_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            mended(&bytes);
        }

        #[test]
        fn mended_keeps_values_that_parse(text in "[\\[\\]{}:,\"\\\\ua-f0-9.eE+ -]{0,40}") {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let found: serde_json::Value = serde_json::from_slice(&mended(text.as_bytes())).unwrap();
                prop_assert!(found == value || text.contains(['e', 'E', '.']));
            }
        }
    }
}

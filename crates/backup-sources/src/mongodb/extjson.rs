//! Canonical extended JSON as mongodump's metadata files hold it:
//! <https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md>.
//! Order of fields is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::raw::{Fields, Value, elements, kind};

/// One document, without line breaks. Bytes that are not UTF-8 become U+FFFD, as in mongodump's
/// files.
pub(super) fn canonical(document: &Fields) -> String {
    canonical_if_exact(document).0
}

/// The same, and whether nothing else has the same text: JSON has no words for strings that are not
/// UTF-8, and for arrays whose names are no indexes.
pub(super) fn canonical_if_exact(document: &Fields) -> (String, bool) {
    let mut writer = Writer { out: String::new(), is_exact: true };
    writer.object(&document.encode());
    (writer.out, writer.is_exact)
}

struct Writer {
    out: String,
    is_exact: bool,
}

impl Writer {
    fn object(&mut self, document: &[u8]) {
        self.out.push('{');
        for (at, element) in elements(document).map_while(Result::ok).enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            self.string(element.name);
            self.out.push(':');
            self.value(element.value);
        }
        self.out.push('}');
    }

    fn array(&mut self, array: &[u8]) {
        self.out.push('[');
        for (at, element) in elements(array).map_while(Result::ok).enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            self.is_exact &= element.name == at.to_string().as_bytes();
            self.value(element.value);
        }
        self.out.push(']');
    }

    fn string(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.is_exact &= matches!(text, std::borrow::Cow::Borrowed(_));
        // Go's encoder of these files escapes what browsers might take for markup.
        for letter in json!(text).to_string().chars() {
            match letter {
                '<' | '>' | '&' => self.out.push_str(&format!("\\u{:04x}", u32::from(letter))),
                '\u{2028}' => self.out.push_str("\\u2028"),
                '\u{2029}' => self.out.push_str("\\u2029"),
                other => self.out.push(other),
            }
        }
    }

    fn tagged(&mut self, tag: &str, text: &str) {
        self.out.push_str(&format!("{{\"{tag}\":"));
        self.string(text.as_bytes());
        self.out.push('}');
    }

    fn value(&mut self, value: Value<'_>) {
        let Value { kind, bytes } = value;
        let four = || i32::from_le_bytes(bytes.try_into().unwrap_or_default());
        let eight: [u8; 8] = bytes.try_into().unwrap_or_default();
        match kind {
            kind::DOCUMENT => self.object(bytes),
            kind::ARRAY => self.array(bytes),
            kind::STRING => self.string(value.string().unwrap_or_default()),
            kind::BOOLEAN => self.out.push_str(if bytes == [1] { "true" } else { "false" }),
            kind::NULL => self.out.push_str("null"),
            kind::INT32 => self.tagged("$numberInt", &four().to_string()),
            kind::INT64 => self.tagged("$numberLong", &i64::from_le_bytes(eight).to_string()),
            kind::DOUBLE => self.tagged("$numberDouble", &double(f64::from_le_bytes(eight))),
            kind::DECIMAL => {
                let bytes = bytes.try_into().unwrap_or_default();
                self.tagged("$numberDecimal", &bson::Decimal128::from_bytes(bytes).to_string());
            }
            kind::OBJECT_ID => self.tagged("$oid", &hex::encode(bytes)),
            kind::DATE => {
                self.out.push_str("{\"$date\":");
                self.tagged("$numberLong", &i64::from_le_bytes(eight).to_string());
                self.out.push('}');
            }
            _ => self.rare(value),
        }
    }

    fn rare(&mut self, value: Value<'_>) {
        let Value { kind, bytes } = value;
        match kind {
            kind::SYMBOL | kind::CODE => {
                self.out.push_str(if kind == kind::CODE { "{\"$code\":" } else { "{\"$symbol\":" });
                self.string(text_of(bytes));
                self.out.push('}');
            }
            kind::TIMESTAMP => {
                let (time, increment) =
                    value.timestamp().map_or((0, 0), |at| (at.time, at.increment));
                self.out
                    .push_str(&format!("{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}"));
            }
            kind::BINARY => self.binary(bytes),
            kind::REGEX => {
                let mut parts = bytes.split(|byte| *byte == 0);
                self.out.push_str("{\"$regularExpression\":{\"pattern\":");
                self.string(parts.next().unwrap_or_default());
                self.out.push_str(",\"options\":");
                self.string(parts.next().unwrap_or_default());
                self.out.push_str("}}");
            }
            kind::CODE_WITH_SCOPE => {
                // Its length, the code with its own, the scope.
                let inside = bytes.get(4..).unwrap_or_default();
                let length = inside.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
                let (code, scope) =
                    inside.split_at_checked(4 + length as usize).unwrap_or_default();
                self.out.push_str("{\"$code\":");
                self.string(text_of(code));
                self.out.push_str(",\"$scope\":");
                self.object(scope);
                self.out.push('}');
            }
            kind::DB_POINTER => {
                let (text, id) =
                    bytes.split_at_checked(bytes.len().saturating_sub(12)).unwrap_or_default();
                self.out.push_str("{\"$dbPointer\":{\"$ref\":");
                self.string(text_of(text));
                self.out.push_str(",\"$id\":");
                self.tagged("$oid", &hex::encode(id));
                self.out.push_str("}}");
            }
            kind::MIN_KEY => self.out.push_str("{\"$minKey\":1}"),
            kind::MAX_KEY => self.out.push_str("{\"$maxKey\":1}"),
            _ => self.out.push_str("{\"$undefined\":true}"),
        }
    }

    fn binary(&mut self, bytes: &[u8]) {
        let subtype = bytes.get(4).copied().unwrap_or_default();
        let mut content = bytes.get(5..).unwrap_or_default();
        // An old subtype that repeats the length inside.
        if let (2, Some((length, inside))) = (subtype, content.split_first_chunk::<4>())
            && usize::try_from(i32::from_le_bytes(*length)) == Ok(inside.len())
        {
            content = inside;
        }
        self.out.push_str("{\"$binary\":{\"base64\":");
        self.string(STANDARD.encode(content).as_bytes());
        self.out.push_str(&format!(",\"subType\":\"{subtype:02x}\"}}}}"));
    }
}

/// The bytes of a string, without length and terminator.
fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.get(4..bytes.len().saturating_sub(1)).unwrap_or_default()
}

fn double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // Go writes exponents below 1e-6 and from 1e21 on; both read back as the same number.
    let size = number.abs();
    let exponent = size != 0.0 && !(1e-6..1e21).contains(&size);
    if exponent {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, power)) if power.starts_with('-') => format!("{digits}E{power}"),
            Some((digits, power)) => format!("{digits}E+{power}"),
            None => text,
        };
    }
    let text = number.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Bson, Document, doc};

    fn canonical(document: &Document) -> String {
        super::canonical(&document.clone().into())
    }

    #[test]
    fn order_and_types_are_kept() {
        let document = doc! {
            "v": 2, "key": { "b": 1, "a": -1.0 }, "l": 5_i64, "s": "a<\"\n", "n": null, "t": true,
            "d": bson::DateTime::from_millis(-1), "ts": bson::Timestamp { time: 1, increment: 2 },
        };
        assert_eq!(
            canonical(&document),
            "{\"v\":{\"$numberInt\":\"2\"},\"key\":{\"b\":{\"$numberInt\":\"1\"},\"a\":{\"$numberDouble\":\"-1.0\"}},\
             \"l\":{\"$numberLong\":\"5\"},\"s\":\"a\\u003c\\\"\\n\",\"n\":null,\"t\":true,\
             \"d\":{\"$date\":{\"$numberLong\":\"-1\"}},\"ts\":{\"$timestamp\":{\"t\":1,\"i\":2}}}"
        );
    }

    #[test]
    fn driver_reads_the_written_json() {
        let document = doc! {
            "bin": bson::Binary { subtype: BinarySubtype::Uuid, bytes: (0..16).collect() },
            "re": bson::Regex { pattern: bson::cstr!("^a").into(), options: bson::cstr!("i").into() },
            "min": Bson::MinKey, "max": Bson::MaxKey, "oid": bson::oid::ObjectId::from_bytes([7; 12]),
            "big": 1e300, "small": 1.5e-9, "inf": f64::INFINITY, "arr": [1, "x", { "y": 1_i64 }],
            "dec": "1.5".parse::<bson::Decimal128>().unwrap(),
        };
        let json: serde_json::Value = serde_json::from_str(&canonical(&document)).unwrap();
        let back = Bson::try_from(json).unwrap();
        let Bson::Document(back) = back else { panic!("no document") };
        for (key, value) in &document {
            assert_eq!(back.get(key), Some(value), "{key}");
        }
        assert_eq!(back.len(), document.len());
    }
}

//! Canonical extended JSON as mongodump's metadata files hold it:
//! <https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md>.
//! Order of fields is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Bson, Document};
use serde_json::json;

/// One document, without line breaks.
pub(super) fn canonical(document: &Document) -> String {
    let mut out = String::new();
    object(document, &mut out);
    out
}

fn object(document: &Document, out: &mut String) {
    out.push('{');
    for (at, (key, value)) in document.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(key, out);
        out.push(':');
        self::value(value, out);
    }
    out.push('}');
}

fn string(text: &str, out: &mut String) {
    // Go's encoder of these files escapes what browsers might take for markup.
    for letter in json!(text).to_string().chars() {
        match letter {
            '<' | '>' | '&' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
}

fn tagged(tag: &str, text: &str, out: &mut String) {
    out.push_str(&format!("{{\"{tag}\":"));
    string(text, out);
    out.push('}');
}

fn value(value: &Bson, out: &mut String) {
    match value {
        Bson::Document(document) => object(document, out),
        Bson::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                self::value(item, out);
            }
            out.push(']');
        }
        Bson::String(text) => string(text, out),
        Bson::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Bson::Null => out.push_str("null"),
        Bson::Int32(number) => tagged("$numberInt", &number.to_string(), out),
        Bson::Int64(number) => tagged("$numberLong", &number.to_string(), out),
        Bson::Double(number) => tagged("$numberDouble", &double(*number), out),
        Bson::Decimal128(number) => tagged("$numberDecimal", &number.to_string(), out),
        Bson::ObjectId(id) => tagged("$oid", &id.to_hex(), out),
        Bson::Symbol(text) => tagged("$symbol", text, out),
        Bson::JavaScriptCode(code) => tagged("$code", code, out),
        Bson::DateTime(time) => {
            out.push_str("{\"$date\":");
            tagged("$numberLong", &time.timestamp_millis().to_string(), out);
            out.push('}');
        }
        // The rest as the driver writes it: none of these holds fields whose order counts.
        other => rare(other, out),
    }
}

fn rare(value: &Bson, out: &mut String) {
    match value {
        Bson::Timestamp(ts) => {
            out.push_str(&format!(
                "{{\"$timestamp\":{{\"t\":{},\"i\":{}}}}}",
                ts.time, ts.increment
            ));
        }
        Bson::Binary(binary) => {
            let subtype: u8 = binary.subtype.into();
            out.push_str("{\"$binary\":{\"base64\":");
            string(&STANDARD.encode(&binary.bytes), out);
            out.push_str(&format!(",\"subType\":\"{subtype:02x}\"}}}}"));
        }
        Bson::RegularExpression(regex) => {
            out.push_str("{\"$regularExpression\":{\"pattern\":");
            string(regex.pattern.as_str(), out);
            out.push_str(",\"options\":");
            string(regex.options.as_str(), out);
            out.push_str("}}");
        }
        Bson::JavaScriptCodeWithScope(code) => {
            out.push_str("{\"$code\":");
            string(&code.code, out);
            out.push_str(",\"$scope\":");
            object(&code.scope, out);
            out.push('}');
        }
        Bson::MinKey => out.push_str("{\"$minKey\":1}"),
        Bson::MaxKey => out.push_str("{\"$maxKey\":1}"),
        Bson::Undefined => out.push_str("{\"$undefined\":true}"),
        other => out.push_str(&other.clone().into_canonical_extjson().to_string()),
    }
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
    use bson::doc;
    use bson::spec::BinarySubtype;

    use super::*;

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
    fn what_is_written_is_what_the_driver_understands() {
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

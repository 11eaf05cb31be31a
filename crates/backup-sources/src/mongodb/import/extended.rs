//! Extended JSON to BSON: canonical and relaxed as tools of series 100 write it, and the older form
//! of mongodump before 4.2.
//! <https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md>

use backup_core::source::SourceResult;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::oid::ObjectId;
use bson::{Decimal128, RawDocumentBuf};
use jiff::Timestamp as Time;

use super::json::Json;
use crate::mongodb::error::malformed;
use crate::mongodb::raw::{kind, put};

/// The bytes of a document. Fields keep their order, and names may occur twice.
///
/// # Errors
/// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if a value has no form
/// of extended JSON.
pub(super) fn document(fields: &[(String, Json)]) -> SourceResult<RawDocumentBuf> {
    let bytes = encoded(fields.iter().map(|(name, value)| (&**name, value)))?;
    RawDocumentBuf::from_bytes(bytes).map_err(|error| malformed("document").with_source(error))
}

/// A type byte, and the bytes of the value.
type Value = (u8, Vec<u8>);

fn encoded<'a>(fields: impl Iterator<Item = (&'a str, &'a Json)>) -> SourceResult<Vec<u8>> {
    let mut out = vec![0; 4];
    for (name, json) in fields {
        if name.contains('\0') {
            return Err(malformed("name of a field: it has a zero byte"));
        }
        let (kind, bytes) = value(json)
            .ok_or_else(|| malformed(format!("extended JSON of the field {name:?}")))??;
        put(&mut out, kind, name.as_bytes());
        out.extend_from_slice(&bytes);
    }
    out.push(0);
    let length = i32::try_from(out.len()).map_err(|_| malformed("document: too large"))?;
    out[..4].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

/// The value of a field; `None` if it has no form of extended JSON.
fn value(json: &Json) -> Option<SourceResult<Value>> {
    Some(match json {
        Json::Null => Ok((kind::NULL, Vec::new())),
        Json::Bool(value) => Ok((kind::BOOLEAN, vec![u8::from(*value)])),
        Json::Number(digits) => Ok(number(digits)?),
        Json::Text(value) => Ok((kind::STRING, text(value))),
        Json::Array(items) => {
            let names: Vec<String> = (0..items.len()).map(|at| at.to_string()).collect();
            encoded(names.iter().map(|name| &**name).zip(items)).map(|bytes| (kind::ARRAY, bytes))
        }
        Json::Object(fields) => match tagged(fields) {
            Tagged::Value(value) => value,
            Tagged::Broken => return None,
            Tagged::No => encoded(fields.iter().map(|(name, value)| (&**name, value)))
                .map(|bytes| (kind::DOCUMENT, bytes)),
        },
    })
}

/// A plain number: an integer of the shortest type that holds it, or a double.
fn number(digits: &str) -> Option<Value> {
    if let Ok(number) = digits.parse::<i32>() {
        return Some((kind::INT32, number.to_le_bytes().to_vec()));
    }
    if let Ok(number) = digits.parse::<i64>() {
        return Some((kind::INT64, number.to_le_bytes().to_vec()));
    }
    Some((kind::DOUBLE, digits.parse::<f64>().ok()?.to_le_bytes().to_vec()))
}

fn text(text: &str) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
    [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

/// An object that may stand for a value of another type.
enum Tagged {
    Value(SourceResult<Value>),
    /// An object with the name of a type, and no value of that type.
    Broken,
    /// A document.
    No,
}

fn tagged(fields: &[(String, Json)]) -> Tagged {
    let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
    let found = match (&names[..], fields) {
        (["$code", "$scope"], [(_, code), (_, scope)])
        | (["$scope", "$code"], [(_, scope), (_, code)]) => scoped(code, scope),
        // Queries have these names as well, with other values.
        (["$regex", "$options"], [(_, pattern), (_, options)])
        | (["$options", "$regex"], [(_, options), (_, pattern)]) => {
            match (pattern.text(), options.text()) {
                (Some(pattern), Some(options)) => regex(pattern, options).map(Ok),
                _ => return Tagged::No,
            }
        }
        (["$binary", "$type"], [(_, data), (_, subtype)])
        | (["$type", "$binary"], [(_, subtype), (_, data)]) => {
            match (data.text(), subtype.text()) {
                (Some(data), Some(subtype)) => binary(data, subtype).map(Ok),
                _ => return Tagged::No,
            }
        }
        ([name], [(_, value)]) => match single(name, value) {
            None => return Tagged::No,
            Some(found) => found.map(Ok),
        },
        _ => return Tagged::No,
    };
    found.map_or(Tagged::Broken, Tagged::Value)
}

/// A value by the one name of its object; `None` for a name that stands for no type, and
/// `Some(None)` for a value that does not fit it.
fn single(name: &str, value: &Json) -> Option<Option<Value>> {
    let of_text = |read: fn(&str) -> Option<Value>| value.text().and_then(read);
    Some(match name {
        "$numberInt" => {
            of_text(|text| Some((kind::INT32, text.parse::<i32>().ok()?.to_le_bytes().into())))
        }
        "$numberLong" => match value {
            Json::Text(text) | Json::Number(text) => {
                text.parse::<i64>().ok().map(|number| (kind::INT64, number.to_le_bytes().into()))
            }
            _ => None,
        },
        "$numberDouble" => of_text(double),
        "$numberDecimal" => {
            of_text(|text| Some((kind::DECIMAL, text.parse::<Decimal128>().ok()?.bytes().into())))
        }
        "$oid" => {
            of_text(|text| Some((kind::OBJECT_ID, ObjectId::parse_str(text).ok()?.bytes().into())))
        }
        "$symbol" => of_text(|symbol| Some((kind::SYMBOL, text(symbol)))),
        "$code" => of_text(|code| Some((kind::CODE, text(code)))),
        "$date" => date(value),
        "$timestamp" => timestamp(value),
        "$undefined" => (value == &Json::Bool(true)).then(|| (kind::UNDEFINED, Vec::new())),
        "$minKey" => Some((kind::MIN_KEY, Vec::new())),
        "$maxKey" => Some((kind::MAX_KEY, Vec::new())),
        "$uuid" => of_text(|text| {
            let bytes =
                hex::decode(text.replace('-', "")).ok().filter(|bytes| bytes.len() == 16)?;
            Some((kind::BINARY, blob(4, &bytes)))
        }),
        "$binary" => {
            let part = |name| value.get(name).and_then(Json::text);
            match (part("base64"), part("subType")) {
                (Some(data), Some(subtype)) => binary(data, subtype),
                _ => None,
            }
        }
        "$regularExpression" => {
            let part = |name| value.get(name).and_then(Json::text);
            match (part("pattern"), part("options")) {
                (Some(pattern), Some(options)) => regex(pattern, options),
                _ => None,
            }
        }
        "$dbPointer" => pointer(value),
        _ => return None,
    })
}

fn double(text: &str) -> Option<Value> {
    let number = match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        digits => digits.parse().ok()?,
    };
    Some((kind::DOUBLE, number.to_le_bytes().to_vec()))
}

/// Milliseconds since 1970 as a number in either form, or a time as text.
fn date(value: &Json) -> Option<Value> {
    let millis = match value {
        Json::Number(digits) => digits.parse::<i64>().ok()?,
        Json::Text(text) => {
            text.parse::<Time>().ok().or_else(|| with_colon(text))?.as_millisecond()
        }
        other => match single("$numberLong", other.get("$numberLong")?)?? {
            (kind::INT64, bytes) => i64::from_le_bytes(bytes.try_into().ok()?),
            _ => return None,
        },
    };
    Some((kind::DATE, millis.to_le_bytes().to_vec()))
}

/// Old tools write offsets of time zones without a colon: `+0100`.
fn with_colon(text: &str) -> Option<Time> {
    let (begin, minutes) = text.split_at_checked(text.len().checked_sub(2)?)?;
    format!("{begin}:{minutes}").parse().ok()
}

fn timestamp(value: &Json) -> Option<Value> {
    let half = |name| match value.get(name)? {
        Json::Number(digits) => digits.parse::<u32>().ok(),
        _ => None,
    };
    let (time, increment) = (half("t")?, half("i")?);
    Some((kind::TIMESTAMP, [increment.to_le_bytes(), time.to_le_bytes()].concat()))
}

fn blob(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    let length = |len: usize| i32::try_from(len).unwrap_or(i32::MAX).to_le_bytes();
    // The oldest subtype repeats the length of its content.
    if subtype == 2 {
        let inner = length(bytes.len());
        return [&length(bytes.len() + 4)[..], &[subtype], &inner, bytes].concat();
    }
    [&length(bytes.len())[..], &[subtype], bytes].concat()
}

fn binary(data: &str, subtype: &str) -> Option<Value> {
    let subtype = u8::from_str_radix(subtype, 16).ok()?;
    Some((kind::BINARY, blob(subtype, &STANDARD.decode(data).ok()?)))
}

fn regex(pattern: &str, options: &str) -> Option<Value> {
    let is_sound = !pattern.contains('\0') && !options.contains('\0');
    is_sound.then(|| (kind::REGEX, [pattern.as_bytes(), &[0], options.as_bytes(), &[0]].concat()))
}

fn scoped(code: &Json, scope: &Json) -> Option<SourceResult<Value>> {
    let (code, scope) = (text(code.text()?), scope.object()?);
    Some(encoded(scope.iter().map(|(name, value)| (&**name, value))).map(|scope| {
        let length = i32::try_from(4 + code.len() + scope.len()).unwrap_or(i32::MAX);
        (kind::CODE_WITH_SCOPE, [&length.to_le_bytes()[..], &code, &scope].concat())
    }))
}

fn pointer(value: &Json) -> Option<Value> {
    let name = value.get("$ref")?.text()?;
    let id = value.get("$id")?.get("$oid")?.text()?;
    let id = ObjectId::parse_str(id).ok()?.bytes();
    Some((kind::DB_POINTER, [&text(name)[..], &id].concat()))
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Bson, Document, doc};

    use super::*;
    use crate::mongodb::extjson;

    fn parsed(text: &str) -> SourceResult<RawDocumentBuf> {
        document(Json::parse(text)?.object().unwrap())
    }

    #[test]
    fn document_reads_canonical_form() {
        let all = doc! {
            "v": 2, "key": { "b": 1, "a": -1.0 }, "l": 5_i64, "s": "a<\"\n", "n": null, "t": true,
            "d": bson::DateTime::from_millis(-1), "ts": bson::Timestamp { time: 1, increment: 2 },
            "bin": bson::Binary { subtype: BinarySubtype::Uuid, bytes: (0..16).collect() },
            "old": bson::Binary { subtype: BinarySubtype::BinaryOld, bytes: vec![1, 2, 3] },
            "re": bson::Regex { pattern: bson::cstr!("^a").into(), options: bson::cstr!("i").into() },
            "min": Bson::MinKey, "max": Bson::MaxKey, "oid": bson::oid::ObjectId::from_bytes([7; 12]),
            "big": 1e300, "small": 1.5e-9, "inf": f64::INFINITY, "arr": [1, "x", { "y": 1_i64 }],
            "dec": "1.5".parse::<bson::Decimal128>().unwrap(), "sym": Bson::Symbol("s".to_owned()),
            "code": Bson::JavaScriptCode("f()".to_owned()), "undefined": Bson::Undefined,
            "scope": bson::JavaScriptCodeWithScope { code: "g()".to_owned(), scope: doc! { "x": 1 } },
        };
        let read = parsed(&extjson::canonical(&all.clone().into())).unwrap();
        assert_eq!(Document::try_from(&*read).unwrap(), all);
        assert_eq!(read.as_bytes(), RawDocumentBuf::try_from(&all).unwrap().as_bytes());
    }

    #[test]
    fn document_reads_old_and_relaxed_forms() {
        let text = r#"{"v": 1, "n": 5000000000, "f": 1.0, "d": {"$date": "2015-01-31T12:00:00.000+0100"},
            "e": {"$date": 7}, "z": {"$date": "1970-01-01T00:00:01Z"}, "b": {"$binary": "AQI=", "$type": "00"},
            "r": {"$regex": "^a", "$options": "im"}, "l": {"$numberLong": "3"}, "u": {"$undefined": true}}"#;
        let millis = |millis| bson::DateTime::from_millis(millis);
        let expected = doc! {
            "v": 1, "n": 5_000_000_000_i64, "f": 1.0, "d": millis(1_422_702_000_000),
            "e": millis(7), "z": millis(1000),
            "b": bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] },
            "r": bson::Regex { pattern: bson::cstr!("^a").into(), options: bson::cstr!("im").into() },
            "l": 3_i64, "u": Bson::Undefined,
        };
        assert_eq!(Document::try_from(&*parsed(text).unwrap()).unwrap(), expected);
    }

    #[test]
    fn document_keeps_repeated_names_and_operators() {
        let text = r#"{"a": {"$gt": {"$numberInt": "5"}}, "a": {"$regex": {"x": 1}, "$options": ""},
            "t": {"$type": "string"}}"#;
        let read = parsed(text).unwrap();
        let names: Vec<String> = read.iter().map(|field| field.unwrap().0.to_string()).collect();
        assert_eq!(names, ["a", "a", "t"]);
        let nested = read.iter().next().unwrap().unwrap().1;
        assert_eq!(nested.as_document().unwrap().get_i32("$gt").unwrap(), 5);
    }

    #[test]
    fn document_refuses_values_that_do_not_fit_their_type() {
        for bad in [
            r#"{"a": {"$numberInt": "x"}}"#,
            r#"{"a": {"$oid": "12"}}"#,
            r#"{"a": [{"$date": "soon"}]}"#,
            r#"{"a": {"$binary": {"base64": "?", "subType": "00"}}}"#,
            r#"{"a\u0000b": 1}"#,
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}

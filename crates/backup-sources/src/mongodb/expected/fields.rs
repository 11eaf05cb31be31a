//! Fields of definitions: options, and specifications of indexes.

use backup_core::source::SourceResult;

use super::failed;
use super::tree::{Field, Value, parse};
use crate::mongodb::raw::Fields;

pub(super) fn fields_of(fields: &Fields) -> SourceResult<Vec<Field>> {
    parse(&fields.encode()).ok_or_else(|| failed("a definition"))
}

pub(super) fn name_of(index: &[Field]) -> String {
    match get(index, b"name") {
        Some(Value::Plain(2, text)) => {
            let name = text.get(4..text.len() - 1).unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        }
        _ => "without a name".to_owned(),
    }
}

/// Their order has no meaning.
pub(super) fn sorted(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields
}

pub(super) fn get<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a Value> {
    fields.iter().find(|(of, _)| of == name).map(|(_, value)| value)
}

pub(super) fn take(fields: &mut Vec<Field>, name: &[u8]) -> Option<Value> {
    let at = fields.iter().position(|(of, _)| of == name)?;
    Some(fields.remove(at).1)
}

/// Sets an option; an empty document takes it away.
pub(super) fn set_option(options: &mut Vec<Field>, name: &[u8], value: Value) {
    take(options, name);
    if value != Value::Document(Vec::new()) {
        options.push((name.to_vec(), value));
    }
}

/// A number of any type but decimal.
pub(super) fn number(value: &Value) -> Option<f64> {
    let Value::Plain(kind, bytes) = value else { return None };
    match (kind, &bytes[..]) {
        (1, bytes) => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
        (16, bytes) => Some(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        #[expect(clippy::cast_precision_loss, reason = "limits and directions are small")]
        (18, bytes) => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64),
        _ => None,
    }
}

/// Returns `true` if a pattern matches a key: the types of numbers do not matter.
pub(super) fn is_same_key(pattern: Option<&Value>, key: Option<&Value>) -> bool {
    let (Some(Value::Document(pattern)), Some(Value::Document(key))) = (pattern, key) else {
        return false;
    };
    let mut pairs = pattern.iter().zip(key);
    pattern.len() == key.len()
        && pairs.all(|((name, one), (of, other))| {
            name == of
                && (one == other || number(one).is_some_and(|one| number(other) == Some(one)))
        })
}

pub(super) fn is_true(value: &Value) -> bool {
    *value == Value::Plain(8, vec![1])
}

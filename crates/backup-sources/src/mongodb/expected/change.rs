//! The effect of an update in the oplog on a document. From the server's
//! `src/mongo/db/update/document_diff_applier.cpp` and `src/mongo/db/update/`.

use super::fields::get;
use super::tree::{Field, NULL, Value};

/// Longest gap behind the end of an array, as in servers.
const GAP: usize = 1_500_000;

/// Changes a document; `None` if the update has no form that is known.
pub(super) fn change(document: &mut Vec<Field>, update: &[Field]) -> Option<()> {
    let is_difference = get(update, b"$v") == Some(&Value::Plain(16, vec![2, 0, 0, 0]));
    if is_difference {
        let Value::Document(difference) = get(update, b"diff")? else { return None };
        return apply(document, difference);
    }
    let paths = |name| match get(update, name) {
        Some(Value::Document(paths)) => Some(&paths[..]),
        _ => None,
    };
    let (removed, changed) = (paths(b"$unset"), paths(b"$set"));
    removed.or(changed)?;
    for (path, _) in removed.unwrap_or_default() {
        remove(document, path);
    }
    for (path, value) in changed.unwrap_or_default() {
        set(document, path, value);
    }
    Some(())
}

/// Applies a difference of version 2: removed, changed and new fields, and inner differences.
fn apply(document: &mut Vec<Field>, difference: &[Field]) -> Option<()> {
    for (kind, changes) in difference {
        let Value::Document(changes) = changes else { return None };
        let among = |name: &[u8]| changes.iter().any(|(of, _)| of == name);
        match kind.split_first()? {
            (b'd' | b'i', []) => document.retain(|(name, _)| !among(name)),
            (b'u', []) | (b's', _) => {}
            _ => return None,
        }
    }
    let of = |kind| match get(difference, kind) {
        Some(Value::Document(changes)) => &changes[..],
        _ => &[],
    };
    for (kind, inner) in difference {
        if let ([b's', name @ ..], Value::Document(inner)) = (&kind[..], inner) {
            for (_, value) in document.iter_mut().filter(|(of, _)| of == name) {
                apply_inside(value, inner)?;
            }
        }
    }
    let mut new = Vec::new();
    for (name, value) in of(b"u") {
        let mut is_there = false;
        for (_, old) in document.iter_mut().filter(|(of, _)| of == name) {
            old.clone_from(value);
            is_there = true;
        }
        if !is_there {
            new.push((name.clone(), value.clone()));
        }
    }
    document.extend(new);
    document.extend(of(b"i").iter().cloned());
    Some(())
}

fn apply_inside(value: &mut Value, difference: &[Field]) -> Option<()> {
    let is_of_array = get(difference, b"a") == Some(&Value::Plain(8, vec![1]));
    match value {
        Value::Array(items) if is_of_array => apply_to_array(items, difference),
        Value::Document(fields) if !is_of_array => apply(fields, difference),
        // The field has another type: a later entry sets it.
        _ => {
            *value = NULL;
            Some(())
        }
    }
}

fn apply_to_array(items: &mut Vec<Field>, difference: &[Field]) -> Option<()> {
    for (name, value) in difference {
        let number = std::str::from_utf8(name.get(1..)?).ok()?.parse::<usize>().ok();
        match (name[0], number, value) {
            (b'a', None, _) => {}
            (b'l', None, Value::Plain(16, length)) => {
                let length =
                    usize::try_from(i32::from_le_bytes(length[..].try_into().ok()?)).ok()?;
                if length <= items.len() + GAP {
                    items.resize(length, (Vec::new(), NULL));
                }
            }
            (b'u', Some(at), value) => {
                if let Some(item) = item(items, at) {
                    item.clone_from(value);
                }
            }
            (b's', Some(at), Value::Document(inner)) => {
                if let Some(item) = item(items, at) {
                    apply_inside(item, inner)?;
                }
            }
            _ => return None,
        }
    }
    number(items);
    Some(())
}

/// An item, behind as many nulls as it takes.
fn item(items: &mut Vec<Field>, at: usize) -> Option<&mut Value> {
    if at > items.len() + GAP {
        return None;
    }
    if at >= items.len() {
        items.resize(at + 1, (Vec::new(), NULL));
    }
    Some(&mut items[at].1)
}

/// Names the items by their places.
fn number(items: &mut [Field]) {
    for (at, (name, _)) in items.iter_mut().enumerate() {
        *name = at.to_string().into_bytes();
    }
}

/// `$unset` of a dotted path.
fn remove(fields: &mut Vec<Field>, path: &[u8]) {
    let mut parts = path.splitn(2, |byte| *byte == b'.');
    let (Some(name), rest) = (parts.next(), parts.next()) else { return };
    let Some(at) = fields.iter().position(|(of, _)| of == name) else { return };
    match rest {
        None => _ = fields.remove(at),
        Some(rest) => remove_inside(&mut fields[at].1, rest),
    }
}

fn remove_inside(value: &mut Value, path: &[u8]) {
    let items = match value {
        Value::Document(fields) => return remove(fields, path),
        Value::Array(items) => items,
        Value::Plain(..) => return,
    };
    let mut parts = path.splitn(2, |byte| *byte == b'.');
    let (Some(name), rest) = (parts.next(), parts.next()) else { return };
    if let Some((_, item)) = place(name).and_then(|at| items.get_mut(at)) {
        match rest {
            // The others keep their places.
            None => *item = NULL,
            Some(rest) => remove_inside(item, rest),
        }
    }
    number(items);
}

/// `$set` of a dotted path: creates missing documents.
fn set(fields: &mut Vec<Field>, path: &[u8], value: &Value) {
    let mut parts = path.splitn(2, |byte| *byte == b'.');
    let (Some(name), rest) = (parts.next(), parts.next()) else { return };
    let at = fields.iter().position(|(of, _)| of == name).unwrap_or_else(|| {
        fields.push((name.to_vec(), Value::Document(Vec::new())));
        fields.len() - 1
    });
    match rest {
        None => fields[at].1.clone_from(value),
        Some(rest) => set_inside(&mut fields[at].1, rest, value),
    }
}

fn set_inside(inside: &mut Value, path: &[u8], value: &Value) {
    let items = match inside {
        Value::Document(fields) => return set(fields, path, value),
        Value::Array(items) => items,
        // A later entry sets it.
        Value::Plain(..) => return,
    };
    let mut parts = path.splitn(2, |byte| *byte == b'.');
    let (Some(name), rest) = (parts.next(), parts.next()) else { return };
    if let Some(item) = place(name).and_then(|at| item(items, at)) {
        match rest {
            None => item.clone_from(value),
            Some(rest) => {
                if *item == NULL {
                    *item = Value::Document(Vec::new());
                }
                set_inside(item, rest, value);
            }
        }
    }
    number(items);
}

fn place(name: &[u8]) -> Option<usize> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc};

    use super::super::tree::{encode, parse};
    use super::*;

    /// Rows: a document, an update, and the result of a server.
    #[test]
    fn updates_have_the_results_of_servers() {
        let bytes = |document: bson::Document| {
            RawDocumentBuf::try_from(&document).unwrap().as_bytes().to_vec()
        };
        let rows = [
            (
                doc! { "_id": 1, "a": 1, "b": { "c": 1, "d": 2 }, "e": 5 },
                doc! { "$v": 2, "diff": { "d": { "e": false }, "u": { "a": "x" }, "i": { "n": 1 }, "sb": { "d": { "c": false }, "u": { "d": 3 } } } },
                doc! { "_id": 1, "a": "x", "b": { "d": 3 }, "n": 1 },
            ),
            (
                doc! { "_id": 1, "a": [1, { "x": 1 }, 3, 4] },
                doc! { "$v": 2, "diff": { "sa": { "a": true, "l": 3, "u0": 9, "s1": { "u": { "x": 2 } }, "u5": 5 } } },
                doc! { "_id": 1, "a": [9, { "x": 2 }, 3, null, null, 5] },
            ),
            (
                doc! { "_id": 1, "a": 7 },
                doc! { "$v": 2, "diff": { "sa": { "a": true, "u0": 1 } } },
                doc! { "_id": 1, "a": null },
            ),
            (
                doc! { "_id": 1, "a": { "b": 1 }, "l": [1, { "x": 1 }], "z": 0 },
                doc! { "$v": 1, "$unset": { "z": true, "l.0": true }, "$set": { "a.b": 2, "a.c.d": 3, "l.1.x": 2, "l.3": 4, "n": 1 } },
                doc! { "_id": 1, "a": { "b": 2, "c": { "d": 3 } }, "l": [null, { "x": 2 }, null, 4], "n": 1 },
            ),
        ];
        for (before, update, after) in rows {
            let mut document = parse(&bytes(before)).unwrap();
            change(&mut document, &parse(&bytes(update.clone())).unwrap()).unwrap();
            assert_eq!(encode(&document), bytes(after), "{update}");
        }
        for unknown in
            [doc! { "$v": 2 }, doc! { "$v": 2, "diff": { "b": {} } }, doc! { "$inc": {} }]
        {
            let update = parse(&bytes(unknown.clone())).unwrap();
            assert_eq!(change(&mut Vec::new(), &update), None, "{unknown}");
        }
    }
}

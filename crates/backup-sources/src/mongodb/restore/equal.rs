//! Comparison of users and roles by their bytes.

use backup_core::source::SourceResult;
use bson::RawDocumentBuf;

use crate::mongodb::raw::{Element, Value, elements, kind, put, refuse_deep};

/// Returns `true` if two users or roles are equal, without regard to the order of fields and lists.
pub(super) fn same(one: &RawDocumentBuf, other: &RawDocumentBuf) -> bool {
    let normal = |document: &RawDocumentBuf| {
        refuse_deep(document.as_bytes(), "user").and_then(|()| normal(document.as_bytes())).ok()
    };
    one == other || normal(one).is_some_and(|one| normal(other) == Some(one))
}

/// Types, names and values of all fields, in one order at each level.
fn normal(document: &[u8]) -> SourceResult<Vec<u8>> {
    let mut parts = Vec::new();
    for element in elements(document) {
        let Element { name, value } = element?;
        let mut part = Vec::new();
        put(&mut part, value.kind, name);
        if let Some(inner) = value.document() {
            part.extend(normal(inner)?);
        } else if let Some(items) = value.array() {
            part.extend(normal_list(items)?);
        } else {
            part.extend_from_slice(value.bytes);
        }
        parts.push(part);
    }
    Ok(together(parts))
}

/// The same for the items of a list, whose names are their places.
fn normal_list(list: &[u8]) -> SourceResult<Vec<u8>> {
    let items = elements(list).map(|item| {
        let Value { kind, bytes } = item?.value;
        let inner = match kind {
            kind::DOCUMENT => normal(bytes)?,
            kind::ARRAY => normal_list(bytes)?,
            _ => bytes.to_vec(),
        };
        Ok([&[kind][..], &inner].concat())
    });
    Ok(together(items.collect::<SourceResult<_>>()?))
}

fn together(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort_unstable();
    let length = |part: &Vec<u8>| part.len().to_le_bytes();
    parts.iter().flat_map(|part| [&length(part)[..], part].concat()).collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn order_of_lists_does_not_make_roles_differ() {
        let role = |actions: [&str; 2], roles: [&str; 2]| {
            let roles = roles.map(|role| rawdoc! { "role": role, "db": "x" });
            let [first, second] = actions;
            let privilege = rawdoc! { "resource": { "db": "x" }, "actions": [first, second] };
            let [one, other] = roles;
            rawdoc! { "_id": "x.r", "privileges": [privilege], "roles": [one, other] }
        };
        let stored = role(["find", "insert"], ["a", "b"]);
        assert!(same(&stored, &role(["insert", "find"], ["b", "a"])));
        assert!(!same(&stored, &role(["find", "insert"], ["a", "c"])));
        assert!(!same(&stored, &role(["find", "remove"], ["a", "b"])));
        // A name twice counts twice, and its order does not.
        let twice = |first: &[u8], second: &[u8]| {
            let fields = [&b"\x13\0\0\0"[..], first, second, b"\0"].concat();
            RawDocumentBuf::from_bytes(fields).unwrap()
        };
        let (one, two) = (b"\x10a\0\x01\0\0\0", b"\x10a\0\x02\0\0\0");
        assert!(same(&twice(one, two), &twice(two, one)));
        assert!(!same(&twice(one, two), &twice(two, two)));
    }
}

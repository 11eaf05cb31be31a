//! Comparison of users and roles by their bytes.

use backup_core::source::SourceResult;
use bson::RawDocumentBuf;

use crate::mongodb::raw::{Element, elements, kind, put, refuse_deep};

/// Returns `true` if two users or roles are equal, without regard to the order of fields and lists.
pub(super) fn same(one: &RawDocumentBuf, other: &RawDocumentBuf) -> bool {
    let normal = |document: &RawDocumentBuf| {
        refuse_deep(document.as_bytes(), "user")
            .and_then(|()| normal(document.as_bytes(), false))
            .ok()
    };
    one == other || normal(one).is_some_and(|one| normal(other) == Some(one))
}

/// Types, names and values of all fields, in one order at each level. Names of list items are their
/// places, and left out.
fn normal(document: &[u8], is_list: bool) -> SourceResult<Vec<u8>> {
    let parts = elements(document).map(|element| {
        let Element { name, value } = element?;
        let mut part = Vec::new();
        put(&mut part, value.kind, if is_list { b"" } else { name });
        match value.kind {
            kind::DOCUMENT => part.extend(normal(value.bytes, false)?),
            kind::ARRAY => part.extend(normal(value.bytes, true)?),
            _ => part.extend_from_slice(value.bytes),
        }
        Ok(part)
    });
    let mut parts = parts.collect::<SourceResult<Vec<_>>>()?;
    parts.sort_unstable();
    let length = |part: &Vec<u8>| part.len().to_le_bytes();
    Ok(parts.iter().flat_map(|part| [&length(part)[..], part].concat()).collect())
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

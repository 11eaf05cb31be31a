//! Whether an entry can be folded: asked before it is stored, when another way is still open.

use backup_core::source::SourceResult;
use bson::RawDocument;

use super::ddl::Catalog;
use super::{meant, operation_of, transactions, unknown, uuid_in};
use crate::mongodb::error::malformed;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::{Element, Fields, Value, get};

/// Does nothing with what an entry holds but to see that a fold would know what to do. Details of
/// collections that are not `wanted` do not matter: a fold does not look at them.
pub(in crate::mongodb) fn understand(
    entry: &RawDocument,
    wanted: impl Fn(&Namespace) -> bool,
) -> SourceResult<()> {
    let mut held = transactions::held(entry)?;
    while let Some(operation) = held.next()? {
        let Some((op, namespace)) = meant(&operation)? else { continue };
        if op == "c" {
            command(&namespace.db, &operation, &wanted)?;
        } else if wanted(&namespace) {
            operation_of(op, &operation)?;
        }
    }
    Ok(())
}

fn command(db: &str, entry: &RawDocument, wanted: impl Fn(&Namespace) -> bool) -> SourceResult<()> {
    let object = get(entry.as_bytes(), "o")?.and_then(Value::document);
    let object = Fields::parse(object.ok_or_else(|| malformed("oplog entry"))?)?;
    let first = object.iter().next();
    let is_unnamed = first.is_some_and(|Element { name, value }| {
        name == b"renameCollection" && value.string().is_some() && value.text().is_none()
    });
    let to = object.text("to").and_then(Namespace::parse);
    // One that was left out until now: nothing holds its documents.
    if is_unnamed && to.is_some_and(|to| wanted(&to)) {
        return Err(unknown("a rename of a collection whose name is not UTF-8", entry));
    }
    // Renames have the whole name, other commands the one in its database.
    let name = first.and_then(|first| Some((first.name, first.value.text()?)));
    let name = name.and_then(|(command, name)| match command {
        b"renameCollection" => Namespace::parse(name),
        _ => Some(Namespace::new(db, name)),
    });
    let known = uuid_in(entry)?.zip(name.filter(wanted));
    Catalog::of_one(known, object.document("index").as_ref())?.command(db, entry).map(drop)
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Binary, RawDocumentBuf, rawdoc};

    use super::*;

    fn is_known(op: &str, ns: &str, object: RawDocumentBuf) -> bool {
        let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![1; 16] };
        let entry = rawdoc! { "op": op, "ns": ns, "ui": uuid, "o": object, "o2": { "_id": 1 } };
        understand(&entry, |namespace| namespace.db == "shop").is_ok()
    }

    #[test]
    fn known_operations_may_be_stored() {
        assert!(is_known("i", "shop.c", rawdoc! { "_id": 1 }) && is_known("n", "", rawdoc! {}));
        assert!(is_known("u", "shop.c", rawdoc! { "$v": 2, "diff": { "u": { "a": 1 } } }));
        assert!(
            is_known("c", "shop.$cmd", rawdoc! { "create": "c" })
                && is_known("c", "shop.$cmd", rawdoc! { "drop": "c" })
        );
        assert!(is_known(
            "c",
            "shop.$cmd",
            rawdoc! { "renameCollection": "shop.c", "to": "shop.d" }
        ));
        assert!(is_known(
            "c",
            "shop.$cmd",
            rawdoc! { "collMod": "c", "index": { "name": "x", "hidden": true } }
        ));
        assert!(is_known("c", "admin.$cmd", rawdoc! { "commitTransaction": 1 }));
    }

    #[test]
    fn unknown_operations_are_not_stored() {
        assert!(
            !is_known("x", "shop.c", rawdoc! { "_id": 1 })
                && !is_known("u", "shop.c", rawdoc! { "$v": 3 })
        );
        assert!(!is_known("c", "shop.$cmd", rawdoc! { "convertToCapped": "c" }));
        assert!(!is_known("c", "shop.$cmd", rawdoc! { "collMod": "c", "shape": 1 }));
        assert!(!is_known(
            "c",
            "shop.$cmd",
            rawdoc! { "collMod": "c", "index": { "name": "x", "colour": 1 } }
        ));
        let inside = rawdoc! { "applyOps": [{ "op": "u", "ns": "shop.c", "o": { "$v": 3 }, "o2": { "_id": 1 } }] };
        assert!(!is_known("c", "admin.$cmd", inside));
        let unnamed = bson::RawDocumentBuf::from_bytes(
            b"\x2d\0\0\0\x02renameCollection\0\x03\0\0\0\xff\xfe\0\x02to\0\x07\0\0\0shop.c\0\0"
                .to_vec(),
        );
        assert!(!is_known("c", "shop.$cmd", unnamed.unwrap()));
        let check = rawdoc! { "dbCheck": "c", "type": "batch", "md5": "x" };
        assert!(is_known("c", "shop.c", check));
        // A fold does not look at what is not part of the backup.
        assert!(is_known("c", "crm.$cmd", rawdoc! { "collMod": "c", "shape": 1 }));
        assert!(is_known("u", "crm.c", rawdoc! { "$v": 3 }));
    }
}

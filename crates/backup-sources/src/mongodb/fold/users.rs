//! Operations on users and roles, kept in memory beside the spilled ones: a restore compares users
//! and roles with those of its target before it writes anything.

use std::collections::BTreeMap;

use backup_core::source::SourceResult;
use bytes::Bytes;

use super::spill::Operation;
use crate::mongodb::raw::id_of;

/// By number of the collection and `_id`, the operations since the last one that sets the whole
/// document.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<(u32, Vec<u8>), Vec<Operation>>);

impl Users {
    pub(super) fn operation(&mut self, number: u32, id: Vec<u8>, operation: Operation) {
        let operations = self.0.entry((number, id)).or_default();
        if matches!(operation, Operation::Insert(_) | Operation::Replace(_) | Operation::Delete) {
            operations.clear();
        }
        operations.push(operation);
    }

    /// The documents of a collection at the moment: `dumped`, with the operations applied.
    pub(super) fn of(&self, number: u32, dumped: Vec<Bytes>) -> SourceResult<Vec<Bytes>> {
        let mut documents = BTreeMap::new();
        for document in dumped {
            documents.insert(id_of(&document)?, document);
        }
        let touched = self.0.iter().filter(|((of, _), _)| *of == number);
        for ((_, id), operations) in touched {
            let mut document = documents.remove(id);
            for operation in operations {
                document = operation.apply(document)?;
            }
            document.map(|document| documents.insert(id.clone(), document));
        }
        Ok(documents.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn bytes(document: RawDocumentBuf) -> Bytes {
        document.into_bytes().into()
    }

    #[test]
    fn users_of_the_moment_have_the_operations_applied() {
        let id = |name: &str| id_of(rawdoc! { "_id": name }.as_bytes()).unwrap();
        let mut users = Users::default();
        let change = bytes(rawdoc! { "$v": 1, "$set": { "a": 2 } });
        users.operation(1, id("changed"), Operation::Modify(change.clone()));
        users.operation(1, id("dropped"), Operation::Delete);
        users.operation(1, id("made"), Operation::Insert(bytes(rawdoc! { "_id": "made", "a": 1 })));
        users.operation(1, id("made"), Operation::Modify(change));
        users.operation(2, id("same"), Operation::Delete);
        let dumped = ["changed", "dropped", "same"]
            .map(|name| bytes(rawdoc! { "_id": name, "a": 1 }))
            .to_vec();
        let mut expected = [("changed", 2), ("made", 2), ("same", 1)]
            .map(|(name, a)| bytes(rawdoc! { "_id": name, "a": a }));
        let mut found = users.of(1, dumped).unwrap();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

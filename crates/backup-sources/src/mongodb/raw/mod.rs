//! BSON as bytes.
//!
//! A document is an `i32` with its own length (little-endian), elements (a type byte, a name ending
//! in NUL, a value) and a NUL: <https://bsonspec.org/spec.html>.
//!
//! | file | what is in it |
//! |---|---|
//! | `stream.rs` | documents in files and batches |
//! | `elements.rs` | elements of a document, `_id`, depth |
//! | `fields.rs` | [`Fields`]: documents that can be changed |

mod elements;
mod fields;
mod stream;

pub(super) use elements::{
    Element, Value, elements, get, has_empty_timestamp, id_of, kind, refuse_deep,
};
pub(super) use fields::{Fields, OwnedValue, close, put};
pub(super) use stream::{
    Documents, FIRST, LARGEST, append_batch, document, first_of, last_of, split,
};

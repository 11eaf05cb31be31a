//! Reading.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `database.rs` | [`Database`]: one database under its snapshot, with locks on all that is meant |
//! | `globals.rs` | objects of the whole cluster |
//! | `state.rs` | [`State`]: sessions, and what came of reading |
//! | `copy.rs` | rows of tables, or of parts of them |
//! | `objects.rs` | values of sequences, large objects |
//! | `reader.rs` | the backup reader |

mod copy;
mod database;
mod globals;
mod objects;
mod reader;
mod state;

pub(super) use reader::open;

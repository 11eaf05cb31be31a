//! Reading.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `database.rs` | [`Database`]: one database under its snapshot, with locks on all that is meant |
//! | `locks.rs` | locks on tables, also on very many |
//! | `globals.rs` | objects of the whole cluster |
//! | `state.rs` | [`State`]: sessions, and what came of reading |
//! | `complete.rs` | comparing the definitions with the manifest |
//! | `copy.rs` | rows of tables, or of parts of them |
//! | `objects.rs` | values of sequences, large objects |
//! | `described.rs` | the manifest of a database |
//! | `reader.rs` | the backup reader |

mod complete;
mod copy;
mod database;
mod described;
mod globals;
mod locks;
mod objects;
mod reader;
mod state;

pub(super) use reader::open;

//! Programs that deliver a secret or a fact, and files that other programs write while they are
//! read. Depends on no other crate of the workspace: storage, sources and the control plane use it
//! alike.
//!
//! | file | contents |
//! |---|---|
//! | `helper.rs` | [`run`]: a helper program from its start to its exit |
//! | `family.rs` | [`Family`]: a program with everything that it starts |
//! | `file.rs` | [`read_file`]: key files, which may be FIFOs or sockets |
//! | `limit.rs` | [`limit`]: the time that helpers and key files may take |

mod family;
mod file;
mod helper;
mod limit;

pub use family::Family;
pub use file::{is_stream, read_file, read_file_blocking};
pub use helper::{Failure, MAX_OUTPUT, Output, run};
pub use limit::{BadLimit, DEFAULT_LIMIT, LIMIT_VARIABLE, limit};

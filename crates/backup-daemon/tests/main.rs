//! `backupd` as a program, with the real program `backup`.
//!
//! | file | what is in it |
//! |---|---|
//! | `common.rs` | a directory with a repository, and a daemon in it |
//! | `killed.rs` | killed in the middle, and begun again |
//! | `signals.rs` | stopping, reloading, the manager of services, one at a time |
//! | `broken.rs` | a configuration that breaks while it runs |
//! | `anchored.rs` | copies of its audit log outside this machine |
//! | `answering.rs` | its API, and its sign of life |
//! | `remote.rs` | driven from elsewhere by the verbs of `backup` |
//! | `soak.rs` | a day by a clock that goes faster: nothing grows |
//! | `zones.rs` | time zones, on a machine without a database of them |
//! | `embedded.rs` | the example of a service that holds a scheduler |
//! | `packaging.rs` | what is shipped for managers of services and of containers |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails as tests do")]

mod anchored;
mod answering;
mod broken;
mod common;
mod embedded;
mod killed;
mod packaging;
mod remote;
mod signals;
mod soak;
mod zones;

//! Sources: what is backed up. One module and one cargo feature per kind; they never depend on each
//! other.
//!
//! | feature | module | what it reads |
//! |---|---|---|
//! | `files` (default) | [`files`] | directories and files of the local machine |
//! | `mongodb` | `mongodb` | MongoDB replica sets and standalone servers |
//! | `postgres` | `postgres` | PostgreSQL clusters: data directories and the log |
//! | `redis` | `redis` | servers of Redis and Valkey: dumps and the stream of commands |

#[cfg(feature = "files")]
pub mod files;
#[cfg(any(feature = "mongodb", feature = "redis"))]
mod foreign;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod helpers;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod pace;
#[cfg(any(feature = "mongodb", feature = "postgres"))]
mod parent;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "files", feature = "mongodb"))]
mod progress;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
mod renaming;
#[cfg_attr(
    not(any(feature = "mongodb", feature = "postgres", feature = "redis")),
    expect(dead_code, reason = "servers use more of it")
)]
mod waits;

pub use waits::{DEFAULT_TIMEOUT, Waits};

//! Sources: what is backed up. One module and one cargo feature per kind; they never depend on each other.
//!
//! | feature | module | what it reads |
//! |---|---|---|
//! | `files` (default) | [`files`] | directories and files of the local machine |
//! | `mongodb` | `mongodb` | MongoDB replica sets and standalone servers |

#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "mongodb")]
pub mod mongodb;

//! Data plane of the backup system.
//!
//! ```text
//!            Source                                              Sink
//!   (files, databases)                                (local disk, object stores)
//!        │  entries                                              ▲  objects
//!        ▼                                                       │
//!   pipeline ──chunk──▶ hash ──▶ index look-up ──▶ compress ──▶ encrypt ──▶ pack ──▶ verify ──▶ index ──▶ snapshot
//!        ▲                                                       │
//!        └───────── restore, verify, check ◀── decode ◀──────────┘
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`source`] | the [`Source`](source::Source) trait: what is read, restored and compared |
//! | [`sink`] | the [`Sink`](sink::Sink) trait: where objects go |
//! | [`repository`] | all objects under one prefix, in restic's repository format 2: init, open, read, write |
//! | [`pipeline`] | backup, restore and verify of one snapshot |
//! | [`check`] | verification of a whole repository |
//! | [`copy`](mod@copy) | snapshots from one repository into another |
//! | [`retention`] | which snapshots stay |
//! | [`diff`], [`stats`] | what differs between two snapshots; how much a repository holds |
//! | [`format`](mod@format) | the stored forms: config, key files, packs, indexes, trees, snapshots, manifest |
//! | [`chunker`] | cutting streams into chunks |
//! | [`crypto`] | sealing, key derivation, pass phrases |
//! | [`log`](mod@log) | which moments of a log can be restored |
//! | [`event`], [`context`], [`clock`], [`error`], [`id`] | what every operation shares |
//! | [`limits`] | how large the objects may be that are read |
//! | [`words`] | counted nouns in messages |
//! | `testing` | (feature) test sinks, a scripted source, the conformance suites |
//!
//! This crate links no cloud SDK and no database driver; it never touches a terminal, the
//! environment or the home directory.

pub mod check;
pub mod chunker;
pub mod clock;
pub mod compress;
pub mod context;
pub mod copy;
pub mod crypto;
pub mod diff;
pub mod error;
pub mod event;
pub mod format;
pub mod id;
pub mod limits;
pub mod log;
pub mod maintenance;
pub mod pipeline;
pub mod repository;
pub mod retention;
pub mod sink;
pub mod source;
pub mod stats;
#[cfg(feature = "testing")]
pub mod testing;
pub mod words;

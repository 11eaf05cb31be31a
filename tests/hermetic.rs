//! Scenarios in memory and in temporary directories: they need nothing but this workspace.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    pub(crate) mod compare;
    pub(crate) mod counting;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod damage;
    pub(crate) mod gate;
    pub(crate) mod history;
    pub(crate) mod log_trouble;
    pub(crate) mod logs;
    pub(crate) mod long;
    pub(crate) mod noise;
    pub(crate) mod process;
    pub(crate) mod repo;
    pub(crate) mod samples;
    pub(crate) mod script;
    pub(crate) mod tree;
    pub(crate) mod vast;
}

mod scenarios {
    mod aftermath;
    mod comparer;
    mod concurrency;
    mod copying;
    mod damage;
    mod faults;
    mod histories;
    mod joins;
    mod keys;
    mod leases;
    mod logs;
    mod repair;
    mod roles;
    mod roundtrip;
    mod scale;
    mod source_faults;
    mod sparing;
    mod streams;
    mod tools;
    mod unchanged;
    mod vanishing;
}

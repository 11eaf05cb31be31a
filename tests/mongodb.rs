//! Scenarios with real MongoDB servers, each on ports and in directories of its own.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests: what must not happen fails them")]

mod support {
    pub(crate) mod long;
    pub(crate) mod mongod;
    pub(crate) mod mongod_state;
    #[expect(dead_code, reason = "other tests use more of it")]
    #[path = "servers/process.rs"]
    pub(crate) mod process;
    pub(crate) mod tls;
    pub(crate) mod tools;
}

mod scenarios {
    mod mongodb;
}

//! Scenarios with real MongoDB servers, each on ports and in directories of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod cli;
    pub(crate) mod dying;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod http;
    pub(crate) mod killing;
    pub(crate) mod long;
    pub(crate) mod mongod;
    pub(crate) mod mongod_raw;
    pub(crate) mod mongod_state;
    pub(crate) mod mongodump;
    pub(crate) mod notes;
    pub(crate) mod odd_bson;
    pub(crate) mod plain;
    pub(crate) mod process;
    pub(crate) mod servers {
        pub(crate) mod again;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod process;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod s3;
        pub(crate) mod weed;
    }
    pub(crate) mod tls;
}

mod scenarios {
    mod mongodb;
}

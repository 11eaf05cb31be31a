//! Scenarios with real PostgreSQL servers, each on ports and in directories of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod cli;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod crafted;
    pub(crate) mod dying;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod http;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod killing;
    pub(crate) mod long;
    pub(crate) mod noise;
    pub(crate) mod notes;
    pub(crate) mod plain;
    pub(crate) mod postgres;
    pub(crate) mod process;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod repo;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod restic;
    pub(crate) mod running;
    pub(crate) mod servers {
        pub(crate) mod again;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod process;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod s3;
        pub(crate) mod weed;
    }
    pub(crate) mod tls;
    pub(crate) mod tree;
}

mod scenarios {
    mod postgres;
}

//! Scenarios with real servers of Redis and Valkey, each on ports and in directories of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod cli;
    pub(crate) mod noise;
    pub(crate) mod notes;
    pub(crate) mod process;
    pub(crate) mod redis;
    pub(crate) mod redis_cluster;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod repo;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod restic;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod running;
    pub(crate) mod servers {
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod process;
    }
    pub(crate) mod tls;
    pub(crate) mod tree;
}

mod scenarios {
    mod redis;
}

//! The commands of README and `docs/`, as users copy them, against real servers.
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
    pub(crate) mod http;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod mongod;
    pub(crate) mod plain;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod postgres;
    pub(crate) mod process;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod redis;
    pub(crate) mod servers {
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod again;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod moto;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod process;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod s3;
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod weed;
    }
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod tls;
}

mod scenarios {
    mod documented;
}

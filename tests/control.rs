//! Scenarios of the program as a whole, with servers of several kinds at once, the commands of the
//! documentation, and the data of earlier versions.
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
    pub(crate) mod gcs_double;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod http;
    pub(crate) mod long;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod mongod;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod noise;
    pub(crate) mod plain;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod postgres;
    pub(crate) mod process;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod receiver;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod redis;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod running;
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
    pub(crate) mod terminal;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod tls;
}

mod scenarios {
    mod control;
    mod documented;
    mod fixtures;
}

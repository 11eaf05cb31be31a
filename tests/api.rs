//! The API of the daemon with the real program behind it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod cli;
    pub(crate) mod process;
}

mod scenarios {
    mod api;
}
